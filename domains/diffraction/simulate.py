"""The generator of optical patterns: apertures, propagation, sensor; writes one HDF5 file.

    python -m sciencevae.builtin.diffraction.simulate slits.h5 --samples 1000
    python -m sciencevae.builtin.diffraction.simulate holes.h5 --config images

Called by ``fetch`` for a manifest whose source is ``generate: {command: sciencevae.builtin.diffraction.simulate}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from sciencevae.errors import InputError

from .optical_settings import Optical
from .parameters import MEANINGS, units_of
from .sampling import dimensions, pixel_middles_mm

if TYPE_CHECKING:
    from .patterns import Columns

__all__ = ["VERSION", "generate"]

VERSION: int = 1
"""Raised whenever the same parameters and seed would give other patterns."""


def generate(
    path: Path, parameters: Mapping[str, Any], seed: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write patterns to ``path`` (HDF5). ``parameters``: those of ``source`` in the settings.

    Datasets, n = samples: counts (n, W) of apertures that are long in y, else (n, H, W), int32; expected, the same
    without noise, float32; x (W,), the middles of the pixels (mm); aperture (n,), its number in the list
    ``apertures``; and a column of each parameter (n,), in the unit of its name, NaN where an aperture has it not.
    """
    import h5py
    import torch

    from . import sensor
    from .patterns import patterns

    try:
        source = Optical.model_validate(dict(parameters))
    except ValidationError as error:
        from sciencevae.config import describe

        raise InputError(f"diffraction generator: {describe(Optical, error)}") from error
    kinds = source.apertures
    number = np.arange(source.samples) % len(kinds)
    shape = (source.sensor.pixels,) * dimensions(source)
    with h5py.File(path, "w") as file:
        counts = file.create_dataset("counts", (source.samples, *shape), "i4")
        expected = file.create_dataset("expected", (source.samples, *shape), "f4")
        columns: Columns = {}
        done = 0
        for k, aperture in enumerate(kinds):
            rows = np.flatnonzero(number == k)
            generator = torch.Generator().manual_seed(_seed_of(seed, k))
            for at, found, drawn in patterns(source, aperture, len(rows), _seed_of(seed, k)):
                where = rows[at]
                expected[where] = found.float().numpy()
                counts[where] = sensor.read_out(found, source.sensor, generator).numpy()
                for name, values in drawn.items():
                    columns.setdefault(name, np.full(source.samples, np.nan))[where] = values
                done += len(where)
                if progress:
                    progress(done, source.samples)
        for name in ("counts", "expected"):
            meaning = "counts of a pixel" + ("" if name == "counts" else " without noise")
            file[name].attrs.update(units="count", long_name=meaning)
        for name, values in columns.items():
            file[name] = values
            file[name].attrs.update(units=units_of(name), long_name=MEANINGS[name])
        file["aperture"] = number
        file["aperture"].attrs.update(units="1", long_name="number of the aperture in the list apertures")
        file["x"] = pixel_middles_mm(source)
        file["x"].attrs.update(units="mm", long_name="middle of a pixel")
        file.attrs.update(
            title="Diffraction patterns of coherent light behind apertures",
            apertures=[one.kind for one in kinds],
            parameters=json.dumps(source.model_dump(mode="json")),
            seed=seed,
            version=VERSION,
            torch=str(torch.__version__),
        )


def _seed_of(seed: int, number: int) -> int:
    """A seed of each kind of aperture."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def main(arguments: list[str] | None = None) -> None:
    """Write a file from the command line."""
    import argparse

    from sciencevae.config import load
    from sciencevae.data.generate import generate_file
    from sciencevae.registry import domain

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("path", type=Path, help="HDF5 file to write")
    parser.add_argument("--config", help="NAME of the domain's NAME.yaml, or a file, whose source is taken")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    source = load(domain("diffraction"), given.config).source.model_dump(mode="json")
    if given.samples:
        source["samples"] = given.samples
    generate_file(generate, given.path, source, given.seed)


if __name__ == "__main__":
    main()
