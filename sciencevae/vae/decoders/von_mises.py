"""The decoder of angles."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sciencevae.distributions import Masked
from sciencevae.distributions import VonMises as VonMisesDistribution
from sciencevae.distributions.masked import observed_entries
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.decoders.base import Decoder

__all__ = ["VonMises"]


@recorded
class VonMises(Decoder):
    """p(x | z, c) = von Mises(x; μ, κ) for angles in radians; NaN entries of x are marginalised.

    The network gives (cos, sin, log κ), 3n numbers; μ = atan2(sin, cos), so (cos, sin) need no normalising.
    κ is kept within [10⁻⁶, 10⁸].
    """

    outputs = 3

    def __init__(self, network: nn.Module, conditional: bool = False) -> None:
        super().__init__(network, conditional)

    def likelihood(self, blocks: Tensor, context: Context) -> Masked:
        cosine, sine, log_kappa = blocks
        # atan2 has no gradient at the origin
        at_origin = (cosine == 0) & (sine == 0)
        loc = torch.atan2(sine, torch.where(at_origin, torch.ones_like(cosine), cosine))
        kappa = log_kappa.clamp(math.log(1e-6), math.log(1e8)).exp()
        return Masked(VonMisesDistribution(loc, kappa), loc.dim() - 2)

    def check(self, x: Tensor, context: Context) -> None:
        bad = observed_entries(x) & (x.abs() > math.pi + 1e-6)
        if bad.any():
            raise InputError(
                f"a von Mises likelihood takes angles in radians within (−π, π]; the data hold "
                f"{x[bad][0].item():g}: wrap them with (x + π) mod 2π − π, and check that they are not degrees"
            )
