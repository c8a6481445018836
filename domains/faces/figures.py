"""The figures of a run: edits in a strip, latents, and where pixels move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sciencevae.report.figures import COLOURS, DOUBLE_COLUMN, SINGLE_COLUMN
from sciencevae.vae.decoders.warp import jacobian

from .analysis import smiling_pairs
from .editing import edited

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciencevae.runs import Run

__all__ = ["back", "fields", "latents", "strip"]

_AMOUNTS = (-0.5, 0.0, 0.5, 1.0, 1.5)
_PEOPLE = 5
Drawn = tuple["Figure", str]


def strip(run: Run) -> Drawn | None:
    """Test people from less than neutral to more than a smile, beside their real smile."""
    return _strip(run, 1, "real smile", "neutral") if _flows(run) else None


def back(run: Run) -> Drawn | None:
    """Test people's smiles undone, beside their real neutral face."""
    return _strip(run, 0, "really neutral", "smiling") if _flows(run) else None


def _strip(run: Run, expression: int, real: str, given: str) -> Drawn | None:
    import matplotlib.pyplot as plt

    source, target, _ = smiling_pairs(run.main, "test", expression)
    source, target = source[:_PEOPLE], target[:_PEOPLE]
    if not len(source):
        return None
    model, sign = run.main.model(), 2 * expression - 1
    columns = [edited(model, source, sign * amount)[0] for amount in _AMOUNTS] + [target]
    titles = [given if not a else f"{sign * a:+.1f}".replace("-", "−") for a in _AMOUNTS] + [real]
    side = DOUBLE_COLUMN / len(columns)
    figure, panels = plt.subplots(
        len(source), len(columns), figsize=(DOUBLE_COLUMN, side * len(source) + 0.2), squeeze=False
    )
    for column, (faces, title) in enumerate(zip(columns, titles, strict=True)):
        panels[0, column].set_title(title)
        for axes, face in zip(panels[:, column], faces, strict=True):
            axes.imshow(face.permute(1, 2, 0).clamp(0, 1).numpy())
            axes.set_axis_off()
    return figure, (
        f"Test people, whom training has not seen: {given}, deformed by amounts of a smile, and {real}."
    )


def fields(run: Run) -> Drawn | None:
    """Where the pixels of a smile come from, and how the picture stretches there."""
    import matplotlib.pyplot as plt

    if not _flows(run):
        return None
    source, _, rows = smiling_pairs(run.main, "test")
    if not len(source):
        return None
    _, displacement = edited(run.main.model(), source[:1])
    known = "truth" in rows
    shown = [("model", displacement[0])]
    if known:
        shown.append(("truth", torch.from_numpy(rows["truth"].values[0])))
    figure, panels = plt.subplots(
        1, 1 + len(shown), figsize=(DOUBLE_COLUMN, DOUBLE_COLUMN / (1 + len(shown))), squeeze=False
    )
    size = source.shape[-1]
    step = max(1, size // 24)
    at = np.arange(step // 2, size, step)
    for axes, (name, field) in zip(panels[0], shown, strict=False):
        axes.imshow(source[0].permute(1, 2, 0).numpy())
        down, right = (-field[:, at][:, :, at]).numpy()
        axes.quiver(
            at, at, right, down, color=COLOURS[1], angles="xy", scale_units="xy", scale=0.5, width=0.004
        )
        axes.set_title(f"{name}: where pixels go (twice as far)")
        axes.set_axis_off()
    axes = panels[0, -1]
    least = jacobian(displacement)[0]
    reach = float((least - 1).abs().max())
    picture = axes.imshow(least.numpy(), cmap="RdBu", vmin=1 - reach, vmax=1 + reach)
    axes.set_axis_off()
    figure.colorbar(picture, ax=axes, label="least determinant in a cell", shrink=0.8)
    return figure, (
        "The displacement of a usual smile on a test person, and the least determinant of its derivative in each "
        "cell between four pixels: above 1 the picture is squeezed, below 1 stretched, below 0 it would fold."
    )


def latents(run: Run) -> Drawn | None:
    """The latents of all test rows by expression."""
    import matplotlib.pyplot as plt

    found = run.main.latents
    z, smiling = found["z"].values, found["expression"].values == 1
    split = found["split"].values
    train = split == 0
    if z.shape[1] < 2 or not (split == 2).any():
        return None
    direction = z[train & smiling].mean(0) - z[train & ~smiling].mean(0)
    direction /= np.linalg.norm(direction)
    rest = z - (z @ direction)[:, None] * direction
    _, _, others = np.linalg.svd(rest[train] - rest[train].mean(0), full_matrices=False)
    figure, axes = plt.subplots(figsize=(SINGLE_COLUMN, 2.8))
    for value, name, colour in ((True, "to a smile", COLOURS[1]), (False, "to neutral", COLOURS[0])):
        own = (smiling == value) & (split == 2)
        axes.scatter(z[own] @ direction, z[own] @ others[0], s=9, color=colour, label=name, linewidths=0)
    axes.axvline(0, color="black", lw=0.5)
    axes.set(xlabel="along the difference of the mean latents", ylabel="widest direction across it")
    axes.legend()
    return figure, "Posterior means of test rows: what makes one face of a person out of the other."


def _flows(run: Run) -> bool:
    return run.main.settings.model.kind == "flow"
