"""Decoders p(x | z, c): modules whose forward takes latents and context and returns a distribution.

A saved model names each class by its module here: moving one to another file makes saved models unreadable.
"""

from sciencevae.vae.decoders.base import Decoder
from sciencevae.vae.decoders.discrete import Bernoulli, Categorical, NegativeBinomial, Poisson
from sciencevae.vae.decoders.gaussian import Gaussian
from sciencevae.vae.decoders.joint import Joint
from sciencevae.vae.decoders.logistic import MixtureOfLogistics
from sciencevae.vae.decoders.sequence import Sequence
from sciencevae.vae.decoders.student import StudentT
from sciencevae.vae.decoders.von_mises import VonMises
from sciencevae.vae.decoders.warp import Warp

__all__ = [
    "Bernoulli",
    "Categorical",
    "Decoder",
    "Gaussian",
    "Joint",
    "MixtureOfLogistics",
    "NegativeBinomial",
    "Poisson",
    "Sequence",
    "StudentT",
    "VonMises",
    "Warp",
]
