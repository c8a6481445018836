"""Rows of prepared data by their numbers: what is small is held, of what is large only what is wanted is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sciencevae.data.chunks import Column, open_group

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Rows", "evenly"]

_HELD_BYTES = 256 << 20


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


def evenly(count: int, most: int) -> np.ndarray:
    """The numbers of ``most`` of ``count`` things, evenly spaced from the first to the last; of fewer all.

    >>> evenly(9, 3).tolist(), evenly(2, 3).tolist()
    ([0, 4, 8], [0, 1])
    """
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(int)
