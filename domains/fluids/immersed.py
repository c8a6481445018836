"""Incompressible flow past a circular cylinder in a channel: staggered grid, immersed-boundary projection.

    ∂u/∂t + ∇·(uu) = −∇p + ∇²u / Re + f,    ∇·u = 0,    E u = 0 on the cylinder

in units of the diameter D, the inflow U and ρ = 1. In space, second order on a stretched staggered grid with
the energy-conserving central scheme of Verstappen and Veldman; in time, second-order Adams–Bashforth. The
pressure p and the surface force f are the Lagrange multipliers of the two constraints (Taira and Colonius):

    u* = uⁿ + Δt (3/2 Nⁿ − 1/2 Nⁿ⁻¹),    uⁿ⁺¹ = P (u* + Eᵀg),    (E P Eᵀ) g = −E P u*

with P the projection on fields without divergence and E the interpolation to the markers on the cylinder. As
N holds advection and viscosity, the step has no splitting error: both constraints hold to round-off, and p and
f are second order at the middle of the step. E P Eᵀ is a small matrix, factorised once; P is a direct
solve, eigenvectors across and tridiagonal along the channel.

Fields are indexed [x, y]. At inflow u = U, v = 0; at the sides slip (v = 0, ∂u/∂y = 0); at outflow
∂u/∂t + U ∂u/∂x = 0.

References: Taira and Colonius (2007) J. Comput. Phys. 225, 2118; Verstappen and Veldman (2003) J. Comput.
Phys. 187, 343; Roma, Peskin and Berger (1999) J. Comput. Phys. 153, 509 (the kernel of E); Breugem (2012)
J. Comput. Phys. 231, 4469 (retracted markers); Lynch, Rice and Thomas (1964) Numer. Math. 6, 185 (the solve).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from scipy.linalg import eigh_tridiagonal, inv

from sciencevae.errors import RunError

__all__ = ["RADIUS", "RETRACTION", "Flow", "Grid", "Poisson", "roma"]

RADIUS: float = 0.5
"""Of the cylinder, in diameters."""

RETRACTION: float = 0.3116
"""How far inside the wall the markers lie, in spacings: ½ E|r − r'| with r, r' drawn from the kernel of E.

Note 1. A force spread over the kernel moves the place where a sheared flow extrapolates to zero outwards by
this much, which makes markers on the wall first order (Breugem found 0.3 spacings by trial, for this kernel).
"""

_MARKER_SPACING = 1.5  # in grid spacings; closer markers make E P Eᵀ ill-conditioned


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


def _between(widths: np.ndarray) -> np.ndarray:
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
        inner_x, inner_y = 1 / _between(dx)[1:-1], 1 / _between(dy)[1:-1]
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


def roma(r: np.ndarray) -> np.ndarray:
    """The three-point smoothed delta function of Roma et al., eq. 22; r in grid spacings."""
    r = np.abs(r)
    near = (1 + np.sqrt(np.maximum(1 - 3 * r**2, 0))) / 3
    far = (5 - 3 * r - np.sqrt(np.maximum(1 - 3 * (1 - r) ** 2, 0))) / 6
    return np.where(r <= 0.5, near, np.where(r < 1.5, far, 0.0))


@njit(cache=True, fastmath=True)
def _advance_u(u, v, out, old, dx, over_dy, over_x, over_y, viscosity, now, before):  # type: ignore[no-untyped-def]
    """out = u + now N + before N_old on the inner faces; N replaces N_old."""
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
def _advance_v(u, v, out, old, over_dx, dy, over_dy, over_x, over_y, viscosity, now, before):  # type: ignore[no-untyped-def]
    """out = v + now N + before N_old on the inner faces; N replaces N_old."""
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
def _divergence(u, v, dx, dy, out, first):  # type: ignore[no-untyped-def]
    """Net outflow of the cells of columns first, first + 1, …, into the rows of ``out``."""
    for k in range(out.shape[0]):
        i = first + k
        for j in range(out.shape[1]):
            across = (v[i + 1, j + 1] - v[i + 1, j]) * dx[i]
            out[k, j] = (u[i + 1, j + 1] - u[i, j + 1]) * dy[j] + across


@njit(cache=True, fastmath=True)
def _subtract_gradient(u, v, p, over_x, over_y):  # type: ignore[no-untyped-def]
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


class Flow:
    """The state of one flow past the cylinder at the origin, and its time step.

    u (Nx + 1, Ny + 2) lies on the faces across x, with a ghost row beyond each side; v (Nx + 2, Ny + 1) on the
    faces across y, with a ghost column beyond inflow and outflow; pressure (Nx, Ny) in ρU² at the middle of
    the last step; force (2,) on the cylinder in ρU²D, then too. ``dt`` in D/U. The grid must be uniform, with
    the same spacing both ways, within three spacings of the cylinder; ``body=False`` leaves the cylinder out.
    """

    def __init__(self, grid: Grid, reynolds: float, dt: float, body: bool = True) -> None:
        self.grid, self.reynolds, self.dt = grid, reynolds, dt
        self.between_x, self.between_y = _between(grid.dx), _between(grid.dy)
        self._over = tuple(1 / a for a in (grid.dx, grid.dy, self.between_x, self.between_y))
        self.poisson = Poisson(grid)
        nx, ny = len(grid.dx), len(grid.dy)
        self.u, self.v = np.ones((nx + 1, ny + 2)), np.zeros((nx + 2, ny + 1))
        self._star = self.u.copy(), self.v.copy()
        self._old = np.zeros_like(self.u), np.zeros_like(self.v)
        self._source = np.empty((nx, ny))
        self.pressure, self._before = np.zeros((nx, ny)), np.zeros((nx, ny))
        self.force, self._force_before = np.zeros(2), np.zeros(2)
        self.steps, self.time = 0, 0.0
        self._first = True
        self._markers: _Markers | None = None
        if body:
            self._markers = _Markers(self)
            self.project(self.u, self.v)

    def boundaries(self, u: np.ndarray, v: np.ndarray) -> None:
        """Ghost values from inflow and slip sides."""
        u[:, 0], u[:, -1] = u[:, 1], u[:, -2]
        v[0] = -v[1]

    def outflow(self, u: np.ndarray, v: np.ndarray, now: float, before: float) -> None:
        """Carry the last column out with speed U, then let as much out as comes in."""
        for field, star, old in ((self.u, u, self._old[0]), (self.v, v, self._old[1])):
            tendency = (field[-2] - field[-1]) / self.grid.dx[-1]
            star[-1] = field[-1] + now * tendency + before * old[-1]
            old[-1] = tendency
        dy = self.grid.dy
        u[-1] += ((u[0, 1:-1] - u[-1, 1:-1]) @ dy) / dy.sum()

    def project(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Make u, v free of divergence, and still at the markers, in place; gives Δt p and Σ g."""
        grid, solve, total = self.grid, self.poisson, np.zeros(2)
        _divergence(u, v, grid.dx, grid.dy, self._source, 0)
        hat = solve.sweep(self._source @ solve.modes)
        if self._markers is not None:
            part = self._markers.columns
            near = hat[part] @ solve.back
            impulse = -self._markers.inverse @ self._markers.slip(u, v, near)
            total = self._markers.spread(u, v, impulse)
            rest = np.zeros_like(hat)
            rest[part] = self._markers.outflow(impulse) @ solve.modes
            hat += solve.sweep(rest)
        p = hat @ solve.back
        _subtract_gradient(u, v, p, *self._over[2:])
        return p, total

    def step(self) -> None:
        """One time step; a state that is no longer finite ends in a RunError that names the step."""
        grid, dt = self.grid, self.dt
        now, before = (dt, 0.0) if self._first else (1.5 * dt, -0.5 * dt)
        self.boundaries(self.u, self.v)
        over_dx, over_dy, over_x, over_y = self._over
        rest = over_dy, over_x, over_y, 1 / self.reynolds, now, before
        (u, v), (old_u, old_v) = self._star, self._old
        _advance_u(self.u, self.v, u, old_u, grid.dx, *rest)
        _advance_v(self.u, self.v, v, old_v, over_dx, grid.dy, *rest)
        u[0] = self.u[0]
        self.outflow(u, v, now, before)
        impulse, total = self.project(u, v)
        self._star, self.u, self.v = (self.u, self.v), u, v
        self._before, self.pressure = self.pressure, impulse / dt
        self._force_before, self.force = self.force, -total * grid.spacing**2 / dt
        if self._first:
            self._before, self._force_before = self.pressure, self.force
        self.steps, self.time, self._first = self.steps + 1, self.time + dt, False
        if not (math.isfinite(self.force.sum()) and math.isfinite(self.pressure[-1, -1])):
            raise RunError(
                f"the flow is no longer finite after step {self.steps} (t = {self.time:.3f} D/U, Re = "
                f"{self.reynolds:g}, Δt = {dt:.4g}, finest cell {grid.spacing:.4g} D): take a smaller Δt"
            )

    def restart(self) -> None:
        """Forget the last tendency, after the state was changed by hand: the next step is first order."""
        self.project(self.u, self.v)
        self.boundaries(self.u, self.v)
        self._first = True

    def pressure_now(self) -> np.ndarray:
        """p at the time of the velocity, extrapolated from the last two half steps; its mean at outflow is zero."""
        return 1.5 * self.pressure - 0.5 * self._before

    def force_now(self) -> np.ndarray:
        """The force (2,) at the time of the velocity, extrapolated likewise."""
        return 1.5 * self.force - 0.5 * self._force_before

    def vorticity(self) -> np.ndarray:
        """ω = ∂v/∂x − ∂u/∂y on the inner corners (Nx − 1, Ny − 1), in U/D."""
        across = np.diff(self.v[1:-1, 1:-1], axis=0) / self.between_x[1:-1, None]
        return across - np.diff(self.u[1:-1, 1:-1], axis=1) / self.between_y[None, 1:-1]

    def courant(self) -> float:
        """Δt max(|u|/Δx + |v|/Δy) over the cells."""
        u = np.abs(self.u[1:, 1:-1] + self.u[:-1, 1:-1]) / (2 * self.grid.dx[:, None])
        v = np.abs(self.v[1:-1, 1:] + self.v[1:-1, :-1]) / (2 * self.grid.dy[None])
        return float((u + v).max() * self.dt)


class _Markers:
    """The cylinder as points: E, its transpose, and the inverse of E P Eᵀ, on the columns around it."""

    def __init__(self, flow: Flow) -> None:
        grid, h = flow.grid, flow.grid.spacing
        self.h, self.flow = h, flow
        radius = RADIUS - RETRACTION * h
        number = 4 * round(2 * math.pi * radius / (4 * _MARKER_SPACING * h))
        angle = 2 * math.pi * (np.arange(number) + 0.5) / number  # symmetric about both axes
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        inside_x = np.flatnonzero(np.abs(grid.x_faces) < radius + 3 * h)
        self.columns = slice(int(inside_x[0]), int(inside_x[-1]) + 1)  # cells, faces reach one further

        def weights(nodes_x: np.ndarray, nodes_y: np.ndarray) -> np.ndarray:
            along, across = ((a[:, None] - b[None]) / h for a, b in ((x, nodes_x), (y, nodes_y)))
            kernel = roma(along)[:, :, None] * roma(across)[:, None, :]
            return kernel.reshape(number, -1)

        cells = slice(self.columns.start, self.columns.stop)
        faces = slice(cells.start, cells.stop + 1)
        self.faces, self.number = faces, number
        rows = np.flatnonzero(np.abs(grid.y) < radius + 3 * h)
        self.rows = slice(int(rows[0]), int(rows[-1]) + 1)  # cells across
        self.face_rows = slice(self.rows.start, self.rows.stop + 1)
        self.to_u = weights(grid.x_faces[faces], grid.y[self.rows])
        self.to_v = weights(grid.x[cells], grid.y_faces[self.face_rows])
        columns = np.empty((2 * number, 2 * number))
        for k in range(2 * number):
            u, v = np.zeros_like(flow.u), np.zeros_like(flow.v)
            self.spread(u, v, np.eye(1, 2 * number, k)[0])
            source = np.empty((len(grid.dx), len(grid.dy)))
            _divergence(u, v, grid.dx, grid.dy, source, 0)
            columns[:, k] = self.slip(u, v, flow.poisson.solve(source)[self.columns])
        self.inverse = inv(columns)

    def _parts(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Views of the velocity around the cylinder, without ghosts."""
        return u[:, 1:-1][self.faces, self.rows], v[1:-1][self.columns, self.face_rows]

    def slip(self, u: np.ndarray, v: np.ndarray, p: np.ndarray) -> np.ndarray:
        """E (u − ∇p) at the markers (2 M,), from the pressure on the columns around the cylinder."""
        u, v = (part.copy() for part in self._parts(u, v))
        u[1:-1] -= np.diff(p[:, self.rows], axis=0) / self.h
        v[:, 1:-1] -= np.diff(p[:, self.rows], axis=1) / self.h
        return np.concatenate([self.to_u @ u.ravel(), self.to_v @ v.ravel()])

    def spread(self, u: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Add Eᵀg to the velocity in place; gives Σ g (2,)."""
        part_u, part_v = self._parts(u, v)
        part_u += (g[: self.number] @ self.to_u).reshape(part_u.shape)
        part_v += (g[self.number :] @ self.to_v).reshape(part_v.shape)
        return g.reshape(2, -1).sum(1)

    def outflow(self, g: np.ndarray) -> np.ndarray:
        """Net outflow of Eᵀg from the cells of the columns around the cylinder."""
        cells = self.columns.stop - self.columns.start
        u = np.zeros((cells + 1, self.rows.stop - self.rows.start))
        v = np.zeros((cells, u.shape[1] + 1))
        u += (g[: self.number] @ self.to_u).reshape(u.shape)
        v += (g[self.number :] @ self.to_v).reshape(v.shape)
        out = np.zeros((cells, len(self.flow.grid.dy)))
        out[:, self.rows] = (np.diff(u, axis=0) + np.diff(v, axis=1)) * self.h
        return out
