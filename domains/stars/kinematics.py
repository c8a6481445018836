"""Motions of stars on the sky and in space: frames, tangential velocity, perspective, convergent point.

One frame inside: ICRS Cartesian, x towards RA 0°, z towards the north pole. Angles in degrees, parallax ϖ in
mas, proper motion (μα* = μα cos δ, μδ) in mas/yr, velocity in km/s. With ê and n̂ the unit vectors towards east
and north at the star's direction r̂, a star of space velocity V moves by

    μ = ϖ/κ · (ê·V, n̂·V),     κ = 4.74047 km/s · yr  (1 au a year)

so stars that share V do *not* share μ: their proper motions point at the convergent point V/|V| and change
from star to star. What they share is V. Reference: van Leeuwen 2009, A&A 497, 209, sect. 2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = [
    "KAPPA",
    "ConvergentPoint",
    "Velocity",
    "azimuthal",
    "common_velocity",
    "convergent_point",
    "convergent_point_of",
    "directions",
    "from_azimuthal",
    "perspective_residual",
    "propagate",
    "propagate_covariance",
    "proper_motion",
    "separation",
    "sky_position",
    "space_tangential",
    "speed_along",
    "tangent_basis",
    "tangential_velocity",
    "transverse",
]

#: au per year in km/s (IAU 2012 au, Julian year): 149597870.7 km / 31557600 s
KAPPA = 149597870.7 / 31557600.0


class Velocity(NamedTuple):
    """value (3,) km/s, ICRS Cartesian · covariance (3, 3)."""

    value: np.ndarray
    covariance: np.ndarray


class ConvergentPoint(NamedTuple):
    """ra, dec in degrees · covariance (2, 2) of (ra cos dec, dec), degrees²."""

    ra: float
    dec: float
    covariance: np.ndarray


def directions(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Unit vectors r̂ (N, 3) of right ascension and declination in degrees."""
    a, d = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)


def sky_position(vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension in [0, 360) and declination, degrees, of vectors (..., 3) of any length."""
    x, y, z = np.moveaxis(np.asarray(vector, float), -1, 0)
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def tangent_basis(direction: np.ndarray) -> np.ndarray:
    """A (N, 2, 3): the unit vectors ê (east) and n̂ (north) at r̂ (N, 3); at a pole east is that of RA 0."""
    r = np.asarray(direction, float)
    x, y = r[..., 0], r[..., 1]
    flat = np.hypot(x, y)
    at_pole = flat < 1e-15
    length = np.where(at_pole, 1.0, flat)
    east = np.stack([-y / length, np.where(at_pole, 1.0, x / length), np.zeros_like(x)], axis=-1)
    return np.stack([east, np.cross(r, east)], axis=-2)


def separation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The angle between unit vectors (..., 3), degrees; exact for small and large angles."""
    cross = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.degrees(np.arctan2(cross, (np.asarray(first) * second).sum(-1)))


def azimuthal(direction: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Offsets (N, 2) towards east and north of ``centre`` (3,), degrees, in Lambert's equal-area projection.

    A field uniform on the sphere stays uniform, out to the whole sky (but the antipode): ρ = 2 sin(θ/2).
    """
    across = direction @ tangent_basis(centre).T  # (N, 2) = sin θ · (sin, cos) of the position angle
    cosine = np.clip(direction @ centre, -1 + 1e-12, 1.0)
    return np.degrees(across * np.sqrt(2.0 / (1.0 + cosine))[..., None])


def from_azimuthal(offsets: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The inverse of ``azimuthal``: unit vectors (..., 3) of offsets (..., 2) in degrees, up to 2 rad."""
    plane = np.radians(offsets)
    rho2 = np.minimum((plane**2).sum(-1, keepdims=True), 4.0)
    return (1 - rho2 / 2) * centre + np.sqrt(1 - rho2 / 4) * (plane @ tangent_basis(centre))


def propagate(
    direction: np.ndarray,
    parallax: np.ndarray,
    pm: np.ndarray,
    radial_velocity: np.ndarray,
    years: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """r̂ (N, 3), ϖ (N,), μ (N, 2) of stars that move uniformly in space, ``years`` Julian years (N,) later.

    With μ⃗ = μα* ê + μδ n̂, μ_r = ϖ v_r/κ and f = 1/|r̂ (1 + μ_r t) + μ⃗ t|:

        r̂' = f (r̂ (1 + μ_r t) + μ⃗ t),   ϖ' = f ϖ,   μ⃗' = f³ (μ⃗ (1 + μ_r t) − r̂ |μ⃗|² t)

    radial_velocity: km/s, (N,). No light-travel time. The Hipparcos Catalogue (ESA SP-1200), vol. 1, sect.
    1.5.5; Butkevich & Lindegren 2014, A&A 570, A62, sect. 3.
    """
    motion = space_tangential(direction, np.radians(np.asarray(pm) / 3.6e6))  # rad/yr
    radial = np.radians(np.asarray(parallax) * radial_velocity / KAPPA / 3.6e6)
    t = np.asarray(years, float)[:, None]
    stretched = 1 + radial[:, None] * t
    path = direction * stretched + motion * t
    f = 1 / np.linalg.norm(path, axis=1, keepdims=True)
    later = f * path
    turned = f**3 * (motion * stretched - direction * (motion**2).sum(1, keepdims=True) * t)
    moved = np.degrees(np.einsum("nki,ni->nk", tangent_basis(later), turned)) * 3.6e6
    return later, np.asarray(parallax) * f[:, 0], moved


def propagate_covariance(
    covariance: np.ndarray, direction: np.ndarray, later: np.ndarray, years: np.ndarray
) -> np.ndarray:
    """C' = J C Jᵀ, (N, 5, 5) of (α*, δ, ϖ, μα*, μδ) in mas and mas/yr, of stars that went from r̂ to r̂'.

    To first order in the motion: the position takes the error of μ times t with it, and all vectors turn from
    ê, n̂ of r̂ to those of r̂'. What is left out is below ϖ v_r t/κ, 0.2 % for Barnard's star in 25 years.
    """
    turn = np.einsum("nki,nli->nkl", tangent_basis(later), tangent_basis(direction))
    jacobian = np.zeros((len(direction), 5, 5))
    jacobian[:, 2, 2] = 1
    jacobian[:, :2, :2] = jacobian[:, 3:, 3:] = turn
    jacobian[:, :2, 3:] = np.asarray(years)[:, None, None] * turn
    return jacobian @ covariance @ jacobian.transpose(0, 2, 1)


def tangential_velocity(parallax: np.ndarray, pm: np.ndarray) -> np.ndarray:
    """v = κ μ/ϖ, (N, 2) km/s towards east and north. Meaningful where ϖ is well above its error."""
    return KAPPA * np.asarray(pm) / np.asarray(parallax)[..., None]


def proper_motion(velocity: np.ndarray, direction: np.ndarray, parallax: np.ndarray) -> np.ndarray:
    """μ (N, 2) in mas/yr of stars of space velocity (3,) or (N, 3) seen at r̂ with parallax ϖ."""
    along = np.einsum("...ki,...i->...k", tangent_basis(direction), np.asarray(velocity, float))
    return np.asarray(parallax)[..., None] / KAPPA * along


def space_tangential(direction: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """A tangential velocity (N, 2) as a vector (N, 3) of the common frame: v_E ê + v_N n̂."""
    return np.einsum("...ki,...k->...i", tangent_basis(direction), velocity)


def perspective_residual(
    direction: np.ndarray, parallax: np.ndarray, pm: np.ndarray, velocity: np.ndarray
) -> np.ndarray:
    """v − (ê·V, n̂·V), (N, 2) km/s: what is left of each star's tangential velocity beside a shared V.

    Zero for every member of a cluster that moves with V, wherever on the sky it stands.
    """
    shared = np.einsum("...ki,...i->...k", tangent_basis(direction), np.asarray(velocity, float))
    return tangential_velocity(parallax, pm) - shared


def common_velocity(
    direction: np.ndarray,
    parallax: np.ndarray,
    pm: np.ndarray,
    covariance: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    scatter: float = 0.0,
) -> Velocity:
    """The space velocity V shared by stars, by generalised least squares on κ μ/ϖ = (ê·V, n̂·V).

    The radial part of V comes from perspective alone (an astrometric radial velocity), so its error grows as
    the field shrinks. covariance: (N, 3, 3) of (ϖ, μα*, μδ); scatter: internal dispersion, km/s.
    """
    basis, v = tangent_basis(direction), tangential_velocity(parallax, pm)
    count = len(v)
    if covariance is None:
        error = np.broadcast_to(np.eye(2), (count, 2, 2))
    else:
        jacobian = np.zeros((count, 2, 3))
        jacobian[:, :, 0] = -v / np.asarray(parallax)[:, None]
        jacobian[:, 0, 1] = jacobian[:, 1, 2] = KAPPA / np.asarray(parallax)
        error = jacobian @ covariance @ jacobian.transpose(0, 2, 1) + scatter**2 * np.eye(2)
    precision = np.linalg.inv(error) * (1.0 if weight is None else np.asarray(weight)[:, None, None])
    normal = np.einsum("nki,nkl,nlj->ij", basis, precision, basis)
    right = np.einsum("nki,nkl,nl->i", basis, precision, v)
    inverse = np.linalg.pinv(normal)
    return Velocity(inverse @ right, inverse)


def convergent_point_of(velocity: Velocity) -> ConvergentPoint:
    """The point of the sky that V points at, with the covariance that V's implies."""
    speed = np.linalg.norm(velocity.value)
    ra, dec = sky_position(velocity.value)
    basis = tangent_basis(velocity.value / speed)
    return ConvergentPoint(
        float(ra), float(dec), np.degrees(np.degrees(basis @ velocity.covariance @ basis.T)) / speed**2
    )


def convergent_point(
    direction: np.ndarray, pm: np.ndarray, weight: np.ndarray | None = None
) -> tuple[float, float]:
    """Where proper motions converge, from directions of motion alone (no parallax): RA, Dec in degrees.

    Each motion defines a great circle with pole r̂ × m̂; V lies on all of them, so it is the eigenvector of
    Σ w (r̂ × m̂)(r̂ × m̂)ᵀ with the smallest eigenvalue, with the sign the motions point at. Herschel's bridge;
    see Galli et al. 2012, A&A 538, A23. weight: default 1, the same for each star.
    """
    motion = space_tangential(direction, pm)
    motion = motion / np.maximum(np.linalg.norm(motion, axis=1, keepdims=True), 1e-300)
    poles = np.cross(direction, motion)
    share = np.ones(len(poles)) if weight is None else np.asarray(weight)
    _, vectors = np.linalg.eigh(np.einsum("n,ni,nj->ij", share, poles, poles))
    point = vectors[:, 0] * (np.sign((share[:, None] * motion @ vectors[:, :1]).sum()) or 1.0)
    ra, dec = sky_position(point)
    return float(ra), float(dec)


def transverse(
    direction: np.ndarray, pm: np.ndarray, ra: float, dec: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Proper motion towards a convergent point (N,), across it (N,), and the angle λ to it in degrees (N,).

    Members move along: μ∥ = ϖ |V| sin λ / κ and μ⊥ = 0.
    """
    point = directions(np.array(ra), np.array(dec))
    towards = np.einsum("nki,i->nk", tangent_basis(direction), point)  # length sin λ
    towards = towards / np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-300)
    along = (pm * towards).sum(1)
    across = pm[:, 1] * towards[:, 0] - pm[:, 0] * towards[:, 1]
    return along, across, separation(direction, point)


def speed_along(parallax: np.ndarray, along: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """|V| = κ μ∥ / (ϖ sin λ), km/s, for a star that moves towards the convergent point."""
    return KAPPA * along / (parallax * np.sin(np.radians(angle)))
