"""From a table to the prepared data set: its columns by kind, which rows train, and a user's own rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from sciencevae.data.splits import SPLITS, assign
from sciencevae.data.tables import open_table, write_table
from sciencevae.errors import InputError

from .columns import OTHER, Column, columns_of, frame_of, inferred, text, to_json
from .settings import Prepare, Tables

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["fields_of", "is_anomalous", "prepare", "read", "write"]

#: values of a label that are normal where none are set, compared without case
NORMAL = ("0", "false", "normal")
#: of single precision, in which models compute
_LARGEST = float(np.finfo(np.float32).max)
_SCALING = {"gaussian": "standard", "student": "robust"}
_LONG_NAMES = {
    "gaussian": "numbers, normal errors",
    "student": "numbers, Student-t errors",
    "counts": "counts",
}


def prepare(settings: Tables, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """The table as a Dataset: fields gaussian, student, counts and categories_K, each (sample, column).

    Missing values are NaN, −1 among whole numbers. Coordinates: id; row, the number in the file, from 0; label as
    text and anomaly (1, 0, −1 unknown), where there is a label; group: rows that are equal. With
    ``train_on="normal"`` every row that is not labelled as normal is in test; ``attrs["trained_on"]`` says so.
    """
    import pandas as pd

    chosen = settings.prepare
    path = next(iter(files.values())) if input is None else Path(input)
    file = open_table(path)
    frame = frame_of(pd.concat(file.blocks(file.names), ignore_index=True), (chosen.identifier,))
    if len(frame) < chosen.minimum_rows:
        raise InputError(
            f"{path} has {len(frame)} rows, fewer than prepare.minimum_rows = {chosen.minimum_rows}: too few to "
            "learn what is normal; bring more, or set it lower"
        )
    columns, left = inferred(frame, file.units, chosen, str(path))
    label = _column(frame, chosen.label)
    anomaly = is_anomalous(label, chosen)
    refused, status = {}, _status(frame, columns)
    for reason in sorted(set(status) - {""}):
        refused[reason] = int((status == reason).sum())
    used = status == ""
    if used.sum() < chosen.minimum_rows:
        raise InputError(
            f"{path}: {int(used.sum())} of {len(frame)} rows can be used, fewer than prepare.minimum_rows = "
            f"{chosen.minimum_rows} ({', '.join(f'{n} rows: {why}' for why, n in refused.items())})"
        )
    row, identifier = np.flatnonzero(used), _identifiers(frame, chosen)[used]
    # equal rows, what is said of them too, are never in two parts
    told = frame.loc[used, [column.name for column in columns]].assign(**{"": anomaly[used]})
    group = told.groupby(list(told.columns), dropna=False, sort=False).ngroup().to_numpy(np.int64)
    frame, label, anomaly = frame[used], label[used], anomaly[used]
    train_on = chosen.train_on or ("normal" if chosen.label else "all")
    split, trained_on = _split(group, anomaly, train_on, chosen, str(path))
    # what is the same in all training rows says nothing there, and can't be scaled
    for column in [c for c in columns if frame.loc[split == SPLITS["train"], c.name].nunique() < 2]:
        columns.remove(column)
        left[column.name] = "the same value in all training rows"
    if not columns:
        raise InputError(f"{path}: every column has one value in all training rows: nothing to learn from")
    coords: dict[str, Any] = {
        "id": ("sample", identifier, {"long_name": "identifier"}),
        "row": ("sample", row, {"units": "1", "long_name": "row of the file, from 0"}),
        "group": ("sample", group, {"units": "1", "long_name": "equal rows are one group"}),
        "split": ("sample", split),
    }
    if chosen.label:
        said = np.array(["" if v is None else v for v in label], dtype=str)
        coords["label"] = ("sample", said, {"long_name": chosen.label})
        known = {"units": "1", "long_name": "1 anomalous, 0 normal, -1 not known"}
        coords["anomaly"] = ("sample", anomaly, known)
    variables = fields_of(frame, columns)
    provenance = {"table": path.name, "trained on": trained_on, "left out": left}
    return xr.Dataset(
        variables,
        coords=coords | {f"{name}_column": v[2]["columns"] for name, v in variables.items()},
        attrs={
            "fields": list(variables),
            "columns": to_json(columns),
            "left_out": json.dumps(left),
            "trained_on": trained_on,
            "normal_train": train_on == "normal",
            "identifier": "id",
            "refused": sum(refused.values()),
            "refused_reasons": json.dumps(refused),
            "provenance": json.dumps(provenance),
        },
    )


def read(path: Path, settings: Tables, template: xr.Dataset) -> Iterator[xr.Dataset]:
    """A user's own rows in their order, for a trained model; a bad row is missing throughout, with its reason.

    InputError: a column that the model describes is not there.
    """
    columns, start, identifier = columns_of(template.attrs), 0, settings.prepare.identifier
    file = open_table(Path(path))
    if missing := [column.name for column in columns if column.name not in file.names]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{path} has no column {missing[0]!r}{more}, which this model was trained on")
    wanted = {column.name for column in columns} | ({identifier} & {*file.names})
    as_text = {identifier, *(column.name for column in columns if column.kind == "categorical")}
    for raw in file.blocks([name for name in file.names if name in wanted]):
        frame = frame_of(raw, as_text)
        frame.index = frame.index + start
        status = _status(frame, columns)
        frame.loc[status != "", [column.name for column in columns]] = None
        row = np.arange(start, start + len(frame))
        yield xr.Dataset(
            fields_of(frame, columns),
            coords={
                "row": ("sample", row),
                "id": (
                    "sample",
                    _identifiers(frame, settings.prepare) if identifier in frame else row.astype(str),
                ),
                "status": ("sample", np.where(status == "", "ok", status)),
            },
            attrs={"fields": template.attrs["fields"]},
        )
        start += len(frame)


def write(data: xr.Dataset, path: Path) -> None:
    """Decoded or sampled rows under the table's own columns, categories as text, after what identifies a row."""
    import pandas as pd

    table = pd.DataFrame({name: data[name].values for name in ("row", "id", "status") if name in data.coords})
    table.attrs["units"] = {column.name: column.unit for column in columns_of(data.attrs) if column.unit}
    for column in columns_of(data.attrs):
        values = data[column.field].sel({f"{column.field}_column": column.name}).values
        if column.kind == "categorical":
            names = np.array([*column.levels, OTHER, None], object)  # −1, a missing one, is the last
            values = names[values.astype(int)]
        table[column.name] = values
    write_table(table, path)


def fields_of(frame: pd.DataFrame, columns: Sequence[Column]) -> dict[str, tuple]:
    """The columns by their fields: name -> dimensions, values (N, n), attributes."""
    found: dict[str, list[Column]] = {}
    for column in columns:
        found.setdefault(column.field, []).append(column)
    return {
        name: (
            ("sample", f"{name}_column"),
            np.stack([column.values(frame[column.name]) for column in own], 1),
            {
                "units": ", ".join(column.unit or "1" for column in own),
                "long_name": _LONG_NAMES.get(name, "categories"),
                "scaling": _SCALING.get(name, "identity"),
                "columns": [column.name for column in own],
            },
        )
        for name, own in found.items()
    }


def is_anomalous(label: np.ndarray, chosen: Prepare) -> np.ndarray:
    """1 where a label (N,) is not one of the normal ones, 0 where it is, −1 where there is none; int8.

    InputError: ``prepare.normal`` does not occur, or nothing says which values are normal.
    """
    known = sorted({value for value in label if value is not None})
    if not chosen.label:
        return np.full(len(label), -1, np.int8)
    normal = {value for value in known if value in chosen.normal}
    if not chosen.normal:
        normal = {value for value in known if value.lower() in NORMAL}
    if not normal:
        found = ", ".join(known[:5]) + (" …" if len(known) > 5 else "") or "no value at all"
        raise InputError(
            f"the label {chosen.label!r} holds {found}: which is normal? --set 'prepare.normal=[VALUE]'"
        )
    return np.array([-1 if v is None else int(v not in normal) for v in label], np.int8)


def _column(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column as text with None; of no name None throughout."""
    if not name:
        return np.full(len(frame), None, object)
    return np.array(text(frame[name]), object)


def _identifiers(frame: pd.DataFrame, chosen: Prepare) -> np.ndarray:
    """What names the rows, as text; without a column the number of the row."""
    numbers = frame.index.to_numpy().astype(str)
    if not chosen.identifier:
        return numbers
    found = _column(frame, chosen.identifier)
    return np.where(found == None, numbers, found).astype(str)  # noqa: E711  (elementwise)


def _status(frame: pd.DataFrame, columns: Sequence[Column]) -> np.ndarray:
    """Why a row can't be used, as text; empty for one that can."""
    status = np.full(len(frame), "", dtype=object)
    some = np.zeros(len(frame), bool)
    for column in columns:
        series = frame[column.name]
        some |= series.notna().to_numpy()
        if column.kind != "categorical" and series.dtype.kind == "f":
            size = np.abs(series.to_numpy())
            status[np.isinf(size) & (status == "")] = f"{column.name} is infinite"
            status[(size > _LARGEST) & (status == "")] = (
                f"{column.name} is beyond {_LARGEST:.2g}: another unit?"
            )
    status[~some & (status == "")] = "no value in any column"
    return status


def _split(
    group: np.ndarray, anomaly: np.ndarray, train_on: str, chosen: Prepare, where: str
) -> tuple[np.ndarray, str]:
    """The split of each row, and in words which rows train."""
    if train_on == "all":
        said = "all rows, whatever their label" if chosen.label else "all rows: there is no label"
        return assign(group, chosen.fractions, chosen.split_seed), said
    split = np.full(len(group), SPLITS["test"], np.int8)
    normal = anomaly == 0
    if normal.sum() < chosen.minimum_rows:
        raise InputError(
            f"{where}: {int(normal.sum())} usable rows are normal by the label {chosen.label!r}, fewer than "
            f"prepare.minimum_rows = {chosen.minimum_rows}: train on all, with --set prepare.train_on=all"
        )
    split[normal] = assign(group[normal], chosen.fractions, chosen.split_seed)
    return split, f"rows that {chosen.label} calls normal; all others are in test"
