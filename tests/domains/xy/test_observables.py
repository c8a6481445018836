"""Vortices, correlations, errors and the Kosterlitz–Thouless extrapolation on cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from sciencevae.builtin.xy import observables as xy


def _pair(side: int, plus: tuple[float, float], minus: tuple[float, float]) -> np.ndarray:
    """A vortex and an antivortex at plaquette centres, periodic images summed: (1, L, L)."""
    row, column = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    theta = np.zeros((side, side))
    for down in range(-3, 4):
        for right in range(-3, 4):
            for charge, (i, j) in ((1, plus), (-1, minus)):
                theta += charge * np.arctan2(row - i - side * down, column - j - side * right)
    return xy.wrap(theta)[None]


def test_a_vortex_pair_is_found_where_it_was_put() -> None:
    charges = xy.vortex_charges(_pair(12, plus=(3.5, 2.5), minus=(3.5, 7.5)))[0]
    assert charges[3, 2] == 1
    assert charges[3, 7] == -1
    inner = np.abs(charges[1:-2, 1:-2]).sum()  # the images' far field need not close exactly at the seam
    assert inner == 2


def test_charges_add_to_zero_and_change_sign_with_theta() -> None:
    theta = np.random.default_rng(0).uniform(-np.pi, np.pi, (5, 9, 9))
    charges = xy.vortex_charges(theta)
    np.testing.assert_array_equal(charges.sum((1, 2)), 0)
    np.testing.assert_array_equal(xy.vortex_charges(-theta), -charges)
    np.testing.assert_array_equal(xy.vortex_charges(xy.wrap(theta + 1.234)), charges)
    assert xy.vortex_density(theta).mean() == pytest.approx(1 / 3, abs=0.05)  # independent angles: 1/3


def test_adjacent_pairs() -> None:
    one = _pair(12, plus=(5.5, 5.3), minus=(5.5, 6.7))  # at 5.5 and 6.5 the shared edge would turn by π
    charges = xy.vortex_charges(one)[0]
    assert charges[5, 5] == 1
    assert charges[5, 6] == -1
    apart = _pair(12, plus=(5.5, 3.5), minus=(5.5, 7.5))
    assert xy.vortex_pairs(one)[0] - xy.vortex_pairs(apart)[0] == pytest.approx(1 / 144)
    assert xy.vortex_pairs(np.zeros((1, 6, 6)))[0] == 0


def test_correlation_of_a_spiral() -> None:
    side, turns = 16, 2
    theta = 2 * np.pi * turns * np.arange(side) / side * np.ones((3, side, 1))
    r = np.arange(side // 2 + 1)
    expected = (np.cos(2 * np.pi * turns * r / side) + 1) / 2  # turning along x, uniform along y
    np.testing.assert_allclose(xy.correlation(theta), np.tile(expected, (3, 1)), atol=1e-12)
    np.testing.assert_allclose(xy.energy(theta), -1 - np.cos(2 * np.pi * turns / side))


def _autoregressive(rho: float, n: int, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(n + 200) * np.sqrt(1 - rho**2)
    series = np.empty(n + 200)
    series[0] = rng.standard_normal()
    for k in range(1, n + 200):
        series[k] = rho * series[k - 1] + noise[k]
    return series[200:]


def test_autocorrelation_time_of_an_autoregressive_series() -> None:
    rho, rng = 0.8, np.random.default_rng(1)
    exact = 0.5 * (1 + rho) / (1 - rho)
    tau, error = xy.autocorrelation_time(_autoregressive(rho, 20_000, rng))
    assert abs(tau - exact) < 4 * error
    together = np.stack([_autoregressive(rho, 500, rng) for _ in range(20)])
    assert xy.autocorrelation_time(together)[0] == pytest.approx(exact, rel=0.15)
    assert xy.autocorrelation_time(np.full(100, 3.0)) == (0.5, 0.0)


def test_errors_are_calibrated_on_an_autoregressive_series() -> None:
    """Over 150 series the mean in units of its stated error has unit spread, blocked and jackknifed."""
    rng = np.random.default_rng(2)
    blocked, jackknifed = [], []
    for _ in range(150):
        series = _autoregressive(0.7, 2000, rng)
        estimate = xy.blocking_error(series)
        blocked.append(estimate.value / estimate.error)
        value, error = xy.jackknife(lambda mean: mean[0], series[:, None], blocks=40)
        jackknifed.append(float(value / error))
    assert np.std(blocked) == pytest.approx(1, abs=0.2)
    assert np.std(jackknifed) == pytest.approx(1, abs=0.2)


def test_jackknife_removes_the_bias_of_a_square() -> None:
    rng = np.random.default_rng(3)
    found = [xy.jackknife(lambda m: m[0] ** 2, rng.normal(1, 3, (200, 1)), blocks=20) for _ in range(400)]
    values = np.array([value for value, _ in found])
    assert values.mean() == pytest.approx(1, abs=3 * values.std() / 20)
    assert np.mean([error for _, error in found]) == pytest.approx(values.std(), rel=0.2)


def test_helicity_of_an_ordered_lattice_is_one() -> None:
    estimate = xy.helicity_modulus(xy.bond_sums(np.zeros((60, 4, 4))), 0.5, 4)
    assert estimate.value == pytest.approx(1)


def test_crossing_of_a_known_curve() -> None:
    t = np.linspace(0.8, 1.1, 13)
    rng, errors = np.random.default_rng(4), np.full(13, 0.004)
    truth = 0.93
    found = [
        xy.crossing(t, 2 * truth / np.pi - 2.0 * (t - truth) + rng.normal(0, 0.004, 13), errors, draws=60)
        for _ in range(60)
    ]
    pulls = [(one.value - truth) / one.error for one in found]
    assert np.abs(np.mean(pulls)) < 0.5
    assert np.std(pulls) == pytest.approx(1, abs=0.3)
    assert np.isnan(xy.crossing(t, np.ones(13), errors).value)


def test_extrapolation_recovers_a_known_sequence() -> None:
    lattices = np.array([8, 16, 32, 64, 128])
    exact = 0.893 + 1.4 / np.log(3.0 * lattices) ** 2
    found = xy.extrapolate(lattices, exact, np.full(5, 1e-4))
    assert found.value == pytest.approx(0.893, abs=2 * np.hypot(found.statistical, found.systematic))
    assert found.consistent
    three = xy.extrapolate(lattices[:3], exact[:3], np.full(3, 2e-3))
    assert abs(three.value - 0.893) < 2 * np.hypot(three.statistical, three.systematic)
    assert three.systematic > found.systematic
    assert not xy.extrapolate(lattices, exact[::-1], np.full(5, 1e-4)).consistent
