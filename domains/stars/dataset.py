"""From a catalogue to the prepared data set: the cone, the quality cuts, x and its covariance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from sciencevae.errors import InputError, did_you_mean

from . import kinematics
from .columns import read_catalogue, status_of
from .hipparcos import read_hip2
from .settings import POSITIONS, Prepare, Stars

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FEATURES", "cone", "field_area", "prepare", "read", "to_dataset"]

#: the columns of x, with units
FEATURES = {
    "direction_x": "1",
    "direction_y": "1",
    "direction_z": "1",
    "parallax": "mas",
    "pmra": "mas / yr",
    "pmdec": "mas / yr",
}
_MAS_IN_RADIANS = float(np.radians(1 / 3.6e6))
_POSITION_ERROR_MAS = 1.0  # far below any scale of interest; the intrinsic scatter is added to it
_VALUES = ["parallax_mas", "pmra_mas_yr", "pmdec_mas_yr"]
_ERRORS = ["parallax_error_mas", "pmra_error_mas_yr", "pmdec_error_mas_yr"]
_CORRELATIONS = {(0, 1): "parallax_pmra_corr", (0, 2): "parallax_pmdec_corr", (1, 2): "pmra_pmdec_corr"}


def prepare(settings: Stars, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """The field as a Dataset: x (sample, feature) and its covariance ``noise``, directions as ``condition``.

    x = (r̂ [ICRS unit vector], ϖ [mas], μα*, μδ [mas/yr]): nothing in it depends on the field's centre, so that a
    trained model reads any file. Stars that fail a quality cut or can't be read are left out and counted in
    ``attrs["provenance"]``.
    """
    chosen = settings.prepare
    if input is None:
        frame = read_hip2(files["hip2.dat"])
        frame["status"] = status_of(frame)
        source, epoch, cut = "hip2.dat, van Leeuwen (2007)", "J1991.25", True
    else:
        frame = _own(input, chosen)
        source, epoch, cut = Path(input).name, "as in the file", chosen.cut_input
    dropped = _count(frame["status"])
    frame = frame[frame["status"] == ""]
    if not len(frame):
        raise InputError(f"{input or source}: no row can be used: {_listed(dropped)}")
    if cut:
        centre, radius = cone(chosen)
    else:
        centre, radius = _extent(frame)
    inside = kinematics.separation(_directions(frame), centre) <= radius
    frame = frame[inside]
    poor = ~(frame["parallax_error_mas"] <= chosen.parallax_error_max_mas) & frame["parallax_mas"].notna()
    unsolved = frame[_VALUES].isna().any(axis=1)
    frame = frame[~poor & ~unsolved]
    cuts = {"parallax error above the limit": int(poor.sum()), "no parallax or motion": int(unsolved.sum())}
    where = f"within {radius:g}° of RA {_centre(centre)}" if cut else f"in {source}"
    if len(frame) < chosen.minimum_stars:
        raise InputError(
            f"{len(frame)} usable stars {where}, fewer than prepare.minimum_stars = {chosen.minimum_stars} "
            f"({_listed(dropped | cuts)}): widen prepare.radius_deg or prepare.parallax_error_max_mas, "
            "or choose another prepare.position"
        )
    data = to_dataset(frame)
    provenance = {
        "catalogue": source,
        "epoch": epoch,
        "centre_deg": [float(v) for v in kinematics.sky_position(centre)],
        "radius_deg": float(radius),
        "area_deg2": field_area(radius),
        "quality cuts": {"parallax_error_mas": f"<= {chosen.parallax_error_max_mas:g}"},
        "left out in the whole catalogue": dropped,
        "left out in the cone": cuts,
    }
    return data.assign_attrs(provenance=json.dumps(provenance))


def read(path: Path, settings: Stars, template: xr.Dataset | None = None) -> Iterator[xr.Dataset]:
    """A user's own catalogue in its order, for a trained model; bad rows are NaN with a reason in ``status``."""
    row = 0
    for frame in _blocks(path, settings.prepare):
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
    x = np.concatenate([direction, frame[_VALUES].to_numpy(float)], axis=1)  # (N, 6)
    names, units = list(FEATURES), ", ".join(FEATURES.values())
    sample = {
        "source_id": ("sample", frame["source_id"].to_numpy(np.int64), {"long_name": "identifier"}),
        "group": ("sample", frame["source_id"].to_numpy(np.int64), {"long_name": "one star, one group"}),
        "ra": ("sample", frame["ra_deg"].to_numpy(), {"units": "deg", "long_name": "right ascension"}),
        "dec": ("sample", frame["dec_deg"].to_numpy(), {"units": "deg", "long_name": "declination"}),
        "magnitude": ("sample", frame["magnitude"].to_numpy(), {"units": "mag", "long_name": "magnitude"}),
        "colour": ("sample", frame["colour"].to_numpy(), {"units": "mag", "long_name": "colour index"}),
    }
    return xr.Dataset(
        {
            "x": (
                ("sample", "feature"),
                x,
                {"units": units, "long_name": "direction, parallax, proper motion", "scaling": "robust"},
            ),
            "noise": (
                ("sample", "feature", "feature_"),
                _covariance(frame),
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


def _own(path: Path, chosen: Prepare) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(list(_blocks(path, chosen)), ignore_index=True)


def _blocks(path: Path, chosen: Prepare) -> Iterator[pd.DataFrame]:
    """Canonical columns with ``status``, repeated identifiers marked over all blocks."""
    import pandas as pd

    if Path(path).name == "hip2.dat" or Path(path).suffix == ".dat":
        frame = read_hip2(Path(path))
        yield frame.assign(status=status_of(frame))
        return
    seen = pd.Index([], dtype=np.int64)
    for frame in read_catalogue(Path(path), chosen.columns, chosen.units):
        again = frame["source_id"].isin(seen) & (frame["status"] == "")
        frame.loc[again, "status"] = "source_id appears before"
        seen = seen.union(pd.Index(frame["source_id"]))
        yield frame


def _directions(frame: pd.DataFrame) -> np.ndarray:
    return kinematics.directions(frame["ra_deg"].to_numpy(), frame["dec_deg"].to_numpy())


def _covariance(frame: pd.DataFrame) -> np.ndarray:
    """(N, 6, 6): the catalogue's 3×3 covariance of (ϖ, μα*, μδ), and a nominal error of the position."""
    errors = frame[_ERRORS].to_numpy(float)
    rho = np.broadcast_to(np.eye(3), (len(frame), 3, 3)).copy()
    for (i, j), name in _CORRELATIONS.items():
        rho[:, i, j] = rho[:, j, i] = frame[name].to_numpy(float)
    covariance = np.zeros((len(frame), 6, 6))
    covariance[:, [0, 1, 2], [0, 1, 2]] = (_POSITION_ERROR_MAS * _MAS_IN_RADIANS) ** 2
    with np.errstate(invalid="ignore"):  # infinite errors, of rows that are marked as bad
        covariance[:, 3:, 3:] = rho * errors[:, :, None] * errors[:, None, :]
    return covariance


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


def _count(status: pd.Series) -> dict[str, int]:
    counts = status[status != ""].value_counts()
    return {str(reason): int(number) for reason, number in counts.items()}


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{n} rows: {reason}" for reason, n in reasons.items() if n) or "none left out"
