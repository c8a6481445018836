"""From a table to the prepared data set: its columns by kind, which rows train, and a user's own rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from sciencevae.data.sequential import in_memory_if_small, lazily
from sciencevae.data.splits import SPLITS, assign
from sciencevae.data.tables import open_table, write_table
from sciencevae.errors import InputError

from .columns import OTHER, columns_of, frame_of, to_json
from .rows import Rows, fields_of, identifiers, normal_values, status_of
from .settings import Prepare, Tables
from .survey import inferred, surveyed

__all__ = ["prepare", "read", "write"]


def prepare(settings: Tables, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """The table as a Dataset: fields gaussian, student, counts and categories_K, each (sample, column).

    Missing values are NaN, −1 among whole numbers. Coordinates: id; row, the number in the file, from 0; label as
    text and anomaly (1, 0, −1 unknown), where there is a label; group: rows that are equal. With
    ``train_on="normal"`` every row that is not labelled as normal is in test; ``attrs["trained_on"]`` says so.

    The file is read block by block, three times or four, and once more when the values are written: of each row no
    more is in memory than what is known of all rows at once, its group, split and label.
    """
    chosen = settings.prepare
    path = next(iter(files.values())) if input is None else Path(input)
    file = open_table(path)
    survey = surveyed(file, chosen)
    if survey.rows < chosen.minimum_rows:
        raise InputError(
            f"{path} has {survey.rows} rows, fewer than prepare.minimum_rows = {chosen.minimum_rows}: too few to "
            "learn what is normal; bring more, or set it lower"
        )
    columns, left = inferred(survey, file.units, chosen, str(path))
    known = survey.held[chosen.label].texts if chosen.label else set()
    rows = Rows(file, survey, columns, chosen, normal_values(known, chosen))
    told = rows.told()
    if len(told.group) < chosen.minimum_rows:
        raise InputError(
            f"{path}: {len(told.group)} of {survey.rows} rows can be used, fewer than prepare.minimum_rows = "
            f"{chosen.minimum_rows} ({', '.join(f'{n} rows: {why}' for why, n in told.refused.items())})"
        )
    train_on = chosen.train_on or ("normal" if chosen.label else "all")
    split, trained_on = _split(told.group, told.anomaly, train_on, chosen, str(path))
    # what is the same in all training rows says nothing there, and can't be scaled
    for column in rows.constant(split == SPLITS["train"]):
        columns = [other for other in columns if other != column]
        left[column.name] = "the same value in all training rows"
    if not columns:
        raise InputError(f"{path}: every column has one value in all training rows: nothing to learn from")
    for column in columns:
        if column.name in told.wrong:
            raise told.wrong[column.name]
    data = lazily(lambda: rows.blocks(columns, told.letters), len(told.group))
    about = {"units": "1", "long_name": "equal rows are one group"}
    data = data.assign_coords(group=("sample", told.group, about), split=("sample", split))
    if chosen.label:
        about = {"units": "1", "long_name": "1 anomalous, 0 normal, -1 not known"}
        data = data.assign_coords(anomaly=("sample", told.anomaly, about))
    provenance = {"table": path.name, "trained on": trained_on, "left out": left}
    return in_memory_if_small(data).assign_attrs(
        fields=list(data.data_vars),
        columns=to_json(columns),
        left_out=json.dumps(left),
        trained_on=trained_on,
        normal_train=train_on == "normal",
        identifier="id",
        refused=sum(told.refused.values()),
        refused_reasons=json.dumps(told.refused),
        provenance=json.dumps(provenance),
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
        status = status_of(frame, columns)
        frame.loc[status != "", [column.name for column in columns]] = None
        row = np.arange(start, start + len(frame))
        yield xr.Dataset(
            fields_of(frame, columns),
            coords={
                "row": ("sample", row),
                "id": (
                    "sample",
                    identifiers(frame, settings.prepare) if identifier in frame else row.astype(str),
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
