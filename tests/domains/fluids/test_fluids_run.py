"""The whole domain at toy size: from simulation to report, then forecasts of a user's own file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from sciencevae.builtin.fluids import DOMAIN
from sciencevae.builtin.fluids.fields import open_fields
from sciencevae.builtin.fluids.figures import _pictures
from sciencevae.builtin.fluids.frames import Frames, cell_sizes, decoded, relative
from sciencevae.builtin.fluids.lagging import Lags
from sciencevae.builtin.fluids.networks import divergence
from sciencevae.builtin.fluids.settings import Prepare
from sciencevae.builtin.fluids.writing import write_fields

from sciencevae.cli import main
from sciencevae.config import load
from sciencevae.data.scaling import Scaling
from sciencevae.errors import InputError
from sciencevae.latents.forecast.apply import forecast_file
from sciencevae.runs import Run, configure

TOY = [
    "source={kind: spectral, points: 16, runs: 10, frames: 16, every: 5, skip: 50, force: kolmogorov, "
    "strength: 1.0, wavenumber: 2, viscosity: [0.1, 0.3], energy: 0.1, peak: 2.0}",
    "prepare={fields: [u, v], condition: [viscosity], centre: value, window: 3, horizon: 4, "
    "fractions: {train: 0.6, valid: 0.2, test: 0.2}}",
    "model={latent: 4, channels: [4, 8], hidden: [16], stream_function: true}",
    "training={epochs: 3, batch_size: 32, learning_rate: 3.0e-3, threads: 1}",
    "analyse={epochs: 2, lead_times: [1, 4], rollout: 12, members: 40}",
    "variants={modes: {prepare: {modes: 6}, model: {stream_function: false}}, windows: {prepare: {read: 2, "
    "ahead: 2, condition: [], centre: frame}, model: {latent: 6, stream_function: false, windows: {modes: 12, "
    "width: 8}}, objective: {beta: 0.01}, training: {compile: false}}}",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, do_all_stages) -> Run:
    folder = tmp_path_factory.mktemp("fluids")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIENCEVAE_CACHE", str(folder / "cache"))
        run = configure(folder / "run", DOMAIN, load(DOMAIN, overrides=TOY))
        return do_all_stages(run)


@pytest.fixture(scope="module")
def series(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the simulation, as a user's NetCDF."""
    (path,) = (run.folder.parent / "cache").rglob("fluids.h5")
    fields = open_fields(path)[["u", "v"]].isel(run=slice(2)).load()
    made = tmp_path_factory.mktemp("series") / "series.nc"
    write_fields(fields.assign_attrs({}), made)
    return made


def test_baselines_stand_in_the_table(run: Run) -> None:
    table = run.table("forecast")
    names = {str(name).split(":")[0].split(",")[0] for name in table.model}
    peers = {"POD of 4", "POD of 2", "DMD", "DMD of delays", "last frame"}
    assert names == {"main", "modes", "windows"} | peers
    assert np.isfinite(table.error).all()
    # a forecast of the next frame by the last one is a known number
    frames = Frames(run.main)
    test = [rows for rows in np.split(np.arange(160), 10) if (frames.split[rows] == 2).all()]
    last = np.concatenate([rows[2:-4] for rows in test])
    wanted = relative(
        frames.squares(frames.scaled(last) - frames.scaled(last + 1)), frames.fluctuation(last + 1)
    )
    found = table[(table.model == "last frame") & (table.lead == 1)].error.iloc[0]
    assert found == pytest.approx(wanted, rel=1e-5)


def test_errors_of_reconstruction_are_those_of_the_fields(run: Run) -> None:
    """In physical units, of the velocity: scaled units and coefficients of modes are only its means."""
    table = run.table("reconstruction")
    for variant in run.variants.values():
        frames = Frames(variant)
        rows = np.flatnonzero(frames.split == 2)
        made = decoded(variant.model(), variant.latents["z"].values[rows], frames.condition(rows))
        if variant.name == "main":
            truth = variant.data["x"].isel(sample=rows).values
            found = frames.scaling.invert("x", made)
            train = variant.data["x"].isel(sample=np.flatnonzero(frames.split == 0)).values.mean(0)
            whole = np.square(truth - train).sum()
            wanted = np.sqrt(np.square(found - truth).sum() / whole)
            row = table[(table.model == "main") & (table.part == "test")].iloc[0]
            assert row.error == pytest.approx(wanted, rel=1e-4)
            energy = frames.fluctuation(rows).sum()
        elif (
            variant.name == "modes"
        ):  # the same frames in modes: the same energy of the fluctuation, in units of its own scale
            scale = float(frames.scaling.fields["x"].scale.flat[0])
            basis = float(variant.data["basis_scale"].values[0])
            other = float(Scaling.of(run.main.data).fields["x"].scale.flat[0])
            assert frames.fluctuation(rows).sum() * (scale * basis / other) ** 2 == pytest.approx(
                energy, rel=1e-3
            )


def test_decoded_fields_of_the_run_have_no_divergence(run: Run) -> None:
    model, scaling = run.main.model().double(), Scaling.of(run.main.data)
    frames = Frames(run.main)
    told = frames.condition(np.arange(5)).double()
    with torch.no_grad():
        x = scaling.invert("x", model.decode(torch.randn(5, 4).double(), {"condition": told}).mean)
    found = divergence(x[:, 0], x[:, 1], (1.0, 1.0), ("periodic", "periodic"))
    assert float(found.abs().max()) < 1e-12 * float(x.abs().max())


def test_the_report_shows_every_figure_and_the_film(run: Run) -> None:
    names = {path.name for path in (run.folder / "figures").iterdir()}
    assert {f"{name}.png" for name in DOMAIN.figures} <= names
    assert (run.folder / "figures" / "film.gif").read_bytes()[:4] == b"GIF8"
    page = (run.folder / "report.html").read_text()
    assert "data:image/gif;base64" in page
    assert "figures/film." in page


def test_the_vorticity_of_figures_is_that_of_the_solver(run: Run) -> None:
    """In its unit, but for what differences on 16 points make smaller: 10 % at the wavenumber of the force."""
    (path,) = (run.folder.parent / "cache").rglob("fluids.h5")
    wanted = open_fields(path)["vorticity"].values[0, :8, 1:-1, 1:-1].ravel()
    seen = _pictures(run.main, np.arange(8))
    found = seen.truth[:, 1:-1, 1:-1].ravel()
    assert seen.label == "vorticity (1/s)"
    assert seen.axes == ("x (m)", "y (m)")
    # sixteen cells of the periodic square, 2π wide
    assert seen.extent[1] - seen.extent[0] == pytest.approx(2 * np.pi, rel=1e-3)
    assert 0.8 < found @ wanted / (wanted @ wanted) < 1.0
    assert np.corrcoef(found, wanted)[0, 1] > 0.98


def test_a_forecast_of_a_users_own_file(run: Run, series: Path, tmp_path: Path) -> None:
    out = tmp_path / "next.nc"
    code = main(["forecast", "--run", str(run.folder), str(series), "--steps", "5", "-o", str(out)])
    assert code == 0
    given, found = xr.open_dataset(series), xr.open_dataset(out)
    assert found["u"].dims == ("run", "time", "y", "x")
    assert found["u"].attrs["units"] == found["u_spread"].attrs["units"] == "m/s"
    step = float(given["time"][1] - given["time"][0])
    np.testing.assert_allclose(found["time"], given["time"][-1].item() + step * np.arange(1, 6))
    np.testing.assert_allclose(found["viscosity"], given["viscosity"], rtol=1e-5)
    assert (found["v_spread"] > 0).all()
    # what is forecast is what is read: the next forecast starts from it
    forecast_file(run.main.model_path, out, tmp_path / "then.h5", 2)
    # the same fields in modes, whose basis lies in the run's folder
    forecast_file(run.variants["modes"], series, tmp_path / "modes.zarr", 2, members=4)
    assert xr.open_zarr(tmp_path / "modes.zarr", consolidated=False)["u"].shape == (2, 2, 16, 16)


def test_a_datum_is_a_window_and_the_frames_that_follow(run: Run) -> None:
    plain, data = run.main.data, run.variants["windows"].data
    assert data["x"].dims == ("sample", "lag", "channel", "row", "column")
    # the first frame of each of the ten runs has none before it
    assert data.sizes["sample"] == plain.sizes["sample"] - 10
    named = zip(plain["run"].values, plain["time"].values.round(6), strict=True)
    frames = dict(zip(named, plain["x"].values, strict=True))
    step = plain.attrs["time_step"]
    for name, first in (("past", -1), ("x", 0)):
        values = data[name].values
        for row in range(0, data.sizes["sample"], 7):
            for k, frame in enumerate(values[row]):
                at = (data["run"].values[row], (data["time"].values[row] + (first + k) * step).round(6))
                wanted = frames.get(at, np.full(frame.shape, np.nan))
                np.testing.assert_array_equal(frame, wanted)


def test_forecasts_as_far_as_windows_tell_are_those_of_the_decoder(
    run: Run, series: Path, tmp_path: Path
) -> None:
    """Two frames ahead of the last window; the third from the latents of a frame that is forecast."""
    variant = run.variants["windows"]
    forecast_file(variant.model_path, series, tmp_path / "next.nc", 3, members=4)
    given, found = xr.open_dataset(series), xr.open_dataset(tmp_path / "next.nc")
    scaling, model = Scaling.of(variant.data), variant.model()
    past = np.stack([given[name].values[:, -2:] for name in ("u", "v")], 2)  # (run, 2, channel, y, x)
    past = torch.from_numpy(scaling.apply("past", past.astype(np.float32)))
    with torch.no_grad():
        x = model.decode(model.encode(None, {"past": past}).mean).mean.numpy()
    x = scaling.invert("x", x)
    for lag in (1, 2):
        np.testing.assert_allclose(found["v"].values[:, lag - 1], x[:, lag, 1], atol=1e-5)
    table = run.table("forecast")
    drawn = table[table.model.str.startswith("windows")]
    assert (drawn.crps > 0).all()
    assert (drawn.coverage_95 > 0.8).all()
    # a row that has no whole window is named, and others are read through the blocks of the file
    blocks = list(DOMAIN.read(series, variant.settings, variant.data.isel(sample=slice(0, 0))))
    status = np.concatenate([block["status"].values for block in blocks])
    early = np.tile(np.arange(given.sizes["time"]), 2) < 1
    assert (status[~early] == "ok").all()
    assert all("fewer than 2" in one for one in status[early])


def test_no_window_goes_over_a_gap() -> None:
    """Two stretches of one run, as mirror images of blocks are, and another run."""
    run, time = np.array([0, 0, 0, 0, 0, 1, 1]), np.array([0.0, 0.1, 0.2, 0.7, 0.8, 0.0, 0.1])
    lags = Lags(run, time, Prepare(read=2, ahead=1))
    assert lags.past.tolist() == [[-1, 0], [0, 1], [1, 2], [-1, 3], [3, 4], [-1, 5], [5, 6]]
    assert lags.following.tolist() == [[0, 1], [1, 2], [2, -1], [3, 4], [4, -1], [5, 6], [6, -1]]


def test_windows_of_what_they_cannot_be_of_are_refused() -> None:
    for setting, told in {
        "prepare={read: 9, ahead: 2}": "at most prepare.window",
        "prepare={read: 2, ahead: 2, modes: 4}": "without prepare.modes",
        "prepare={read: 2, ahead: 2}": "take a multiple",
        "prepare={read: 2}": "describes some ahead",
    }.items():
        with pytest.raises(InputError, match=told):
            load(DOMAIN, overrides=[setting])


def test_what_cannot_be_forecast_is_named(run: Run, series: Path, tmp_path: Path) -> None:
    given = xr.open_dataset(series).load()

    def told(flow: xr.Dataset) -> str:
        write_fields(flow, tmp_path / "given.nc")
        with pytest.raises(InputError) as error:
            forecast_file(run.main.model_path, tmp_path / "given.nc", tmp_path / "out.nc", 2)
        assert not (tmp_path / "out.nc").exists()
        return str(error.value)

    assert "looks at 3" in told(given.isel(time=slice(2)))
    assert "prepare.every" in told(given.isel(time=slice(None, None, 2)))
    gap = given.copy(deep=True)
    gap["u"][1, -2], gap["v"][1, -2] = np.nan, np.nan
    assert "run 1, frame 14" in told(gap)
    assert "viscosity" in told(given.drop_vars("viscosity"))
    assert "grid" in told(given.isel(x=slice(8))) or "frames of" in told(given.isel(x=slice(8)))
    with pytest.raises(InputError, match="--run"):
        forecast_file(run.variants["modes"].model_path, series, tmp_path / "out.nc", 2)


def test_long_forecasts_and_regimes_are_told(run: Run) -> None:
    rollout = run.table("rollout")
    assert len(rollout) == 3 * 12
    assert (run.table("spectra").energy >= 0).all()
    assert len(run.table("regimes")) == 10
    # columns of parameters are headed with their units, as the simulation's file has them
    said = json.loads(run.record("analyse", "").read_text())["titles"]
    (path,) = (run.folder.parent / "cache").rglob("fluids.h5")
    unit = open_fields(path)["viscosity"].attrs["units"]
    assert unit.startswith("m")
    assert said["regimes"]["viscosity"] == said["trajectories"]["viscosity"] == f"viscosity ({unit})"
    # decaying or driven, no flow of 16 frames has a limit cycle, and none is told of
    table = run.table("trajectories")
    assert "strouhal" in table or "roundness" not in table
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert {"reconstruction", "forecast", "trajectories", "regimes"} <= set(metrics)


def test_cells_of_a_stretched_axis_fill_it() -> None:
    axis = np.cumsum(np.linspace(0.1, 0.5, 9))
    assert cell_sizes(axis).sum() == pytest.approx(
        np.ptp(axis) + (axis[1] - axis[0] + axis[-1] - axis[-2]) / 2
    )
