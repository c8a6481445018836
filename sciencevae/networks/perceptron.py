"""The multilayer perceptron, and the wrapper that lets it (or any network of vectors) see images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sciencevae.errors import InputError, did_you_mean
from sciencevae.spec import recorded

__all__ = ["ACTIVATIONS", "Perceptron", "Reshaped", "activation_class"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
}


def activation_class(name: str) -> type[nn.Module]:
    """The class of an activation, InputError for a name that is none."""
    if name not in ACTIVATIONS:
        raise InputError(f"unknown activation {name!r}{did_you_mean(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]


@recorded
class Perceptron(nn.Module):
    """Linear layers with an activation between them: (B, in_features [+ condition]) → (B, out_features).

    Integers and booleans are taken as numbers.
    hidden: widths of the hidden layers; condition_features: width of a condition joined to the input.
    activation: one of ``ACTIVATIONS``, or "gated": a hidden layer is (A x + b) ⊙ sigmoid(C x + d), with twice
    the parameters (Dauphin et al. 2017; the VAEs of Tomczak & Welling 2018, §4).

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
        gated = activation == "gated"
        between = nn.GLU if gated else activation_class(activation)
        self.out_features = out_features
        layers: list[nn.Module] = []
        for width, following in pairwise([in_features + condition_features, *hidden]):
            layers += [nn.Linear(width, 2 * following if gated else following), between()]
        last = hidden[-1] if hidden else in_features + condition_features
        self.layers = nn.Sequential(*layers, nn.Linear(last, out_features))

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


@recorded
class Reshaped(nn.Module):
    """A network of vectors between data of any shape: (B, *in_shape) → (B, *out_shape).

    network: (B, n) → (B, m), n and m the products of in_shape and out_shape; a condition is passed on.

    >>> encoder = Reshaped(Perceptron(28 * 28, [300], 80), in_shape=(1, 28, 28), out_shape=(80,))
    >>> encoder(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 80])
    """

    def __init__(self, network: nn.Module, in_shape: Sequence[int], out_shape: Sequence[int]) -> None:
        super().__init__()
        self.network, self.in_shape, self.out_shape = network, tuple(in_shape), tuple(out_shape)
        found, wanted = getattr(network, "out_features", None), math.prod(self.out_shape)
        if found is not None and found != wanted:
            raise InputError(f"the network gives {found} numbers; the shape {self.out_shape} holds {wanted}")
        self.out_features = self.out_shape[0]

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        if x.shape[1:] != self.in_shape:
            raise InputError(
                f"the data have the shape (B, …) = {tuple(x.shape)}; expected (B, *{self.in_shape})"
            )
        extra = () if condition is None else (condition,)
        return self.network(x.flatten(1), *extra).unflatten(1, self.out_shape)
