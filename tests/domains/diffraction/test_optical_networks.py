"""Networks of counted light: what they give is what their docstrings say."""

from __future__ import annotations

import pytest
import torch
from sciencevae.builtin.diffraction.optical_networks import Intensity, Leading, PointSources, Stabilised

from sciencevae.networks import Perceptron


@pytest.mark.parametrize("pixels", [48, 31])
def test_point_sources_interfere(pixels: int) -> None:
    """The field is the sum of waves, written out."""
    torch.manual_seed(0)
    network = PointSources(3, (8,), pixels, sources=5, condition_features=2)
    z, told = torch.randn(4, 3), torch.randn(4, 2)
    moved, real, imaginary = network.network(z, told).chunk(3, 1)
    u = torch.linspace(-1, 1, pixels)
    waves = torch.exp(1j * (network.place + 10 * moved)[:, :, None] * u)
    field = (torch.complex(real, imaginary)[:, :, None] * waves).sum(1)
    out = network(z, told)
    assert out.shape == (4, 2 * pixels)
    torch.testing.assert_close(out[:, :pixels], field.real - 1, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out[:, pixels:], field.imag, rtol=1e-4, atol=1e-4)
    rate = Intensity(network, 7.0)(z, told).exp()
    torch.testing.assert_close(rate, 7 * (field.abs().square() + 1e-4), rtol=1e-3, atol=1e-3)


def test_what_is_seen_of_counts_does_not_depend_on_the_exposure_or_on_masked_pixels() -> None:
    torch.manual_seed(0)
    network = Stabilised(Perceptron(20, (8,), 4), 1.0, 0.5, normalise=True)
    counts = 1000 * torch.rand(3, 10) + 100
    mask = torch.ones(3, 10)
    mask[:, 4] = 0
    hidden = counts.clone()
    hidden[:, 4] = 0
    seen = network(torch.cat([hidden, mask], 1))
    other = network(torch.cat([torch.where(mask > 0, counts, 5.0), mask], 1))
    torch.testing.assert_close(seen, other)
    brighter = network(torch.cat([100 * hidden, mask], 1))
    torch.testing.assert_close(seen, brighter, atol=2e-3, rtol=1e-2)
    raw = Stabilised(Perceptron(20, (8,), 4), 1.0, 0.5, normalise=False)
    assert not torch.allclose(raw(torch.cat([hidden, mask], 1)), raw(torch.cat([4 * hidden, mask], 1)))


def test_leading_latents_are_left_as_they_are() -> None:
    z = torch.randn(5, 4)
    assert torch.equal(Leading(2)(z), z[:, :2])
