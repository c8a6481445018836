"""Incompressible flow past a circular cylinder in a channel: staggered grid, immersed-boundary projection.

    ∂u/∂t + ∇·(uu) = −∇p + ∇²u / Re + f,    ∇·u = 0,    E u = 0 on the cylinder

in units of the diameter D, the inflow U and ρ = 1, on the grid of ``staggered``, by second-order
Adams–Bashforth. The pressure p and the surface force f are the Lagrange multipliers of the two constraints
(Taira and Colonius):

    u* = uⁿ + Δt (3/2 Nⁿ − 1/2 Nⁿ⁻¹),    uⁿ⁺¹ = P (u* + Eᵀg),    (E P Eᵀ) g = −E P u*

with P the projection on fields without divergence and E the interpolation to the markers on the cylinder. As
N holds advection and viscosity, the step has no splitting error: both constraints hold to round-off, and p and
f are second order at the middle of the step. E P Eᵀ is a small matrix, inverted once; P is a direct solve.

At inflow u = U, v = 0; at the sides slip (v = 0, ∂u/∂y = 0); at outflow
∂u/∂t + U ∂u/∂x = 0.

References: Taira and Colonius (2007) J. Comput. Phys. 225, 2118; Roma, Peskin and Berger (1999) J. Comput.
Phys. 153, 509 (the kernel of E); Breugem (2012) J. Comput. Phys. 231, 4469 (retracted markers).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import inv

from sciencevae.errors import RunError

from .staggered import Grid, Poisson, advance_u, advance_v, between, net_outflow, subtract_gradient

__all__ = ["RADIUS", "RETRACTION", "Flow", "roma"]

RADIUS: float = 0.5
"""Of the cylinder, in diameters."""

RETRACTION: float = 0.3116
"""How far inside the wall the markers lie, in spacings: ½ E|r − r'| with r, r' drawn from the kernel of E.

Note 1. A force spread over the kernel moves the place where a sheared flow extrapolates to zero outwards by
this much, which makes markers on the wall first order (Breugem found 0.3 spacings by trial, for this kernel).
"""

_MARKER_SPACING = 1.5  # in grid spacings; closer markers make E P Eᵀ ill-conditioned
_EVERY, _COURANT = 20, 0.9  # steps between looks at the Courant number, and its limit


def roma(r: np.ndarray) -> np.ndarray:
    """The three-point smoothed delta function of Roma et al., eq. 22; r in grid spacings."""
    r = np.abs(r)
    near = (1 + np.sqrt(np.maximum(1 - 3 * r**2, 0))) / 3
    far = (5 - 3 * r - np.sqrt(np.maximum(1 - 3 * (1 - r) ** 2, 0))) / 6
    return np.where(r <= 0.5, near, np.where(r < 1.5, far, 0.0))


class Flow:
    """The state of one flow past the cylinder at the origin, and its time step.

    u, v lie on the grid as ``staggered`` says; pressure in ρU² and force (2,) on the cylinder in ρU²D belong to
    the middle of the last step. ``dt`` in D/U. Within three spacings of the cylinder the cells must be equal
    squares. ``body=False`` leaves the cylinder out.
    """

    def __init__(self, grid: Grid, reynolds: float, dt: float, body: bool = True) -> None:
        self.grid, self.reynolds, self.dt = grid, reynolds, dt
        self.between_x, self.between_y = between(grid.dx), between(grid.dy)
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
        net_outflow(u, v, grid.dx, grid.dy, self._source)
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
        subtract_gradient(u, v, p, *self._over[2:])
        return p, total

    def step(self) -> None:
        """One time step; RunError names the step at which the state is not finite, or too fast for Δt."""
        grid, dt = self.grid, self.dt
        now, before = (dt, 0.0) if self._first else (1.5 * dt, -0.5 * dt)
        self.boundaries(self.u, self.v)
        over_dx, over_dy, over_x, over_y = self._over
        rest = over_dy, over_x, over_y, 1 / self.reynolds, now, before
        (u, v), (old_u, old_v) = self._star, self._old
        advance_u(self.u, self.v, u, old_u, grid.dx, *rest)
        advance_v(self.u, self.v, v, old_v, over_dx, grid.dy, *rest)
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
            raise RunError(f"the flow is no longer finite after {self._place()}: take a smaller Δt")
        if self.steps % _EVERY == 1 and self.courant() > _COURANT:
            raise RunError(
                f"the Courant number is {self.courant():.2f}, above {_COURANT:g}, after {self._place()}: take a "
                f"Δt of {0.5 * dt / self.courant():.2g} D/U"
            )

    def _place(self) -> str:
        return (
            f"step {self.steps} (t = {self.time:.3f} D/U, Re = {self.reynolds:g}, Δt = {self.dt:.4g} D/U, "
            f"finest cell {self.grid.spacing:.4g} D)"
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
            net_outflow(u, v, grid.dx, grid.dy, source)
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
