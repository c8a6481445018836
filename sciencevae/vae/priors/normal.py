"""The contract of a prior, and priors that are one normal distribution."""

from __future__ import annotations

import math

import torch
import torch.distributions as td
from torch import Tensor, nn

from sciencevae.distributions import DiagonalNormal
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context, full_precision

__all__ = ["ConditionalNormal", "Prior", "StandardNormal", "tril_from_flat"]

LOG_SCALE_LIMIT = math.log(1e8)


class Prior(nn.Module):
    """Contract: ``forward(context)`` returns p(z | c) with batch shape () or (B,) and event shape (dim,)."""

    dim: int

    def forward(self, context: Context | None = None) -> td.Distribution:
        raise NotImplementedError


@recorded
class StandardNormal(Prior):
    """p(z) = N(z; 0, 1) in ``dim`` dimensions."""

    loc: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("loc", torch.zeros(dim), persistent=False)
        self.register_buffer("scale", torch.ones(dim), persistent=False)

    def forward(self, context: Context | None = None) -> DiagonalNormal:
        return DiagonalNormal(self.loc, self.scale)


@recorded
class ConditionalNormal(Prior):
    """p(z | c) = N(z; μ(c), diag σ²(c)), batch shape (B,); its KL from a normal posterior has a closed form.

    network: gives (mean, log variance), (B, 2·dim), of ``context["condition"]``, (B, c). Sohn, Lee & Yan 2015.

    >>> from sciencevae.networks import Perceptron
    >>> prior = ConditionalNormal(Perceptron(3, [8], 4), dim=2)
    >>> prior({"condition": torch.zeros(5, 3)}).batch_shape
    torch.Size([5])
    """

    conditional = True

    def __init__(self, network: nn.Module, dim: int) -> None:
        super().__init__()
        found = getattr(network, "out_features", 2 * dim)
        if found != 2 * dim:
            raise InputError(
                f"the prior's network gives {found} numbers; a normal in {dim} dimensions needs {2 * dim}"
            )
        self.network, self.dim = network, dim

    def forward(self, context: Context | None = None) -> DiagonalNormal:
        if context is None or "condition" not in context:
            raise InputError(
                "the prior ConditionalNormal is p(z | c), but there is no context['condition']: give "
                "Batch(x, context={'condition': …}), or take a prior that depends on nothing, as StandardNormal"
            )
        out = full_precision(self.network(context["condition"]))  # (B, 2·dim)
        if out.shape[-1] != 2 * self.dim:
            raise InputError(f"the prior's network gave {tuple(out.shape)}; expected (B, {2 * self.dim})")
        mean, log_variance = out.chunk(2, dim=-1)
        return DiagonalNormal(mean, (0.5 * log_variance.clamp(-30.0, 20.0)).exp())


def tril_from_flat(flat: Tensor, dim: int) -> Tensor:
    """A Cholesky factor (..., D, D) from its D(D+1)/2 entries row by row, the diagonal given as logarithms."""
    rows, columns = torch.tril_indices(dim, dim, device=flat.device)
    position = torch.zeros(dim, dim, dtype=torch.long, device=flat.device)
    position[rows, columns] = torch.arange(len(rows), device=flat.device)
    lower = flat[..., position].tril()
    diagonal = lower.diagonal(dim1=-2, dim2=-1).clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)
    return lower.tril(-1) + torch.diag_embed(diagonal.exp())
