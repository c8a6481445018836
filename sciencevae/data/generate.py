"""A generator of data called from the command line, as ``fetch`` calls it for a manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sciencevae.data.atomic import atomic_path
from sciencevae.data.progress import show

__all__ = ["generate_file"]


def generate_file(
    generate: Callable[..., None], path: Path, parameters: Mapping[str, Any], seed: int
) -> None:
    """What ``generate(path, parameters, seed, update)`` makes, whole or not at all; its progress on stderr."""
    with atomic_path(path) as temporary, show(f"making {path}", None) as update:
        generate(temporary, parameters, seed, update)
