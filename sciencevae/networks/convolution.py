"""Convolutional networks between images (B, C, H, W) and vectors, or grids of codes; made of the same blocks.

A halving keeps the borders: n → ⌈n/2⌉, 28 → 14 → 7 → 4; the doubling that mirrors it gives any size back exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciencevae.errors import InputError, did_you_mean
from sciencevae.networks.perceptron import activation_class
from sciencevae.spec import recorded

__all__ = [
    "PADDINGS",
    "ConvolutionalCodes",
    "ConvolutionalDecoder",
    "ConvolutionalEncoder",
    "ConvolutionalImage",
    "FromVector",
    "ToVector",
    "dense",
    "padded",
]

#: what lies beyond an edge -> how torch names it
PADDINGS = {"zeros": "constant", "replicate": "replicate", "periodic": "circular"}
_ZEROS = ("zeros", "zeros")


def padded(x: Tensor, padding: Sequence[str], width: int = 1) -> Tensor:
    """x (B, C, H, W) with ``width`` more at each edge, by ``padding`` of the rows' and of the columns' axis.

    >>> padded(torch.arange(3.0).reshape(1, 1, 1, 3), ("zeros", "periodic"))[0, 0, 1]
    tensor([2., 0., 1., 2., 0.])
    """
    x = F.pad(x, (width, width, 0, 0), PADDINGS[padding[1]])
    return F.pad(x, (0, 0, width, width), PADDINGS[padding[0]])


class _Convolution(nn.Conv2d):
    """A 3×3 convolution that keeps the size but for its stride, with an edge of its own along each axis."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, padding: Sequence[str] = _ZEROS
    ) -> None:
        if unknown := next((name for name in padding if name not in PADDINGS), None):
            raise InputError(f"unknown padding {unknown!r}{did_you_mean(unknown, PADDINGS)}")
        self.edges = tuple(padding)
        super().__init__(in_channels, out_channels, 3, stride, padding=1 if self.edges == _ZEROS else 0)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.edges == _ZEROS else padded(x, self.edges)
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


def _sizes(shape: Sequence[int], halvings: int) -> list[tuple[int, int]]:
    """(H, W) before, and after each halving."""
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"the shape of an image is (channels, height, width), not {tuple(shape)}")
    if halvings < 1:
        raise InputError("channels names at least one layer: each halves (or doubles) height and width")
    sizes = [(shape[1], shape[2])]
    for _ in range(halvings):
        h, w = sizes[-1]
        sizes.append(((h + 1) // 2, (w + 1) // 2))
    return sizes


def _down(
    in_channels: int, channels: Sequence[int], activation: str, padding: Sequence[str] = _ZEROS
) -> list[nn.Module]:
    """A strided 3×3 convolution and an activation for each entry of channels; each halves H and W."""
    layers: list[nn.Module] = []
    for width, following in pairwise([in_channels, *channels]):
        layers += [_Convolution(width, following, 2, padding), activation_class(activation)()]
    return layers


class _Fourfold(nn.Module):
    """A 3×3 convolution to four times the channels, (B, in_channels, h, w) → (B, 4·out_channels, h, w).

    Its four kernels start equal, so with ``_Shuffle`` it starts as a convolution followed by nearest-neighbour
    resizing, without a checkerboard (Aitken et al. 2017).
    """

    def __init__(self, in_channels: int, out_channels: int, padding: Sequence[str] = _ZEROS) -> None:
        super().__init__()
        self.convolution = _Convolution(in_channels, 4 * out_channels, padding=padding)
        with torch.no_grad():
            for p in self.convolution.parameters():
                p.copy_(p[::4].repeat_interleave(4, 0))

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x)


class _Shuffle(nn.Module):
    """Four channels as the 2×2 blocks of one (Shi et al. 2016), cut to (H, W), after an activation.

    (B, 4·C, ⌈H/2⌉, ⌈W/2⌉) → (B, C, H, W). The activation would give the same behind it, but compiled for a CPU one
    that reads its input in another order goes number by number: 7 % of a training step at 28×28.
    """

    def __init__(self, size: tuple[int, int], activation: nn.Module) -> None:
        super().__init__()
        self.size, self.activation = size, activation

    def forward(self, x: Tensor) -> Tensor:
        h, w = self.size
        return F.pixel_shuffle(self.activation(x), 2)[..., :h, :w]


def _up(
    channels: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    activation: str,
    padding: Sequence[str] = _ZEROS,
) -> list[nn.Module]:
    """A doubling for each further entry of channels to the sizes in turn, activations before and between.

    Resizing first takes as many multiplications, over four times the positions; it was more than twice as slow on
    one thread at 28×28.
    """
    layers: list[nn.Module] = [activation_class(activation)()]
    for (width, following), size in zip(pairwise(channels), sizes, strict=True):
        layers += [_Fourfold(width, following, padding), _Shuffle(size, activation_class(activation)())]
    layers[-1] = _Shuffle(sizes[-1], nn.Identity())
    return layers


class _Residual(nn.Module):
    """x + W₁ relu(W₃ relu(x)) with a 3×3 and a 1×1 convolution, (B, C, H, W) → (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 3, padding=1)
        self.narrow = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(self.wide(x.relu()).relu())


class ToVector(nn.Module):
    """``convolutions``, which a subclass sets, then a dense layer: (B, C, …) → (B, out_features)."""

    convolutions: nn.Module
    dense: nn.Module

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        features = self.convolutions(x).flatten(1)
        if condition is not None:
            features = torch.cat([features, condition], dim=1)
        return self.dense(features)


class FromVector(nn.Module):
    """A dense layer to ``grid``, (C, …), then ``convolutions``: (B, in_features) → what these give."""

    convolutions: nn.Module
    dense: nn.Module
    grid: tuple[int, ...]

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is not None:
            z = torch.cat([z, condition], dim=1)
        return self.convolutions(self.dense(z).unflatten(1, self.grid))


def dense(in_features: int, hidden: int, out_features: int, activation: str) -> nn.Sequential:
    """One hidden layer."""
    return nn.Sequential(
        nn.Linear(in_features, hidden), activation_class(activation)(), nn.Linear(hidden, out_features)
    )


@recorded
class ConvolutionalEncoder(ToVector):
    """Image → vector: (B, C, H, W) → (B, out_features).

    shape: (C, H, W); channels: of the convolutions, each of which halves H and W; hidden: width of the dense
    layer behind them, which the condition (B, condition_features) is joined to the input of. padding: of the rows'
    and of the columns' axis, each "zeros", "replicate" or "periodic".

    >>> ConvolutionalEncoder((1, 28, 28), 8)(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 8])
    """

    def __init__(
        self,
        shape: Sequence[int],
        out_features: int,
        channels: Sequence[int] = (32, 64),
        hidden: int = 128,
        activation: str = "silu",
        condition_features: int = 0,
        padding: Sequence[str] = _ZEROS,
    ) -> None:
        super().__init__()
        self.out_features = out_features
        h, w = _sizes(shape, len(channels))[-1]
        self.convolutions = nn.Sequential(*_down(shape[0], channels, activation, padding))
        self.dense = dense(channels[-1] * h * w + condition_features, hidden, out_features, activation)


@recorded
class ConvolutionalDecoder(FromVector):
    """Vector → image, the mirror of ``ConvolutionalEncoder``: (B, in_features) → (B, C, H, W) for any H and W.

    shape: (C, H, W), C what the likelihood takes for an image (Gaussian with predicted scale: twice its channels).
    channels: of the grids from the smallest on, each of which is then doubled; hidden: width of the dense layer
    before them; the condition (B, condition_features) is joined to the input. padding: as the encoder's.

    >>> ConvolutionalDecoder(8, (1, 28, 28))(torch.zeros(5, 8)).shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(
        self,
        in_features: int,
        shape: Sequence[int],
        channels: Sequence[int] = (64, 32),
        hidden: int = 128,
        activation: str = "silu",
        condition_features: int = 0,
        padding: Sequence[str] = _ZEROS,
    ) -> None:
        super().__init__()
        # a variable of a likelihood is an entry of axis 1: a learned scale is one for each channel
        self.out_channels = self.out_features = shape[0]
        *larger, smallest = _sizes(shape, len(channels))
        self.grid = (channels[0], *smallest)
        self.dense = dense(in_features + condition_features, hidden, math.prod(self.grid), activation)
        self.convolutions = nn.Sequential(*_up([*channels, shape[0]], larger[::-1], activation, padding))


@recorded
class ConvolutionalCodes(nn.Module):
    """Image → grid of vectors, for codes: (B, C, H, W) → (B, out_channels, H/2^k, W/2^k), k = len(channels).

    Strided convolutions, then ``residual`` residual blocks: van den Oord, Vinyals & Kavukcuoglu 2017, §4.1.
    ``grid`` is the (h, w) that comes out.

    >>> ConvolutionalCodes((1, 28, 28), 16)(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 16, 7, 7])
    """

    def __init__(
        self, shape: Sequence[int], out_channels: int, channels: Sequence[int] = (32, 64), residual: int = 2
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.grid = _sizes(shape, len(channels))[-1]
        # the residual blocks begin with an activation
        self.layers = nn.Sequential(
            *_down(shape[0], channels, "relu")[:-1],
            *(_Residual(channels[-1]) for _ in range(residual)),
            nn.ReLU(),
            nn.Conv2d(channels[-1], out_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@recorded
class ConvolutionalImage(nn.Module):
    """Grid of vectors → image, the mirror of ``ConvolutionalCodes``: (B, in_channels, h, w) → (B, C, H, W).

    shape: (C, H, W), C what the likelihood takes for an image; ``grid`` is the (h, w) that goes in.

    >>> ConvolutionalImage(16, (1, 28, 28))(torch.zeros(5, 16, 7, 7)).shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(
        self, in_channels: int, shape: Sequence[int], channels: Sequence[int] = (64, 32), residual: int = 2
    ) -> None:
        super().__init__()
        self.out_channels = self.out_features = shape[0]
        *larger, self.grid = _sizes(shape, len(channels))
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, channels[0], 3, padding=1),
            *(_Residual(channels[0]) for _ in range(residual)),
            *_up([*channels, shape[0]], larger[::-1], "relu"),
        )

    def forward(self, codes: Tensor) -> Tensor:
        if codes.shape[2:] != self.grid:
            raise InputError(
                f"the codes have the grid {tuple(codes.shape[2:])}; this network takes {self.grid}"
            )
        return self.layers(codes)
