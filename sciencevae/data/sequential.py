"""Rows of a file that can only be read from its beginning, as the lazy variables of a Dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from sciencevae.errors import RunError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["in_memory_if_small", "lazily"]

_SMALL_BYTES = 64 << 20

Block = Mapping[str, np.ndarray]


def lazily(blocks: Callable[[], Iterator[xr.Dataset]], rows: int) -> xr.Dataset:
    """One Dataset of the blocks, of ``rows`` rows in all, that are cut along ``sample`` and otherwise alike.

    What has rows is read when it is wanted; the rest, and all attributes, are the first block's. No more is in
    memory than the rows asked for and one block. Rows that are asked for in their order, and the same ones of every
    variable, as ``store.write`` asks for them, are read once; any others from the beginning anew.

    RunError, when rows are read: there are fewer.
    """
    first = next(blocks())
    names = [str(name) for name in first.variables if "sample" in first[name].dims]

    def arrays() -> Iterator[Block]:
        for block in blocks():
            yield {name: block[name].values for name in names}

    reader = _Reader(arrays, rows, {name: first[name].values for name in names})
    lazy = {
        name: (first[name].dims, indexing.LazilyIndexedArray(_Rows(reader, name)), first[name].attrs)
        for name in names
    }
    return (
        first.drop_vars(names)
        .assign({name: lazy[name] for name in names if name in first.data_vars})
        .assign_coords({name: lazy[name] for name in names if name in first.coords})
    )


def in_memory_if_small(ds: xr.Dataset) -> xr.Dataset:
    """The same data; up to 64 MiB are loaded at once, so that looking at them twice is not reading them twice."""
    return ds.load() if ds.nbytes <= _SMALL_BYTES else ds


class _Reader:
    """The rows of all arrays between two numbers; what follows the last ones is at hand."""

    def __init__(self, blocks: Callable[[], Iterator[Block]], rows: int, like: Block) -> None:
        self.rows, self.like = rows, {name: values[:0] for name, values in like.items()}
        self._blocks, self._lock = blocks, Lock()
        self._rest, self._at, self._left = blocks(), 0, dict(self.like)
        self._span, self._found = (0, 0), dict[str, np.ndarray]()

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of one array; those of the others are kept until they are asked for, too."""
        with self._lock:
            if self._span != (start, stop) or name not in self._found:
                self._found = {}
                self._span, self._found = (start, stop), self._between(start, stop)
            return self._found.pop(name)

    def _between(self, start: int, stop: int) -> dict[str, np.ndarray]:
        if start < self._at:
            self._rest, self._at, self._left = self._blocks(), 0, dict(self.like)
        found = {
            name: np.empty((stop - start, *values.shape[1:]), values.dtype)
            for name, values in self.like.items()
        }
        while self._at < stop:
            have = len(next(iter(self._left.values())))
            first, last = max(start - self._at, 0), min(stop - self._at, have)
            for name, values in self._left.items():
                if first < last:
                    found[name][self._at + first - start : self._at + last - start] = values[first:last]
            taken = min(have, stop - self._at)
            self._left = {name: values[taken:] for name, values in self._left.items()}
            self._at += taken
            if self._at < stop:
                block = next(self._rest, None)
                if block is None:
                    raise RunError(
                        f"{self._at} rows where {self.rows} were counted: a file changed while it was read"
                    )
                self._left = dict(block)
        return found


class _Rows(BackendArray):
    """One array of a reader, for xarray."""

    def __init__(self, reader: _Reader, name: str) -> None:
        self._reader, self._name = reader, name
        like = reader.like[name]
        self.shape, self.dtype = (reader.rows, *like.shape[1:]), like.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._basic
        )

    def _basic(self, key: tuple[Any, ...]) -> Any:
        rows, *inner = key
        if isinstance(rows, slice):
            chosen = range(*rows.indices(self.shape[0]))
            first, last = (min(chosen), max(chosen) + 1) if chosen else (0, 0)
            found = self._reader.read(self._name, first, last)
            if len(chosen) != last - first or chosen.step < 0:
                found = found[np.array(chosen, int) - first]
        else:
            found = self._reader.read(self._name, int(rows), int(rows) + 1)[0]
            return found[tuple(inner)]
        return found[(slice(None), *inner)]
