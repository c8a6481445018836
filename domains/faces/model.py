"""The three distributions of faces, and what they are trained on."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from sciencevae.batch import Batch
from sciencevae.data.splits import split_rows
from sciencevae.networks import ConvolutionalDecoder, ConvolutionalEncoder
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Objective, Smoothness

from .networks import Both, PersonalFlow
from .settings import Faces
from .shapes import shapes_of
from .views import Views

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.data.augment import Augmentation
    from sciencevae.data.batches import Batches
    from sciencevae.training.history import History

__all__ = ["augment", "build", "objective", "refit"]

log = logging.getLogger(__name__)
_ROWS = 64


def build(settings: Faces, data: xr.Dataset) -> VAE:
    """q(z | face, other), z ~ N(0, 1), face ~ N(other ∘ exp v(z, other), σ²)."""
    chosen, size = settings.model, data.sizes["row"]
    layers: dict[str, Any] = {"channels": chosen.channels, "hidden": chosen.hidden}
    prior = priors.StandardNormal(chosen.latent)
    if chosen.kind == "plain":
        network = ConvolutionalEncoder((3, size, size), 2 * chosen.latent, **layers)
        layers["channels"] = chosen.channels[::-1]
        picture = ConvolutionalDecoder(chosen.latent, (3, size, size), **layers)
        plain = decoders.Gaussian(picture, scale=chosen.scale)
        return VAE(prior, encoders.Gaussian(network, chosen.latent), plain)
    train = data.isel(sample=split_rows(data, "train"))
    shapes = shapes_of(
        torch.from_numpy(train["condition"].values),
        torch.from_numpy(train["landmarks"].values),
        chosen.modes,
        chosen.grid,
    )
    if len(shapes.modes) < chosen.modes:
        log.warning(
            "the landmarks that are known differ in %d ways: so many are used, not model.modes = %d",
            len(shapes.modes),
            chosen.modes,
        )
    flow = PersonalFlow(chosen.latent, size, chosen.grid, len(shapes.modes), len(shapes.mean))
    flow.set_shapes(shapes.mean, shapes.modes, shapes.fields, shapes.reader)
    both = Both(size, 2 * chosen.latent, chosen.channels, chosen.hidden)
    face = decoders.Warp(
        flow, scale=chosen.scale, squarings=chosen.squarings, source="condition", conditional=True
    )
    return VAE(prior, encoders.Gaussian(both, chosen.latent, conditional=True), face)


def objective(settings: Faces, data: xr.Dataset) -> Objective:
    """−ELBO, and how rough the velocities are."""
    chosen = settings.objective
    if settings.model.kind == "plain":
        return ELBO(beta=chosen.beta)
    return ELBO(beta=chosen.beta, extra={"roughness": Smoothness(chosen.roughness)})


def augment(settings: Faces) -> Augmentation:
    """Both faces mirrored, turned, shifted, stretched and lit alike."""

    def seen(batch: Batch, generator: torch.Generator) -> Batch:
        assert isinstance(batch.x, torch.Tensor)
        views = Views(len(batch), generator)
        other = views.pictures(batch.context["condition"])
        return replace(batch, x=views.pictures(batch.x), context={**batch.context, "condition": other})

    return seen


@torch.no_grad()
def refit(settings: Faces, model: VAE, train: Batches, valid: Batches) -> History | None:
    """Keep in the model what a smile is among its latents: the mean of E[z], of rows from a smile of −E[z]."""
    trunk = model.decoder.network
    if isinstance(trunk, PersonalFlow):
        model.eval()
        found = [
            batch.context["change"].unsqueeze(-1) * model.encode(batch.x, batch.context).mean
            for batch in train.blocks(_ROWS)
        ]
        trunk.attribute.copy_(torch.cat(found).mean(0))
    return None
