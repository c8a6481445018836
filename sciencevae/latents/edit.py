"""A user's own datum with an attribute changed by a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sciencevae.errors import InputError
from sciencevae.latents.trained import Trained

__all__ = ["edit_file"]


def edit_file(
    model: str | Path,
    source: str | Path,
    out: str | Path,
    attribute: str,
    amount: float = 1.0,
    eyes: Sequence[float] | None = None,
) -> None:
    """Change ``attribute`` of a datum by ``amount``, as the model's domain does; InputError where it edits nothing.

    eyes: of a face, (x, y) of the eye at the left of the picture and of the other one; none: they are looked for.
    """
    trained = Trained.open(model)
    if trained.domain.edit is None:
        raise InputError(
            f"{model} is of the domain {trained.domain.name!r}, which edits nothing: give a model of faces"
        )
    source, out = Path(source), Path(out)
    if not source.is_file():
        raise InputError(f"no file {source}")
    if out.exists() and out.resolve() == source.resolve():
        raise InputError(f"{out} is the picture itself: write to another file")
    trained.domain.edit(trained, source, out, attribute, amount, eyes)
