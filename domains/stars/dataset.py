"""From a catalogue to the prepared data set: the cone, the quality cuts, x and its covariance."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from sciencevae.data.sequential import in_memory_if_small, lazily
from sciencevae.errors import InputError, did_you_mean

from . import kinematics
from .astrometry import corrected, direction_covariance, stated
from .footprint import Footprint
from .selection import AGAIN, HIPPARCOS, VALUES, Counted, Seen, Selection, catalogued, directions, listed
from .settings import POSITIONS, Prepare, Stars

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FEATURES", "OPTIONAL", "TooFewStars", "cone", "field_area", "prepare", "read", "to_dataset"]

#: the columns of x, with units
FEATURES = {
    "direction_x": "1",
    "direction_y": "1",
    "direction_z": "1",
    "parallax": "mas",
    "pmra": "mas / yr",
    "pmdec": "mas / yr",
    "magnitude": "mag",
    "colour": "mag",
}
#: coordinates of the data set where the catalogue has them: name -> unit, in words
OPTIONAL = {
    "bp_magnitude": ("mag", "BP magnitude"),
    "rp_magnitude": ("mag", "RP magnitude"),
    "ruwe": ("1", "renormalised unit weight error"),
    "astrometric_excess_noise": ("mas", "excess noise of the astrometric solution"),
    "astrometric_excess_noise_sig": ("1", "significance of the excess noise"),
    "nu_eff_used_in_astrometry": ("1 / um", "effective wavenumber"),
    "pseudocolour": ("1 / um", "effective wavenumber, solved for with the astrometry"),
    "astrometric_params_solved": ("1", "31: 5 parameters, 95: 6, 3: position only"),
    "radial_velocity": ("km / s", "radial velocity"),
    "radial_velocity_error": ("km / s", "error of the radial velocity"),
    "ref_epoch": ("yr", "Julian year of the position"),
}
_PHOTOMETRY_ERROR_MAG = 0.01  # no catalogue here states it; the learned scatter is added to it
_ROWS = 16_384  # whose covariances are computed at once


class TooFewStars(InputError):
    """A field of fewer usable stars than ``prepare.minimum_stars``."""


def prepare(settings: Stars, files: Mapping[str, Path], input: Path | pd.DataFrame | None) -> xr.Dataset:
    """The field as a Dataset: x (sample, feature) and its covariance ``noise``, directions as ``condition``.

    x = (r̂ [ICRS unit vector], ϖ [mas], μα*, μδ [mas/yr], magnitude, colour [mag]): nothing in it depends on the
    field's centre, so that a trained model reads any file. Stars that fail a quality cut or can't be read are
    left out and counted in ``attrs["provenance"]``, where corrections and the ``footprint`` of the field are
    stated too. A cone is cut from a file block by block, so that the file may be larger than memory.

    InputError: fewer stars than ``minimum_stars`` (``TooFewStars``), more than ``maximum_stars``, positions of
    several epochs.
    """
    chosen = settings.prepare
    catalogue, source = _source(files, input)
    # a catalogue of the user's, or an answer of the archive, is the field whole
    cut = source == HIPPARCOS or chosen.cut_input
    place = cone(chosen) if cut else None
    selection = Selection(catalogue, source, chosen, place)
    counted = selection.counted()
    ra, dec, good = (np.concatenate(parts) for parts in (counted.ra, counted.dec, counted.good))
    centre, radius = place or _extent(kinematics.directions(ra, dec))
    where = f"within {radius:g}° of RA {_centre(centre)}" if cut else f"in {source}"
    if good.sum() < chosen.minimum_stars:
        remedy = (
            "widen prepare.radius_deg, or choose another prepare.position" if cut else "bring a wider field"
        )
        why = listed({**counted.dropped, **counted.elsewhere, **counted.cuts})
        raise TooFewStars(
            f"{good.sum()} usable stars {where}, fewer than prepare.minimum_stars = {chosen.minimum_stars} "
            f"({why}): {remedy}, or mend or loosen what leaves stars out"
        )
    data = _lazily(selection, np.concatenate(counted.source_id))
    footprint = (
        Footprint.cone(radius)
        if cut
        else Footprint.around(kinematics.azimuthal(kinematics.directions(ra[good], dec[good]), centre))
    )
    provenance = {
        "catalogue": source,
        "epoch": _epoch(counted, chosen),
        "centre_deg": [float(v) for v in kinematics.sky_position(centre)],
        "radius_deg": float(radius),
        "area_deg2": field_area(radius) if cut else footprint.area,
        "footprint": footprint.to_list(),
        "quality cuts": _cuts(chosen),
        "corrections": stated(chosen),
        "left out in the whole catalogue": dict(counted.dropped),
        "left out in the cone": dict(counted.cuts),
        "not in the field": dict(counted.elsewhere),
        "notes": [f"{what}: {number} stars" for what, number in counted.notes.items() if number]
        + _photometry(counted),
    }
    refused = {reason: number for reason, number in (counted.dropped | counted.cuts).items() if number}
    return data.assign_attrs(
        provenance=json.dumps(provenance),
        refused=sum(refused.values()),
        refused_reasons=json.dumps(refused),
    )


def _lazily(selection: Selection, source_id: np.ndarray) -> xr.Dataset:
    """The stars of a field, read and computed when they are wanted; in memory where it is small."""

    def parts() -> Iterator[xr.Dataset]:
        for frame in selection.frames(Counted()):
            for start in range(0, len(frame), _ROWS):
                yield to_dataset(frame.iloc[start : start + _ROWS])

    group = ("sample", source_id, {"long_name": "one star, one group"})
    return in_memory_if_small(lazily(parts, len(source_id)).assign_coords(group=group))


def read(path: Path, settings: Stars, template: xr.Dataset | None = None) -> Iterator[xr.Dataset]:
    """A user's own catalogue in its order, for a trained model; bad rows are NaN with a reason in ``status``."""
    row, seen = 0, Seen()
    for block in catalogued(Path(path), Path(path).name, settings.prepare):
        frame = corrected(block, settings.prepare, Counter())
        again = seen.again(frame["source_id"].to_numpy()) & (frame["status"] == "").to_numpy()
        frame.loc[again, "status"] = AGAIN
        data = to_dataset(frame)
        status = frame["status"].to_numpy(dtype=str)
        bad = xr.DataArray(status != "", dims="sample")
        data["x"] = data["x"].where(~bad)
        data["condition"] = data["condition"].where(~bad)
        data["noise"] = data["noise"].where(~bad)
        yield data.assign_coords(
            row=("sample", np.arange(row, row + len(frame))),
            id=("sample", frame["source_id"].to_numpy()),
            status=("sample", np.where(status == "", "ok", status)),
        )
        row += len(frame)


def to_dataset(frame: pd.DataFrame) -> xr.Dataset:
    """Canonical columns in the shared schema."""
    direction = directions(frame)
    unknown = np.full(len(frame), np.nan)
    seen = [np.asarray(frame[n], float) if n in frame else unknown for n in ("magnitude", "colour")]
    x = np.concatenate([direction, frame[VALUES].to_numpy(float), np.stack(seen, axis=1)], axis=1)  # (N, 8)
    noise = np.zeros((len(frame), 8, 8))
    noise[:, :6, :6] = direction_covariance(frame)
    noise[:, [6, 7], [6, 7]] = _PHOTOMETRY_ERROR_MAG**2
    names, units = list(FEATURES), ", ".join(FEATURES.values())
    sample: dict[str, Any] = {
        "source_id": ("sample", frame["source_id"].to_numpy(np.int64), {"long_name": "identifier"}),
        "group": ("sample", frame["source_id"].to_numpy(np.int64), {"long_name": "one star, one group"}),
        "ra": ("sample", frame["ra_deg"].to_numpy(), {"units": "deg", "long_name": "right ascension"}),
        "dec": ("sample", frame["dec_deg"].to_numpy(), {"units": "deg", "long_name": "declination"}),
    }
    for name, unit, words in (
        ("magnitude", "mag", "magnitude"),
        ("colour", "mag", "colour index"),
        *((name, *described) for name, described in OPTIONAL.items() if name in frame),
    ):
        values = frame[name].to_numpy() if name in frame else unknown
        sample[name] = ("sample", values, {"units": unit, "long_name": words})
    return xr.Dataset(
        {
            "x": (
                ("sample", "feature"),
                x,
                {
                    "units": units,
                    "long_name": "direction, parallax, proper motion, photometry",
                    "scaling": "robust",
                    "may_be_empty": 1,  # a catalogue may have no photometry at all
                },
            ),
            "noise": (
                ("sample", "feature", "feature_"),
                noise,
                {"units": f"products of {units}", "long_name": "covariance of the measurement of x"},
            ),
            "condition": (
                ("sample", "axis"),
                direction,
                {"units": "1", "long_name": "direction of the star, ICRS", "scaling": "identity"},
            ),
        },
        coords={"feature": names, **sample},
        attrs={"identifier": "source_id"},
    )


def cone(chosen: Prepare) -> tuple[np.ndarray, float]:
    """The unit vector of the cone's axis and its radius in degrees."""
    name = chosen.position.strip().lower()
    if name in POSITIONS:
        ra, dec, radius, _ = POSITIONS[name]
        return kinematics.directions(np.array(ra), np.array(dec)), chosen.radius_deg or radius
    try:
        ra, dec = (float(part) for part in name.replace(",", " ").split())
    except ValueError:
        raise InputError(
            f"prepare.position is a name or 'RA DEC' in degrees, not {chosen.position!r}"
            f"{did_you_mean(name, POSITIONS)}"
        ) from None
    if not (0 <= ra <= 360 and -90 <= dec <= 90):
        raise InputError(f"prepare.position: RA is 0 to 360 and Dec −90 to 90 degrees, not {ra:g} {dec:g}")
    if chosen.radius_deg is None:
        raise InputError(f"prepare.position {chosen.position!r} has no radius: set prepare.radius_deg")
    return kinematics.directions(np.array(ra), np.array(dec)), chosen.radius_deg


def field_area(radius: float) -> float:
    """Square degrees of a cone of ``radius`` degrees: 2π (1 − cos r)."""
    return float(2 * np.pi * (1 - np.cos(np.radians(radius))) * np.degrees(1) ** 2)


def _source(files: Mapping[str, Path], input: Path | pd.DataFrame | None) -> tuple[Path | pd.DataFrame, str]:
    """The catalogue to read, and what it is called."""
    if isinstance(input, str | Path):
        return Path(input), Path(input).name
    if input is not None:
        return input, "a table"
    if "gaia.parquet" in files:
        return files["gaia.parquet"], "gaia.parquet, of the Gaia archive"
    return files["hip2.dat"], HIPPARCOS


def _cuts(chosen: Prepare) -> dict[str, str]:
    """The quality cuts, in words."""
    limits = {
        "parallax_error_mas": chosen.parallax_error_max_mas,
        "proper-motion error": chosen.motion_error_max_mas_yr,
        "ruwe": chosen.ruwe_max,
        "magnitude": chosen.magnitude_max,
    }
    return {name: f"<= {limit:g}" for name, limit in limits.items() if limit is not None}


def _epoch(counted: Counted, chosen: Prepare) -> str:
    """The epoch of the positions, as far as it is known."""
    known = next((one for one in (chosen.epoch, counted.epoch, chosen.ref_epoch) if one is not None), None)
    return "as in the file" if known is None else f"J{known}"


def _photometry(counted: Counted) -> list[str]:
    missing = [name for name in ("magnitude", "colour") if name not in counted.photometry]
    return [f"no star has a {name}: figures of it are empty" for name in missing]


def _extent(direction: np.ndarray) -> tuple[np.ndarray, float]:
    """The mean of directions (N, 3), and the angle to the farthest."""
    mean = direction.mean(0)
    length = np.linalg.norm(mean)
    if length < 1e-6:
        raise InputError(
            "the stars lie all over the sky: cut a cone, with --set prepare.cut_input=true and a position"
        )
    return mean / length, float(kinematics.separation(direction, mean / length).max()) * (1 + 1e-9)


def _centre(direction: np.ndarray) -> str:
    ra, dec = kinematics.sky_position(direction)
    return f"{ra:.2f}°, Dec {dec:+.2f}°"
