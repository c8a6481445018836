"""What the columns of a table are: numbers, counts or categories; and tables as numbers and text."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.data.tables import as_numbers
from sciencevae.errors import InputError

from .settings import Kind

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MISSING",
    "OTHER",
    "Column",
    "columns_of",
    "frame_of",
    "not_a_number",
    "numbers",
    "text",
    "to_json",
]

#: the category of a value that training did not see
OTHER = "(another)"
#: text that stands for no value among numbers, compared without case
MISSING = frozenset({"nan", "na", "n/a", "null", "none", "?", "-"})
_SEVERAL = (list, tuple, dict, complex, np.ndarray)


@dataclass(frozen=True)
class Column:
    """One column that the model describes; ``levels`` are the categories that training saw, in order."""

    name: str
    kind: Kind
    unit: str = ""
    levels: tuple[str, ...] = ()

    @property
    def field(self) -> str:
        """The field of x that it is in: categories with those of as many levels."""
        return f"categories_{len(self.levels) + 1}" if self.kind == "categorical" else self.kind

    def values(self, series: pd.Series) -> np.ndarray:
        """A column as the model reads it, (N,): real numbers with NaN, or whole ones with −1, where missing.

        InputError: what is no number where numbers are to be, naming value and row.
        """
        if self.kind == "categorical":
            codes = {level: code for code, level in enumerate(self.levels)}
            known = (
                -1 if v is None else codes.get(v, codes.get(_same_number(v), len(codes)))
                for v in text(series)
            )
            return np.fromiter(known, np.int64, len(series))
        values = numbers(series)
        if self.kind != "counts":
            return values
        if len(bad := np.flatnonzero((values < 0) | (values % 1 != 0) & np.isfinite(values))):
            raise InputError(
                f"column {self.name!r} holds {values[bad[0]]:g} (row {series.index[bad[0]] + 1}), which is no "
                f"count: --set prepare.columns.{self.name}=gaussian"
            )
        return np.where(np.isfinite(values), values, -1).astype(np.int64)


def to_json(columns: Sequence[Column]) -> str:
    """As text that ``columns_of`` reads back."""
    return json.dumps([asdict(column) for column in columns])


def columns_of(attrs: Mapping[str, Any]) -> list[Column]:
    """The columns that prepared data say they have."""
    plain = json.loads(attrs["columns"])
    return [Column(**{**column, "levels": tuple(column["levels"])}) for column in plain]


def frame_of(raw: pd.DataFrame, as_text: Collection[str] = ()) -> pd.DataFrame:
    """Numbers, and text that is numbers throughout unless it is to stay ``as_text``, as float64 with NaN; all else
    as text with None, where a value is missing or empty.

    Times, and columns of several numbers a row, are left out and named in ``attrs["not columns"]``.
    """
    import pandas as pd

    found: dict[str, np.ndarray] = {}
    for name, column in raw.items():
        several = column.dtype == object and column.map(lambda v: isinstance(v, _SEVERAL)).any()
        if several or column.dtype.kind in "mM":
            continue
        stays = column.dtype.kind == "b" or (name in as_text and column.dtype.kind != "f")
        numbers = None if stays else as_numbers(column)
        found[str(name)] = _as_text(column) if numbers is None else numbers
    frame = pd.DataFrame(found)
    frame.attrs["not columns"] = [name for name in raw if name not in found]
    return frame


def numbers(series: pd.Series) -> np.ndarray:
    """A column as float64; of text, marks of a missing value are NaN. InputError naming what is no number."""
    import pandas as pd

    if series.dtype.kind == "f":
        return series.to_numpy(np.float64)
    known = [None if v is None or v.lower() in MISSING else v for v in text(series)]
    values = pd.to_numeric(pd.Series(known, dtype=object), errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero([np.isnan(n) and v is not None for n, v in zip(values, known, strict=True)])
    if len(bad):
        raise not_a_number(str(series.name), series.iloc[bad[0]], series.index[bad[0]])
    return values


def not_a_number(name: str, value: str, row: int) -> InputError:
    """What is said of text among numbers; row: from 0 on."""
    return InputError(
        f"column {name!r} holds {value!r} (row {row + 1}) among numbers: mend it, leave it empty, or --set "
        f"prepare.columns.{name}=categorical (or ignore)"
    )


def text(series: pd.Series) -> list[str | None]:
    """A column as text with None where a value is missing; whole numbers without a decimal point."""
    if series.dtype.kind == "f":
        return [None if np.isnan(v) else f"{v:.15g}" for v in series]
    return [None if v is None or v != v else v for v in series]


def _as_text(column: pd.Series) -> np.ndarray:
    """The values as text, (N,) of objects, None where one is empty or missing."""
    known = zip(column.array.tolist(), column.notna(), strict=True)
    plain = [
        v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) if there else ""
        for v, there in known
    ]
    return np.array([v.strip() or None for v in plain], object)


def _same_number(value: str) -> str:
    """A number as ``text`` writes it; other text as it is."""
    try:
        return f"{float(value):.15g}"
    except ValueError:
        return value
