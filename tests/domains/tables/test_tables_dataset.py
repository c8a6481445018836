"""What columns are taken for, which rows train, and what is refused, on small tables in every format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st
from sciencevae.builtin.tables.columns import Column, columns_of, frame_of
from sciencevae.builtin.tables.dataset import prepare, read
from sciencevae.builtin.tables.rows import is_anomalous, normal_values
from sciencevae.builtin.tables.settings import Prepare, Tables
from sciencevae.builtin.tables.survey import inferred, surveyed

from sciencevae.config import load
from sciencevae.data import tables
from sciencevae.data.template import from_json, to_json
from sciencevae.errors import InputError
from sciencevae.registry import domain

N = 60


def table(rows: int = N, seed: int = 0) -> pd.DataFrame:
    """A column of each kind, some values missing, and a label."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "name": [f"star {i}" for i in range(rows)],
            "flux": random.normal(5, 2, rows),
            "hits": random.poisson(30, rows).astype(float),
            "grade": random.integers(0, 3, rows).astype(float),
            "kind": random.choice(["dwarf", "giant"], rows),
            "state": np.where(np.arange(rows) < 6, "odd", "usual"),
        }
    )
    frame.loc[7, ["flux", "hits"]] = np.nan
    frame.loc[8, "kind"] = None
    return frame


def write(frame: pd.DataFrame, path: Path) -> Path:
    """As the format has it: CSV and the formats of astropy with empty or masked values."""
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        columns = {}
        for name in frame:
            values, missing = frame[name], frame[name].isna().to_numpy()
            plain = values.fillna(0).to_numpy() if values.dtype.kind == "f" else values.fillna("").astype(str)
            plain = np.array(plain.tolist())
            columns[name] = MaskedColumn(plain, mask=missing, unit="Jy" if name == "flux" else None)
        formats = {".ecsv": "ascii.ecsv", ".vot": "votable", ".fits": "fits"}
        Table(columns).write(path, format=formats[path.suffix])
    return path


def chosen(**options: object) -> Tables:
    own = {"identifier": "name", "label": "state", "normal": ["usual"], "minimum_rows": 20}
    return Tables.model_validate({"prepare": own | options})


def prepared(frame: pd.DataFrame, folder: Path, **options: object) -> xr.Dataset:
    return prepare(chosen(**options), {}, write(frame, folder / "table.csv"))


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".fits", ".ecsv", ".vot"])
def test_every_format_gives_the_same_data(ending: str, tmp_path: Path) -> None:
    data = prepare(chosen(), {}, write(table(), tmp_path / f"table{ending}"))
    kinds = {c.name: (c.kind, c.levels) for c in columns_of(data.attrs)}
    assert kinds == {
        "flux": ("gaussian", ()),
        "hits": ("counts", ()),
        "grade": ("categorical", ("0", "1", "2")),
        "kind": ("categorical", ("dwarf", "giant")),
    }
    frame = table()
    np.testing.assert_allclose(data["gaussian"].sel(gaussian_column="flux"), frame["flux"], rtol=1e-6)
    assert data["counts"].values[:, 0].tolist() == frame["hits"].fillna(-1).astype(int).tolist()
    assert data["categories_4"].values[:, 0].tolist() == frame["grade"].astype(int).tolist()
    wanted = frame["kind"].map({"dwarf": 0, "giant": 1}).fillna(-1).astype(int)
    assert data["categories_3"].values[:, 0].tolist() == wanted.tolist()
    assert data["id"].values.tolist() == frame["name"].tolist()
    assert data["anomaly"].values.tolist() == (frame["state"] == "odd").astype(int).tolist()
    if ending in (".ecsv", ".vot", ".fits"):
        assert columns_of(data.attrs)[0].unit == "Jy"


def test_only_rows_labelled_normal_train(tmp_path: Path) -> None:
    data = prepared(table(), tmp_path)
    odd = data["anomaly"].values == 1
    assert (data["split"].values[odd] == 2).all()
    assert {*data["split"].values[~odd]} == {0, 1, 2}
    assert data.attrs["trained_on"] == "rows that state calls normal; all others are in test"
    everything = prepared(table(), tmp_path, train_on="all")
    assert (everything["split"].values[odd] == 0).any()
    assert "whatever their label" in everything.attrs["trained_on"]
    assert prepared(
        table(), tmp_path, label="", normal=[]
    ).attrs["trained_on"] == "all rows: there is no label"  # fmt: skip
    assert "state" not in [c.name for c in columns_of(data.attrs)], "the label is no column of x"


def test_equal_rows_are_in_one_part(tmp_path: Path) -> None:
    frame = pd.concat([table().drop(columns="name")] * 3, ignore_index=True)
    data = prepared(frame, tmp_path, identifier="")
    split = data["split"].values.reshape(3, N)
    assert (split == split[0]).all()
    assert len(np.unique(data["group"].values)) == N


def test_a_label_that_is_missing_trains_nothing(tmp_path: Path) -> None:
    frame = table()
    frame.loc[20:24, "state"] = None
    data = prepared(frame, tmp_path)
    assert (data["anomaly"].values[20:25] == -1).all()
    assert (data["split"].values[20:25] == 2).all()


def test_columns_that_say_nothing_are_left_out_and_named(tmp_path: Path) -> None:
    frame = table().assign(same=3.5, empty=np.nan, note=[f"note {i}" for i in range(N)])
    frame["told"] = np.where(frame["state"] == "odd", 1.5, 2.5)  # one value in all rows that train
    data = prepared(frame, tmp_path, columns={"grade": "ignore", "hits": "student"})
    assert json.loads(data.attrs["left_out"]) == {
        "name": "identifier",
        "state": "label",
        "grade": "as set",
        "same": "the same value in all rows",
        "empty": "no value at all",
        "note": "text that hardly repeats: an identifier?",
        "told": "the same value in all training rows",
    }
    assert data["student"].dims == ("sample", "student_column")


@pytest.mark.parametrize("gap", [False, True])
def test_a_time_is_neither_a_count_nor_a_category(gap: bool) -> None:
    times = pd.Series(pd.date_range("2026-01-01", periods=N, freq="D"))
    frame = frame_of(table().assign(seen=times.mask(times.index == 3) if gap else times))
    assert "seen" not in frame
    assert frame.attrs["not columns"] == ["seen"]


def test_rows_are_told_by_their_place_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = table()
    template = from_json(json.loads(json.dumps(to_json(prepared(frame, tmp_path)))))
    frame["flux"] = frame["flux"].astype(object)
    frame.loc[50, "flux"] = "bright"
    path = write(frame, tmp_path / "table.csv")
    monkeypatch.setattr(tables, "_BLOCK_BYTES", 512)
    with pytest.raises(InputError, match=r"'bright' \(row 51\)"):
        list(read(path, chosen(), template))


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    frame = table()
    frame.loc[10, "flux"] = np.inf
    frame.loc[11, ["flux", "hits", "grade"]] = np.nan
    frame.loc[11, "kind"] = None
    frame.loc[12, "flux"], frame.loc[13, "flux"] = -3.5e38, 3.4e38
    data = prepared(frame, tmp_path)
    assert json.loads(data.attrs["refused_reasons"]) == {
        "flux is infinite": 1, "flux is beyond 3.4e+38: another unit?": 1, "no value in any column": 1
    }  # fmt: skip
    assert data.attrs["refused"] == 3
    assert set(range(N)) - set(data["row"].values.tolist()) == {10, 11, 12}
    assert np.isfinite(data["gaussian"].values.astype(np.float32)[~np.isnan(data["gaussian"])]).all()


def with_text(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(flux=frame["flux"].astype(object).where(frame.index != 3, "bright"))


BAD = [
    (with_text, {}, r"column 'flux' holds 'bright' \(row 4\) among numbers"),
    (lambda f: f, {"columns": {"flax": "student"}}, "no column 'flax'; did you mean 'flux'"),
    (
        lambda f: f,
        {"columns": {"flux": "counts"}},
        r"which is no count: --set prepare\.columns\.flux=gaussian",
    ),
    (lambda f: f, {"columns": {"kind": "gaussian"}}, r"column 'kind' holds '(dwarf|giant)' \(row 1\)"),
    (lambda f: f, {"label": "status"}, "no column 'status'; did you mean 'state'"),
    (lambda f: f, {"normal": ["fine"]}, "the label 'state' holds odd, usual: which is normal"),
    (lambda f: f.assign(state="odd"), {}, "the label 'state' holds odd: which is normal"),
    (lambda f: f.assign(state=["usual"] * 5 + ["odd"] * 55), {}, "5 usable rows are normal by the label"),
    (lambda f: f[:15], {}, "has 15 rows, fewer than prepare.minimum_rows = 20"),
    (lambda f: f[["name", "state"]], {}, "no column of numbers or categories .*name: identifier"),
    (
        lambda f: f.assign(flux=np.where(f.index % 2, np.inf, -np.inf)),
        {},
        "0 of 60 rows can be used.*60 rows: flux is infinite",
    ),
    (lambda f: f[:0], {}, "holds no rows"),
]


@pytest.mark.parametrize(("change", "options", "message"), BAD)
def test_bad_input_is_named(change, options, message, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        prepared(change(table()), tmp_path, **options)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    twice = tmp_path / "twice.csv"
    twice.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(InputError, match="has the column 'a' twice: rename one"):
        prepare(chosen(), {}, twice)
    odd = tmp_path / "table.xlsx"
    odd.write_bytes(b"PK")
    with pytest.raises(InputError, match=r"a table is \.csv, .* found '\.xlsx'"):
        prepare(chosen(), {}, odd)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        prepare(chosen(), {}, broken)


def test_settings_say_what_is_normal_only_with_a_label() -> None:
    with pytest.raises(InputError, match="which column says what is normal"):
        load(domain("tables"), "own", ["prepare.train_on=normal"])


@pytest.mark.parametrize("values", [["0", "1"], ["False", "True"], ["normal", "attack"], ["Normal", "x"]])
def test_usual_words_for_normal_need_not_be_set(values: list[str]) -> None:
    label = np.array([*values, None], object)
    normal = normal_values(set(values), Prepare(label="state"))
    assert is_anomalous(label, normal).tolist() == [0, 1, -1]


def test_ones_own_rows_stay_in_order_with_their_reasons(tmp_path: Path) -> None:
    data = prepared(table(), tmp_path)
    template = from_json(json.loads(json.dumps(to_json(data))))
    own = table(seed=1)
    own.loc[2, "kind"] = "supergiant"
    own.loc[3, "flux"] = np.inf
    (block,) = read(write(own, tmp_path / "own.parquet"), chosen(), template)
    assert block["row"].values.tolist() == list(range(N))
    assert block["id"].values.tolist() == own["name"].tolist()
    assert block["status"].values[3] == "flux is infinite"
    assert np.isnan(block["gaussian"].values[3]).all()
    assert block["counts"].values[3, 0] == -1
    assert (np.delete(block["status"].values, 3) == "ok").all()
    assert block["categories_3"].values[2, 0] == 2, "a category that training did not see is one of its own"
    with pytest.raises(InputError, match="no column 'grade' and 1 more, which this model was trained on"):
        next(read(write(own[["name", "flux", "hits"]], tmp_path / "less.csv"), chosen(), template))


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_no_digit_of_an_identifier_is_lost(ending: str, tmp_path: Path) -> None:
    frame = table().assign(name=np.arange(N) + 2**62 + 1)
    data = prepare(chosen(), {}, write(frame, tmp_path / f"table{ending}"))
    assert data["id"].values.tolist() == [str(2**62 + 1 + i) for i in range(N)]


@pytest.mark.parametrize("other", ["", "unknown"])
def test_categories_written_as_numbers_are_the_same_in_every_block(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.0 is 1, whether or not the words among the numbers lie in another block of the file."""
    frame = table()
    grade = frame["grade"].map("{:.1f}".format)
    grade[40:] = grade[40:].where(np.arange(40, N) % 5 > 0, other or "0.0")
    path = write(frame.assign(grade=grade), tmp_path / "table.csv")
    data = prepare(chosen(columns={"grade": "categorical"}), {}, path)
    template = from_json(json.loads(json.dumps(to_json(data))))
    monkeypatch.setattr(tables, "_BLOCK_BYTES", 512)
    blocks = list(read(path, chosen(), template))
    assert len(blocks) > 2
    (column,) = [c for c in columns_of(data.attrs) if c.name == "grade"]
    place = blocks[0][column.field].attrs["columns"].index("grade")
    found = np.concatenate([block[column.field].values[:, place] for block in blocks])
    assert [column.levels[code] for code in found] == (grade.tolist() if other else [v[0] for v in grade])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, width=32)), min_size=2, max_size=30))
def test_numbers_come_back_as_they_are(values: list[float | None]) -> None:
    """Masked or NaN is NaN; infinities stay; as numbers and text alike, and as text that is to stay text."""
    wanted = np.array([np.nan if v is None else v for v in values])
    text = [None if v is None else f" {float(v)!r}" for v in values]
    raw = pd.DataFrame({"number": pd.Series(values, dtype="Float64"), "text": text, "other": text})
    frame = frame_of(raw, ("other",))
    column = {name: Column(name, "gaussian") for name in raw}
    for name in column:
        np.testing.assert_array_equal(column[name].values(frame[name]), wanted)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-3, 12), min_size=4, max_size=40))
def test_kinds_of_whole_numbers(values: list[int]) -> None:
    frame, own = pd.DataFrame({"x": values, "other": np.arange(len(values)) + 0.5}), Prepare(categories_max=5)
    columns, left = inferred(surveyed(tables.open_table(frame), own), {}, own, "here")
    kinds = {column.name: column.kind for column in columns}
    distinct = len(set(values))
    if distinct == 1:
        assert left["x"] == "the same value in all rows"
    elif min(values) < 0:
        assert kinds["x"] == "gaussian"
    elif distinct > 5:
        assert kinds["x"] == "counts"
    else:
        assert kinds.get("x", "categorical") == "categorical"
