"""A user's own molecules: .smi, .csv, .tsv, .sdf, each also .gz, and .parquet, in rows with names."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from rdkit import Chem, rdBase

from sciencevae.errors import InputError, did_you_mean

__all__ = ["FORMATS", "Row", "rows_of"]

FORMATS = (".smi", ".smiles", ".txt", ".csv", ".tsv", ".sdf", ".parquet")
#: the column of the SMILES; where there is none of this name, another that is usual is taken
COLUMN, _OTHERWISE = "smiles", "canonical_smiles"
#: what stands in tables where nothing was measured, in small letters
_MISSING = ("", "-", "na", "n/a", "nan", "null", "none")
_LARGEST = 3e38  # in single precision
_LONGEST = 1 << 27  # characters of an entry


class Row(NamedTuple):
    """name: as the file has it, else its number · smiles: as it stands · problem: why it can't be read, or "".

    values: known properties · split: where its makers divided the data, else −1
    """

    name: str
    smiles: str
    problem: str = ""
    values: tuple[float, ...] = ()
    split: int = -1


def rows_of(
    path: Path, column: str = COLUMN, identifier: str = "id", measured: Sequence[str] = ()
) -> Iterator[Row]:
    """The molecules of a file in its order, one at a time, however long it is.

    .smi: SMILES, then the name behind a space or tab (a first line ``smiles …`` is a header); .csv, .tsv,
    .parquet: the columns ``column`` and, where there is one, ``identifier``, in any case; .sdf: structures, by
    their titles. Names that are missing are numbers from 1 on.
    measured: columns of numbers, in .sdf properties: a row's ``values``, NaN where nothing stands.
    Empty lines of a table are no rows, as in pandas; a byte that is not UTF-8 is read as ``\\xe9``, or what it is.

    Raises InputError for another ending, a missing column, one that is there twice, a damaged file and UTF-16.
    """
    kind = path.with_suffix("").suffix.lower() if path.suffix == ".gz" else path.suffix.lower()
    if kind not in FORMATS or (kind == ".parquet" and path.suffix == ".gz"):
        raise InputError(f"{path}: molecules are read from {', '.join(FORMATS)}, or packed as .gz")
    if measured and kind in (".smi", ".smiles", ".txt"):
        raise InputError(
            f"{path} has no columns: give a table with {', '.join(measured)}, or no prepare.measured"
        )
    try:
        if kind == ".parquet":
            yield from _parquet(path, column, identifier, measured)
        elif kind == ".sdf":
            yield from _sdf(path, measured)
        else:
            with _text(path) as file:
                if kind in (".csv", ".tsv"):
                    separator = "," if kind == ".csv" else "\t"
                    yield from _table(path, file, separator, column, identifier, measured)
                else:
                    yield from _lines(file)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path} is damaged or cut short: {error}") from error


def _text(path: Path) -> IO[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    file = opener(path, "rt", encoding="utf-8-sig", errors="backslashreplace", newline="")
    if file.read(8) in (r"\xff\xfe", r"\xfe\xff"):
        file.close()
        raise InputError(f"{path} is text in UTF-16: write it in UTF-8")
    file.seek(0)
    return file


def _lines(file: IO[str]) -> Iterator[Row]:
    number = 0
    for place, line in enumerate(file):
        smiles, _, name = line.rstrip().replace("\t", " ").partition(" ")  # " name" is a row without a SMILES
        if place == 0 and smiles.lower() in (COLUMN, _OTHERWISE):
            continue
        number += 1
        yield Row(name.strip() or str(number), smiles)


def _table(
    path: Path, file: IO[str], separator: str, column: str, identifier: str, measured: Sequence[str]
) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST)
    reader = csv.DictReader(file, delimiter=separator, strict=True)
    if not reader.fieldnames:
        raise InputError(f"{path} is empty")
    smiles, name, numbers = _columns(path, list(reader.fieldnames), column, identifier, measured)
    for number, row in enumerate(_closed(path, reader), start=1):
        called = (name and row.get(name)) or str(number)
        yield _valued(called, row.get(smiles) or "", {wanted: row.get(wanted) for wanted in numbers})


def _closed(path: Path, reader: csv.DictReader[str]) -> Iterator[dict[str, str]]:
    """The rows; InputError for a quote that opens and does not close, which would swallow what follows."""
    line = reader.line_num
    try:
        for row in reader:
            yield row
            line = reader.line_num
    except csv.Error as error:
        raise InputError(
            f"{path}: line {line + 1} can't be read as a table ({error}): a quote that opens an entry has to end it"
        ) from error


def _valued(name: str, smiles: str, measured: Mapping[str, Any]) -> Row:
    """A row with numbers, or with the problem that one is none."""
    values = []
    for column, value in measured.items():
        text = "" if value is None else str(value).strip()
        try:
            if "_" in text or not text.isascii():  # which Python reads as a number, and no table means so
                raise ValueError
            values.append(math.nan if text.lower() in _MISSING else float(text))
        except ValueError:
            return Row(name, smiles, f"{column}: {value!r} is no number")
        if math.isinf(values[-1]) or abs(values[-1]) > _LARGEST:
            return Row(name, smiles, f"{column}: {value!r} is no finite number")
    return Row(name, smiles, values=tuple(values))


def _parquet(path: Path, column: str, identifier: str, measured: Sequence[str]) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        smiles, name, numbers = _columns(path, file.schema_arrow.names, column, identifier, measured)
        number = 0
        for batch in file.iter_batches(10_000, columns=[smiles, *([name] if name else []), *numbers]):
            for row in batch.to_pylist():
                number += 1
                called, text = row.get(name) if name else None, row[smiles]
                yield _valued(
                    str(number if called is None else called),
                    "" if text is None else str(text),
                    {wanted: row[wanted] for wanted in numbers},
                )
    except pyarrow.ArrowException as error:
        raise InputError(f"{path} can't be read as Parquet: {error}") from error


def _sdf(path: Path, measured: Sequence[str]) -> Iterator[Row]:
    supplier = Chem.SDMolSupplier()
    with _text(path) as file, rdBase.BlockLogs():
        for number, record in enumerate(_records(file), start=1):
            supplier.SetData(record)
            found = supplier[0] if len(supplier) else None
            name = record.partition("\n")[0].strip() or str(number)
            if found is None:
                yield Row(name, "", "RDKit cannot read this structure")
                continue
            given = {key.lower(): found.GetProp(key) for key in found.GetPropNames()}
            yield _valued(name, Chem.MolToSmiles(found), {one: given.get(one.lower()) for one in measured})


def _records(file: IO[str]) -> Iterator[str]:
    """The structures of an .sdf, each with its properties and its end."""
    lines: list[str] = []
    for line in file:
        lines.append(line.rstrip("\r\n") + "\n")
        if line.startswith("$$$$"):
            yield "".join(lines)
            lines = []
    if any(map(str.strip, lines)):
        yield "".join(lines)


def _columns(
    path: Path, names: list[str], column: str, identifier: str, measured: Sequence[str]
) -> tuple[str, str | None, list[str]]:
    """The column of the SMILES, that of the names where there is one, and those of numbers."""
    known = {name.strip().lower(): name for name in reversed(names)}  # of two the first one
    known |= {name: name for name in names}  # and as it is written before as it might be

    def found(name: str) -> str | None:
        column = known.get(name) or known.get(name.lower())
        if column is not None and names.count(column) > 1:
            raise InputError(f"{path} has {names.count(column)} columns {column!r}: rename all but one")
        return column

    smiles = found(column) or (found(_OTHERWISE) if column == COLUMN else None)
    for setting, name in [("column", column), *(("measured", name) for name in measured)]:
        if (smiles if setting == "column" else found(name)) is None:
            raise InputError(
                f"{path} has no column {name!r}{did_you_mean(name, names)}: rename the column, or say what it is "
                f"called, by --set prepare.{setting}=…"
            )
    assert smiles is not None
    return smiles, found(identifier), [found(name) or name for name in measured]
