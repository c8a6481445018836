"""From raw files to the prepared data set, and a user's own patterns block by block, of either kind of source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import xarray as xr

from .settings import Diffraction

__all__ = ["prepare", "read", "write"]


def prepare(settings: Diffraction, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """The Dataset of a simulation, of measured scans, or of the user's ``input``."""
    found: xr.Dataset = _kind(settings.source.kind).prepare(settings, files, input)
    return found.assign_attrs(kind=settings.source.kind)


def read(path: Path, settings: Diffraction, template: xr.Dataset | None = None) -> Iterator[xr.Dataset]:
    """A user's patterns in blocks; every row stays, a bad one as NaN with a reason in ``status``."""
    yield from _kind(settings.source.kind).read(Path(path), settings, template)


def write(data: xr.Dataset, path: Path) -> None:
    """Decoded or sampled patterns in the formats of their field; ``read`` takes them back."""
    _kind(data.attrs["kind"]).write(data, path)


def _kind(kind: str) -> ModuleType:
    """The module with ``prepare``, ``read`` and ``write`` of one kind of source."""
    if kind == "powder":
        from . import powder_data

        return powder_data
    from . import optical

    return optical
