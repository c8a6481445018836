"""The physical parameters of optical patterns: what they are called, mean, and are measured in."""

from __future__ import annotations

__all__ = ["MEANINGS", "units_of"]

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
_UNITS = {"nm": "nm", "mm": "mm", "um": "µm", "deg": "degree"}


def units_of(name: str) -> str:
    """The unit that a parameter's name ends with.

    >>> units_of("wavelength_nm"), units_of("duty")
    ('nm', '1')
    """
    return _UNITS.get(name.rpartition("_")[2], "1")
