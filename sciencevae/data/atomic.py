"""Files and folders that are whole or absent: written under a temporary name, synced, renamed."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sciencevae.errors import InputError, RunError, ScienceVAEError

__all__ = ["atomic_path", "disk_errors", "make_folder", "open_own", "remove", "temporary_path"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


@contextmanager
def atomic_path(path: str | os.PathLike[str], sync: bool = True) -> Iterator[Path]:
    """A temporary path in the folder of ``path`` for a file or a folder, renamed to ``path`` at the end.

    Any exception, a full disk or a signal leaves ``path`` as it was. What a killed process left under a
    temporary name is removed by the next writer of the same path.

    sync: wait until the disk has it, so that it is whole after a power cut as well

    Raises RunError when the disk is full or the folder cannot be written, naming path and free space.

    >>> import tempfile, os
    >>> target = os.path.join(tempfile.mkdtemp(), "numbers.txt")
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("1 2 3")
    >>> os.listdir(os.path.dirname(target))
    ['numbers.txt']
    """
    path = Path(path)
    with disk_errors(path):
        make_folder(path.parent)
        temporary = temporary_path(path)
        try:
            yield temporary
            if sync:
                _sync(temporary)
            _replace(temporary, path)
            if sync:
                with suppress(OSError):
                    _sync_folder(path.parent)
        except BaseException:
            remove(temporary)
            raise


def temporary_path(path: Path) -> Path:
    """A fresh hidden name beside ``path``, with the same suffix; removes those of dead processes here.

    Nobody can guess it, and put a link there first.
    """
    host = socket.gethostname()
    for stale in path.parent.glob(f".tmp-{glob.escape(host)}-*-*-{glob.escape(path.name)}"):
        process = stale.name.removeprefix(f".tmp-{host}-").split("-", 1)[0]
        if process.isdigit() and not _alive(int(process)):
            remove(stale)
    return path.with_name(f".tmp-{host}-{os.getpid()}-{secrets.token_hex(8)}-{path.name}")


def open_own(path: Path, mode: str) -> IO[bytes]:
    """Open a file of a known name to write, ``mode`` "wb" or "ab"; RunError where a link or a pipe lies there."""

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), name)
        return descriptor

    try:
        return open(path, mode, opener=opener)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise RunError(f"{path} is no file of its own, but a link or a pipe: remove it") from error
        raise


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into a RunError about ``path``."""
    try:
        yield
    except ScienceVAEError:
        raise
    except Exception as error:
        if _is_full(error):
            raise RunError(
                f"the disk is full: {path} needs more than the {_free(path)} left there; free some space "
                "or choose another folder (nothing was written)"
            ) from error
        if isinstance(error, OSError) and error.errno in _REFUSED and _concerns(error, path):
            raise _refusal(path, error) from error
        raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; RunError when that cannot be."""
    with disk_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if _is_full(error):
                raise
            raise _refusal(folder, error) from error


def _refusal(path: Path, error: OSError) -> RunError:
    reason = os.strerror(error.errno or 0).lower()
    return RunError(f"cannot write {path}: {reason}; choose a folder you may write to")


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _is_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that the disk is full; HDF5 says so only in its text."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        if any(f"errno = {code}," in str(seen) or os.strerror(code) in str(seen) for code in _FULL):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _concerns(error: OSError, path: Path) -> bool:
    """Whether an OSError is about the folder of ``path`` or something in it."""
    names = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if name is not None]
    folder = path.parent.absolute()
    return any(
        name.absolute() in (folder, *folder.parents) or folder in name.absolute().parents for name in names
    ) or (not names and str(path.parent) in str(error))  # pyarrow names the file in its text alone


def _free(path: Path) -> str:
    folder = next((parent for parent in path.absolute().parents if parent.is_dir()), Path("/"))
    return f"{shutil.disk_usage(folder).free / 1e6:,.1f} MB"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _sync(path: Path) -> None:
    """Flush a file, or every file and folder below a folder, to the disk."""
    below = [Path(root) / name for root, _, files in os.walk(path) for name in ("", *files)]
    for each in below or [path]:
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replace(temporary: Path, path: Path) -> None:
    """Rename over ``path``; a folder that a new folder replaces is moved aside first, and removed last."""
    if path.is_dir() and not temporary.is_dir():
        raise InputError(f"{path} is a folder, and a file is to be written: give the name of a file")
    if path.is_dir() and not path.is_symlink():
        old = temporary_path(path)
        os.rename(path, old)
        try:
            os.rename(temporary, path)
        except OSError:
            os.rename(old, path)
            raise
        remove(old)
    else:
        os.replace(temporary, path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
