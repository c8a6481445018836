"""What latents determine, on constructed latents of which it is known."""

from __future__ import annotations

import numpy as np
import pytest

from sciencevae.errors import InputError
from sciencevae.latents.identify import identify

N = 3000
HELD = np.arange(N) % 4 == 0


def parameters(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ranges = {"wavelength": (450, 650), "distance": (300, 600), "separation": (150, 400)}
    return {name: rng.uniform(*limits, N) for name, limits in ranges.items()}


def bent(value: np.ndarray, noise: float, seed: int = 1) -> np.ndarray:
    """A latent that goes with a value along a curve: N(0, 1) in scale."""
    value = (value - value.mean()) / value.std()
    return np.sinh(value) / 1.5 + noise * np.random.default_rng(seed).normal(size=N)


def test_a_known_noise_is_the_resolution() -> None:
    """Latents z = θ + 0.2 ε of a normal θ of variance 1: var(θ | z) = 0.04/1.04."""
    rng = np.random.default_rng(3)
    theta = rng.normal(size=N)
    z = theta[:, None] + 0.2 * rng.normal(size=(N, 1))
    row = identify(z, {"theta": theta}, HELD).table.iloc[0]
    left = 0.04 / 1.04
    assert row.r2_low < 1 - left < row.r2_high
    assert abs(row.resolution - np.sqrt(left)) < 4 * row.resolution_error
    assert row.verdict == "identifiable"


def test_only_the_fringe_spacing_is_determined_by_a_pattern() -> None:
    theta = parameters()
    spacing = theta["wavelength"] * theta["distance"] / theta["separation"]
    z = np.stack([bent(spacing, 0.005), np.random.default_rng(2).normal(size=N)], 1)
    found = identify(z, theta, HELD)
    assert found.verdict("wavelength") == "not identifiable"
    assert found.dimensions == 1
    (power,) = found.powers
    assert power.exponents == {"wavelength": 1, "distance": 1, "separation": -1}
    assert str(power) == "wavelength distance separation⁻¹"
    assert power.r2 > 0.995
    assert power.scatter < 0.03
    text = " ".join(found.sentences({"wavelength": "nm"}))
    assert "wavelength is not identifiable from these data" in text
    assert "wavelength distance separation⁻¹" in text
    assert "nm, all data by" in text


def test_told_the_geometry_the_wavelength_is_identifiable() -> None:
    theta = parameters()
    spacing = theta["wavelength"] * theta["distance"] / theta["separation"]
    told = np.stack([theta["distance"], theta["separation"]], 1)
    found = identify(bent(spacing, 0.002)[:, None], {"wavelength": theta["wavelength"]}, HELD, condition=told)
    assert found.verdict("wavelength") == "identifiable"
    assert found.table.r2[0] > 0.99
    assert found.table.resolution[0] < 6


def test_two_determined_directions_are_named_by_their_simplest_products() -> None:
    """Of a/b and abc: not of a²c, which they determine too."""
    rng = np.random.default_rng(5)
    a, b, c = rng.uniform(1, 3, (3, N))
    z = np.stack([bent(a / b, 0.003, 6), bent(a * b * c, 0.003, 7)], 1) @ np.array([[0.8, 0.6], [-0.6, 0.8]])
    found = identify(z, {"a": a, "b": b, "c": c}, HELD)
    assert found.dimensions == 2
    assert [str(power) for power in found.powers] == ["a b⁻¹", "a b c"] or {
        str(power) for power in found.powers
    } <= {"a b⁻¹", "a b c", "a² c", "b² c"}
    assert str(found.powers[0]) == "a b⁻¹"


def test_a_sign_that_no_latent_shows_is_not_identifiable() -> None:
    theta = np.random.default_rng(8).uniform(-1, 1, N)
    found = identify(np.square(theta)[:, None] * 3, {"shift": theta, "size": np.abs(theta) + 1}, HELD)
    assert found.verdict("shift") == "not identifiable"
    assert abs(found.table.r2[0]) < 0.1
    assert found.verdict("size") == "identifiable"


def test_latents_that_say_nothing_determine_nothing() -> None:
    rng = np.random.default_rng(9)
    collapsed = 0.01 * rng.normal(size=(N, 2))
    for z in (rng.normal(size=(N, 3)), collapsed):
        found = identify(z, parameters(), HELD)
        assert set(found.table.verdict) == {"not identifiable"}
        assert (found.table.r2.abs() < 0.1).all()
        assert found.powers == ()
        assert found.dimensions == 0


def test_the_error_covers_the_scatter_between_data_sets() -> None:
    found = []
    for seed in range(12):
        rng = np.random.default_rng(100 + seed)
        theta = rng.normal(size=N)
        z = theta[:, None] + 0.5 * rng.normal(size=(N, 1))
        found.append(identify(z, {"theta": theta}, HELD, powers=[]).table.iloc[0])
    inside = [row.r2_low <= 0.8 <= row.r2_high for row in found]
    assert sum(inside) >= 9
    assert (
        0.5 < np.std([row.resolution for row in found]) / np.mean([row.resolution_error for row in found]) < 2
    )


def test_what_cannot_be_compared_is_refused() -> None:
    theta = parameters()
    z = np.zeros((N, 2))
    with pytest.raises(InputError, match="one value"):
        identify(z, {"wavelength": np.full(N, 500.0)}, HELD)
    with pytest.raises(InputError, match="not finite"):
        identify(z, {"wavelength": np.where(HELD, np.nan, 1.0)}, HELD)
    with pytest.raises(InputError, match="at least 50"):
        identify(z, theta, np.arange(N) < 10)
    with pytest.raises(InputError, match=r"expected \(3000,\)"):
        identify(z, {"wavelength": np.ones(5)}, HELD)
    with pytest.raises(InputError, match="positive throughout"):
        identify(z, {"shift": np.linspace(-1, 1, N)}, HELD, powers=["shift"])
