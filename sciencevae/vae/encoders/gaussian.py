"""Gaussian posteriors."""

from __future__ import annotations

from typing import Literal

from torch import nn

from sciencevae.batch import Fields
from sciencevae.distributions import DiagonalNormal, FullNormal
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.encoders.base import Encoder, network_output
from sciencevae.vae.priors import tril_from_flat

__all__ = ["Gaussian"]


@recorded
class Gaussian(Encoder):
    """q(z | x, c) = N(z; μ(x, c), diag σ²(x, c)), or with a full covariance LLᵀ.

    network: gives (mean, log variance), (B, 2·dim); for ``covariance="full"`` the mean and the lower triangle
    of L row by row with its diagonal as logarithms, (B, dim + dim(dim+1)/2).
    missing: the network sees NaN (integers: −1) filled with 0 and, behind x along axis 1, a mask that is 1 where
    a value is there; its input is twice as wide whatever the data. For named fields the mask of NAME is the
    further field ``NAME.observed``.
    Integer x reaches the network as integers: a ``Perceptron`` takes them as numbers, an embedding as indices.
    conditional: the network is called ``network(x, condition)``.
    """

    def __init__(
        self,
        network: nn.Module,
        dim: int,
        covariance: Literal["diagonal", "full"] = "diagonal",
        missing: bool = False,
        conditional: bool = False,
    ) -> None:
        super().__init__()
        if covariance not in ("diagonal", "full"):
            raise InputError(f"covariance is 'diagonal' or 'full', not {covariance!r}")
        self.network, self.dim, self.covariance = network, dim, covariance
        self.missing, self.conditional = missing, conditional
        self.out_features = 2 * dim if covariance == "diagonal" else dim + dim * (dim + 1) // 2
        found = getattr(network, "out_features", self.out_features)
        if found != self.out_features:
            raise InputError(
                f"the encoder's network gives {found} numbers; a {covariance} Gaussian in {dim} dimensions "
                f"needs {self.out_features}"
            )

    def forward(self, x: Fields, context: Context | None = None) -> DiagonalNormal | FullNormal:
        out = network_output(self, x, context)
        mean, rest = out[:, : self.dim], out[:, self.dim :]
        if self.covariance == "diagonal":
            return DiagonalNormal(mean, (0.5 * rest.clamp(-30.0, 20.0)).exp())
        return FullNormal(mean, tril_from_flat(rest, self.dim))
