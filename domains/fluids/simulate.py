"""The generator of flows: runs one of our solvers and writes the frames of all runs into one HDF5 file.

    python -m sciencevae.builtin.fluids.simulate smoke.h5 --kind smoke --runs 64 --frames 61 --every 5 --seed 1
    python -m sciencevae.builtin.fluids.simulate flow.h5 --kind spectral --set force='"kolmogorov"'

Called by ``fetch`` for a manifest whose source is ``generate: {command: sciencevae.builtin.fluids.simulate}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields as fields_of
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sciencevae.data.generate import chosen_parameters
from sciencevae.errors import InputError, did_you_mean

__all__ = ["KINDS", "VERSION", "Plan", "generate"]

VERSION: int = 1
"""Raised whenever the same parameters and seed would give other frames."""

_BATCH = 16  # runs at once: what the solvers work on stays in the processor's cache
_COMMON = {"runs": 16, "frames": 41, "every": 5, "skip": 0}
_DIMS = {"run": "run", "time": "t", "x": "x", "y": "y"}
_FIELDS = {  # name: (dimensions, unit, meaning)
    "density": ("run t y x", "1", "density of smoke"),
    "velocity": ("run t component y x", "m/s", "velocity (x, y) at the centres of cells"),
    "vorticity": ("run t y x", "1/s", "vorticity dv/dx - du/dy"),
    "solid": ("run y x", "1", "1 in an obstacle"),
}


class Plan(NamedTuple):
    """What a kind of flow makes of its parameters.

    time (t,) s, y (y,) and x (x,) m; of_runs: parameter: (values (run,), unit); boundary: what is beyond the edges,
    ``periodic`` or ``replicate`` (a wall); blocks: for runs in order, (b, t, y, x) arrays by the names of fields.
    """

    time: np.ndarray
    y: np.ndarray
    x: np.ndarray
    of_runs: dict[str, tuple[np.ndarray, str]]
    boundary: str
    blocks: Iterator[dict[str, np.ndarray]]


def _smoke(chosen: Mapping[str, Any], seed: int) -> Plan:
    from .smoke import Scenes, Smoke, random_scenes

    n, runs = int(chosen["points"]), int(chosen["runs"])
    dt, every, skip = float(chosen["dt_s"]), int(chosen["every"]), int(chosen["skip"])
    scenes = random_scenes(runs, seed, bool(chosen["obstacles"]))
    units = {"u": "m/s", "v": "m/s", "rate": "1/s", "buoyancy": "m/s2"}

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for first in range(0, runs, _BATCH):
            part = Scenes(
                **{f.name: getattr(scenes, f.name)[first : first + _BATCH] for f in fields_of(scenes)}
            )
            solver = Smoke(part, (n, n), 1 / n, dt, chosen["advection"])
            *_, start = solver.run(2, skip) if skip else [solver.start()]
            states = list(solver.run(int(chosen["frames"]), every, start))
            found = {
                "density": np.stack([state.density.numpy() for state in states], 1),
                "velocity": np.stack([solver.centred(state).numpy() for state in states], 1),
            }
            if chosen["obstacles"]:
                found["solid"] = solver.solid.numpy()
            yield found

    centres = (np.arange(n) + 0.5) / n
    of_runs = {
        f.name: (getattr(scenes, f.name).numpy(), units.get(f.name.split("_")[-1], "m"))
        for f in fields_of(scenes)
        if chosen["obstacles"] or not f.name.startswith("obstacle")
    }
    return Plan(_times(chosen, dt), centres, centres, of_runs, "replicate", blocks())


def _spectral(chosen: Mapping[str, Any], seed: int) -> Plan:
    import torch

    from .spectral import Kolmogorov, Ring, Spectral, random_vorticity

    n, runs, length = int(chosen["points"]), int(chosen["runs"]), float(chosen["length_m"])
    dt, every, skip = float(chosen["dt_s"]), int(chosen["every"]), int(chosen["skip"])
    low, high = (float(each) for each in chosen["viscosity"])
    draw = np.random.default_rng(seed).random(runs)
    viscosity = torch.tensor(low * (high / low) ** draw, dtype=torch.float32)  # uniform in its logarithm
    starts = random_vorticity(runs, n, seed, float(chosen["peak"]), float(chosen["energy"]), length)
    strength, k = float(chosen["strength"]), int(chosen["wavenumber"])

    if chosen["force"] not in ("none", "kolmogorov", "ring"):
        known = did_you_mean(str(chosen["force"]), ("none", "kolmogorov", "ring"))
        raise InputError(f"no force {chosen['force']!r}{known}")

    def force(first: int, number: int) -> Kolmogorov | Ring | None:
        each = torch.full((number,), strength)
        if chosen["force"] == "kolmogorov":
            return Kolmogorov(each, k)
        return Ring(each, k - 0.5, k + 0.5, seed, first) if chosen["force"] == "ring" else None

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for first in range(0, runs, _BATCH):
            rows = slice(first, min(first + _BATCH, runs))
            pushed = force(first, rows.stop - first)
            solver = Spectral(viscosity[rows], n, dt, length, float(chosen["friction"]), pushed)
            start = solver.start(starts[rows])
            if skip:
                _, start = solver.run(start, 2, skip)
            spectra = list(solver.run(start, int(chosen["frames"]), every))
            yield {
                "vorticity": np.stack([solver.vorticity(each).numpy() for each in spectra], 1),
                "velocity": np.stack([solver.velocity(each).numpy() for each in spectra], 1),
            }

    points = np.arange(n) / n * length
    of_runs = {"viscosity": (viscosity.numpy(), "m2/s")}
    return Plan(_times(chosen, dt), points, points, of_runs, "periodic", blocks())


KINDS: dict[str, tuple[dict[str, Any], Callable[[Mapping[str, Any], int], Plan]]] = {
    "smoke": (
        {**_COMMON, "points": 64, "dt_s": 0.02, "advection": "maccormack", "obstacles": False},
        _smoke,
    ),
    "spectral": (
        {
            **_COMMON, "points": 64, "dt_s": 0.02, "length_m": 2 * np.pi, "viscosity": [1e-3, 1e-3],
            "friction": 0.0, "peak": 4.0, "energy": 0.5, "force": "none", "strength": 0.1, "wavenumber": 4,
        },
        _spectral,
    ),
}  # fmt: skip
"""Kind of flow: its parameters with their defaults, and what plans its runs."""


def generate(
    path: Path, parameters: Mapping[str, Any], seed: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write runs of a flow to ``path`` (HDF5, float32).

    ``parameters``: kind (a key of KINDS), runs, frames (of each run), every (steps from frame to frame), skip
    (steps before the first frame), points (a side), dt_s, and what the kind has in KINDS beside these; None means
    the kind's default. The same parameters and seed give the same runs, however many there are.

    Datasets: density or vorticity (run, t, y, x), velocity (run, t, component, y, x), solid (run, y, x) where there
    are obstacles, time (t,), y, x, and the parameters of each run (run,), all with ``units`` and named dimensions.

    Raises InputError for an unknown kind or parameter, and what the solvers raise.
    """
    import h5py

    parameters = {name: value for name, value in parameters.items() if value is not None}
    kind = str(parameters.get("kind", "smoke"))
    if kind not in KINDS:
        raise InputError(f"no kind of flow {kind!r}{did_you_mean(kind, KINDS)}")
    defaults, plan_of = KINDS[kind]
    chosen = chosen_parameters(kind, parameters, defaults | {"kind": kind})
    for name, least in {"runs": 1, "frames": 1, "every": 1, "skip": 0}.items():
        if int(chosen[name]) < least:
            raise InputError(f"{name} must be at least {least}, found {chosen[name]}")
    plan, runs = plan_of(chosen, seed), int(chosen["runs"])
    blocks = chain([next(plan.blocks)], plan.blocks)  # what a solver refuses is told before there is a file
    with h5py.File(path, "w") as file:

        def put(name: str, values: np.ndarray, dims: str, units: str, meaning: str) -> None:
            if name not in file:
                chunks = (1, *values.shape[1:]) if values.ndim > 1 else None
                chunks = (1, min(16, values.shape[1]), *values.shape[2:]) if values.ndim > 3 else chunks
                shape, packed = (runs, *values.shape[1:]), {"compression": "gzip", "compression_opts": 1}
                file.create_dataset(name, shape, values.dtype, chunks=chunks, shuffle=True, **packed)
                _describe(file[name], dims, units, meaning)
            file[name][done : done + len(values)] = values

        done = 0
        for block in blocks:
            for name, values in block.items():
                put(name, values, *_FIELDS[name])
            done += len(values)
            if progress:
                progress(done, runs)
        file["component"] = np.array(["x", "y"], dtype=h5py.string_dtype())
        _describe(file["component"], "component", "1", "component of a vector")
        for name, values in {"time": plan.time, "y": plan.y, "x": plan.x}.items():
            file[name] = values
            _describe(file[name], _DIMS[name], "s" if name == "time" else "m", name)
        for name, (values, units) in plan.of_runs.items():
            file[name] = values
            _describe(file[name], "run", units, name.replace("_", " "))
        file.attrs.update(
            kind=kind, seed=seed, version=VERSION, boundary_x=plan.boundary, boundary_y=plan.boundary,
            parameters=json.dumps({"kind": kind, **chosen}),
        )  # fmt: skip


def _describe(dataset: Any, dims: str, units: str, meaning: str) -> None:
    dataset.attrs.update(units=units, long_name=meaning, dims=dims.split())
    for axis, name in enumerate(dims.split()):
        dataset.dims[axis].label = name


def _times(chosen: Mapping[str, Any], dt: float) -> np.ndarray:
    return (int(chosen["skip"]) + np.arange(int(chosen["frames"])) * int(chosen["every"])) * dt


def main(arguments: list[str] | None = None) -> None:
    """Write a file from the command line."""
    import argparse

    from sciencevae.data.generate import generate_file

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("path", type=Path, help="HDF5 file to write")
    parser.add_argument("--kind", default="smoke", choices=KINDS)
    parser.add_argument("--runs", type=int, default=_COMMON["runs"])
    parser.add_argument("--frames", type=int, default=_COMMON["frames"], help="of each run")
    parser.add_argument(
        "--every", type=int, default=_COMMON["every"], help="solver steps from frame to frame"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="another parameter of the kind, as points=128",
    )
    given = vars(parser.parse_args(arguments))
    path, seed = given.pop("path"), given.pop("seed")
    for text in given.pop("set"):
        name, _, value = text.partition("=")
        try:
            given[name] = json.loads(value)
        except json.JSONDecodeError as error:
            raise InputError(
                f"--set {text}: what follows = is to be JSON, as 128, true or '\"ring\"'"
            ) from error

    generate_file(generate, path, given, seed)


if __name__ == "__main__":
    main()
