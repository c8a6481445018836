"""Crystal structures and their reflections: d, the families of equivalent planes, and |F|².

A file of the user (.cif) is read by gemmi (MPL-2.0), of the extra ``crystals``; the structures that come with the
package (``structures.yaml``) need nothing more than numpy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sciencevae.errors import InputError, did_you_mean

from .axes import d_from_two_theta

__all__ = ["Crystal", "Reflections", "formula", "packaged", "read_cif", "reciprocal", "reflections"]

_CENTRINGS: dict[str, list[tuple[float, float, float]]] = {
    "P": [(0, 0, 0)],
    "I": [(0, 0, 0), (0.5, 0.5, 0.5)],
    "F": [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)],
    "R": [(0, 0, 0), (2 / 3, 1 / 3, 1 / 3), (1 / 3, 2 / 3, 2 / 3)],
}
_SAME_PLACE = 1e-4  # fractional
_LARGEST = 4000  # atoms in a cell


@dataclass(frozen=True)
class Crystal:
    """All atoms of one unit cell.

    cell: (a, b, c, α, β, γ), Å and degrees; elements (N,) symbols; positions (N, 3) fractional; occupancy (N,)
    """

    name: str
    cell: tuple[float, ...]
    elements: tuple[str, ...]
    positions: np.ndarray
    occupancy: np.ndarray

    @property
    def volume(self) -> float:
        """Of the cell, in Å³."""
        return float(1 / np.sqrt(np.linalg.det(reciprocal(np.array(self.cell)))))

    @property
    def mass(self) -> float:
        """Of the atoms in the cell, in u."""
        table = _scattering()
        return float(sum(n * table[e][0] for e, n in zip(self.elements, self.occupancy, strict=True)))


def formula(name: str) -> str:
    """What a structure's name says of its composition: of "TiO2_136", a formula with its space group, "TiO2"."""
    return re.sub(r"_\d+$", "", name)


@dataclass(frozen=True)
class Reflections:
    """Families of planes with one d, strongest first the families do not come: they go with falling d.

    hkl (R, 3) of one member; d (R,) Å; multiplicity (R,); f2 (R,) Σ |F|² over the members, electrons²
    members (M, 3) hkl of all members but for their opposites, family (M,) their family, share (M,) of its f2
    """

    hkl: np.ndarray
    d: np.ndarray
    multiplicity: np.ndarray
    f2: np.ndarray
    members: np.ndarray
    family: np.ndarray
    share: np.ndarray


def reciprocal(cell: np.ndarray) -> np.ndarray:
    """The reciprocal metric tensor G* (…, 3, 3) of cells (…, 6), so that 1/d² = hᵀ G* h, in Å⁻²."""
    a, cosines = cell[..., :3], np.cos(np.radians(cell[..., 3:]))
    pairs = {(0, 1): 2, (0, 2): 1, (1, 2): 0}
    metric = np.zeros((*cell.shape[:-1], 3, 3))
    for i in range(3):
        metric[..., i, i] = a[..., i] ** 2
    for (i, j), angle in pairs.items():
        metric[..., i, j] = metric[..., j, i] = a[..., i] * a[..., j] * cosines[..., angle]
    return np.linalg.inv(metric)


def reflections(
    crystal: Crystal, wavelength: float, two_theta_max: float, b_iso: float = 0.5, least: float = 1e-4
) -> Reflections:
    """The families of planes that reflect at or below 2θ_max (degrees).

    F(hkl) = Σ_j n_j f_j(s) exp(−B s²) exp(2πi h·x_j),  s = sin θ/λ = 1/(2d)
    f_j(s) = Σ_i a_i exp(−b_i s²) + c  (Cromer & Mann; International Tables C, 1992, table 6.1.1.4)

    Neutral atoms, one isotropic displacement B for all of them (b_iso, Å²), no anomalous dispersion: relative
    intensities of strongly absorbing elements are some per cent off. Families weaker than ``least`` of the
    strongest, Lorentz-polarisation included, are left out.
    """
    d_min = float(d_from_two_theta(two_theta_max, wavelength))
    metric = reciprocal(np.array(crystal.cell))
    reach = np.floor(np.array(crystal.cell[:3]) / d_min).astype(int)
    index = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1).reshape(-1, 3)
    # of hkl and its opposite, one: they have one |F|²
    first = index[np.arange(len(index)), (index != 0).argmax(1)]
    index = index[first > 0]
    inverse = np.einsum("ni,ij,nj->n", index, metric, index)
    kept = inverse <= 1 / d_min**2
    index, inverse = index[kept], inverse[kept]
    order = np.lexsort((*index.T, inverse))
    index, inverse = index[order], inverse[order]
    f2 = 2 * np.abs(_structure_factor(crystal, index, inverse / 4, b_iso)) ** 2
    starts = np.diff(inverse, prepend=0.0) > 1e-6 * inverse
    family = np.cumsum(starts) - 1
    total = np.bincount(family, f2)
    d = 1 / np.sqrt(inverse[starts])
    sine = wavelength / (2 * d)
    # the slowly varying part of the Lorentz-polarisation factor is enough to say which lines are lost
    seen = total / (sine**2)
    strong = np.flatnonzero(seen > least * seen.max())
    new = np.full(len(total), -1)
    new[strong] = np.arange(len(strong))
    of = new[family]
    index, f2, of = index[of >= 0], f2[of >= 0], of[of >= 0]
    heads = np.flatnonzero(np.diff(of, prepend=-1))
    # members that equal d alone brought together, as absent ones, carry no share
    counts = np.bincount(of, 2.0 * (f2 > 1e-9 * total[strong][of]))
    return Reflections(
        hkl=index[heads],
        d=d[strong],
        multiplicity=counts.astype(int),
        f2=total[strong],
        members=index,
        family=of,
        share=f2 / total[strong][of],
    )


def _structure_factor(crystal: Crystal, index: np.ndarray, s2: np.ndarray, b_iso: float) -> np.ndarray:
    """F (M,) of hkl (M, 3) at s² (M,)."""
    table = _scattering()
    total = np.zeros(len(index), complex)
    names = np.array(crystal.elements)
    for element in dict.fromkeys(crystal.elements):
        _, a, b, c = table[element]
        form = (a * np.exp(-b * s2[:, None])).sum(1) + c
        own = names == element
        phase = np.exp(2j * np.pi * index @ crystal.positions[own].T)  # (M, N)
        total += form * (phase @ crystal.occupancy[own])
    return total * np.exp(-b_iso * s2)


@cache
def _scattering() -> dict[str, tuple[float, np.ndarray, np.ndarray, float]]:
    """element -> mass in u, and a (4,), b (4,) in Å², c of its form factor."""
    lines = (Path(__file__).parent / "scattering.csv").read_text().splitlines()[1:]
    found = {}
    for line in lines:
        name, *numbers = line.split(",")
        mass, *rest = map(float, numbers)
        found[name] = (mass, np.array(rest[:4]), np.array(rest[4:8]), rest[8])
    return found


@cache
def packaged() -> dict[str, Crystal]:
    """The structures that come with the package, by name.

    >>> packaged()["Si"].elements
    ('Si', 'Si', 'Si', 'Si', 'Si', 'Si', 'Si', 'Si')
    """
    from sciencevae.config import read_yaml

    plain: Any = read_yaml(Path(__file__).parent / "structures.yaml")
    found = {}
    for name, given in plain["structures"].items():
        elements: list[str] = []
        positions: list[np.ndarray] = []
        for site in given["sites"]:
            ((element, place),) = site.items()
            start = np.array([float(Fraction(str(number))) for number in place])
            orbit = _orbit(start, given["generators"], given["centring"])
            elements += [element] * len(orbit)
            positions += orbit
        cell = tuple(float(number) for number in given["cell"])
        found[name] = Crystal(name, cell, tuple(elements), np.array(positions), np.ones(len(elements)))
    return found


def _orbit(start: np.ndarray, generators: list[str], centring: str) -> list[np.ndarray]:
    """All places in the cell that the generators and the centring bring a site to."""
    moves = [_triplet(text) for text in generators]
    moves += [(np.eye(3), np.array(shift, float)) for shift in _CENTRINGS[centring][1:]]
    orbit = [start % 1]
    for place in orbit:  # grows while it is gone through
        for rotation, shift in moves:
            image = (rotation @ place + shift) % 1
            gap = np.abs(np.array(orbit) - image)
            if np.minimum(gap, 1 - gap).max(1).min() > _SAME_PLACE:
                orbit.append(image)
    return orbit


def _triplet(text: str) -> tuple[np.ndarray, np.ndarray]:
    """A coordinate triplet as rotation (3, 3) and shift (3,): "-y,x-y,z+2/3"."""
    rotation, shift = np.zeros((3, 3)), np.zeros(3)
    for row, part in enumerate(text.split(",")):
        for term in part.replace("-", "+-").split("+"):
            letter, sign = term.lstrip("-"), -1.0 if term.startswith("-") else 1.0
            if letter in ("x", "y", "z"):
                rotation[row, "xyz".index(letter)] += sign
            elif letter:
                shift[row] += sign * float(Fraction(letter))
    return rotation, shift


def read_cif(path: Path) -> Crystal:
    """The structure in a CIF, its name that of the file.

    Raises InputError: no atoms, no cell, an element without a form factor, a cell too large for a powder.
    """
    try:
        import gemmi
    except ImportError as error:
        raise InputError("reading .cif files needs gemmi: pip install 'sciencevae[crystals]'") from error
    try:
        structure = gemmi.read_small_structure(str(path))
    except Exception as error:  # gemmi raises ValueError, RuntimeError and OSError alike
        raise InputError(f"{path} cannot be read as a CIF: {error}") from error
    sites = structure.get_all_unit_cell_sites()
    if not sites or structure.cell.volume <= 1:
        raise InputError(
            f"{path} holds {'no atoms' if not sites else 'no unit cell'}: a CIF of a structure has "
            "_cell_length_a … and a loop of _atom_site_fract_x …"
        )
    if len(sites) > _LARGEST:
        raise InputError(
            f"{path}: {len(sites)} atoms in the cell; a powder pattern is made of up to {_LARGEST}"
        )
    table = _scattering()
    elements = tuple(site.element.name for site in sites)
    for element in dict.fromkeys(elements):
        if element not in table:
            raise InputError(
                f"{path}: no form factor of the element {element!r}{did_you_mean(element, table)}"
            )
    cell = structure.cell
    return Crystal(
        name=Path(path).stem,
        cell=(cell.a, cell.b, cell.c, cell.alpha, cell.beta, cell.gamma),
        elements=elements,
        positions=np.array([site.fract.tolist() for site in sites]) % 1,
        occupancy=np.array([site.occ for site in sites]),
    )
