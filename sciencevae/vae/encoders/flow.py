"""Posteriors that a normalising flow shapes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from sciencevae.batch import Fields
from sciencevae.distributions import DiagonalNormal
from sciencevae.distributions.flow import FlowNormal
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.encoders.base import Encoder, network_output
from sciencevae.vae.flows import Bijection, Kind

__all__ = ["Flow"]


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
        out = network_output(self, x, context)
        mean, log_variance, h = out.split([self.dim, self.dim, self.features], -1)
        base = DiagonalNormal(mean, (0.5 * log_variance.clamp(-30.0, 20.0)).exp())
        return FlowNormal(base, self.flow, h if self.features else None)
