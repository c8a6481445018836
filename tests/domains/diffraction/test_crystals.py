"""Crystal structures held against certificates, tables, and gemmi."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sciencevae.builtin.diffraction.axes import (
    ANODES,
    check_two_theta,
    d_from_q,
    d_from_two_theta,
    q_from_two_theta,
    rewavelength,
    two_theta_from_d,
    two_theta_from_q,
)
from sciencevae.builtin.diffraction.crystals import packaged, read_cif, reflections

from sciencevae.errors import InputError

CU = ANODES["Cu"].alpha1


@settings(deadline=None)
@given(st.floats(1.0, 170.0), st.sampled_from(sorted(ANODES)))
def test_axes_come_back(angle, tube):
    wavelength = ANODES[tube].mean
    d, q = d_from_two_theta(angle, wavelength), q_from_two_theta(angle, wavelength)
    assert two_theta_from_d(d, wavelength) == pytest.approx(angle)
    assert two_theta_from_q(q, wavelength) == pytest.approx(angle)
    assert d_from_q(q) == pytest.approx(d)


def test_lines_lie_elsewhere_at_another_wavelength():
    """d of Si (111) is its own: 28.44° with copper, 33.15° with cobalt; and Bragg's law has an end."""
    at_cobalt = rewavelength(np.array([28.4422]), CU, ANODES["Co"].alpha1)
    assert at_cobalt[0] == pytest.approx(33.16, abs=0.01)
    assert np.isnan(rewavelength(np.array([150.0]), CU, ANODES["Cr"].alpha1)[0])


def test_angles_that_are_none_are_refused():
    check_two_theta(np.array([10.0, 10.1]), "f")
    for angles, message in (
        ([10.0, 10.0], "repeated at point 2"),
        ([10.0, 9.0], "not rising at point 2"),
        ([10.0, 190.0], "degrees, below 180"),
        ([10.0, np.nan], "point 2"),
        ([10.0], "at least 2"),
    ):
        with pytest.raises(InputError, match=message):
            check_two_theta(np.array(angles), "f")


# NIST certificates of SRM 640 (silicon; batches differ by 10⁻⁵) and 660 (LaB6), 2θ at Cu Kα₁ = 1.5405929 Å
CERTIFIED = {
    "Si": [28.441, 47.300, 56.120, 69.126, 76.372, 88.025, 94.946, 106.701, 114.084, 127.534, 136.880],
    "LaB6": [21.358, 30.385, 37.442, 43.507, 48.958, 53.989, 63.219, 67.548, 71.746, 75.845, 79.871],
}


@pytest.mark.parametrize("name", CERTIFIED)
def test_lines_lie_where_the_certificate_says(name):
    angles = two_theta_from_d(reflections(packaged()[name], CU, 140).d, CU)
    certified = np.array(CERTIFIED[name])
    assert np.abs(angles[: len(certified)] - certified).max() < 0.004


def bright(name, stop=100):
    """{|hkl| sorted: relative intensity, percent} of a packaged structure, without thermal motion."""
    found = reflections(packaged()[name], CU, stop)
    angle = np.radians(two_theta_from_d(found.d, CU))
    lorentz = (1 + np.cos(angle) ** 2) / (np.sin(angle / 2) ** 2 * np.cos(angle / 2))
    intensity = found.f2 * lorentz
    keys = ["".join(map(str, sorted(np.abs(hkl), reverse=True))) for hkl in found.hkl]
    return dict(zip(keys, 100 * intensity / intensity.max(), strict=True))


def test_intensities_are_near_those_of_the_cards():
    """Powder Diffraction File 5-628 (NaCl) and 27-1402 (Si): measured peak heights, which fall with the angle."""
    salt = bright("NaCl")
    for line, height in {"111": 13, "200": 100, "220": 55, "222": 15}.items():
        assert salt[line] == pytest.approx(height, abs=10)
    silicon = bright("Si")
    for line, height in {"111": 100, "220": 55, "311": 30, "400": 6, "331": 11, "422": 12}.items():
        assert silicon[line] == pytest.approx(height, abs=10)
    assert "200" not in silicon  # extinct in the diamond structure
    assert "222" not in silicon or silicon["222"] < 0.1


def test_multiplicities_are_those_of_the_point_group():
    """m-3m: {100} 6, {110} 12, {111} 8, {210} 24; the two families of one d add up."""
    found = reflections(packaged()["LaB6"], CU, 70)
    assert found.multiplicity.tolist() == [6, 12, 8, 6, 24, 24, 12, 30]


@pytest.mark.parametrize(
    ("name", "group", "bond"),
    [
        ("Al2O3", "R -3 c :H", ("Al", "O", 1.855)),
        ("CaCO3", "R -3 c :H", ("C", "O", 1.281)),
        ("SiO2", "P 32 2 1", ("Si", "O", 1.605)),
        ("rutile", "P 42/m n m", ("Ti", "O", 1.948)),
        ("anatase", "I 41/a m d :1", ("Ti", "O", 1.934)),
        ("ZnO", "P 63 m c", ("Zn", "O", 1.974)),
        ("Fe3O4", "F d -3 m :2", ("Fe", "O", 1.888)),
        ("LaB6", "P m -3 m", ("B", "B", 1.66)),
        ("Si", "F d -3 m :1", ("Si", "Si", 2.352)),
    ],
)
def test_orbits_are_those_of_the_space_group(name, group, bond):
    """Every operation that gemmi has for the group maps the atoms onto themselves; and bonds have their length."""
    gemmi = pytest.importorskip("gemmi")
    crystal = packaged()[name]
    cell = gemmi.UnitCell(*crystal.cell)
    atoms = [gemmi.Fractional(*place) for place in crystal.positions]
    for operation in gemmi.SpaceGroup(group).operations():
        for element, place in zip(crystal.elements, atoms, strict=True):
            image = np.array(operation.apply_to_xyz(place.tolist()))
            own = crystal.positions[np.array(crystal.elements) == element]
            gap = np.abs(image - own) % 1
            assert np.minimum(gap, 1 - gap).max(1).min() < 2e-4
    first, second, length = bond
    pairs = [
        cell.find_nearest_image(cell.orthogonalize(a), cell.orthogonalize(b)).dist()
        for a, e in zip(atoms, crystal.elements, strict=True)
        for b, f in zip(atoms, crystal.elements, strict=True)
        if (e, f) == (first, second) and a is not b
    ]
    assert min(pairs) == pytest.approx(length, abs=0.02)


CIF = """data_test
_cell_length_a 4.5937
_cell_length_b 4.5937
_cell_length_c 2.9587
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 42/m n m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Ti1 Ti 0 0 0 1
O1 O 0.30479 0.30479 0 1
"""


def test_structure_factors_are_those_of_gemmi(tmp_path):
    gemmi = pytest.importorskip("gemmi")
    path = tmp_path / "TiO2_136.cif"
    path.write_text(CIF)
    crystal = read_cif(path)
    assert crystal.name == "TiO2_136"
    assert len(crystal.elements) == 6
    assert crystal.mass == pytest.approx(2 * 79.866, abs=0.01)
    small = gemmi.read_small_structure(str(path))
    small.change_occupancies_to_crystallographic()  # an atom on an axis is one, not one for each turn
    sum_of = gemmi.StructureFactorCalculatorX(small.cell)
    found = reflections(crystal, CU, 90, b_iso=0.0)
    for k, d in enumerate(found.d):
        members = found.members[found.family == k]
        expected = sum(
            2 * abs(sum_of.calculate_sf_from_small_structure(small, hkl.tolist())) ** 2 for hkl in members
        )
        assert found.f2[k] == pytest.approx(expected, rel=1e-3), d
    packed = reflections(packaged()["rutile"], CU, 90, b_iso=0.0)
    assert np.allclose(packed.d, found.d)
    assert np.allclose(packed.f2, found.f2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a CIF|no atoms|no unit cell"),
        (CIF.split("loop_")[0], "no atoms"),
        (CIF.replace("Ti1 Ti", "D1 X"), "no form factor"),
        (CIF.split("loop_")[0].replace("4.5937", "a"), "no atoms|cannot be read"),
    ],
)
def test_bad_structures_are_refused(tmp_path, text, message):
    pytest.importorskip("gemmi")
    path = tmp_path / "bad.cif"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_cif(path)


def test_without_gemmi_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "gemmi", None)
    with pytest.raises(InputError, match=r"sciencevae\[crystals\]"):
        read_cif(Path(tmp_path) / "a.cif")
