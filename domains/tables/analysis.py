"""From a trained model to scores: of every row, the columns that explain them, and how well they tell anomalies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sciencevae.batch import Batch
from sciencevae.data.atomic import atomic_path
from sciencevae.data.batches import as_batches
from sciencevae.data.scaling import Scaling
from sciencevae.data.splits import SPLITS
from sciencevae.latents.columns import CONTRIBUTION, contribution_columns
from sciencevae.latents.neighbours import Neighbourhood
from sciencevae.latents.score import LATENTS, Threshold, auc, contributions, threshold
from sciencevae.registry import Findings

from .columns import columns_of

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.runs import Run, Variant

    from .settings import Analyse

__all__ = ["UNITS", "anomalies", "columns", "detection", "scored"]

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
#: neighbours, and the share trimmed, of training rows that are normal by their label, and of others
#: (benchmarks/tables_anomalies.py)
_NORMAL, _UNKNOWN = (3, 0.0), (5, 0.3)
_ROWS = 1024
_EXPLAINED = 3  # columns named for each row of the table


def columns(run: Run) -> Findings:
    """What the columns were taken for, and which were left out."""
    data = run.main.data
    rows: list[dict[str, Any]] = []
    for column in columns_of(data.attrs):
        values = data[column.field].sel({f"{column.field}_column": column.name}).values
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


def scored(variant: Variant) -> pd.DataFrame:
    """Every row of the prepared data in the file's order: row, id, split, label, score, contributions by column.

    beyond: the share of held-out rows, those of the split valid, that score lower. The contributions add up to the
    score (``latents.score.contributions``, ``latents.neighbours``).
    """
    data = variant.data.load()
    batch = _batch(data)
    explain, parts = _explaining(variant, data, batch), []
    for start in range(0, len(batch), _ROWS):
        rows = slice(start, start + _ROWS)
        parts.append(pd.DataFrame(contribution_columns(explain(batch[rows], rows), data)))
    ordered = [*(column.name for column in columns_of(data.attrs)), LATENTS]
    explained = pd.concat(parts, ignore_index=True)[[f"{CONTRIBUTION}{name}" for name in ordered]]
    names = {code: name for name, code in SPLITS.items()}
    known: dict[str, Any] = {name: data[name].values for name in ("row", "id", "split")}
    if "label" in data.coords:
        known |= {"label": data["label"].values, "anomaly": data["anomaly"].values}
    score = explained.sum(axis=1)
    held_out = np.sort(score[known["split"] == SPLITS["valid"]])
    known |= {"score": score, "beyond": np.searchsorted(held_out, score) / max(len(held_out), 1)}
    table = pd.DataFrame(known | {"split": [names[code] for code in known["split"]]})
    return pd.concat([table, explained], axis=1).sort_values("row", ignore_index=True)


def _explaining(variant: Variant, data: xr.Dataset, batch: Batch) -> Callable[[Batch, slice], Any]:
    """What gives the contributions of a batch, and of which rows of the data it is, by the score that is set."""
    chosen, model = variant.run.settings.analyse, variant.model()
    if chosen.score != "neighbours":
        return lambda part, rows: contributions(model, part, chosen.score, chosen.samples, chosen.seed)
    train = np.flatnonzero(data["split"].values == SPLITS["train"])
    reference = train[:: -(-len(train) // chosen.reference_max)]
    near = Neighbourhood.of(model, batch[torch.from_numpy(reference)], *_neighbours(chosen, data))
    itself = np.full(len(batch), -1)
    itself[reference] = np.arange(len(reference))
    return lambda part, rows: near.contributions(part, itself[rows])


def _neighbours(chosen: Analyse, data: xr.Dataset) -> tuple[int, float]:
    """How many training rows a row is compared with, and the share of these that is nobody's neighbour."""
    k, trim = _NORMAL if data.attrs["normal_train"] else _UNKNOWN
    return chosen.neighbours or k, trim if chosen.trim is None else chosen.trim


def _batch(data: xr.Dataset) -> Batch:
    """All rows, scaled, in the order of the store."""
    (batch,) = as_batches(data.drop_vars("split"), scaling=Scaling.of(data)).blocks(data.sizes["sample"])
    return batch


def anomalies(run: Run) -> Findings:
    """Scores of all rows (``scores.parquet`` beside each variant's model), and the most anomalous ones explained.

    Named for each row: the columns whose contribution lies farthest above its mean over training rows.
    """
    chosen, listed, limits = run.settings.analyse, [], {}
    for name, variant in run.variants.items():
        table = scored(variant)
        held_out = table.loc[table["split"] == "valid", "score"].to_numpy()
        with atomic_path(variant.folder / "scores.parquet") as partial:
            table.to_parquet(partial, index=False)
        limits[name] = _limit(held_out, chosen.false_positive_rate)
        listed.append(_explained(table, chosen.listed).assign(variant=name))
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
        k, trim = _neighbours(chosen, data)
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


def _explained(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The rows of highest score, with the columns that stand out in each."""
    parts = table.filter(like=CONTRIBUTION)
    usual = parts[table["split"] == "train"].mean()
    top = table.nlargest(count, "score")
    told = []
    for index in top.index:
        excess = (parts.loc[index] - usual).nlargest(_EXPLAINED)
        told.append(
            ", ".join(f"{str(n).removeprefix(CONTRIBUTION)} {v:+.3g}" for n, v in excess.items() if v > 0)
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
        table = pd.read_parquet(variant.folder / "scores.parquet")
        test = (table["split"] == "test").to_numpy()
        anomaly = table["anomaly"].to_numpy()
        counts = [int((test & (anomaly == kind)).sum()) for kind in (0, 1)]
        if min(counts) < 2:
            notes.append(
                f"{name}: the test rows hold {counts[0]} normal and {counts[1]} anomalous ones by their label, too "
                "few of one kind to measure how well the score tells them apart."
            )
            continue
        scores = {_KINDS[run.settings.analyse.score]: table["score"].to_numpy()}
        scores |= _baselines(variant, table["row"].to_numpy())
        for method, score in scores.items():
            normal, odd = (score[test & (anomaly == kind)] for kind in (0, 1))
            area = auc(normal, odd)
            rows.append({"variant": name, "method": method, "auc": area.value, "error": area.stderr})
        limit = run.settings.analyse.false_positive_rate
        value = _limit(table.loc[table["split"] == "valid", "score"].to_numpy(), limit)
        above = value.is_anomalous(table["score"].to_numpy())
        found[name] = {
            "auc": rows[-len(scores)]["auc"],
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


def _baselines(variant: Variant, order: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of other methods, of the rows in the order of their numbers in the file."""
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import NearestNeighbors

    data = variant.data
    x = _matrix(data)[np.argsort(data["row"].values)]
    split = data["split"].values[np.argsort(data["row"].values)]
    assert len(x) == len(order)
    train = x[split == SPLITS["train"]]
    forest = IsolationForest(random_state=variant.run.settings.analyse.seed).fit(train)
    near = NearestNeighbors(n_neighbors=min(5, len(train))).fit(train)
    return {
        "isolation forest": -forest.score_samples(x),
        "5th neighbour": near.kneighbors(x)[0][:, -1],
    }


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
