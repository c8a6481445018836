"""The search for clusters, on simulated fields whose members are known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from sciencevae.builtin.stars import kinematics
from sciencevae.builtin.stars.analysis import active_latents, cluster_name, motion_distance
from sciencevae.builtin.stars.clusters import (
    Found,
    by_contrast,
    by_density,
    by_mixture,
    calibrated,
    candidates,
    find_clusters,
    tiles,
)
from sciencevae.builtin.stars.footprint import Footprint
from sciencevae.builtin.stars.mixture import (
    Background,
    Cluster,
    Field,
    Mixture,
    fit_background,
    fit_clusters,
    scatter_min,
    start_cluster,
)
from sciencevae.builtin.stars.packed import inverse, outer, packed, times, unpacked
from sciencevae.builtin.stars.settings import Analyse
from sciencevae.builtin.stars.uncertainty import errors_of
from scipy.stats import multivariate_normal

from .simulated import CENTRE, DISTANCE_PC, VELOCITY, Catalogue, simulate

RADIUS = 15.0


def as_field(catalogue: Catalogue) -> Field:
    direction = kinematics.directions(catalogue.ra, catalogue.dec)
    offsets = kinematics.azimuthal(direction, kinematics.directions(*map(np.array, CENTRE)))
    covariance = np.stack([np.diag(sigma**2) for sigma in catalogue.errors])
    return Field(catalogue.y, covariance, offsets, direction, Footprint.cone(RADIUS))


@cache
def searched() -> tuple[Catalogue, Field, Found]:
    catalogue = simulate()
    stars = as_field(catalogue)
    settings = Analyse()
    found = find_clusters(stars, candidates(stars, None, settings), settings)
    assert len(found.mixture.clusters) == 1
    assert found.gains[0][0] > 50
    return catalogue, stars, found


def test_members_are_found() -> None:
    catalogue, _, found = searched()
    members = found.membership[:, 0] > 0.5
    completeness = (members & catalogue.member).sum() / catalogue.member.sum()
    purity = (members & catalogue.member).sum() / members.sum()
    assert completeness > 0.95
    assert purity > 0.95


def test_parameters_agree_with_the_truth() -> None:
    _, stars, found = searched()
    (cluster,) = found.mixture.clusters
    errors = errors_of(stars, found.mixture, 0)
    sigma = np.sqrt(np.diag(errors.motion))
    # parallax of the mean distance; the ball's depth (4 pc of 46) adds to its error over 80 members
    assert cluster.parallax == pytest.approx(1000 / DISTANCE_PC, abs=4 * np.hypot(sigma[0], 0.1))
    assert np.abs((cluster.velocity - VELOCITY) / sigma[1:]).max() < 4
    point = kinematics.convergent_point_of(kinematics.Velocity(cluster.velocity, errors.motion[1:, 1:]))
    away = kinematics.separation(
        kinematics.directions(np.array(point.ra), np.array(point.dec)), VELOCITY / np.linalg.norm(VELOCITY)
    )
    assert away < 4 * np.sqrt(np.trace(point.covariance))
    assert cluster.dispersion < 1.0
    # a ball of 4 pc at 46 pc: 5 degrees, and 1.9 mas in parallax
    assert np.sqrt(np.linalg.eigvalsh(cluster.shape)) == pytest.approx([5.0, 5.0], rel=0.25)
    assert cluster.depth == pytest.approx(1.9, rel=0.25)
    assert motion_distance(cluster, stars)[:80].mean() < 2


def test_membership_is_about_calibrated() -> None:
    """Of stars with probability p, about a share p are members: the sum of p counts the members."""
    catalogue, _, found = searched()
    probability = found.membership[:, 0]
    assert probability.sum() == pytest.approx(catalogue.member.sum(), abs=6)
    assert ((probability - catalogue.member) ** 2).mean() < 0.01


def test_calibration_only_takes_away() -> None:
    p = np.array([0.0, 1e-12, 0.1, 0.14, 0.5, 0.75, 0.99, 1.0])
    found = calibrated(p)
    assert np.all(np.diff(found) >= 0)
    assert found[:4] == pytest.approx(p[:4])
    assert found[4:6] == pytest.approx([0.475, 0.659], abs=0.002)
    assert 0.95 < found[6] < found[7] <= 1
    assert np.all(found <= p * (1 + 1e-9) + 1e-200)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_cluster_is_an_answer(seed: int) -> None:
    stars = as_field(simulate(members=0, field=800, seed=seed))
    settings = Analyse()
    found = find_clusters(stars, candidates(stars, None, settings), settings)
    assert found.mixture.clusters == ()
    assert found.membership.shape == (len(stars), 0)


def test_two_clusters_of_one_field() -> None:
    first, second = simulate(seed=5), simulate(members=60, field=0, seed=6)
    stars = as_field(first)
    other = as_field(second)
    # the second one: elsewhere on the sky, and moving another way
    turned = other.y * [1, -1, 1]
    away = kinematics.from_azimuthal(
        other.offsets * 0.4 + [6.0, -6.0], kinematics.directions(*map(np.array, CENTRE))
    )
    both = Field(
        np.concatenate([stars.y, turned]),
        np.concatenate([stars.covariance, other.covariance]),
        np.concatenate([stars.offsets, other.offsets * 0.4 + [6.0, -6.0]]),
        np.concatenate([stars.direction, away]),
        stars.footprint,
    )
    found = find_clusters(both, candidates(both, None, Analyse()), Analyse())
    assert len(found.mixture.clusters) == 2
    owner = found.membership.argmax(1)
    truth = np.concatenate([first.member * 1, np.full(60, 2)])
    assert np.mean(owner[truth == 1] == owner[truth == 1][0]) > 0.95
    assert np.mean(owner[truth == 2] == 1 - owner[truth == 1][0]) > 0.9
    assert np.all(found.membership.sum(1) <= 1 + 1e-9)


def test_em_never_loses_likelihood() -> None:
    catalogue = simulate(members=40, field=300, seed=3)
    stars = as_field(catalogue)
    first = start_cluster(stars, np.flatnonzero(catalogue.member))
    assert first is not None
    background = fit_background(stars[~catalogue.member], 3)
    density = background.log_density(stars)
    mixture = Mixture(background, (first,), np.array([0.9, 0.1]))
    values = [mixture.log_density(stars, density).sum()]
    for _ in range(12):
        mixture = fit_clusters(stars, mixture, density, iterations=1)
        values.append(mixture.log_density(stars, density).sum())
    # the truncated sky's M-step is that of a nearby likelihood, and the floors may cost a little, once converged
    assert np.diff(values).min() > -0.05
    assert values[-1] > values[0]


def test_stars_elsewhere_count_as_background() -> None:
    """Fitted to the stars about a cluster with so many more elsewhere: what all stars give."""
    catalogue = simulate(members=60, field=600, seed=4)
    stars = as_field(catalogue)
    background = fit_background(stars[~catalogue.member], 3)
    density = background.log_density(stars)
    first = start_cluster(stars, np.flatnonzero(catalogue.member))
    assert first is not None
    start = Mixture(background, (first,), np.array([0.9, 0.1]))
    whole = fit_clusters(stars, start, density, iterations=20)
    reach = replace(first, excess=3 * first.excess, scatter=3 * first.scatter, shape=9 * first.shape)
    near = np.flatnonzero(reach.near(stars))
    assert len(near) < len(stars)
    some = fit_clusters(stars[near], start, density[near], len(stars) - len(near), iterations=20)
    assert some.weights == pytest.approx(whole.weights, rel=1e-3)
    assert some.clusters[0].parallax == pytest.approx(whole.clusters[0].parallax, rel=1e-3)


@pytest.mark.parametrize("footprint", [Footprint.cone(40.0), Footprint.cone(3.0)])
def test_density_of_a_cluster_integrates_to_one(footprint: Footprint) -> None:
    """Over the footprint and y, by importance sampling: also where most of the cluster lies outside the field."""
    random = np.random.default_rng(0)
    centre = kinematics.directions(*map(np.array, CENTRE))
    cluster = Cluster(20.0, VELOCITY, 1.0, 2.0, np.array([0.5, -0.5]), np.diag([4.0, 6.0]), halo=0.4)
    n = 60_000
    direction = np.broadcast_to(centre, (n, 3))
    covariance = np.broadcast_to(np.diag([1.0, 4.0, 4.0]), (n, 3, 3))
    middle = np.append(20.0, kinematics.proper_motion(VELOCITY, centre, np.array(20.0)))
    wide, sky = np.array([5.0, 30.0, 30.0]), np.array([9.0, 11.0])
    y, offsets = middle + wide * random.normal(size=(n, 3)), sky * random.normal(size=(n, 2))
    proposal = -0.5 * (((y - middle) / wide) ** 2).sum(1) - np.log(wide).sum() - 1.5 * np.log(2 * np.pi)
    proposal += -0.5 * ((offsets / sky) ** 2).sum(1) - np.log(sky).sum() - np.log(2 * np.pi)
    density = np.logaddexp.reduce(
        cluster.log_parts(Field(y, covariance, offsets, direction, footprint)), axis=0
    )
    weight = np.exp(density - proposal) * footprint.contains(offsets)
    assert weight.mean() == pytest.approx(1.0, abs=4 * weight.std() / np.sqrt(n) + 0.01)


def test_only_the_depth_of_a_cluster_moves_proper_motions() -> None:
    """A far cluster is thin: its motion is as sharp along itself as across, whatever its parallaxes scatter. In a
    near one the stars in front move faster: N(ϖ_c J, C + σ_d² J Jᵀ + …) as scipy has it."""
    centre = kinematics.directions(*map(np.array, CENTRE))
    east_north = kinematics.tangent_basis(centre)

    def log_density(cluster: Cluster, y: np.ndarray) -> np.ndarray:
        count = len(y)
        stars = Field(
            y,
            np.broadcast_to(np.eye(3) * 0.02**2, (count, 3, 3)),
            np.zeros((count, 2)),
            np.broadcast_to(centre, (count, 3)),
            Footprint.cone(60.0),
        )
        return cluster.log_parts(stars)[0]

    far_motion = np.array([8.0, 0.0]) * kinematics.KAPPA / 0.4 @ east_north  # 8 mas/yr towards east
    far = Cluster(0.4, far_motion, 0.1, 0.05, np.zeros(2), np.eye(2) * 0.1**2)
    step = 0.2
    along, across = log_density(far, np.array([[0.4, 8.0 + step, 0.0], [0.4, 8.0, step]]))
    assert along == pytest.approx(across, abs=0.6)  # of the 14 nats that it is away

    near = Cluster(20.0, VELOCITY, 0.1, 0.5, np.zeros(2), np.eye(2) * 4.0**2)
    assert near.depth == pytest.approx(20.0 * np.radians(4.0))
    motion = kinematics.proper_motion(VELOCITY, centre, np.array(20.0))
    front = np.append(21.5, motion * 21.5 / 20)
    jacobian = np.append(1.0, motion / 20)
    covariance = np.diag([0.1**2, 0.5**2, 0.5**2]) + np.eye(3) * 0.02**2
    covariance += near.depth**2 * np.outer(jacobian, jacobian)
    places = np.array([front, front * [1, 0, 1], [18.5, *front[1:]]])
    expected = multivariate_normal(20.0 * jacobian, covariance).logpdf(places)
    found = log_density(near, places)
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-6)


def test_a_star_that_nothing_explains_is_no_member() -> None:
    catalogue, stars, found = searched()
    y = stars.y.copy()
    y[~catalogue.member, 1:] += 1e5  # mas/yr, which the background has never seen
    fast = Field(y, stars.covariance, stars.offsets, stars.direction, stars.footprint)
    assert found.mixture.membership(fast)[~catalogue.member].max() < 1e-6


def test_motions_lie_within_their_errors_and_the_scatter_of_parallaxes() -> None:
    """Stars drawn from a cluster: 0.27 % beyond the 3σ of two Gaussian axes' 99.73 %, whatever its excess."""
    random, count = np.random.default_rng(8), 4000
    centre = kinematics.directions(*map(np.array, CENTRE))
    cluster = Cluster(20.0, VELOCITY, 0.5, 0.3, np.zeros(2), np.eye(2) * 2.0**2)
    parallax = 20 + cluster.depth * random.normal(size=count)
    motion = kinematics.proper_motion(VELOCITY, np.broadcast_to(centre, (count, 3)), parallax)
    y = np.concatenate([(parallax + cluster.excess * random.normal(size=count))[:, None], motion], axis=1)
    y += random.normal(size=y.shape) * [0.1, cluster.scatter, cluster.scatter]
    y[:, 1:] += 0.1 * random.normal(size=motion.shape)
    stars = Field(
        y,
        np.broadcast_to(np.eye(3) * 0.1**2, (count, 3, 3)),
        np.zeros((count, 2)),
        np.broadcast_to(centre, (count, 3)),
        Footprint.cone(60.0),
    )
    squares = motion_distance(cluster, stars) ** 2  # χ² of two degrees of freedom
    assert squares.mean() == pytest.approx(2.0, abs=4 * 2 / np.sqrt(count))


def test_a_scale_at_its_floor_has_no_error() -> None:
    _, stars, found = searched()
    (cluster,) = found.mixture.clusters
    floored = replace(cluster, scatter=scatter_min(cluster.parallax))
    assert np.isnan(errors_of(stars, replace(found.mixture, clusters=(floored,)), 0).scatter)


def test_a_cluster_cut_off_by_the_edge_has_its_own_width() -> None:
    """Stars of a Gaussian of 1° whose centre lies near the edge of the field: not the width of what is seen."""
    random = np.random.default_rng(1)
    places = np.array([1.2, 0.0]) + random.normal(size=(6000, 2))
    footprint = Footprint.cone(2.0)
    places = places[footprint.contains(places)]
    count = len(places)
    stars = Field(
        random.normal(size=(count, 3)) * 0.1 + [1.0, 0.0, 0.0],
        np.broadcast_to(np.eye(3) * 0.01, (count, 3, 3)),
        places,
        np.broadcast_to([1.0, 0.0, 0.0], (count, 3)),
        footprint,
    )
    cluster = Cluster(1.0, np.zeros(3), 0.02, 0.02, places.mean(0), np.cov(places.T), halo=1e-9)
    seen = np.sqrt(np.linalg.eigvalsh(cluster.shape))
    share = np.concatenate([np.ones((1, count)), np.zeros((3, count))])
    for _ in range(60):
        cluster = cluster.updated(stars, share, cluster.parts(stars))
    assert seen[0] < 0.9
    assert np.sqrt(np.linalg.eigvalsh(cluster.shape)) == pytest.approx([1.0, 1.0], abs=0.08)
    assert cluster.centre == pytest.approx([1.2, 0.0], abs=0.08)


def test_the_background_is_deconvolved() -> None:
    """Two populations behind errors as wide as themselves: their own widths, and the slope of the sky."""
    random = np.random.default_rng(2)
    n, slope = 8000, 0.5
    footprint = Footprint.cone(2.0)
    grid = footprint.points(200_000)
    places = grid[
        random.choice(len(grid), n, p=np.exp(slope * grid[:, 0]) / np.exp(slope * grid[:, 0]).sum())
    ]
    second = random.random(n) < 0.3
    true = random.normal(size=(n, 3)) * np.where(second, 1.0, 2.0)[:, None] + 8.0 * second[:, None]
    error = random.uniform(0.5, 2.0, n)
    stars = Field(
        true + error[:, None] * random.normal(size=(n, 3)),
        error[:, None, None] ** 2 * np.eye(3),
        places,
        np.broadcast_to([1.0, 0.0, 0.0], (n, 3)),
        footprint,
    )
    background = Background(
        np.full(2, 0.5), np.array([[0.0] * 3, [8.0] * 3]), np.tile(4 * np.eye(3), (2, 1, 1)), np.ones(3)
    )
    background = fit_background(stars, 2, start=background, iterations=200)
    assert background.weights == pytest.approx([0.7, 0.3], abs=0.02)
    widths = np.sqrt(np.diagonal(background.covariances, axis1=1, axis2=2))
    assert widths == pytest.approx(np.array([[2.0] * 3, [1.0] * 3]), abs=0.1)
    assert background.gradient == pytest.approx([slope, 0.0], abs=0.05)
    # and it is a density over the field
    area = footprint.area * np.exp(background.log_sky(footprint.points(4096), footprint)).mean()
    assert area == pytest.approx(1.0, rel=0.01)


def test_packed_matrices_are_those_of_linear_algebra() -> None:
    root = np.random.default_rng(3).normal(size=(50, 4, 3, 3)) * [[[[0.1], [1.0], [30.0]]]]
    matrix = root @ root.swapaxes(-1, -2)
    matrix = (matrix + matrix.swapaxes(-1, -2)) / 2
    entries, vector = packed(matrix), np.moveaxis(root[..., 0], -1, 0)
    np.testing.assert_array_equal(unpacked(entries), matrix)
    np.testing.assert_allclose(
        unpacked(outer(vector)), root[..., :1] @ root[..., :1].swapaxes(-1, -2), rtol=1e-12
    )
    product = (matrix @ root[..., :1])[..., 0]
    np.testing.assert_allclose(np.moveaxis(times(entries, vector), 0, -1), product, rtol=1e-9, atol=1e-9)
    found, log_det = inverse(entries)
    np.testing.assert_allclose(unpacked(found) @ matrix, np.broadcast_to(np.eye(3), matrix.shape), atol=1e-4)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(matrix)[1], atol=1e-6)


def test_errors_are_the_scatter_of_repeated_fields() -> None:
    """Parallax, motion, centre and scatter of the same cluster seen 25 times: their pulls have unit width."""
    pulls = []
    for seed in range(25):
        catalogue = simulate(members=80, field=200, seed=100 + seed)
        stars = as_field(catalogue)
        first = start_cluster(stars, np.flatnonzero(catalogue.member))
        assert first is not None
        background = fit_background(stars[~catalogue.member], 2)
        density = background.log_density(stars)
        mixture = fit_clusters(
            stars, Mixture(background, (first,), np.array([0.7, 0.3])), density, iterations=100
        )
        errors, cluster = errors_of(stars, mixture, 0), mixture.clusters[0]
        sigma = np.sqrt(np.diag(errors.motion))
        motion = (cluster.velocity - VELOCITY) / sigma[1:]
        sky = cluster.centre / np.sqrt(np.diag(errors.centre))
        pulls.append([*motion, *sky, (mixture.weights[1] - 80 / 280) / errors.weight])
    widths = np.sqrt(np.mean(np.square(pulls), axis=0))
    # of 25: the width of a unit Gaussian is 1 ± 0.14; the share's true scatter is none, as the numbers are fixed
    assert np.all(widths[:5] < 1.5), widths
    assert np.all(widths[:5] > 0.6), widths
    assert widths[5] < 1.0


def test_tiles_cover_the_sky_once() -> None:
    offsets = np.random.default_rng(4).normal(size=(1000, 2)) * [3, 1]
    pieces = list(tiles(offsets, 150))
    assert np.array_equal(np.sort(np.concatenate(pieces)), np.arange(1000))
    assert max(map(len, pieces)) <= 150
    assert min(map(len, pieces)) > 50
    assert [len(rows) for rows in tiles(offsets, 1000)] == [1000]


def test_candidates_hold_a_group_that_stands_apart() -> None:
    random = np.random.default_rng(5)
    features = np.concatenate([random.normal(size=(500, 4)), 0.05 * random.normal(size=(60, 4)) + 2.0])
    for groups in (by_mixture(features, 6), by_density(features, 15)):
        assert max(np.isin(np.arange(500, 560), rows).mean() * (rows >= 500).mean() for rows in groups) > 0.8
    assert by_density(features[:10], 15) == []


def test_a_few_stars_stand_out_where_mixtures_see_nothing() -> None:
    """Thirty stars of one motion among two thousand: the best neighbourhood is theirs; without them there is none
    that stands out as much."""
    random = np.random.default_rng(6)
    count, members = 2000, 30
    y = np.concatenate(
        [random.normal(size=(count, 3)) * [0.5, 2.0, 2.0], np.full((members, 3), [0.4, 0.7, -0.9])]
    )
    error = np.full(len(y), 0.08)
    y += error[:, None] * random.normal(size=y.shape)
    places = np.concatenate(
        [random.uniform(-1, 1, (count, 2)), 0.15 * random.normal(size=(members, 2)) + 0.3]
    )
    stars = Field(
        y,
        error[:, None, None] ** 2 * np.eye(3),
        places,
        np.broadcast_to([1.0, 0, 0], y.shape),
        Footprint.around(places),
    )
    best = by_contrast(stars)[0]
    truth = np.arange(len(y)) >= count
    assert truth[best].mean() > 0.6
    assert truth[best].sum() >= 8
    assert all(len(rows) < len(best) for rows in by_contrast(stars[np.flatnonzero(~truth)])[:3])
    found = find_clusters(stars, by_contrast(stars), Analyse())
    assert len(found.gains) == 1
    assert (found.membership[truth, 0] > 0.5).mean() > 0.9


def test_start_needs_a_common_motion() -> None:
    stars = as_field(simulate(members=0, field=200, seed=4))
    assert start_cluster(stars, np.arange(4)) is None


def test_names_are_given_afterwards() -> None:
    here = kinematics.directions(np.array(67.0), np.array(16.0))
    assert cluster_name(here, 21.5, 1) == "hyades"
    assert cluster_name(here, 8.0, 1) == "cluster 1"
    assert cluster_name(kinematics.directions(np.array(56.6), np.array(24.3)), 7.36, 2) == "pleiades"


def test_silent_latents_are_left_out() -> None:
    random = np.random.default_rng(0)
    z = random.normal(size=(500, 3)) * [1.0, 0.05, 0.6]
    assert active_latents(z, np.full((500, 3), [0.3, 1.0, 0.8])).tolist() == [True, False, True]
