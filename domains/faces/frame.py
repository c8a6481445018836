"""The frame in which faces are compared: cut out so that the eyes lie where they lie in every other picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "EYES",
    "after",
    "applied",
    "correlation",
    "crop",
    "eye_frame",
    "eyes_of",
    "inverse",
    "register",
    "similarity",
]

#: where the eyes come to lie, (left, right) of (row, column), in shares of the frame's side
EYES = np.array([[0.36, 0.3125], [0.36, 0.6875]])
#: blurs, in shares of the side, at which two pictures are brought together, from coarse to fine; and in pixels the
#: least: of pictures with noise a shift by half a pixel, which smooths one of them, looks better than none
_BLURS, _LEAST_BLUR = (0.06, 0.03, 0.012, 0.004), 0.5
#: places in a photo that are looked at at once
_PLACES = 1 << 20
#: a rolling head, shares of the side: what one unit of each parameter is
_UNITS = torch.tensor([0.01, 0.01, 0.02, 0.02])


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity (2, 3) that takes two points ``source`` (2, 2) to ``target``: rotation, scale and shift.

    Points are (row, column). With complex numbers, w = a z + b.
    """
    z, w = source[:, 0] + 1j * source[:, 1], target[:, 0] + 1j * target[:, 1]
    a = (w[1] - w[0]) / (z[1] - z[0])
    b = w[0] - a * z[0]
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def eye_frame(eyes: np.ndarray, size: int) -> np.ndarray:
    """The similarity (2, 3) from pixels of a frame of ``size`` to those of the photo with these ``eyes`` (2, 2)."""
    return similarity(EYES * size - 0.5, eyes)


def eyes_of(frame: np.ndarray, size: int) -> np.ndarray:
    """Where the eyes are (2, 2) in the photo that a frame of ``size`` is of: what ``eye_frame`` takes."""
    return applied(frame, EYES * size - 0.5)


def applied(map_: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (…, 2) taken by an affine map (2, 3)."""
    return points @ map_[:, :2].T + map_[:, 2]


def after(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """outer ∘ inner, affine maps (2, 3)."""
    return np.c_[outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]]


def inverse(map_: np.ndarray) -> np.ndarray:
    """The inverse of an affine map (2, 3)."""
    back = np.linalg.inv(map_[:, :2])
    return np.c_[back, -back @ map_[:, 2]]


def crop(photo: np.ndarray, frame: np.ndarray, size: int) -> np.ndarray:
    """The frame cut out of a photo, (H, W, 3) → (size, size, 3), numbers as they are; beyond the photo its border.

    frame: the affine map (2, 3) from (row, column) of the frame to those of the photo. Where that shrinks the
    photo, each pixel is the mean of the places within it.
    """
    finer = max(1, int(np.ceil(np.sqrt(abs(np.linalg.det(frame[:, :2]))))))
    places = (np.arange(size * finer) + 0.5) / finer - 0.5
    height, width = photo.shape[:2]
    image = torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1).unsqueeze(0)
    found = []
    # of a large photo the places are many more than the pixels: some rows at once
    parts = min(size, -(-((size * finer) ** 2) // _PLACES))
    for some in np.array_split(places.reshape(size, finer), parts):
        rows, columns = np.meshgrid(some.ravel(), places, indexing="ij")
        at = np.einsum("ij,jhw->ihw", frame[:, :2], np.stack([rows, columns])) + frame[:, 2, None, None]
        grid = torch.from_numpy(2 * (at[::-1] + 0.5) / np.array([width, height])[:, None, None] - 1)
        grid = grid.permute(1, 2, 0).unsqueeze(0).to(image.dtype)
        seen = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
        found.append(F.avg_pool2d(seen, finer)[0])
    return torch.cat(found, 1).permute(1, 2, 0).numpy()


def register(
    moving: Sequence[np.ndarray], fixed: Sequence[np.ndarray], weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The similarities (N, 2, 3) from pixels of ``fixed``, (N, S, S) grey, to those of ``moving`` that match.

    Each maximises the normalised cross-correlation of the two where ``weight`` (S, S) is, from blurred to sharp
    pictures: indifferent to the light's strength. Gives also how far they then correlate, (N,).
    """
    still = torch.as_tensor(np.stack(list(fixed)), dtype=torch.float32).unsqueeze(1)
    other = torch.as_tensor(np.stack(list(moving)), dtype=torch.float32).unsqueeze(1)
    share = torch.as_tensor(weight / weight.sum(), dtype=torch.float32)
    size = still.shape[-1]
    found = torch.zeros(len(still), 4)
    for blur in _BLURS:
        a, b = (_blurred(images, max(blur * size, _LEAST_BLUR)) for images in (other, still))
        found = _matched(a, b, share, found)
    with torch.no_grad():
        alike = correlation(_moved(other, found), still, share)
    return _affine(found, size), alike.numpy()


def _matched(moving: Tensor, fixed: Tensor, share: Tensor, start: Tensor) -> Tensor:
    parameters = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([parameters], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        apart = (1 - correlation(_moved(moving, parameters), fixed, share)).sum()
        apart.backward()
        return apart

    optimiser.step(loss)
    return parameters.detach()


def _affine(parameters: Tensor, size: int) -> np.ndarray:
    """Parameters (N, 4), shift of the middle along rows and columns, log of scale and angle, as maps of pixels."""
    down, right, log_scale, angle = (parameters * _UNITS).double().numpy().T
    scale, middle = np.exp(log_scale), (size - 1) / 2
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.stack([np.stack([a, -b], -1), np.stack([b, a], -1)], -2)
    shift = np.stack([down, right], -1) * size + middle - linear @ np.full(2, middle)
    return np.concatenate([linear, shift[:, :, None]], -1)


def _moved(images: Tensor, parameters: Tensor) -> Tensor:
    """The pictures at the places that the similarities take each pixel to."""
    down, right, log_scale, angle = (parameters * _UNITS).unbind(-1)
    a, b = log_scale.exp() * angle.cos(), log_scale.exp() * angle.sin()
    # grid_sample's coordinates are (column, row) from −1 to 1 across the picture
    theta = torch.stack([torch.stack([a, b, 2 * right], -1), torch.stack([-b, a, 2 * down], -1)], -2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def correlation(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Normalised cross-correlation of pictures (N, 1, H, W), weighted by ``share`` (H, W) of sum 1, (N,)."""
    a, b = (x - (share * x).sum((2, 3), keepdim=True) for x in (a, b))
    together, own, other = ((share * x * y).sum((1, 2, 3)) for x, y in ((a, b), (a, a), (b, b)))
    return together / (own * other).clamp(min=1e-12).sqrt()


def _blurred(images: Tensor, sigma: float) -> Tensor:
    reach = int(np.ceil(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    images = F.conv2d(F.pad(images, (reach, reach, 0, 0), mode="replicate"), kernel[None, None, None])
    return F.conv2d(F.pad(images, (0, 0, reach, reach), mode="replicate"), kernel[None, None, :, None])
