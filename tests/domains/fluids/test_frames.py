"""Frames as the model sees them: norms, growth to saturation, holes, pictures of points."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import xarray as xr
from sciencevae.builtin.fluids.dataset import prepare
from sciencevae.builtin.fluids.frames import Frames
from sciencevae.builtin.fluids.model import build
from sciencevae.builtin.fluids.points import interpolation_error, on_grid
from sciencevae.builtin.fluids.settings import Fluids
from sciencevae.builtin.fluids.writing import write_fields

from sciencevae.data.batches import as_batches
from sciencevae.errors import InputError

SHORT = {"window": 2, "horizon": 2, "fractions": {"train": 0.5, "valid": 0.25, "test": 0.25}}


def flow(values: np.ndarray, step: float = 0.1, **coords: Any) -> xr.Dataset:
    """u of runs (run, time, y, x), on a unit grid unless told."""
    rows, columns = values.shape[2:]
    axes = {"y": np.arange(float(rows)), "x": np.arange(float(columns))} | coords
    named = {name: (name, axis, {"units": "m"}) for name, axis in axes.items()}
    time = ("time", np.arange(values.shape[1]) * step, {"units": "s"})
    return xr.Dataset({"u": (("run", "time", "y", "x"), values, {"units": "m/s"})}, {"time": time, **named})


def frames_of(fields: xr.Dataset, folder: Path, **chosen: Any) -> tuple[Frames, xr.Dataset, Fluids]:
    write_fields(fields, folder / "flow.nc")
    settings = Fluids(dataset="", prepare=SHORT | chosen, model={"channels": [4], "hidden": [8], "latent": 2})
    data = prepare(settings, {}, folder / "flow.nc").load()
    return Frames(cast(Any, SimpleNamespace(data=data))), data, settings


def test_errors_weigh_cells_by_their_size(tmp_path: Path) -> None:
    """On a stretched axis: an error of 1 everywhere, and of 1 in one column, in shares of the area."""
    x = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
    values = np.random.default_rng(0).normal(size=(4, 8, 3, 5))
    frames, _, _ = frames_of(flow(values, x=x), tmp_path)
    ones = np.ones((1, 1, 3, 5))
    last = np.zeros_like(ones)
    last[..., -1] = 1
    share = frames.squares(last) / frames.squares(ones)
    assert share[0] == pytest.approx(np.gradient(x)[-1] / np.gradient(x).sum())


def test_saturation_is_the_amplitude_of_an_oscillation(tmp_path: Path) -> None:
    """Stuart–Landau growth A² = 1 / (1 + (1/A₀² − 1) e^{−2σt}), slow beside the oscillation."""
    time = np.arange(400) * 0.1
    amplitude = 1 / np.sqrt(1 + (1 / 0.01**2 - 1) * np.exp(-2 * 0.25 * time))
    wave = np.exp(1j * (2.0 * time[:, None, None] + 0.7 * np.arange(9)[None, None]))
    values = (amplitude[:, None, None] * wave).real + np.zeros((4, 400, 6, 9))
    frames, _, _ = frames_of(flow(values), tmp_path)
    found = frames.saturation()[:400]
    np.testing.assert_allclose(found[:-1], amplitude[:-1], rtol=0.35)
    assert found[0] == pytest.approx(0.01, rel=0.35)
    np.testing.assert_allclose(found[-60:], 1, rtol=0.1)


def test_a_hole_drops_out_of_the_likelihood(tmp_path: Path) -> None:
    """With a hole the likelihood is that of the cells around it; the encoder is told where it is."""
    values = np.random.default_rng(0).normal(size=(4, 8, 6, 6))
    values[:, :, 2:4, 2:4] = np.nan
    frames, data, settings = frames_of(flow(values), tmp_path)
    assert frames.weight[0, 2:4, 2:4].sum() == 0
    torch.manual_seed(0)
    model = build(settings, data)
    batch = next(iter(as_batches(data, "train").blocks(16)))
    terms = model.terms(batch, noise=torch.zeros(1, len(batch), 2))
    assert bool(terms.log_px.isfinite().all())
    law = model.decode(terms.z, batch.context)
    whole = torch.distributions.Normal(law.mean, model.decoder.log_scale.exp())
    term = whole.log_prob(batch.x.nan_to_num())
    observed = ~batch.x.isnan()
    expected = torch.where(observed, term, 0.0).flatten(2).sum(2)
    torch.testing.assert_close(terms.log_px, expected)
    terms.log_px.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_points_become_a_picture_with_its_error() -> None:
    random = np.random.default_rng(0)
    x, y = random.uniform(-2, 2, 3000), random.uniform(-1, 1, 3000)
    mass = np.ones(3000)
    for values, low, high in (((2 * x - y)[None], 0, 1e-6), (np.sin(40 * x)[None], 0.2, 1.5)):
        grid = on_grid(x, y, values, (40, 80), hole=0.3)
        assert low <= interpolation_error(x, y, values, mass, grid) < high
    gx, gy, made = on_grid(x, y, (2 * x - y)[None], (40, 80), hole=0.3)
    inside = np.hypot(gx[None], gy[:, None]) < 0.3
    assert np.isnan(made[0][inside]).all()
    known = np.isfinite(made[0])
    np.testing.assert_allclose(made[0][known], (2 * gx[None] - gy[:, None])[known], atol=1e-9)


def test_points_are_interpolated_where_a_grid_is_asked_for(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x, y = random.uniform(0, 4, 500), random.uniform(0, 2, 500)
    speed = np.arange(4)[:, None, None] + np.arange(8)[:, None] * 0.1 + x
    points = xr.Dataset(
        {"u": (("run", "time", "point"), speed, {"units": "m/s"})},
        {
            "time": np.arange(8) * 0.5,
            "x": ("point", x),
            "y": ("point", y),
            "mass": ("point", np.full(500, 0.016)),
        },
    )
    write_fields(points, tmp_path / "points.h5")
    data = prepare(Fluids(dataset="", prepare=SHORT | {"grid": [6, 12]}), {}, tmp_path / "points.h5")
    assert data["x"].shape == (32, 1, 6, 12)
    assert "is lost" in data.attrs["note"]
    wanted = data["x_position"].values + 0.1
    inner = data["x"].values[1, 0, 2:4]
    np.testing.assert_allclose(inner, np.broadcast_to(wanted, inner.shape), atol=1e-5)
    modes = prepare(Fluids(dataset="", prepare=SHORT | {"modes": 1}), {}, tmp_path / "points.h5")
    assert modes["x"].shape == (32, 1)
    assert modes["residual"].values.max() < 1e-6
    write_fields(flow(np.zeros((4, 8, 3, 3)) + np.arange(8)[:, None, None]), tmp_path / "grid.nc")
    with pytest.raises(InputError, match="has a grid already"):
        prepare(Fluids(dataset="", prepare=SHORT | {"grid": [6, 12]}), {}, tmp_path / "grid.nc")
