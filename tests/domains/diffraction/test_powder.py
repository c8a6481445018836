"""The simulator of powder patterns held against closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sciencevae.builtin.diffraction.axes import ANODES, two_theta_from_d
from sciencevae.builtin.diffraction.crystals import packaged
from sciencevae.builtin.diffraction.mixtures import draw, edges_of
from sciencevae.builtin.diffraction.powder import (
    Instrument,
    Phase,
    Specimen,
    background,
    caglioti,
    diffract,
    march_dollase,
    profile,
    render,
)
from sciencevae.builtin.diffraction.powder_settings import Powder, Scan

CU = ANODES["Cu"]
EDGES = torch.linspace(20, 60, 4001, dtype=torch.float64)
MIDDLE = (EDGES[1:] + EDGES[:-1]).numpy() / 2


def one(value):
    return torch.tensor([float(value)], dtype=torch.float64)


def device(**changed):
    given = {"zero": 0.0, "displacement": 0.0, "u": 0.0, "v": 0.0, "w": 0.01} | changed
    alpha2 = given.pop("alpha2", 0.0)
    return Instrument(**{name: one(value) for name, value in given.items()}, alpha2=alpha2)


def specimen(**changed):
    given = {"size": 1000.0, "microstrain": 0.0, "march": 1.0} | changed
    strain = torch.tensor([given.pop("strain", (0.0, 0.0, 0.0))], dtype=torch.float64)
    axis = torch.tensor([given.pop("axis", (0, 0, 1))])
    return Specimen(strain, axis=axis, **{name: one(value) for name, value in given.items()})


def pattern(name, edges=EDGES, reach=4.0, instrument=None, **changed):
    phase = Phase.of(packaged()[name], CU.alpha1, 90)
    return diffract(phase, specimen(**changed), instrument or device(), CU, edges, reach)[0].numpy()


def line(y, low, high):
    """Centre of the highest bin, and area, of what lies between two angles."""
    inside = (low < MIDDLE) & (high > MIDDLE)
    return MIDDLE[inside][y[inside].argmax()], y[inside].sum()


def width(y, low, high):
    """Full width at half maximum of the line between two angles, by interpolation."""
    inside = np.flatnonzero((low < MIDDLE) & (high > MIDDLE))
    x, h = MIDDLE[inside], y[inside] / y[inside].max()
    top = h.argmax()
    left = np.interp(0.5, h[: top + 1], x[: top + 1])
    return np.interp(-0.5, -h[top:], x[top:]) - left


def test_lines_lie_at_braggs_angles_and_keep_their_area_whatever_their_width():
    sharp, broad = pattern("Si"), pattern("Si", size=12.0, microstrain=0.003, reach=40.0)
    for d in (3.13572, 1.92023, 1.63758):  # a/√3, a/√8, a/√11
        angle = float(two_theta_from_d(d, CU.alpha1))
        assert line(sharp, angle - 1, angle + 1)[0] == pytest.approx(angle, abs=0.011)
    # all of it, the tails outside the scan left out: 2 % at these widths
    assert broad.sum() == pytest.approx(sharp.sum(), rel=0.03)
    assert broad.max() < 0.3 * sharp.max()


@settings(deadline=None, max_examples=30)
@given(st.floats(0.005, 2.0), st.floats(0.0, 1.0), st.floats(30.0, 50.0), st.integers(40, 3000))
def test_a_line_has_its_area_in_bins_of_any_width(fwhm, eta, place, bins):
    edges = torch.linspace(-2000, 2000, bins + 1, dtype=torch.float64)
    row = [torch.tensor([[value]], dtype=torch.float64) for value in (place, 7.0, fwhm, eta)]
    assert float(render(*row, edges, reach=1500.0).sum()) == pytest.approx(7.0, rel=2e-3)


def test_scherrer_and_microstrain_widths():
    """A Lorentzian of FWHM Kλ/(L cos θ) and 4ε tan θ where the instrument is much sharper."""
    sharp = device(w=1e-4)
    theta = math.asin(CU.alpha1 / 2 / 1.92023)
    angle = 2 * math.degrees(theta)
    size = math.degrees(0.9 * CU.alpha1 / (100.0 * math.cos(theta)))
    assert width(pattern("Si", instrument=sharp, size=10.0), angle - 5, angle + 5) == pytest.approx(
        size, rel=0.02
    )
    strain = math.degrees(4 * 0.01 * math.tan(theta))
    measured = width(pattern("Si", instrument=sharp, size=1e4, microstrain=0.01), angle - 5, angle + 5)
    assert measured == pytest.approx(strain, rel=0.02)


def test_the_second_line_of_the_tube_is_half_as_bright_and_where_its_wavelength_puts_it():
    edges = torch.linspace(54, 59, 5001, dtype=torch.float64)
    middle = (edges[1:] + edges[:-1]).numpy() / 2
    sharp = dict(w=4e-4)
    both = pattern("Si", edges, instrument=device(alpha2=0.5, **sharp))
    first = pattern("Si", edges, instrument=device(alpha2=0.0, **sharp))
    second = both - first
    angles = [float(two_theta_from_d(1.637577, w)) for w in CU]
    assert middle[second.argmax()] - middle[first.argmax()] == pytest.approx(angles[1] - angles[0], abs=0.003)
    assert second.sum() / first.sum() == pytest.approx(0.5, abs=0.005)


def test_zero_shift_and_displacement():
    """Δ2θ = zero − 2 s cos θ/R, in degrees."""
    angle = float(two_theta_from_d(1.92023, CU.alpha1))
    still = line(pattern("Si"), angle - 1, angle + 1)[0]
    shifted = line(pattern("Si", instrument=device(zero=0.3)), angle - 1, angle + 1)[0]
    assert shifted - still == pytest.approx(0.3, abs=0.011)
    displaced = line(pattern("Si", instrument=device(displacement=1.0)), angle - 1, angle + 1)[0]
    expected = -math.degrees(2 * 1.0 * math.cos(math.radians(angle / 2)) / 240)
    assert displaced - still == pytest.approx(expected, abs=0.011)


def test_strain_moves_lines_as_the_cell_and_what_is_tied_moves_together():
    angle = float(two_theta_from_d(1.92023 * 1.01, CU.alpha1))
    assert line(pattern("Si", strain=(0.01, 9.0, 9.0)), angle - 1, angle + 1)[0] == pytest.approx(
        angle, abs=0.011
    )
    ties = {name: Phase.of(packaged()[name], CU.alpha1, 60).ties for name in ("Si", "ZnO", "rutile")}
    assert ties == {"Si": (0, 0, 0), "ZnO": (0, 0, 2), "rutile": (0, 0, 2)}


@given(st.floats(0.2, 5.0))
def test_texture_moves_intensity_between_directions_and_makes_none(r):
    """The mean of March–Dollase over the sphere is 1."""
    cosine = torch.linspace(0, 1, 20001, dtype=torch.float64)
    mean = torch.trapezoid(march_dollase(cosine**2, torch.tensor(r, dtype=torch.float64)), cosine)
    assert float(mean) == pytest.approx(1.0, rel=1e-3)


def test_texture_of_plates_makes_their_faces_bright():
    """(002) of ZnO with plates along c, r = 0.5: r⁻³ = 8; (100), at right angles, r^{3/2}."""
    plain, plates = pattern("ZnO"), pattern("ZnO", march=0.5, axis=(0, 0, 1))
    face = line(plates, 34.2, 34.65)[1] / line(plain, 34.2, 34.65)[1]
    edge = line(plates, 31.5, 32.0)[1] / line(plain, 31.5, 32.0)[1]
    assert face == pytest.approx(8.0, rel=0.06)  # the foot of (101) is in it
    assert edge == pytest.approx(0.5**1.5, rel=0.03)


def test_pseudo_voigt_is_a_gaussian_or_a_lorentzian_at_its_ends_and_near_a_voigt_between():
    from scipy.special import voigt_profile

    for gauss, lorentz in ((0.2, 0.0), (0.0, 0.2), (0.1, 0.1), (0.1, 0.3)):
        fwhm, eta = (float(v) for v in profile(one(gauss), one(lorentz)))
        x = np.linspace(0, 1, 2001)
        y = voigt_profile(x, gauss / (2 * math.sqrt(2 * math.log(2))), lorentz / 2)
        half = np.interp(-0.5, -y / y[0], x)
        assert fwhm == pytest.approx(2 * half, rel=0.005)
        assert -1e-9 <= eta <= 1 + 1e-4


def test_caglioti_and_background():
    angle = torch.tensor([[60.0]])
    tangent = math.tan(math.radians(30))
    found = caglioti(angle, one(0.02), one(-0.01), one(0.015))
    assert float(found) == pytest.approx(0.02 * tangent**2 - 0.01 * tangent + 0.015)
    x = torch.linspace(10, 80, 701, dtype=torch.float64)
    coefficients = torch.tensor([[3.0, 1.0, 0.5]], dtype=torch.float64)
    made = background(coefficients, torch.tensor([[0.0, 20.0, 5.0]]), one(0.0), x)[0]
    unit = 2 * (x - 10) / 70 - 1
    assert torch.allclose(made, 3 + unit + 0.5 * (2 * unit**2 - 1), atol=1e-6)
    hump = background(coefficients * 0, torch.tensor([[2.0, 25.0, 5.0]]), one(0.0), x)[0]
    assert float(x[hump.argmax()]) == pytest.approx(25.0)
    assert float(hump.max()) == pytest.approx(2.0)


SMALL = Powder(scan=Scan(start=20, stop=60, bins=400), phases=["Si", "MgO"])


def test_mixtures_are_sums_by_weight():
    """Two parts of one phase to one of another: the areas of lone lines stand as w/(M V) · |F|² · LP."""
    still = {
        "strain": (0.0, 0.0), "zero": (0.0, 0.0), "displacement_mm": (0.0, 0.0), "march": (1.0, 1.0),
        "size_nm": (100.0, 100.0), "microstrain": (0.0, 0.0), "fwhm": (0.1, 0.1), "background": (1e-9, 1e-9),
    }  # fmt: skip
    source = SMALL.model_copy(update=still)
    crystals = [packaged()[name] for name in ("Si", "MgO")]
    made = draw(source, crystals, 3, 0, [[0], [1], [0, 1]])
    middle = (edges_of(source)[1:] + edges_of(source)[:-1]) / 2
    silicon, oxide = (abs(middle - a) < 1.5 for a in (28.44, 42.92))
    single = [Phase.of(c, CU.alpha1, 62) for c in crystals]
    areas = [
        diffract(p, specimen(size=100.0), device(alpha2=0.5), CU, torch.as_tensor(edges_of(source)))[
            0
        ].numpy()
        for p in single
    ]
    ratio = areas[0][silicon].sum() / areas[1][oxide].sum()
    w = made.fraction[2]
    measured = made.rate[2][silicon].sum() / made.rate[2][oxide].sum()
    assert measured == pytest.approx(ratio * w[0] / w[1], rel=0.02)
    assert w.sum() == pytest.approx(1.0)


def test_random_patterns_are_reproducible_and_within_what_is_asked():
    crystals = [packaged()[name] for name in ("Si", "MgO", "ZnO")]
    first, again, other = (draw(SMALL, crystals, 40, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.rate, again.rate)
    assert not np.array_equal(first.rate, other.rate)
    number = (first.fraction > 0).sum(1)
    assert number.min() >= 1
    assert number.max() <= SMALL.most_phases
    present = first.fraction[first.fraction > 0]
    assert present.min() >= SMALL.least_fraction - 1e-9
    assert np.isfinite(first.rate).all()
    assert (first.rate >= 0).all()
    assert first.rate.max() <= SMALL.peak_counts[1] * 20
