"""The frequency of a series and its error, against series whose frequency is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sciencevae.builtin.fluids.strouhal import shedding_frequency
from scipy.signal import lfilter

from sciencevae.errors import InputError

TIME = np.arange(600) * 0.25


def noise(seed: int, correlation: float, channels: int) -> np.ndarray:
    """Autoregressive, of standard deviation 0.2, alike in the channels in part."""
    white = np.random.default_rng(seed).normal(size=(1600, channels)) * 0.2 * np.sqrt(1 - correlation**2)
    white[:, -1] = 0.7 * white[:, 0] + np.sqrt(0.51) * white[:, -1] if channels > 1 else white[:, 0]
    return np.asarray(lfilter([1], [1, -correlation], white, axis=0)[1000:])


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 0.4), st.floats(0, 6), st.floats(-3, 3))
def test_a_clean_series_gives_its_frequency(frequency: float, phase: float, mean: float) -> None:
    angle = 2 * np.pi * frequency * TIME + phase
    found = shedding_frequency(mean + 2 * np.cos(angle) + 0.3 * np.sin(2 * angle), TIME + 40)
    assert found.value == pytest.approx(frequency, rel=1e-6)
    assert found.amplitude[0] == pytest.approx(2, rel=1e-4)
    assert found.explained == pytest.approx(1, abs=1e-6)
    assert found.error < 1e-6


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_error_is_the_spread_of_the_estimate(correlation: float, channels: int) -> None:
    """The deviation over its error has unit variance, also in coloured noise that the channels share."""
    scores = []
    for seed in range(100):
        random = np.random.default_rng([1, seed])
        frequency = random.uniform(0.16, 0.17)
        angle = 2 * np.pi * frequency * TIME + random.uniform(0, 6)
        clean = np.stack([np.cos(angle) + 0.2 * np.cos(2 * angle + 1), np.sin(angle)], axis=1)[:, :channels]
        found = shedding_frequency(clean + noise(seed, correlation, channels), TIME)
        scores.append((found.value - frequency) / found.error)
    assert abs(np.mean(scores)) < 0.35
    assert 0.8 < np.std(scores) < 1.25
    assert np.mean(np.abs(scores) < 1.96) > 0.88


def test_a_series_of_latents_and_its_rotation_give_the_same() -> None:
    angle = 2 * np.pi * 0.165 * TIME
    pair = np.stack([np.cos(angle), np.sin(angle)], axis=1) + noise(3, 0.5, 2)
    turn = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    one, other = shedding_frequency(pair, TIME), shedding_frequency(pair @ turn, TIME)
    assert one.value == pytest.approx(other.value, abs=1e-9)
    assert one.error == pytest.approx(other.error, rel=1e-6)


def test_slow_drift_is_not_taken_for_shedding() -> None:
    drift = 5 * np.exp(-TIME / 60)
    found = shedding_frequency(np.cos(2 * np.pi * 0.165 * TIME) + drift, TIME)
    assert found.value == pytest.approx(0.165, abs=3 * found.error)


@pytest.mark.parametrize(
    ("values", "time", "says"),
    [
        (np.ones(600), TIME, "constant"),
        (np.where(TIME > 100, np.nan, np.sin(TIME)), TIME, "not finite"),
        (np.sin(TIME), TIME**1.1, "time steps are not equal"),
        (np.sin(TIME[:50]), TIME[:50], r"holds 2\.\d cycles"),
        (np.sin(TIME[:10]), TIME[:10], "T ≥ 16"),
        (np.sin(TIME), TIME[:-1], "expected a series"),
    ],
)
def test_a_series_without_a_frequency_is_refused(values: np.ndarray, time: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        shedding_frequency(values, time)
