"""Named arrays in files of numpy and HDF5: what users bring, and what decoding leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from sciencevae.data.atomic import atomic_path
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
                import h5py

                self._file = h5py.File(path, "r")
        self.attrs: Mapping[str, Any] = getattr(self._file, "attrs", {})

    def __getitem__(self, name: str) -> Any:
        with self._named_errors():
            found = self._file[name]
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

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            known = self._path.suffix in (".npy", ".npz", ".h5", ".hdf5")
            kind = "" if known else " as HDF5 (nor is it .npy or .npz)"
            raise InputError(f"{self._path} cannot be read{kind}: {error}") from error


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
