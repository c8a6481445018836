"""Smoke that rises in a closed box: inviscid Boussinesq flow on a staggered (MAC) grid, many scenes at once.

    ∂u/∂t + (u·∇)u = −∇p + b d e_y + r m (u_in − u),    ∇·u = 0,    ∂d/∂t + u·∇d = r m (1 − d)

Lengths in m, times in s; the density d of the smoke has no unit and lies in [0, 1]; b is the buoyancy (m/s²), m the
mask of the inflow, r its rate (1/s). Arrays are (B, y, x), y upwards; u sits on (B, ny, nx + 1) faces, v on
(B, ny + 1, nx). Walls and obstacles are free-slip. One step: advect, add sources, project (Stam, SIGGRAPH 1999;
scenes after Wiewel et al., Comput. Graph. Forum 38, 2019). Semi-Lagrangian advection is stable at any time step and
conserves neither the mass of smoke nor energy; MacCormack (Selle et al., J. Sci. Comput. 35, 2008), clamped to the
values around the foot, loses less of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sciencevae.errors import InputError

from .checks import check_state
from .pressure import ConjugateGradients, Cosines, Obstacles, divergence

__all__ = ["Scenes", "Smoke", "State", "random_scenes"]

CFL_MOST = 5.0
"""Cells that smoke may cross in one step: the trace back is one straight line, wrong where the flow turns."""


class State(NamedTuple):
    """Density (B, ny, nx); velocities on faces, u (B, ny, nx + 1) and v (B, ny + 1, nx), m/s, 0 on walls."""

    density: Tensor
    u: Tensor
    v: Tensor


@dataclass(frozen=True)
class Scenes:
    """What differs between the scenes of a batch; each (B,), in m, m/s, 1/s, m/s². No obstacle: radius 0."""

    inflow_x: Tensor
    inflow_y: Tensor
    inflow_radius: Tensor
    inflow_u: Tensor
    inflow_v: Tensor
    inflow_rate: Tensor
    buoyancy: Tensor
    obstacle_x: Tensor
    obstacle_y: Tensor
    obstacle_radius: Tensor

    def __len__(self) -> int:
        return len(self.inflow_x)

    def to(self, like: Tensor | torch.dtype | torch.device) -> Scenes:
        """In another dtype or on another device: where the solver works, and in what."""
        return Scenes(**{field.name: getattr(self, field.name).to(like) for field in fields(self)})


def random_scenes(number: int, seed: int, obstacles: bool = False) -> Scenes:
    """Scenes (float32) for a box of 1 m × 1 m, with an inflow somewhere low; half with an obstacle if wanted.

    Uniform: x in 0.25–0.75, y in 0.1–0.25, radius 0.06–0.1 m, |u| ≤ 0.3, v in 0–0.3 m/s, rate 4 / s, buoyancy
    0.5–1 m/s²; obstacle x in 0.3–0.7, y in 0.5–0.7, radius 0.08–0.14 m. A scene does not depend on their number.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(number, 10, generator=generator)

    def between(column: int, low: float, high: float) -> Tensor:
        return low + (high - low) * draws[:, column]

    return Scenes(
        inflow_x=between(0, 0.25, 0.75),
        inflow_y=between(1, 0.1, 0.25),
        inflow_radius=between(2, 0.06, 0.1),
        inflow_u=between(3, -0.3, 0.3),
        inflow_v=between(4, 0.0, 0.3),
        inflow_rate=torch.full((number,), 4.0),
        buoyancy=between(5, 0.5, 1.0),
        obstacle_x=between(6, 0.3, 0.7),
        obstacle_y=between(7, 0.5, 0.7),
        obstacle_radius=between(8, 0.08, 0.14) * ((draws[:, 9] < 0.5) & obstacles),
    )


class Smoke:
    """A solver for a batch of scenes in a box of ``shape`` (ny, nx) square cells of side ``spacing_m``.

    It works in the dtype and on the device of the scenes. ``pressure``: "cosines" solves the Poisson equation
    exactly, with obstacles too; "cg" is the published way, conjugate gradients down to ``tolerance``. After a step
    the divergence in units of u/Δx is about 1e-14 in float64 and 1e-6 in float32.

    Raises InputError for a time step in which smoke would cross more than 5 cells, an inflow in an obstacle or a
    wall, and a scene with numbers that are not finite or have the wrong sign.

    >>> solver = Smoke(random_scenes(2, seed=0), (32, 32), spacing_m=1 / 32, dt_s=0.05)
    >>> state = solver.step(solver.start())
    >>> float(solver.divergence(state).abs().max()) < 1e-4
    True
    """

    def __init__(
        self,
        scenes: Scenes,
        shape: tuple[int, int],
        spacing_m: float,
        dt_s: float,
        advection: Literal["semi-lagrangian", "maccormack"] = "maccormack",
        pressure: Literal["cosines", "cg"] = "cosines",
        tolerance: float = 1e-5,
    ) -> None:
        if advection not in ("semi-lagrangian", "maccormack"):
            raise InputError(f"advection: expected semi-lagrangian or maccormack, found {advection!r}")
        if pressure not in ("cosines", "cg"):
            raise InputError(f"pressure: expected cosines or cg, found {pressure!r}")
        _check(scenes, shape, spacing_m, dt_s)
        self.scenes, self.shape, self.spacing_m, self.dt_s = scenes, shape, spacing_m, dt_s
        self.second_order = advection == "maccormack"
        (ny, nx), like = shape, scenes.buoyancy
        inflow = _disc(scenes.inflow_x, scenes.inflow_y, scenes.inflow_radius, shape, spacing_m)
        solid = _disc(scenes.obstacle_x, scenes.obstacle_y, scenes.obstacle_radius, shape, spacing_m) > 0.5
        _refuse(inflow.amax((1, 2)) < 0.5, "the inflow covers no cell", "make its radius larger than a cell")
        _refuse(
            ((inflow > 0) & solid).flatten(1).any(1), "the inflow lies in the obstacle", "move one of them"
        )
        gain = -torch.expm1(-scenes.inflow_rate * dt_s)[:, None, None] * inflow  # of one step, (B, ny, nx)
        self.gain, self.gain_u, self.gain_v = gain, _to_u(gain), _to_v(gain)
        self.inflow_u, self.inflow_v = scenes.inflow_u[:, None, None], scenes.inflow_v[:, None, None]
        self.lift = scenes.buoyancy[:, None, None] * dt_s  # m/s, of one step
        self.points = {
            "density": _points(ny, nx, like),
            "u": _points(ny, nx + 1, like)[:, 1:-1],
            "v": _points(ny + 1, nx, like)[1:-1],
        }
        self.solid = solid
        self.obstacles = Obstacles(solid) if bool(solid.any()) else None
        self.project = (
            Cosines(shape, like, self.obstacles)
            if pressure == "cosines"
            else ConjugateGradients(shape, like, self.obstacles, tolerance)
        )

    def start(self) -> State:
        """Clear air at rest."""
        (ny, nx), B = self.shape, len(self.scenes)
        return State(*(self.gain.new_zeros(B, *n) for n in ((ny, nx), (ny, nx + 1), (ny + 1, nx))))

    def step(self, state: State) -> State:
        """The state one time step later."""
        d, u, v = state
        u_centre, v_centre = (u[..., 1:] + u[..., :-1]) / 2, (v[:, 1:] + v[:, :-1]) / 2
        d = self._advect("density", d, u_centre, v_centre)
        u, v = (
            self._advect("u", u, u[..., 1:-1], _to_u(v_centre)),
            self._advect("v", v, _to_v(u_centre), v[:, 1:-1]),
        )
        d = d + self.gain * (1 - d)
        if self.obstacles is not None:
            d = d * ~self.solid
        u = u + self.gain_u * (self.inflow_u - u)
        v = v + self.lift * _to_v(d)
        v = v + self.gain_v * (self.inflow_v - v)
        return State(d, *self.project(u, v))

    def run(self, frames: int, every: int, state: State | None = None) -> Iterator[State]:
        """States after 0, ``every``, 2 ``every``, … steps, ``frames`` of them, from ``state`` or clear air at rest.

        Raises RunError at a frame that is not finite, or where smoke crosses more than 5 cells in a step.
        """
        now = self.start() if state is None else state
        yield now
        for frame in range(1, frames):
            for _ in range(every):
                now = self.step(now)
            speed = now.u.abs().amax((1, 2)) + now.v.abs().amax((1, 2))
            finite = now.density.sum((1, 2)) + speed
            check_state(finite, speed * self.dt_s / self.spacing_m, CFL_MOST, frame * every, self.dt_s)
            yield now

    def divergence(self, state: State) -> Tensor:
        """∇·u, 1/s, (B, ny, nx)."""
        return divergence(state.u[..., 1:-1], state.v[:, 1:-1]) / self.spacing_m

    def centred(self, state: State) -> Tensor:
        """(u, v) at the centres of cells, m/s, (B, 2, ny, nx)."""
        u, v = state.u, state.v
        return torch.stack([(u[..., 1:] + u[..., :-1]) / 2, (v[:, 1:] + v[:, :-1]) / 2], 1)

    def _advect(self, name: str, field: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """``field`` at the feet of the straight paths that end in its inner points, where the velocity is u, v."""
        H, W = field.shape[1:]
        cells = 2 * self.dt_s / self.spacing_m
        shift = u.new_empty(*u.shape, 2)
        shift[..., 0], shift[..., 1] = u * (cells / (W - 1)), v * (cells / (H - 1))
        feet = self.points[name] - shift
        back = _sample(field, feet)
        if not self.second_order:
            return back
        rows, columns = _INNER[name]
        ahead = _sample(F.pad(back, _WALLS[name]), self.points[name] + shift)
        better = back + (field[:, rows, columns] - ahead) / 2
        # 3 × 3 values around the point nearest to the foot: the four around the foot depend, for a foot on a grid
        # line, on which side of it rounding puts it, and a symmetric flow would not stay so
        bounds = torch.stack([_around(field, torch.minimum), _around(field, torch.maximum)], 1)
        low, high = F.grid_sample(bounds, feet, "nearest", "border", align_corners=True).unbind(1)
        return better.clamp(low, high)


_INNER = {
    "density": (slice(None), slice(None)),
    "u": (slice(None), slice(1, -1)),
    "v": (slice(1, -1), slice(None)),
}
_WALLS = {"density": (0, 0, 0, 0), "u": (1, 1, 0, 0), "v": (0, 0, 1, 1)}


def _points(H: int, W: int, like: Tensor) -> Tensor:
    """Points of an array in the coordinates of ``grid_sample``, x first: (H, W, 2) in [−1, 1]."""
    y, x = (torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device) for n in (H, W))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _sample(field: Tensor, points: Tensor) -> Tensor:
    """Bilinear interpolation of (B, H, W) at (B, h, w, 2); beyond the border the value at the border."""
    return F.grid_sample(field[:, None], points, "bilinear", "border", align_corners=True)[:, 0]


def _around(field: Tensor, extreme: Callable[..., Tensor]) -> Tensor:
    """The least or largest of each point and its eight neighbours; faster than pooling."""
    rows = field.clone()
    extreme(rows[:, 1:], field[:, :-1], out=rows[:, 1:])
    extreme(rows[:, :-1], field[:, 1:], out=rows[:, :-1])
    both = rows.clone()
    extreme(both[..., 1:], rows[..., :-1], out=both[..., 1:])
    extreme(both[..., :-1], rows[..., 1:], out=both[..., :-1])
    return both


def _to_u(centred: Tensor) -> Tensor:
    return (centred[..., 1:] + centred[..., :-1]) / 2


def _to_v(centred: Tensor) -> Tensor:
    return (centred[:, 1:] + centred[:, :-1]) / 2


def _disc(x: Tensor, y: Tensor, radius: Tensor, shape: tuple[int, int], spacing_m: float) -> Tensor:
    """The share of each cell that lies within ``radius``, but for the curvature: (B, ny, nx) in [0, 1]."""
    rows, columns = ((torch.arange(n, dtype=x.dtype, device=x.device) + 0.5) * spacing_m for n in shape)
    x, y, radius = (a[:, None, None] for a in (x, y, radius))
    distance = torch.hypot(columns - x, rows[:, None] - y)
    return ((radius - distance) / spacing_m + 0.5).clamp(0, 1) * (radius > 0)


def _refuse(wrong: Tensor, what: str, remedy: str) -> None:
    """InputError about the first scene that is ``wrong`` (B,)."""
    if bool(wrong.any()):
        raise InputError(f"scene {int(wrong.nonzero()[0])}: {what}; {remedy}")


def _check(scenes: Scenes, shape: tuple[int, int], spacing_m: float, dt_s: float) -> None:
    if min(shape) < 4:
        raise InputError(f"a grid of at least 4 × 4 cells is needed, found {shape}")
    if not (0 < spacing_m < math.inf and 0 < dt_s < math.inf):
        raise InputError(f"spacing and time step must be positive, found {spacing_m:g} m and {dt_s:g} s")
    for each in fields(scenes):
        values = getattr(scenes, each.name)
        _refuse(~values.isfinite(), f"{each.name} is not finite", "give a number for every scene")
        if each.name in ("inflow_radius", "inflow_rate", "obstacle_radius"):
            _refuse(values < 0, f"{each.name} is negative", "give 0 or more")
    height, width = (n * spacing_m for n in shape)
    for position, length in ((scenes.inflow_x, width), (scenes.inflow_y, height)):
        outside = (position < scenes.inflow_radius) | (position > length - scenes.inflow_radius)
        _refuse(outside, "the inflow reaches into a wall", f"keep it within {width:g} m × {height:g} m")
    fall = (2 * scenes.buoyancy.abs() * height).sqrt()  # what smoke reaches that rises from floor to ceiling
    speed = torch.maximum(fall, torch.hypot(scenes.inflow_u, scenes.inflow_v))
    longest = CFL_MOST * spacing_m / float(speed.max().clamp(min=1e-12))
    _refuse(
        speed * dt_s > CFL_MOST * spacing_m,
        f"smoke would cross more than {CFL_MOST:g} cells in a step of {dt_s:g} s",
        f"take at most {longest:.2g} s",
    )
