"""Simulated, injected and resampled fields against closed forms, numerical integration and astropy."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sciencevae.builtin.stars import kinematics, sequence
from sciencevae.builtin.stars.columns import read_catalogue
from sciencevae.builtin.stars.injection import inject, null_field
from sciencevae.builtin.stars.measurement import (
    PARAMETERS,
    Errors,
    correlations,
    covariance,
    parallax_uncertainty,
)
from sciencevae.builtin.stars.population import (
    CIRCULAR_KMS,
    SOLAR_MOTION,
    SUN_KPC,
    TO_GALACTIC,
    Disc,
    OpenCluster,
    disc_velocity,
    king_fraction,
    king_radii,
    members,
)
from sciencevae.builtin.stars.simulate import COLUMNS, Simulation, generate, main, simulate
from scipy import stats
from scipy.integrate import quad
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from sciencevae.errors import InputError

TRUTH = ["true_cluster", "true_binary", *(f"true_{name}" for name in PARAMETERS)]
HONEST = Errors(underestimate=1.0, tail=0.0, unsolved=0.0)


@cache
def disc_alone() -> pd.DataFrame:
    return simulate(Simulation(field=Disc(stars=3000, gradient=0.6), clusters=(), errors=HONEST), seed=4)


# King's profile


@given(ratio=st.floats(1.5, 60.0), part=st.floats(0.02, 1.0))
@settings(max_examples=25, deadline=None)
def test_king_cumulative_is_the_integral_of_the_surface_density(ratio: float, part: float) -> None:
    def density(r: float) -> float:  # King 1962, eq. 14
        return 2 * np.pi * r * (1 / np.sqrt(1 + r**2) - 1 / np.sqrt(1 + ratio**2)) ** 2

    whole, within = quad(density, 0, ratio, limit=200)[0], quad(density, 0, part * ratio, limit=200)[0]
    assert king_fraction(part * ratio, 1.0, ratio) == pytest.approx(within / whole, rel=1e-6)


@pytest.mark.parametrize(("core", "tidal"), [(1.5, 10.0), (0.5, 20.0), (3.0, 6.0)])
def test_king_radii_in_space_project_to_king_on_the_sky(core: float, tidal: float) -> None:
    random = np.random.default_rng(0)
    radius = king_radii(random, core, tidal, 50_000)
    cosine = random.uniform(-1, 1, len(radius))
    projected = radius * np.sqrt(1 - cosine**2)
    assert radius.max() <= tidal
    assert stats.kstest(projected, lambda r: king_fraction(r, core, tidal)).pvalue > 0.01


# motions


def test_members_share_one_velocity_in_space() -> None:
    cluster = OpenCluster(
        ra=66.7, dec=15.9, distance_pc=46, tidal_pc=9, core_pc=3, pmra=105, pmdec=-27, radial_velocity=39,
        dispersion_kms=0, binaries=0,
    )  # fmt: skip
    stars = members(np.random.default_rng(0), cluster)
    direction = kinematics.directions(stars["ra"], stars["dec"])
    pm, parallax = stars[["pmra", "pmdec"]].to_numpy(), stars["parallax"].to_numpy()
    centre = kinematics.directions(np.array(66.7), np.array(15.9))
    tangential = kinematics.tangential_velocity(np.array(1000 / 46), np.array([105.0, -27.0]))
    velocity = 39 * centre + kinematics.space_tangential(centre, tangential)
    assert np.abs(kinematics.perspective_residual(direction, parallax, pm, velocity)).max() < 1e-9
    assert np.ptp(pm[:, 0]) > 10  # perspective, not one proper motion
    assert np.abs(stars["radial_velocity"] - direction @ velocity).max() < 1e-9
    assert 1000 / parallax.max() >= 46 - 9
    assert 1000 / parallax.min() <= 46 + 9


def test_dispersion_is_isotropic() -> None:
    cluster = OpenCluster(ra=10, dec=60, dispersion_kms=0.8, tidal_pc=0.02, core_pc=0.01, binaries=0)
    stars = members(np.random.default_rng(1), cluster)
    v = kinematics.tangential_velocity(stars["parallax"].to_numpy(), stars[["pmra", "pmdec"]].to_numpy())
    spread = np.append(v.std(axis=0), stars["radial_velocity"].std())
    assert spread == pytest.approx([0.8] * 3, abs=4 * 0.8 / np.sqrt(2 * len(stars)) + 0.002)


def test_galactic_rotation_as_in_astropy() -> None:
    import astropy.units as u
    from astropy.coordinates import CartesianDifferential, Galactic, Galactocentric, SkyCoord

    place = np.random.default_rng(0).uniform(-3, 3, (20, 3)) * [1, 1, 0.1]
    ours = disc_velocity(place, lag=15.0) @ TO_GALACTIC.T
    frame = Galactocentric(
        galcen_distance=SUN_KPC * u.kpc,
        z_sun=0 * u.pc,
        galcen_v_sun=CartesianDifferential(np.add(SOLAR_MOTION, [0, CIRCULAR_KMS, 0]) * u.km / u.s),
    )
    x, y, z = place[:, 0] - SUN_KPC, place[:, 1], place[:, 2]
    speed, radius = CIRCULAR_KMS - 15.0, np.hypot(x, y)
    star = SkyCoord(
        x=x * u.kpc, y=y * u.kpc, z=z * u.kpc,
        v_x=speed * y / radius * u.km / u.s, v_y=-speed * x / radius * u.km / u.s, v_z=0 * x * u.km / u.s,
        frame=frame,
    ).transform_to(Galactic())  # fmt: skip
    theirs = star.velocity.d_xyz.to_value(u.km / u.s).T
    assert np.abs(ours - theirs).max() < 0.05  # astropy's pole of the Galaxy differs by 0.1"


# stars


def test_masses_follow_kroupa() -> None:
    mass = sequence.initial_masses(np.random.default_rng(0), 200_000)

    def number(low: float, high: float) -> float:
        return quad(lambda m: m**-1.3 if m < 0.5 else 0.5 * m**-2.3, low, high, points=[0.5])[0]

    edges = [0.1, 0.2, 0.5, 1.0, 2.0, 10.0]
    expected = np.array([number(a, b) for a, b in pairwise(edges)])
    expected *= len(mass) / expected.sum()
    assert stats.chisquare(np.histogram(mass, edges)[0], expected).pvalue > 0.01


def test_a_binary_is_at_most_twice_as_bright() -> None:
    random = np.random.default_rng(0)
    mass = sequence.initial_masses(random, 20_000)
    single = sequence.absolute(mass, 1.0)[0]
    found = sequence.systems(random, mass, 1.0, 0.0, binaries=1.0)
    alive = np.isfinite(single)
    brighter = (single - found.magnitude)[alive]
    assert brighter.min() > 0
    assert brighter.max() <= 2.5 * np.log10(2) + 1e-9
    assert brighter.max() > 0.7
    twins = sequence.blended(sequence.absolute(mass, 1.0), sequence.absolute(mass, 1.0))
    assert twins[0][alive] == pytest.approx(single[alive] - 2.5 * np.log10(2))
    assert twins[1][alive] == pytest.approx(sequence.absolute(mass, 1.0)[1][alive])


def test_the_turn_off_fades_with_age() -> None:
    assert sequence.turn_off_mass(10.0) == pytest.approx(1.0)
    mass = np.geomspace(0.1, 10, 3000)
    tops = []
    for age in (0.05, 0.5, 5.0):
        magnitude, colour = sequence.absolute(mass, age)
        assert np.isnan(magnitude[mass > 1.1 * sequence.turn_off_mass(age)]).all()
        tops.append(np.nanmin(colour))
    assert tops == sorted(tops)  # the bluest star of an older cluster is redder


# measurement


def test_errors_are_the_published_ones() -> None:
    # Gaia EDR3 documentation, executive summary: typical errors of five-parameter solutions, given to one digit
    assert parallax_uncertainty(np.array([17.0, 20.0, 21.0])) == pytest.approx([0.07, 0.5, 1.3], rel=0.25)
    assert 0.01 < parallax_uncertainty(np.array([13.0])) < 0.03
    stars = simulate(Simulation(limit_mag=20.5, field=Disc(stars=4000, binaries=0), clusters=()), seed=0)
    near = stars[stars["phot_g_mean_mag"].between(16.9, 17.1)]
    assert near["parallax_error"].median() == pytest.approx(0.07, rel=0.25)
    assert near["pmra_error"].median() == pytest.approx(0.07, rel=0.25)
    assert near[["ra_error", "dec_error"]].median().mean() == pytest.approx(0.05, rel=0.25)


def test_correlations_are_correlations_and_alike_in_a_field() -> None:
    rho = correlations(np.random.default_rng(0), 500)
    assert np.abs(np.diagonal(rho, axis1=1, axis2=2) - 1).max() < 1e-12
    assert np.linalg.eigvalsh(rho).min() > 0
    above = rho[:, *np.triu_indices(5, 1)]
    assert above.std(axis=0).mean() < 0.15
    fields = np.stack([correlations(np.random.default_rng(seed), 1)[0] for seed in range(100)])
    assert fields[:, *np.triu_indices(5, 1)].std(axis=0).mean() > 0.2


def deviations(stars: pd.DataFrame) -> np.ndarray:
    """χ² with 5 degrees of freedom of each star's measurement against its truth and its stated covariance."""
    difference = np.stack([stars[name] - stars[f"true_{name}"] for name in PARAMETERS], axis=1)
    difference[:, 0] *= 3.6e6 * np.cos(np.radians(stars["dec"]))
    difference[:, 1] *= 3.6e6
    return np.einsum("ni,nij,nj->n", difference, np.linalg.inv(covariance(stars)), difference)


def test_pulls_are_normal_with_the_stated_covariance() -> None:
    assert stats.kstest(deviations(disc_alone()), stats.chi2(5).cdf).pvalue > 0.01


def test_underestimated_errors_and_tails() -> None:
    scaled = Errors(underestimate=1.5, tail=0.0, unsolved=0.0)
    wide = simulate(Simulation(field=Disc(stars=2000), clusters=(), errors=scaled), seed=1)
    assert stats.kstest(deviations(wide) / 1.5**2, stats.chi2(5).cdf).pvalue > 0.01
    tailed = Errors(underestimate=1.0, tail=1.0, unsolved=0.0)
    heavy = simulate(Simulation(field=Disc(stars=2000), clusters=(), errors=tailed), seed=1)
    assert (
        stats.kstest(deviations(heavy) / 5, stats.f(5, 3).cdf).pvalue > 0.01
    )  # multivariate t: χ²₅/5 is F(5, 3)


def test_orbits_shift_motions_and_raise_ruwe() -> None:
    near = OpenCluster(
        members=1500, distance_pc=150, tidal_pc=1.2, core_pc=0.5, dispersion_kms=0, binaries=0.5
    )
    settings = Simulation(limit_mag=16, field=Disc(stars=0), clusters=(near,), errors=HONEST)
    stars = simulate(settings, seed=2)
    binary = stars["true_binary"]
    spread = stars["true_pmra"].groupby(binary).agg(lambda pm: np.subtract(*np.percentile(pm, [90, 10])))
    assert spread[True] > 2 * spread[False]
    assert (
        stats.mannwhitneyu(stars["ruwe"][binary], stars["ruwe"][~binary], alternative="greater").pvalue < 1e-6
    )
    assert stars["ruwe"][~binary].max() < 1.4
    assert (stars["ruwe"][binary] > 1.4).mean() > 0.05


# fields


def test_counts_columns_and_types() -> None:
    two = (OpenCluster(members=40), OpenCluster(members=25, distance_pc=500, pmra=3))
    stars = simulate(Simulation(field=Disc(stars=300), clusters=two), seed=0)
    assert stars["true_cluster"].value_counts().to_dict() == {0: 300, 1: 40, 2: 25}
    assert list(stars)[: len(COLUMNS)] == list(COLUMNS)
    assert stars["source_id"].dtype == np.int64
    assert stars["source_id"].is_unique
    assert {str(stars[name].dtype) for name in ("ra", "dec")} == {"float64"}
    assert stars["parallax"].dtype == np.float32
    assert not stars["true_cluster"].is_monotonic_increasing  # the order tells nothing
    unsolved = stars["parallax"].isna()
    assert (stars["pmra"].isna() == unsolved).all()
    assert stars.loc[unsolved, "ra_error"].notna().all()


def test_the_catalogue_ends_at_the_limit() -> None:
    magnitude = simulate(Simulation(limit_mag=16, limit_width_mag=0.2, clusters=()), seed=0)[
        "phot_g_mean_mag"
    ]
    assert magnitude.max() < 16 + 12 * 0.2
    count, _ = np.histogram(magnitude, [15.2, 15.6, 16.4, 16.8])
    assert count[0] > 4 * count[2] > 0  # thinned beyond, not cut


def test_the_gradient_on_the_sky() -> None:
    stars = disc_alone()
    centre = kinematics.directions(np.array(114.3), np.array(-13.9))
    offsets = kinematics.azimuthal(kinematics.directions(stars["true_ra"], stars["true_dec"]), centre) / 0.5
    # in a circle with density 1 + g x, ⟨x⟩ = g/4 and ⟨x²⟩ = 1/4
    angle = np.radians(30)
    error = np.sqrt(0.25 / len(stars))
    assert (offsets @ [np.sin(angle), np.cos(angle)]).mean() == pytest.approx(0.6 / 4, abs=4 * error)
    assert (offsets @ [np.cos(angle), -np.sin(angle)]).mean() == pytest.approx(0, abs=4 * error)


def test_one_seed_one_field() -> None:
    small = Simulation(field=Disc(stars=100))
    pd.testing.assert_frame_equal(simulate(small, 7), simulate(small, 7))
    assert not simulate(small, 7)["ra"].equals(simulate(small, 8)["ra"])


def test_a_cluster_out_of_sight_is_an_error() -> None:
    far = Simulation(field=Disc(stars=0), clusters=(OpenCluster(members=50, distance_pc=2e5),))
    with pytest.raises(InputError, match=r"clusters.0: of .* drawn only 0 .* smaller distance"):
        simulate(far, 0)
    with pytest.raises(InputError, match="needs stars"):
        simulate(Simulation(field=Disc(stars=0), clusters=()), 0)


def test_written_and_read_as_a_catalogue(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("field: {stars: 60}\nclusters: [{members: 20}]\n")
    main([str(tmp_path / "field.parquet"), "--settings", str(tmp_path / "small.yaml"), "--seed", "3"])
    (block,) = read_catalogue(tmp_path / "field.parquet")
    assert len(block) == 80
    expected = simulate(Simulation(field=Disc(stars=60), clusters=(OpenCluster(members=20),)), 3)
    assert block["source_id"].tolist() == expected["source_id"].tolist()
    assert (block["status"] == "").all()
    with pytest.raises(InputError, match=r"simulated field: field.stars: .* found 'many'"):
        generate(tmp_path / "other.parquet", {"field": {"stars": "many"}}, 0)


# injection


def test_injected_stars_are_measured_like_their_neighbours() -> None:
    background = disc_alone().drop(columns=TRUTH)
    cluster = OpenCluster(ra=114.3, dec=-13.9, distance_pc=800, tidal_pc=5, core_pc=1, pmra=-1, pmdec=0)
    both = inject(background, 150, 3, cluster=cluster, errors=HONEST)
    added, kept = both[both["true_cluster"] == 1], both[both["true_cluster"] == 0]
    assert len(added) == 150
    assert set(kept["source_id"]) == set(background["source_id"])
    assert both["source_id"].is_unique
    assert both.dtypes[background.columns].equals(background.dtypes)
    g = background["phot_g_mean_mag"].to_numpy()
    donor = background.iloc[np.abs(g - added["phot_g_mean_mag"].to_numpy()[:, None]).argmin(axis=1)]
    assert (donor["parallax_error"].to_numpy() == added["parallax_error"].to_numpy()).mean() > 0.95
    # the deep parallaxes: 5 pc of 800 are 0.5 %, far below the errors
    pull = (added["parallax"] - 1000 / 800) / added["parallax_error"]
    assert stats.kstest(pull, "norm").pvalue > 0.01
    assert added["phot_g_mean_mag"].max() <= g.max()
    assert both.attrs["cluster"]["distance_pc"] == 800


@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_random_clusters_lie_in_the_field(seed: int) -> None:
    background = disc_alone().drop(columns=TRUTH).iloc[:600]
    both = inject(background, 30, seed)
    added = both[both["true_cluster"] == 1]
    assert len(added) == 30
    assert added["ra"].between(background["ra"].min(), background["ra"].max()).all()
    assert 1 / 3 <= both.attrs["cluster"]["distance_pc"] / 1000 <= 5
    assert not set(added["source_id"]) & set(background["source_id"])
    pd.testing.assert_frame_equal(both, inject(background, 30, seed))


# resampling

JOINT = ["ra", "dec", "parallax", "pmra", "pmdec", "phot_g_mean_mag", "bp_rp", "parallax_error"]


def energy_distance(first: np.ndarray, second: np.ndarray) -> float:
    """2 E|X − Y| − E|X − X'| − E|Y − Y'|: zero where the distributions are the same (Székely & Rizzo 2004)."""

    def within(values: np.ndarray) -> float:
        return cdist(values, values).sum() / (len(values) * (len(values) - 1))

    return float(2 * cdist(first, second).mean() - within(first) - within(second))


def test_a_null_field_keeps_the_joint_density() -> None:
    stars = disc_alone()
    null = null_field(stars, seed=1)
    assert len(null) == len(stars)
    for name in JOINT:
        assert stats.ks_2samp(stars[name], null[name]).statistic < 0.045
    change = stars[JOINT].corr("spearman") - null[JOINT].corr("spearman")
    assert np.abs(change.to_numpy()).max() < 0.08
    scaled = [
        np.arcsinh((f[JOINT] - stars[JOINT].median()) / stars[JOINT].std()).to_numpy() for f in (stars, null)
    ]
    other = np.random.default_rng(0).permuted(
        scaled[0], axis=0
    )  # independent columns: what must not come out
    assert energy_distance(*scaled) < 0.1 * energy_distance(scaled[0], other)
    tenth = [np.median(cKDTree(values[:, :5]).query(values[:, :5], k=11)[0][:, -1]) for values in scaled]
    assert 0.85 < tenth[1] / tenth[0] < 1.02  # as many chance clumps as the field has, not fewer


def test_a_null_field_keeps_gradients_of_motion_over_the_field() -> None:
    stars = disc_alone().copy()
    stars["pmra"] = (stars["pmra"] + 20 * (stars["ra"] - stars["ra"].mean())).astype(np.float32)
    null = null_field(stars, seed=2)
    slope = [np.polyfit(f["ra"], f["pmra"], 1)[0] for f in (stars, null)]
    assert slope[1] == pytest.approx(slope[0], rel=0.25)


def test_a_null_field_holds_no_copies_and_no_left_over() -> None:
    stars = disc_alone()
    # what a catalogue may leave: 20 stars near each other in all of place, parallax and motion, in the crowd
    rows = np.random.default_rng(0).choice(len(stars), 20, replace=False)
    stars = stars.copy()
    random = np.random.default_rng(1)
    for name, value, width in (
        ("ra", 114.3, 0.03), ("dec", -13.9, 0.03), ("parallax", 0.4, 0.03),
        ("pmra", -1.2, 0.05), ("pmdec", 0.8, 0.05),
    ):  # fmt: skip
        stars.loc[rows, name] = (value + width * random.normal(size=20)).astype(stars[name].dtype)

    def clump(frame: pd.DataFrame) -> int:
        place = np.hypot((frame["ra"] - 114.3) * np.cos(np.radians(13.9)), frame["dec"] + 13.9) < 0.08
        motion = np.hypot(frame["pmra"] + 1.2, frame["pmdec"] - 0.8) < 0.15
        return int((place & motion & (np.abs(frame["parallax"] - 0.4) < 0.1)).sum())

    assert clump(stars) >= 15
    nulls = [null_field(stars, seed=seed) for seed in range(5)]
    assert np.mean([clump(null) for null in nulls]) < 5
    values = ["ra", "dec", "parallax", "pmra", "pmdec", "phot_g_mean_mag", "bp_rp"]
    for name in ("ra", "dec"):  # of the others, single precision may hit a value by chance
        assert not nulls[0][name].isin(stars[name]).any()
    assert not pd.concat([nulls[0], stars])[values].duplicated().any()
    assert not nulls[0]["source_id"].isin(stars["source_id"]).any()


def test_members_are_left_out_and_missing_values_stay_missing() -> None:
    stars = simulate(Simulation(field=Disc(stars=400), errors=Errors(unsolved=0.2)), seed=0)
    stars.loc[::7, "bp_rp"] = np.nan
    gone = stars["true_cluster"].to_numpy() == 1
    null = null_field(stars, gone, seed=0)
    assert len(null) == 400
    left = stars[~gone]
    assert set(null["parallax_error"].dropna()) <= set(left["parallax_error"].dropna())
    assert (null["parallax"].isna() == null["parallax_error"].isna()).all()
    for name in ("parallax", "bp_rp"):
        assert null[name].isna().mean() == pytest.approx(left[name].isna().mean(), abs=0.06)
    with pytest.raises(InputError, match="more than 40 stars, found 30"):
        null_field(stars.iloc[:30])
    assert len(null_field(stars, gone, seed=0, size=1000)) == 1000
