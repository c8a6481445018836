"""What torch.distributions lacks: missing data, named fields, noise passed in, densities right in the extremes."""

from sciencevae.distributions.counts import Categorical, NegativeBinomial, Poisson
from sciencevae.distributions.divergence import kl_normal
from sciencevae.distributions.flow import FlowNormal
from sciencevae.distributions.joint import Joint
from sciencevae.distributions.logistic import MixtureOfLogistics
from sciencevae.distributions.masked import Masked
from sciencevae.distributions.mixture import Mixture
from sciencevae.distributions.normal import CovarianceNormal, DiagonalNormal, FullNormal, Normal
from sciencevae.distributions.sequence import Sequence
from sciencevae.distributions.student import StudentT
from sciencevae.distributions.von_mises import VonMises

__all__ = [
    "Categorical",
    "CovarianceNormal",
    "DiagonalNormal",
    "FlowNormal",
    "FullNormal",
    "Joint",
    "Masked",
    "Mixture",
    "MixtureOfLogistics",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "Sequence",
    "StudentT",
    "VonMises",
    "kl_normal",
]
