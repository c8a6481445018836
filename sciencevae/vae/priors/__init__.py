"""Priors p(z | c): modules whose forward takes the context and returns a distribution."""

from sciencevae.vae.priors.codes import Autoregressive, CodePrior, UniformCodes
from sciencevae.vae.priors.flow import Flow
from sciencevae.vae.priors.mixture import GaussianMixture
from sciencevae.vae.priors.normal import ConditionalNormal, Prior, StandardNormal, tril_from_flat
from sciencevae.vae.priors.vamp import VampPrior

__all__ = [
    "Autoregressive",
    "CodePrior",
    "ConditionalNormal",
    "Flow",
    "GaussianMixture",
    "Prior",
    "StandardNormal",
    "UniformCodes",
    "VampPrior",
    "tril_from_flat",
]
