"""Patterns of light as a sensor would count them without noise, of parameters drawn at random."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from . import apertures, optics, sensor
from .optical_settings import Aperture, Optical
from .parameters import MEANINGS
from .sampling import dimensions, grid_points

__all__ = ["Columns", "patterns"]

#: points of the field's grid that are propagated at once: more do not fit a cache, and take twice as long
_POINTS = 1 << 19

Columns = dict[str, np.ndarray]


def patterns(
    source: Optical, aperture: Aperture, samples: int, seed: int
) -> Iterator[tuple[np.ndarray, Tensor, Columns]]:
    """Blocks of (rows, mean counts (b, …) in double precision, drawn parameters) of one kind of aperture."""
    rng = np.random.default_rng(seed)
    drawn = _drawn(source, aperture, samples, rng)
    size = grid_points(source) ** dimensions(source)
    step = max(1, _POINTS // size)
    for start in range(0, samples, step):
        at = np.arange(start, min(start + step, samples))
        block = {name: values[at] for name, values in drawn.items()}
        tensors = {name: torch.from_numpy(values) for name, values in block.items()}
        share = _share(source, aperture, tensors)
        yield at, sensor.expected_counts(share, tensors["photons"], source.sensor), _told(block)


def _share(source: Optical, aperture: Aperture, drawn: Mapping[str, Tensor]) -> Tensor:
    """The share of the light through the aperture that falls on each pixel, (B, W) or (B, H, W)."""
    n, step = grid_points(source), source.sensor.pitch_um / source.oversample * 1e-6
    wavelength, distance = drawn["wavelength_nm"] * 1e-9, drawn["distance_mm"] * 1e-3
    near = source.propagation == "angular-spectrum"
    pitch: float | Tensor = step if near else optics.output_pitch(n, step, wavelength, distance)
    axes = dimensions(source)
    mask = _mask(aperture, n, pitch, drawn, axes)
    width = step if isinstance(pitch, float) else pitch
    power = mask.square().flatten(1).sum(1) * width**axes
    field = mask.to(torch.complex64)
    if isinstance(pitch, float):
        field = optics.angular_spectrum(field, pitch, wavelength, distance)
    else:
        one_transform = optics.fresnel if source.propagation == "fresnel" else optics.fraunhofer
        field = one_transform(field, pitch, wavelength, distance)
        # openings are averaged over cells of the aperture's grid, which dims the outer part of the pattern
        blur = torch.sinc((torch.arange(n) - n // 2) / n)
        field = field / (blur if axes == 1 else blur[:, None] * blur)
    points = source.sensor.pixels * source.oversample
    first = n // 2 - points // 2
    for axis in range(1, 1 + axes):
        field = field.narrow(axis, first, points)
    energy = optics.intensity(field).double() * step**axes
    return sensor.pixels(energy, source.oversample) / power.reshape(-1, *[1] * axes)


def _mask(
    aperture: Aperture, n: int, pitch: float | Tensor, drawn: Mapping[str, Tensor], axes: int
) -> Tensor:
    """The transmittance of apertures with the drawn parameters, (B, n) or (B, n, n)."""
    x = apertures.coordinates(n, pitch)
    length = {name: values * 1e-6 for name, values in drawn.items() if name.endswith("_um")}
    middle = torch.stack([length["shift_x_um"], length.get("shift_y_um", length["shift_x_um"])], 1)
    if aperture.kind in ("slits", "grating"):
        if aperture.kind == "slits":
            apart = length.get("separation_um", torch.zeros_like(middle[:, 0]))  # of one slit there is none
            middles = apertures.comb(aperture.number, apart, middle[:, 0])
            widths = length["width_um"]
        else:
            middles = apertures.comb(aperture.lines, length["period_um"], middle[:, 0])
            widths = length["period_um"] * drawn["duty"]
        line = apertures.slits(x, pitch, middles, widths[:, None].expand_as(middles))
        if axes == 1:
            return line
        tall = torch.full((n,), 1.0, dtype=line.dtype)  # long in y, and so is the grid
        return tall[:, None] * line[:, None, :]
    if aperture.kind == "rectangle":
        size = torch.stack([length["width_um"], length["height_um"]], 1)
        return apertures.rectangle(x, x, pitch, middle, size)
    if aperture.kind == "circle":
        return apertures.circle(x, x, pitch, middle, length["diameter_um"])
    angles, radii = (drawn[name] for name in ("_angles", "_radii"))
    corners = (length["diameter_um"] / 2)[:, None] * radii
    ends = torch.stack([corners * angles.cos(), corners * angles.sin()], -1)
    return apertures.polygon(x, x, pitch, middle[:, None] + ends)


def _drawn(source: Optical, aperture: Aperture, samples: int, rng: np.random.Generator) -> Columns:
    """The parameters of each sample; those with an underscore are no numbers of the aperture's alone."""

    def draw(value: float | tuple[float, float], logarithmic: bool = False) -> np.ndarray:
        if not isinstance(value, tuple):
            return np.full(samples, float(value))
        if logarithmic:
            return np.exp(rng.uniform(np.log(value[0]), np.log(value[1]), samples))
        return rng.uniform(value[0], value[1], samples)

    found = {name: draw(getattr(source, name)) for name in ("wavelength_nm", "distance_mm")}
    found["photons"] = draw(source.photons, logarithmic=True)
    for axis in "xy"[: dimensions(source)]:
        found[f"shift_{axis}_um"] = draw(source.shift_um)
    sizes = [name for name in MEANINGS if name in type(aperture).model_fields]
    if aperture.kind == "slits" and aperture.number == 1:
        sizes.remove("separation_um")
    found |= {name: draw(getattr(aperture, name)) for name in sizes}
    if aperture.kind == "polygon":
        turn = rng.uniform(0, 2 * np.pi / aperture.corners, (samples, 1))
        found["_angles"] = turn + np.arange(aperture.corners) * 2 * np.pi / aperture.corners
        found["_radii"] = 1 - aperture.irregular * rng.uniform(size=(samples, aperture.corners))
        found["rotation_deg"] = np.degrees(turn[:, 0])
    return found


def _told(block: Columns) -> Columns:
    return {name: values for name, values in block.items() if not name.startswith("_")}
