"""Openings as the mean transmittance, 0 to 1, of each cell of a grid: edges between cells are kept.

x, y: the middles of the cells, (W,) and (H,), or of each aperture, (B, W) and (B, H); pitch: the width of a cell,
a number or (B,); all in metres. Sizes are (B,).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["circle", "comb", "coordinates", "polygon", "rectangle", "slits"]


def coordinates(
    n: int,
    pitch: float | Tensor,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    """The middles of n cells with the axis at cell n//2, (n,), or of each pitch (B,), (B, n), where these lie."""
    device = pitch.device if isinstance(pitch, Tensor) else device
    at = torch.arange(n, dtype=dtype, device=device) - n // 2
    return pitch[:, None].to(dtype) * at if isinstance(pitch, Tensor) else pitch * at


def slits(x: Tensor, pitch: float | Tensor, middles: Tensor, widths: Tensor) -> Tensor:
    """Slits that do not overlap, their middles and widths (B, K) → (B, W): the exact overlap with each cell."""
    pitch = _column(pitch)
    lower = torch.maximum((x - pitch / 2).unsqueeze(-2), (middles - widths / 2).unsqueeze(-1))  # (B, K, W)
    upper = torch.minimum((x + pitch / 2).unsqueeze(-2), (middles + widths / 2).unsqueeze(-1))
    return ((upper - lower).clamp(min=0).sum(-2) / pitch).clamp(max=1)


def comb(number: int, separation: Tensor, middle: Tensor) -> Tensor:
    """The middles of ``number`` slits around ``middle``, (B, number)."""
    at = torch.arange(number, dtype=separation.dtype, device=separation.device) - (number - 1) / 2
    return middle[:, None] + separation[:, None] * at


def rectangle(x: Tensor, y: Tensor, pitch: float | Tensor, middle: Tensor, size: Tensor) -> Tensor:
    """Rectangles along the axes, middle and size (B, 2) in x and y → (B, H, W), exact."""
    across = slits(x, pitch, middle[:, :1], size[:, :1])
    along = slits(y, pitch, middle[:, 1:], size[:, 1:])
    return along[:, :, None] * across[:, None, :]


def circle(x: Tensor, y: Tensor, pitch: float | Tensor, middle: Tensor, diameter: Tensor) -> Tensor:
    """Discs, middle (B, 2) and diameter (B,) → (B, H, W); an edge counts as straight within a cell."""
    dx, dy = _offsets(x, y, middle)
    return _covered(diameter[:, None, None] / 2 - torch.hypot(dx, dy), pitch)


def polygon(x: Tensor, y: Tensor, pitch: float | Tensor, corners: Tensor) -> Tensor:
    """Simple polygons, corners (B, V, 2) in their order → (B, H, W); edges count as straight within a cell.

    The distance to the nearest edge, positive inside: a ray to the right crosses the edges an odd number of times.
    """
    x, y = torch.broadcast_tensors(*_offsets(x, y, torch.zeros_like(corners[:, 0])))
    nearest = torch.full_like(x, math.inf)
    inside = torch.zeros_like(x, dtype=torch.bool)
    ends = corners.roll(-1, 1)
    for v in range(corners.shape[1]):
        ax, ay, bx, by = (c[:, None, None] for c in (*corners[:, v].unbind(1), *ends[:, v].unbind(1)))
        ex, ey = bx - ax, by - ay
        along = ((x - ax) * ex + (y - ay) * ey) / (ex.square() + ey.square())
        along = along.clamp(0, 1)
        nearest = torch.minimum(nearest, torch.hypot(x - ax - along * ex, y - ay - along * ey))
        crosses = (ay > y) != (by > y)
        inside ^= crosses & (x < ax + (y - ay) * ex / torch.where(ey == 0, 1.0, ey))
    return _covered(torch.where(inside, nearest, -nearest), pitch)


def _offsets(x: Tensor, y: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
    dx = (x - middle[:, :1])[:, None, :]  # (B, 1, W)
    dy = (y - middle[:, 1:])[:, :, None]  # (B, H, 1)
    return dx, dy


def _covered(inwards: Tensor, pitch: float | Tensor) -> Tensor:
    """The open share of a cell whose middle lies so far inside an edge."""
    step = pitch[:, None, None] if isinstance(pitch, Tensor) else pitch
    return (0.5 + inwards / step).clamp(0, 1)


def _column(pitch: float | Tensor) -> Tensor | float:
    return pitch[:, None] if isinstance(pitch, Tensor) else pitch
