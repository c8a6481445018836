"""The simulator's files, settings that sample badly, and a user's own patterns with what can be wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from sciencevae.builtin.diffraction import DOMAIN, sensor
from sciencevae.builtin.diffraction.denoising import anscombe, inverse_anscombe
from sciencevae.builtin.diffraction.optical_settings import Optical, Sensor
from sciencevae.builtin.diffraction.sampling import pixel_middles_mm
from sciencevae.builtin.diffraction.simulate import generate, main
from scipy.stats import chisquare

from sciencevae.config import load, validate
from sciencevae.errors import InputError

SLITS = {"kind": "slits", "number": 2, "width_um": [60, 90], "separation_um": [120, 160]}
SOURCE: dict[str, Any] = {
    "kind": "optical",
    "samples": 60,
    "apertures": [SLITS],
    "wavelength_nm": [450, 650],
    "distance_mm": 500,
    "sensor": {"pixels": 40, "pitch_um": 250},
    "oversample": 20,
    "window": 2.0,
}


def settings(**changed: Any) -> Any:
    source = SOURCE | changed.pop("source", {})
    return validate(DOMAIN.settings, {"source": source, **changed}, "test")


def simulated(path: Path, **changed: Any) -> Path:
    generate(path, SOURCE | changed, seed=3)
    return path


def test_a_file_has_units_and_depends_on_the_seed_alone(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        simulated(tmp_path / name)
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        assert (a["counts"][:] == b["counts"][:]).all()
        assert a["counts"].attrs["units"] == "count"
        assert a["wavelength_nm"].attrs["units"] == "nm"
        assert a["separation_um"].attrs["units"] == "µm"
        assert {name for name, data in a.items() if "units" not in data.attrs} == set()
        wavelength = a["wavelength_nm"][:]
        assert wavelength.min() >= 450
        assert wavelength.max() <= 650
        assert np.ptp(a["distance_mm"][:]) == 0
    generate(tmp_path / "c.h5", SOURCE, seed=4)
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "c.h5") as c:
        assert (a["counts"][:] != c["counts"][:]).any()


@pytest.mark.parametrize("propagation", ["angular-spectrum", "fresnel", "fraunhofer"])
def test_fringes_are_lambda_z_over_d_apart(tmp_path: Path, propagation: str) -> None:
    one = {"width_um": 40.0, "separation_um": 100.0, "kind": "slits", "number": 2}
    changed = {
        "apertures": [one],
        "wavelength_nm": 500,
        "distance_mm": 1000,
        "samples": 1,
        "propagation": propagation,
    }
    changed |= {"sensor": {"pixels": 200, "pitch_um": 100}, "oversample": 8, "window": 1.5}
    with h5py.File(simulated(tmp_path / "a.h5", **changed)) as file:
        expected, x = file["expected"][0], file["x"][:]
    near = np.abs(x) < 12  # of the envelope's middle
    u = x[near] * 1e-3 / 500e-9  # x/(λz), 1/m
    closed = np.sinc(40e-6 * u) ** 2 * np.cos(np.pi * 100e-6 * u) ** 2
    scale = (expected[near] @ closed) / (closed @ closed)
    # one electron of background; at 1 m the far field is reached to a few percent: L²/(λz) = 0.04
    assert np.abs(expected[near] - 1 - scale * closed).max() < 0.05 * scale


def test_all_light_through_the_aperture_is_counted(tmp_path: Path) -> None:
    """A sensor that catches nearly everything: Σ counts = photons, and background."""
    changed = {"sensor": {"pixels": 128, "pitch_um": 200, "background": 2.0}, "oversample": 20, "window": 1.1}
    with h5py.File(simulated(tmp_path / "a.h5", **changed)) as file:
        caught = (file["expected"][:].sum(1) - 256) / file["photons"][:]
    assert (caught > 0.97).all()
    assert (caught < 1.0001).all()


def test_images_of_each_aperture_and_what_they_lack(tmp_path: Path) -> None:
    kinds = [{"kind": "circle"}, {"kind": "rectangle"}, {"kind": "polygon", "corners": 5, "irregular": 0.4}]
    changed = {"apertures": kinds, "samples": 9, "distance_mm": 100, "shift_um": [-50, 50], "oversample": 4}
    changed |= {"sensor": {"pixels": 16, "pitch_um": 40}, "window": 2.5}
    with h5py.File(simulated(tmp_path / "a.h5", **changed)) as file:
        assert file["counts"].shape == (9, 16, 16)
        assert file["aperture"][:].tolist() == [0, 1, 2] * 3
        assert np.isnan(file["height_um"][:]).tolist() == [True, False, True] * 3
        assert np.isfinite(file["shift_y_um"][:]).all()


def test_the_command_line_writes_a_file(tmp_path: Path) -> None:
    main([str(tmp_path / "slits.h5"), "--samples", "5", "--seed", "2"])
    with h5py.File(tmp_path / "slits.h5") as file:
        assert len(file["counts"]) == 5
        assert file["x"].shape == file["counts"].shape[1:]
        assert file["x"].attrs["units"] == "mm"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"sensor": {"pixels": 40, "pitch_um": 700}}, "sensor.pitch_um: the finest fringes"),
        ({"window": 1.0}, "window: the field's grid"),
        ({"oversample": 1}, "oversample: an opening of 60 µm"),
        ({"wavelength_nm": [650, 450]}, "low < high"),
        ({"distance_mm": -1}, "above 0"),
        ({"apertures": []}, "apertures"),
        ({"apertures": [{"kind": "square"}]}, "apertures"),
        (
            {"apertures": [SLITS | {"separation_um": [50, 160]}]},
            "separation_um: slits of up to 90 µm overlap",
        ),
        ({"propagation": "fraunhofer", "distance_mm": 200}, "propagation: at 200 mm"),
    ],
)
def test_settings_that_sample_badly_are_refused_by_name(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        settings(source=changed)
    with pytest.raises(InputError, match=told):
        generate(tmp_path / "a.h5", SOURCE | changed, seed=0)


def test_what_a_model_is_told_has_to_be_a_parameter() -> None:
    with pytest.raises(InputError, match=r"prepare\.told: unknown parameter 'wavelenght_nm'.*wavelength_nm"):
        settings(prepare={"told": ["wavelenght_nm"]})
    with pytest.raises(InputError, match="2 supervised parameters need as many latents"):
        settings(prepare={"supervised": ["width_um", "wavelength_nm"]}, model={"latent": 1})


def test_a_sensor_has_shot_noise_read_noise_gain_and_saturates() -> None:
    generator = torch.Generator().manual_seed(0)
    expected = torch.full((40_000,), 30.0, dtype=torch.float64)
    counts = sensor.read_out(expected, Sensor(), generator).numpy()
    edges = [-1, 22, 26, 28, 30, 32, 34, 38, 1000]
    from scipy.stats import poisson

    shares = np.diff(poisson(30).cdf(edges))
    assert chisquare(np.histogram(counts, np.array(edges) + 0.5)[0], shares * len(counts)).pvalue > 1e-3
    noisy = sensor.read_out(expected, Sensor(read_noise=5.0, gain=2.0), generator).double()
    # 60 electrons of variance 60, read noise 25, two electrons a count, rounding 1/12
    assert abs(float(noisy.mean()) - 30) < 0.1
    assert abs(float(noisy.var()) - (60 + 25) / 4 - 1 / 12) < 1
    assert int(sensor.read_out(10 * expected, Sensor(bits=8), generator).max()) == 255


def test_energy_is_shared_out_among_pixels() -> None:
    energy = torch.rand(2, 6, 12, dtype=torch.float64)
    found = sensor.pixels(energy, 3)
    assert found.shape == (2, 2, 4)
    assert torch.allclose(found.sum((1, 2)), energy.sum((1, 2)))
    assert torch.allclose(found[1, 1, 2], energy[1, 3:6, 6:9].sum())


def test_anscombe_makes_the_noise_alike_and_its_inverse_has_no_bias() -> None:
    rng = np.random.default_rng(0)
    for mean in (5.0, 50.0, 500.0):
        y = anscombe(rng.poisson(mean, 200_000))
        assert abs(y.var() - 1) < 0.06
        assert abs(inverse_anscombe(y.mean()) / mean - 1) < 0.005


def test_prepared_patterns_carry_what_a_model_is_told(tmp_path: Path) -> None:
    chosen = settings(prepare={"told": ["separation_um"], "supervised": ["wavelength_nm", "width_um"]})
    data = DOMAIN.prepare(chosen, {"diffraction.h5": simulated(tmp_path / "a.h5")}, None)
    assert data["x"].dims == ("sample", "pixel")
    np.testing.assert_allclose(data["condition"].values[:, 0], data["separation_um"].values, rtol=1e-6)
    assert data["target"].shape == (60, 2)
    np.testing.assert_allclose(data["exposure"].values, data["x"].values.mean(1), rtol=1e-6)
    np.testing.assert_allclose(data["pixel"].values, pixel_middles_mm(chosen.source))
    assert data["expected"].shape == data["x"].shape
    assert data.attrs["refused"] == 0


def broken(path: Path) -> np.ndarray:
    counts = np.random.default_rng(0).poisson(50.0, (7, 40)).astype(float)
    counts[1, 3] = np.nan
    counts[2, 5] = -4
    counts[3, 0] = 2**16 - 1
    counts[4, 1] = 10.5
    counts[5] = np.nan
    counts[6, 2] = np.inf
    with h5py.File(path, "w") as file:
        file["counts"] = counts
        file["counts"].attrs["units"] = "counts"
        file["wavelength"] = np.linspace(5e-7, 6e-7, 7)
        file["wavelength"].attrs["units"] = "m"
    return counts


def test_bad_pixels_are_masked_and_bad_patterns_keep_their_row(tmp_path: Path) -> None:
    broken(tmp_path / "own.h5")
    chosen = settings(prepare={"told": ["wavelength_nm"]})
    (block,) = DOMAIN.read(tmp_path / "own.h5", chosen, None)
    status, x = block["status"].values, block["x"].values
    assert [one == "ok" for one in status] == [True, True, False, True, False, False, True]
    assert "negative" in status[2]
    assert "not whole" in status[4]
    assert "no pixel" in status[5]
    assert np.isnan(x[1]).sum() == np.isnan(x[3]).sum() == np.isnan(x[6]).sum() == 1
    assert block["note"].values[3] == "1 pixels masked"
    assert block["note"].values[0] == ""
    assert np.isnan(x[[2, 4, 5]]).all()
    np.testing.assert_allclose(block["condition"].values[:, 0], np.linspace(500, 600, 7), rtol=1e-6)
    data = DOMAIN.prepare(chosen, {}, tmp_path / "own.h5")
    assert data.sizes["sample"] == 4
    assert data.attrs["refused"] == 3
    assert "expected" not in data


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"counts": np.ones((3, 41))}, r"of patterns \(n, 40\)"),
        ({"counts": np.ones((3, 40, 40))}, r"of patterns \(n, 40\)"),
        ({"counts": np.ones((3, 40))}, "no 'wavelength_nm'"),
        ({"counts": np.ones((3, 40)), "wavelength": np.ones(3)}, "no units"),
        ({"counts": np.ones((3, 40)), "wavelength_nm": np.ones(4)}, "there are 3 patterns"),
        ({"counts": np.full((3, 40), "a")}, "real numbers"),
        ({"theta": np.ones((3, 40))}, "no array 'counts'"),
    ],
)
def test_files_that_cannot_be_read_say_what_is_missing(
    tmp_path: Path, arrays: dict[str, Any], told: str
) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    chosen = settings(prepare={"told": ["wavelength_nm"]})
    with pytest.raises(InputError, match=told):
        list(DOMAIN.read(tmp_path / "own.npz", chosen, None))


def test_units_that_measure_something_else_are_refused(tmp_path: Path) -> None:
    for units, told in (("kg", "wavelength_nm is in 'kg'"), ("photons/s", "is in 'photons/s'")):
        with h5py.File(tmp_path / "own.h5", "w") as file:
            file["counts"], file["wavelength"] = np.ones((2, 40)), np.ones(2)
            name = "wavelength" if units == "kg" else "counts"
            file["wavelength"].attrs["units"] = "nm"
            file[name].attrs["units"] = units
        with pytest.raises(InputError, match=told):
            list(DOMAIN.read(tmp_path / "own.h5", settings(prepare={"told": ["wavelength_nm"]}), None))


@pytest.mark.parametrize("name", ["config", "several", "dim", "images"])
def test_configurations_are_what_the_manifest_takes(name: str) -> None:
    from sciencevae.data.manifest import load_manifest

    chosen = load(DOMAIN, name)
    known = load_manifest(chosen.dataset).file("diffraction.h5").generate
    assert known is not None
    for variant in chosen.variant_names():
        source = chosen.variant(variant).source
        assert isinstance(source, Optical)
        assert set(source.model_dump(exclude_none=True)) == set(known.parameters)
