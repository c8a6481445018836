"""Stars: clusters found in a catalogue of positions, parallaxes and proper motions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.builtin.stars.settings import Stars

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.vae import VAE
    from sciencevae.vae.objectives import Objective

__all__ = ["build", "objective"]


def build(settings: Stars, data: xr.Dataset) -> VAE:
    """The three distributions: a mixture prior, a diagonal Gaussian posterior, and known noise plus scatter."""
    from sciencevae.builtin.stars.networks import StarDecoder, StarEncoder

    from sciencevae.data.scaling import Scaling
    from sciencevae.vae import decoders, encoders, priors
    from sciencevae.vae.model import VAE

    chosen, scaling = settings.model, Scaling.of(data).fields["x"]
    units = (scaling.loc.tolist(), scaling.scale.tolist())
    network = (list(chosen.hidden), chosen.latent, chosen.perspective)
    prior = (
        priors.GaussianMixture(chosen.latent, chosen.components)
        if chosen.prior == "mixture"
        else priors.StandardNormal(chosen.latent)
    )
    return VAE(
        prior,
        encoders.Gaussian(StarEncoder(*units, *network), chosen.latent, missing=True, conditional=True),
        decoders.Gaussian(
            StarDecoder(*units, *network),
            scale="per-datum",
            intrinsic="learned",
            initial=0.3,
            conditional=True,
        ),
    )


def objective(settings: Stars, data: xr.Dataset) -> Objective:
    """The evidence lower bound."""
    from sciencevae.vae.objectives import ELBO

    return ELBO(beta=settings.objective.beta)
