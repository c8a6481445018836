"""Some rows of prepared data in memory, at once or block by block: what an analysis holds is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sciencevae.data.chunks import Column, open_group

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Rows", "evenly", "row_blocks", "rows_of"]

_HELD_BYTES, _BLOCK_BYTES = 256 << 20, 32 << 20


def evenly(count: int, most: int) -> np.ndarray:
    """The numbers of ``most`` of ``count`` things, evenly spaced from the first to the last; of fewer all.

    >>> evenly(9, 3).tolist(), evenly(2, 3).tolist()
    ([0, 4, 8], [0, 1])
    """
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(int)


def _rows_at_once(data: xr.Dataset) -> int:
    """How many rows of all variables 32 MiB hold."""
    row_bytes = max(1, sum(v.nbytes for v in data.variables.values()) // max(1, data.sizes["sample"]))
    return max(1, _BLOCK_BYTES // row_bytes)


def rows_of(data: xr.Dataset, rows: np.ndarray) -> xr.Dataset:
    """Some rows of a store in memory, in the order asked for, taken from blocks of it that are read one by one."""
    import xarray as xr

    if (np.diff(rows) < 0).any():
        order = np.argsort(rows, kind="stable")
        return rows_of(data, rows[order]).isel(sample=np.argsort(order))
    size, found = _rows_at_once(data), []
    first, last = (int(rows[0]) // size, int(rows[-1]) // size + 1) if len(rows) else (0, 0)
    for start in range(first * size, last * size, size):
        own = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + size)]
        if len(own):
            block = data.isel(sample=slice(int(own[0]), int(own[-1]) + 1)).load()
            all_of_it = np.array_equal(own, np.arange(own[0], own[-1] + 1))
            found.append(block if all_of_it else block.isel(sample=own - own[0]))
    if len(found) < 2:
        return found[0] if found else data.isel(sample=rows).load()
    return xr.concat(found, "sample", data_vars="minimal", coords="minimal", compat="override")


def row_blocks(data: xr.Dataset, rows: np.ndarray, size: int | None = None) -> Iterator[xr.Dataset]:
    """Some rows of a store in their order, ``size`` at a time; default: what 32 MiB hold."""
    size = size or _rows_at_once(data)
    for start in range(0, len(rows), size):
        yield rows_of(data, rows[start : start + size])


class Rows:
    """One variable of prepared data, (sample, *E); ``rows[numbers]`` is (n, *E), a copy, in the numbers' order.

    Up to 256 MiB are held in memory; a larger variable of a store stays there, and is read row by row.
    """

    def __init__(self, data: xr.Dataset, name: str) -> None:
        source = data.encoding.get("source")
        self._held = self._column = None
        if source is None or data[name].nbytes <= _HELD_BYTES:
            self._held = data[name].values
        else:
            self._column = Column(open_group(source)[name], Path(source) / name)

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        if self._column is None:
            assert self._held is not None
            return self._held[numbers]
        found = self._column.empty(len(numbers))
        ends = np.flatnonzero(np.diff(numbers) != 1) + 1  # of neighbours, which are read at once
        for first, last in zip([0, *ends], [*ends, len(numbers)], strict=True):
            if first < last:
                start = int(numbers[first])
                self._column.read_into(start, start + last - first, found[first:last])
        return found
