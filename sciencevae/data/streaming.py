"""Batches from a store larger than memory: whole chunks, read ahead in a thread, mixed in a window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.data.batches import Batches, InMemory, flat_names, identifiers_of, noisy_field, to_tensor
from sciencevae.data.chunks import Column, open_group
from sciencevae.data.order import Order, check_batch
from sciencevae.data.scaling import Scaling
from sciencevae.data.splits import check_leakage, split_rows
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Streaming", "stream_dataset"]

_EXAMPLE_ROWS = 8
_COMPARED_ROWS = 64
Buffers = dict[str, np.ndarray]


class Streaming(Batches):
    """Batches from the store at ``path``, with memory for two windows of rows, whatever the store's size.

    split:        "train", "valid", "test", or None for all rows
    scaling:      in place of the one that the store carries
    buffer_bytes: for both windows together: one being used, one being read. Rows are mixed within a window,
                  and the windows are made of chunks from all over the store.

    Each rank reads whole windows and keeps its part: the order does not depend on the number of ranks.
    """

    def __init__(
        self,
        path: str | Path,
        split: str | None = None,
        *,
        scaling: Scaling | None = None,
        dtype: torch.dtype = torch.float32,
        buffer_bytes: int = 64 << 20,
        window: int | None = None,
    ) -> None:
        from sciencevae.data.store import open_store

        group, folder = open_group(path), Path(path)
        ds = open_store(path)
        check_leakage(ds)
        rows = split_rows(ds, split)
        self.path, self._store = folder, ds
        self._n = len(rows)
        if not self._n:
            raise InputError(f"the data at {path} has no rows: nothing to make batches of")
        # a run of rows is kept as its beginning: the usual case, as stores are written in the order of splits
        self._rows = int(rows[0]) if rows[-1] - rows[0] + 1 == len(rows) else rows
        self._scaling = Scaling.of(ds) if scaling is None else scaling
        self._dtype = dtype
        self._names = flat_names(list(ds.data_vars), ds.attrs)
        self._noisy = noisy_field(self._names)
        self._columns = {name: Column(group[name], folder / name) for name in self._names.values()}
        self.block = min(self._n, max(column.chunk_rows for column in self._columns.values()))
        blocks = -(-self._n // self.block)
        held = buffer_bytes // 2 // max(1, self.block * self._row_bytes)
        self.window = min(blocks, window or max(1, held))
        self._spare: list[tuple[Buffers, Buffers]] = []  # of epochs that ended: new memory is slow memory

    def __len__(self) -> int:
        return self._n

    @property
    def _row_bytes(self) -> int:
        return sum(column.row_bytes for column in self._columns.values())

    @property
    def nbytes(self) -> int:
        return self._n * self._row_bytes

    @property
    def example(self) -> Batch:
        first = self._read(0, min(_EXAMPLE_ROWS, self._n))
        return self._batch({name: torch.from_numpy(buffer) for name, buffer in first.items()})

    def order(self, seed: int, epoch: int) -> Order:
        return Order(seed, epoch, self._n, self.block, self.window)

    def identifiers(self, rows: np.ndarray) -> tuple[str, np.ndarray]:
        stored = self._rows + rows if isinstance(self._rows, int) else self._rows[rows]
        return identifiers_of(self._store, stored)

    def load(self) -> InMemory:
        """The same rows in memory."""
        tensors = {k: torch.from_numpy(v) for k, v in self._read(0, self._n).items()}
        return InMemory(self._batch(tensors), ids=self.identifiers)

    def epoch(
        self, seed: int, epoch: int, batch_size: int, start: int = 0, rank: int = 0, ranks: int = 1
    ) -> Iterator[Batch]:
        size = check_batch(self._n, batch_size, rank, ranks)
        plan = self.order(seed, epoch)
        return self._epoch(plan, batch_size, start, rank * size, size)

    def _epoch(self, plan: Order, batch_size: int, start: int, first: int, size: int) -> Iterator[Batch]:
        if start >= self.steps(batch_size):
            return
        bounds, steps = plan.bounds, self.steps(batch_size)
        padded = steps * batch_size > self._n
        filling = padded and start == steps - 1  # the last batch is filled up with rows of the one before
        start -= filling
        w = int(np.searchsorted(bounds, start * batch_size, side="right")) - 1
        spare = self._spare.pop() if self._spare else (self._buffers(), self._buffers())

        def fill(w: int) -> tuple[dict[str, Tensor], Tensor]:
            buffers, at = spare[w % 2], 0
            for begin, end in plan.blocks_of(w):
                self._read(begin, end, {name: b[at : at + end - begin] for name, b in buffers.items()})
                at += end - begin
            return {name: torch.from_numpy(b) for name, b in buffers.items()}, torch.from_numpy(
                plan.within(w)
            )

        # window w + 1 is read into the other buffer while w is being used
        with self._returning(spare), _ahead(fill, range(w, len(bounds) - 1)) as windows:
            held, within = next(windows)
            before: dict[str, Tensor] = {}
            for step in range(start, steps):
                at = min(step * batch_size + first, self._n)
                end = min(at + size, self._n)
                own, pieces = end - at, []
                while at < end:
                    while at >= bounds[w + 1]:
                        w, (held, within) = w + 1, next(windows)
                    stop = min(end, int(bounds[w + 1]))
                    index = within[at - bounds[w] : stop - bounds[w]]
                    pieces.append({name: held[name].index_select(0, index) for name in held})
                    at = stop
                if own < size:
                    pieces.append({name: tensor[own:] for name, tensor in before.items()})
                tensors = pieces[0] if len(pieces) == 1 else _joined(pieces)
                if padded and step == steps - 2:
                    before = {name: t.clone() for name, t in tensors.items()}  # `_batch` scales in place
                if filling and step == start:
                    continue
                yield self._batch(tensors, (torch.arange(size) < own).to(self._dtype))

    def blocks(self, rows: int) -> Iterator[Batch]:
        def fill(start: int) -> Buffers:
            return self._read(start, min(start + rows, self._n))

        with _ahead(fill, range(0, self._n, rows)) as read:
            for buffers in read:
                yield self._batch({name: torch.from_numpy(b) for name, b in buffers.items()})

    def _buffers(self) -> Buffers:
        rows = min(self._n, self.window * self.block)
        return {name: column.empty(rows) for name, column in self._columns.items()}

    @contextmanager
    def _returning(self, buffers: tuple[Buffers, Buffers]) -> Iterator[None]:
        try:
            yield
        finally:
            self._spare = [buffers]

    def _batch(self, variables: dict[str, Tensor], weight: Tensor | None = None) -> Batch:
        tensors = {
            f: to_tensor(n, variables[n], self._scaling, self._dtype, self._noisy)
            for f, n in self._names.items()
        }
        if weight is None:
            weight = torch.ones(len(next(iter(tensors.values()))), dtype=self._dtype)
        tensors["weight"] = tensors["weight"] * weight if "weight" in tensors else weight
        return Batch.from_tensors(tensors)

    def _read(self, start: int, stop: int, out: Buffers | None = None) -> Buffers:
        """Rows ``start`` to ``stop`` of the split (not of the store), into ``out`` if given."""
        if out is None:
            out = {name: column.empty(stop - start) for name, column in self._columns.items()}
        if isinstance(self._rows, int):
            for name, column in self._columns.items():
                column.read_into(self._rows + start, self._rows + stop, out[name])
            return out
        rows, at = self._rows[start:stop], 0
        for base in range(int(rows[0]) // self.block * self.block, int(rows[-1]) + 1, self.block):
            chosen = rows[np.searchsorted(rows, base) : np.searchsorted(rows, base + self.block)]
            if not len(chosen):
                continue
            first, last = int(chosen[0]), int(chosen[-1]) + 1
            for name, column in self._columns.items():
                span = column.empty(last - first)
                column.read_into(first, last, span)
                np.take(span, chosen - first, axis=0, out=out[name][at : at + len(chosen)], mode="clip")
            at += len(chosen)
        return out


class _ahead:
    """``map(function, items)`` with the next item always under way in a thread; use in ``with``."""

    def __init__(self, function: Callable[[int], Any], items: Iterable[int]) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sciencevae-read")
        self._function, self._items = function, iter(items)

    def __enter__(self) -> Iterator[Any]:
        return self._results()

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _results(self) -> Iterator[Any]:
        following = [self._pool.submit(self._function, item) for item in [next(self._items)]]
        while following:
            result = following.pop().result()
            following += [self._pool.submit(self._function, item) for item in self._next()]
            yield result

    def _next(self) -> list[int]:
        item = next(self._items, None)
        return [] if item is None else [item]


def _joined(pieces: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def _same(ds: xr.Dataset, whole: xr.Dataset) -> bool:
    """Whether a Dataset is still what its store holds, as far as its layout and some of its rows tell."""
    if {n: (v.dims, v.shape, v.dtype) for n, v in ds.data_vars.items()} != {
        n: (v.dims, v.shape, v.dtype) for n, v in whole.data_vars.items()
    }:
        return False
    rows = np.unique(np.linspace(0, ds.sizes["sample"] - 1, _COMPARED_ROWS).astype(int))
    some, stored = (one[list(one.data_vars)].isel(sample=rows).load() for one in (ds, whole))
    return all(
        np.array_equal(whole[name].values, ds[name].values)
        for name in ("split", "group")
        if name in whole.coords and name in ds.coords
    ) and all(some[name].equals(stored[name]) for name in some.data_vars)


def stream_dataset(
    ds: xr.Dataset, split: str | None, scaling: Scaling | None, dtype: torch.dtype
) -> Streaming:
    """Streaming from the store that an opened Dataset came from, as long as it still has all of its rows."""
    from sciencevae.data.store import open_store

    source = ds.encoding.get("source")
    if source and Path(source).is_dir():
        whole = open_store(source)
        if _same(ds, whole):
            return Streaming(source, split, scaling=scaling or Scaling.of(ds), dtype=dtype)
    raise InputError(
        "the data does not fit the memory limit and is no longer the store it came from: write it with "
        "sciencevae.data.write and give that path, or raise memory_limit"
    )
