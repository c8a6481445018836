"""The axes of a powder pattern, 2θ, d and Q, and the wavelengths that tie them together.

λ = 2 d sin θ (Bragg), Q = 4π sin θ/λ = 2π/d; 2θ in degrees, d in Å, Q in Å⁻¹, λ in Å.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sciencevae.errors import InputError, did_you_mean

__all__ = [
    "ANODES",
    "Anode",
    "anode",
    "check_two_theta",
    "d_from_q",
    "d_from_two_theta",
    "q_from_two_theta",
    "rewavelength",
    "two_theta_from_d",
    "two_theta_from_q",
]


class Anode(NamedTuple):
    """Wavelengths of the K lines of an X-ray tube, in Å."""

    alpha1: float
    alpha2: float

    @property
    def mean(self) -> float:
        """Weighted 2:1, as the lines are bright: (2 λ(Kα₁) + λ(Kα₂))/3."""
        return (2 * self.alpha1 + self.alpha2) / 3


#: Hölzer et al., Phys. Rev. A 56, 4554 (1997) for Cr, Fe, Co, Cu; Bearden, Rev. Mod. Phys. 39, 78 (1967), with
#: Deslattes et al., Rev. Mod. Phys. 75, 35 (2003), for Mo and Ag
ANODES: dict[str, Anode] = {
    "Cr": Anode(2.2897260, 2.2936510),
    "Fe": Anode(1.9360410, 1.9399730),
    "Co": Anode(1.7889960, 1.7928350),
    "Cu": Anode(1.5405929, 1.5444274),
    "Mo": Anode(0.7093171, 0.7136070),
    "Ag": Anode(0.5594218, 0.5638131),
}


def anode(name: str) -> Anode:
    """The wavelengths of an anode; InputError with the nearest name."""
    if name not in ANODES:
        raise InputError(f"unknown anode {name!r}{did_you_mean(name, ANODES)}; known: {', '.join(ANODES)}")
    return ANODES[name]


def d_from_two_theta(two_theta: np.ndarray | float, wavelength: float) -> np.ndarray:
    """d = λ/(2 sin θ); at 2θ = 0 infinite.

    >>> round(float(d_from_two_theta(28.4409, ANODES["Cu"].alpha1)), 4)  # (111) of silicon
    3.1357
    """
    with np.errstate(divide="ignore"):
        return wavelength / (2 * np.sin(np.radians(two_theta) / 2))


def two_theta_from_d(d: np.ndarray | float, wavelength: float) -> np.ndarray:
    """2θ = 2 asin(λ/2d) in degrees; NaN where d < λ/2, which no angle reaches."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * np.degrees(np.arcsin(wavelength / (2 * np.asarray(d, float))))


def q_from_two_theta(two_theta: np.ndarray | float, wavelength: float) -> np.ndarray:
    """Q = 4π sin θ/λ."""
    return 4 * np.pi * np.sin(np.radians(two_theta) / 2) / wavelength


def two_theta_from_q(q: np.ndarray | float, wavelength: float) -> np.ndarray:
    """2θ = 2 asin(Q λ/4π) in degrees; NaN where Q > 4π/λ."""
    with np.errstate(invalid="ignore"):
        return 2 * np.degrees(np.arcsin(np.asarray(q, float) * wavelength / (4 * np.pi)))


def d_from_q(q: np.ndarray | float) -> np.ndarray:
    """d = 2π/Q."""
    with np.errstate(divide="ignore"):
        return 2 * np.pi / np.asarray(q, float)


def rewavelength(two_theta: np.ndarray, measured: float, wanted: float) -> np.ndarray:
    """Where angles of a scan at one wavelength lie at another: sin θ' = sin θ · wanted/measured.

    NaN for those that the wanted wavelength does not reach.
    """
    return two_theta_from_d(d_from_two_theta(two_theta, measured), wanted)


def check_two_theta(two_theta: np.ndarray, where: str) -> None:
    """Raise InputError unless the angles are finite, in (0, 180) degrees and rising."""
    if len(two_theta) < 2:
        raise InputError(f"{where}: {len(two_theta)} angle(s); a scan has at least 2")
    bad = ~(np.isfinite(two_theta) & (two_theta > -5) & (two_theta < 180))
    if bad.any():
        place = int(bad.argmax())
        raise InputError(
            f"{where}: 2θ is {two_theta[place]:g} at point {place + 1}; angles are in degrees, below 180. "
            "Of a scan over d or Q say so (axis: d or Q), or convert it"
        )
    steps = np.diff(two_theta)
    if (steps <= 0).any():
        place = int((steps <= 0).argmax()) + 1
        kind = "repeated" if steps[place - 1] == 0 else "not rising"
        raise InputError(
            f"{where}: 2θ is {kind} at point {place + 1} ({two_theta[place]:g} after {two_theta[place - 1]:g}); "
            "join or separate the scans in the file, so that each angle stands there once"
        )
