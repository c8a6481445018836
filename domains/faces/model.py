"""The three distributions of faces, and what they are trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from torch.nn import functional as F

from sciencevae.batch import Batch
from sciencevae.data.splits import split_rows
from sciencevae.networks import ConvolutionalDecoder, ConvolutionalEncoder, Fields, Identity
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Objective, Smoothness

from .networks import Both, PersonalFlow, Still
from .settings import Faces

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.data.augment import Augmentation
    from sciencevae.data.batches import Batches
    from sciencevae.training.history import History

__all__ = ["augment", "build", "objective", "refit"]

_ROWS = 64
#: knots of a shape's field beyond the picture, where it is 0, in shares of the side
_FAR = [(r, c) for r in (-0.25, 0.5, 1.25) for c in (-0.25, 0.5, 1.25) if (r, c) != (0.5, 0.5)]


def build(settings: Faces, data: xr.Dataset) -> VAE:
    """q(z | face, other), z ~ N(0, 1), face ~ N(other ∘ exp v(z, other), σ²), landmarks of other ~ N(…, σ²)."""
    chosen, size, coordinates = settings.model, data.sizes["row"], data.sizes["coordinate"]
    layers: dict[str, Any] = {"channels": chosen.channels, "hidden": chosen.hidden}
    prior = priors.StandardNormal(chosen.latent)
    shapes = _shapes(data, chosen.modes if chosen.kind == "flow" else 0, chosen.grid)
    if chosen.kind == "plain":
        network = ConvolutionalEncoder((3, size, size), 2 * chosen.latent, **layers)
        layers["channels"] = chosen.channels[::-1]
        picture = ConvolutionalDecoder(chosen.latent, (3, size, size), **layers)
        still = Still(coordinates)
        still.values.copy_(shapes[0])
        fields = {
            "face": decoders.Gaussian(picture, scale=chosen.scale),
            "landmarks": decoders.Gaussian(still, scale=chosen.landmark_scale),
        }
        encoder = encoders.Gaussian(Fields({"face": network}, Identity()), chosen.latent)
        return VAE(prior, encoder, decoders.Joint(fields))
    both = Both(size, 2 * chosen.latent, chosen.channels, chosen.hidden)
    trunk = PersonalFlow(chosen.latent, size, chosen.grid, chosen.modes, coordinates, **layers)
    trunk.set_shapes(*shapes)
    face = decoders.Warp(Identity(), scale=chosen.scale, squarings=chosen.squarings, source="condition")
    fields = {"face": face, "landmarks": decoders.Gaussian(Identity(), scale=chosen.landmark_scale)}
    encoder = encoders.Gaussian(Fields({"face": Identity()}, both), chosen.latent, conditional=True)
    return VAE(prior, encoder, decoders.Joint(fields, trunk, conditional=True))


def _shapes(data: xr.Dataset, modes: int, grid: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean landmarks (2K,), the main ways (M, 2K) in which training faces differ, and as fields (M, 2, G, G).

    Principal components, each of the size of one standard deviation; between the landmarks thin plates, which come
    to rest beyond the picture.
    """
    points = data["landmarks"].values[split_rows(data, "train")].astype(float)
    points = points[np.isfinite(points).all(1)]
    size = data.sizes["row"]
    mean = points.mean(0)
    if not modes:
        empty = torch.zeros(0, 2, grid, grid)
        return torch.from_numpy(mean).float(), torch.zeros(0, len(mean)), empty
    _, spread, directions = np.linalg.svd(points - mean, full_matrices=False)
    found = directions[:modes] * (spread[:modes] / np.sqrt(len(points)))[:, None]
    shapes = np.zeros((modes, len(mean)))
    shapes[: len(found)] = found  # fewer people than modes: the others do nothing
    places = mean.reshape(-1, 2)
    kept: list[int] = []  # of landmarks that nearly coincide one is enough
    for k, place in enumerate(places):
        if all(np.hypot(*(place - places[j])) > 0.02 * size for j in kept):
            kept.append(k)
    knots = np.r_[places[kept], np.array(_FAR) * size]
    moved = shapes.reshape(modes, -1, 2)[:, kept].transpose(1, 0, 2).reshape(len(kept), -1)
    plates = RBFInterpolator(
        knots, np.r_[moved, np.zeros((len(_FAR), moved.shape[1]))], kernel="thin_plate_spline", smoothing=20.0
    )
    along = np.linspace(0, size - 1, grid)
    between = plates(np.stack(np.meshgrid(along, along, indexing="ij"), -1).reshape(-1, 2))
    fields = between.reshape(grid, grid, modes, 2).transpose(2, 3, 0, 1)
    return torch.from_numpy(mean).float(), torch.from_numpy(shapes).float(), torch.from_numpy(fields).float()


def objective(settings: Faces, data: xr.Dataset) -> Objective:
    """−ELBO, and how rough the velocities are."""
    chosen = settings.objective
    if settings.model.kind == "plain":
        return ELBO(beta=chosen.beta)
    return ELBO(beta=chosen.beta, extra={"roughness": Smoothness(chosen.roughness, field="face")})


def augment(settings: Faces) -> Augmentation:
    """Both faces mirrored, turned, shifted, stretched and lit alike, and their landmarks with them."""
    size = settings.prepare.size

    def seen(batch: Batch, generator: torch.Generator) -> Batch:
        assert isinstance(batch.x, dict)
        rows = len(batch)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(rows, *shape, generator=generator)

        mirrored = torch.rand(rows, generator=generator) < 0.5
        angle, scale, aspect = 0.03 * normal(), (0.04 * normal()).exp(), (0.05 * normal()).exp()
        # of places (column, row) from −1 to 1: where the new picture looks in the old one
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).unflatten(1, (2, 2))
        stretch = torch.stack([scale * aspect, scale / aspect], -1)
        linear = turn * stretch.unsqueeze(1)
        linear[:, :, 0] *= torch.where(mirrored, -1.0, 1.0)[:, None]
        shift = 0.04 * normal(2)
        theta = torch.cat([linear, shift.unsqueeze(-1)], -1)
        light = 1 + 0.1 * normal(3, 1, 1)

        def picture(faces: torch.Tensor) -> torch.Tensor:
            grid = F.affine_grid(theta, list(faces.shape), align_corners=True)
            return light * F.grid_sample(faces, grid, padding_mode="reflection", align_corners=True)

        at = batch.x["landmarks"].unflatten(1, (-1, 2)).flip(-1) * 2 / (size - 1) - 1
        moved = torch.linalg.solve(linear.unsqueeze(1), (at - shift.unsqueeze(1)).unsqueeze(-1))[..., 0]
        points = ((moved + 1) * (size - 1) / 2).flip(-1).flatten(1)
        # a mirrored point is another one's: which, nobody has said
        points = torch.where(mirrored[:, None], torch.nan, points)
        x = {"face": picture(batch.x["face"]), "landmarks": points}
        return replace(
            batch, x=x, context={**batch.context, "condition": picture(batch.context["condition"])}
        )

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
