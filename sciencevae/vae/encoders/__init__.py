"""Encoders q(z | x, c): modules whose forward takes data and context and returns a distribution.

A saved model names each class by its module here: moving one to another file makes saved models unreadable.
"""

from sciencevae.vae.encoders.base import Encoder
from sciencevae.vae.encoders.code import Code, Codes
from sciencevae.vae.encoders.flow import Flow
from sciencevae.vae.encoders.gaussian import Gaussian
from sciencevae.vae.encoders.quantiser import Quantiser

__all__ = ["Code", "Codes", "Encoder", "Flow", "Gaussian", "Quantiser"]
