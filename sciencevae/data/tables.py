"""Tables to files, and a user's own tables from the formats of the field."""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sciencevae.data.atomic import atomic_path
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import Table

__all__ = ["FORMATS", "read_tables", "write_table"]

#: ending of a file's name -> how astropy calls the format
FORMATS = {
    ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".xml": "votable",
    ".votable": "votable",
    ".parquet": "parquet",
}
_BLOCK_ROWS = 100_000
#: what an entry of a CSV file is that has no value; the others have marks of their own
_EMPTY = ("", "nan", "NaN")


def read_tables(path: Path) -> Iterator[Table]:
    """A file's rows in its order as astropy tables of at most 100,000 rows, with units; missing values are masked.

    InputError: no such file, another ending than those of ``FORMATS``, a damaged file, no rows, a column twice.
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower())
    if not path.is_file():
        raise InputError(f"no file {path}")
    if kind is None:
        raise InputError(f"{path}: a table is {', '.join(sorted(FORMATS))}, found {path.suffix!r}")
    yield from _parquet(path) if kind == "parquet" else _astropy(path, kind)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """A table without its index to .parquet, or else as CSV; the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False)


def _parquet(path: Path) -> Iterator[Table]:
    import pyarrow.parquet
    from astropy.table import Table

    try:
        file = pyarrow.parquet.ParquetFile(path)
        _refuse_repeated(path, file.schema_arrow.names)
        if not file.metadata.num_rows:
            raise InputError(f"{path} holds no rows")
        for batch in file.iter_batches(_BLOCK_ROWS):
            yield Table.from_pandas(batch.to_pandas(integer_object_nulls=True))
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path} can't be read as Parquet: {error}") from error


def _astropy(path: Path, kind: str) -> Iterator[Table]:
    from astropy.table import Table

    options = {"fill_values": [(mark, "0") for mark in _EMPTY]} if kind == "ascii.csv" else {}
    if kind == "ascii.csv":
        _refuse_repeated(path, _header(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of VOTables and FITS headers that are not quite to the letter
            table = Table.read(path, format=kind, **options)
    except Exception as error:  # astropy's readers raise whatever their format's parser does
        raise InputError(f"{path} can't be read as {kind}: {' '.join(str(error).split())[:200]}") from error
    if len(table) == 0:
        raise InputError(f"{path} holds no rows")
    for start in range(0, len(table), _BLOCK_ROWS):
        yield table[start : start + _BLOCK_ROWS]


def _header(path: Path) -> list[str]:
    """The names in the first line of a CSV file; none where it cannot be read, which is said elsewhere."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [name.strip() for name in next(csv.reader(file), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _refuse_repeated(path: Path, names: Iterable[str]) -> None:
    """InputError for a name that stands on two columns: readers rename one, or take either."""
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise InputError(f"{path} has the column {twice[0]!r} twice: rename one")
