"""Named arrays in files of numpy and HDF5: what users bring, and what decoding leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from sciencevae.data.atomic import atomic_path
from sciencevae.data.foreign import open_h5, parsing
from sciencevae.errors import InputError

__all__ = ["Arrays", "write_arrays"]


class Arrays(Mapping[str, Any]):
    """The arrays of a .npy (one, then called ``name``), .npz or HDF5 file, each read when it is asked for.

    Those of .npy and HDF5 stay on disk until they are indexed. ``attrs``: of an HDF5 file. Raises InputError for
    what cannot be read.

    >>> with Arrays(path, "images") as file: file["images"][:10]      # doctest: +SKIP
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        with self._named_errors():
            if path.suffix == ".npy":
                self._file: Any = {name: np.load(path, allow_pickle=False, mmap_mode="r")}
            elif path.suffix == ".npz":
                self._file = np.load(path, allow_pickle=False)
            else:
                self._file = open_h5(path)
        self.attrs: Mapping[str, Any] = getattr(self._file, "attrs", {})

    def __getitem__(self, name: str) -> Any:
        found = None
        with self._named_errors(), suppress(KeyError):
            found = self._file[name]
        if found is None:
            raise KeyError(name)
        if getattr(found, "shape", None) is None:  # a group of HDF5, or its null
            raise InputError(f"{self._path}: {name} is no array")
        return found

    def __contains__(self, name: object) -> bool:
        names = getattr(self._file, "files", None)  # of .npz, where to look is to read
        return super().__contains__(name) if names is None else name in names

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)

    def __len__(self) -> int:
        return len(self._file)

    def __enter__(self) -> Arrays:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if hasattr(self._file, "close"):
            self._file.close()
        if isinstance(error, OSError):  # what stays on disk may turn out damaged when it is indexed
            with self._named_errors():
                raise error

    def _named_errors(self) -> AbstractContextManager[None]:
        known = self._path.suffix in (".npy", ".npz", ".h5", ".hdf5")
        return parsing(self._path, self._path.suffix if known else "HDF5 (nor is it .npy or .npz)")


def write_arrays(path: Path, name: str, values: np.ndarray) -> None:
    """One array to .npy, or as ``name`` to .npz; the file appears whole or not at all."""
    if path.suffix not in (".npy", ".npz"):
        raise InputError(f"{path.name}: {name} is written to .npz, .npy, .h5 or .zarr")
    arrays: dict[str, Any] = {name: values}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.suffix == ".npy":
            np.save(file, values)
        else:
            np.savez_compressed(file, **arrays)
