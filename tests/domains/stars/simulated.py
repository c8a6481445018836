"""A small simulated catalogue in hip2.dat's fixed-width format: a field, and a cluster with one space velocity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sciencevae.builtin.stars import kinematics

CENTRE = (66.73, 15.87)
VELOCITY = np.array([-6.0, 45.6, 5.4])  # km/s
DISTANCE_PC = 46.0


@dataclass(frozen=True)
class Catalogue:
    """ra, dec deg · y (N, 3) = (ϖ, μα*, μδ) as measured · errors (N, 3) · colour, magnitude · member (N,)."""

    ra: np.ndarray
    dec: np.ndarray
    y: np.ndarray
    errors: np.ndarray
    colour: np.ndarray
    magnitude: np.ndarray
    member: np.ndarray

    @property
    def identifiers(self) -> np.ndarray:
        return np.arange(1, len(self.ra) + 1)


def simulate(members: int = 80, field: int = 800, radius: float = 15.0, seed: int = 0) -> Catalogue:
    """Members in a Gaussian ball of 4 pc with a dispersion of 0.3 km/s; field stars of the solar neighbourhood."""
    random = np.random.default_rng(seed)
    centre = kinematics.directions(*map(np.array, CENTRE))
    ball = DISTANCE_PC * centre + 4.0 * random.normal(size=(members, 3))
    distance = np.linalg.norm(ball, axis=1)
    direction = ball / distance[:, None]
    velocity = VELOCITY + 0.3 * random.normal(size=(members, 3))

    height = 1 - random.uniform(0, 1 - np.cos(np.radians(radius)), field)
    angle = random.uniform(0, 2 * np.pi, field)
    basis = kinematics.tangent_basis(centre)
    across = np.sqrt(1 - height**2)[:, None] * (
        np.cos(angle)[:, None] * basis[0] + np.sin(angle)[:, None] * basis[1]
    )
    away = 400 * random.uniform(0.02, 1, field) ** (1 / 2)
    direction = np.concatenate([direction, height[:, None] * centre + across])
    velocity = np.concatenate([velocity, [-10, -15, -8] + random.normal(size=(field, 3)) * [35, 25, 20]])
    parallax = 1000 / np.concatenate([distance, away])

    truth = np.concatenate(
        [parallax[:, None], kinematics.proper_motion(velocity, direction, parallax)], axis=1
    )
    errors = random.uniform(0.5, 1.5, (len(truth), 3))
    ra, dec = kinematics.sky_position(direction)
    colour = random.uniform(0.2, 1.4, len(truth))
    return Catalogue(
        ra=ra,
        dec=dec,
        y=truth + errors * random.normal(size=truth.shape),
        errors=errors,
        colour=colour,
        magnitude=1.0 + 5.5 * colour - 5 * np.log10(parallax / 100),
        member=np.arange(len(truth)) < members,
    )


def write_hip2(catalogue: Catalogue, path: Path) -> Path:
    """The catalogue as hip2.dat: 41 fields in 276 characters, positions in radians, no correlations."""
    weights = [1.0 if row == column else 0.0 for column in range(5) for row in range(column + 1)]
    tail = "".join(f"{value:7.2f}" for value in weights)
    lines = []
    for i, hip in enumerate(catalogue.identifiers):
        plx, pmra, pmdec = catalogue.y[i]
        e_plx, e_pmra, e_pmdec = catalogue.errors[i]
        lines.append(
            f"{hip:6d}   5 0 1 {np.radians(catalogue.ra[i]):13.10f} {np.radians(catalogue.dec[i]):13.10f} "
            f"{plx:7.2f} {pmra:8.2f} {pmdec:8.2f} {0.8:6.2f} {0.6:6.2f} {e_plx:6.2f} {e_pmra:6.2f} {e_pmdec:6.2f} "
            f"100 {0.5:5.2f}  0 {0.0:6.1f}   0 {catalogue.magnitude[i]:7.4f} 0.0010 0.010 0 "
            f"{catalogue.colour[i]:6.3f} {0.01:5.3f} {catalogue.colour[i]:6.3f}{tail}"
        )
    path.write_text("\n".join(lines) + "\n")
    return path
