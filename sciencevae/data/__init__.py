"""Data on its way to a model: manifest → fetch → prepared store → splits, scaling → batches.

The public names load on first use, so importing this package costs next to nothing. ``fetch`` is the module
``sciencevae.data.fetch``; the function of that name is ``sciencevae.data.fetch.fetch``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciencevae.data.archive import unpack
    from sciencevae.data.atomic import atomic_path
    from sciencevae.data.batches import Batches, InMemory, as_batches
    from sciencevae.data.fetch import mirror
    from sciencevae.data.hdf5 import open_hdf5, write_hdf5
    from sciencevae.data.manifest import Manifest, list_manifests, load_manifest
    from sciencevae.data.scaling import Scaling
    from sciencevae.data.splits import assign, check_leakage, time_blocks
    from sciencevae.data.store import open_store, write
    from sciencevae.data.streaming import Streaming

__all__ = [
    "Batches",
    "InMemory",
    "Manifest",
    "Scaling",
    "Streaming",
    "as_batches",
    "assign",
    "atomic_path",
    "check_leakage",
    "list_manifests",
    "load_manifest",
    "mirror",
    "open_hdf5",
    "open_store",
    "time_blocks",
    "unpack",
    "write",
    "write_hdf5",
]

_HOMES = {
    "Batches": "batches",
    "InMemory": "batches",
    "Manifest": "manifest",
    "Scaling": "scaling",
    "Streaming": "streaming",
    "as_batches": "batches",
    "assign": "splits",
    "atomic_path": "atomic",
    "check_leakage": "splits",
    "list_manifests": "manifest",
    "load_manifest": "manifest",
    "mirror": "fetch",
    "open_hdf5": "hdf5",
    "open_store": "store",
    "time_blocks": "splits",
    "unpack": "archive",
    "write": "store",
    "write_hdf5": "hdf5",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sciencevae.data' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sciencevae.data.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
