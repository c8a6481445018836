"""The renderer of the simulation: triangles into a depth buffer, one light, shadows of the table alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from .scenes import SIZE, Camera, Mesh

__all__ = ["rasterised"]

#: each pixel is the mean of so many along either side
_FINER = 2


def rasterised(
    solids: Sequence[tuple[Mesh, Any]],
    camera: Camera,
    light: Any,
    ambient: float,
    table: Any,
    shadow: float,
) -> np.ndarray:
    """A picture (SIZE, SIZE, 3) of solids with their colours; white is 1.

    Each triangle has the brightness a + (1 − a) max(0, n·l) (Lambert), n its normal, l the direction of the
    ``light`` and a the ``ambient`` share. table: its colour, or a texture (n, n, 3) in the picture's plane.
    shadow: the share of the light that is missing where a solid stands in its way to the table.
    """
    size = SIZE * _FINER
    towards = np.asarray(light, float) / np.linalg.norm(light)
    picture = np.empty((size, size, 3))
    picture[:] = np.asarray(table) * (ambient + (1 - ambient) * towards[2])
    dark = np.zeros((size, size))
    for (corners, triangles), _ in solids:
        fallen = corners - towards * (corners[:, 2:] / towards[2])
        _cover(camera.project(fallen, size), triangles, dark)
    picture *= (1 - shadow * dark)[..., None]
    depth = np.full((size, size), np.inf)
    for (corners, triangles), colour in solids:
        sides = corners[triangles]
        normals = np.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        away = ((sides.mean(1) - np.asarray(camera.place)) * normals).sum(1) > 0
        normals[away] *= -1
        shades = ambient + (1 - ambient) * np.maximum(normals @ towards, 0)
        colours = shades[:, None] * np.asarray(colour, float)
        _fill(camera.project(corners, size), triangles, colours, picture, depth)
    return picture.reshape(SIZE, _FINER, SIZE, _FINER, 3).mean((1, 3))


@numba.njit(cache=True)
def _cover(points: np.ndarray, triangles: np.ndarray, out: np.ndarray) -> None:
    """1 at the pixels that triangles of (column, row, depth) cover."""
    depth = np.full(out.shape, np.inf)
    colours = np.ones((len(triangles), 1))
    _fill(points, triangles, colours, out.reshape((*out.shape, 1)), depth)


@numba.njit(cache=True)
def _fill(
    points: np.ndarray, triangles: np.ndarray, colours: np.ndarray, out: np.ndarray, depth: np.ndarray
) -> None:
    """Colours of the nearest triangle at each pixel whose middle lies in one, (H, W, C); depth is kept along."""
    high, wide = depth.shape
    for k in range(len(triangles)):
        a, b, c = points[triangles[k, 0]], points[triangles[k, 1]], points[triangles[k, 2]]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if abs(area) < 1e-9:
            continue
        left = max(0, int(np.floor(min(a[0], b[0], c[0]))))
        right = min(wide - 1, int(np.ceil(max(a[0], b[0], c[0]))))
        top = max(0, int(np.floor(min(a[1], b[1], c[1]))))
        bottom = min(high - 1, int(np.ceil(max(a[1], b[1], c[1]))))
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                x, y = column + 0.5, row + 0.5
                first = ((b[0] - x) * (c[1] - y) - (c[0] - x) * (b[1] - y)) / area
                second = ((c[0] - x) * (a[1] - y) - (a[0] - x) * (c[1] - y)) / area
                third = 1 - first - second
                if first < 0 or second < 0 or third < 0:
                    continue
                # 1/z is linear in the picture
                at = 1 / (first / a[2] + second / b[2] + third / c[2])
                if at < depth[row, column]:
                    depth[row, column] = at
                    out[row, column] = colours[k]
