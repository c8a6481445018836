"""How an optical set-up is sampled, and whether well: told before anything is simulated, with the remedy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .optical_settings import Aperture, Optical

__all__ = ["check_sampling", "dimensions", "extent_um", "feature_um", "grid_points", "pixel_middles_mm"]


def check_sampling(source: Optical, aperture: Aperture) -> None:
    """ValueError naming the setting that samples badly.

    The intensity of light from an aperture of extent L has no spatial frequency above L/(λz), near or far (the
    product of the field with itself shifted by λzf vanishes for |λzf| > L): pixels of pitch p alias where
    p > λz/(2L). The field's grid has ``oversample`` points a pixel and is periodic, so it has to hold aperture and
    sensor side by side, and an open part of the aperture takes at least two points.
    """
    if aperture.kind == "slits" and aperture.number > 1:
        widest, nearest = _edges(aperture.width_um)[1], _edges(aperture.separation_um)[0]
        if nearest < widest:
            raise ValueError(
                f"separation_um: slits of up to {widest:g} µm overlap when their middles are {nearest:g} µm apart: "
                "a larger separation_um, or a smaller width_um"
            )
    sensor, pitch = source.sensor, source.sensor.pitch_um
    extent, feature = extent_um(aperture), feature_um(aperture)
    shift = max(abs(edge) for edge in _edges(source.shift_um))
    spread_um2 = _edges(source.wavelength_nm)[0] * _edges(source.distance_mm)[0]  # nm mm = µm²
    if source.propagation == "fraunhofer" and 2 * extent**2 > spread_um2:
        shortest, begins = _edges(source.distance_mm)[0], 2 * extent**2 / _edges(source.wavelength_nm)[0]
        raise ValueError(
            f"propagation: at {shortest:g} mm an aperture of {extent:.3g} µm is not yet in the far field, which "
            f"begins at 2 L²/λ = {begins:.3g} mm: fresnel, angular-spectrum, or a longer distance_mm"
        )
    finest = spread_um2 / (2 * extent)
    if pitch > finest:
        raise ValueError(
            f"sensor.pitch_um: the finest fringes, {2 * finest:.3g} µm apart (λz/L, L = {extent:.3g} µm), need "
            f"pixels of at most {finest:.3g} µm, found {pitch:g}: smaller pixels, a longer distance_mm, or a "
            f"smaller aperture of kind {aperture.kind!r}"
        )
    width = sensor.pixels * pitch
    if source.propagation != "angular-spectrum":
        # the grid of the aperture follows from that of the pattern, λz/(n Δ)
        step = _edges(source.wavelength_nm)[1] * _edges(source.distance_mm)[1] / (source.window * width)
        remedy = f"a window of at least {source.window * 2 * step / feature:.3g}"
    else:
        step = pitch / source.oversample
        remedy = f"an oversample of at least {math.ceil(2 * pitch / feature)}"
        if source.window * width < (needed := width + extent + 2 * shift):
            raise ValueError(
                f"window: the field's grid of {source.window * width:.4g} µm holds sensor and aperture only from "
                f"{needed:.4g} µm on, or light comes back from its other side: a window of at least "
                f"{needed / width:.3g}"
            )
    if feature < 2 * step:
        raise ValueError(
            f"oversample: an opening of {feature:.3g} µm takes fewer than two points of the field's grid, "
            f"{step:.3g} µm apart: {remedy}"
        )


def dimensions(source: Optical) -> int:
    """1 where every aperture is long in y, else 2."""
    return 1 if all(one.kind in ("slits", "grating") for one in source.apertures) else 2


def grid_points(source: Optical) -> int:
    """Points of the field's grid along an axis: even."""
    return 2 * round(source.sensor.pixels * source.oversample * source.window / 2)


def pixel_middles_mm(source: Optical) -> np.ndarray:
    """Where the pixels lie from the axis, (W,)."""
    camera = source.sensor
    first = -(camera.pixels * source.oversample // 2) + (source.oversample - 1) / 2
    return (first / source.oversample + np.arange(camera.pixels)) * camera.pitch_um / 1000


def extent_um(aperture: Aperture) -> float:
    """The largest width of an aperture, along x or y."""
    if aperture.kind == "slits":
        gaps = (aperture.number - 1) * _edges(aperture.separation_um)[1]
        return gaps + _edges(aperture.width_um)[1]
    if aperture.kind == "grating":
        return aperture.lines * _edges(aperture.period_um)[1]
    if aperture.kind == "rectangle":
        return max(_edges(aperture.width_um)[1], _edges(aperture.height_um)[1])
    return _edges(aperture.diameter_um)[1]


def feature_um(aperture: Aperture) -> float:
    """The narrowest open part of an aperture."""
    if aperture.kind == "slits":
        return _edges(aperture.width_um)[0]
    if aperture.kind == "grating":
        return _edges(aperture.period_um)[0] * _edges(aperture.duty)[0]
    if aperture.kind == "rectangle":
        return min(_edges(aperture.width_um)[0], _edges(aperture.height_um)[0])
    return _edges(aperture.diameter_um)[0] / 2


def _edges(value: float | tuple[float, float]) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, value)
