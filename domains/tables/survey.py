"""What the columns of a table hold, found block by block, and what they are taken for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sciencevae.data.tables import TableFile
from sciencevae.errors import InputError, did_you_mean

from .columns import MISSING, Column, frame_of, not_a_number
from .settings import Kind, Prepare

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LEVELS_MAX", "Survey", "Tally", "inferred", "surveyed"]

#: categories of a column, at most: so many different values are kept while a file is read
LEVELS_MAX = 1 << 16
_SHARE_OF_NUMBERS = 0.5  # of a text column, from which on what is no number among them is a mistake


@dataclass
class Tally:
    """One column, added up block by block.

    is_text: whether its values are text; known: how many there are; distinct: the different ones, numbers as their
    bits, None where they are more than ``most``, of text LEVELS_MAX; whole: whether all finite numbers are whole
    and ≥ 0. Of text: how many values are numbers, and the first that is neither one nor a mark of a missing value.
    """

    most: int = LEVELS_MAX
    is_text: bool = False
    known: int = 0
    distinct: set[Any] | None = field(default_factory=set)
    finite: bool = False
    whole: bool = True
    numeric: int = 0
    first_text: tuple[str, int] | None = None

    def add(self, series: pd.Series) -> None:
        """Take in one block, which is text or numbers like those before it."""
        import pandas as pd

        known = series.dropna()
        self.is_text, self.known = series.dtype.kind != "f", self.known + len(known)
        numbers = known.to_numpy(np.float64) if not self.is_text else None
        if numbers is None:
            numbers = pd.to_numeric(known, errors="coerce").to_numpy(np.float64)
            is_number = ~np.isnan(numbers)
            self.numeric += int(is_number.sum())
            if self.first_text is None:
                others = known[~is_number]
                others = others[[value.lower() not in MISSING for value in others]]
                if len(others):
                    self.first_text = (others.iloc[0], int(others.index[0]))
        if self.distinct is not None:
            bits = np.ascontiguousarray(numbers).view(np.int64)
            self.distinct.update((known if self.is_text else pd.Series(bits)).unique().tolist())
            if len(self.distinct) > (LEVELS_MAX if self.is_text else self.most):
                self.distinct = None
        if self.whole:
            numbers = numbers[np.isfinite(numbers)]
            self.finite |= bool(len(numbers))
            self.whole = bool((numbers % 1 == 0).all() and (numbers >= 0).all())

    @property
    def texts(self) -> set[str] | None:
        """The different values as text, whole numbers without a decimal point; None where they are too many."""
        if self.distinct is None or self.is_text:
            return self.distinct
        return {f"{value:.15g}" for value in self._numbers(self.distinct)}

    @property
    def different(self) -> int:
        """How many different values there are, as far as they were counted."""
        if self.distinct is None:
            return (LEVELS_MAX if self.is_text else self.most) + 1
        return len(self.distinct) if self.is_text else len(set(self._numbers(self.distinct)))

    def few(self, most: int) -> bool:
        """Whether there are at most so many different finite numbers."""
        if self.distinct is None:
            return False
        import pandas as pd

        numbers = (
            pd.to_numeric(pd.Series([*self.distinct], dtype=object), errors="coerce").to_numpy(np.float64)
            if self.is_text
            else self._numbers(self.distinct)
        )
        return len({value for value in numbers if np.isfinite(value)}) <= most

    @staticmethod
    def _numbers(bits: set[int]) -> list[float]:
        return np.array(list(bits), np.int64).view(np.float64).tolist()


class Survey(NamedTuple):
    """Rows · name -> what it holds · names that are no columns of numbers or text · names that are read as text."""

    rows: int
    held: dict[str, Tally]
    not_columns: list[str]
    as_text: set[str]

    def frames(self, file: TableFile, wanted: set[str]) -> Iterator[pd.DataFrame]:
        """The rows of some columns in blocks, each column of one type throughout, by their number in the file."""
        return _frames(file, [name for name in file.names if name in wanted], self.as_text)


def surveyed(file: TableFile, chosen: Prepare) -> Survey:
    """Every column of a file but its identifier, in one pass over the file.

    A column whose numbers turn out to be text further on is gone through once more, as text throughout.
    """
    held: dict[str, Tally] = {}
    as_text, not_columns, rows = {chosen.identifier}, set[str](), 0
    wanted = list(file.names)
    while wanted:
        found = {name: _tally(name, chosen) for name in wanted}
        again, rows = set[str](), 0
        for frame in _frames(file, wanted, as_text):
            rows += len(frame)
            not_columns.update(frame.attrs["not columns"])
            for name in set(map(str, frame)) - again - {chosen.identifier}:
                tally, is_text = found[name], frame[name].dtype.kind != "f"
                if is_text and name not in as_text:
                    as_text.add(name)
                    if tally.known:
                        again.add(name)
                        continue
                tally.add(frame[name])
        held |= found
        wanted = [name for name in wanted if name in again - not_columns]
    columns = {name: held[name] for name in file.names if name not in not_columns}
    return Survey(rows, columns, [name for name in file.names if name in not_columns], as_text)


def inferred(
    survey: Survey, units: Mapping[str, str], chosen: Prepare, where: str
) -> tuple[list[Column], dict[str, str]]:
    """The columns that a model can describe, and why the others are left out, by name.

    Text and booleans are categories; whole numbers ≥ 0 are categories where they have at most
    ``prepare.categories_max`` values, else counts; all other numbers are ``prepare.continuous``.
    InputError: a setting for a column that is not there, no column left.
    """
    aside = {chosen.identifier: "identifier", chosen.label: "label"}
    for name in [*chosen.columns, *(name for name in aside if name)]:
        if name not in [*survey.held, *survey.not_columns]:
            raise InputError(f"{where} has no column {name!r}{did_you_mean(name, survey.held)}")
    columns, left = [], dict.fromkeys(survey.not_columns, "a time, or not one number or text a row")
    for name, tally in survey.held.items():
        wanted = chosen.columns.get(name)
        if name in aside:
            left[name] = aside[name]
        elif wanted == "ignore":
            left[name] = "as set"
        elif not tally.known:
            left[name] = "no value at all"
        elif tally.different == 1:
            left[name] = "the same value in all rows"
        else:
            kind = wanted or _kind(name, tally, chosen)
            levels = tally.texts if kind == "categorical" else set()
            if kind == "categorical" and wanted is None and tally.different > survey.rows // 2:
                left[name] = "text that hardly repeats: an identifier?"
            elif levels is not None:
                columns.append(Column(name, kind, units.get(name, ""), tuple(sorted(levels))))
            elif wanted is None:
                left[name] = f"text of more than {LEVELS_MAX:,} different values"
            else:
                raise InputError(
                    f"column {name!r} has more than {LEVELS_MAX:,} different values, too many for categories: "
                    f"--set prepare.columns.{name}=ignore (or what its numbers are)"
                )
    if not columns:
        reasons = ", ".join(f"{name}: {reason}" for name, reason in left.items()) or "it has none"
        raise InputError(f"{where} has no column of numbers or categories to learn from ({reasons})")
    return columns, left


def _kind(name: str, tally: Tally, chosen: Prepare) -> Kind:
    if tally.is_text:
        if tally.numeric / tally.known < _SHARE_OF_NUMBERS or (
            tally.distinct is not None and tally.distinct <= {"False", "True"}
        ):
            return "categorical"
        if tally.first_text is not None:
            raise not_a_number(name, *tally.first_text)
    if tally.finite and tally.whole:
        return "categorical" if tally.few(chosen.categories_max) else "counts"
    return chosen.continuous


def _tally(name: str, chosen: Prepare) -> Tally:
    """Of numbers that are no categories, only whether they are few is of interest; ±∞ count among them."""
    many = name == chosen.label or chosen.columns.get(name) == "categorical"
    return Tally(LEVELS_MAX if many else chosen.categories_max + 3)


def _frames(file: TableFile, wanted: list[str], as_text: set[str]) -> Iterator[pd.DataFrame]:
    start = 0
    for raw in file.blocks(wanted):
        frame = frame_of(raw, as_text)
        frame.index = frame.index + start
        yield frame
        start += len(frame)
