"""The field as it is prepared: the same wherever on the sky it lies, and what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sciencevae.builtin.stars import DOMAIN, kinematics
from sciencevae.builtin.stars.dataset import prepare
from sciencevae.builtin.stars.footprint import Footprint
from sciencevae.builtin.stars.settings import Prepare, Stars
from scipy.stats import multivariate_normal

from sciencevae import stages
from sciencevae.config import load
from sciencevae.data.scaling import Scaling
from sciencevae.distributions import CovarianceNormal
from sciencevae.errors import InputError
from sciencevae.runs import configure


def catalogue(ra: np.ndarray, dec: np.ndarray) -> pd.DataFrame:
    random, count = np.random.default_rng(0), len(ra)
    frame = pd.DataFrame({"source_id": np.arange(count) + 2**61, "ra": ra, "dec": dec})
    for name in ("parallax", "pmra", "pmdec"):
        frame[name], frame[f"{name}_error"] = random.normal(3, 2, count), random.uniform(0.05, 0.2, count)
    return frame.assign(ra_error=0.1, dec_error=0.15, ra_dec_corr=0.3, ra_pmra_corr=-0.2, pmra_pmdec_corr=0.4)


def saved(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_parquet(path)
    return path


def at(ra: float, dec: float, angle: float, path: Path) -> dict[str, object]:
    """A fixed field of 200 stars, 2° by 1°, turned by ``angle`` and laid around RA, Dec: what is said of it."""
    plane = np.random.default_rng(3).uniform(-1, 1, (200, 2)) * [1.0, 0.5]
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    plane = plane @ np.array([[cosine, sine], [-sine, cosine]])
    sky = kinematics.from_azimuthal(plane, kinematics.directions(np.array(ra), np.array(dec)))
    # near RA 3°, Dec 0° all coordinates of a field are as small as radians, and the unit has to be said
    chosen = Stars(prepare=Prepare(units={"ra": "deg", "dec": "deg"}))
    data = prepare(chosen, {}, saved(catalogue(*kinematics.sky_position(sky)), path))
    found = json.loads(data.attrs["provenance"])
    centre = kinematics.directions(*map(np.array, found["centre_deg"]))
    offsets = kinematics.azimuthal(data["condition"].values, centre)
    apart = np.linalg.norm(offsets[:, None] - offsets, axis=-1)
    covariance = data["noise"].values[:, :6, :6] * np.outer(*[[1e9, 1e9, 1e9, 1, 1, 1]] * 2)
    inside = Footprint.from_list(found["footprint"]).contains(offsets)
    return {"radius": found["radius_deg"], "area": found["area_deg2"], "apart": apart, "inside": inside,
            "spectrum": np.linalg.eigvalsh(covariance)}  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 360), st.floats(-90, 90), st.floats(0, 360))
@example(0.0, 0.0, 0.0)
@example(359.9, 10.0, 30.0)
@example(123.0, 90.0, 77.0)
@example(0.0, -89.7, 200.0)
def test_a_field_is_the_same_wherever_it_lies(ra: float, dec: float, angle: float) -> None:
    """Across RA 0 and over the poles: radius, area, distances and the spectrum of the errors do not change."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        first, here = (
            at(*place, Path(folder) / "f.parquet") for place in ((180.0, 0.0, 0.0), (ra, dec, angle))
        )
    assert here["radius"] == pytest.approx(first["radius"], rel=1e-7)
    assert here["area"] == pytest.approx(first["area"], rel=1e-7)
    assert here["area"] == pytest.approx(2.0, rel=0.05)
    np.testing.assert_allclose(here["apart"], first["apart"], atol=1e-8)
    np.testing.assert_allclose(here["spectrum"], first["spectrum"], rtol=1e-6)
    assert np.all(here["inside"])


def stars(**columns: object) -> pd.DataFrame:
    random = np.random.default_rng(1)
    return catalogue(random.uniform(79, 81, 200), random.uniform(-1, 1, 200)).assign(**columns)


def test_optional_columns_come_along(tmp_path: Path) -> None:
    frame = stars(ruwe=1.1, radial_velocity=np.arange(200.0), phot_bp_mean_mag=15.0)
    data = prepare(Stars(), {}, saved(frame, tmp_path / "f.parquet"))
    np.testing.assert_array_equal(data["radial_velocity"].values, np.arange(200.0))
    assert data["radial_velocity"].attrs["units"] == "km / s"
    assert (data["ruwe"] == 1.1).all()
    assert (data["bp_magnitude"] == 15).all()
    assert "pseudocolour" not in data.coords


def test_a_field_without_photometry_works_and_says_so(tmp_path: Path) -> None:
    for frame in (stars(), stars(phot_g_mean_mag=np.nan, bp_rp=np.nan)):
        data = prepare(Stars(), {}, saved(frame, tmp_path / "f.parquet"))
        assert data["magnitude"].isnull().all()
        notes = json.loads(data.attrs["provenance"])["notes"]
        assert notes == [
            "no star has a magnitude: figures of it are empty",
            "no star has a colour: figures of it are empty",
        ]


def test_cut_on_ruwe(tmp_path: Path) -> None:
    frame = stars(ruwe=np.where(np.arange(200) < 30, 2.0, 1.0))
    data = prepare(Stars(prepare=Prepare(ruwe_max=1.4)), {}, saved(frame, tmp_path / "f.parquet"))
    assert data.sizes["sample"] == 170
    provenance = json.loads(data.attrs["provenance"])
    assert provenance["quality cuts"]["ruwe"] == "<= 1.4"
    assert provenance["left out in the cone"]["RUWE above the limit"] == 30
    assert json.loads(data.attrs["refused_reasons"]) == {"RUWE above the limit": 30}
    path = saved(stars(), tmp_path / "g.parquet")
    with pytest.raises(InputError, match="needs a column ruwe"):
        prepare(Stars(prepare=Prepare(ruwe_max=1.4)), {}, path)


def test_switches_are_stated(tmp_path: Path) -> None:
    frame = stars(phot_g_mean_mag=15.0, bp_rp=1.0, astrometric_excess_noise=0.1, ref_epoch=2016.0)
    chosen = Prepare(
        parallax_zero_point="lindegren-2021", excess_noise="add", error_inflation=1.2,
        parallax_error_inflation="el-badry-2021",
    )  # fmt: skip
    data = prepare(Stars(prepare=chosen), {}, saved(frame, tmp_path / "f.parquet"))
    told = json.loads(data.attrs["provenance"])
    assert set(told["corrections"]) == {
        "parallax zero-point", "excess noise", "error inflation", "parallax error inflation"
    }  # fmt: skip
    assert told["epoch"] == "J2016.0"
    assert (data["x"].values[:, 3] > frame["parallax"]).all(), "Z is negative for a star of G = 15"


# ---- two-parameter solutions ------------------------------------------------------------------------------


def two_parameter(path: Path) -> Path:
    """Every fifth star has a position alone; of some the catalogue fills in zeros, and says so."""
    frame = stars(astrometric_params_solved=np.where(np.arange(200) % 5 == 0, 3, 31))
    unsolved = frame["astrometric_params_solved"] == 3
    frame.loc[unsolved, ["parallax", "pmra", "pmdec", "parallax_error", "pmra_error", "pmdec_error"]] = np.nan
    frame.loc[:20, ["parallax", "pmra", "pmdec"]] = frame.loc[:20, ["parallax", "pmra", "pmdec"]].fillna(0)
    return saved(frame, path)


def test_two_parameter_solutions_are_dropped_and_counted(tmp_path: Path) -> None:
    data = prepare(Stars(), {}, two_parameter(tmp_path / "f.parquet"))
    assert data.sizes["sample"] == 160
    assert json.loads(data.attrs["provenance"])["left out in the cone"]["no parallax or motion"] == 40


def test_or_kept_and_marginalised(tmp_path: Path) -> None:
    """Their likelihood is that of the position alone, with its own 2×2 covariance."""
    data = prepare(Stars(prepare=Prepare(two_parameter="keep")), {}, two_parameter(tmp_path / "f.parquet"))
    assert data.sizes["sample"] == 200
    assert np.isnan(data["x"].values[::5, 3:]).all()
    assert np.isfinite(data["noise"].values).all()
    scaling = Scaling.fit(data.isel(sample=np.arange(200)))
    x, noise = scaling.apply("x", data["x"].values), scaling.noise(data["noise"].values)
    scatter = 0.3**2 * np.eye(8)
    found = CovarianceNormal(torch.zeros(200, 8).double(), torch.tensor(noise + scatter)).log_prob(
        torch.tensor(x)
    )
    expected = []
    for row, covariance in zip(x, noise, strict=True):
        seen = ~np.isnan(row)  # no photometry in any row, in some no parallax and motion
        assert seen.sum() in (3, 6)
        total = (covariance + scatter)[np.ix_(seen, seen)]
        expected.append(multivariate_normal(np.zeros(len(total)), total).logpdf(row[seen]))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_kept_ones_are_trained_on_and_encoded(tmp_path: Path) -> None:
    path = two_parameter(tmp_path / "f.parquet")
    overrides = ["variants={}", "training.epochs=30", "training.batch_size=32", "prepare.two_parameter=keep"]
    run = configure(tmp_path / "run", DOMAIN, load(DOMAIN, overrides=overrides), path)
    for stage in (stages.prepare, stages.train, stages.encode):
        stage(run, run.main)
    latents = run.main.latents
    assert latents.sizes["sample"] == 200
    assert np.isfinite(latents["z"].values).all()
    unsolved = np.isnan(run.main.data["x"].values[:, 3])
    spread = latents["z_std"].values.mean(1)
    assert spread[unsolved].mean() > spread[~unsolved].mean(), "less is known of them"
