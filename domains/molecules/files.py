"""A user's own molecules: .smi, .csv, .tsv, .sdf, each also .gz, and .parquet, in rows with names."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from rdkit import Chem

from sciencevae.errors import InputError, did_you_mean

__all__ = ["FORMATS", "Row", "rows_of"]

FORMATS = (".smi", ".smiles", ".txt", ".csv", ".tsv", ".sdf", ".parquet")


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
    path: Path, column: str = "smiles", identifier: str = "id", measured: Sequence[str] = ()
) -> Iterator[Row]:
    """The molecules of a file in its order, one at a time, however long it is.

    .smi: SMILES, then the name behind a space or tab (a first line ``smiles …`` is a header); .csv, .tsv,
    .parquet: the columns ``column`` and, where there is one, ``identifier``, in any case; .sdf: structures, by
    their titles. Names that are missing are numbers from 1 on.
    measured: columns of numbers, in .sdf properties: a row's ``values``, NaN where nothing stands.

    Raises InputError for another ending, a missing column, a damaged file, and bytes that are not UTF-8.
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
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8: {error}") from error
    except (EOFError, OSError, csv.Error) as error:
        raise InputError(f"{path} is damaged or cut short: {error}") from error


def _text(path: Path) -> IO[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", newline="")


def _lines(file: IO[str]) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        smiles, _, name = line.rstrip().replace("\t", " ").partition(" ")  # " name" is a row without a SMILES
        if number == 1 and smiles.lower() in ("smiles", "canonical_smiles"):
            continue
        yield Row(name.strip() or str(number), smiles)


def _table(
    path: Path, file: IO[str], separator: str, column: str, identifier: str, measured: Sequence[str]
) -> Iterator[Row]:
    csv.field_size_limit(1 << 20)
    reader = csv.DictReader(file, delimiter=separator)
    smiles, name, numbers = _columns(path, list(reader.fieldnames or []), column, identifier, measured)
    for number, row in enumerate(reader, start=1):
        called = (name and row.get(name)) or str(number)
        yield _valued(called, row.get(smiles) or "", {wanted: row.get(wanted) for wanted in numbers})


def _valued(name: str, smiles: str, measured: Mapping[str, Any]) -> Row:
    """A row with numbers, or with the problem that one is none."""
    values = []
    for column, value in measured.items():
        try:
            values.append(math.nan if value is None or not str(value).strip() else float(value))
        except ValueError:
            return Row(name, smiles, f"{column}: {value!r} is no number")
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
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        for number, found in enumerate(Chem.ForwardSDMolSupplier(file), start=1):
            if found is None:
                yield Row(str(number), "", "RDKit cannot read this structure")
                continue
            name = found.GetProp("_Name").strip() if found.HasProp("_Name") else ""
            numbers = {
                wanted: found.GetProp(wanted) if found.HasProp(wanted) else None for wanted in measured
            }
            yield _valued(name or str(number), Chem.MolToSmiles(found), numbers)


def _columns(
    path: Path, names: list[str], column: str, identifier: str, measured: Sequence[str]
) -> tuple[str, str | None, list[str]]:
    """The column of the SMILES, that of the names where there is one, and those of numbers."""
    known = {name.strip().lower(): name for name in names}
    smiles = known.get(column.lower()) or known.get("canonical_smiles")
    for setting, name in [("prepare.column", column), *(("prepare.measured", name) for name in measured)]:
        if (smiles if setting == "prepare.column" else known.get(name.lower())) is None:
            raise InputError(
                f"{path} has no column {name!r}{did_you_mean(name, names)}; it has {', '.join(names)[:200]}: "
                f"name it with {setting}"
            )
    assert smiles is not None
    return smiles, known.get(identifier.lower()), [known[name.lower()] for name in measured]
