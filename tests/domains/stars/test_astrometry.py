"""Covariances, corrections and epochs of a star's five parameters, against astropy and random numbers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time
from sciencevae.builtin.stars import kinematics
from sciencevae.builtin.stars.astrometry import at_epoch, corrected, covariance, direction_covariance
from sciencevae.builtin.stars.columns import ASTROMETRY, CORRELATIONS, ERRORS
from sciencevae.builtin.stars.dataset import prepare
from sciencevae.builtin.stars.settings import Prepare, Stars

from sciencevae.errors import InputError

MAS = np.radians(1 / 3.6e6)


def frame_of(count: int = 40, seed: int = 0, place: tuple[float, float] | None = None) -> pd.DataFrame:
    """Stars anywhere on the sky with random positive definite covariances, as canonical columns."""
    random = np.random.default_rng(seed)
    root = random.normal(size=(count, 5, 5)) * [[0.1], [0.2], [0.3], [0.4], [0.5]]
    full = root @ root.transpose(0, 2, 1)
    sigma = np.sqrt(np.einsum("nii->ni", full))
    ra, dec = random.uniform(0, 360, count), np.degrees(np.arcsin(random.uniform(-1, 1, count)))
    if place is not None:
        ra, dec = place[0] + random.uniform(-1, 1, count), place[1] + random.uniform(-1, 1, count)
    frame = pd.DataFrame(
        {
            "source_id": np.arange(count) + 2**62,
            "ra_deg": ra,
            "dec_deg": dec,
            "parallax_mas": random.uniform(1, 100, count),
            "pmra_mas_yr": random.normal(0, 300, count),
            "pmdec_mas_yr": random.normal(0, 300, count),
        }
    )
    for i, name in enumerate(ERRORS):
        frame[name] = sigma[:, i]
    for (i, j), name in CORRELATIONS.items():
        frame[name] = full[:, i, j] / sigma[:, i] / sigma[:, j]
    return frame.assign(magnitude=random.uniform(8, 20, count), bp_rp=random.uniform(0, 3, count))


# ---- covariance ------------------------------------------------------------------------------------------


def test_covariance_of_the_direction_is_that_of_many_draws() -> None:
    """Of 400,000 draws of the five parameters, turned into r̂, ϖ, μ by spherical trigonometry alone."""
    frame = frame_of(1).assign(ra_deg=210.0, dec_deg=-63.0)
    frame[list(ERRORS[:2])] *= 1e5  # arcminutes, so that the draws are not lost in rounding
    five = covariance(frame)[0]
    random = np.random.default_rng(1)
    draw = random.multivariate_normal(np.zeros(5), five, 400_000)
    ra = 210.0 + draw[:, 0] / 3.6e6 / np.cos(np.radians(-63.0))
    direction = kinematics.directions(ra, -63.0 + draw[:, 1] / 3.6e6)
    drawn = np.cov(np.concatenate([direction, draw[:, 2:]], axis=1).T)
    found = direction_covariance(frame)[0]
    centre = kinematics.directions(np.array([210.0]), np.array([-63.0]))[0]
    across = np.eye(6)
    across[:3, :3] -= np.outer(centre, centre)  # along itself a direction has no error
    scale = np.sqrt(np.diag(drawn))
    np.testing.assert_allclose(
        across @ found @ across / scale / scale[:, None], drawn / scale / scale[:, None], atol=0.02
    )


def test_covariance_of_the_direction_factors_in_single_precision() -> None:
    """At poles and everywhere, scaled as a field is: Cholesky in float32 works and no direction is lost."""
    frame = frame_of(200)
    frame.loc[:1, "dec_deg"] = [90.0, -90.0]
    scale = np.array([0.01, 0.01, 0.01, 1, 5, 5])
    scaled = (direction_covariance(frame) / scale / scale[:, None]).astype(np.float32)
    assert np.isfinite(np.linalg.cholesky(scaled)).all()


def test_a_position_without_an_error_has_a_nominal_one() -> None:
    frame = frame_of(3)
    frame.loc[0, "ra_error_mas"] = np.nan
    nominal = direction_covariance(frame)[0]
    np.testing.assert_array_equal(nominal[:3, :3], MAS**2 * np.eye(3))
    assert (nominal[:3, 3:] == 0).all()
    np.testing.assert_allclose(nominal[3:, 3:], covariance(frame)[0, 2:, 2:])


def test_what_was_not_measured_has_no_correlation_and_a_finite_variance() -> None:
    frame = frame_of(3)
    frame.loc[1, [*ASTROMETRY[2:], *ERRORS[2:]]] = np.nan
    found = direction_covariance(frame)
    assert np.isfinite(found).all()
    assert (found[1, 3:, 3:] == 1e6 * np.eye(3)).all()
    assert (found[1, :3, 3:] == 0).all()
    np.testing.assert_array_equal(found[2], direction_covariance(frame.iloc[2:])[0])


# ---- corrections -----------------------------------------------------------------------------------------


def test_inflation_and_excess_noise() -> None:
    frame = frame_of().assign(
        astrometric_excess_noise=0.5, astrometric_excess_noise_sig=[1.0] * 20 + [3.0] * 20
    )
    before, counts = covariance(frame), Counter[str]()
    wider = covariance(corrected(frame, Prepare(error_inflation=1.5), counts))
    np.testing.assert_allclose(wider, 1.5**2 * before, rtol=1e-12)
    added = covariance(corrected(frame, Prepare(excess_noise="add"), counts)) - before
    np.testing.assert_allclose(added[:20], 0, atol=1e-12)
    np.testing.assert_allclose(added[20:], np.broadcast_to(0.25 * np.eye(5), (20, 5, 5)), atol=1e-12)
    with pytest.raises(InputError, match=r"astrometric_excess_noise .*epsi"):
        corrected(frame_of(), Prepare(excess_noise="add"), counts)


def test_zero_point_of_a_catalogue() -> None:
    """With ν_eff from BP − RP where it is missing; a star without a colour keeps its parallax, and is counted."""
    frame, counts = frame_of(), Counter[str]()
    frame.loc[0, "bp_rp"] = np.nan
    chosen = Prepare(parallax_zero_point="lindegren-2021")
    shift = corrected(frame, chosen, counts)["parallax_mas"] - frame["parallax_mas"]
    assert shift[0] == 0
    assert shift[1:].between(-0.12, 0.15).all()
    assert (shift[1:] != 0).all()
    assert counts["parallax zero-point not known"] == 1
    six = frame.assign(pseudocolour=1.5, astrometric_params_solved=95.0)
    assert (corrected(six, chosen, counts)["parallax_mas"] - frame["parallax_mas"])[0] != 0
    with pytest.raises(InputError, match=r"bp_rp \(bp_rp, BP-RP\)"):
        corrected(frame.drop(columns="bp_rp"), chosen, counts)
    with pytest.raises(InputError, match=r"for Gaia EDR3 and DR3 .*2015.5"):
        at_epoch(frame.assign(ref_epoch=2015.5), chosen)


# ---- epochs ----------------------------------------------------------------------------------------------


def test_propagation_agrees_with_astropy() -> None:
    """25 years anywhere on the sky, at parallaxes to 100 mas and with radial velocities."""
    frame = frame_of(300)
    radial = np.random.default_rng(2).normal(0, 60, 300)
    start = SkyCoord(
        ra=frame["ra_deg"].to_numpy() * u.deg,
        dec=frame["dec_deg"].to_numpy() * u.deg,
        distance=1000 / frame["parallax_mas"].to_numpy() * u.pc,
        pm_ra_cosdec=frame["pmra_mas_yr"].to_numpy() * u.mas / u.yr,
        pm_dec=frame["pmdec_mas_yr"].to_numpy() * u.mas / u.yr,
        radial_velocity=radial * u.km / u.s,
        obstime=Time(1991.25, format="jyear"),
    )
    expected = start.apply_space_motion(Time(2016.0, format="jyear"))
    moved = at_epoch(frame.assign(radial_velocity=radial, ref_epoch=1991.25), Prepare(epoch=2016.0))
    later = kinematics.directions(expected.ra.deg, expected.dec.deg)
    apart = kinematics.separation(later, kinematics.directions(moved["ra_deg"], moved["dec_deg"])) * 3.6e6
    assert apart.max() < 0.02, (
        "mas, after 25 years of up to 1 arcsec/yr; astropy also counts light-travel time"
    )
    np.testing.assert_allclose(
        moved["parallax_mas"], expected.distance.to_value(u.mas, u.parallax()), rtol=1e-6
    )
    np.testing.assert_allclose(moved["pmra_mas_yr"], expected.pm_ra_cosdec.to_value(u.mas / u.yr), atol=2e-3)
    np.testing.assert_allclose(moved["pmdec_mas_yr"], expected.pm_dec.to_value(u.mas / u.yr), atol=2e-3)


def test_barnards_star_from_hipparcos_to_gaia() -> None:
    """The fastest star: from the place and motion of Hipparcos 2 (1991.25) to that of Gaia DR3 (2016.0).

    Hipparcos' errors of 1.7 and 1.2 mas/yr times 24.75 years are 52 mas: about that close, of 257 arcsec moved, and
    not so without the radial velocity.
    """
    frame = frame_of(1).assign(
        ra_deg=269.45402305, dec_deg=4.66828815, parallax_mas=548.31, pmra_mas_yr=-798.58, pmdec_mas_yr=10328.12,
        ref_epoch=1991.25, radial_velocity=-110.1,
    )  # fmt: skip
    moved = at_epoch(frame, Prepare(epoch=2016.0)).iloc[0]
    straight = at_epoch(frame.drop(columns="radial_velocity"), Prepare(epoch=2016.0)).iloc[0]
    gaia = kinematics.directions(np.array(269.44850252543836), np.array(4.739420051112412))
    away, further = (
        kinematics.separation(gaia, kinematics.directions(star["ra_deg"], star["dec_deg"])) * 3.6e6
        for star in (moved, straight)
    )
    assert away < 2 * 52
    assert further > 400
    assert moved["ref_epoch"] == 2016.0
    # and its motion has grown by the perspective, 1.3 mas/yr²
    assert np.hypot(moved["pmra_mas_yr"], moved["pmdec_mas_yr"]) - np.hypot(
        798.58, 10328.12
    ) == pytest.approx(31, abs=2)


@pytest.mark.parametrize("place", [(120.0, 20.0), (30.0, 88.999)])
def test_covariance_at_another_epoch_is_that_of_many_draws(place: tuple[float, float]) -> None:
    """Drawn, propagated one by one, and measured on the tangent plane of where the star has got to."""
    frame = frame_of(1, seed=3, place=place).assign(ref_epoch=1991.25)
    five = covariance(frame)[0]
    draw = np.random.default_rng(0).multivariate_normal(np.zeros(5), five, 100_000)
    here = kinematics.directions(frame["ra_deg"].to_numpy(), frame["dec_deg"].to_numpy())
    basis = kinematics.tangent_basis(here)[0]
    start = here + (draw[:, :2] * MAS) @ basis
    vector = (frame[["pmra_mas_yr", "pmdec_mas_yr"]].to_numpy() + draw[:, 3:]) @ basis  # in the frame of r̂
    pm = np.einsum(
        "nki,ni->nk", kinematics.tangent_basis(start / np.linalg.norm(start, axis=1, keepdims=True)), vector
    )
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    parallax = frame["parallax_mas"].to_numpy() + draw[:, 2]
    later, nearer, moved = kinematics.propagate(
        start, parallax, pm, np.zeros(len(draw)), np.full(len(draw), 24.75)
    )
    end = at_epoch(frame, Prepare(epoch=2016.0))
    there = kinematics.tangent_basis(
        kinematics.directions(end["ra_deg"].to_numpy(), end["dec_deg"].to_numpy())
    )[0]
    drawn = np.cov(np.concatenate(
        [later @ there.T / MAS, nearer[:, None], kinematics.space_tangential(later, moved) @ there.T], axis=1).T
    )  # fmt: skip
    scale = np.sqrt(np.diag(drawn))
    np.testing.assert_allclose(
        covariance(end)[0] / scale / scale[:, None], drawn / scale / scale[:, None], atol=0.02
    )


def test_there_and_back_and_a_star_without_a_motion_stays() -> None:
    frame = frame_of().assign(ref_epoch=2016.0)
    frame.loc[3, ["parallax_mas", "pmra_mas_yr", "pmdec_mas_yr", *ERRORS[2:]]] = np.nan
    away = at_epoch(frame, Prepare(epoch=1950.0))
    assert away.loc[3, "ref_epoch"] == 2016.0
    back = at_epoch(away, Prepare(epoch=2016.0))
    names = ["ra_deg", "dec_deg", "parallax_mas", "pmra_mas_yr", "pmdec_mas_yr"]
    # but for the radial velocity, which perspective changes and a catalogue's column does not follow
    np.testing.assert_allclose(back[names], frame[names], rtol=1e-6)
    np.testing.assert_allclose(away.loc[3, names], frame.loc[3, names])
    assert np.isnan(away.loc[3, "pmra_error_mas_yr"])


def own(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_parquet(path)
    return path


def test_epochs_of_a_file(tmp_path: Path) -> None:
    """Mixed epochs are refused unless all are to be propagated to one; where none is known it has to be said."""
    near = frame_of(80, place=(120.0, 20.0))
    near.loc[3, [*ASTROMETRY[2:], *ERRORS[2:]]] = np.nan
    path = own(near.assign(ref_epoch=[1991.25] * 40 + [2016.0] * 40), tmp_path / "mixed.parquet")
    with pytest.raises(InputError, match=r"epochs 1991.25, 2016: .*prepare.epoch=2016"):
        prepare(Stars(), {}, path)
    kept = Prepare(epoch=2016.0, two_parameter="keep")
    data = prepare(Stars(prepare=kept), {}, path)
    provenance = json.loads(data.attrs["provenance"])
    assert provenance["epoch"] == "J2016.0"
    assert provenance["corrections"] == {"epoch": "propagated to J2016.0"}
    assert "position left at its own epoch, without a proper motion: 1 stars" in provenance["notes"]
    assert (data["ref_epoch"] == np.where(data["source_id"] == 2**62 + 3, 1991.25, 2016.0)).all()
    path = own(near, tmp_path / "unknown.parquet")
    with pytest.raises(InputError, match=r"prepare.ref_epoch=YEAR"):
        prepare(Stars(prepare=Prepare(epoch=2016.0)), {}, path)
    first = prepare(Stars(prepare=Prepare(epoch=2016.0, ref_epoch=1991.25)), {}, path)
    assert np.abs(first["x"].values - prepare(Stars(), {}, path)["x"].values)[:, :3].max() > 1e-6
