"""Tables to files, and from files block by block: CSV, ECSV, FITS, VOTable and Parquet, with their units."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sciencevae.data.atomic import atomic_path
from sciencevae.data.foreign import check_votable, parsing, unpacked_bytes
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableFile", "as_numbers", "open_table", "text_rows", "write_table"]

#: ending -> kind; of all but Parquet also with .gz behind it
_FORMATS = {
    ".csv": "CSV",
    ".ecsv": "ECSV",
    ".fits": "FITS",
    ".fit": "FITS",
    ".vot": "VOTable",
    ".xml": "VOTable",
    ".votable": "VOTable",
    ".parquet": "Parquet",
}
_BLOCK_ROWS = 100_000
_BLOCK_CELLS = 8 << 20  # of a block of a table with many columns
_BLOCK_BYTES = 8 << 20  # of text
_HEADER_LETTERS = 16 << 20  # of a text's comments and names
#: a VOTable has to be read whole, in about ten times its size of memory
_WHOLE_BYTES = 1 << 30


class TableFile(NamedTuple):
    """The names of its columns · column -> unit where the file states one · (columns) -> blocks of rows."""

    names: list[str]
    units: dict[str, str]
    blocks: Callable[[Sequence[str]], Iterator[pd.DataFrame]]


def open_table(path: Path | pd.DataFrame, missing: Sequence[str] = ("", "nan", "NaN")) -> TableFile:
    """A file's columns, and its rows in blocks of bounded size, in the file's order; a table is one block.

    Integers stay integers (with gaps as pandas' nullable ones), and several values a row are one object; of text
    files every value is text, or null where it is one of ``missing``. Parquet, FITS (not compressed), CSV and
    ECSV stream; a VOTable is read whole and so has to be below 1 GiB.

    Raises InputError for a file that is not there, may not be read, is empty, cut short, or of another format,
    and for a column that is there twice.
    """
    if not isinstance(path, str | Path):
        table = path
        return TableFile(list(table.columns), {}, lambda columns: iter([table[list(columns)]]))
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file {path}" if not path.exists() else f"{path} is no file")
    inner = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    kind = _FORMATS.get(inner.suffix.lower())
    if kind is None:
        raise InputError(
            f"{path}: a table is {', '.join(sorted(_FORMATS))}, found {path.suffix!r}: convert it"
        )
    try:
        with path.open("rb") as raw:
            empty = not raw.read(1)
    except OSError as error:
        raise InputError(
            f"{path} may not be read ({error.strerror}): ask for permission, or copy it"
        ) from error
    if empty:
        raise InputError(f"{path} is empty: fetch it again")
    with parsing(path, kind):
        others = {"FITS": _fits, "VOTable": _votable, "Parquet": _parquet}
        file = others[kind](path) if kind in others else _text(path, missing)
    return file._replace(blocks=lambda columns: _checked(path, kind, file.blocks(columns)))


def text_rows(table: TableFile, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """The rows of some columns as text without blanks around it, empty where nothing is, in the file's order."""
    for block in table.blocks(columns):
        for row in block.astype(object).fillna("").to_dict("records"):
            yield {str(name): str(value).strip() for name, value in row.items()}


def as_numbers(column: pd.Series) -> np.ndarray | None:
    """Numbers, or text that is numbers throughout, (N,) float64, NaN where missing; None for any other column."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.dtype.kind in "iufb":
        return column.to_numpy(np.float64, na_value=np.nan)
    if column.dtype.kind in "mM":
        return None
    if isinstance(column.dtype, pd.ArrowDtype):  # text of a CSV, most often numbers throughout
        with suppress(pa.ArrowInvalid):
            return pc.utf8_trim_whitespace(pa.array(column)).cast(pa.float64()).to_numpy(zero_copy_only=False)
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return values if (np.isnan(values) == column.isna().to_numpy()).all() else None


def write_table(table: pd.DataFrame, path: Path) -> None:
    """A table without its index to .parquet, or else as CSV; the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False)


def _distinct(path: Path, names: list[str]) -> list[str]:
    """The names; InputError for one that stands on two columns, of which readers rename one or take either."""
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        remedy = "rename one" if twice[0] else "its first line has to hold the names"
        raise InputError(f"{path} has the column {twice[0]!r} twice: {remedy}")
    return names


def _checked(path: Path, kind: str, blocks: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    rows = 0
    while True:
        with parsing(path, kind):
            block = next(blocks, None)
        if block is None:
            break
        rows += len(block)
        if len(block):
            yield block
    if not rows:
        raise InputError(f"{path} holds no rows")


def _parquet(path: Path) -> TableFile:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    # its pre-buffer would hold all that was read so far
    file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    stored = _distinct(path, file.schema_arrow.names)
    # astropy writes units into the metadata, and what is missing into columns beside
    described = (file.schema_arrow.metadata or {}).get(b"table_meta_yaml", b"").decode()
    masks = {name: f"{name}.mask" for name in stored if described and f"{name}.mask" in stored}
    nullable = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype(), pa.bool_(): pd.BooleanDtype()}

    def blocks(columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        own = {name: masks[name] for name in columns if name in masks}
        for batch in file.iter_batches(_rows_of(columns), columns=[*columns, *own.values()]):
            # without pandas' metadata: what it calls the index is a column like the others
            frame = batch.to_pandas(types_mapper=nullable.get, ignore_metadata=True)
            for name, mask in own.items():
                frame[name] = frame[name].mask(frame.pop(mask).to_numpy(bool))
            yield frame[list(columns)]

    names = [name for name in stored if name not in masks.values() and not name.startswith("__index_level_")]
    return TableFile(names, _units(described.splitlines()), blocks)


def _rows_of(columns: Sequence[str]) -> int:
    """Rows of a block of so many columns."""
    return max(1, min(_BLOCK_ROWS, _BLOCK_CELLS // max(1, len(columns))))


def _units(described: Sequence[str]) -> dict[str, str]:
    """Column -> unit from the YAML that astropy puts into ECSV and Parquet."""
    from astropy.table.meta import get_header_from_yaml

    if not described:
        return {}
    columns = get_header_from_yaml(described)["datatype"]
    return {column["name"]: str(column["unit"]) for column in columns if column.get("unit")}


def _text(path: Path, missing: Sequence[str]) -> TableFile:
    import pandas as pd
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    opened: Any = gzip.open if path.suffix.lower() == ".gz" else open
    comments: list[str] = []
    with opened(path, "rt", encoding="utf-8-sig") as file:
        left = _HEADER_LETTERS
        header = file.readline(left)
        while header.startswith("#"):
            comments.append(header.removeprefix("#").strip("\r\n")[1:])
            left -= len(header)
            header = file.readline(left)
        if left <= len(header):
            raise InputError(f"{path}: its first line is too long for the names of columns: is it a table?")
    described = comments[1:] if comments and comments[0].startswith("%ECSV") else []
    delimiter = _delimiter(described) if described else ","
    if found := [mark for mark in ";\t|" if mark in header and delimiter not in header]:
        raise InputError(
            f"{path} has {found[0]!r} between its columns, not {delimiter!r}: write it with commas"
        )
    names = _distinct(path, [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])])

    def blocks(columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        with arrow_csv.open_csv(
            path,
            arrow_csv.ReadOptions(skip_rows=len(comments) + 1, column_names=names, block_size=_BLOCK_BYTES),
            arrow_csv.ParseOptions(delimiter=delimiter),
            arrow_csv.ConvertOptions(
                include_columns=list(columns),
                column_types={name: pa.string() for name in columns},
                strings_can_be_null=True,
                null_values=list(missing),
            ),
        ) as reader:
            for batch in reader:
                yield batch.to_pandas(types_mapper=pd.ArrowDtype)

    return TableFile(names, _units(described), blocks)


def _delimiter(described: Sequence[str]) -> str:
    from astropy.table.meta import get_header_from_yaml

    return str(get_header_from_yaml(described).get("delimiter", " "))


def _fits(path: Path) -> TableFile:
    import pandas as pd
    from astropy.io import fits

    with fits.open(path) as hdus:
        table = next((hdu for hdu in hdus if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))), None)
        if table is None:
            raise InputError(
                f"{path} holds no table: choose the file with the catalogue; one cut short, fetch it again"
            )
        names = _distinct(path, list(table.columns.names))
        kinds = dict(zip(names, table.columns, strict=True))
        if path.suffix.lower() == ".gz":
            records = table.data.view(np.ndarray)
        else:  # not through the table's ``data``, of which astropy makes a copy in memory when it closes
            records = np.memmap(
                path,
                table.columns.dtype.newbyteorder(">"),
                mode="r",
                offset=table.fileinfo()["datLoc"],
                shape=(table.header["NAXIS2"],),
            )

    def blocks(columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        rows = _rows_of(columns)
        for start in range(0, len(records), rows):
            part = records[start : start + rows]
            yield pd.DataFrame({name: _physical(part[name], kinds[name]) for name in columns})

    units = {name: str(column.unit) for name, column in kinds.items() if column.unit}
    return TableFile(names, units, blocks)


def _physical(raw: np.ndarray, column: Any) -> Any:
    """What the bytes of a FITS column stand for: TNULL is missing, then TSCAL and TZERO; text as it is."""
    import pandas as pd

    if raw.ndim == 1 and raw.dtype.kind == "i" and column.format in ("L", "1L"):
        return pd.Series(raw == ord("T"), dtype="boolean").mask(raw == 0)
    if raw.ndim != 1 or raw.dtype.kind not in "iuf":
        return list(raw.astype(str) if raw.dtype.kind == "S" else raw)
    values = np.asarray(raw).astype(raw.dtype.newbyteorder("="))
    half = 2 ** (8 * values.itemsize - 1)
    scale, zero = column.bscale or 1, column.bzero or 0
    if values.dtype.kind == "i" and scale == 1 and zero == half:  # how FITS writes unsigned integers
        physical = values.view(f"u{values.itemsize}") ^ np.array(half, f"u{values.itemsize}")
    elif scale == 1 and zero == 0:
        physical = values
    else:  # of bytes, which have no sign, −128 is how signed ones are written
        physical = (values.astype(np.int16) if values.dtype == np.uint8 else values) * scale + zero
    if column.null is None or values.dtype.kind == "f":
        return physical
    nullable: Any = {"i": pd.Int64Dtype(), "u": pd.UInt64Dtype(), "f": pd.Float64Dtype()}[physical.dtype.kind]
    return pd.Series(physical).astype(nullable).mask(values == column.null)


def _votable(path: Path) -> TableFile:
    from astropy.table import Table

    if unpacked_bytes(path, _WHOLE_BYTES) > _WHOLE_BYTES:
        raise InputError(
            f"{path} has more than {_WHOLE_BYTES / 2**30:g} GiB, and a VOTable is read whole, in about ten times "
            "that of memory: convert it to Parquet or FITS, which are read in blocks"
        )
    check_votable(path)
    table = Table.read(path, format="votable")
    single = {name for name in table.colnames if table[name].ndim == 1}

    def blocks(columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        for start in range(0, len(table), _BLOCK_ROWS):
            part = table[list(columns)][start : start + _BLOCK_ROWS]
            frame = part[[name for name in columns if name in single]].to_pandas()
            several = {name: list(part[name]) for name in columns if name not in single}
            yield frame.assign(**several)[list(columns)]

    units = {name: str(table[name].unit) for name in table.colnames if table[name].unit is not None}
    return TableFile(list(table.colnames), units, blocks)
