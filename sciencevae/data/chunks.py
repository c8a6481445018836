"""Rows of a Zarr array straight into a buffer.

An uncompressed chunk is its rows, one after the other, somewhere in a file. Reading those bytes to where they
are wanted takes a fifth of the time of decoding them through the library (note 1), so that is what happens
with the stores we write; any other array is read through zarr.

1. 64×64 float32 fields, chunks of 2 MiB in shards of 64 MiB, warm cache, one core:
   the table in ``benchmarks/loader.py``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sciencevae.errors import InputError, RunError

__all__ = ["Column", "open_group"]

_ABSENT = np.uint64(2**64 - 1)  # how the sharding index marks a chunk that was not written


def open_group(path: str | Path) -> Any:
    """The zarr group of a prepared store; InputError where there is none."""
    import zarr

    try:
        return zarr.open_group(str(path), mode="r")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"no prepared data at {path}: run 'sciencevae prepare' first") from error
    except (ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged ({error}): delete it and prepare the data again") from error


class Column:
    """One array of a store, read by rows. Attributes: ``shape``, ``dtype``, ``chunk_rows``, ``row_bytes``."""

    def __init__(self, array: Any, folder: Path) -> None:
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self.chunk_rows: int = array.chunks[0]
        self.row_bytes: int = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._array = array
        self._folder = folder
        self._shard_rows = (array.shards or array.chunks)[0]
        self._sharded = array.shards is not None
        self._indices: dict[int, np.ndarray] = {}
        self.direct = _is_plain(array) and folder.is_dir()

    def empty(self, rows: int) -> np.ndarray:
        """A buffer for so many rows."""
        return np.empty((rows, *self.shape[1:]), self.dtype)

    def read_into(self, start: int, stop: int, out: np.ndarray) -> None:
        """Rows ``start`` to ``stop`` into ``out`` (C-contiguous, of that many rows)."""
        if not self.direct:
            out[...] = self._array[start:stop]
            return
        target = out.reshape(-1).view(np.uint8)
        for shard in range(start // self._shard_rows, -(-stop // self._shard_rows)):
            self._read_shard(shard, start, stop, target)

    def _read_shard(self, shard: int, start: int, stop: int, target: np.ndarray) -> None:
        path = self._folder / self._array.metadata.encode_chunk_key((shard, *(0 for _ in self.shape[1:])))
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            file = -1  # never written: all fill value
        try:
            for first, last, offset in self._runs(shard, file, start, stop):
                part = target[(first - start) * self.row_bytes : (last - start) * self.row_bytes]
                if offset is None:
                    part.view(self.dtype)[...] = self._array.fill_value
                else:
                    self._read_bytes(file, part, offset, path)
        finally:
            if file >= 0:
                os.close(file)

    def _runs(self, shard: int, file: int, start: int, stop: int) -> Iterator[tuple[int, int, int | None]]:
        """(first row, one past the last, byte offset) of pieces that lie together in the file of a shard."""
        run: tuple[int, int, int | None] | None = None
        base = shard * self._shard_rows
        index = self._index(shard, file)
        begin, end = max(start, base), min(stop, base + self._shard_rows)
        for chunk in range((begin - base) // self.chunk_rows, -(-(end - base) // self.chunk_rows)):
            zero = base + chunk * self.chunk_rows
            first, last = max(begin, zero), min(end, zero + self.chunk_rows)
            at = (
                None if index[chunk, 0] == _ABSENT else int(index[chunk, 0]) + (first - zero) * self.row_bytes
            )
            if run and run[2] is not None and at == run[2] + (run[1] - run[0]) * self.row_bytes:
                run = (run[0], last, run[2])
                continue
            if run:
                yield run
            run = (first, last, at)
        if run:
            yield run

    def _index(self, shard: int, file: int) -> np.ndarray:
        """(offset, bytes) of each chunk in the file of a shard, (chunks, 2); it is the file's tail."""
        if shard not in self._indices:
            count = self._shard_rows // self.chunk_rows
            if file < 0:
                return np.full((count, 2), _ABSENT)
            if not self._sharded:
                index = np.zeros((1, 2), np.uint64)
            else:
                tail = 16 * count + 4  # the index, and its crc32c
                size = os.fstat(file).st_size
                raw = os.pread(file, tail - 4, max(0, size - tail))
                index = np.frombuffer(raw.ljust(tail - 4, b"\0"), "<u8").reshape(count, 2)
                written = index[index[:, 0] != _ABSENT]
                whole = np.uint64(self.chunk_rows * self.row_bytes)
                if (written[:, 1] != whole).any() or (written[:, 0] > max(0, size - tail)).any():
                    raise RunError(f"{self._folder} is cut short: delete it and prepare the data again")
            self._indices[shard] = index
        return self._indices[shard]

    def _read_bytes(self, file: int, part: np.ndarray, offset: int, path: Path) -> None:
        done = 0
        while done < len(part):
            got = os.preadv(file, [part[done:].data], offset + done)
            if not got:
                raise RunError(f"{path} is cut short: delete it and prepare the data again")
            done += got


def _is_plain(array: Any) -> bool:
    """Whether a chunk of ``array`` is its rows in C order as this machine holds them, along one axis only."""
    from zarr.codecs import BytesCodec, ShardingCodec

    metadata = array.metadata
    if metadata.zarr_format != 3 or sys.byteorder != "little" or array.dtype.kind not in "biuf":
        return False
    if array.chunks[1:] != array.shape[1:] or (array.shards or array.chunks)[1:] != array.shape[1:]:
        return False
    codecs = metadata.codecs
    if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec):
        sharding = codecs[0]
        kinds = [type(codec).__name__ for codec in sharding.index_codecs]
        if kinds != ["BytesCodec", "Crc32cCodec"] or sharding.index_location.value != "end":
            return False
        codecs = sharding.codecs
    if len(codecs) != 1 or not isinstance(codecs[0], BytesCodec):
        return False
    endian = codecs[0].endian
    return array.dtype.itemsize == 1 or (endian is not None and endian.value == "little")
