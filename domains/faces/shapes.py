"""The shapes of faces: the main ways in which landmarks differ, and how a picture tells them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from .networks import gradients
from .views import Views

__all__ = ["Shapes", "shapes_of"]

#: knots of a shape's field beyond the picture, where it is 0, in shares of the side
_FAR = [(r, c) for r in (-0.25, 0.5, 1.25) for c in (-0.25, 0.5, 1.25) if (r, c) != (0.5, 0.5)]
#: landmarks that lie nearer in the mean face are one knot, and a landmark's twin lies so near to its mirrored place
_NEAR, _TWIN = 0.02, 0.03
#: pictures are seen so often, and so far moved beside ``augment``, when their shapes are learned
_SEEN, _MOVED = 10, 0.5
#: of the ridge regression, times the mean square of a picture's features
_RIDGE = 0.3


@dataclass(frozen=True)
class Shapes:
    """Mean landmarks (2K,), how each mode moves them (M, 2K), what lies between them (M, 2, G, G), and the reader.

    reader: coefficients = reader[:, 0] + reader[:, 1:] · ``gradients``(face), (M, 1 + F), in standard deviations.
    """

    mean: Tensor
    modes: Tensor
    fields: Tensor
    reader: Tensor


def shapes_of(faces: Tensor, points: Tensor, modes: int, grid: int) -> Shapes:
    """What landmarks (N, 2K) of faces (N, 3, S, S) have in common, NaN rows left out; at most ``modes`` modes.

    Principal components of the landmarks; between these thin plates, which come to rest beyond the picture.
    """
    known = points.isfinite().all(1)
    faces, points = faces[known], points[known]
    mean = points.mean(0)
    _, spread, directions = torch.linalg.svd(points - mean, full_matrices=False)
    # landmarks that all lie alike, as those by which faces are cut out, have no modes
    modes = min(modes, int((spread > 1e-3 * len(points) ** 0.5).sum()))
    size = faces.shape[-1]
    if not modes:
        none = torch.zeros(0, 2, grid, grid)
        return Shapes(
            mean, torch.zeros(0, len(mean)), none, torch.zeros(0, 1 + gradients(faces[:1]).shape[1])
        )
    found = directions[:modes] * (spread[:modes] / len(points) ** 0.5)[:, None]
    return Shapes(mean, found, _between(mean, found, size, grid), _reader(faces, points, mean, found))


def _between(mean: Tensor, modes: Tensor, size: int, grid: int) -> Tensor:
    places = mean.double().numpy().reshape(-1, 2)
    kept: list[int] = []
    for k, place in enumerate(places):
        if all(np.hypot(*(place - places[j])) > _NEAR * size for j in kept):
            kept.append(k)
    knots = np.r_[places[kept], np.array(_FAR) * size]
    moved = (
        modes.double().numpy().reshape(len(modes), -1, 2)[:, kept].transpose(1, 0, 2).reshape(len(kept), -1)
    )
    plates = RBFInterpolator(
        knots, np.r_[moved, np.zeros((len(_FAR), moved.shape[1]))], kernel="thin_plate_spline", smoothing=20.0
    )
    along = np.linspace(0, size - 1, grid)
    between = plates(np.stack(np.meshgrid(along, along, indexing="ij"), -1).reshape(-1, 2))
    return torch.from_numpy(between.reshape(grid, grid, len(modes), 2).transpose(2, 3, 0, 1)).float()


def _reader(faces: Tensor, points: Tensor, mean: Tensor, modes: Tensor) -> Tensor:
    """Coefficients of the modes by ridge regression on oriented gradients, of faces seen anew several times.

    (Xᵀ X + λ I) W = Xᵀ Y. With under a hundred people to learn from it errs no more than a network does.
    """
    size = faces.shape[-1]
    places = points.unflatten(1, (-1, 2))
    centre = mean.unflatten(0, (-1, 2))
    mirrored = centre * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, size - 1.0])
    apart = torch.cdist(centre, mirrored)  # of each landmark (row) from where others lie in a mirror
    twins = torch.where((apart.amin(1) < _TWIN * size)[:, None], places[:, apart.argmin(1)], torch.nan)
    back = modes.T / modes.square().sum(1)  # the modes are orthogonal
    seen, wanted = [], []
    generator = torch.Generator().manual_seed(0)
    for _ in range(_SEEN):
        views = Views(len(faces), generator, _MOVED)
        moved = views.points(torch.where(views.mirrored[:, None, None], twins, places), size)
        # a landmark without a twin is where the mean has it
        moved = torch.where(moved.isnan(), centre, moved)
        seen.append(gradients(views.pictures(faces)))
        wanted.append((moved.flatten(1) - mean) @ back)
    x, y = torch.cat(seen).double(), torch.cat(wanted).double()
    middle = x.mean(0)
    x = x - middle
    square = x.T @ x
    ridge = _RIDGE * square.trace() / len(x)
    weights = torch.linalg.solve(square + ridge * torch.eye(len(square)), x.T @ (y - y.mean(0))).T
    return torch.cat([(y.mean(0) - weights @ middle)[:, None], weights], 1).float()
