"""The generator of XY data: runs the chains and writes one HDF5 file of raw configurations.

    python -m sciencevae.builtin.xy.simulate xy.h5 --lattice 16 --samples 200

Called by ``fetch`` for a manifest whose source is ``generate: {command: sciencevae.builtin.xy.simulate}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sciencevae.data.generate import chosen_parameters
from sciencevae.errors import InputError

from .sampler import COLUMNS, ChainSettings, run_chains

__all__ = ["DEFAULTS", "VERSION", "generate", "temperature_grid"]

VERSION: int = 1
"""Raised whenever the same parameters and seed would give other configurations."""

DEFAULTS: dict[str, Any] = {
    "lattice": 16,
    "temperatures": {"start": 0.4, "stop": 1.6, "number": 25},
    "samples": 400,
    "chains": 10,
}

_FIELDS = {  # name in the file: (columns of a chain's observables, unit, meaning)
    "energy": (slice(0, 1), "J", "energy per site"),
    "magnetisation": (slice(1, 3), "1", "magnetisation vector per site"),
    "bond_sums": (slice(3, 7), "1", "sum over bonds of cos in x, cos in y, sin in x, sin in y"),
    "vortex_density": (slice(7, 8), "1", "vortices and antivortices per site"),
}


def temperature_grid(value: Any) -> list[float]:
    """Temperatures from a list, or from {start, stop, number} (both ends included).

    >>> temperature_grid({"start": 0.5, "stop": 1.5, "number": 3})
    [0.5, 1.0, 1.5]
    """
    if isinstance(value, Mapping):
        keys = {"start", "stop", "number"}
        if set(value) != keys:
            raise InputError(f"temperatures: expected a list or a mapping with {keys}, found {set(value)}")
        grid = np.linspace(float(value["start"]), float(value["stop"]), int(value["number"]))
        value = np.round(grid, 12).tolist()
    temperatures = [float(t) for t in value]
    if not temperatures or min(temperatures) <= 0 or len(set(temperatures)) < len(temperatures):
        raise InputError(f"temperatures must be positive and all different (J/k_B); found {temperatures}")
    return temperatures


def generate(
    path: Path, parameters: Mapping[str, Any], seed: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write configurations of the XY model to ``path`` (HDF5).

    ``parameters``: lattice (side L), temperatures (a list, or {start, stop, number}), samples (for each
    temperature, over its chains), chains (for each temperature); what is absent has its value in DEFAULTS.
    The same parameters and seed give the same file contents on any number of threads.

    Datasets, n = temperatures × samples, chain by chain: theta (n, L, L) float32 radians in (−π, π],
    temperature (n,) J/k_B, chain (n,), energy (n,) J per site, magnetisation (n, 2), bond_sums (n, 4),
    vortex_density (n,); for each chain: tau_int (updates), thinning (updates), chain_temperature.
    """
    chosen = chosen_parameters("XY lattices", parameters, DEFAULTS)
    temperatures = temperature_grid(chosen["temperatures"])
    lattice, samples, chains = (int(chosen[key]) for key in ("lattice", "samples", "chains"))
    settings, n = ChainSettings(), len(temperatures) * samples
    with h5py.File(path, "w") as file:
        rows_a_chunk = min(n, max(1, 2**18 // lattice**2))
        chunks = (rows_a_chunk, lattice, lattice)
        theta = file.create_dataset("theta", (n, lattice, lattice), "f4", chunks=chunks)
        theta.attrs.update(units="rad", long_name="spin angle")
        columns = np.empty((n, len(COLUMNS)))
        tau, thinning = np.empty(len(temperatures) * chains), np.empty(len(temperatures) * chains, np.int64)
        chain = np.empty(n, np.int64)
        for k, found in run_chains(lattice, temperatures, samples, chains, seed, progress=progress):
            row = k * samples
            for replica, one in enumerate(found):
                rows = slice(row, row + len(one.theta))
                theta[rows], columns[rows], chain[rows] = one.theta, one.observables, k * chains + replica
                tau[k * chains + replica], thinning[k * chains + replica] = one.tau_int, one.thinning
                row = rows.stop
        for name, (part, units, meaning) in _FIELDS.items():
            values = columns[:, part]
            file[name] = values if values.shape[1] > 1 else values[:, 0]
            file[name].attrs.update(units=units, long_name=meaning)
        each = {
            "temperature": (np.repeat(temperatures, samples), "J/k_B", "temperature"),
            "chain": (chain, "1", "Markov chain"),
            "tau_int": (tau, "updates", "integrated autocorrelation time, slowest observable, per chain"),
            "thinning": (thinning, "updates", "updates between stored configurations, per chain"),
            "chain_temperature": (np.repeat(temperatures, chains), "J/k_B", "temperature of each chain"),
        }
        for name, (values, units, meaning) in each.items():
            file[name] = values
            file[name].attrs.update(units=units, long_name=meaning)
        file.attrs.update(
            title="XY model, square lattice, periodic boundaries",
            units="k_B = J = 1",
            lattice=lattice,
            seed=seed,
            version=VERSION,
            parameters=json.dumps({**chosen, "temperatures": temperatures}),
            overrelaxation_sweeps=settings.overrelaxation,
            wolff_clusters=settings.clusters,
            numpy=np.__version__,
        )


def main(arguments: list[str] | None = None) -> None:
    """Write a file from the command line."""
    import argparse

    from sciencevae.data.generate import generate_file

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("path", type=Path, help="HDF5 file to write")
    parser.add_argument("--lattice", type=int, default=DEFAULTS["lattice"])
    parser.add_argument("--temperatures", type=float, nargs="+", default=DEFAULTS["temperatures"])
    parser.add_argument("--samples", type=int, default=DEFAULTS["samples"], help="for each temperature")
    parser.add_argument("--chains", type=int, default=DEFAULTS["chains"], help="for each temperature")
    parser.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args(arguments))
    path, seed = given.pop("path"), given.pop("seed")

    generate_file(generate, path, given, seed)


if __name__ == "__main__":
    main()
