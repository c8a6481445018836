"""The three distributions of a field of stars, and what they are trained on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from sciencevae.data.scaling import Scaling
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Objective

from .kinematics import directions
from .networks import StarDecoder, StarEncoder
from .settings import Stars

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["build", "objective"]


def build(settings: Stars, data: xr.Dataset) -> VAE:
    """The three distributions: a mixture prior, a diagonal Gaussian posterior, and known noise plus scatter."""
    chosen, scaling = settings.model, Scaling.of(data).fields["x"]
    provenance = json.loads(data.attrs["provenance"])
    field = {
        "loc": scaling.loc.tolist(),
        "scale": scaling.scale.tolist(),
        "centre": directions(*np.array(provenance["centre_deg"])).tolist(),
        "radius_deg": provenance["radius_deg"],
    }
    network = (field, list(chosen.hidden), chosen.latent, chosen.perspective)
    prior = (
        priors.GaussianMixture(chosen.latent, chosen.components)
        if chosen.prior == "mixture"
        else priors.StandardNormal(chosen.latent)
    )
    return VAE(
        prior,
        encoders.Gaussian(StarEncoder(*network), chosen.latent, missing=True, conditional=True),
        decoders.Gaussian(
            StarDecoder(*network),
            scale="per-datum",
            intrinsic="learned",
            initial=0.3,
            conditional=True,
        ),
    )


def objective(settings: Stars, data: xr.Dataset) -> Objective:
    """The evidence lower bound."""
    return ELBO(beta=settings.objective.beta)
