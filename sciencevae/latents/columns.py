"""Arrays as columns of a table, a column for each entry, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["CONTRIBUTION", "IDENTIFY", "columns", "contribution_columns", "matrix", "spread"]

#: the columns that say which row of a file it is
IDENTIFY = ("row", "id", "status")
#: before the name of what adds to a score
CONTRIBUTION = "contribution."


def columns(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """``name_0 …`` for (N, n), ``name_0_0 …`` for (N, n, n)."""
    return {
        "_".join([name, *map(str, index)]): values[(slice(None), *index)]
        for index in np.ndindex(values.shape[1:])
    }


def contribution_columns(found: Mapping[str, Any], data: xr.Dataset) -> dict[str, np.ndarray]:
    """What ``score.contributions`` gives as columns ``contribution.NAME``, (N,) float64 each.

    NAME is the label of the entry on its field's axis in ``data`` (a template will do); of entries without labels
    FIELD_0 …, as ``columns`` has them.
    """
    named: dict[str, np.ndarray] = {}
    for field, tensor in found.items():
        values = np.asarray(tensor, dtype=np.float64)
        entries = columns(field, values)
        axis = data[field].dims[1:2] if values.ndim == 2 else ()
        if axis and axis[0] in data.coords:
            entries = dict(zip(map(str, data[axis[0]].values.tolist()), entries.values(), strict=True))
        named |= {f"{CONTRIBUTION}{name}": column for name, column in entries.items()}
    return named


def matrix(table: pd.DataFrame, name: str) -> np.ndarray | None:
    """The inverse of ``columns``; None where the table has no such column."""
    found: dict[tuple[int, ...], np.ndarray] = {}
    for column in map(str, table.columns):
        if index := re.fullmatch(re.escape(name) + r"((?:_\d+)*)", column):
            if table[column].dtype.kind not in "iufb":
                raise InputError(f"the column {column} holds {table[column].dtype}, not numbers")
            found[tuple(map(int, index[1].split("_")[1:]))] = table[column].to_numpy()
    if not found:
        return None
    if len({len(position) for position in found}) > 1:
        raise InputError(
            f"the columns of {name} have different numbers of indices: rename those that are not its"
        )
    shape = tuple(np.max(list(found), axis=0) + 1) if () not in found else ()
    for position in np.ndindex(shape):
        if position not in found:
            raise InputError(
                f"the column {'_'.join([name, *map(str, position)])} is missing among those of {name}"
            )
    return np.stack([found[position] for position in np.ndindex(shape)], axis=1).reshape(len(table), *shape)


def spread(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """The values of the usable rows among all rows; elsewhere NaN, −1 among integers."""
    everywhere = np.full(
        (len(good), *values.shape[1:]), -1 if values.dtype.kind == "i" else np.nan, values.dtype
    )
    everywhere[good] = values
    return everywhere
