"""The three distributions of the XY model, and what they are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.training.schedules import WarmUp
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Objective, Term

from .energy import energy_term
from .networks import SpinDecoder, SpinEncoder
from .settings import XY

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["build", "objective"]


def build(settings: XY, data: xr.Dataset) -> VAE:
    """p(z) = N(0, 1); q(z | x) and the von Mises p(x | z) from periodic networks."""
    chosen, lattice = settings.model, data.sizes["row"]
    told = chosen.conditional
    size = (lattice, chosen.latent, chosen.channels, chosen.hidden, 1 if told else 0)
    return VAE(
        priors.StandardNormal(chosen.latent),
        encoders.Gaussian(SpinEncoder(*size), chosen.latent, conditional=told),
        decoders.VonMises(SpinDecoder(*size, canting=chosen.canting), conditional=told),
    )


def objective(settings: XY, data: xr.Dataset) -> Objective:
    """−ELBO, with the energy term where it has a weight; both weights rise from 0 while training begins."""
    chosen, training = settings.objective, settings.training
    rows = int((data["split"] == 0).sum())
    steps = training.steps(rows)
    beta = WarmUp(chosen.beta, round(chosen.beta_rise * steps))
    extra = {}
    if chosen.energy_weight > 0:
        weight = WarmUp(chosen.energy_weight, round(chosen.energy_rise * steps))
        extra["energy"] = Term(weight, energy_term)
    return ELBO(beta=beta, extra=extra)
