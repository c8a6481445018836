"""Where the package's own folders lie, in a checkout and in a wheel alike, and where data is cached."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder", "checkout_folder", "manifests_folder", "mirror_folder", "workflows_folder"]

_PACKAGE = Path(__file__).resolve().parent


def checkout_folder(name: str) -> Path | None:
    """The top-level folder ``name`` of the checkout this package runs from; None in an installed wheel."""
    top = _PACKAGE.parent
    return top / name if (top / "pyproject.toml").is_file() and (top / name).is_dir() else None


def _folder(name: str) -> Path:
    return checkout_folder(name) or _PACKAGE / name


def manifests_folder() -> Path:
    """The folder of the data-set manifests (one YAML file each)."""
    return _folder("data_manifests")


def workflows_folder() -> Path:
    """The folder of the Snakefile, its rules and its profiles."""
    return _folder("workflows")


def cache_folder() -> Path:
    """Where fetched and generated files are kept: ``$SCIENCEVAE_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("SCIENCEVAE_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("sciencevae"))


def mirror_folder() -> Path | None:
    """``$SCIENCEVAE_MIRROR``: a folder with copies of data files, looked at before the cache and the network."""
    chosen = os.environ.get("SCIENCEVAE_MIRROR")
    return Path(chosen).expanduser() if chosen else None
