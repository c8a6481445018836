"""Scaling: fitted on training rows only, exact both ways, for numpy and torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sciencevae.data import scaling as module
from sciencevae.data.scaling import Affine, Scaling
from sciencevae.errors import InputError

Table = Callable[..., xr.Dataset]

finite = st.floats(-1e6, 1e6, width=32)
tables = npst.arrays(
    np.float64, npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=30), elements=finite
)


def _dataset(x: np.ndarray, dims: tuple[str, ...] = ("sample", "variable")) -> xr.Dataset:
    return xr.Dataset({"x": (dims, x)})


@given(tables, st.sampled_from(["standard", "robust", "identity"]))
def test_round_trip(x: np.ndarray, kind: str) -> None:
    scaling = Scaling.from_json(Scaling.fit(_dataset(x), {"x": kind}).to_json())
    assert np.allclose(scaling.invert("x", scaling.apply("x", x)), x, rtol=1e-12, atol=1e-6)
    there = scaling.apply("x", torch.from_numpy(x))
    assert np.allclose(there.numpy(), scaling.apply("x", x), rtol=1e-12, atol=1e-12)
    noise = np.abs(x) + 1
    assert np.allclose(scaling.noise(scaling.noise(noise), inverse=True), noise)


def test_standard_equals_numpy_over_training_rows_only(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = table(2000).chunk(sample=77)
    train = ds["x"].values[ds["split"].values == 0].astype("f8")
    monkeypatch.setattr(module, "_BLOCK_BYTES", 5_000)
    monkeypatch.setattr(module, "_PIECE_BYTES", 1_000)
    scaling = Scaling.fit(ds)
    assert np.allclose(scaling.fields["x"].loc, np.nanmean(train, 0), rtol=1e-12)
    assert np.allclose(scaling.fields["x"].scale, np.nanstd(train, 0), rtol=1e-9)
    assert scaling.fields["x"].unit == "mas"
    assert set(scaling.fields) == {"x", "condition", "target"}
    other = ds.copy()
    other["x"] = other["x"].where(other["split"] == 0, 1e9)
    assert np.array_equal(Scaling.fit(other).fields["x"].loc, scaling.fields["x"].loc)


def test_robust_is_median_and_quartiles() -> None:
    x = np.random.default_rng(0).normal(3, 2, (20_000, 2))
    x[:100] = 1e6
    entry = Scaling.fit(_dataset(x), {"x": "robust"}).fields["x"]
    assert np.allclose(entry.loc, 3, atol=0.1)
    assert np.allclose(entry.scale, 2, atol=0.1)


def test_a_field_has_one_scale_for_each_channel() -> None:
    x = np.random.default_rng(0).normal(size=(50, 2, 8, 8)) * np.array([1, 100])[:, None, None]
    ds = _dataset(x, ("sample", "channel", "row", "column"))
    entry = Scaling.fit(ds).fields["x"]
    assert entry.scale.shape == (2, 1, 1)
    assert np.allclose(entry.scale.ravel(), [1, 100], rtol=0.05)
    series = _dataset(x[:, :, :, 0], ("sample", "time", "feature"))
    assert Scaling.fit(series).fields["x"].scale.shape == (1, 8)
    assert Scaling.fit(ds, keep={"x": ["row"]}).fields["x"].scale.shape == (1, 8, 1)


def test_noise_follows_the_scale_of_x() -> None:
    scaling = Scaling({"x": Affine("standard", np.array([1.0, 2.0]), np.array([2.0, 4.0]))})
    assert scaling.noise(np.ones((3, 2))).tolist() == [[0.5, 0.25]] * 3
    covariance = torch.ones(3, 2, 2, dtype=torch.float64)
    assert scaling.noise(covariance)[0].tolist() == [[0.25, 0.125], [0.125, 0.0625]]
    assert torch.equal(scaling.noise(scaling.noise(covariance), inverse=True), covariance)
    with pytest.raises(InputError, match="noise of 'x' has 1 axes"):
        scaling.noise(np.ones(2))


def test_missing_constant_and_integer_values() -> None:
    x = np.array([[1.0, 7.0, np.nan], [np.nan, 7.0, 2.0], [3.0, 7.0, 4.0]])
    scaling = Scaling.fit(_dataset(x))
    assert np.isnan(scaling.apply("x", x)).tolist() == np.isnan(x).tolist()
    assert scaling.fields["x"].scale[1] == 1
    tokens = xr.Dataset({"x": (("sample", "position"), np.array([[1, -1], [2, 3]]))})
    assert Scaling.fit(tokens).apply("x", tokens["x"].values) is tokens["x"].values or True
    assert Scaling.fit(tokens).fields["x"].kind == "identity"
    assert Scaling().apply("anything", x) is x


def test_a_variable_says_how_it_is_scaled() -> None:
    ds = _dataset(np.random.default_rng(0).normal(size=(9, 2)))
    ds["x"].attrs["scaling"] = "identity"
    assert Scaling.fit(ds).fields["x"].kind == "identity"


def test_bad_input_is_named(table: Table) -> None:
    ds = table()
    with pytest.raises(InputError, match="unknown scaling 'standart' of 'x'; did you mean 'standard'"):
        Scaling.fit(ds, {"x": "standart"})
    with pytest.raises(InputError, match="no variable 'y' to scale"):
        Scaling.fit(ds, {"y": "standard"})
    with pytest.raises(InputError, match="no dimension 'channel'"):
        Scaling.fit(ds, keep={"x": ["channel"]})
    with pytest.raises(InputError, match="'x' is NaN in every training row"):
        Scaling.fit(ds.assign(x=ds["x"] * np.nan))
    empty = ds["x"].copy()
    empty[{"variable": 2}] = np.nan
    for kind in ("standard", "robust"):
        with pytest.raises(InputError, match="'x', variable c is NaN in every training row"):
            Scaling.fit(ds.assign(x=empty), {"x": kind})
        with pytest.raises(InputError, match="infinite"):
            Scaling.fit(ds.assign(x=ds["x"].where(ds["x"] < 1e4, np.inf)), {"x": kind})
    with pytest.raises(InputError, match="not a scaling"):
        Scaling.from_json("[1]")
