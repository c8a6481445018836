"""How figures look: paper size, colour maps that everyone can read, PNG and SVG."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciencevae.data.atomic import atomic_path
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sciencevae.runs import Run

__all__ = [
    "COLOURS",
    "CYCLIC",
    "DIVERGING",
    "DOUBLE_COLUMN",
    "SEQUENTIAL",
    "SINGLE_COLUMN",
    "Drawing",
    "Drawn",
    "Mapped",
    "Moving",
    "image_grid",
    "latent_figure",
    "places_in",
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
_CONTROL = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\ufffe\\uffff]")
#: columns of a history that are drawn
_LOSSES = "^(epoch$|train_|valid_)"


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


@dataclass(frozen=True)
class Drawing:
    """A picture that another library than matplotlib drew, in both formats; width: on the page, in inches."""

    svg: str
    png: bytes
    width: float = DOUBLE_COLUMN


@dataclass(frozen=True)
class Mapped:
    """A figure on which the page shows more where the pointer stands: a datum's picture and text at its place.

    places: of each datum, those in the figure as shares of its width and height from the upper left corner;
    texts: what is said of each; pictures: an SVG of each.
    """

    figure: Figure
    places: Sequence[Sequence[tuple[float, float]]]
    texts: Sequence[str]
    pictures: Sequence[str]


@dataclass(frozen=True)
class Moving:
    """A figure that moves: one moment on paper, and films by their endings, "gif" (which the page shows), "mp4"."""

    figure: Figure
    films: Mapping[str, bytes]


#: a figure, and its caption
Drawn = tuple["Figure | Drawing | Mapped | Moving", str]


def places_in(figure: Figure, panels: Sequence[Axes], points: np.ndarray) -> list[list[tuple[float, float]]]:
    """Where points (N, 2) of the panels' coordinates stand in the figure, in each panel, for ``Mapped``."""
    _as_it_stands(figure)
    figure.canvas.draw()  # the layout is made then
    found = []
    for panel in panels:
        shares = figure.transFigure.inverted().transform(panel.transData.transform(points))
        found.append([(x, 1 - y) for x, y in shares.tolist()])
    return [list(places) for places in zip(*found, strict=True)]


def save_figure(figure: Figure | Drawing, folder: Path, name: str) -> list[Path]:
    """Write ``name.png`` and ``name.svg`` and close the figure; clouds of points are pixels in the SVG."""
    if isinstance(figure, Drawing):
        paths = []
        for suffix, content in (("png", figure.png), ("svg", figure.svg.encode())):
            paths.append(folder / f"{name}.{suffix}")
            with atomic_path(paths[-1]) as partial:
                partial.write_bytes(content)
        return paths
    import matplotlib.pyplot as plt
    import numpy as np

    _as_it_stands(figure)
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
            if suffix == "svg":  # which XML has no room for, not even escaped
                partial.write_text(
                    _CONTROL.sub("\ufffd", partial.read_text(encoding="utf-8")), encoding="utf-8"
                )
        paths.append(path)
    plt.close(figure)
    return paths


def _as_it_stands(figure: Figure) -> None:
    """Draw text that is taken for mathematics and is none, as a column named ``$\\frac{$``, as it stands."""
    from matplotlib.mathtext import MathTextParser
    from matplotlib.text import Text

    parser = MathTextParser("path")
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        written = text.get_text()
        if text.get_parse_math() and "$" in written:
            try:
                for line in written.split("\n"):
                    parser.parse(line)
            except ValueError:
                text.set_parse_math(False)


def image_grid(
    images: Any,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    cmap: str = SEQUENTIAL,
    limits: tuple[float, float] | None = None,
    gap: int = 1,
    unit: str | None = None,
) -> Figure:
    """Images side by side on one colour scale, without frames: a manifold, a traversal, reconstructions.

    images: (R, C, H, W), R rows of C images, drawn with their first row on top; NaN is left blank.
    limits: of the colour scale, by default the extremes of all images. gap: pixels between images.
    unit: what the colours mean; with it there is a colour bar. Labels are of the R rows and the C columns.
    """
    import matplotlib.pyplot as plt
    import numpy as np

    images = np.asarray(images, dtype=float)
    if images.ndim != 4 or not images.size:
        raise InputError(f"a grid of images is (rows, columns, height, width), not {images.shape}")
    rows, columns, height, width = images.shape
    for name, labels, count in (("row", row_labels, rows), ("column", column_labels, columns)):
        if len(labels) not in (0, count):
            raise InputError(f"{len(labels)} {name}_labels for {count} {name}s of images")
    # one picture and not an axes for each image: a manifold of 400 took 1 s instead of 8
    padded = np.pad(images, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    tiled = padded.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap))
    tiled = tiled[: tiled.shape[0] - gap, : tiled.shape[1] - gap]

    # images of 0.8 inches, smaller where the page is full; beside them room for labels and the colour bar
    scale = min(0.8 / max(height, width), (DOUBLE_COLUMN - 1) / tiled.shape[1], 8.0 / tiled.shape[0])
    beside = 0.3 * bool(len(row_labels)) + 0.7 * (unit is not None)
    size = (tiled.shape[1] * scale + beside, tiled.shape[0] * scale + 0.25 * bool(len(column_labels)))
    figure, axes = plt.subplots(figsize=size)
    low, high = limits or (None, None)
    picture = axes.imshow(tiled, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    axes.set_yticks(np.arange(len(row_labels)) * (height + gap) + (height - 1) / 2, row_labels)
    axes.set_xticks(np.arange(len(column_labels)) * (width + gap) + (width - 1) / 2, column_labels)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    if unit is not None:
        figure.colorbar(picture, ax=axes, label=unit)
    return figure


def latent_figure(run: Run) -> tuple[Figure, str] | None:
    """KL of each latent dimension and where the aggregate posterior lies, for every variant that has z."""
    import matplotlib.pyplot as plt
    import numpy as np

    uses = {name: variant.metrics.get("latents", {}) for name, variant in run.variants.items()}
    uses = {name: use for name, use in uses.items() if "aggregate_mean" in use}
    if not uses:
        return None
    unknown = [name for name, use in uses.items() if use["kl_by_dim"] is None]
    known = len(unknown) < len(uses)
    figure, panels = plt.subplots(1, 1 + known, figsize=(DOUBLE_COLUMN, 2.3), squeeze=False)
    *left, right = panels[0]
    right.axhspan(-1, 1, color="0.93")
    for place, (name, use) in enumerate(uses.items()):
        dims = np.arange(use["dimensions"]) + 0.6 * ((place + 0.5) / len(uses) - 0.5)
        points = {"color": COLOURS[place % len(COLOURS)], "label": name, "fmt": "o", "ms": 2.5, "lw": 0.8}
        if use["kl_by_dim"] is not None:
            left[0].errorbar(dims, use["kl_by_dim"], clip_on=False, **points)
        right.errorbar(dims, use["aggregate_mean"], use["aggregate_std"], **points)
    for axes in left:
        axes.set(ylabel="KL (nats)", ylim=(0, None))
    right.set(ylabel="latent, mean ± std. dev.")
    for axes in panels[0]:
        axes.set_xlabel("latent dimension")
        axes.xaxis.get_major_locator().set_params(integer=True)
    if len(uses) > 1:
        right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    caption = (
        "Latents of validation data, drawn from their posteriors; grey: the standard normal, which they fill where "
        "that is the prior."
    )
    if known:
        caption = f"Left: KL of each latent dimension; one near 0 carries nothing. Right: {caption}"
    if unknown:
        caption += f" The KL of {', '.join(unknown)} is not a sum over dimensions."
    return figure, caption


def training_figure(run: Run) -> tuple[Figure, str]:
    """The parts of the loss against the epoch, for every variant."""
    import matplotlib.pyplot as plt

    histories = _distinct({name: variant.history for name, variant in run.variants.items()})
    parts = [
        column.removeprefix("train_") for column in histories[0][1].columns if column.startswith("train_")
    ][:3]
    places = {name: place for place, name in enumerate(run.variants)}
    figure, panels = plt.subplots(1, len(parts), figsize=(DOUBLE_COLUMN, 2.3), squeeze=False)
    for axes, part in zip(panels[0], parts, strict=True):
        for names, history in histories:
            # as in the other figures: each variant has its colour, whether others are like it or not
            colour = COLOURS[places[names[0]] % len(COLOURS)]
            for prefix, line in (("train", "-"), ("valid", "--")):
                if f"{prefix}_{part}" in history:
                    label = " = ".join(names) if prefix == "train" else None
                    values = history[f"{prefix}_{part}"]
                    dots = "." if len(values) < 4 else None
                    axes.plot(history["epoch"], values, line, color=colour, label=label, marker=dots)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylabel({"kl": "KL", "loss": "loss"}.get(part, part) + " (nats)")
    if len(histories) > 1:
        panels[0][0].legend()
    return figure, "Parts of the loss during training; solid: training data, dashed: validation data."


def _distinct(histories: dict[str, pd.DataFrame]) -> list[tuple[list[str], pd.DataFrame]]:
    """Each history once, with the variants that have it: several where only the prior is fitted anew."""
    alike: list[tuple[list[str], pd.DataFrame]] = []
    for name, history in histories.items():
        losses = history.filter(regex=_LOSSES)
        for names, other in alike:
            if losses.equals(other.filter(regex=_LOSSES)):
                names.append(name)
                break
        else:
            alike.append(([name], history))
    return alike
