"""Arrays as columns of a table, a column for each entry, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from sciencevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["IDENTIFY", "columns", "matrix", "spread"]

#: the columns that say which row of a file it is
IDENTIFY = ("row", "id", "status")


def columns(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """``name_0 …`` for (N, n), ``name_0_0 …`` for (N, n, n)."""
    return {
        "_".join([name, *map(str, index)]): values[(slice(None), *index)]
        for index in np.ndindex(values.shape[1:])
    }


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
