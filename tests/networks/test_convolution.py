import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d, silu

from sciencevae.errors import InputError
from sciencevae.networks import (
    ConvolutionalCodes,
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    ConvolutionalImage,
)

SHAPE = (2, 7, 6)
SMALL = {"channels": (3, 4), "hidden": 5, "condition_features": 2}


def image():
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)).double()


def condition():
    return torch.randn(3, 2, generator=torch.Generator().manual_seed(1)).double()


CASES = {
    "encoder": (lambda: ConvolutionalEncoder(SHAPE, 6, **SMALL), lambda: (image(), condition())),
    "decoder": (
        lambda: ConvolutionalDecoder(4, SHAPE, **SMALL),
        lambda: (image().flatten(1)[:, :4], condition()),
    ),
    "codes": (lambda: ConvolutionalCodes(SHAPE, 4, (3, 4)), lambda: (image(),)),
    "image": (lambda: ConvolutionalImage(2, SHAPE, (4, 3)), lambda: (image()[..., :2, :2],)),
}


@pytest.mark.parametrize("name", CASES)
def test_trains(trains_everywhere, name):
    make, inputs = CASES[name]
    trains_everywhere(make, inputs())


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 4))
def test_any_size_comes_back_exactly(height, width, depth):
    shape, channels = (2, height, width), [3] * depth
    x = torch.randn(2, *shape)
    assert ConvolutionalEncoder(shape, 5, channels, hidden=4)(x).shape == (2, 5)
    assert ConvolutionalDecoder(5, shape, channels, hidden=4)(torch.randn(2, 5)).shape == x.shape
    codes = ConvolutionalCodes(shape, 4, channels)
    back = ConvolutionalImage(4, shape, channels)
    grid = (-(-height // 2**depth), -(-width // 2**depth))
    assert codes.grid == back.grid == grid
    assert codes(x).shape == (2, 4, *grid)
    assert back(codes(x)).shape == x.shape


def test_no_checkerboard_at_the_start():
    """A constant grid becomes a constant image away from the borders, and 2×2 blocks of a doubling are equal."""
    torch.manual_seed(0)
    network = ConvolutionalImage(3, (1, 32, 32), (6, 5), residual=1)
    inside = network(torch.ones(1, 3, 8, 8))[0, 0, 14:18, 14:18]
    assert inside.std() < 1e-6
    blocks = ConvolutionalImage(3, (1, 16, 16), (6,))(torch.randn(1, 3, 8, 8)).unfold(2, 2, 2).unfold(3, 2, 2)
    assert (blocks - blocks.mean((-1, -2), keepdim=True)).abs().max() < 1e-6


def test_a_decoder_is_its_layers():
    """Written out, each activation before the convolution that reads it; 7 × 6 cuts a row of the last doubling."""
    network = ConvolutionalDecoder(4, (2, 7, 6), (5, 3), hidden=8).double()
    w = network.state_dict()
    z = torch.randn(3, 4, dtype=torch.float64)
    x = silu(z @ w["dense.0.weight"].mT + w["dense.0.bias"]) @ w["dense.2.weight"].mT + w["dense.2.bias"]
    x = x.reshape(3, 5, 2, 2)
    for number, (height, width) in ((1, (4, 3)), (3, (7, 6))):
        name = f"convolutions.{number}.convolution"
        x = conv2d(silu(x), w[f"{name}.weight"], w[f"{name}.bias"], padding=1)
        blocks = x.reshape(3, -1, 2, 2, *x.shape[2:])  # four channels: the 2×2 block of one
        x = blocks.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)[..., :height, :width]
    assert torch.allclose(network(z), x, atol=1e-12)


def test_a_pair_learns_to_reproduce_images():
    """The two together beat, by far, the best constant: the mean image."""
    torch.manual_seed(0)
    place = torch.rand(64, 2) * 8 + 2
    grid = torch.stack(torch.meshgrid(torch.arange(13.0), torch.arange(12.0), indexing="ij"))
    x = (-(grid - place[:, :, None, None]).square().sum(1) / 4).exp().unsqueeze(1)  # (64, 1, 13, 12)
    encoder = ConvolutionalEncoder((1, 13, 12), 2, (8, 16), hidden=32)
    decoder = ConvolutionalDecoder(2, (1, 13, 12), (16, 8), hidden=32)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
    for _ in range(300):
        optimiser.zero_grad()
        loss = (decoder(encoder(x)) - x).square().mean()
        loss.backward()
        optimiser.step()
    assert loss < 0.15 * (x - x.mean(0)).square().mean()


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="channels, height, width"):
        ConvolutionalEncoder((28, 28), 5)
    with pytest.raises(InputError, match="at least one layer"):
        ConvolutionalCodes((1, 28, 28), 5, channels=())
    with pytest.raises(InputError, match="takes \\(7, 7\\)"):
        ConvolutionalImage(5, (1, 28, 28))(torch.zeros(2, 5, 8, 8))
    with pytest.raises(InputError, match="did you mean 'silu'"):
        ConvolutionalDecoder(2, (1, 28, 28), activation="slu")
