"""Convolutional networks between lines (B, C, L), such as spectra and scans, and vectors.

A layer takes L to ⌈L/stride⌉; the layer that mirrors it gives any length back exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sciencevae.errors import InputError
from sciencevae.networks.convolution import FromVector, ToVector, dense
from sciencevae.networks.perceptron import activation_class
from sciencevae.spec import recorded

__all__ = ["ConvolutionalDecoder1d", "ConvolutionalEncoder1d"]


def _lengths(shape: Sequence[int], layers: int, stride: int) -> list[int]:
    """L before, and after each layer."""
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(f"the shape of a line is (channels, length), not {tuple(shape)}")
    if layers < 1 or stride < 1:
        raise InputError("channels names at least one layer, and a stride is at least 1")
    lengths = [shape[1]]
    for _ in range(layers):
        lengths.append(-(-lengths[-1] // stride))
    return lengths


class _Stretch(nn.Module):
    """A convolution to ``stride`` times the channels, which become places: (B, C, l) → (B, out_channels, length).

    Its kernels of one channel start equal, so it starts as a convolution followed by nearest-neighbour resizing.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, kernel: int, length: int) -> None:
        super().__init__()
        self.stride, self.length = stride, length
        self.convolution = nn.Conv1d(in_channels, stride * out_channels, kernel, padding=kernel // 2)
        with torch.no_grad():
            for p in self.convolution.parameters():
                p.copy_(p[::stride].repeat_interleave(stride, 0))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.convolution(x).unflatten(1, (-1, self.stride))  # (B, C, stride, l)
        return parts.transpose(2, 3).flatten(2)[..., : self.length]


@recorded
class ConvolutionalEncoder1d(ToVector):
    """Line → vector: (B, C, L) → (B, out_features).

    shape: (C, L); channels: of the convolutions, each of which divides L by ``stride``; hidden: width of the dense
    layer behind them, which the condition (B, condition_features) is joined to the input of. kernel: odd.

    >>> ConvolutionalEncoder1d((1, 100), 8)(torch.zeros(5, 1, 100)).shape
    torch.Size([5, 8])
    """

    def __init__(
        self,
        shape: Sequence[int],
        out_features: int,
        channels: Sequence[int] = (32, 64),
        hidden: int = 128,
        stride: int = 4,
        kernel: int = 9,
        activation: str = "silu",
        condition_features: int = 0,
    ) -> None:
        super().__init__()
        self.out_features = out_features
        length = _lengths(shape, len(channels), stride)[-1]
        layers: list[nn.Module] = []
        for width, following in pairwise([shape[0], *channels]):
            layers += [
                nn.Conv1d(width, following, kernel, stride=stride, padding=kernel // 2),
                activation_class(activation)(),
            ]
        self.convolutions = nn.Sequential(*layers)
        self.dense = dense(channels[-1] * length + condition_features, hidden, out_features, activation)


@recorded
class ConvolutionalDecoder1d(FromVector):
    """Vector → line, the mirror of ``ConvolutionalEncoder1d``: (B, in_features) → (B, C, L) for any L.

    shape: (C, L), C what the likelihood takes; channels: of the lines from the shortest on, each of which is then
    stretched ``stride`` times; hidden: width of the dense layer before them, whose input the condition joins.

    >>> ConvolutionalDecoder1d(8, (1, 100))(torch.zeros(5, 8)).shape
    torch.Size([5, 1, 100])
    """

    def __init__(
        self,
        in_features: int,
        shape: Sequence[int],
        channels: Sequence[int] = (64, 32),
        hidden: int = 128,
        stride: int = 4,
        kernel: int = 9,
        activation: str = "silu",
        condition_features: int = 0,
    ) -> None:
        super().__init__()
        # a variable of a likelihood is an entry of axis 1
        self.out_channels = self.out_features = shape[0]
        *larger, shortest = _lengths(shape, len(channels), stride)
        self.grid = (channels[0], shortest)
        self.dense = dense(in_features + condition_features, hidden, channels[0] * shortest, activation)
        layers: list[nn.Module] = []
        for (width, following), length in zip(pairwise([*channels, shape[0]]), larger[::-1], strict=True):
            layers += [activation_class(activation)(), _Stretch(width, following, stride, kernel, length)]
        self.convolutions = nn.Sequential(*layers)
