"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sciencevae.errors import InputError, did_you_mean
from sciencevae.spec import recorded

__all__ = ["ACTIVATIONS", "Perceptron"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
}


@recorded
class Perceptron(nn.Module):
    """Linear layers with an activation between them: (B, in_features [+ condition]) → (B, out_features).

    Integers and booleans are taken as numbers.
    hidden: widths of the hidden layers; condition_features: width of a condition joined to the input.

    >>> Perceptron(8, [64, 32], 4)(torch.zeros(5, 8)).shape
    torch.Size([5, 4])
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        activation: str = "silu",
        condition_features: int = 0,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise InputError(f"unknown activation {activation!r}{did_you_mean(activation, ACTIVATIONS)}")
        self.out_features = out_features
        widths = [in_features + condition_features, *hidden, out_features]
        layers: list[nn.Module] = []
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        if not isinstance(x, Tensor):
            raise InputError(
                f"a Perceptron takes one tensor, and was given the fields {', '.join(x)}: use networks.Fields"
            )
        if not x.is_floating_point():
            x = x.to(next(self.parameters()).dtype)
        if condition is not None:
            x = torch.cat([x, condition], dim=1)
        return self.layers(x)
