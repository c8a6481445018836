"""From a trained model to scores: of every row, the columns that explain them, and how well they tell anomalies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sciencevae.data.rows import evenly, rows_of
from sciencevae.data.splits import SPLITS
from sciencevae.latents.columns import CONTRIBUTION
from sciencevae.latents.score import Threshold, auc, threshold
from sciencevae.registry import Findings

from .columns import Column, columns_of
from .scoring import Scored, neighbours_of, scored

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.runs import Run, Variant

    from .settings import Analyse

__all__ = ["UNITS", "anomalies", "columns", "detection"]

TITLES = {
    "kind": "likelihood",
    "values": "different values",
    "missing": "rows without a value",
    "left_out": "left out because",
    "beyond": "share of held-out rows that score lower",
    "columns": "columns that add most, beyond their usual share",
    "false_positive_rate": "false positives, asked for",
    "measured": "false positives among normal test rows",
    "found": "anomalies found",
    "auc": "area under the ROC curve",
    "error": "standard error",
}
_KINDS = {
    "neighbours": "distance to training rows",
    "elbo": "−ELBO",
    "reconstruction": "reconstruction probability",
    "evidence": "−log p(x)",
}
#: of each kind of score
UNITS = {"neighbours": "× usual", "elbo": "nats", "reconstruction": "nats", "evidence": "nats"}
_READ_BYTES = 128 << 20  # of columns at once
_PEERS_ROWS = 100_000  # of a split that other methods see, at most
_EXPLAINED = 3  # columns named for each row of the table


def columns(run: Run) -> Findings:
    """What the columns were taken for, and which were left out."""
    data = run.main.data
    rows: list[dict[str, Any]] = []
    for column, values in _each_column(data):
        known = ~np.isnan(values) if values.dtype.kind == "f" else values >= 0
        rows.append(
            {
                "column": column.name,
                "kind": column.kind,
                "unit": column.unit or "–",
                "values": len(np.unique(values[known])),
                "missing": int((~known).sum()),
                "left_out": "",
            }
        )
    for name, reason in json.loads(data.attrs["left_out"]).items():
        rows.append({"column": name, "kind": "", "unit": "–", "left_out": reason})
    note = f"Trained on {data.attrs['trained_on']}."
    table = pd.DataFrame(rows).astype({"values": "Int64", "missing": "Int64"})
    return Findings({}, {"columns": table}, (note,), TITLES)


def _each_column(data: xr.Dataset) -> Iterator[tuple[Column, np.ndarray]]:
    """The columns in their order with their values (N,), some of a field read at once."""
    columns, group = columns_of(data.attrs), max(1, _READ_BYTES // (8 * data.sizes["sample"]))
    for start in range(0, len(columns), group):
        own = columns[start : start + group]
        read = {
            field: data[field].sel({f"{field}_column": [c.name for c in own if c.field == field]}).load()
            for field in {column.field for column in own}
        }
        for column in own:
            yield column, read[column.field].sel({f"{column.field}_column": column.name}).values


def anomalies(run: Run) -> Findings:
    """Scores of all rows (``scores.parquet`` beside each variant's model), and the most anomalous ones explained.

    Named for each row: the columns whose contribution lies farthest above its mean over training rows.
    """
    chosen, listed, limits = run.settings.analyse, [], {}
    for name, variant in run.variants.items():
        found = scored(variant, variant.folder / "scores.parquet", chosen.listed)
        limits[name] = _limit(found.held_out, chosen.false_positive_rate)
        listed.append(_explained(found).assign(variant=name))
    top = pd.concat(listed, ignore_index=True)
    if len(run.variants) == 1:
        top = top.drop(columns="variant")
    metrics = {
        name: {"threshold": limit.value, "false_positive_rate": limit.rate, "rows it is from": limit.n}
        for name, limit in limits.items()
    }
    notes = (
        f"{_said(chosen, run.main.data)} Higher is more anomalous. It is the sum of what each column and the "
        "latents add, all of it in scores.parquet; what stands out is told beyond the mean over training rows.",
        "The threshold is from held-out rows like the training rows; with few of them no lower rate of false "
        "positives can be had.",
    )
    return Findings(metrics, {"top_anomalies": top}, notes, TITLES)


def _said(chosen: Analyse, data: xr.Dataset) -> str:
    """What the score is."""
    if chosen.score == "neighbours":
        k, trim = neighbours_of(chosen, data)
        without = f" (without the {trim:.0%} that are farthest from the others)" if trim else ""
        return (
            f"The score is the mean squared distance of a row to the {k} nearest training rows{without}, by what "
            "is usual among these: half of it in the columns themselves, half in its latents and in what they "
            "leave over of each column, in standard deviations."
        )
    return (
        f"The score is the {_KINDS[chosen.score]} in nats, from {chosen.samples} draws of a row's posterior."
    )


def _limit(held_out: np.ndarray, rate: float) -> Threshold:
    """The threshold of the rate that is asked for, or of the lowest that so many scores allow."""
    return threshold(held_out, max(rate, 1 / (len(held_out) + 1)))


def _explained(found: Scored) -> pd.DataFrame:
    """The rows of highest score, with the columns that stand out in each."""
    top, told = found.top, []
    for excess in (top[list(found.usual.index)] - found.usual).itertuples(index=False, name=None):
        most = pd.Series(excess, found.usual.index).nlargest(_EXPLAINED)
        told.append(
            ", ".join(f"{str(n).removeprefix(CONTRIBUTION)} {v:+.3g}" for n, v in most.items() if v > 0)
        )
    kept = [name for name in ("id", "row", "label", "split", "score", "beyond") if name in top]
    return top[kept].assign(columns=told).reset_index(drop=True)


def detection(run: Run) -> Findings:
    """Where rows have labels: how well the score tells anomalous test rows from normal ones, beside other methods.

    Isolation forest (Liu et al. 2008) and the distance to the fifth neighbour (Ramaswamy et al. 2000), with the
    authors' settings, see the same training rows: numbers and log(1 + counts) by their standard deviation,
    categories as one of K, missing values as the training rows' median.
    """
    rows: list[dict[str, Any]] = []
    found, notes = {}, []
    for name, variant in run.variants.items():
        data = variant.data
        if "anomaly" not in data.coords:
            return Findings()
        table = pd.read_parquet(
            variant.folder / "scores.parquet", columns=["row", "split", "anomaly", "score"]
        )
        test = (table["split"] == "test").to_numpy()
        anomaly = table["anomaly"].to_numpy()
        counts = [int((test & (anomaly == kind)).sum()) for kind in (0, 1)]
        if min(counts) < 2:
            notes.append(
                f"{name}: the test rows hold {counts[0]} normal and {counts[1]} anomalous ones by their label, too "
                "few of one kind to measure how well the score tells them apart."
            )
            continue
        score = table["score"].to_numpy()
        ours = tuple(score[test & (anomaly == kind)] for kind in (0, 1))
        measured = {_KINDS[run.settings.analyse.score]: ours} | _baselines(variant)
        for method, (normal, odd) in measured.items():
            area = auc(normal, odd)
            rows.append({"variant": name, "method": method, "auc": area.value, "error": area.stderr})
        limit = run.settings.analyse.false_positive_rate
        value = _limit(table.loc[table["split"] == "valid", "score"].to_numpy(), limit)
        above = value.is_anomalous(score)
        if max(counts) > _PEERS_ROWS or int((table["split"] == "train").sum()) > _PEERS_ROWS:
            notes.append(
                f"{name}: other methods see at most {_PEERS_ROWS:,} training rows, taken evenly from the file, and "
                "are measured on at most as many test rows of each kind."
            )
        found[name] = {
            "auc": rows[-len(measured)]["auc"],
            "false_positive_rate": value.rate,
            "measured": float(above[test & (anomaly == 0)].mean()),
            "found": float(above[test & (anomaly == 1)].mean()),
        }
    if not rows:
        return Findings(notes=tuple(notes))
    table = pd.DataFrame(rows)
    if len(run.variants) == 1:
        table = table.drop(columns="variant")
    notes.append("Labels were used here alone" + (
        ", and to choose the rows that train." if run.settings.prepare.train_on != "all" else "."))  # fmt: skip
    return Findings(found, {"detection": table}, tuple(notes), TITLES)


def _baselines(variant: Variant) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of other methods the scores of normal and of anomalous test rows."""
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import NearestNeighbors

    split, anomaly, row = (variant.data[name].values for name in ("split", "anomaly", "row"))
    places = [
        _evenly(np.flatnonzero(own), row)
        for own in (
            split == SPLITS["train"],
            *((split == SPLITS["test"]) & (anomaly == kind) for kind in (0, 1)),
        )
    ]
    data = rows_of(variant.data, np.sort(np.concatenate(places)))
    x = _matrix(data)[np.argsort(data["row"].values)]
    data = data[["split", "anomaly", "row"]].sortby("row")
    train = x[data["split"].values == SPLITS["train"]]
    test = [x[(data["split"].values == SPLITS["test"]) & (data["anomaly"].values == kind)] for kind in (0, 1)]
    forest = IsolationForest(random_state=variant.run.settings.analyse.seed).fit(train)
    near = NearestNeighbors(n_neighbors=min(5, len(train))).fit(train)
    return {
        "isolation forest": (-forest.score_samples(test[0]), -forest.score_samples(test[1])),
        "5th neighbour": (near.kneighbors(test[0])[0][:, -1], near.kneighbors(test[1])[0][:, -1]),
    }


def _evenly(places: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Of some places in the store at most ``_PEERS_ROWS``, evenly by the rows' numbers in the file."""
    return places[np.argsort(row[places])][evenly(len(places), _PEERS_ROWS)]


def _matrix(data: Any) -> np.ndarray:
    """All columns as numbers, (N, ·), without missing ones, scaled by the training rows."""
    train, parts = data["split"].values == SPLITS["train"], []
    for column in columns_of(data.attrs):
        values = data[column.field].sel({f"{column.field}_column": column.name}).values
        if column.kind == "categorical":
            parts.append((values[:, None] == np.arange(len(column.levels) + 1)).astype(float))
            continue
        numbers = values.astype(float)
        if column.kind == "counts":
            numbers = np.log1p(np.where(values < 0, np.nan, values))
        numbers = np.where(np.isnan(numbers), np.nanmedian(numbers[train]), numbers)
        parts.append(((numbers - numbers[train].mean()) / (numbers[train].std() or 1.0))[:, None])
    return np.concatenate(parts, axis=1)
