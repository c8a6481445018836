"""The figures of a run: pictures beside their twins, and how far poses are off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sciencevae.report.figures import COLOURS, DOUBLE_COLUMN, SINGLE_COLUMN

from .analysis import found_poses, parts_of
from .world import world

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciencevae.runs import Run

__all__ = ["errors", "twins"]

_SHOWN = 8
Drawn = tuple["Figure", str]


def twins(run: Run) -> Drawn | None:
    """Realistic test pictures, and how the model shows them as the simulation would."""
    import matplotlib.pyplot as plt

    rows = parts_of(run.main).get("realistic", np.zeros(0, int))[:_SHOWN]
    if run.main.settings.model.kind != "translate" or not len(rows):
        return None
    data, model = run.main.data.isel(sample=rows), run.main.model()
    with torch.no_grad():
        picture, condition = (torch.from_numpy(data[name].values) for name in ("picture", "condition"))
        z = model.encode({"picture": picture}, {"condition": condition}).mean
        shown: Any = model.decode(z)
        twin = shown.fields["twin"].mean
    found = found_poses(run.main, rows, run.settings.analyse.samples)
    figure, panels = plt.subplots(
        2, len(rows), figsize=(DOUBLE_COLUMN, 2 * DOUBLE_COLUMN / _SHOWN), squeeze=False
    )
    own = world(run.main.settings.source.setup)
    for column, axes in enumerate(panels.T):
        axes[0].imshow(data["picture"].values[column].transpose(1, 2, 0))
        axes[1].imshow(twin[column].permute(1, 2, 0).clamp(0, 1).numpy())
        truth = np.array([data["x"].values[column], data["y"].values[column]])
        for place, heading, colour in (
            (truth, data["true_heading"].values[column], "white"),
            (found.position[column], found.heading[column], COLOURS[1]),
        ):
            tip = place + 22 * own.size * np.array([np.cos(heading), np.sin(heading)])
            (a, b), (c, d) = own.camera.project(np.r_[[[*place, 0], [*tip, 0]]])[:, :2] - 0.5
            axes[0].plot([a, c], [b, d], color=colour, lw=1.2)
            axes[0].plot(a, b, "o", color=colour, ms=2.5)
        for panel in axes:
            panel.set_axis_off()
    return figure, (
        "Realistic test pictures with the true pose (white) and the one that was read (colour), and below what the "
        "decoder of the simulation makes of their latents, from which it was read."
    )


def errors(run: Run) -> Drawn | None:
    """How many realistic test pictures are within an error of the position, by model."""
    import matplotlib.pyplot as plt

    pictures = run.table("pictures").query("pictures == 'realistic'")
    if not len(pictures):
        return None
    figure, axes = plt.subplots(figsize=(SINGLE_COLUMN, 2.6))
    for number, (name, own) in enumerate(pictures.groupby("model", sort=False)):
        error = np.sort(own.error.to_numpy())
        share = np.arange(1, len(error) + 1) / len(error)
        axes.step(error, share, where="post", color=COLOURS[number % len(COLOURS)], label=name)
    axes.set(xscale="log", xlabel="error of the position (mm)", ylabel="share of test pictures", ylim=(0, 1))
    axes.legend(fontsize=6)
    return figure, "The share of realistic test pictures whose position is off by no more than a distance."
