"""The prepared store: what it keeps, in which order, and what it refuses; HDF5 beside it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from sciencevae.data.chunks import Column, open_group
from sciencevae.data.hdf5 import open_hdf5, write_hdf5
from sciencevae.data.scaling import Scaling
from sciencevae.data.store import check, fingerprint, open_store, write
from sciencevae.errors import InputError, RunError

Table = Callable[..., xr.Dataset]


def test_rows_keep_together_and_splits_lie_in_order(table: Table, tmp_path: Path) -> None:
    ds = table()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stored = write(ds, tmp_path / "a.zarr", seed=3)
    assert stored.attrs["domain"] == "toy"
    assert stored["x"].attrs["units"] == "mas"
    assert (np.diff(stored["split"].values) >= 0).all()
    row = stored["row"].values
    assert not np.array_equal(row, np.sort(row))
    for name in ("x", "noise", "condition", "target", "group", "split", "name"):
        assert np.array_equal(
            stored[name].values, ds[name].values[row], equal_nan=ds[name].dtype.kind == "f"
        ), name
        assert stored[name].dtype.kind == ds[name].dtype.kind
    assert stored["variable"].values.tolist() == ["a", "b", "c", "d"]
    assert Scaling.of(stored).to_json() == Scaling.fit(stored).to_json()
    assert set(Scaling.of(stored).fields) == {"x", "condition", "target"}


def test_larger_than_memory_gives_the_same_store(table: Table, tmp_path: Path) -> None:
    whole = write(table(), tmp_path / "a.zarr", seed=3, chunk_rows=10)
    lazy = write(table().chunk(sample=130), tmp_path / "b.zarr", seed=3, chunk_rows=10, memory_bytes=2_000)
    assert whole.attrs["fingerprint"] == lazy.attrs["fingerprint"]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.zarr", "b.zarr"]


def test_several_shards_and_a_seed_of_its_own(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sciencevae.data.store._SHARD_BYTES", 2_000)
    monkeypatch.setattr("sciencevae.data.store._CHUNK_BYTES", 500)
    few = table(300)
    first = write(few, tmp_path / "a.zarr", seed=3, memory_bytes=10_000)
    assert len(list((tmp_path / "a.zarr" / "x" / "c").iterdir())) == 10
    assert first["x"].data.numblocks[0] == 10
    assert write(few, tmp_path / "a.zarr", seed=3).attrs["fingerprint"] == first.attrs["fingerprint"]
    assert write(few, tmp_path / "a.zarr", seed=4).attrs["fingerprint"] != first.attrs["fingerprint"]


def test_series_stay_in_order(table: Table, tmp_path: Path) -> None:
    stored = write(table(), tmp_path / "a.zarr", shuffle=False, chunk_rows=7)
    assert np.array_equal(stored["row"].values, np.arange(1000))


def test_the_fingerprint_is_of_the_content(table: Table, tmp_path: Path) -> None:
    first = write(table(), tmp_path / "a.zarr", chunk_rows=10).attrs["fingerprint"]
    assert write(table(), tmp_path / "b.zarr", chunk_rows=64).attrs["fingerprint"] == first
    changed = table()
    changed["target"][5] += 1
    assert write(changed, tmp_path / "c.zarr").attrs["fingerprint"] != first
    group: Any = zarr.open_group(str(tmp_path / "a.zarr"), mode="r+")
    group["target"][0] = 99
    assert fingerprint(tmp_path / "a.zarr") != first


def test_others_read_it(table: Table, tmp_path: Path) -> None:
    write(table(), tmp_path / "a.zarr", seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = xr.open_zarr(tmp_path / "a.zarr", consolidated=False)
    xr.testing.assert_equal(plain.load(), open_store(tmp_path / "a.zarr").load())
    metadata = json.loads((tmp_path / "a.zarr" / "x" / "zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert metadata["codecs"][0]["name"] == "sharding_indexed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ds: ds.rename(x="y"), "needs the variable 'x'"),
        (lambda ds: ds.rename(sample="row_number"), "rows along a dimension 'sample'"),
        (lambda ds: ds.isel(sample=slice(0)), "rows along a dimension 'sample'"),
        (lambda ds: ds.assign(x=ds["x"] * np.nan), "'x' is NaN everywhere"),
        (lambda ds: ds.assign(noise=ds["noise"] * np.nan), "'noise' is NaN everywhere"),
        (lambda ds: ds.assign(x=ds["x"].where(ds["split"] > 0)), "'x' is NaN in every training row"),
        (lambda ds: ds.assign_coords(split=ds["split"] * 0 + 1), "the split 'train' is empty"),
        (lambda ds: ds.assign_coords(group=ds["group"] * 0), "leakage: group 0 lies in train and in"),
        (lambda ds: ds.assign(note=("sample", ["a"] * 1000)), "'note' is of type <U1: numbers only"),
        (lambda ds: ds.assign(extra=("other", [1.0])), "'extra' has no dimension 'sample'"),
        (lambda ds: ds.assign_coords(sample=np.arange(1000)), "must have no coordinate of that name"),
    ],
)
def test_what_breaks_the_schema_is_refused(
    table: Table, tmp_path: Path, change: Callable, message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        write(change(table()), tmp_path / "a.zarr")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_not_there_or_damaged(table: Table, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no prepared data at"):
        open_store(tmp_path / "none.zarr")
    write(table(), tmp_path / "a.zarr")
    (shard,) = (tmp_path / "a.zarr" / "x" / "c").rglob("0/0")
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(RunError, match="cut short: delete it"):
        fingerprint(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "x" / "zarr.json").write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        open_store(tmp_path / "a.zarr")


@pytest.mark.parametrize("harm", ["a file is lost", "a bit is another", "the index of a shard is another"])
def test_a_store_that_does_not_hold_what_was_written(harm: str, table: Table, tmp_path: Path) -> None:
    """Read, a lost file would be zeros, and a bit other data."""
    path = tmp_path / "a.zarr"
    write(table(), path)
    check(path)
    (shard,) = (path / "x" / "c").rglob("0/0")
    content = bytearray(shard.read_bytes())
    content[100 if harm == "a bit is another" else -8] ^= 1
    if harm == "a file is lost":
        shard.unlink()
    else:
        shard.write_bytes(content)
    with pytest.raises(RunError, match=r"remove it and run again|delete it"):
        check(path)


LAYOUTS = [
    {"chunks": (7, 3), "shards": (28, 3), "compressors": None},
    {"chunks": (7, 3), "shards": None, "compressors": None},
    {"chunks": (7, 3), "shards": (28, 3), "compressors": "auto"},
    {"chunks": (7, 2), "shards": None, "compressors": None},
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "u1", "?", ">f4"])
def test_a_column_reads_what_zarr_reads(tmp_path: Path, layout: dict, dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 2, (100, 3)).astype(dtype)
    group = zarr.create_group(str(tmp_path / "a.zarr"))
    if layout["shards"] is None:
        layout = {k: v for k, v in layout.items() if k != "shards"}
    array = group.create_array("x", shape=values.shape, dtype=dtype, fill_value=1, **layout)
    array[:40] = values[:40]
    array[56:] = values[56:]  # rows 42 to 56 are never written
    column = Column(open_group(tmp_path / "a.zarr")["x"], tmp_path / "a.zarr" / "x")
    assert column.direct == (layout["chunks"][1] == 3 and layout["compressors"] is None)
    for start, stop in [(0, 100), (0, 1), (5, 23), (27, 29), (30, 60), (99, 100), (40, 57)]:
        out = column.empty(stop - start)
        column.read_into(start, stop, out)
        assert np.array_equal(out, array[start:stop]), (start, stop)


def test_hdf5_keeps_units_names_and_text(table: Table, tmp_path: Path) -> None:
    ds = table().chunk(sample=100)
    write_hdf5(ds, tmp_path / "a.h5")
    with open_hdf5(tmp_path / "a.h5") as back:
        xr.testing.assert_equal(back.load(), ds.load())
        assert back["x"].attrs == ds["x"].attrs
        assert back.attrs == ds.attrs
        assert set(back.coords) == set(ds.coords)
    with pytest.raises(InputError, match="no file"):
        open_hdf5(tmp_path / "b.h5")
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:500])
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        open_hdf5(tmp_path / "b.h5")


def test_hdf5_has_times_as_numbers_and_other_attributes_as_json(tmp_path: Path) -> None:
    words = [f"word {k}" for k in range(6000)]  # more than an HDF5 attribute holds
    learned = {"none": None, "nested": {"a": [1, None]}, "mixed": [1, "a"], "words": words}
    begin = np.array(["2020-01-01", "2020-01-02"], "M8[ns]")
    ds = xr.Dataset({"x": (("sample", "begin"), np.ones((3, 2)), learned)}, {"begin": begin}, learned)
    write_hdf5(ds, tmp_path / "a.h5")
    with open_hdf5(tmp_path / "a.h5") as back:
        for attrs in (back.attrs, back["x"].attrs):
            assert {name: json.loads(value) for name, value in attrs.items()} == learned
        assert (xr.decode_cf(back)["begin"].values == begin).all()


def test_a_coordinate_of_no_variable_is_kept(tmp_path: Path) -> None:
    """As the modes of a basis, whose dimensions the coefficients do not all have."""
    modes = (("mode", "point"), np.arange(6.0).reshape(2, 3))
    data = xr.Dataset({"x": (("sample", "mode"), np.ones((4, 2)))}, {"modes": modes})
    stored = write(data, tmp_path / "store.zarr", shuffle=False)
    np.testing.assert_array_equal(stored["modes"].values, modes[1])
