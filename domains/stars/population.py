"""Stars as they are, before anything is measured: members of a cluster, and the disc of the Galaxy.

Both are drawn at random, of any brightness, as tables with columns ra, dec (deg), parallax (mas), pmra, pmdec
(mas/yr), radial_velocity (km/s), magnitude (G), colour (BP − RP), binary, and the photocentre's wobble (mas).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from sciencevae.config import Section

from . import kinematics, sequence

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CIRCULAR_KMS",
    "DRAW",
    "SOLAR_MOTION",
    "SUN_KPC",
    "TO_GALACTIC",
    "Disc",
    "OpenCluster",
    "disc_stars",
    "disc_velocity",
    "king_fraction",
    "king_radii",
    "members",
]

DRAW = 50_000  # stars in a table, of which few are bright enough
#: ICRS to Galactic Cartesian (x to the centre, z to the north pole): ESA 1997, SP-1200, vol. 1, eq. 1.5.11
TO_GALACTIC = np.array(
    [
        [-0.0548755604, -0.8734370902, -0.4838350155],
        [+0.4941094279, -0.4448296300, +0.7469822445],
        [-0.8676661490, -0.1980763734, +0.4559837762],
    ]
)
SUN_KPC = 8.122  # distance from the Galactic centre, Gravity Collaboration 2018; in the plane
CIRCULAR_KMS = 229.0  # a flat rotation curve, Eilers et al. 2019
SOLAR_MOTION = np.array([11.1, 12.24, 7.25])  # km/s towards the centre, rotation, pole: Schönrich et al. 2010
_SCALE_LENGTH_KPC = 2.6  # of both discs: Bland-Hawthorn & Gerhard 2016
_FARTHEST_KPC = 20.0
_DUST_HEIGHT_KPC = 0.1
_REDDENING = 1.339 / 2.74  # E(BP − RP)/A_G, Casagrande & VandenBerg 2018
_BASELINE_YR = 34 / 12  # of the observations in (E)DR3
#: scale height (kpc), dispersions towards centre, rotation and pole, lag behind circular (km/s; Bensby et al. 2003)
_POPULATIONS = {
    "thin": (0.3, np.array([35.0, 20.0, 16.0]), 15.0),
    "thick": (0.9, np.array([67.0, 38.0, 35.0]), 46.0),
}


class OpenCluster(Section):
    """A cluster of one age with a King profile."""

    members: int = Field(default=100, ge=1, description="stars of it in the catalogue")
    ra: float | None = Field(default=None, ge=0, lt=360, description="of its centre, deg; none: the field's")
    dec: float | None = Field(
        default=None, ge=-90, le=90, description="of its centre, deg; none: the field's"
    )
    distance_pc: float = Field(default=1000.0, gt=0, description="of its centre")
    core_pc: float = Field(default=1.5, gt=0, description="King's core radius")
    tidal_pc: float = Field(default=10.0, gt=0, description="King's tidal radius")
    pmra: float = Field(default=-1.0, description="μα* of its centre, mas/yr")
    pmdec: float = Field(default=-2.0, description="μδ of its centre, mas/yr")
    radial_velocity: float = Field(default=0.0, description="of its centre, km/s")
    dispersion_kms: float = Field(default=0.5, ge=0, description="of the velocity, along each axis")
    age_gyr: float = Field(default=0.5, gt=0, le=14, description="of the isochrone-like sequence")
    metallicity: float = Field(default=0.0, description="dex; a shift in colour")
    extinction_mag: float = Field(default=0.5, ge=0, description="A_G")
    binaries: float = Field(
        default=0.4, ge=0, le=1, description="share of unresolved binaries before the limit"
    )


class Disc(Section):
    """The field stars: thin and thick disc along the line of sight."""

    stars: int = Field(default=1500, ge=0, description="of it in the catalogue")
    gradient: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="of the density on the sky: 1 + gradient · x/radius towards the angle",
    )
    gradient_angle_deg: float = Field(
        default=30.0, description="position angle of the gradient, north to east"
    )
    thick: float = Field(
        default=0.1, ge=0, le=1, description="share of the thick disc in the plane at the Sun"
    )
    extinction_mag_kpc: float = Field(default=0.7, ge=0, description="A_G for each kpc in the plane")
    binaries: float = Field(
        default=0.4, ge=0, le=1, description="share of unresolved binaries before the limit"
    )


def king_fraction(radius: np.ndarray, core: float, tidal: float) -> np.ndarray:
    """Share of a King cluster's stars within the projected ``radius``; all three in one unit.

    n(r) ∝ ln(1 + x) − 4 (√(1 + x) − 1)/√(1 + x_t) + x/(1 + x_t),  x = (r/r_c)²  (King 1962, AJ 67, 471, eq. 18)
    """

    def within(x: np.ndarray) -> np.ndarray:
        return np.log1p(x) - 4 * (np.sqrt(1 + x) - 1) / np.sqrt(1 + end) + x / (1 + end)

    end = (tidal / core) ** 2
    return within(np.clip((np.asarray(radius) / core) ** 2, 0, end)) / within(np.asarray(end))


def king_radii(random: np.random.Generator, core: float, tidal: float, count: int) -> np.ndarray:
    """Distances (N,) from the centre in space, by the inverse of the cumulative number of the deprojected profile.

    φ(r) ∝ z⁻² (acos(z)/z − √(1 − z²)),  z² = (1 + (r/r_c)²)/(1 + (r_t/r_c)²)  (King 1962, eq. 27)
    """
    # radii even within the core, then by ratio
    radius = core * np.sinh(np.linspace(0, np.arcsinh(tidal / core), 4001))
    z = np.sqrt((1 + (radius / core) ** 2) / (1 + (tidal / core) ** 2)).clip(max=1.0)
    number = radius**2 * (np.arccos(z) / z - np.sqrt(1 - z**2)) / z**2
    share = np.append(0.0, np.cumsum(np.diff(radius) * (number[1:] + number[:-1]) / 2))
    return np.interp(random.uniform(0, share[-1], count), share, radius)


def members(
    random: np.random.Generator,
    cluster: OpenCluster,
    dimming: Callable[[np.ndarray], np.ndarray] = lambda direction: np.ones(len(direction)),
) -> pd.DataFrame:
    """Members of any brightness and place; ``dimming``: factor of the extinction at unit vectors (N, 3)."""
    centre = kinematics.directions(np.array(cluster.ra), np.array(cluster.dec))
    velocity = cluster.radial_velocity * centre + kinematics.space_tangential(
        centre,
        kinematics.tangential_velocity(
            np.array(1000 / cluster.distance_pc), np.array([cluster.pmra, cluster.pmdec])
        ),
    )
    mass = sequence.initial_masses(random, DRAW)
    light = sequence.systems(random, mass, cluster.age_gyr, cluster.metallicity, cluster.binaries)
    radius = king_radii(random, cluster.core_pc, cluster.tidal_pc, DRAW)
    place = cluster.distance_pc * centre + radius[:, None] * _isotropic(random, DRAW)
    distance = np.linalg.norm(place, axis=1)
    direction = place / distance[:, None]
    moving = velocity + cluster.dispersion_kms * random.normal(size=(DRAW, 3))
    return _truth(
        random, direction, distance, moving, mass, light, cluster.extinction_mag * dimming(direction)
    )


def disc_stars(
    random: np.random.Generator,
    disc: Disc,
    centre: np.ndarray,
    radius_deg: float,
    dimming: Callable[[np.ndarray], np.ndarray],
) -> pd.DataFrame:
    """Stars of the disc within ``radius_deg`` of the unit vector ``centre``; distances along its line of sight."""
    offsets = radius_deg * _in_circle(random, disc.gradient, disc.gradient_angle_deg)
    direction = kinematics.from_azimuthal(offsets, centre)

    # distances: r² Σ share ρ along the line of sight through the field's centre, by the inverse cumulative
    r = np.linspace(0, _FARTHEST_KPC, 4001)
    sight = TO_GALACTIC @ centre
    x, y, z = np.outer(sight, r)
    density = [
        share * np.exp(-(np.hypot(x - SUN_KPC, y) - SUN_KPC) / _SCALE_LENGTH_KPC - np.abs(z) / height)
        for (height, _, _), share in zip(_POPULATIONS.values(), (1 - disc.thick, disc.thick), strict=True)
    ]
    number = np.append(0.0, np.cumsum((r**2 * sum(density))[1:]))
    distance = np.interp(random.uniform(0, number[-1], DRAW), number, r)
    share_thick = np.interp(distance, r, density[1] / np.maximum(sum(density), 1e-300))
    thick = random.uniform(size=DRAW) < share_thick

    age = np.where(thick, 10.0, random.uniform(0.1, 10.0, DRAW))
    metallicity = np.where(thick, -0.6, -0.1) + 0.2 * random.normal(size=DRAW)
    mass = sequence.initial_masses(random, DRAW)
    light = sequence.systems(random, mass, age, metallicity, disc.binaries)
    slope = max(abs(float(sight[2])), 1e-9) / _DUST_HEIGHT_KPC
    extinction = disc.extinction_mag_kpc * -np.expm1(-slope * distance) / slope * dimming(direction)

    place = distance[:, None] * (direction @ TO_GALACTIC.T)
    lag, deviation = np.empty(DRAW), random.normal(size=(DRAW, 3))
    for chosen, (_, dispersion, behind) in zip((~thick, thick), _POPULATIONS.values(), strict=True):
        deviation[chosen] *= dispersion
        lag[chosen] = behind
    velocity = disc_velocity(place, lag, deviation)
    return _truth(random, direction, 1000 * distance, velocity, mass, light, extinction)


def disc_velocity(
    place: np.ndarray, lag: np.ndarray | float = 0.0, deviation: np.ndarray | float = 0.0
) -> np.ndarray:
    """Heliocentric velocities (N, 3) in km/s, ICRS, of stars at ``place`` (N, 3) in kpc from the Sun, Galactic.

    V = (V_c − lag) ê_φ + deviation − V_☉; deviation (N, 3) towards the centre, along the rotation, to the pole.
    """
    towards = np.stack([SUN_KPC - place[:, 0], -place[:, 1]], axis=1)
    towards = towards / np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-9)
    speed = np.broadcast_to(deviation, place.shape) + np.outer(
        CIRCULAR_KMS - np.broadcast_to(lag, len(place)), [0, 1, 0]
    )
    galactic = np.stack(
        [
            speed[:, 0] * towards[:, 0] - speed[:, 1] * towards[:, 1],
            speed[:, 0] * towards[:, 1] + speed[:, 1] * towards[:, 0],
            speed[:, 2],
        ],
        axis=1,
    )
    return (galactic - SOLAR_MOTION - [0, CIRCULAR_KMS, 0]) @ TO_GALACTIC


def _truth(
    random: np.random.Generator,
    direction: np.ndarray,
    distance_pc: np.ndarray,
    velocity: np.ndarray,
    mass: np.ndarray,
    light: sequence.Systems,
    extinction: np.ndarray,
) -> pd.DataFrame:
    """The table of living stars, with the motion of the photocentre of binaries."""
    import pandas as pd

    parallax = 1000 / np.maximum(distance_pc, 1e-3)
    ra, dec = kinematics.sky_position(direction)
    drift, wobble = _photocentre(random, mass, light, parallax)
    pm = kinematics.proper_motion(velocity, direction, parallax) + drift
    table = pd.DataFrame(
        {
            "ra": ra,
            "dec": dec,
            "parallax": parallax,
            "pmra": pm[:, 0],
            "pmdec": pm[:, 1],
            "radial_velocity": np.einsum("ni,ni->n", velocity, direction),
            "magnitude": light.magnitude + extinction - 5 * np.log10(parallax / 100),
            "colour": light.colour + _REDDENING * extinction,
            "binary": light.ratio > 0,
            "wobble": wobble,
        }
    )
    return table[np.isfinite(light.magnitude)]


def _photocentre(
    random: np.random.Generator, mass: np.ndarray, light: sequence.Systems, parallax: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Proper motion (N, 2) in mas/yr and wobble (N,) in mas that an orbit adds; circular, at random angles.

    Periods are log-normal (Raghavan et al. 2010, ApJS 190, 1). The photocentre's orbit is a ϖ |q/(1 + q) −
    l/(1 + l)|; of periods P far above the mission's T it is seen as a motion, of short ones as scatter about
    a straight line: the motion has weight 1/(1 + (T/P)²), the scatter the rest.
    """
    period = 10 ** random.normal(5.03, 2.28, len(mass)) / 365.25  # yr
    axis = np.cbrt(mass * (1 + light.ratio) * period**2)  # au
    orbit = axis * np.abs(light.ratio / (1 + light.ratio) - light.light / (1 + light.light)) * parallax
    straight = 1 / (1 + (_BASELINE_YR / period) ** 2)
    drift = (straight * 2 * np.pi * orbit / period)[:, None] * _isotropic(random, len(mass))[:, :2]
    return drift, (1 - straight) * orbit / np.sqrt(3)


def _isotropic(random: np.random.Generator, count: int) -> np.ndarray:
    """Unit vectors (N, 3) in random directions."""
    vector = random.normal(size=(count, 3))
    return vector / np.linalg.norm(vector, axis=1, keepdims=True)


def _in_circle(random: np.random.Generator, gradient: float, angle_deg: float) -> np.ndarray:
    """Points (N, 2) east and north in the unit circle, of density 1 + gradient · x towards the position angle."""
    angle = random.uniform(0, 2 * np.pi, DRAW)
    points = np.sqrt(random.uniform(size=DRAW))[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    along = points @ [np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))]
    # a point and its mirror image are equally likely before: mirroring with this chance makes the gradient
    mirrored = random.uniform(size=DRAW) < (1 - gradient * along) / 2
    return np.where(mirrored[:, None], -points, points)
