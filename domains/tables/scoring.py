"""Every row of a run with its score and what each column adds to it, in the file's order, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from sciencevae.batch import Batch
from sciencevae.data.atomic import atomic_path
from sciencevae.data.batches import as_batches
from sciencevae.data.rows import evenly, rows_of
from sciencevae.data.scaling import Scaling
from sciencevae.data.shuffle import scattered
from sciencevae.data.splits import SPLITS
from sciencevae.latents.columns import CONTRIBUTION, contribution_columns
from sciencevae.latents.neighbours import Neighbourhood
from sciencevae.latents.score import LATENTS, contributions
from sciencevae.latents.writing import write_parquet

from .columns import columns_of

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.runs import Variant

    from .settings import Analyse

__all__ = ["Scored", "neighbours_of", "scored"]

#: neighbours, and the share trimmed, of training rows that are normal by their label, and of others
#: (benchmarks/tables_anomalies.py)
_NORMAL, _UNKNOWN = (3, 0.0), (5, 0.3)
_ROWS = 1024  # that go through the model at once
_BLOCK = 32 * _ROWS  # that are read at once
_PART_BYTES = 16 << 20  # of the table that is written


class Scored(NamedTuple):
    """Scores of held-out rows, those of the split valid · the rows of highest score, all columns of the table ·
    the mean of each column's contribution over training rows."""

    held_out: np.ndarray
    top: pd.DataFrame
    usual: pd.Series


def scored(variant: Variant, path: Path, listed: int) -> Scored:
    """Write every row of the prepared data: row, id, split, label, anomaly, score, beyond, contributions by column.

    beyond: the share of held-out rows that score lower. The contributions add up to the score
    (``latents.score.contributions``, ``latents.neighbours``).
    """
    data, explain = variant.data, _explaining(variant)
    names = [f"{CONTRIBUTION}{name}" for name in (*(c.name for c in columns_of(data.attrs)), LATENTS)]
    known = [name for name in ("row", "id", "split", "label", "anomaly") if name in data.coords]
    held_out: list[np.ndarray] = []
    count, total, top = 0, np.zeros(len(names)), pd.DataFrame()

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        nonlocal count, total
        for start in range(0, data.sizes["sample"], _BLOCK):
            part = data.isel(sample=slice(start, start + _BLOCK)).load()
            batch, found = _batch(part), []
            for first in range(0, len(batch), _ROWS):
                rows = slice(first, first + _ROWS)
                found.append(pd.DataFrame(contribution_columns(explain(batch[rows], start + first), data)))
            explained = pd.concat(found, ignore_index=True)[names]
            score, split = explained.sum(axis=1).to_numpy(), part["split"].values
            held_out.append(score[split == SPLITS["valid"]])
            trained = explained[split == SPLITS["train"]]
            count, total = count + len(trained), total + trained.sum().to_numpy()
            told = {name: part[name].values for name in known} | {"score": score}
            yield told | {name: explained[name].to_numpy() for name in names}

    def tables(scratch: Path) -> Iterator[pd.DataFrame]:
        nonlocal top
        order = np.argsort(data["row"].values)
        row_bytes = 8 * len(names) + sum(data[name].dtype.itemsize for name in known)
        lower = None
        for _, part in scattered(blocks(), order, max(_ROWS, _PART_BYTES // row_bytes), scratch):
            lower = np.sort(np.concatenate(held_out)) if lower is None else lower  # all are scored by now
            part["split"] = np.array(list(SPLITS))[part["split"]]
            beyond = np.searchsorted(lower, part["score"]) / max(len(lower), 1)
            table = pd.DataFrame(
                {name: part.pop(name) for name in (*known, "score")} | {"beyond": beyond} | part
            )
            top = pd.concat([top, table], ignore_index=True).nlargest(listed, "score")
            yield table

    with atomic_path(path) as temporary:
        write_parquet(tables(temporary.with_name(temporary.name + ".scratch")), temporary, {})
    return Scored(np.concatenate(held_out), top, pd.Series(total / max(count, 1), index=names))


def neighbours_of(chosen: Analyse, data: xr.Dataset) -> tuple[int, float]:
    """How many training rows a row is compared with, and the share of these that is nobody's neighbour."""
    k, trim = _NORMAL if data.attrs["normal_train"] else _UNKNOWN
    return chosen.neighbours or k, trim if chosen.trim is None else chosen.trim


def _explaining(variant: Variant) -> Callable[[Batch, int], Any]:
    """What gives the contributions of a batch whose first row has that place in the store, by the score set."""
    chosen, model, data = variant.run.settings.analyse, variant.model(), variant.data
    if chosen.score != "neighbours":
        return lambda part, first: contributions(model, part, chosen.score, chosen.samples, chosen.seed)
    train = np.flatnonzero(data["split"].values == SPLITS["train"])
    reference = train[evenly(len(train), chosen.reference_max)]
    near = Neighbourhood.of(model, _batch(rows_of(data, reference)), *neighbours_of(chosen, data))

    def explain(part: Batch, first: int) -> Any:
        rows = np.arange(first, first + len(part))
        place = np.minimum(np.searchsorted(reference, rows), len(reference) - 1)
        return near.contributions(part, np.where(reference[place] == rows, place, -1))

    return explain


def _batch(data: xr.Dataset) -> Batch:
    """All rows, scaled, in the order of the store."""
    (batch,) = as_batches(data.drop_vars("split"), scaling=Scaling.of(data)).blocks(data.sizes["sample"])
    return batch
