"""The three distributions of a row of a table, and what they are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.networks import Identity
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Objective

from .columns import columns_of
from .networks import TableDecoder, TableEncoder
from .settings import Tables

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["build", "objective"]

_SCALE = 0.5  # learned standard deviation at the start of training, of scaled columns


def build(settings: Tables, data: xr.Dataset) -> VAE:
    """p(x | z) is a product over the columns, each with the likelihood of its kind; missing ones drop out."""
    chosen = settings.model
    widths = {name: data[name].shape[1] for name in data.attrs["fields"]}
    categories = {
        column.field: len(column.levels) + 1
        for column in columns_of(data.attrs)
        if column.kind == "categorical"
    }
    dim = max(1, min(chosen.latent, sum(widths.values()) // 2))
    likelihoods = {name: _likelihood(name, n, categories) for name, n in widths.items()}
    outputs = {name: n * likelihoods[name].outputs for name, n in widths.items()}
    prior = (
        priors.GaussianMixture(dim, chosen.components)
        if chosen.prior == "mixture"
        else priors.StandardNormal(dim)
    )
    encoder = TableEncoder(widths, categories, list(chosen.hidden), dim)
    return VAE(
        prior,
        encoders.Gaussian(encoder, dim, missing=True),
        decoders.Joint(likelihoods, network=TableDecoder(outputs, list(chosen.hidden), dim)),
    )


def objective(settings: Tables, data: xr.Dataset) -> Objective:
    """The evidence lower bound."""
    return ELBO(beta=settings.objective.beta)


def _likelihood(name: str, columns: int, categories: dict[str, int]) -> decoders.Decoder:
    if name in categories:
        return decoders.Categorical(Identity(), categories[name])
    if name == "counts":
        return decoders.NegativeBinomial(Identity(), features=columns)
    if name == "student":
        return decoders.StudentT(Identity(), df="learned", features=columns)
    return decoders.Gaussian(Identity(), scale="learned", features=columns, initial=_SCALE)
