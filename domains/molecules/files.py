"""A user's own molecules: .smi, .csv, .tsv, .sdf, each also .gz, and .parquet, in rows with names."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

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


def rows_of(path: Path, column: str = "smiles", identifier: str = "id") -> Iterator[Row]:
    """The molecules of a file in its order, one at a time, however long it is.

    .smi: SMILES, then the name behind a space or tab (a first line ``smiles …`` is a header); .csv, .tsv,
    .parquet: the columns ``column`` and, where there is one, ``identifier``, in any case; .sdf: structures, by
    their titles. Names that are missing are numbers from 1 on.

    Raises InputError for another ending, a missing column, a damaged file, and bytes that are not UTF-8.
    """
    kind = path.with_suffix("").suffix.lower() if path.suffix == ".gz" else path.suffix.lower()
    if kind not in FORMATS or (kind == ".parquet" and path.suffix == ".gz"):
        raise InputError(f"{path}: molecules are read from {', '.join(FORMATS)}, or packed as .gz")
    try:
        if kind == ".parquet":
            yield from _parquet(path, column, identifier)
        elif kind == ".sdf":
            yield from _sdf(path)
        else:
            with _text(path) as file:
                if kind in (".csv", ".tsv"):
                    yield from _table(path, file, "," if kind == ".csv" else "\t", column, identifier)
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


def _table(path: Path, file: IO[str], separator: str, column: str, identifier: str) -> Iterator[Row]:
    csv.field_size_limit(1 << 20)
    reader = csv.DictReader(file, delimiter=separator)
    smiles, name = _columns(path, list(reader.fieldnames or []), column, identifier)
    for number, row in enumerate(reader, start=1):
        yield Row((name and row.get(name)) or str(number), row.get(smiles) or "")


def _parquet(path: Path, column: str, identifier: str) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        smiles, name = _columns(path, file.schema_arrow.names, column, identifier)
        number = 0
        for batch in file.iter_batches(10_000, columns=[smiles, *([name] if name else [])]):
            names = batch.column(name).to_pylist() if name else [None] * batch.num_rows
            for text, called in zip(batch.column(smiles).to_pylist(), names, strict=True):
                number += 1
                yield Row(str(number if called is None else called), "" if text is None else str(text))
    except pyarrow.ArrowException as error:
        raise InputError(f"{path} can't be read as Parquet: {error}") from error


def _sdf(path: Path) -> Iterator[Row]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        for number, found in enumerate(Chem.ForwardSDMolSupplier(file), start=1):
            if found is None:
                yield Row(str(number), "", "RDKit cannot read this structure")
                continue
            name = found.GetProp("_Name").strip() if found.HasProp("_Name") else ""
            yield Row(name or str(number), Chem.MolToSmiles(found))


def _columns(path: Path, names: list[str], column: str, identifier: str) -> tuple[str, str | None]:
    """The column of the SMILES, and that of the names where there is one."""
    known = {name.strip().lower(): name for name in names}
    smiles = known.get(column.lower()) or known.get("canonical_smiles")
    if smiles is None:
        raise InputError(
            f"{path} has no column {column!r}{did_you_mean(column, names)}; it has {', '.join(names)[:200]}: "
            "name it with prepare.column"
        )
    return smiles, known.get(identifier.lower())
