"""Tables of every format, read in blocks, beside what astropy reads from the same file at once."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from sciencevae.data import tables
from sciencevae.data.tables import as_numbers, open_table
from sciencevae.errors import InputError

FORMATS = {
    ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".vot": "votable",
    ".parquet": "parquet",
}
TYPED = [ending for ending in FORMATS if ending not in (".csv", ".ecsv")]


def some() -> Table:
    """A column of each type that a table has, with gaps and units; 19 digits, which no float holds."""
    gaps = np.arange(50) % 7 == 3
    table = Table({"identifier": np.arange(50) + 2**62 + 1})
    table["flux"] = MaskedColumn(np.linspace(-1, 1, 50), mask=gaps, unit="Jy")
    table["hits"] = MaskedColumn(np.arange(50, dtype=np.int32), mask=gaps)
    table["short"] = np.arange(50, dtype=np.int16)
    table["name"] = [f"star {i % 5}" for i in range(50)]
    table["variable"] = np.arange(50) % 3 == 0
    return table


def whole(path: Path) -> pd.DataFrame:
    file = open_table(path)
    return pd.concat(file.blocks(file.names), ignore_index=True)


@pytest.mark.parametrize(
    ("ending", "packed"),
    [
        (ending, packed)
        for ending in FORMATS
        for packed in (False, True)
        if ending != ".parquet" or not packed
    ],
)
def test_columns_are_those_that_astropy_wrote(
    ending: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_BLOCK_ROWS", 20)
    table, path = some(), tmp_path / f"table{ending}"
    table.write(path, format=FORMATS[ending])
    if packed:
        path = tmp_path / f"table{ending}.gz"
        path.write_bytes(gzip.compress((tmp_path / f"table{ending}").read_bytes()))
    frame = whole(path)
    assert list(frame) == table.colnames
    for name in ("flux", "hits", "short"):
        wanted = np.ma.filled(table[name].astype(float), np.nan)
        np.testing.assert_array_equal(as_numbers(frame[name]), wanted, err_msg=name)
    assert frame["identifier"].astype("int64").tolist() == table["identifier"].tolist()
    assert frame["name"].str.strip().tolist() == table["name"].tolist()
    assert frame["variable"].astype(str).tolist() == [str(v) for v in table["variable"]]
    assert open_table(path).units == ({} if ending == ".csv" else {"flux": "Jy"})


@pytest.mark.parametrize("ending", TYPED)
def test_columns_are_read_by_name_and_integers_stay_integers(ending: str, tmp_path: Path) -> None:
    table, path = some(), tmp_path / f"table{ending}"
    table["several"] = np.ones((50, 3))
    table.write(path, format=FORMATS[ending])
    file = open_table(path)
    (block,) = file.blocks(["several", "short", "identifier"])
    assert list(block) == ["several", "short", "identifier"]
    assert block["identifier"].dtype.kind == block["short"].dtype.kind == "i"
    np.testing.assert_array_equal(np.stack(block["several"]), table["several"])


def test_what_pandas_calls_the_index_is_a_column(tmp_path: Path) -> None:
    frame = some().to_pandas().sample(frac=1, random_state=0)
    frame.set_index("identifier").to_parquet(tmp_path / "table.parquet")
    assert whole(tmp_path / "table.parquet")["identifier"].tolist() == frame["identifier"].tolist()
    frame.to_parquet(tmp_path / "rows.parquet")
    assert list(whole(tmp_path / "rows.parquet")) == list(frame), "the number of a row is none"


def test_a_mask_of_ones_own_is_a_column(tmp_path: Path) -> None:
    """NAME.mask belongs to NAME only where astropy says so."""
    frame = pd.DataFrame({"x": [1.0, 2.0], "x.mask": [3.0, 4.0]})
    frame.to_parquet(tmp_path / "table.parquet")
    assert whole(tmp_path / "table.parquet")["x"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("ending", [".csv", ".ecsv", ".fits", ".parquet"])
def test_a_column_that_is_there_twice(ending: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from astropy.io import fits

    path = tmp_path / f"table{ending}"
    if ending == ".parquet":
        pq.write_table(pa.table([[1], [2]], names=["a", "a"]), path)
    elif ending == ".fits":
        Table({"a": [1], "b": [2]}).write(path)
        fits.setval(path, "TTYPE2", value="a", ext=1)
    else:
        Table({"a": [1], "b": [2]}).write(path, format=FORMATS[ending])
        path.write_text(
            path.read_text().replace("name: b", "name: a").replace("a,b", "a,a").replace("a b", "a a")
        )
    with pytest.raises(InputError, match="has the column 'a' twice: rename one"):
        open_table(path)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False), st.sampled_from(["", "1,5", "star"]))))
def test_text_is_numbers_only_throughout(values: list[float | str | None]) -> None:
    text = [None if v is None else str(v) for v in values]
    mixed = any(isinstance(v, str) for v in values)
    for dtype in ("object", "string[pyarrow]"):
        found = as_numbers(pd.Series(text, dtype=dtype))
        assert (found is None) == mixed
        if found is not None:
            np.testing.assert_array_equal(found, [np.nan if v is None else v for v in values])


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no file"):
        open_table(tmp_path)
    with pytest.raises(InputError, match="no file"):
        open_table(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a;b\n1,5;2\n", "has ';' between its columns, not ','"),
        (b"a\tb\n1\t2\n", r"has '\\t' between its columns, not ','"),
        ("a,Größe\n1,2\n".encode("latin-1"), r"no text in UTF-8 \(byte 4\): save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "no text in UTF-8"),
        (b"a,b\n" + b"1,2\n" * 9999 + "1,Größe\n".encode("latin-1"), "cannot be read as CSV.*invalid UTF8"),
        (b"1,,\n2,3,\n", "the column '' twice: its first line has to hold the names"),
        (b"a,b\n1,2\n3\n", "cannot be read as CSV.*Expected 2 columns, got 1"),
    ],
)
def test_text_that_is_no_csv(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        whole(tmp_path / "table.csv")


@pytest.mark.parametrize("start", ["", "# made by hand\n", "\ufeff"])
def test_text_with_quotes_comments_and_a_byte_order_mark(start: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(start + '"a", b\n"x;y", 1\n"",2\n', encoding="utf-8")
    frame = whole(tmp_path / "table.csv")
    assert list(frame) == ["a", "b"]
    assert frame["a"].tolist()[0] == "x;y"
    assert frame["a"].isna().tolist() == [False, True]
    assert as_numbers(frame["b"]).tolist() == [1, 2]


@pytest.mark.parametrize("kind", ["ascii table", "signed bytes"])
def test_rarer_columns_of_fits(kind: str, tmp_path: Path) -> None:
    from astropy.io import fits

    path = tmp_path / "table.fits"
    if kind == "ascii table":
        columns = [fits.Column("n", "I6", array=[1, -2, 300]), fits.Column("x", "E15.7", array=[0.5, 1, -2])]
        fits.TableHDU.from_columns(columns).writeto(path)
    else:
        columns = [fits.Column("n", "B", bzero=-128, array=np.array([-128, -1, 127], np.int8))]
        fits.BinTableHDU.from_columns(columns).writeto(path)
    expected = Table.read(path)
    found = whole(path)
    assert list(found) == expected.colnames
    for name in expected.colnames:
        np.testing.assert_allclose(found[name].to_numpy(float), np.asarray(expected[name], float))
