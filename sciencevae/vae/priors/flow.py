"""A normalising flow as prior."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciencevae.distributions import DiagonalNormal
from sciencevae.distributions.flow import FlowNormal
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.flows import Bijection, Kind
from sciencevae.vae.priors.normal import Prior

__all__ = ["Flow"]


@recorded
class Flow(Prior):
    """p(z) = N(f(z); 0, 1) |det ∂f/∂z| with f a learned invertible map; N(0, 1) or near it when built.

    kind "autoregressive": a density takes one pass through each of the ``transforms`` networks, a draw ``dim``
    passes (Papamakarios et al. 2017); "coupling": one pass each (Dinh et al. 2017). hidden: widths of the
    networks. bins: of the rational-quadratic spline of each coordinate (Durkan et al. 2019); 0: affine maps
    alone, which are the cheapest and the weakest. As a prior: Chen et al. 2017, who learn it with the model;
    ``fit_prior`` learns it afterwards.
    """

    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        dim: int,
        kind: Kind = "autoregressive",
        transforms: int = 3,
        hidden: Sequence[int] = (64, 64),
        bins: int = 8,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.flow = Bijection(dim, kind, transforms, hidden, bins)
        self.register_buffer("loc", torch.zeros(dim), persistent=False)
        self.register_buffer("scale", torch.ones(dim), persistent=False)

    def forward(self, context: Context | None = None) -> FlowNormal:
        return FlowNormal(DiagonalNormal(self.loc, self.scale), self.flow, backwards=True)
