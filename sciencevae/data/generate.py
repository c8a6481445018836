"""A generator of data called from the command line, as ``fetch`` calls it for a manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sciencevae.data.atomic import atomic_path
from sciencevae.data.progress import show
from sciencevae.errors import InputError, did_you_mean

__all__ = ["chosen_parameters", "generate_file"]


def chosen_parameters(name: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a generator: those given, and the defaults of the others.

    Raises InputError for one that it has not.
    """
    for key in given:
        if key not in defaults:
            raise InputError(f"the generator of {name} has no parameter {key!r}{did_you_mean(key, defaults)}")
    return {**defaults, **given}


def generate_file(
    generate: Callable[..., None], path: Path, parameters: Mapping[str, Any], seed: int
) -> None:
    """What ``generate(path, parameters, seed, update)`` makes, whole or not at all; its progress on stderr."""
    with atomic_path(path) as temporary, show(f"making {path}", None) as update:
        generate(temporary, parameters, seed, update)
