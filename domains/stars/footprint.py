"""Where on the sky a field lies: a region of the equal-area plane, its area, and points spread evenly in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sciencevae.errors import InputError

__all__ = ["Footprint"]


@dataclass(frozen=True)
class Footprint:
    """A convex region of the plane of ``kinematics.azimuthal``, in degrees from the centre of the field.

    vertices: (K, 2), anticlockwise; or none, and ``radius`` (degrees of the plane) of a circle about the centre.
    """

    vertices: np.ndarray | None = None
    radius: float = 0.0

    @classmethod
    def around(cls, offsets: np.ndarray) -> Footprint:
        """The field that stars at ``offsets`` (N, 2) fill: their convex hull, widened for what it cuts off.

        The hull of N stars lies inside the field they were drawn from. For a uniform density Efron's identity
        (1965, Biometrika 52, 331) gives the missing area by the number of stars on the hull itself, V, and

            area = (N + 1)/(N − V + 1) · area of the hull

        has no bias (Baldin & Reiss 2016, Stoch. Proc. Appl. 126, 3716, eq. 3.3); the hull is scaled to that
        area about its centroid. A convex field only: a hole or a bay counts as field.

        Raises InputError where the stars are fewer than 3 or lie on a line.
        """
        from scipy.spatial import ConvexHull, QhullError

        try:
            hull = ConvexHull(np.asarray(offsets, float))
        except (QhullError, ValueError) as error:
            raise InputError(
                f"{len(offsets)} stars on a line or at one point enclose no field: cut a cone, with "
                "--set prepare.cut_input=true and a position"
            ) from error
        corners = hull.points[hull.vertices]
        count, outer = len(hull.points), len(corners)
        inner = count - outer
        grown = np.sqrt((count + 1) / (inner + 1)) if inner else 1.0  # three stars alone say nothing of it
        centroid = _centroid(corners)
        return cls(centroid + grown * (corners - centroid))

    @classmethod
    def cone(cls, radius_deg: float) -> Footprint:
        """All directions within ``radius_deg`` of the centre: a circle of radius 2 sin(r/2) in the plane."""
        return cls(radius=float(np.degrees(2 * np.sin(np.radians(radius_deg) / 2))))

    @property
    def area(self) -> float:
        """Square degrees on the sky (the projection keeps areas)."""
        if self.vertices is None:
            return float(np.pi * self.radius**2)
        return float(_cross(self.vertices, np.roll(self.vertices, -1, axis=0)).sum() / 2)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Whether each of ``points`` (M, 2) lies in it or on its edge, (M,) bool."""
        points = np.asarray(points, float)
        if self.vertices is None:
            return (points**2).sum(-1) <= self.radius**2 * (1 + 1e-9)
        inside = np.ones(len(points), dtype=bool)
        for start, end in zip(self.vertices, np.roll(self.vertices, -1, axis=0), strict=True):
            inside &= _cross(end - start, points - start) >= -1e-9 * self.area
        return inside

    def points(self, count: int) -> np.ndarray:
        """``count`` points (count, 2) that fill it evenly: a Sobol sequence, always the same one."""
        from scipy.stats import qmc

        low, high = self._box()
        found = np.empty((0, 2))
        power = max(int(np.ceil(np.log2(count * np.prod(high - low) / self.area))), 1)
        while len(found) < count:
            box = low + (high - low) * qmc.Sobol(2, seed=0).random_base2(power)
            found, power = box[self.contains(box)], power + 1
        return found[:count]

    @cached_property
    def grid(self) -> np.ndarray:
        """2,048 of ``points``, for integrals over the field: area · the mean over them."""
        return self.points(2048)

    @property
    def step(self) -> float:
        """Between neighbours of ``grid``, degrees."""
        return float(np.sqrt(self.area / len(self.grid)))

    @property
    def size(self) -> float:
        """The radius of a circle of the same area, degrees."""
        return float(np.sqrt(self.area / np.pi))

    def to_list(self) -> list[Any]:
        """[[x, y], …] of the vertices, or [radius]: what JSON can hold."""
        return [self.radius] if self.vertices is None else self.vertices.tolist()

    @classmethod
    def from_list(cls, values: list[Any]) -> Footprint:
        """The inverse of ``to_list``."""
        return cls(radius=float(values[0])) if len(values) == 1 else cls(np.array(values, float))

    def _box(self) -> tuple[np.ndarray, np.ndarray]:
        if self.vertices is None:
            return np.full(2, -self.radius), np.full(2, self.radius)
        return self.vertices.min(0), self.vertices.max(0)


def _cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]


def _centroid(corners: np.ndarray) -> np.ndarray:
    """The centre of mass of a polygon (K, 2)."""
    origin = corners.mean(0)
    here = corners - origin
    following = np.roll(here, -1, axis=0)
    twice = _cross(here, following)
    return origin + ((here + following) * twice[:, None]).sum(0) / (3 * twice.sum())
