"""How figures look: paper size, colour maps that everyone can read, PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciencevae.data.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciencevae.runs import Run

__all__ = [
    "COLOURS",
    "CYCLIC",
    "DIVERGING",
    "DOUBLE_COLUMN",
    "SEQUENTIAL",
    "SINGLE_COLUMN",
    "save_figure",
    "style",
    "training_figure",
]

#: widths of a journal's columns, in inches
SINGLE_COLUMN, DOUBLE_COLUMN = 3.5, 7.2
#: Okabe & Ito (2008): told apart with every kind of colour vision; black comes last
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
#: perceptually even maps: for amounts, for signed amounts, for angles
SEQUENTIAL, DIVERGING, CYCLIC = "viridis", "RdBu_r", "twilight"


@contextmanager
def style() -> Iterator[None]:
    """Draw inside this: fonts, lines and colours of a paper. Uses no display."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from cycler import cycler

    settings: Any = {
        "figure.figsize": (SINGLE_COLUMN, 2.6),
        "figure.dpi": 150,
        "figure.constrained_layout.use": True,
        "savefig.dpi": 200,
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "legend.fontsize": 7,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "image.cmap": SEQUENTIAL,
        "axes.prop_cycle": cycler(color=COLOURS),
        "svg.fonttype": "none",
        "svg.hashsalt": "sciencevae",  # the same figure gives the same file
    }
    with matplotlib.rc_context(settings):
        yield


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``name.png`` and ``name.svg`` and close the figure; clouds of points are pixels in the SVG."""
    import matplotlib.pyplot as plt
    import numpy as np

    for axes in figure.axes:
        for cloud in axes.collections:
            if np.shape(cloud.get_offsets())[0] > 2000:
                cloud.set_rasterized(True)
    paths = []
    for suffix in ("png", "svg"):
        path = folder / f"{name}.{suffix}"
        metadata = {"Date": None} if suffix == "svg" else {"Software": "sciencevae"}
        with atomic_path(path) as partial:
            figure.savefig(partial, format=suffix, metadata=metadata)
        paths.append(path)
    plt.close(figure)
    return paths


def training_figure(run: Run) -> tuple[Figure, str]:
    """The parts of the loss against the epoch, for every variant."""
    import matplotlib.pyplot as plt

    histories = {name: variant.history for name, variant in run.variants.items()}
    parts = [
        column.removeprefix("train_")
        for column in next(iter(histories.values())).columns
        if column.startswith("train_")
    ][:3]
    figure, panels = plt.subplots(1, len(parts), figsize=(DOUBLE_COLUMN, 2.3), squeeze=False)
    for axes, part in zip(panels[0], parts, strict=True):
        for (name, history), colour in zip(histories.items(), COLOURS * len(histories), strict=False):
            for prefix, line in (("train", "-"), ("valid", "--")):
                if f"{prefix}_{part}" in history:
                    label = name if prefix == "train" else None
                    values = history[f"{prefix}_{part}"]
                    dots = "." if len(values) < 4 else None
                    axes.plot(history["epoch"], values, line, color=colour, label=label, marker=dots)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylabel({"kl": "KL", "loss": "loss"}.get(part, part) + " (nats)")
    if len(histories) > 1:
        panels[0][0].legend()
    return figure, "Parts of the loss during training; solid: training data, dashed: validation data."
