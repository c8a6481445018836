"""What torch.distributions lacks: missing data, noise passed in, a von Mises right at any concentration."""

from sciencevae.distributions.divergence import kl_normal
from sciencevae.distributions.flow import FlowNormal
from sciencevae.distributions.joint import Joint
from sciencevae.distributions.masked import Masked
from sciencevae.distributions.normal import CovarianceNormal, DiagonalNormal, FullNormal, Normal
from sciencevae.distributions.von_mises import VonMises

__all__ = [
    "CovarianceNormal",
    "DiagonalNormal",
    "FlowNormal",
    "FullNormal",
    "Joint",
    "Masked",
    "Normal",
    "VonMises",
    "kl_normal",
]
