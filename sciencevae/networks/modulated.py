"""A perceptron that a condition multiplies into."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from sciencevae.errors import InputError
from sciencevae.networks.perceptron import Perceptron, activation_class
from sciencevae.spec import recorded

__all__ = ["Modulated"]

_WIDTH = 64  # of the layer between a condition and what it does


@recorded
class Modulated(nn.Module):
    """A perceptron whose hidden layers a condition scales and shifts: (B, in_features), (B, c) → (B, out_features).

    h_i = φ((1 + s_i(c)) ⊙ (W_i h_{i−1} + b_i) + t_i(c)), s and t from a perceptron of c (FiLM, Perez et al. 2018,
    AAAI 32, §2.1). For outputs that are products of what is seen and what is told: a condition that is joined to
    the input, as in ``Perceptron``, can only be added in the first layer.

    hidden: widths of the hidden layers, at least one; activation: one of ``ACTIVATIONS``.

    >>> import torch
    >>> Modulated(8, [64, 32], 4, condition_features=2)(torch.zeros(5, 8), torch.zeros(5, 2)).shape
    torch.Size([5, 4])
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        condition_features: int,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        if not hidden:
            raise InputError("a condition modulates hidden layers: hidden needs at least one width")
        self.out_features = out_features
        widths = [in_features, *hidden]
        self.layers = nn.ModuleList(nn.Linear(width, following) for width, following in pairwise(widths))
        self.last = nn.Linear(widths[-1], out_features)
        self.activation = activation_class(activation)()
        self.modulation = Perceptron(condition_features, [_WIDTH], 2 * sum(hidden), activation)
        for tensor in self.modulation.layers[-1].parameters():
            nn.init.zeros_(tensor)  # s = t = 0: as without a condition, to begin with

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scales, shifts = self.modulation(condition).chunk(2, dim=1)
        widths = [layer.out_features for layer in self.layers]
        split = zip(scales.split(widths, 1), shifts.split(widths, 1), strict=True)
        for layer, (scale, shift) in zip(self.layers, split, strict=True):
            x = self.activation((1 + scale) * layer(x) + shift)
        return self.last(x)
