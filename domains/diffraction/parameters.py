"""The physical parameters of optical patterns: what they are called, mean, and are measured in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.errors import InputError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MEANINGS", "WORDS", "in_unit_of", "units_of"]

MEANINGS = {
    "wavelength_nm": "wavelength λ",
    "distance_mm": "distance z from aperture to sensor",
    "width_um": "width of a slit or a rectangle",
    "separation_um": "distance between the middles of neighbouring slits",
    "period_um": "period of a grating",
    "duty": "open share of a grating's period",
    "diameter_um": "diameter of a hole, or of the circle through its corners",
    "height_um": "height of a rectangle",
    "rotation_deg": "angle of a polygon's first corner",
    "shift_x_um": "shift of the aperture from the axis in x",
    "shift_y_um": "shift of the aperture from the axis in y",
    "photons": "photons through the aperture in the exposure",
}
#: short names for sentences and axes
WORDS = {
    "wavelength_nm": "wavelength",
    "distance_mm": "distance",
    "width_um": "width",
    "separation_um": "separation",
    "period_um": "period",
    "duty": "duty",
    "diameter_um": "diameter",
    "height_um": "height",
    "rotation_deg": "rotation",
    "shift_x_um": "shift in x",
    "shift_y_um": "shift in y",
    "photons": "photons",
}
_UNITS = {"nm": "nm", "mm": "mm", "um": "µm", "deg": "degree"}
_METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "um": 1e-6, "μm": 1e-6, "nm": 1e-9}


def units_of(name: str) -> str:
    """The unit that a parameter's name ends with.

    >>> units_of("wavelength_nm"), units_of("duty")
    ('nm', '1')
    """
    return _UNITS.get(name.rpartition("_")[2], "1")


def in_unit_of(name: str, values: np.ndarray, units: str, where: str) -> np.ndarray:
    """Values given in ``units`` in the unit of a parameter's name; InputError where these measure another thing."""
    own = units_of(name)
    if units == own:
        return values
    if own in _METRES and units in _METRES:
        return values * (_METRES[units] / _METRES[own])
    raise InputError(f"{where}: {name} is in {units!r}; expected {own}, or another of {', '.join(_METRES)}")
