"""Permuting rows that do not fit in memory: two passes over the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sciencevae.data.atomic import remove

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["permuted", "scattered"]


def permuted(
    ds: xr.Dataset, order: np.ndarray, step: int, scratch: Path
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """(start, {variable: rows order[start : start + step]}) in memory for one such part at a time."""

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(order), step):
            block = ds.isel(sample=slice(start, start + step)).load()
            yield {str(name): block[name].values for name in ds.data_vars}

    return scattered(blocks(), order, step, scratch)


def scattered(
    blocks: Iterable[Mapping[str, np.ndarray]], order: np.ndarray, step: int, scratch: Path
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The same of arrays (N, *E) that come block by block, of any lengths.

    First the source is read once, in its own order, and each row goes to the scratch file of the part that it
    will stand in. Then each part is read back and put in order. ``scratch`` takes the size of the data once.
    """
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    shapes: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
    scratch.mkdir()
    try:
        read = 0
        for block in blocks:
            shapes = {name: (values.dtype, values.shape[1:]) for name, values in block.items()}
            rows = len(next(iter(block.values())))
            goes_to = position[read : read + rows]
            part_of = goes_to // step
            by_part = np.argsort(part_of, kind="stable")
            for chosen in np.split(by_part, np.flatnonzero(np.diff(part_of[by_part])) + 1):
                part = int(part_of[chosen[0]])
                _append(scratch / f"{part}.position", goes_to[chosen])
                for number, values in enumerate(block.values()):  # a name can hold anything, a slash too
                    _append(scratch / f"{part}.{number}", values[chosen])
            read += rows
        for start in range(0, len(order), step):
            part = start // step
            place = np.argsort(np.fromfile(scratch / f"{part}.position", np.int64))
            found = {}
            for number, (name, (dtype, shape)) in enumerate(shapes.items()):
                file = scratch / f"{part}.{number}"
                values = np.fromfile(file, dtype).reshape(len(place), *shape)
                file.unlink()
                found[name] = values[place]
            yield start, found
    finally:
        remove(scratch)


def _append(path: Path, rows: np.ndarray) -> None:
    with path.open("ab") as file:
        file.write(np.ascontiguousarray(rows).data)
