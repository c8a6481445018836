"""Permuting the rows of a Dataset that does not fit in memory: two passes over the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sciencevae.data.atomic import remove

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["permuted"]


def permuted(
    ds: xr.Dataset, order: np.ndarray, step: int, scratch: Path
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """(start, {variable: rows order[start : start + step]}) in memory for one such part at a time.

    First the source is read once, in its own order, and each row goes to the scratch file of the part that it
    will stand in. Then each part is read back and put in order. ``scratch`` takes the size of the data once.
    """
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    names = [str(name) for name in ds.data_vars]
    scratch.mkdir()
    try:
        for start in range(0, len(order), step):
            block = ds[names].isel(sample=slice(start, start + step)).load()
            goes_to = position[start : start + step]
            part_of = goes_to // step
            by_part = np.argsort(part_of, kind="stable")
            for rows in np.split(by_part, np.flatnonzero(np.diff(part_of[by_part])) + 1):
                part = int(part_of[rows[0]])
                _append(scratch / f"{part}.position", goes_to[rows])
                for name in names:
                    _append(scratch / f"{part}.{name}", block[name].values[rows])
        for start in range(0, len(order), step):
            part = start // step
            place = np.argsort(np.fromfile(scratch / f"{part}.position", np.int64))
            values = {}
            for name in names:
                file = scratch / f"{part}.{name}"
                rows = np.fromfile(file, ds[name].dtype).reshape(len(place), *ds[name].shape[1:])
                file.unlink()
                values[name] = rows[place]
            yield start, values
    finally:
        remove(scratch)


def _append(path: Path, rows: np.ndarray) -> None:
    with path.open("ab") as file:
        file.write(np.ascontiguousarray(rows).data)
