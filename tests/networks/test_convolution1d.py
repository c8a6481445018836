import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciencevae.errors import InputError
from sciencevae.networks import ConvolutionalDecoder1d, ConvolutionalEncoder1d

SHAPE = (2, 23)
SMALL = {"channels": (3, 4), "hidden": 5, "stride": 3, "kernel": 5, "condition_features": 2}


def line():
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)).double()


def condition():
    return torch.randn(3, 2, generator=torch.Generator().manual_seed(1)).double()


CASES = {
    "encoder": (lambda: ConvolutionalEncoder1d(SHAPE, 6, **SMALL), lambda: (line(), condition())),
    "decoder": (
        lambda: ConvolutionalDecoder1d(4, SHAPE, **SMALL),
        lambda: (line().flatten(1)[:, :4], condition()),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_trains(trains_everywhere, name):
    make, inputs = CASES[name]
    trains_everywhere(make, inputs())


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 100), st.integers(1, 3), st.integers(1, 5))
def test_any_length_comes_back_exactly(length, depth, stride):
    shape, channels = (2, length), [3] * depth
    x = torch.randn(2, *shape)
    assert ConvolutionalEncoder1d(shape, 5, channels, 4, stride)(x).shape == (2, 5)
    assert ConvolutionalDecoder1d(5, shape, channels, 4, stride)(torch.randn(2, 5)).shape == x.shape


def test_a_place_is_seen_where_it_is():
    """The convolutions move with a line that is shifted by whole strides."""
    torch.manual_seed(0)
    network = ConvolutionalEncoder1d((1, 64), 4, (3,), 4, stride=4, kernel=9).convolutions
    x = torch.zeros(1, 1, 64)
    x[..., 24:30] = torch.rand(6)
    moved = network(x.roll(8, -1))
    assert torch.allclose(network(x).roll(2, -1)[..., 4:-2], moved[..., 4:-2], atol=1e-6)


def test_no_comb_at_the_start():
    """The places that one position is stretched to are equal: a convolution and nearest-neighbour resizing."""
    torch.manual_seed(0)
    found = ConvolutionalDecoder1d(5, (1, 60), (4,), 8, stride=4)(torch.randn(3, 5))
    blocks = found.unfold(2, 4, 4)
    assert (blocks - blocks.mean(-1, keepdim=True)).abs().max() < 1e-6
    assert found.std() > 1e-3


def test_shapes_that_are_none():
    with pytest.raises(InputError, match=r"\(channels, length\)"):
        ConvolutionalEncoder1d((2, 3, 4), 5)
    with pytest.raises(InputError, match="at least one layer"):
        ConvolutionalDecoder1d(2, (1, 10), ())
