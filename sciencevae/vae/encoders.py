"""Encoders q(z | x, c): modules whose forward takes data and context and returns a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.distributions as td
from torch import Tensor, nn

from sciencevae.batch import Fields
from sciencevae.distributions import DiagonalNormal, FullNormal
from sciencevae.distributions.flow import FlowNormal
from sciencevae.distributions.masked import observed_entries
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context, condition_of, full_precision
from sciencevae.vae.flows import Bijection, Kind
from sciencevae.vae.priors import tril_from_flat

__all__ = ["Encoder", "Flow", "Gaussian"]


class Encoder(nn.Module):
    """Contract: ``forward(x, context)`` returns q(z | x, c) with batch shape (B,) and event shape (dim,).

    A posterior that has ``from_noise(ε)`` with ε ~ N(0, 1) of shape (S, B, dim) can be driven by given noise.
    """

    dim: int
    missing: bool = False

    def forward(self, x: Fields, context: Context | None = None) -> td.Distribution:
        raise NotImplementedError


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
        out = _output(self, x, context)
        mean, rest = out[:, : self.dim], out[:, self.dim :]
        if self.covariance == "diagonal":
            return DiagonalNormal(mean, (0.5 * rest.clamp(-30.0, 20.0)).exp())
        return FullNormal(mean, tril_from_flat(rest, self.dim))


@recorded
class Flow(Encoder):
    """q(z | x, c): z = μ + σ f(ε; h) with ε ~ N(0, 1), f an invertible map, and μ, σ, h functions of x and c.

    network: gives (mean, log variance, h), 2·dim + features numbers; features=0: one shape of posterior for all
    data, which μ and σ shift and scale.
    kind "coupling" (Dinh et al. 2017): a draw and the density of any z take one pass through the ``transforms``
    networks. "autoregressive" (Kingma et al. 2016, IAF): a draw takes one pass, and its own density, all that the
    ELBO needs, comes along; the density of any other z takes dim passes, and so does ``detach_posterior``. (1)
    hidden, bins: as of ``priors.Flow``. missing, conditional: as of ``Gaussian``.

    The posterior's ``mean`` and ``stddev`` have no closed form: they are those of 256 fixed quasi-random points,
    the same at each call. Its KL is estimated from the draws.

    (1) In the papers f acts on z; here on ε, before σ scales it, because a spline has its bins on [−5, 5], where
    ε lies and a narrow posterior does not.

    >>> from sciencevae.networks import Perceptron
    >>> encoder = Flow(Perceptron(8, [16], 2 * 3 + 4), dim=3, features=4)
    >>> encoder(torch.zeros(5, 8)).mean.shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        network: nn.Module,
        dim: int,
        features: int = 0,
        kind: Kind = "coupling",
        transforms: int = 2,
        hidden: Sequence[int] = (32, 32),
        bins: int = 8,
        missing: bool = False,
        conditional: bool = False,
    ) -> None:
        super().__init__()
        self.out_features = 2 * dim + features
        found = getattr(network, "out_features", self.out_features)
        if features < 0 or found != self.out_features:
            raise InputError(
                f"the encoder's network gives {found} numbers; a flow in {dim} dimensions with features={features} "
                f"needs {self.out_features}"
            )
        self.network, self.dim, self.features = network, dim, features
        self.missing, self.conditional = missing, conditional
        self.flow = Bijection(dim, kind, transforms, hidden, bins, features)

    def forward(self, x: Fields, context: Context | None = None) -> FlowNormal:
        out = _output(self, x, context)
        mean, log_variance, h = out.split([self.dim, self.dim, self.features], -1)
        base = DiagonalNormal(mean, (0.5 * log_variance.clamp(-30.0, 20.0)).exp())
        return FlowNormal(base, self.flow, h if self.features else None)


def _output(encoder: Gaussian | Flow, x: Fields, context: Context | None) -> Tensor:
    """What an encoder's network gives, (B, out_features)."""
    if encoder.missing:
        x = _with_mask(x)
    out = full_precision(encoder.network(x, *condition_of("the encoder", context, encoder.conditional)))
    if out.shape[-1] != encoder.out_features:
        raise InputError(
            f"the encoder's network gave {tuple(out.shape)}; expected (B, {encoder.out_features})"
        )
    return out


def _with_mask(x: Fields) -> Fields:
    if isinstance(x, Tensor):
        observed = observed_entries(x)
        return torch.cat([_filled(x, observed), observed.to(x.dtype)], dim=1)
    filled: dict[str, Tensor] = {}
    for name, field in x.items():
        observed = observed_entries(field)
        filled[name] = _filled(field, observed)
        filled[f"{name}.observed"] = observed
    return filled


def _filled(x: Tensor, observed: Tensor) -> Tensor:
    """x with 0 where nothing was observed, of the same kind: a network of integers gets integers."""
    return torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device))
