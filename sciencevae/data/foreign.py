"""Files from anybody: opened only where they hold all that they show, and damage said in one line.

Some formats let a file name another one, or an address, from which its numbers come: whoever wrote the file then
chooses what is read with your permissions, and your results show it. Such files are refused.
"""

from __future__ import annotations

import gzip
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciencevae.errors import InputError, RunError, ScienceVAEError

if TYPE_CHECKING:
    import h5py

__all__ = ["check_votable", "check_zarr", "open_h5", "parsing", "unpacked_bytes"]

#: as codecs of numcodecs are called that run what a file says
_RUN_CODE = {"pickle"}
_ZARR_METADATA = (".zarray", ".zmetadata", "zarr.json")
_BLOCK = 1 << 20


@contextmanager
def parsing(path: Path, kind: str) -> Iterator[None]:
    """What the libraries stumble over in a file as an InputError, too much memory asked for as a RunError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of VOTables and FITS headers that are not quite to the letter
            yield
    except ScienceVAEError:
        raise
    except MemoryError as error:
        raise RunError(
            f"{path} asks for more memory than there is: is it damaged? Otherwise give the job more"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is no text in UTF-8 (byte {error.start}): save it as UTF-8, or name it by its format"
        ) from error
    except Exception as error:  # each reader raises whatever its format's parser does
        told = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} cannot be read as {kind}: {told or type(error).__name__}; it may be cut short: fetch it again"
        ) from error


def open_h5(path: Path) -> h5py.File:
    """An HDF5 file, opened for reading.

    InputError: it can't be read; or links, virtual datasets or external storage in it lead to other files.
    """
    import h5py

    with parsing(path, "HDF5"):
        file = h5py.File(path, "r")
    try:
        with parsing(path, "HDF5"):
            _check_h5(file, path)
    except BaseException:
        file.close()
        raise
    return file


def _check_h5(file: Any, path: Path) -> None:
    import h5py

    def link_elsewhere(name: bytes, info: Any) -> str | None:
        inside = info.type in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT)
        return None if inside else f"the link {name.decode(errors='replace')!r}"

    def data_elsewhere(name: str, found: Any) -> str | None:
        outside = isinstance(found, h5py.Dataset) and (found.external or found.is_virtual)
        return f"the dataset {name!r}" if outside else None

    # a visit ends with the first answer that is not None
    what = file.id.links.visit(link_elsewhere, info=True) or file.visititems(data_elsewhere)
    if what is not None:
        raise _elsewhere(path, what)


def check_zarr(folder: Path) -> None:
    """InputError for a Zarr folder with links out of it, or with a codec that would run what the file says."""
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
                raise _elsewhere(folder, f"the link {path.relative_to(folder)}")
            if name in _ZARR_METADATA and path.is_file():
                with parsing(path, "JSON"):
                    said = json.loads(path.read_text(encoding="utf-8"))
                    codecs = {c.rpartition(".")[2] for c in _codecs(said)}
                if found := codecs & _RUN_CODE:
                    raise InputError(
                        f"{path} is stored with the codec {found.pop()!r}, which runs any code that the file "
                        "holds: ask for the data in another form"
                    )


def _codecs(said: Any) -> Iterator[str]:
    """All that may be a codec's name in Zarr's metadata."""
    if isinstance(said, dict):
        yield from (said[key] for key in ("id", "name") if isinstance(said.get(key), str))
        for value in said.values():
            yield from _codecs(value)
    elif isinstance(said, list):
        for value in said:
            yield from _codecs(value)


def check_votable(path: Path) -> None:
    """InputError for a VOTable whose rows lie in another file or at an address, which astropy would read."""
    from astropy.utils.xml.iterparser import get_xml_iterator

    with get_xml_iterator(str(path)) as elements:  # as astropy.io.votable parses it
        for start, tag, attributes, _ in elements:
            if start and tag == "STREAM" and "href" in attributes:
                raise _elsewhere(path, f"the stream {attributes['href']!r}")


def unpacked_bytes(path: Path, limit: int) -> int:
    """The size of a file, of a .gz unpacked; counting ends at the first megabyte beyond ``limit``."""
    if path.suffix.lower() != ".gz":
        return path.stat().st_size
    size = 0
    with gzip.open(path) as file:
        while size <= limit and (block := file.read(_BLOCK)):
            size += len(block)
    return size


def _elsewhere(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} does not hold all its data: {what} leads out of it. Such files are refused, for they read what "
        "their writer chose; copy the data into one file"
    )
