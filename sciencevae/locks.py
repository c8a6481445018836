"""One process at a time in a run folder: kernel locks, which end with the process that holds them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sciencevae.errors import RunError

__all__ = ["TOKEN", "alive", "hold", "holders", "inherited", "replaced", "run_lock"]

#: environment variable by which a stage started by ``sciencevae run`` shows that it belongs to it
TOKEN = "SCIENCEVAE_RUN"


def alive(pid: int, host: str) -> bool:
    """Whether a process still runs; one on another host is taken to."""
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def hold(path: Path, what: str, patience: float = 0.0, *, ending: bool = False) -> Iterator[int]:
    """Hold the lock file ``path``, which names its holder; gives the file descriptor.

    The lock lives as long as any process that inherited the descriptor. When its first holder is gone and
    only such a process is left, or when the holder is known to be ``ending``, wait up to ``patience`` seconds
    for it. RunError when somebody holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RunError(f"{path} is no file of its own, but a link: remove it") from error
        raise RunError(
            f"cannot write {path.parent}: {error.strerror}; choose a folder you may write to"
        ) from error
    try:
        _take(descriptor, path, what, patience, ending)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "token": uuid.uuid4().hex}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        try:
            yield descriptor
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, what: str, patience: float, ending: bool) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                return  # a file system without locks: `sciencevae doctor` says so
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        holder = _read(path)
        gone = ending or holder is None or not alive(holder["pid"], holder["host"])
        if not gone or time.monotonic() > deadline:
            who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
            raise RunError(
                f"{what} is at work already ({who} holds {path}): wait for it or stop it, "
                "or choose another --out"
            )
        time.sleep(0.2)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text() or "null")
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not {"pid", "host", "token"} <= set(found):
        return None
    # a signal to 0 or −1 would reach far more than the holder
    known = type(found["pid"]) is int and 1 < found["pid"] < 2**31
    return found if known and isinstance(found["host"], str) and isinstance(found["token"], str) else None


def inherited(folder: Path) -> dict[str, Any] | None:
    """The holder of a run folder's lock when this process was started by it, otherwise None."""
    holder = _read(folder / ".lock")
    return holder if holder and holder["token"] == os.environ.get(TOKEN) else None


def replaced(folder: Path, holder: dict[str, Any]) -> bool:
    """Whether another run has taken a run folder over since ``holder`` had it."""
    now = _read(folder / ".lock")
    return now is not None and now["token"] != holder["token"]


@contextmanager
def run_lock(folder: Path, patience: float = 0.0) -> Iterator[tuple[int, str]]:
    """Hold a run folder as a whole; gives the descriptor and the token that its stages show."""
    with hold(folder / ".lock", f"a run in {folder}", patience) as descriptor:
        holder = _read(folder / ".lock")
        yield descriptor, holder["token"] if holder else ""


def holders(folder: Path) -> list[dict[str, Any]]:
    """The processes that hold a stage's lock in a run folder, here or on other nodes, with the stage's name."""
    found = []
    for path in sorted((folder / ".locks").glob("*")):
        holder = _read(path)
        if holder and alive(holder["pid"], holder["host"]) and _held(path):
            found.append(holder | {"stage": path.name})
    return found


def _held(path: Path) -> bool:
    """False when nobody holds the lock, whatever the file says: its holder may have been killed."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        return False
