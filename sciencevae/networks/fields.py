"""Networks for data of several named fields."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sciencevae.errors import InputError, did_you_mean
from sciencevae.spec import recorded

__all__ = ["Fields", "Identity", "by_name"]


@recorded
class Identity(nn.Module):
    """Gives what it is given: a head, or the network of a field, that has nothing to add."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


@recorded
class Fields(nn.Module):
    """Several named fields into one output: each through its own network, then all through ``head``.

    {name: (B, n_f, …)} [, condition (B, c)] → h_f = networks[f](x_f), flattened to (B, m_f)
    → head((B, Σ m_f) [, condition]), (B, out_features)

    Of an encoder with ``missing=True`` the mask of a field (1 where a value is there) stands behind the field's
    own values along axis 1: its network sees (B, 2·n_f, …).

    >>> from sciencevae.networks import Perceptron
    >>> networks = {"spectrum": Perceptron(50, [32], 8), "counts": Perceptron(3, [], 4)}
    >>> Fields(networks, Perceptron(12, [16], 4))(
    ...     {"spectrum": torch.zeros(5, 50), "counts": torch.zeros(5, 3)}
    ... ).shape
    torch.Size([5, 4])
    """

    def __init__(self, networks: Mapping[str, nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.networks, self.head = by_name("networks.Fields", networks), head
        if (out := getattr(head, "out_features", None)) is not None:
            self.out_features = out

    def forward(self, x: Mapping[str, Tensor], condition: Tensor | None = None) -> Tensor:
        if isinstance(x, Tensor):
            raise InputError(
                f"networks.Fields takes the named fields {', '.join(self.networks)}, and x is one tensor: "
                "give a mapping"
            )
        outputs = []
        for name, network in self.networks.items():
            if name not in x:
                raise InputError(
                    f"the encoder's networks.Fields has a network for {name!r}, which is no field of x"
                    f"{did_you_mean(name, x)}"
                )
            field = x[name]
            if (observed := x.get(f"{name}.observed")) is not None:
                field = torch.cat([field, observed.to(field.dtype)], dim=1)
            outputs.append(network(field).flatten(1))
        joined = torch.cat(outputs, dim=1)
        return self.head(joined) if condition is None else self.head(joined, condition)


def by_name(part: str, modules: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """The modules of named fields; InputError for no field, and for a name that can't be one."""
    if not modules:
        raise InputError(f"{part} needs at least one named field")
    for name in modules:
        if not name or "." in name:
            raise InputError(f"{part} has a field {name!r}: a field's name is not empty and has no dot in it")
        if hasattr(nn.ModuleDict(), name):
            raise InputError(f"{part} has a field {name!r}, a name that torch uses itself: choose another")
    return nn.ModuleDict(modules)
