"""Files of fields: what is read alike from every format, and what is refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from sciencevae.builtin.fluids.dataset import prepare
from sciencevae.builtin.fluids.fields import open_fields
from sciencevae.builtin.fluids.settings import Fluids, Prepare
from sciencevae.builtin.fluids.splits import split_of
from sciencevae.builtin.fluids.wake import open_wake, read_nek
from sciencevae.builtin.fluids.writing import write_fields

from sciencevae.data.splits import check_leakage
from sciencevae.errors import InputError


def series(runs: int = 3, steps: int = 20, rows: int = 6, columns: int = 7) -> xr.Dataset:
    """Waves that travel at a speed of their own in each run."""
    y, x = np.arange(rows) * 0.5, np.arange(columns) * 0.25
    time, speed = np.arange(steps) * 0.1, 1.0 + np.arange(runs)
    phase = x - speed[:, None, None, None] * time[:, None, None] + y[:, None]
    unit = {"units": "m/s"}
    return xr.Dataset(
        {
            "u": (("run", "time", "y", "x"), np.cos(phase), unit),
            "v": (("run", "time", "y", "x"), np.sin(phase), unit),
        },
        {
            "time": ("time", time, {"units": "s"}),
            "y": ("y", y, {"units": "m"}),
            "x": ("x", x, {"units": "m"}),
            "speed": ("run", speed, {"units": "m/s"}),
        },
    )


def prepared(path: Path, **chosen: Any) -> xr.Dataset:
    short = {"window": 2, "horizon": 2} | chosen
    return prepare(Fluids(dataset="", prepare=short), {}, path)


@pytest.mark.parametrize("ending", [".nc", ".h5", ".zarr"])
def test_what_is_written_is_read_back(tmp_path: Path, ending: str) -> None:
    wanted = series()
    write_fields(wanted, tmp_path / f"flow{ending}")
    found = open_fields(tmp_path / f"flow{ending}")
    for name in ("u", "v", "time", "x", "y", "speed"):
        np.testing.assert_allclose(found[name].values, wanted[name].values, rtol=1e-6)
    assert found["u"].attrs["units"] == "m/s"


def test_netcdf4_is_read_with_its_extra(tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    wanted = series()
    wanted.to_netcdf(tmp_path / "flow.nc", engine="h5netcdf")
    np.testing.assert_allclose(open_fields(tmp_path / "flow.nc")["v"].values, wanted["v"].values)


def test_dimensions_of_other_names_and_order(tmp_path: Path) -> None:
    one = series(runs=1).isel(run=0, drop=True)
    other = (
        one.rename_dims(time="t").rename_vars(time="t").transpose("x", "y", "t").isel(x=slice(None, None, -1))
    )
    other.to_netcdf(tmp_path / "other.nc", engine="scipy")
    found = open_fields(tmp_path / "other.nc")
    np.testing.assert_allclose(found["u"].values[0], one["u"].transpose("time", "y", "x").values)


def test_dimension_scales_of_hdf5(tmp_path: Path) -> None:
    one = series(runs=1).isel(run=0, drop=True)
    with h5py.File(tmp_path / "scales.h5", "w") as file:
        for name in ("time", "y", "x"):
            file[name] = one[name].values
            file[name].make_scale(name)
        file["u"] = one["u"].values
        file["u"].attrs["units"] = "m/s"
        for axis, name in enumerate(("time", "y", "x")):
            file["u"].dims[axis].attach_scale(file[name])
    np.testing.assert_allclose(open_fields(tmp_path / "scales.h5")["u"].values[0], one["u"].values)


def test_the_layout_of_the_solvers(tmp_path: Path) -> None:
    wanted = series(runs=2)
    solid = np.zeros((6, 7), bool)
    solid[2, 3] = True
    with h5py.File(tmp_path / "solver.h5", "w") as file:
        file["velocity"] = np.stack([wanted["u"].values, wanted["v"].values], 2)
        file["velocity"].attrs["units"] = "m/s"
        file["solid"] = solid
        for name in ("time", "x", "y"):
            file[name] = wanted[name].values
        file["reynolds"] = [60.0, 80.0]
    found = open_fields(tmp_path / "solver.h5")
    np.testing.assert_allclose(found["v"].values[..., ~solid], wanted["v"].values[..., ~solid])
    assert np.isnan(found["u"].values[..., solid]).all()
    assert found["reynolds"].values.tolist() == [60, 80]
    data = prepared(tmp_path / "solver.h5", fractions={"train": 0.5, "valid": 0.5, "test": 0})
    assert data.attrs["missing"]


def spoilt(kind: str) -> xr.Dataset:
    flow = series()
    if kind == "unit":
        del flow["u"].attrs["units"]
    elif kind == "times":
        flow = flow.assign_coords(time=("time", flow["time"].values[::-1].copy()))
    elif kind == "irregular":
        flow = flow.assign_coords(time=("time", np.append(flow["time"].values[:-1], 9.0)))
    elif kind == "axis":
        flow = flow.assign_coords(x=("x", np.array([0.0, 2, 1, 3, 4, 5, 6])))
    elif kind == "density":
        flow["density"] = flow["u"].assign_attrs(units="1")
    elif kind == "names":
        flow = flow.rename_dims(y="a", x="b").drop_vars(["x", "y"])
    return flow


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("unit", "prepare.units.u"),
        ("times", "times have to increase"),
        ("irregular", "prepare.resample"),
        ("axis", "neither ascending nor descending"),
        ("density", "negative"),
        ("names", "over \\(time, y, x\\)"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, kind: str, told: str) -> None:
    write_fields(spoilt(kind), tmp_path / "bad.nc")
    with pytest.raises(InputError, match=told):
        prepared(tmp_path / "bad.nc")


def test_irregular_times_can_be_resampled(tmp_path: Path) -> None:
    flow = series(steps=40)
    kept = np.delete(np.arange(40), [7, 20])
    write_fields(flow.isel(time=kept), tmp_path / "holes.nc")
    data = prepared(tmp_path / "holes.nc", resample=True)
    assert data.sizes["sample"] == 120
    np.testing.assert_allclose(np.diff(data["time"].values[:40]), 0.1)
    # linear between the neighbours: off by less than dt²/2 · |u″|
    found = data["x"].values.reshape(3, 40, 2, 6, 7)[:, :, 0]
    assert np.abs(found - flow["u"].values).max() < 0.1**2 * 9


def test_too_few_frames_and_unknown_names(tmp_path: Path) -> None:
    write_fields(series(), tmp_path / "flow.nc")
    with pytest.raises(InputError, match=r"prepare\.window"):
        prepared(tmp_path / "flow.nc", window=12, horizon=12)
    with pytest.raises(InputError, match="no field 'w'"):
        prepared(tmp_path / "flow.nc", fields=["w"])
    with pytest.raises(InputError, match="speed"):
        prepared(tmp_path / "flow.nc", condition=["sped"])
    with pytest.raises(InputError, match="no run has speed=9"):
        prepared(tmp_path / "flow.nc", held_out={"speed": [9.0]})


def test_runs_are_never_cut_and_held_out_runs_are_test(tmp_path: Path) -> None:
    write_fields(series(runs=6), tmp_path / "flow.nc")
    data = prepared(
        tmp_path / "flow.nc", held_out={"speed": [3.0]}, fractions={"train": 0.8, "valid": 0.2, "test": 0}
    )
    check_leakage(data)
    assert np.unique(data["speed"].values[data["split"].values == 2]).tolist() == [3.0]
    for run in range(6):
        assert len(np.unique(data["split"].values[data["run"].values == run])) == 1


@pytest.mark.parametrize("blocks", [1, 3])
def test_stretches_of_one_run_have_gaps_longer_than_window_and_horizon(blocks: int) -> None:
    settings = Prepare(blocks=blocks, window=4, horizon=5)
    split, group = split_of(1, 900, {}, settings)
    used = np.flatnonzero(split[0] >= 0)
    change = np.flatnonzero(np.diff(group[0][used]))
    gaps = used[change + 1] - used[change] - 1
    assert len(gaps) == 3 * blocks - 1
    assert (gaps > 4 + 5).all()
    with pytest.raises(InputError, match=r"prepare\.blocks"):
        split_of(1, 60, {}, settings.model_copy(update={"blocks": 4}))


def test_a_velocity_has_one_scale_and_modes_have_one(tmp_path: Path) -> None:
    flow = series(runs=6)
    flow["v"] = 5 * flow["v"].assign_attrs(units="m/s")
    flow["v"].attrs["units"] = "m/s"
    write_fields(flow, tmp_path / "flow.nc")
    from sciencevae.data.scaling import Scaling

    scale = Scaling.of(prepared(tmp_path / "flow.nc")).fields["x"].scale
    assert scale[0] == scale[1] > 1
    assert np.ptp(Scaling.of(prepared(tmp_path / "flow.nc", modes=2)).fields["x"].scale) == 0


@pytest.mark.parametrize(("axis", "odd"), [("y", 1), ("x", 0)])
def test_mirror_images_train_and_change_the_sign_of_the_component(
    tmp_path: Path, axis: str, odd: int
) -> None:
    write_fields(series(runs=6), tmp_path / "flow.nc")
    data = prepared(tmp_path / "flow.nc", mirror=axis)
    image = np.flatnonzero(data["mirrored"].values == 1)
    assert (data["split"].values[image] == 0).all()
    check_leakage(data)
    source = np.flatnonzero((data["split"].values == 0) & (data["mirrored"].values == 0))
    x = data["x"].values
    flipped = np.flip(x[source], {"y": 2, "x": 3}[axis])
    np.testing.assert_allclose(x[image][:, odd], -flipped[:, odd])
    np.testing.assert_allclose(x[image][:, 1 - odd], flipped[:, 1 - odd])


def nek_file(path: Path, elements: int, fields: dict[str, np.ndarray], order: str) -> None:
    """A Nek5000 field file, its elements in a shuffled order."""
    numbers = np.random.default_rng(1).permutation(elements) + 1
    header = f"#std 4 7 7 1 {elements} {elements} 0.0 0 0 1 XU".ljust(132).encode()
    parts = [header, np.array([6.54321], f"{order}f4").tobytes(), numbers.astype(f"{order}i4").tobytes()]
    for pair in (("x", "y"), ("u", "v")):
        block = np.stack([fields[name][numbers - 1] for name in pair], 1)
        parts.append(block.astype(f"{order}f4").tobytes())
    path.write_bytes(b"".join(parts))


@pytest.mark.parametrize("order", ["<", ">"])
def test_nek_files_in_either_byte_order(tmp_path: Path, order: str) -> None:
    random = np.random.default_rng(0)
    fields = {name: random.normal(size=(5, 7, 7)).astype("f4") for name in ("x", "y", "u", "v")}
    nek_file(tmp_path / "cyl0.f00001", 5, fields, order)
    found = read_nek(tmp_path / "cyl0.f00001")
    for name, values in fields.items():
        np.testing.assert_array_equal(found[name], values)
    (tmp_path / "short").write_bytes((tmp_path / "cyl0.f00001").read_bytes()[:400])
    with pytest.raises(InputError, match="ends within"):
        read_nek(tmp_path / "short")
    with pytest.raises(InputError, match=r"vonKarman_a\.dat"):
        open_wake(tmp_path)


@pytest.mark.reference
def test_the_wake_keeps_its_energy_and_its_symmetry() -> None:
    """The mass-weighted energy of all nodes is that of the coefficients; modes 1, 2, 5, 6 are odd."""
    path = Path(os.environ.get("SCIENCEVAE_MIRROR", "")) / "cylinder_wake_re100" / "cylinder_pod.npz"
    if not path.is_file():
        pytest.skip("no mirror with the cylinder wake")
    wake = open_wake(path)
    assert wake.attrs["odd_modes"] == [1, 1, 0, 0, 1, 1, 0, 0, 0]
    a = wake["coefficients"].values[0, 2000]
    fluctuation = np.tensordot(a, wake["basis_modes"].values.astype(float), 1)
    energy = (np.square(fluctuation) * wake["basis_mass"].values).sum()
    assert energy == pytest.approx(np.square(a).sum(), rel=1e-4)
