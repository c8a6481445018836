"""The generator of cylinder wakes: vortex shedding from the steady flow to the saturated cycle, in HDF5.

    python -m sciencevae.builtin.fluids.cylinder wakes.h5 --reynolds 60 80 100 --starts 2 --seed 0

Lengths are in diameters D, speeds in U, times in D/U. Each run begins at the steady symmetric flow of its
Reynolds number, unstable above Re ≈ 47, with a small eddy put into the wake at a random place. The solver is
``immersed``; ``benchmarks/fluids_cylinder.py`` gives its convergence in grid, time step and domain.

Called by ``fetch`` for a manifest with ``generate: {command: sciencevae.builtin.fluids.cylinder}``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.optimize import brentq

from sciencevae.data.generate import chosen_parameters
from sciencevae.errors import InputError

from .immersed import RADIUS, Flow
from .staggered import Grid

__all__ = ["DEFAULTS", "VERSION", "Channel", "Window", "generate", "perturb", "start", "steady"]

VERSION: int = 1
"""Raised whenever the same parameters and seed would give other fields."""

DEFAULTS: dict[str, Any] = {
    "reynolds": [60, 70, 80, 90, 100, 110, 120, 130, 140],
    "starts": 2,
    "duration": 200.0,
    "every": 0.25,
    "cells": 20,
    "height": 40.0,
    "upstream": 20.0,
    "downstream": 25.0,
}

_BLOCKAGE = 0.05  # D / height: there the Strouhal number at Re = 100 is 0.170, in a wide channel 0.165
_UNIFORM = 0.75  # D on each side of the axis with the finest spacing
_GROWTH = {"upstream": 0.8, "downstream": 0.15, "side": 0.8}  # of the spacing, in spacings for each D
_COURANT, _SPEED = 0.5, 1.6  # the limit of Adams–Bashforth; the largest |u| + |v| beside a cylinder, in U
_SETTLE = 200.0  # D/U until the symmetric flow is steady


@dataclass(frozen=True)
class Channel:
    """A channel with the cylinder at the origin: its size in D, and the cells on a diameter.

    Beyond 0.75 D of the cylinder the spacing grows by a given number of spacings for each D, whatever the
    number of cells, so that grids of one channel refine alike.
    """

    height: float = 40.0
    upstream: float = 20.0
    downstream: float = 25.0
    cells: int = 20

    def __post_init__(self) -> None:
        if not (min(self.upstream, self.downstream) >= 2 and self.height >= 4):
            raise InputError(
                f"the channel is too small: height {self.height:g}, upstream {self.upstream:g} and downstream "
                f"{self.downstream:g} D must be at least 4, 2 and 2"
            )

    def grid(self) -> Grid:
        """The cells, finest around the cylinder."""
        h = 1 / self.cells
        half = round(_UNIFORM * self.cells)
        middle = h * np.arange(-half, half + 1)
        x = [-self._stretch(self.upstream, half * h, "upstream")[::-1], middle]
        side = self._stretch(self.height / 2, half * h, "side")
        x.append(self._stretch(self.downstream, half * h, "downstream"))
        return Grid(np.concatenate(x), np.concatenate([-side[::-1], middle, side]))

    def _stretch(self, end: float, begin: float, towards: str) -> np.ndarray:
        """Faces from ``begin`` to ``end``, dx/dk = h (1 + growth (x − begin))."""
        h, growth, length = 1 / self.cells, _GROWTH[towards], end - begin
        number = math.ceil(math.log1p(growth * length) / (growth * h))

        def excess(growth: float) -> float:
            return math.log1p(growth * length) / (growth * h) - number

        growth = brentq(excess, 1e-9, growth)  # a little less, so that the last face lies at the end
        return begin + np.expm1(growth * h * np.arange(1, number + 1)) / growth

    def limit(self, reynolds: float) -> float:
        """The largest stable time step in D/U: of advection, and of viscosity (h² Re / 8)."""
        h = 1 / self.cells
        return min(_COURANT * h / _SPEED, 0.8 * h**2 * reynolds / 8)

    def check(self, reynolds: float, dt: float | None = None, blockage: float = _BLOCKAGE) -> None:
        """Refuse by name what would give a wrong wake, or none: grid, blockage, time step."""
        if not 1 <= reynolds <= 190:
            raise InputError(
                f"Re = {reynolds:g}: expected 1 to 190, above which the wake is no longer two-dimensional"
            )
        if self.cells < math.sqrt(reynolds):
            raise InputError(
                f"{self.cells} cells on a diameter do not resolve the boundary layer, D/√Re = "
                f"{1 / math.sqrt(reynolds):.3f} D at Re = {reynolds:g}: take at least "
                f"{math.ceil(math.sqrt(reynolds))}, better twice that"
            )
        if 1 / self.height > blockage:
            raise InputError(
                f"a channel {self.height:g} D high has a blockage of {100 / self.height:.1f} %, above "
                f"{100 * blockage:.1f} %: take a height of at least {1 / blockage:g} D, or allow the blockage"
            )
        if dt is not None and not 0 < dt <= self.limit(reynolds) * (1 + 1e-9):
            advection, viscous = dt * _SPEED * self.cells, 8 * dt * self.cells**2 / reynolds
            raise InputError(
                f"a time step of {dt:.4g} D/U is unstable with {self.cells} cells on a diameter at Re = "
                f"{reynolds:g}: Courant number {advection:.2f} (at most {_COURANT:g}), viscous number "
                f"{viscous:.2f} (at most 0.8); take a Δt of at most {self.limit(reynolds):.4g} D/U"
            )


@dataclass(frozen=True)
class Window:
    """A uniform grid of cell centres in the wake, on which fields are stored; lengths in D."""

    left: float = -2.0
    right: float = 14.0
    half_height: float = 4.0
    columns: int = 128
    rows: int = 64

    @property
    def x(self) -> np.ndarray:
        edges = np.linspace(self.left, self.right, self.columns + 1)
        return (edges[1:] + edges[:-1]) / 2

    @property
    def y(self) -> np.ndarray:
        edges = np.linspace(-self.half_height, self.half_height, self.rows + 1)
        return (edges[1:] + edges[:-1]) / 2

    @property
    def solid(self) -> np.ndarray:
        """Where the cylinder is (rows, columns)."""
        return np.hypot(self.x, self.y[:, None]) < RADIUS

    def reader(self, grid: Grid) -> Callable[[Flow], tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The cubic-spline reading of a flow: velocity (2, rows, columns), vorticity, pressure; 0 if solid."""
        if self.left < grid.x[0] or self.right > grid.x[-1] or self.half_height > grid.y[-1]:
            raise InputError(
                f"the window x = {self.left:g} to {self.right:g}, |y| ≤ {self.half_height:g} D reaches out of "
                f"the channel, x = {grid.x_faces[0]:g} to {grid.x_faces[-1]:g}, |y| ≤ {grid.y_faces[-1]:g} D"
            )

        def spline(nodes: np.ndarray, at: np.ndarray) -> np.ndarray:
            return np.asarray(make_interp_spline(nodes, np.eye(len(nodes)), k=3)(at))  # (at, nodes)

        x_faces, x_centres = spline(grid.x_faces, self.x), spline(grid.x, self.x)
        y_faces, y_centres = spline(grid.y_faces, self.y), spline(grid.y, self.y)
        x_inner, y_inner = spline(grid.x_faces[1:-1], self.x), spline(grid.y_faces[1:-1], self.y)
        fluid = ~self.solid

        def read(flow: Flow) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            u = y_centres @ flow.u[:, 1:-1].T @ x_faces.T
            v = y_faces @ flow.v[1:-1].T @ x_centres.T
            vorticity = y_inner @ flow.vorticity().T @ x_inner.T
            pressure = y_centres @ flow.pressure_now().T @ x_centres.T
            return np.stack([u, v]) * fluid, vorticity * fluid, pressure * fluid

        return read


def start(channel: Channel, reynolds: float, every: float = 1.0, blockage: float = _BLOCKAGE) -> Flow:
    """A flow set off at once from U everywhere, with the longest stable time step that divides ``every``."""
    channel.check(reynolds, blockage=blockage)
    return Flow(channel.grid(), reynolds, every / math.ceil(every / channel.limit(reynolds)))


def steady(flow: Flow, time: float = _SETTLE) -> Flow:
    """March to the steady flow, stable or not: fields are made even and odd about the axis now and then."""
    for step in range(round(time / flow.dt)):
        flow.step()
        if step % 50 == 0:
            flow.u[:] = (flow.u + flow.u[:, ::-1]) / 2
            flow.v[:] = (flow.v - flow.v[:, ::-1]) / 2
    return flow


def perturb(flow: Flow, amplitude: float, x: float) -> Flow:
    """Add an eddy on the axis: stream function amplitude exp(−|r − (x, 0)|²), in UD, which has no divergence."""
    grid = flow.grid
    psi = amplitude * np.exp(-((grid.x_faces[:, None] - x) ** 2) - grid.y_faces**2)
    flow.u[:, 1:-1] += np.diff(psi, axis=1) / grid.dy
    flow.v[1:-1] -= np.diff(psi, axis=0) / grid.dx[:, None]
    flow.restart()
    return flow


def _run(flow: Flow, window: Window, frames: int, every: float) -> Iterator[dict[str, np.ndarray]]:
    """The frames of a run; the first after one step, which gives the pressure of the perturbed flow."""
    read, steps = window.reader(flow.grid), round(every / flow.dt)
    for frame in range(frames):
        for _ in range(steps if frame else 1):
            flow.step()
        drag, lift = 2 * flow.force_now()
        yield dict(zip(_FIELDS, (*read(flow), drag, lift), strict=True))


_FIELDS = {  # name: (dimensions, unit, meaning)
    "velocity": ("run t component y x", "U", "velocity (x, y); 0 in the cylinder"),
    "vorticity": ("run t y x", "U/D", "vorticity dv/dx - du/dy; 0 in the cylinder"),
    "pressure": ("run t y x", "rho U^2", "pressure above its mean at outflow; 0 in the cylinder"),
    "drag": ("run t", "1", "drag coefficient, force along x over rho U^2 D / 2"),
    "lift": ("run t", "1", "lift coefficient, force along y over rho U^2 D / 2"),
}
_RUNS = {
    "reynolds": ("1", "U D / kinematic viscosity"),
    "amplitude": ("U D", "of the stream function of the first eddy"),
    "place": ("D", "x of the first eddy"),
    "time_step": ("D/U", "of the solver"),
}


def generate(
    path: Path, parameters: Mapping[str, Any], seed: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write wakes of a cylinder to ``path`` (HDF5), run by run: until the end it holds the finished ones.

    ``parameters``: reynolds (a list), starts (runs for each), duration and every (of a run and between its
    frames, D/U), cells (on a diameter), height, upstream, downstream (of the channel, D); what is absent has
    its value in DEFAULTS.

    Datasets, n runs of T frames: velocity (n, T, 2, 64, 128), vorticity and pressure (n, T, 64, 128), all
    float32, drag and lift (n, T); time (T,), x (128,), y (64,), solid (64, 128); reynolds, amplitude, place
    and time_step (n,). A run is one group: frames of it belong on one side of a split.
    """
    chosen = chosen_parameters("cylinder flows", parameters, DEFAULTS)
    channel = Channel(*(chosen[key] for key in ("height", "upstream", "downstream", "cells")))
    numbers, starts = [float(number) for number in chosen["reynolds"]], int(chosen["starts"])
    duration, every = float(chosen["duration"]), float(chosen["every"])
    if not (numbers and starts >= 1 and duration >= every > 0):
        raise InputError(
            "expected one Reynolds number, one start and one frame at least (duration ≥ every > 0)"
        )
    for reynolds in numbers:
        channel.check(reynolds)
    window, frames = Window(), round(duration / every)
    with h5py.File(path, "w") as file:
        _create(file, window, np.arange(frames) * every, chosen, seed)
    symmetric: dict[float, tuple[np.ndarray, np.ndarray]] = {}
    for run in range(starts * len(numbers)):
        reynolds = numbers[run % len(numbers)]
        flow = start(channel, reynolds, every)
        if reynolds in symmetric:
            flow.u[:], flow.v[:] = symmetric[reynolds]
        else:
            steady(flow)
            symmetric[reynolds] = flow.u.copy(), flow.v.copy()
        random = np.random.default_rng([seed, run])
        amplitude = random.choice([-1, 1]) * 10 ** random.uniform(-3, -1.5)
        place = random.uniform(1, 5)
        found = list(_run(perturb(flow, amplitude, place), window, frames, every))
        with h5py.File(path, "r+") as file:
            for name in _FIELDS:
                file[name].resize(run + 1, axis=0)
                file[name][run] = np.stack([frame[name] for frame in found])
            for name, value in zip(_RUNS, (reynolds, amplitude, place, flow.dt), strict=True):
                file[name].resize(run + 1, axis=0)
                file[name][run] = value
        if progress:
            progress(run + 1, starts * len(numbers))


def _create(
    file: h5py.File, window: Window, time: np.ndarray, parameters: Mapping[str, Any], seed: int
) -> None:
    """Everything but the runs."""
    sizes = {"component": 2, "y": window.rows, "x": window.columns}
    fixed = {
        "time": (time, "t", "D/U", "since the first frame"),
        "x": (window.x, "x", "D", "downstream of the axis"),
        "y": (window.y, "y", "D", "across"),
        "solid": (window.solid, "y x", "1", "centre of the cell inside the cylinder"),
    }
    for name, (values, dims, units, meaning) in fixed.items():
        file[name] = values
        _describe(file[name], dims, units, meaning)
    for name, (dims, units, meaning) in _FIELDS.items():
        shape = (len(time), *(sizes[dim] for dim in dims.split()[2:]))
        chunks = (1, min(16, len(time)), *shape[1:])
        packed = {"chunks": chunks, "compression": "gzip", "compression_opts": 1, "shuffle": True}
        file.create_dataset(name, (0, *shape), "f4", maxshape=(None, *shape), **packed)
        _describe(file[name], dims, units, meaning)
    for name, (units, meaning) in _RUNS.items():
        file.create_dataset(name, (0,), "f8", maxshape=(None,))
        _describe(file[name], "run", units, meaning)
    file.attrs.update(
        kind="cylinder",
        title="Wakes of a circular cylinder, from the steady flow to vortex shedding",
        boundary_x="replicate",
        boundary_y="replicate",
        seed=seed,
        version=VERSION,
        parameters=json.dumps(parameters),
    )


def _describe(dataset: h5py.Dataset, dims: str, units: str, meaning: str) -> None:
    dataset.attrs.update(units=units, long_name=meaning, dims=dims.split())
    for axis, name in enumerate(dims.split()):
        dataset.dims[axis].label = name


def main(arguments: list[str] | None = None) -> None:
    """Write a file from the command line."""
    import argparse

    from sciencevae.data.generate import generate_file

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("path", type=Path, help="HDF5 file to write")
    parser.add_argument("--reynolds", type=float, nargs="+", default=DEFAULTS["reynolds"])
    parser.add_argument("--starts", type=int, default=DEFAULTS["starts"], help="for each Reynolds number")
    parser.add_argument("--duration", type=float, default=DEFAULTS["duration"], help="of a run, D/U")
    parser.add_argument("--every", type=float, default=DEFAULTS["every"], help="time between frames, D/U")
    parser.add_argument("--cells", type=int, default=DEFAULTS["cells"], help="on a diameter")
    parser.add_argument("--height", type=float, default=DEFAULTS["height"], help="of the channel, D")
    parser.add_argument("--upstream", type=float, default=DEFAULTS["upstream"], help="length, D")
    parser.add_argument("--downstream", type=float, default=DEFAULTS["downstream"], help="length, D")
    parser.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args(arguments))
    path, seed = given.pop("path"), given.pop("seed")

    generate_file(generate, path, given, seed)


if __name__ == "__main__":
    main()
