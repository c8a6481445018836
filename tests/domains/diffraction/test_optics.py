"""Propagation against closed forms and conservation laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sciencevae.builtin.diffraction import apertures
from sciencevae.builtin.diffraction.optics import angular_spectrum, fraunhofer, fresnel, output_pitch
from scipy.special import fresnel as fresnel_integrals
from scipy.special import j1

from sciencevae.errors import InputError

WAVELENGTH = 500e-9


def one(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def slit_field(n: int, pitch: float, middles: list[float], width: float) -> torch.Tensor:
    x = apertures.coordinates(n, pitch)
    centres = torch.tensor([middles], dtype=torch.float64)
    return apertures.slits(x, pitch, centres, torch.full_like(centres, width)).to(torch.complex128)


def energy(field: torch.Tensor, pitch: float) -> float:
    return float(field.abs().square().sum() * pitch ** (field.dim() - 1))


def test_a_single_slit_far_away_is_sinc_squared() -> None:
    n, pitch, width, distance = 4096, 2e-6, 100e-6, 10.0
    field = fraunhofer(slit_field(n, pitch, [0.0], width), pitch, WAVELENGTH, distance)
    out = output_pitch(n, pitch, WAVELENGTH, distance)
    x = apertures.coordinates(n, out).numpy()
    expected = width**2 / (WAVELENGTH * distance) * np.sinc(width * x / (WAVELENGTH * distance)) ** 2
    near = np.abs(x) < 4 * WAVELENGTH * distance / width
    found = field[0].abs().square().numpy()
    # cells of 2 µm blur the slit: sinc²(2 µm x/(λz)) of it is left
    blurred = expected * np.sinc(pitch * x / (WAVELENGTH * distance)) ** 2
    np.testing.assert_allclose(found[near], blurred[near], atol=2e-3 * expected.max())
    assert abs(found.max() / expected.max() - 1) < 1e-6


def test_a_double_slit_far_away_has_fringes_under_the_envelope() -> None:
    n, pitch, width, apart, distance = 8192, 1e-6, 40e-6, 250e-6, 20.0
    field = fraunhofer(slit_field(n, pitch, [-apart / 2, apart / 2], width), pitch, WAVELENGTH, distance)
    x = apertures.coordinates(n, output_pitch(n, pitch, WAVELENGTH, distance)).numpy()
    u = x / (WAVELENGTH * distance)
    expected = (
        4 * width**2 / (WAVELENGTH * distance) * np.sinc(width * u) ** 2 * np.cos(np.pi * apart * u) ** 2
    )
    near = np.abs(u) < 3 / width
    np.testing.assert_allclose(
        field[0].abs().square().numpy()[near], expected[near], atol=4e-3 * expected.max()
    )


def test_the_angular_spectrum_goes_over_into_the_far_field() -> None:
    """Fringes λz/d apart under the closed form, 0.4 m behind 120 µm: L²/(λz) = 0.07."""
    n, pitch, distance = 16384, 2e-6, 0.4
    field = angular_spectrum(slit_field(n, pitch, [-40e-6, 40e-6], 40e-6), pitch, WAVELENGTH, distance)
    x = apertures.coordinates(n, pitch).numpy()
    u = x / (WAVELENGTH * distance)
    expected = (
        4 * (40e-6) ** 2 / (WAVELENGTH * distance) * (np.sinc(40e-6 * u) * np.cos(np.pi * 80e-6 * u)) ** 2
    )
    near = np.abs(x) < 6e-3
    found = field[0].abs().square().numpy()
    assert np.abs(found - expected)[near].max() < 0.03 * expected.max()


@pytest.mark.parametrize("method", ["angular spectrum", "fresnel"])
def test_a_slit_nearby_follows_the_fresnel_integrals(method: str) -> None:
    """|U|² = ½ {[C(b) − C(a)]² + [S(b) − S(a)]²}, a and b the edges in units of √(λz/2)."""
    width, distance = 1e-3, 0.1
    n, pitch = 8192, 1e-6
    if method == "fresnel":
        pitch = math.sqrt(WAVELENGTH * distance / n)  # both grids alike
    aperture = slit_field(n, pitch, [0.0], width)
    propagate = angular_spectrum if method == "angular spectrum" else fresnel
    found = propagate(aperture, pitch, WAVELENGTH, distance)[0].abs().square().numpy()
    x = apertures.coordinates(n, pitch).numpy()
    unit = math.sqrt(WAVELENGTH * distance / 2)
    (s_b, c_b), (s_a, c_a) = (fresnel_integrals((edge - x) / unit) for edge in (width / 2, -width / 2))
    expected = 0.5 * ((c_b - c_a) ** 2 + (s_b - s_a) ** 2)
    near = np.abs(x) < 1e-3
    # the last oscillations, finer than the grid's band, are missing
    assert np.sqrt(np.mean((found - expected)[near] ** 2)) < 0.01


def test_behind_a_straight_edge_a_quarter_of_the_light_is_left() -> None:
    """I = ½ {[½ + C(v)]² + [½ + S(v)]²}: ¼ at the edge, 1.37 at its largest, v = 1.217."""
    n, pitch, distance = 16384, 1e-6, 0.05
    x = apertures.coordinates(n, pitch)
    # a wide opening whose other edge is far and soft
    soft = torch.sigmoid((6e-3 - x) / 3e-4).to(torch.complex128)
    edge = apertures.slits(x, pitch, one(4e-3)[None], one(8e-3)[None])
    found = angular_spectrum(edge * soft, pitch, WAVELENGTH, distance)[0].abs().square().numpy()
    v = x.numpy() * math.sqrt(2 / (WAVELENGTH * distance))
    assert abs(np.interp(0.0, v, found) - 0.25) < 0.01
    near = (v > -3) & (v < 4)
    s, c = fresnel_integrals(v)
    expected = 0.5 * ((0.5 + c) ** 2 + (0.5 + s) ** 2)
    np.testing.assert_allclose(found[near], expected[near], atol=0.02)
    assert abs(v[near][found[near].argmax()] - 1.217) < 0.03
    assert abs(found[near].max() - 1.370) < 0.02


def test_a_round_hole_far_away_is_an_airy_disc() -> None:
    n, pitch, diameter, distance = 1024, 2e-6, 200e-6, 2.0
    x = apertures.coordinates(n, pitch)
    hole = apertures.circle(x, x, pitch, torch.zeros(1, 2, dtype=torch.float64), one(diameter))
    assert abs(float(hole.sum()) * pitch**2 / (math.pi * diameter**2 / 4) - 1) < 1e-3
    field = fraunhofer(hole.to(torch.complex128), pitch, WAVELENGTH, distance)
    at = apertures.coordinates(n, output_pitch(n, pitch, WAVELENGTH, distance)).numpy()
    profile = field[0, n // 2].abs().square().numpy()
    v = np.pi * diameter * at / (WAVELENGTH * distance)
    safe = np.where(v == 0, 1, v)
    expected = np.where(v == 0, 1.0, (2 * j1(safe) / safe) ** 2)
    near = np.abs(v) < 10
    np.testing.assert_allclose((profile / profile.max())[near], expected[near], atol=2e-3)


def test_the_first_dark_ring_is_at_1_22_lambda_z_over_d() -> None:
    n, pitch, diameter, distance = 2048, 2e-6, 100e-6, 1.0
    x = apertures.coordinates(n, pitch)
    hole = apertures.circle(x, x, pitch, torch.zeros(1, 2, dtype=torch.float64), one(diameter))
    field = fraunhofer(hole.to(torch.complex64), pitch, WAVELENGTH, distance)
    at = apertures.coordinates(n, output_pitch(n, pitch, WAVELENGTH, distance)).numpy()
    amplitude = field[0, n // 2, n // 2 :].abs().numpy()
    dark = int(np.flatnonzero((amplitude[1:-1] < amplitude[:-2]) & (amplitude[1:-1] < amplitude[2:]))[0]) + 1
    # between the points of the grid the amplitude changes its sign: two straight lines meet at 0
    left, right = amplitude[dark - 1], amplitude[dark + 1]
    zero = at[n // 2 + dark] + (left - right) / (left + right) * (at[1] - at[0])
    assert abs(zero / (1.2197 * WAVELENGTH * distance / diameter) - 1) < 0.01


def test_a_grating_is_its_own_image_at_the_talbot_distance() -> None:
    """At 2 Λ²/λ; half way the image is shifted by half a period, half way to there the light is even."""
    period, pitch = 128e-6, 2e-6
    n = 64 * 16
    x = apertures.coordinates(n, pitch)
    middles = torch.arange(-n * pitch / 2, n * pitch / 2 + period, period, dtype=torch.float64)[None]
    grating = apertures.slits(x, pitch, middles, torch.full_like(middles, period / 2))
    talbot = 2 * period**2 / WAVELENGTH
    field = grating.to(torch.complex128)
    image = angular_spectrum(field, pitch, WAVELENGTH, talbot, band_limit=False).abs().square()
    shifted = angular_spectrum(field, pitch, WAVELENGTH, talbot / 2, band_limit=False).abs().square()
    quarter = angular_spectrum(field, pitch, WAVELENGTH, talbot / 4, band_limit=False).abs().square()

    def alike(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])

    assert alike(image, grating) > 0.98
    assert alike(shifted, grating.roll(32, -1)) > 0.98
    assert alike(shifted, grating) < -0.98
    assert abs(alike(quarter, grating)) < 0.1


@pytest.mark.parametrize("axes", [1, 2])
def test_a_gaussian_beam_spreads(axes: int) -> None:
    """w(z) = w₀ √(1 + (z/z_R)²), z_R = π w₀²/λ, and the phase on the axis is Gouy's."""
    n, pitch, waist = 512, 10e-6, 150e-6
    rayleigh = math.pi * waist**2 / WAVELENGTH
    x = apertures.coordinates(n, pitch)
    line = torch.exp(-(x**2) / waist**2)
    beam = line[None] if axes == 1 else line[None, :, None] * line[None, None, :]
    for distance in (0.5 * rayleigh, 2 * rayleigh):
        found = angular_spectrum(beam.to(torch.complex128), pitch, WAVELENGTH, distance)[0]
        profile = found if axes == 1 else found[n // 2]
        width = waist * math.sqrt(1 + (distance / rayleigh) ** 2)
        second = float((profile.abs() ** 2 * x**2).sum() / (profile.abs() ** 2).sum())  # of e^{−2x²/w²}: w²/4
        assert abs(2 * math.sqrt(second) / width - 1) < 1e-4
        gouy = -axes / 2 * math.atan(distance / rayleigh)
        assert abs(float(profile[n // 2].angle()) - gouy) < 1e-3


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(300e-9, 900e-9),
    st.floats(-0.2, 0.2),
    st.sampled_from([(40,), (41,), (16, 18)]),
)
def test_without_a_band_limit_no_energy_is_lost_and_the_way_back_leads_home(
    seed: int, wavelength: float, distance: float, shape: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    field = torch.randn(2, *shape, dtype=torch.complex128, generator=generator)
    away = angular_spectrum(field, 5e-6, wavelength, distance, band_limit=False)
    assert abs(energy(away, 5e-6) / energy(field, 5e-6) - 1) < 1e-10
    home = angular_spectrum(away, 5e-6, wavelength, -distance, band_limit=False)
    assert float((home - field).abs().max()) < 1e-9
    if abs(distance) > 1e-3:
        for one_transform in (fresnel, fraunhofer):
            out = one_transform(field, 5e-6, wavelength, distance)
            pitch = abs(wavelength * distance) / 5e-6
            scale = math.prod(pitch / n for n in shape)
            assert abs(float(out.abs().square().sum()) * scale / energy(field, 5e-6) - 1) < 1e-9


def test_a_band_limit_keeps_light_from_coming_back_from_the_other_side() -> None:
    """Matsushima & Shimobaba: far from a small grid the plain transfer function is aliased."""
    n, pitch, distance = 1024, 2e-6, 0.1
    small = slit_field(n, pitch, [0.0], 60e-6)
    large = slit_field(16 * n, pitch, [0.0], 60e-6)
    truth = angular_spectrum(large, pitch, WAVELENGTH, distance)[0].abs()
    part = truth[8 * n - n // 4 : 8 * n + n // 4]
    limited, plain = (
        angular_spectrum(small, pitch, WAVELENGTH, distance, band_limit=b)[0].abs()[n // 4 : 3 * n // 4]
        for b in (True, False)
    )
    assert float((limited - part).square().mean()) < 0.2 * float((plain - part).square().mean())


def test_each_field_of_a_batch_has_its_own_wavelength_and_distance() -> None:
    field = slit_field(512, 4e-6, [0.0], 200e-6)
    wavelength, distance = torch.tensor([450e-9, 650e-9]), torch.tensor([0.05, 0.1])
    together = angular_spectrum(field.expand(2, -1), 4e-6, wavelength, distance)
    for k in range(2):
        alone = angular_spectrum(field, 4e-6, wavelength[k], distance[k])
        assert torch.allclose(together[k], alone[0])


def test_single_precision_is_enough() -> None:
    field = slit_field(8192, 5e-6, [-1e-4, 1e-4], 50e-6)
    double = angular_spectrum(field, 5e-6, WAVELENGTH, 0.5).abs().square()
    single = angular_spectrum(field.to(torch.complex64), 5e-6, WAVELENGTH, 0.5).abs().square()
    assert float((single - double).abs().max()) < 1e-5 * float(double.max())


def test_what_is_no_field_is_refused() -> None:
    with pytest.raises(InputError, match="complex"):
        angular_spectrum(torch.zeros(2, 8), 1e-6, WAVELENGTH, 0.1)
    with pytest.raises(InputError, match="3 lengths for 2 fields"):
        angular_spectrum(torch.zeros(2, 8, dtype=torch.complex64), 1e-6, torch.ones(3), 0.1)
    with pytest.raises(InputError, match="pitch"):
        fresnel(torch.zeros(2, 8, dtype=torch.complex64), 0.0, WAVELENGTH, 0.1)
    with pytest.raises(InputError, match="distance of 0"):
        fraunhofer(torch.zeros(2, 8, dtype=torch.complex64), 1e-6, WAVELENGTH, 0.0)
