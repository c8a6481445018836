"""What lies on the table and what the camera sees of it: poses, solids, and the projection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["REACH", "SIZE", "UNSEEN", "Camera", "Mesh", "beside", "box", "cylinder", "placed", "together"]

#: pixels along a side of a picture
SIZE = 64
#: the position of an object lies within ± so many millimetres of the middle of the table, along x and y
REACH = 45.0
#: how far others stay from the middle of an object, in reaches: near enough to hide a part of it
_APART = 30.0 / REACH
#: the object that only realistic pictures show
UNSEEN = "jug"

Mesh = tuple[np.ndarray, np.ndarray]
"""Corners (V, 3) in millimetres, and triangles (T, 3) of them."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at a point of the table, whose upper side is z = 0.

    place, target: in millimetres; view: the angle that a picture's side spans, in degrees; roll: about the line of
    sight, in degrees.
    """

    place: Any = (0.0, -260.0, 520.0)
    target: Any = (0.0, 0.0, 0.0)
    view: float = 16.0
    roll: float = 0.0
    axes: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        forward = np.subtract(self.target, self.place)
        forward = forward / np.linalg.norm(forward)
        # from straight above, what lies along y is up
        above = np.hypot(*forward[:2]) < 1e-6
        right = np.cross(forward, [0.0, 1.0, 0.0] if above else [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        up = np.cross(right, forward)
        c, s = np.cos(np.radians(self.roll)), np.sin(np.radians(self.roll))
        object.__setattr__(self, "axes", np.stack([c * right + s * up, s * right - c * up, forward]))

    @property
    def distance(self) -> float:
        """From the camera to what it looks at, in millimetres."""
        return float(np.linalg.norm(np.subtract(self.target, self.place)))

    @cached_property
    def plane(self) -> np.ndarray:
        """The homography (3, 3) from the table (x, y in mm) to a picture whose sides lie at ±1."""
        seen = self.axes @ np.c_[np.eye(3)[:, :2], -np.asarray(self.place, float)]
        focal = 1 / np.tan(np.radians(self.view) / 2)
        return np.diag([focal, focal, 1.0]) @ seen

    def project(self, points: np.ndarray, size: int = SIZE) -> np.ndarray:
        """Points (N, 3) in millimetres → column, row in pixels and the depth in millimetres, (N, 3)."""
        seen = (points - np.asarray(self.place)) @ self.axes.T
        focal = size / 2 / np.tan(np.radians(self.view) / 2)
        return np.stack(
            [
                focal * seen[:, 0] / seen[:, 2] + size / 2,
                focal * seen[:, 1] / seen[:, 2] + size / 2,
                seen[:, 2],
            ],
            -1,
        )

    def on_table(self, pixels: np.ndarray, size: int = SIZE, height: float = 0.0) -> np.ndarray:
        """The x, y in millimetres, (N, 2), of column, row (N, 2), on the table or so many millimetres above it."""
        focal = size / 2 / np.tan(np.radians(self.view) / 2)
        rays = np.c_[(np.asarray(pixels, float) - size / 2) / focal, np.ones(len(pixels))] @ self.axes
        place = np.asarray(self.place, float)
        return place[:2] - rays[:, :2] * ((place[2] - height) / rays[:, 2])[:, None]


def box(x: float, y: float, z: float, long: float, wide: float, high: float) -> Mesh:
    """A box about (x, y, z)."""
    corners = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = [t for a, b, c, d in sides for t in ((a, b, c), (a, c, d))]
    return corners * [long / 2, wide / 2, high / 2] + [x, y, z], np.array(triangles)


def cylinder(
    x: float, y: float, z: float, radius: float, high: float, taper: float = 1.0, sides: int = 16
) -> Mesh:
    """An upright cylinder about (x, y, z), its upper radius ``taper`` times the lower one."""
    angle = np.arange(sides) * 2 * np.pi / sides
    ring = np.stack([np.cos(angle), np.sin(angle)], -1) * radius
    low = np.c_[ring, np.full(sides, -high / 2)]
    top = np.c_[taper * ring, np.full(sides, high / 2)]
    corners = np.r_[low, top, [[0, 0, -high / 2], [0, 0, high / 2]]] + [x, y, z]
    triangles = []
    for i in range(sides):
        j = (i + 1) % sides
        triangles += [
            (i, j, sides + j),
            (i, sides + j, sides + i),
            (2 * sides, j, i),
            (2 * sides + 1, sides + i, sides + j),
        ]
    return corners, np.array(triangles)


def together(parts: Sequence[Mesh]) -> Mesh:
    """Several solids as one."""
    first = np.cumsum([0, *(len(corners) for corners, _ in parts)])
    return (
        np.concatenate([corners for corners, _ in parts]),
        np.concatenate([triangles + n for (_, triangles), n in zip(parts, first, strict=False)]),
    )


def placed(mesh: Mesh, pose: Any, scale: float = 1.0) -> Mesh:
    """A solid turned about its upright axis and put at a pose: x, y, heading (radians, from x towards y)."""
    corners, triangles = mesh
    x, y, heading = pose
    c, s = np.cos(heading), np.sin(heading)
    return scale * corners @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + [x, y, 0], triangles


def beside(pose: np.ndarray, field: float, random: np.random.Generator, reach: float = REACH) -> np.ndarray:
    """A place (2,) within ± ``field`` millimetres of the middle of the table that is not that of the object."""
    while True:
        place = random.uniform(-field, field, 2)
        if np.hypot(*(place - pose[:2])) > _APART * reach:
            return place
