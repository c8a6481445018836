"""Figures of a scored table: the scores, the most anomalous rows with their columns, the latents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from sciencevae.latents.columns import CONTRIBUTION
from sciencevae.report.figures import COLOURS, DOUBLE_COLUMN, SEQUENTIAL

from .analysis import UNITS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciencevae.runs import Run

__all__ = ["latent_map", "scores", "top_anomalies"]

_SHOWN = 12  # columns of the map of contributions, at most
_POINTS = 50_000  # of a map of rows, at most
_LETTERS = 18  # of a column's name


def scores(run: Run) -> tuple[Figure, str]:
    """How the scores are distributed: training rows, test rows, and by label where there is one."""
    import matplotlib.pyplot as plt

    names = list(run.variants)
    figure, panels = plt.subplots(len(names), 1, figsize=(DOUBLE_COLUMN, 2.4 * len(names)), squeeze=False)
    for axes, name in zip(panels[:, 0], names, strict=True):
        table = _table(run, name, "score", "split", "anomaly")
        values = table["score"].to_numpy()
        limit = run.metrics["anomalies"][name]["threshold"]
        low, high = values.min(), max(np.quantile(values, 0.9), limit)
        bins = np.linspace(low, high + 0.2 * (high - low) + 1e-9, 60)
        for colour, (label, chosen) in zip(COLOURS, _groups(table).items(), strict=False):
            shown = np.clip(values[chosen], bins[0], bins[-1])
            axes.hist(
                shown, bins, density=True, histtype="step", color=colour, label=f"{label} ({chosen.sum()})"
            )
        axes.axvline(limit, color="0.4", ls="--", lw=0.8)
        axes.set(xlabel=_label(run), ylabel="density", title=name if len(names) > 1 else "")
        axes.legend()
    return figure, (
        "Scores; the last bin holds all that are higher. Dashed: the threshold from held-out rows like the "
        "training rows."
    )


def top_anomalies(run: Run) -> tuple[Figure, str]:
    """Of the most anomalous rows, which columns add how much to the score, beyond their mean over training rows."""
    import matplotlib.pyplot as plt

    table = _table(run, "main", "id", "score", "split")
    rows, train = table.nlargest(run.settings.analyse.listed, "score").index, table["split"] == "train"
    names = [name for name in pq.read_schema(_path(run, "main")).names if name.startswith(CONTRIBUTION)]
    read = (_table(run, "main", name)[name] for name in names)  # one is in memory at a time
    excess = pd.DataFrame({part.name: part[rows] - part[train].mean() for part in read})
    chosen = excess.max().nlargest(_SHOWN).index
    shown = excess[chosen].clip(lower=0)
    height = 0.9 + 0.16 * len(rows)
    figure, axes = plt.subplots(figsize=(DOUBLE_COLUMN, height))
    picture = axes.imshow(np.log10(1 + shown), cmap=SEQUENTIAL, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(rows)), table.loc[rows, "id"].astype(str).str[:_LETTERS], parse_math=False)
    labels = [str(name).removeprefix(CONTRIBUTION)[:_LETTERS] for name in chosen]
    axes.set_xticks(range(len(chosen)), labels, rotation=40, ha="right", parse_math=False)
    bar = figure.colorbar(picture, ax=axes, label=_label(run, "beyond the usual"))
    ticks = [t for t in (0, 1, 3, 10, 30, 100, 300, 1000, 10_000) if np.log10(1 + t) <= picture.norm.vmax]
    bar.set_ticks(np.log10(1 + np.array(ticks)), labels=list(map(str, ticks)))
    return figure, (
        f"The {len(rows)} rows of highest score, the most anomalous on top, and the columns that add most to them: "
        "how far beyond the column's mean over training rows."
    )


def latent_map(run: Run) -> tuple[Figure, str]:
    """Where rows lie in the two latents of largest variance, coloured by their score."""
    import matplotlib.pyplot as plt

    latents, table = run.main.latents, _table(run, "main", "score", "anomaly")
    z = latents["z"].values
    active = np.argsort(-z.var(0))[:2]
    first, second = (active[0], active[-1])
    z = z[np.argsort(latents["row"].values)]
    order = np.argsort(table["score"].to_numpy())
    order = order[::-1][:: -(-len(order) // _POINTS)][::-1]  # evenly by score, the highest among them
    low, high = np.quantile(table["score"], [0.01, 0.99])
    figure, axes = plt.subplots(figsize=(DOUBLE_COLUMN / 1.6, 3.2))
    cloud = axes.scatter(
        z[order, first], z[order, second], c=table["score"].to_numpy()[order], s=5, vmin=low, vmax=high,
        linewidths=0,
    )  # fmt: skip
    if "anomaly" in table:
        odd = order[table["anomaly"].to_numpy()[order] == 1]
        axes.scatter(
            z[odd, first], z[odd, second], s=16, facecolors="none", edgecolors=COLOURS[5], linewidths=0.5,
            label=f"labelled anomalous ({len(odd)})",
        )  # fmt: skip
        axes.legend()
    figure.colorbar(cloud, ax=axes, label=_label(run))
    axes.set(xlabel=f"latent {first}", ylabel=f"latent {second}")
    shown = (
        "all rows" if len(order) == len(z) else f"{len(order):,} of {len(z):,} rows, evenly by their score,"
    )
    return figure, f"Posterior means of {shown} in the two latents that vary most, coloured by score."


def _label(run: Run, what: str = "score") -> str:
    return f"{what} ({UNITS[run.settings.analyse.score]})"


def _path(run: Run, variant: str) -> Path:
    return run.variants[variant].folder / "scores.parquet"


def _table(run: Run, variant: str, *columns: str) -> pd.DataFrame:
    """Some columns of the scores, as far as they are there."""
    path = _path(run, variant)
    there = pq.read_schema(path).names
    return pd.read_parquet(path, columns=[name for name in columns if name in there])


def _groups(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """What is drawn apart: training rows; and test rows, by label where there is one."""
    split = table["split"].to_numpy()
    found = {"training rows": split == "train"}
    if "anomaly" in table:
        anomaly = table["anomaly"].to_numpy()
        for text, code in (
            ("normal test rows", 0),
            ("anomalous test rows", 1),
            ("test rows without a label", -1),
        ):
            found[text] = (split == "test") & (anomaly == code)
    else:
        found["test rows"] = split == "test"
    return {name: chosen for name, chosen in found.items() if chosen.any()}
