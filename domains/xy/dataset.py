"""From raw configurations to the prepared data set, and a user's own configurations block by block."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from sciencevae.data.arrays import Arrays, write_arrays
from sciencevae.data.sequential import in_memory_if_small, lazily
from sciencevae.errors import InputError

from . import observables as xy
from .settings import XY

__all__ = ["prepare", "read", "write"]

_ROWS = 4096
_SIMULATED = (
    "theta",
    "temperature",
    "chain",
    "energy",
    "vortex_density",
    "bond_sums",
    "magnetisation",
    "chain_temperature",
    "tau_int",
)
_BONDS = ("cos_x", "cos_y", "sin_x", "sin_y")


def prepare(settings: XY, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """The Dataset of a simulation: x (sample, channel, row, column) in radians, ``condition`` = T.

    Coordinates: temperature, group (the chain), energy, magnetisation (its length), vortex_density and the bond
    sums cos_x, cos_y, sin_x, sin_y of each configuration. Of each temperature the chains are dealt out to
    train, valid and test; every chain of a temperature in ``held_out`` is in test.

    ``input``: a file of the generator's layout (``python -m sciencevae.builtin.xy.simulate FILE``).
    """
    path = input if input is not None else files["xy.h5"]
    with Arrays(path, "theta") as file:
        if missing := [name for name in _SIMULATED if name not in file]:
            raise InputError(
                f"{path} has no array {missing[0]!r}, which a simulation has (python -m "
                "sciencevae.builtin.xy.simulate); configurations alone are read by encode, score and decode"
            )
        rows, chain = len(file["theta"]), file["chain"][:].astype(np.int64)
        chain_temperature, tau = file["chain_temperature"][:], file["tau_int"][:]
        lattice, seed = int(file.attrs["lattice"]), int(file.attrs["seed"])
        provenance: dict[str, object] = {
            "simulation": {key: _plain(value) for key, value in file.attrs.items()}
        }
    if lattice != settings.source.lattice:
        raise InputError(
            f"the file has lattice {lattice}, the settings source.lattice={settings.source.lattice}"
        )
    split = _split(chain_temperature, settings)[chain]
    provenance |= {"seed": seed, "tau_int": {"median": float(np.median(tau)), "largest": float(tau.max())}}
    group = ("sample", chain, {"units": "1", "long_name": "Markov chain"})
    return in_memory_if_small(
        lazily(lambda: _simulated(path), rows)
        .assign_coords(split=("sample", split), group=group)
        .assign_attrs(provenance=json.dumps(provenance))
    )


def _simulated(path: Path) -> Iterator[xr.Dataset]:
    """The configurations of a simulation with what was measured of each, block by block."""
    with Arrays(path, "theta") as file:
        for start in range(0, len(file["theta"]), _ROWS):
            rows = slice(start, start + _ROWS)
            temperature, sums = file["temperature"][rows], file["bond_sums"][rows]
            coords = {
                "temperature": (temperature, "J / k_B", "temperature"),
                "energy": (file["energy"][rows], "J", "energy per site"),
                "magnetisation": (np.hypot(*file["magnetisation"][rows].T), "1", "magnetisation per site"),
                "vortex_density": (file["vortex_density"][rows], "1", "vortices and antivortices per site"),
                **{name: (sums[:, k], "1", f"bond sum {name}") for k, name in enumerate(_BONDS)},
            }
            named = {
                k: ("sample", v, {"units": unit, "long_name": name}) for k, (v, unit, name) in coords.items()
            }
            yield _dataset(file["theta"][rows], temperature).assign_coords(named)


def read(path: Path, settings: XY, template: xr.Dataset | None = None) -> Iterator[xr.Dataset]:
    """A user's configurations in blocks, from HDF5 or .npz (``theta``, ``temperature``) or .npy.

    theta (n, L, L), radians, any multiple of 2π; every row stays, one that is not finite as NaN with a
    reason in ``status``. A model that is told the temperature needs ``temperature`` (n,) too.
    """
    path = Path(path)
    with Arrays(path, "theta") as file:
        yield from _blocks(file, path, settings)


def write(data: xr.Dataset, path: Path) -> None:
    """Decoded or sampled configurations as ``theta`` (n, L, L), rad, in .npz or .npy; ``read`` takes them back."""
    write_arrays(path, "theta", data["x"].values[:, 0])


def _blocks(source: Arrays, path: Path, settings: XY) -> Iterator[xr.Dataset]:
    name = "theta" if "theta" in source else "x"  # x (n, 1, L, L) is how ``decode`` and ``sample`` write HDF5
    if name not in source:
        raise InputError(
            f"{path} has no array 'theta' (n, L, L) of spin angles in radians; found {list(source)}"
        )
    side = settings.source.lattice
    theta, temperatures = source[name], source.get("temperature")
    for what, array in ((name, theta), ("temperature", temperatures)):
        kind = getattr(getattr(array, "dtype", None), "kind", "no array")
        if array is not None and kind not in "iuf":
            raise InputError(f"{path}: {what} is to be an array of real numbers")
    wanted = (side, side) if name == "theta" else (1, side, side)
    if theta.shape[1:] != wanted:
        raise InputError(
            f"{path}: theta has shape {theta.shape}; this model is of lattices (n, {side}, {side})"
        )
    if settings.model.conditional and temperatures is None:
        raise InputError(f"{path} has no 'temperature' (n,), which this model is told")
    if temperatures is not None and temperatures.shape != (len(theta),):
        raise InputError(
            f"{path}: temperature has shape {temperatures.shape}; there are {len(theta)} configurations"
        )
    for start in range(0, len(theta), _ROWS):
        rows = slice(start, start + _ROWS)
        block = np.array(theta[rows], np.float64).reshape(-1, side, side)
        good = np.isfinite(block).all((1, 2))
        block[~good] = np.nan
        block = np.clip(xy.wrap(block), -np.pi, np.pi).astype(np.float32)
        status = np.where(good, "ok", "an angle is not finite")
        temperature = None
        if temperatures is not None:
            temperature = np.asarray(temperatures[rows], np.float64)
            status = np.where(good & ~(temperature > 0), "the temperature is not positive", status)
        number = np.arange(start, start + len(block))
        yield _dataset(block, temperature).assign_coords(
            row=("sample", number), id=("sample", number.astype(str)), status=("sample", status)
        )


def _dataset(theta: np.ndarray, temperature: np.ndarray | None) -> xr.Dataset:
    """x, and the temperature as ``condition`` (which a model reads only when it was built to)."""
    attributes = {"units": "rad", "long_name": "spin angle", "scaling": "identity"}
    variables: dict[str, tuple] = {
        "x": (("sample", "channel", "row", "column"), theta[:, None].astype(np.float32), attributes)
    }
    if temperature is not None:
        condition = temperature[:, None].astype(np.float32)
        units = {"units": "J / k_B", "long_name": "temperature"}
        variables["condition"] = (("sample", "variable"), condition, units)
    return xr.Dataset(variables, attrs={"fields": ["x"]})


def _split(chain_temperature: np.ndarray, settings: XY) -> np.ndarray:
    """The split of each chain: dealt out within each temperature, so that each temperature is in all parts."""
    chosen = settings.prepare
    split = np.zeros(len(chain_temperature), np.int8)
    known = np.unique(chain_temperature)
    for temperature in chosen.held_out:
        if not np.isclose(known, temperature).any():
            raise InputError(f"held_out: no chain at T = {temperature}; simulated: {known.tolist()}")
    generator = np.random.default_rng(chosen.split_seed)
    for temperature in known:
        own = generator.permutation(np.flatnonzero(chain_temperature == temperature))
        if np.isclose(chosen.held_out, temperature).any():
            split[own] = 2
            continue
        wanted = np.array([chosen.fractions.get(part, 0.0) for part in ("train", "valid", "test")])
        counts = np.maximum(np.round(wanted / wanted.sum() * len(own)), wanted > 0).astype(int)[1:]
        if counts.sum() >= len(own):
            raise InputError(
                f"{len(own)} chains a temperature do not fill train, valid and test: set source.chains"
            )
        split[own[: counts[0]]] = 1
        split[own[counts[0] : counts.sum()]] = 2
    return split


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
