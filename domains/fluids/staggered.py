"""A staggered grid on a rectangle: tendencies, divergence, gradient, and the direct solve for the pressure.

    N(u) = ∇²u / Re − ∇·(uu),    D G p = s

Second order on grids whose spacing varies smoothly. Advection is the central scheme of Verstappen and Veldman,
which keeps the kinetic energy on any grid when the flow has no divergence. Fields are indexed [x, y]: pressure
(Nx, Ny) in the cells, u (Nx + 1, Ny + 2) on the faces across x with a ghost row beyond each side, v (Nx + 2,
Ny + 1) on the faces across y with a ghost column beyond each end.

References: Verstappen and Veldman (2003) J. Comput. Phys. 187, 343; Lynch, Rice and Thomas (1964) Numer. Math.
6, 185 (eigenvectors across, a tridiagonal system for each along).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from scipy.linalg import eigh_tridiagonal

__all__ = ["Grid", "Poisson", "advance_u", "advance_v", "between", "net_outflow", "subtract_gradient"]


@dataclass(frozen=True)
class Grid:
    """The faces of the cells of a rectangle, in D."""

    x_faces: np.ndarray  # (Nx + 1,)
    y_faces: np.ndarray  # (Ny + 1,)

    @cached_property
    def dx(self) -> np.ndarray:
        return np.diff(self.x_faces)

    @cached_property
    def dy(self) -> np.ndarray:
        return np.diff(self.y_faces)

    @cached_property
    def x(self) -> np.ndarray:
        return (self.x_faces[1:] + self.x_faces[:-1]) / 2

    @cached_property
    def y(self) -> np.ndarray:
        return (self.y_faces[1:] + self.y_faces[:-1]) / 2

    @cached_property
    def spacing(self) -> float:
        """The smallest cell side, in D."""
        return float(min(self.dx.min(), self.dy.min()))


def between(widths: np.ndarray) -> np.ndarray:
    """Distances between the centres of neighbouring cells, mirrored at both ends."""
    return np.concatenate([widths[:1], (widths[1:] + widths[:-1]) / 2, widths[-1:]])


@njit(cache=True, fastmath=True)
def _sweep(values, upper, inverse):  # type: ignore[no-untyped-def]
    """Solve the prefactorised tridiagonal systems along the first axis, in place."""
    n, modes = values.shape
    for m in range(modes):
        values[0, m] *= inverse[0, m]
    for i in range(1, n):
        for m in range(modes):  # upper[i − 1] is the coupling between i − 1 and i, in both rows
            values[i, m] = (values[i, m] - upper[i - 1] * values[i - 1, m]) * inverse[i, m]
    for i in range(n - 2, -1, -1):
        for m in range(modes):
            values[i, m] -= upper[i] * inverse[i, m] * values[i + 1, m]


class Poisson:
    """∇²p = s with ∂p/∂n = 0 at all walls, solved directly on a stretched grid (Nx, Ny) of cell centres.

    The right-hand side is s times the cell areas and must sum to zero; p is fixed up to a constant.
    """

    def __init__(self, grid: Grid) -> None:
        dx, dy = grid.dx, grid.dy
        inner_x, inner_y = 1 / between(dx)[1:-1], 1 / between(dy)[1:-1]
        root = np.sqrt(dy)
        diagonal = -(np.append(inner_y, 0) + np.append(0, inner_y)) / dy
        eigenvalues, vectors = eigh_tridiagonal(diagonal, inner_y / (root[1:] * root[:-1]))
        eigenvalues[-1] = 0.0  # of the constant
        self.modes = np.ascontiguousarray(vectors / root[:, None])  # (Ny, modes)
        self.back = np.ascontiguousarray(self.modes.T)
        pivot = -(np.append(inner_x, 0) + np.append(0, inner_x))[:, None] + np.outer(dx, eigenvalues)
        for i in range(1, len(dx)):
            pivot[i] -= inner_x[i - 1] ** 2 / pivot[i - 1]
        pivot[-1, -1] = np.inf  # the one free constant: the mean of p over the last column is zero
        self.inverse = 1 / pivot
        self.upper = inner_x

    def sweep(self, hat: np.ndarray) -> np.ndarray:
        """Solve for each mode across, in place."""
        _sweep(hat, self.upper, self.inverse)
        return hat

    def solve(self, source: np.ndarray) -> np.ndarray:
        """p (Nx, Ny) from the source times the cell areas."""
        return self.sweep(source @ self.modes) @ self.back


@njit(cache=True, fastmath=True)
def advance_u(u, v, out, old, dx, over_dy, over_x, over_y, viscosity, now, before):  # type: ignore[no-untyped-def]
    """out = u + now N + before N_old on the inner faces, N = ∇²u/Re − ∇·(uu); N replaces N_old."""
    for i in range(1, u.shape[0] - 1):
        here, to_w, to_e = over_x[i], viscosity / dx[i - 1], viscosity / dx[i]
        left, right = dx[i - 1] * here, dx[i] * here
        row, east, west, v_w, v_e, new, kept = u[i], u[i + 1], u[i - 1], v[i], v[i + 1], out[i], old[i]
        for j in range(1, u.shape[1] - 1):
            c, e, w, n, s = row[j], east[j], west[j], row[j + 1], row[j - 1]
            north = v_w[j] * left + v_e[j] * right
            south = v_w[j - 1] * left + v_e[j - 1] * right
            advection = ((c + e) ** 2 - (c + w) ** 2) * here
            advection += (north * (c + n) - south * (c + s)) * over_dy[j - 1]
            diffusion = ((e - c) * to_e - (c - w) * to_w) * here
            across = (n - c) * over_y[j] - (c - s) * over_y[j - 1]
            tendency = diffusion + viscosity * across * over_dy[j - 1] - 0.25 * advection
            new[j] = c + now * tendency + before * kept[j]
            kept[j] = tendency


@njit(cache=True, fastmath=True)
def advance_v(u, v, out, old, over_dx, dy, over_dy, over_x, over_y, viscosity, now, before):  # type: ignore[no-untyped-def]
    """out = v + now N + before N_old on the inner faces, N = ∇²u/Re − ∇·(uu); N replaces N_old."""
    for i in range(1, v.shape[0] - 1):
        here, to_w, to_e = over_dx[i - 1], viscosity * over_x[i - 1], viscosity * over_x[i]
        row, east, west, u_w, u_e, new, kept = v[i], v[i + 1], v[i - 1], u[i - 1], u[i], out[i], old[i]
        for j in range(1, v.shape[1] - 1):
            c, e, w, n, s = row[j], east[j], west[j], row[j + 1], row[j - 1]
            lower, upper = dy[j - 1] * over_y[j], dy[j] * over_y[j]
            right = u_e[j] * lower + u_e[j + 1] * upper
            left = u_w[j] * lower + u_w[j + 1] * upper
            advection = ((c + n) ** 2 - (c + s) ** 2) * over_y[j]
            advection += (right * (c + e) - left * (c + w)) * here
            across = ((n - c) * over_dy[j] - (c - s) * over_dy[j - 1]) * over_y[j]
            tendency = viscosity * across + ((e - c) * to_e - (c - w) * to_w) * here - 0.25 * advection
            new[j] = c + now * tendency + before * kept[j]
            kept[j] = tendency


@njit(cache=True, fastmath=True)
def net_outflow(u, v, dx, dy, out):  # type: ignore[no-untyped-def]
    """∇·u times the areas of the cells, into ``out`` (Nx, Ny)."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            across = (v[i + 1, j + 1] - v[i + 1, j]) * dx[i]
            out[i, j] = (u[i + 1, j + 1] - u[i, j + 1]) * dy[j] + across


@njit(cache=True, fastmath=True)
def subtract_gradient(u, v, p, over_x, over_y):  # type: ignore[no-untyped-def]
    """u − ∇p on the inner faces, in place."""
    nx, ny = p.shape
    for i in range(nx):
        row = p[i]
        if i > 0:
            before, face = p[i - 1], u[i]
            for j in range(ny):
                face[j + 1] -= (row[j] - before[j]) * over_x[i]
        face = v[i + 1]
        for j in range(1, ny):
            face[j] -= (row[j] - row[j - 1]) * over_y[j]
