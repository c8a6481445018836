"""Rows that are read from the beginning of a file: the same as in memory, and no more often than needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sciencevae.data.sequential import lazily
from sciencevae.data.shuffle import scattered
from sciencevae.data.store import write
from sciencevae.errors import RunError

N = 100


def whole() -> xr.Dataset:
    x = np.random.default_rng(0).normal(size=(N, 3))
    return xr.Dataset(
        {"x": (("sample", "feature"), x, {"units": "mas"})},
        {"name": ("sample", [f"row {i:02}" for i in range(N)]), "feature": ["a", "b", "c"]},
        {"domain": "toy"},
    )


class Source:
    """Blocks of uneven lengths, one of them empty, and how often they were asked for."""

    def __init__(self) -> None:
        self.began = 0

    def __call__(self) -> Iterator[xr.Dataset]:
        self.began += 1
        for start, stop in ((0, 7), (7, 7), (7, 60), (60, N)):
            yield whole().isel(sample=slice(start, stop))


@pytest.mark.parametrize(
    "rows",
    [slice(None), slice(5, 9), slice(90, 20, -7), slice(3, 3), [70, 3, 3], np.arange(N) % 9 == 2],
)
def test_any_rows_are_those_in_memory(rows: object) -> None:
    data = lazily(Source(), N)
    xr.testing.assert_identical(data.isel(sample=rows).load(), whole().isel(sample=rows))
    xr.testing.assert_identical(
        data.isel(feature=1, sample=rows).load(), whole().isel(feature=1, sample=rows)
    )


def test_rows_in_their_order_are_read_once() -> None:
    source = Source()
    data = lazily(source, N)
    assert source.began == 1  # for what the first block says
    parts = [data.isel(sample=slice(start, start + 30)).load() for start in range(0, N, 30)]
    assert source.began == 2
    xr.testing.assert_identical(xr.concat(parts, "sample", data_vars="minimal"), whole())


@pytest.mark.parametrize("memory", [1 << 20, 1_000])
def test_a_store_of_them_is_that_of_what_is_in_memory(tmp_path, memory: int) -> None:
    lazy = write(lazily(Source(), N), tmp_path / "a.zarr", memory_bytes=memory, chunk_rows=8)
    held = write(whole(), tmp_path / "b.zarr", chunk_rows=8)
    assert lazy.attrs["fingerprint"] == held.attrs["fingerprint"]
    xr.testing.assert_equal(lazy.load(), held.load())


def test_a_file_that_lost_rows_is_told() -> None:
    with pytest.raises(RunError, match="100 rows where 101 were counted"):
        lazily(Source(), N + 1)["x"].load()


def test_rows_are_put_in_order_whatever_their_arrays_are_called(tmp_path: Path) -> None:
    """Names are a user's: none becomes a path, and none is that of a file of the scratch folder's own."""
    names = ["../../out", "a/b", "position", "<script>", ""]
    values = {name: np.arange(10.0) + 100 * number for number, name in enumerate(names)}
    order = np.random.default_rng(0).permutation(10)
    blocks = ({name: array[start : start + 4] for name, array in values.items()} for start in (0, 4, 8))
    parts = list(scattered(blocks, order, 3, tmp_path / "scratch"))
    for name in names:
        assert np.array_equal(np.concatenate([part[name] for _, part in parts]), values[name][order])
    assert list(tmp_path.iterdir()) == []
