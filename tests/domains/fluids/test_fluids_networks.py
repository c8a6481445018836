"""The decoder without divergence, edges of convolutions, the basis of modes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sciencevae.builtin.fluids.basis import Basis
from sciencevae.builtin.fluids.networks import StreamFunctionDecoder, divergence, velocity_of

from sciencevae.errors import InputError
from sciencevae.networks import ConvolutionalDecoder, ConvolutionalEncoder
from sciencevae.networks.convolution import padded

EDGES = st.tuples(*[st.sampled_from(["periodic", "replicate", "zeros"])] * 2)


@settings(max_examples=12, deadline=None)
@given(
    edges=EDGES,
    height=st.integers(4, 11),
    width=st.integers(4, 11),
    channels=st.integers(2, 4),
    ratio=st.floats(0.3, 3),
)
def test_decoded_velocity_has_no_divergence(
    edges: tuple[str, str], height: int, width: int, channels: int, ratio: float
) -> None:
    torch.manual_seed(0)
    spacing = (1.0, ratio)
    decoder = StreamFunctionDecoder(
        3, (channels, height, width), (channels - 1, 0), spacing, channels=(4,), hidden=8, padding=edges
    ).double()
    out = decoder(torch.randn(5, 3, dtype=torch.float64))
    assert out.shape == (5, channels, height, width)
    u, v = out[:, channels - 1], out[:, 0]
    size = float(u.square().mean().sqrt())
    assert size > 0
    finer = min(spacing)
    found = divergence(u, v, [step / finer for step in spacing], edges)
    assert float(found.abs().max()) < 1e-12 * max(size, 1)


def test_velocity_of_a_known_stream_function() -> None:
    """ψ = sin y cos x: u = cos y cos x, v = sin y sin x, to second order."""
    errors = []
    for n in (32, 64):
        at = torch.arange(n, dtype=torch.float64) * (2 * torch.pi / n)
        y, x = at[:, None], at[None]
        psi = padded((y.sin() * x.cos())[None, None], ["periodic", "periodic"])[:, 0]
        u, v = velocity_of(psi, [2 * torch.pi / n] * 2)
        errors.append(
            max(float((u - y.cos() * x.cos()).abs().max()), float((v - y.sin() * x.sin()).abs().max()))
        )
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_a_stream_function_needs_two_channels() -> None:
    with pytest.raises(InputError, match="two channels"):
        StreamFunctionDecoder(2, (2, 8, 8), (0, 0), (1.0, 1.0))


def test_periodic_convolutions_turn_with_their_input() -> None:
    """Where the edge is periodic, a shift by the stride shifts what the convolutions give; else it does not."""
    torch.manual_seed(0)
    x = torch.randn(1, 1, 8, 8)
    for edges, axis, same in ((("zeros", "periodic"), 3, True), (("zeros", "periodic"), 2, False)):
        network = ConvolutionalEncoder((1, 8, 8), 2, (4, 4), 8, padding=edges).convolutions
        shifted = network(x.roll(4, axis))
        assert torch.allclose(shifted, network(x).roll(1, axis), atol=1e-6) == same


def test_zero_padding_is_as_before() -> None:
    torch.manual_seed(0)
    before = ConvolutionalDecoder(2, (1, 7, 6), (4, 4), 8)
    torch.manual_seed(0)
    after = ConvolutionalDecoder(2, (1, 7, 6), (4, 4), 8, padding=("zeros", "zeros"))
    z = torch.randn(3, 2)
    assert torch.equal(before(z), after(z))
    with pytest.raises(InputError, match="did you mean 'periodic'"):
        ConvolutionalDecoder(2, (1, 7, 6), padding=("periodical", "zeros"))


def test_modes_keep_the_weighted_norm() -> None:
    """‖x‖² = ‖a‖² + ‖r‖², whatever the masses and the scales, also of frames that the modes were not made of."""
    random = np.random.default_rng(0)
    low = random.normal(size=(60, 5)) @ random.normal(size=(5, 2 * 40))
    frames = low.reshape(60, 2, 40) + 0.05 * random.normal(size=(60, 2, 40))
    frames[:, :, 7] = np.nan  # no fluid there
    mass, scale = random.uniform(0.2, 2, 40), np.array([0.5, 3.0])
    mass[7] = 0
    basis = Basis.fit(frames[:40], mass, scale, 5)
    a, outside = basis.encode(frames[40:])
    centred = np.nan_to_num(frames[40:] - basis.mean)
    norm = (np.square(centred) * basis.weight).sum((1, 2))
    np.testing.assert_allclose(np.square(a).sum(1) + outside, norm, rtol=1e-9)
    missed = np.nan_to_num(basis.decode(a) - frames[40:])
    np.testing.assert_allclose((np.square(missed) * basis.weight).sum((1, 2)), outside, rtol=1e-6)
    assert (outside / norm).max() < 0.05
    with pytest.raises(InputError, match="training frames"):
        Basis.fit(frames[:4], mass, scale, 5)
