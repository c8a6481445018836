"""Expressions edited with a trained model, and how good an edited face is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor
from torch.nn import functional as F

from sciencevae.errors import InputError, did_you_mean
from sciencevae.vae.decoders import Warp
from sciencevae.vae.decoders.warp import exponential, jacobian, warp
from sciencevae.vae.model import VAE

from .dataset import EYE_REGION, box
from .frame import correlation, crop
from .networks import PersonalFlow
from .photos import find_frame, open_photo, save_photo, saved_as

if TYPE_CHECKING:
    from sciencevae.latents.trained import Trained

__all__ = ["alike", "edit", "edited", "fitted_fields", "flow_of", "psnr"]

ATTRIBUTES = ("smile",)
#: an amount beyond which numbers would be, too
_LARGEST = 1000.0


def flow_of(model: VAE) -> tuple[PersonalFlow, Warp]:
    """The parts of a model that deform faces; InputError where it draws them anew."""
    decoder: Any = model.decoder
    if not isinstance(decoder, Warp) or not isinstance(decoder.network, PersonalFlow):
        raise InputError("this model draws faces anew and deforms none: take one of model.kind=flow")
    return decoder.network, decoder


def edit(
    trained: Trained,
    source: Path,
    out: Path,
    attribute: str,
    amount: float,
    eyes: Sequence[float] | None = None,
) -> None:
    """A user's photo with an attribute changed by an amount, written as a picture of the same size.

    The displacement is that of the face cut out and shrunk to the model's size, carried back to the photo, which is
    deformed at its own resolution: the picture keeps its own pixels, and beyond the face's frame nothing changes.

    Raises InputError: an unknown attribute, no picture, no face or one that is too small, an amount that folds,
    an ending that no picture is written as (said before anything is read).
    """
    if attribute not in ATTRIBUTES:
        raise InputError(f"unknown attribute {attribute!r}{did_you_mean(attribute, ATTRIBUTES)}")
    if not abs(amount) <= _LARGEST:
        raise InputError(f"--amount {amount:g}: 1 is a smile as people make it; give a smaller one")
    flow_of(trained.model)
    saved_as(out)
    photo = open_photo(source)
    mean_face = np.array(trained.template.attrs["mean_face"])
    size = len(mean_face)
    frame = find_frame(photo, mean_face, str(source), eyes)
    face = torch.from_numpy(crop(photo, frame, size).transpose(2, 0, 1)).float().unsqueeze(0)
    displacement = edited(trained.model, face, amount)[1]
    if (folds := int((jacobian(displacement) <= 0).sum())) > 0:
        raise InputError(
            f"{attribute} by {amount:g} would fold the picture at {folds} places: give a smaller --amount"
        )
    save_photo(_carried(photo, frame, displacement[0].double().numpy()), out, source)


def _carried(photo: np.ndarray, frame: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """A photo deformed by the displacement (2, S, S) of a frame in it, at its own resolution."""
    size = displacement.shape[-1]
    corners = frame[:, :2] @ np.array([[0, 0, size, size], [0, size, 0, size]]) + frame[:, 2:] - 0.5
    low = np.maximum(np.floor(corners.min(1)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(1)).astype(int) + 1, photo.shape[:2])
    if (high <= low).any():
        return photo
    rows, columns = np.mgrid[low[0] : high[0], low[1] : high[1]].astype(float)
    back = np.linalg.inv(frame[:, :2])
    within = np.einsum("ij,jhw->ihw", back, np.stack([rows, columns]) - frame[:, 2, None, None])
    # beyond the frame, at whose edge the displacement is 0, it is 0
    moved = np.stack([map_coordinates(part, within, order=1, mode="constant") for part in displacement])
    moved = np.einsum("ij,jhw->ihw", frame[:, :2], moved)
    at = np.stack([rows, columns]) + moved
    result = photo.copy()
    still = (moved == 0).all(0)
    for channel in range(3):
        seen = map_coordinates(photo[..., channel], at, order=1, mode="nearest")
        part = result[low[0] : high[0], low[1] : high[1], channel]
        part[~still] = seen[~still]
    return result


@torch.no_grad()
def edited(model: VAE, faces: Tensor, amount: float = 1.0) -> tuple[Tensor, Tensor]:
    """Faces (B, 3, S, S) smiling by an amount, and the displacement (B, 2, S, S) that makes them so, in pixels.

    The face is source ∘ exp(amount · v), v the velocity of ``PersonalFlow.smile``: 1 a usual one, −1 undoes one.
    """
    flow, deformed = flow_of(model)
    displacement = exponential(amount * flow.smile(faces), deformed.squarings)
    return warp(faces, displacement.unsqueeze(0))[0], displacement


def fitted_fields(
    sources: Tensor,
    targets: Tensor,
    grid: int,
    roughness: float,
    squarings: int,
    scale: float,
    steps: int,
    shared: bool,
) -> Tensor:
    """The displacements (N, 2, S, S) that bring sources (N, 3, S, S) nearest to targets, one for all or one each.

    Velocities on knots that minimise Σ (target − source ∘ exp v)² / 2σ² + roughness · ½ Σ ‖∇v‖², σ the ``scale``,
    by Adam. With one for all, (1, 2, S, S), it is the mean flow; with their own, the best that a smooth deformation
    can do at all.
    """
    size = sources.shape[-1]
    count = 1 if shared else len(sources)
    knots = torch.zeros(count, 2, grid, grid, requires_grad=True)
    optimiser = torch.optim.Adam([knots], 0.0025 * size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)

    def velocity() -> Tensor:
        return F.interpolate(knots, (size, size), mode="bicubic", align_corners=True)

    for _ in range(steps):
        v = velocity()
        moved = warp(sources, exponential(v, squarings).unsqueeze(0).expand(1, len(sources), -1, -1, -1))[0]
        cost = (moved - targets).square().sum() / (2 * scale**2)
        rough = 0.5 * (v.diff(dim=-1).square().sum() + v.diff(dim=-2).square().sum())
        optimiser.zero_grad()
        (cost + roughness * rough * len(sources) / count).backward()
        optimiser.step()
        schedule.step()
    return exponential(velocity(), squarings).detach()


def psnr(faces: Tensor, truth: Tensor, part: tuple[float, float, float, float] = (0, 1, 0, 1)) -> np.ndarray:
    """Peak signal-to-noise ratio 10 log₁₀(1 / mean squared error) of each face, in dB, over a part of it, (B,)."""
    rows, columns = box(part, faces.shape[-1])
    error = (faces - truth)[..., rows, columns].square().mean((1, 2, 3))
    return (-10 / math.log(10) * error.clamp(min=1e-12).log()).numpy()


def alike(faces: Tensor, others: Tensor) -> np.ndarray:
    """Normalised cross-correlation of the brightness around the eyes, (B,): 1 where they are the same."""
    rows, columns = box(EYE_REGION, faces.shape[-1])
    a, b = (x[..., rows, columns].mean(1, keepdim=True) for x in (faces, others))
    return correlation(a, b, torch.full(a.shape[2:], 1 / a[0].numel())).numpy()
