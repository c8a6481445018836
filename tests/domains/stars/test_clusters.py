"""The search for clusters, on simulated fields whose members are known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from sciencevae.builtin.stars import kinematics
from sciencevae.builtin.stars.analysis import active_latents, cluster_name, motion_distance
from sciencevae.builtin.stars.clusters import candidate_rows, find_clusters, gaussian_mixture
from sciencevae.builtin.stars.dataset import field_area
from sciencevae.builtin.stars.mixture import Background, Cluster, Field, Mixture, fit_mixture, start_cluster
from sciencevae.builtin.stars.settings import Analyse

from .simulated import CENTRE, DISTANCE_PC, VELOCITY, Catalogue, simulate

RADIUS = 15.0


def as_field(catalogue: Catalogue) -> Field:
    direction = kinematics.directions(catalogue.ra, catalogue.dec)
    offsets = kinematics.azimuthal(direction, kinematics.directions(*map(np.array, CENTRE)))
    covariance = np.stack([np.diag(sigma**2) for sigma in catalogue.errors])
    return Field(catalogue.y, covariance, offsets, direction, field_area(RADIUS))


@cache
def searched() -> tuple[Catalogue, Field, Mixture]:
    catalogue = simulate()
    stars = as_field(catalogue)
    settings = Analyse()
    features = np.concatenate([stars.offsets, stars.y], axis=1)
    candidates = candidate_rows(features, gaussian_mixture(features, settings), settings)
    found = find_clusters(stars, candidates, RADIUS, settings)
    assert len(found.mixture.clusters) == 1
    assert found.gains[0][0] > 50
    return catalogue, stars, found.mixture


def test_members_are_found() -> None:
    catalogue, stars, mixture = searched()
    members = mixture.membership(stars)[:, 0] > 0.5
    completeness = (members & catalogue.member).sum() / catalogue.member.sum()
    purity = (members & catalogue.member).sum() / members.sum()
    assert completeness > 0.95
    assert purity > 0.95


def test_parameters_agree_with_the_truth() -> None:
    _, stars, mixture = searched()
    (cluster,) = mixture.clusters
    sigma = np.sqrt(np.diag(cluster.covariance))
    # parallax of the mean distance; the ball's depth (4 pc of 46) adds to its error over 80 members
    assert cluster.parallax == pytest.approx(1000 / DISTANCE_PC, abs=4 * np.hypot(sigma[0], 0.1))
    assert np.abs((cluster.velocity - VELOCITY) / sigma[1:]).max() < 4
    point = kinematics.convergent_point_of(kinematics.Velocity(cluster.velocity, cluster.covariance[1:, 1:]))
    away = kinematics.separation(
        kinematics.directions(np.array(point.ra), np.array(point.dec)), VELOCITY / np.linalg.norm(VELOCITY)
    )
    assert away < 4 * np.sqrt(np.trace(point.covariance))
    assert cluster.dispersion < 1.0
    assert motion_distance(cluster, stars)[:80].mean() < 2


def test_membership_is_about_calibrated() -> None:
    """Of stars with probability p, about a share p are members: the sum of p counts the members."""
    catalogue, stars, mixture = searched()
    probability = mixture.membership(stars)[:, 0]
    assert probability.sum() == pytest.approx(catalogue.member.sum(), abs=6)
    assert ((probability - catalogue.member) ** 2).mean() < 0.01


@pytest.mark.parametrize("seed", [1, 2])
def test_no_cluster_is_an_answer(seed: int) -> None:
    stars = as_field(simulate(members=0, field=800, seed=seed))
    settings = Analyse()
    features = np.concatenate([stars.offsets, stars.y], axis=1)
    candidates = candidate_rows(features, gaussian_mixture(features, settings), settings)
    found = find_clusters(stars, candidates, RADIUS, settings)
    assert found.mixture.clusters == ()
    assert found.membership.shape == (len(stars), 0)


def test_em_never_loses_likelihood() -> None:
    catalogue = simulate(members=40, field=300, seed=3)
    stars = as_field(catalogue)
    first = start_cluster(stars, np.flatnonzero(catalogue.member))
    assert first is not None
    mixture = Mixture(Background.fit(stars.y[~catalogue.member], 3), (first,), np.array([0.9, 0.1]))
    values = []
    for _ in range(12):
        mixture, value = fit_mixture(stars, mixture, iterations=1)
        values.append(value)
    # the ridge of the background and the floors of the widths may cost a little, once converged
    assert np.diff(values).min() > -0.05
    assert values[-1] > values[0]


def test_density_of_a_cluster_integrates_to_one() -> None:
    """By importance sampling from a wider Gaussian: the four parts are normalised densities."""
    random = np.random.default_rng(0)
    centre = kinematics.directions(*map(np.array, CENTRE))
    cluster = Cluster(
        20.0, VELOCITY, 1.0, 0.5, np.zeros(2), np.diag([4.0, 6.0]), np.array([0.4, 0.3, 0.2, 0.1])
    )
    n = 60_000
    direction = np.broadcast_to(centre, (n, 3))
    covariance = np.broadcast_to(np.diag([1.0, 4.0, 4.0]), (n, 3, 3))
    middle = np.append(20.0, kinematics.proper_motion(VELOCITY, centre, np.array(20.0)))
    wide, sky = np.array([5.0, 30.0, 30.0]), np.array([9.0, 11.0])
    y, offsets = middle + wide * random.normal(size=(n, 3)), sky * random.normal(size=(n, 2))
    proposal = -0.5 * (((y - middle) / wide) ** 2).sum(1) - np.log(wide).sum() - 1.5 * np.log(2 * np.pi)
    proposal += -0.5 * ((offsets / sky) ** 2).sum(1) - np.log(sky).sum() - np.log(2 * np.pi)
    density = np.logaddexp.reduce(cluster.log_parts(Field(y, covariance, offsets, direction, 1.0)), axis=1)
    weight = np.exp(density - proposal)
    assert weight.mean() == pytest.approx(1.0, abs=4 * weight.std() / np.sqrt(n) + 0.005)


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
