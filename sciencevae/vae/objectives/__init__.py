"""Objectives: values that turn a model's terms into a loss for each datum."""

from __future__ import annotations

from sciencevae.vae.objectives.base import Loss, Objective, Term
from sciencevae.vae.objectives.elbo import ELBO
from sciencevae.vae.objectives.factor import FactorVAE
from sciencevae.vae.objectives.importance import IWAE
from sciencevae.vae.objectives.property import Property
from sciencevae.vae.objectives.smoothness import Smoothness
from sciencevae.vae.objectives.total_correlation import BetaTCVAE
from sciencevae.vae.objectives.two_domains import Discrepancy, TwoDomains
from sciencevae.vae.objectives.vq import VQ

__all__ = [
    "ELBO",
    "IWAE",
    "VQ",
    "BetaTCVAE",
    "Discrepancy",
    "FactorVAE",
    "Loss",
    "Objective",
    "Property",
    "Smoothness",
    "Term",
    "TwoDomains",
]
