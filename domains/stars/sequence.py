"""Magnitudes and colours of a population of one age: isochrone-like, not an isochrone.

A main sequence, a turn-off and a giant branch as simple functions of mass, with what a cluster's
colour–magnitude diagram needs to look and sort like one. The nodes are those of a zero-age main sequence of
solar composition in Gaia's bands, rounded by hand to 0.1 mag; no stellar model stands behind the rest. Never
read an age or a metallicity of a real cluster from it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Systems", "absolute", "blended", "initial_masses", "systems", "turn_off_mass"]

#: mass in M☉, M_G and (BP − RP)₀ in mag
_MASS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0])
_MAGNITUDE = np.array([14.5, 11.8, 10.4, 9.4, 8.6, 7.7, 6.0, 4.7, 3.9, 2.9, 1.7, 0.4, -1.0, -3.2])
_COLOUR = np.array([4.2, 3.0, 2.6, 2.25, 2.0, 1.65, 1.1, 0.82, 0.62, 0.4, 0.1, -0.08, -0.22, -0.4])
_GIANTS = 1.08  # the most massive star alive, in turn-off masses


class Systems(NamedTuple):
    """Of N unresolved systems: M_G, (BP − RP)₀ (mag), mass ratio q (0: single), light ratio; arrays (N,)."""

    magnitude: np.ndarray
    colour: np.ndarray
    ratio: np.ndarray
    light: np.ndarray


def initial_masses(random: np.random.Generator, count: int) -> np.ndarray:
    """Masses of 0.1 to 10 M☉ with dN/dm ∝ m^−1.3 below 0.5 M☉ and m^−2.3 above (Kroupa 2001, MNRAS 322, 231)."""
    low, middle, high = _MASS[0], 0.5, _MASS[-1]
    below = (low**-0.3 - middle**-0.3) / 0.3
    above = middle * (middle**-1.3 - high**-1.3) / 1.3  # the factor joins both at 0.5 M☉
    u = random.uniform(0, below + above, count)
    first = np.maximum(low**-0.3 - 0.3 * u, middle**-0.3) ** (-1 / 0.3)
    second = np.maximum(middle**-1.3 - 1.3 * (u - below) / middle, high**-1.3) ** (-1 / 1.3)
    return np.where(u < below, first, second)


def turn_off_mass(age_gyr: np.ndarray | float) -> np.ndarray:
    """Mass in M☉ that leaves the main sequence at this age: 10 Gyr · m^−2.5."""
    return (np.asarray(age_gyr, float) / 10.0) ** -0.4


def absolute(
    mass: np.ndarray, age_gyr: np.ndarray | float, metallicity: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """M_G and (BP − RP)₀ in mag of single stars of mass (N,) in M☉; NaN where the star has died.

    On the main sequence a star of mass m brightens by 0.7 (m/m_to)⁵ and reddens by 0.1 (m/m_to)⁵; the stars
    from the turn-off mass to 1.08 of it are subgiants and giants. Metallicity, in dex, shifts all colours.
    """
    top = np.minimum(turn_off_mass(age_gyr), _MASS[-1])
    alive = np.minimum(mass, top)
    evolved = (alive / top) ** 5
    magnitude = np.interp(alive, _MASS, _MAGNITUDE) - 0.7 * evolved
    colour = np.interp(alive, _MASS, _COLOUR) + 0.1 * evolved
    along = (mass - top) / ((_GIANTS - 1) * top)  # 0 at the turn-off, 1 at the end of the giant branch
    tip = np.minimum(magnitude - 1.5, 0.0)
    giant = along > 0
    magnitude = np.where(
        giant, magnitude + np.interp(along, [0, 0.35, 1], [0, 0.3, 1]) * (tip - magnitude), magnitude
    )
    branch = (
        colour + (1.05 - colour) * np.clip(along / 0.2, 0, 1) + 0.4 * np.clip((along - 0.35) / 0.65, 0, 1)
    )
    colour = np.where(giant, branch, colour) + 0.1 * np.asarray(metallicity)
    return np.where(along <= 1, magnitude, np.nan), np.where(along <= 1, colour, np.nan)


def blended(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """G and BP − RP of two stars seen as one: fluxes add in G, BP and RP, with BP and RP at G ± (BP − RP)/2."""

    def both(side: float) -> np.ndarray:
        flux = sum(10 ** (-0.4 * (magnitude + side * colour)) for magnitude, colour in (first, second))
        return -2.5 * np.log10(flux)

    return both(0.0), both(0.5) - both(-0.5)


def systems(
    random: np.random.Generator,
    mass: np.ndarray,
    age_gyr: np.ndarray | float,
    metallicity: np.ndarray | float,
    binaries: float,
) -> Systems:
    """Systems with primaries of mass (N,): a share ``binaries`` has a companion, its mass ratio flat in 0.1 … 1."""
    binary = random.uniform(size=len(mass)) < binaries
    ratio = np.where(binary, random.uniform(0.1, 1.0, len(mass)), 0.0)
    primary = absolute(mass, age_gyr, metallicity)
    companion = absolute(np.maximum(ratio * mass, _MASS[0]), age_gyr, metallicity)
    magnitude, colour = blended(primary, companion)
    light = np.where(binary, 10 ** (-0.4 * (companion[0] - primary[0])), 0.0)
    return Systems(
        np.where(binary, magnitude, primary[0]), np.where(binary, colour, primary[1]), ratio, light
    )
