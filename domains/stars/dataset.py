"""From a catalogue to the prepared data set: the cone, the quality cuts, x and its covariance."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from sciencevae.errors import InputError, did_you_mean

from . import kinematics
from .astrometry import at_epoch, corrected, direction_covariance, stated
from .columns import ASTROMETRY, read_catalogue, status_of
from .footprint import Footprint
from .hipparcos import read_hip2
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
_VALUES = list(ASTROMETRY[2:])
_PHOTOMETRY_ERROR_MAG = 0.01  # no catalogue here states it; the learned scatter is added to it
_HIPPARCOS, _HIPPARCOS_EPOCH = "hip2.dat, van Leeuwen (2007)", 1991.25
#: bytes of memory that preparing takes for each star of the field, measured on 2 million
_BYTES_A_STAR = 1_500
_AGAIN = "source_id appears before"


class TooFewStars(InputError):
    """A field of fewer usable stars than ``prepare.minimum_stars``."""


class Kept(NamedTuple):
    """The usable stars of a catalogue, in the cone if one is cut · why how many others are not · notes."""

    frame: pd.DataFrame
    dropped: Counter[str]
    elsewhere: Counter[str]
    notes: Counter[str]


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
    cut = source == _HIPPARCOS or chosen.cut_input
    place = cone(chosen) if cut else None
    kept = _kept(catalogue, source, chosen, place)
    centre, radius = place or _extent(kept.frame)
    frame, cuts = _quality(kept.frame, chosen)
    where = f"within {radius:g}° of RA {_centre(centre)}" if cut else f"in {source}"
    if len(frame) < chosen.minimum_stars:
        remedy = (
            "widen prepare.radius_deg, or choose another prepare.position" if cut else "bring a wider field"
        )
        raise TooFewStars(
            f"{len(frame)} usable stars {where}, fewer than prepare.minimum_stars = {chosen.minimum_stars} "
            f"({_listed(kept.dropped | kept.elsewhere | cuts)}): {remedy}, or mend or loosen what leaves stars out"
        )
    data = to_dataset(frame)
    footprint = (
        Footprint.cone(radius)
        if cut
        else Footprint.around(kinematics.azimuthal(data["condition"].values, centre))
    )
    provenance = {
        "catalogue": source,
        "epoch": _epoch(frame, chosen),
        "centre_deg": [float(v) for v in kinematics.sky_position(centre)],
        "radius_deg": float(radius),
        "area_deg2": field_area(radius) if cut else footprint.area,
        "footprint": footprint.to_list(),
        "quality cuts": _cuts(chosen),
        "corrections": stated(chosen),
        "left out in the whole catalogue": dict(kept.dropped),
        "left out in the cone": cuts,
        "not in the field": dict(kept.elsewhere),
        "notes": [f"{what}: {number} stars" for what, number in kept.notes.items() if number]
        + _photometry(frame),
    }
    refused = {reason: number for reason, number in (kept.dropped | Counter(cuts)).items() if number}
    return data.assign_attrs(
        provenance=json.dumps(provenance),
        refused=sum(refused.values()),
        refused_reasons=json.dumps(refused),
    )


def read(path: Path, settings: Stars, template: xr.Dataset | None = None) -> Iterator[xr.Dataset]:
    """A user's own catalogue in its order, for a trained model; bad rows are NaN with a reason in ``status``."""
    row, seen = 0, _Seen()
    for block in _blocks(Path(path), Path(path).name, settings.prepare):
        frame = corrected(block, settings.prepare, Counter())
        again = seen.again(frame["source_id"].to_numpy()) & (frame["status"] == "").to_numpy()
        frame.loc[again, "status"] = _AGAIN
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
    direction = _directions(frame)
    unknown = np.full(len(frame), np.nan)
    seen = [np.asarray(frame[n], float) if n in frame else unknown for n in ("magnitude", "colour")]
    x = np.concatenate([direction, frame[_VALUES].to_numpy(float), np.stack(seen, axis=1)], axis=1)  # (N, 8)
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
    return files["hip2.dat"], _HIPPARCOS


def _kept(
    catalogue: Path | pd.DataFrame, source: str, chosen: Prepare, place: tuple[np.ndarray, float] | None
) -> Kept:
    """The usable stars of a catalogue, those of the cone where there is one, read block by block."""
    import pandas as pd

    frames: list[pd.DataFrame] = []
    dropped, elsewhere, notes = Counter[str](), Counter[str](), Counter[str]()
    total = 0
    for block in _blocks(catalogue, source, chosen):
        dropped.update(block["status"][block["status"] != ""].to_list())
        frame = block[block["status"] == ""].drop(columns="status")
        if place is not None:
            inside = kinematics.separation(_directions(frame), place[0]) <= place[1]
            elsewhere["outside the cone"] += int((~inside).sum())
            frame = frame[inside]
        if chosen.magnitude_max is not None:
            bright = _bright(frame, chosen.magnitude_max, source)
            elsewhere["fainter than the limit, or without a magnitude"] += int((~bright).sum())
            frame = frame[bright]
        frames.append(corrected(frame, chosen, notes))
        total += len(frame)
        if total > chosen.maximum_stars:
            raise InputError(
                f"{source} holds more stars than prepare.maximum_stars = {chosen.maximum_stars:,}, and to prepare "
                f"that many takes {_BYTES_A_STAR * chosen.maximum_stars / 1e9:.1f} GB of memory: cut a cone (--set "
                "prepare.cut_input=true, prepare.position, prepare.radius_deg), set prepare.magnitude_max, or "
                "raise the limit"
            )
    frame = pd.concat(frames, ignore_index=True)
    if chosen.epoch is not None:
        left = "position left at its own epoch, without a proper motion"
        notes[left] = int((frame["ref_epoch"] != chosen.epoch).sum())
    again = frame["source_id"].duplicated()  # over all blocks
    dropped[_AGAIN] += int(again.sum())
    frame = frame[~again]
    if not len(frame) and not elsewhere.total():
        raise InputError(
            f"{source}: no row can be used ({_listed(dropped)}): mend the column, name another with --set "
            "prepare.columns.NAME=COLUMN, or state its unit with --set prepare.units.COLUMN=UNIT"
        )
    return Kept(frame, +dropped, +elsewhere, notes)


def _blocks(catalogue: Path | pd.DataFrame, source: str, chosen: Prepare) -> Iterator[pd.DataFrame]:
    """Canonical columns with ``status``, propagated to one epoch; InputError where there are several."""
    epochs: set[float] = set()
    for frame in _catalogued(catalogue, chosen):
        if "ref_epoch" in frame and chosen.epoch is None:
            epochs |= set(frame["ref_epoch"].dropna().unique())
            if len(epochs) > 1:
                raise InputError(
                    f"{source} mixes positions of the epochs {_series(epochs)}: have them all propagated to one, "
                    f"with --set prepare.epoch={max(epochs):g}"
                )
        yield at_epoch(frame, chosen)


def _catalogued(catalogue: Path | pd.DataFrame, chosen: Prepare) -> Iterator[pd.DataFrame]:
    if not isinstance(catalogue, Path) or catalogue.suffix != ".dat":
        yield from read_catalogue(catalogue, chosen.columns, chosen.units)
        return
    frame = read_hip2(catalogue)
    yield frame.assign(status=status_of(frame), ref_epoch=_HIPPARCOS_EPOCH)


class _Seen:
    """Which identifiers came before, of any number of blocks, in 8 bytes each: sorted runs, merged as they grow."""

    def __init__(self) -> None:
        self.runs: list[np.ndarray] = []

    def again(self, identifiers: np.ndarray) -> np.ndarray:
        """Whether each was in an earlier block; these ones are known from now on."""
        found = np.zeros(len(identifiers), dtype=bool)
        for run in self.runs:
            place = np.minimum(np.searchsorted(run, identifiers), len(run) - 1)
            found |= run[place] == identifiers
        new = np.unique(identifiers)
        while self.runs and len(self.runs[-1]) <= 2 * len(new):
            new = np.union1d(self.runs.pop(), new)
        self.runs.append(new)
        return found


def _quality(frame: pd.DataFrame, chosen: Prepare) -> tuple[pd.DataFrame, dict[str, int]]:
    """The stars that pass the cuts, and how many fail each."""
    poor = ~(frame["parallax_error_mas"] <= chosen.parallax_error_max_mas) & frame["parallax_mas"].notna()
    unsolved = frame[_VALUES].isna().any(axis=1) & (chosen.two_parameter == "drop")
    cuts = {"parallax error above the limit": int(poor.sum()), "no parallax or motion": int(unsolved.sum())}
    good = ~poor & ~unsolved
    if chosen.motion_error_max_mas_yr is not None:
        error = frame[["pmra_error_mas_yr", "pmdec_error_mas_yr"]].max(axis=1)
        vague = (error > chosen.motion_error_max_mas_yr) & good
        cuts["proper-motion error above the limit"] = int(vague.sum())
        good &= ~vague
    if chosen.ruwe_max is not None:
        if "ruwe" not in frame:
            raise InputError(
                "prepare.ruwe_max needs a column ruwe; name yours with --set prepare.columns.ruwe=COLUMN"
            )
        blurred = frame["ruwe"] > chosen.ruwe_max
        cuts["RUWE above the limit"] = int((blurred & good).sum())
        good &= ~blurred
    return frame[good], cuts


def _cuts(chosen: Prepare) -> dict[str, str]:
    """The quality cuts, in words."""
    limits = {
        "parallax_error_mas": chosen.parallax_error_max_mas,
        "proper-motion error": chosen.motion_error_max_mas_yr,
        "ruwe": chosen.ruwe_max,
        "magnitude": chosen.magnitude_max,
    }
    return {name: f"<= {limit:g}" for name, limit in limits.items() if limit is not None}


def _bright(frame: pd.DataFrame, limit: float, source: str) -> np.ndarray:
    if "magnitude" not in frame:
        raise InputError(
            f"{source} has no magnitudes, and prepare.magnitude_max = {limit:g} is set: unset it"
        )
    return (frame["magnitude"] <= limit).to_numpy()


def _epoch(frame: pd.DataFrame, chosen: Prepare) -> str:
    """The epoch of the positions, as far as it is known."""
    if chosen.epoch is not None:
        return f"J{chosen.epoch}"
    known = list(frame["ref_epoch"].dropna().unique()) if "ref_epoch" in frame else []
    if known or chosen.ref_epoch is not None:
        return f"J{known[0] if known else chosen.ref_epoch}"
    return "as in the file"


def _photometry(frame: pd.DataFrame) -> list[str]:
    missing = [name for name in ("magnitude", "colour") if name not in frame or frame[name].isna().all()]
    return [f"no star has a {name}: figures of it are empty" for name in missing]


def _series(values: set[float]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(values))


def _directions(frame: pd.DataFrame) -> np.ndarray:
    return kinematics.directions(frame["ra_deg"].to_numpy(), frame["dec_deg"].to_numpy())


def _extent(frame: pd.DataFrame) -> tuple[np.ndarray, float]:
    """The mean direction of a file's stars, and the angle to the farthest."""
    direction = _directions(frame)
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


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{n} rows: {reason}" for reason, n in reasons.items() if n) or "none left out"
