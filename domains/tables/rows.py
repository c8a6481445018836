"""The rows of a table, block by block: which can be used, what each is known by, and what it is to the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sciencevae.data.tables import TableFile
from sciencevae.errors import InputError

from .columns import Column, text
from .settings import Prepare
from .survey import LEVELS_MAX, Survey

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = [
    "Rows",
    "Told",
    "equal_rows",
    "fields_of",
    "identifiers",
    "is_anomalous",
    "normal_values",
    "status_of",
]

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


class Told(NamedTuple):
    """Of the usable rows, (N,): group and anomaly · letters of the longest id and label · why how many others are
    not usable · column -> what is wrong with its values."""

    group: np.ndarray
    anomaly: np.ndarray
    letters: dict[str, int]
    refused: dict[str, int]
    wrong: dict[str, InputError]


@dataclass(frozen=True)
class Rows:
    """The rows of a file for the columns of a model; normal: the values of the label that are."""

    file: TableFile
    survey: Survey
    columns: list[Column]
    chosen: Prepare
    normal: Collection[str]

    def told(self) -> Told:
        """One pass over the file."""
        hashes = np.empty(self.survey.rows, np.uint64)
        anomaly = np.empty(self.survey.rows, np.int8)
        count, letters, refused, wrong = 0, {"id": 1, "label": 1}, Counter[str](), dict[str, InputError]()
        for frame in self._frames():
            status = status_of(frame, self.columns)
            refused.update(status[status != ""].tolist())
            letters["id"] = max(letters["id"], _letters(identifiers(frame, self.chosen)))
            used = frame[status == ""]
            label = _column(used, self.chosen.label)
            letters["label"] = max(letters["label"], max((len(v) for v in label if v is not None), default=1))
            rows = slice(count, count + len(used))
            anomaly[rows] = is_anomalous(label, self.normal)
            hashes[rows] = _hashes(used[[column.name for column in self.columns]], anomaly[rows])
            for column in self.columns:
                if column.name in self.chosen.columns and column.name not in wrong:
                    try:
                        column.values(used[column.name])
                    except InputError as error:
                        wrong[column.name] = error
            count = rows.stop
        why = {reason: refused[reason] for reason in sorted(refused)}
        return Told(equal_rows(hashes[:count]), anomaly[:count], letters, why, wrong)

    def constant(self, train: np.ndarray) -> list[Column]:
        """The columns with fewer than two different values among some of the usable rows, (N,) of booleans."""
        seen: dict[str, set[Any]] = {column.name: set() for column in self.columns}
        start = 0
        for used in self._used():
            own = used[train[start : start + len(used)]]
            for name, values in seen.items():
                if len(values) < 2:
                    values.update(own[name].dropna().unique()[:2].tolist())
            start += len(used)
            if all(len(values) > 1 for values in seen.values()):
                break
        return [column for column in self.columns if len(seen[column.name]) < 2]

    def blocks(self, columns: Sequence[Column], letters: Mapping[str, int]) -> Iterator[xr.Dataset]:
        """The usable rows: the fields of some columns, with id, row and label; letters: of ``told``."""
        import xarray as xr

        for used in self._used():
            fields = fields_of(used, columns)
            coords: dict[str, Any] = {f"{name}_column": field[2]["columns"] for name, field in fields.items()}
            named = identifiers(used, self.chosen).astype(f"<U{letters['id']}")
            coords["id"] = ("sample", named, {"long_name": "identifier"})
            about = {"units": "1", "long_name": "row of the file, from 0"}
            coords["row"] = ("sample", used.index.to_numpy(np.int64), about)
            if self.chosen.label:
                said = ["" if value is None else value for value in _column(used, self.chosen.label)]
                about = {"long_name": self.chosen.label}
                coords["label"] = ("sample", np.array(said, f"<U{letters['label']}"), about)
            yield xr.Dataset(fields, coords)

    def _frames(self) -> Iterator[pd.DataFrame]:
        wanted = {column.name for column in self.columns} | {self.chosen.identifier, self.chosen.label}
        return self.survey.frames(self.file, wanted)

    def _used(self) -> Iterator[pd.DataFrame]:
        for frame in self._frames():
            yield frame[status_of(frame, self.columns) == ""]


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


def normal_values(known: Collection[str] | None, chosen: Prepare) -> set[str]:
    """Of the values of a label, None where there are too many, those that are normal.

    InputError: ``prepare.normal`` does not occur, nothing says which values are normal, or the values are too many.
    """
    if not chosen.label:
        return set()
    if known is None:
        raise InputError(
            f"the label {chosen.label!r} holds more than {LEVELS_MAX:,} different values: it says of no row "
            "whether it is normal; name another with prepare.label"
        )
    normal = {value for value in known if value in chosen.normal}
    if not chosen.normal:
        normal = {value for value in known if value.lower() in NORMAL}
    if not normal:
        ordered = sorted(known)
        found = ", ".join(ordered[:5]) + (" …" if len(ordered) > 5 else "") or "no value at all"
        raise InputError(
            f"the label {chosen.label!r} holds {found}: which is normal? --set 'prepare.normal=[VALUE]'"
        )
    return normal


def is_anomalous(label: np.ndarray, normal: Collection[str]) -> np.ndarray:
    """1 where a label (N,) is not one of the normal ones, 0 where it is, −1 where there is none; int8."""
    return np.array([-1 if v is None else int(v not in normal) for v in label], np.int8)


def identifiers(frame: pd.DataFrame, chosen: Prepare) -> np.ndarray:
    """What names the rows, as text; without a column the number of the row."""
    numbers = frame.index.to_numpy().astype(str)
    if not chosen.identifier:
        return numbers
    found = _column(frame, chosen.identifier)
    return np.where(found == None, numbers, found).astype(str)  # noqa: E711  (elementwise)


def status_of(frame: pd.DataFrame, columns: Sequence[Column]) -> np.ndarray:
    """Why a row can't be used, as text; empty for one that can."""
    status = np.full(len(frame), "", dtype=object)
    some = np.zeros(len(frame), bool)
    for column in columns:
        series = frame[column.name]
        some |= series.notna().to_numpy()
        if column.kind != "categorical" and series.dtype.kind == "f":
            size = np.abs(series.to_numpy())
            if (size > _LARGEST).any():
                status[np.isinf(size) & (status == "")] = f"{column.name} is infinite"
                status[(size > _LARGEST) & (status == "")] = (
                    f"{column.name} is beyond {_LARGEST:.2g}: another unit?"
                )
    if not some.all():
        status[~some & (status == "")] = "no value in any column"
    return status


def equal_rows(hashes: np.ndarray) -> np.ndarray:
    """Groups (N,) of rows of the same hash, numbered as they first appear.

    >>> equal_rows(np.array([7, 3, 7, 5, 3, 9], np.uint64)).tolist()
    [0, 1, 0, 2, 1, 3]
    """
    ordered = np.sort(hashes)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not len(twice):
        return np.arange(len(hashes))
    several = np.flatnonzero(np.isin(hashes, twice))
    _, first, codes = np.unique(hashes[several], return_index=True, return_inverse=True)
    new = np.ones(len(hashes), bool)
    new[several] = False
    new[several[first]] = True
    group = np.cumsum(new) - 1
    group[several] = group[several[first]][codes]
    return group


def _hashes(frame: pd.DataFrame, anomaly: np.ndarray) -> np.ndarray:
    """64 bits of each row's values, what is missing and what is said of them too; zero has no sign (N,).

    Note 1: with 10⁸ different rows two of them have one hash with a chance of 3 in 10,000, and are then one group.
    """
    import pandas as pd

    plain = {
        name: values + 0.0 if values.dtype.kind == "f" else values.fillna("\0")
        for name, values in frame.items()
    }
    return pd.util.hash_pandas_object(pd.DataFrame(plain).assign(**{"": anomaly}), index=False).to_numpy()


def _column(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column as text with None; of no name None throughout."""
    if not name:
        return np.full(len(frame), None, object)
    return np.array(text(frame[name]), object)


def _letters(values: np.ndarray) -> int:
    return values.dtype.itemsize // np.dtype("<U1").itemsize
