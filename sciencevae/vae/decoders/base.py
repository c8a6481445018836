"""What every decoder is: a network between latents and the parameters of a likelihood."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributions as td
from torch import Tensor, nn

from sciencevae.errors import InputError
from sciencevae.vae.context import Context, condition_of, full_precision

__all__ = ["Decoder", "along_variables", "network_rows", "per_variable", "refuse_infinite"]


class Decoder(nn.Module):
    """Contract: ``forward(z, context)`` with z (S, B, D) returns p(x | z, c) with batch shape (S, B).

    The network sees one batch axis of S·B rows, and the condition repeated to match. Its output's axis 1 holds
    the ``outputs`` of the likelihood one block after another: (S·B, outputs·n, …) for x (B, n, …).
    """

    outputs = 1
    #: whether −1 at the end of integer data is no missing value but the end of it
    padded = False

    def __init__(self, network: nn.Module, conditional: bool = False) -> None:
        super().__init__()
        self.network, self.conditional = network, conditional

    def forward(self, z: Tensor, context: Context | None = None) -> td.Distribution:
        return self.likelihood(self.blocks(z, context), context or {})

    def blocks(self, z: Tensor, context: Context | None = None) -> Tensor:
        """The network's output by the likelihood's parameters, (outputs, S, B, n, …)."""
        out = network_rows(self.network, z, context, self.conditional)  # (S·B, outputs·n, …)
        if out.dim() < 2 or out.shape[1] % self.outputs:
            raise InputError(
                f"the decoder's network gave {tuple(out.shape)}; a {type(self).__name__} likelihood needs "
                f"(B, {self.outputs}·n, …)"
            )
        return out.unflatten(1, (self.outputs, -1)).unflatten(0, z.shape[:2]).movedim(2, 0)

    def likelihood(self, blocks: Tensor, context: Context) -> td.Distribution:
        """p(x | z, c) from the network's output, one tensor (S, B, n, …) a parameter."""
        raise NotImplementedError

    def check(self, x: Any, context: Context) -> None:
        """Raise InputError where data x (B, n, …) lie outside the support, naming what was found."""


def network_rows(network: nn.Module, z: Tensor, context: Context | None, conditional: bool) -> Any:
    """What a network gives for z (S, B, …) seen as S·B rows, the condition repeated to match."""
    condition = condition_of("the decoder", context, conditional)
    repeated = (c.expand(z.shape[0], *c.shape).flatten(0, 1) for c in condition)
    out = network(z.flatten(0, 1), *repeated)
    return full_precision(out) if isinstance(out, Tensor) else out


def per_variable(name: str, count: int | None, log_initial: float) -> nn.Parameter:
    """A learned logarithm a variable, of which there are ``count``."""
    if count is None:
        raise InputError(f"a learned {name} needs features=, the number of variables")
    return nn.Parameter(torch.full((count,), log_initial))


def along_variables(values: Tensor, loc: Tensor) -> Tensor:
    """One value a variable, (n,), in the shape that multiplies loc (S, B, n, …)."""
    return values.reshape(-1, *[1] * (loc.dim() - 3))


def refuse_infinite(x: Tensor, likelihood: str) -> None:
    """Raise InputError for infinities."""
    if x.isinf().any():
        raise InputError(f"the data hold infinities; a {likelihood} likelihood takes finite numbers, and NaN")
