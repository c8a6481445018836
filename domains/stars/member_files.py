"""The members as FITS, VOTable and Parquet: units, UCDs and descriptions in the file, and where it comes from."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sciencevae.data.atomic import atomic_path
from sciencevae.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from astropy.io.votable.tree import VOTableFile
    from astropy.table import Table

__all__ = ["COLUMNS", "Column", "Origin", "write_members"]


class Column(NamedTuple):
    """How a column is written: its name, its unit as astropy writes it, its UCD (UCD1+), and what it means."""

    name: str
    unit: str
    ucd: str
    description: str


_RA, _DEC, _PLX = "pos.eq.ra", "pos.eq.dec", "pos.parallax.trig"
_PMRA, _PMDEC = f"pos.pm;{_RA}", f"pos.pm;{_DEC}"
_MOTION = "mas / yr"
#: the astrometric parameters: name -> UCD, unit of the error, what it is
_ASTROMETRY = {
    "ra": (_RA, "mas", "right ascension, times cos(dec)"),
    "dec": (_DEC, "mas", "declination"),
    "parallax": (_PLX, "mas", "parallax"),
    "pmra": (_PMRA, _MOTION, "proper motion in right ascension, times cos(dec)"),
    "pmdec": (_PMDEC, _MOTION, "proper motion in declination"),
}
_SUFFIX = {"mas": "_mas", _MOTION: "_mas_yr"}


def _errors() -> dict[str, Column]:
    return {
        f"{name}_error{_SUFFIX[unit]}": Column(f"{name}_error", unit, f"stat.error;{ucd}", f"error of {text}")
        for name, (ucd, unit, text) in _ASTROMETRY.items()
    }


def _correlations() -> dict[str, Column]:
    names = list(_ASTROMETRY)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return {
        f"{a}_{b}_corr": Column(
            f"{a}_{b}_corr",
            "",
            f"stat.correlation;{_ASTROMETRY[a][0]};{_ASTROMETRY[b][0]}",
            f"correlation between the errors of {a} and {b}",
        )
        for a, b in pairs
    }


#: canonical column -> how it is written; the names are those of the Gaia archive where it has one
COLUMNS: dict[str, Column] = {
    "source_id": Column("source_id", "", "meta.id;meta.main", "identifier of the star in its catalogue"),
    "cluster": Column("cluster", "", "meta.id.parent", "cluster that the star may belong to"),
    "probability": Column("probability", "", "stat.probability", "probability to be a member of the cluster"),
    "ra_deg": Column("ra", "deg", f"{_RA};meta.main", "right ascension, ICRS"),
    "dec_deg": Column("dec", "deg", f"{_DEC};meta.main", "declination, ICRS"),
    "parallax_mas": Column("parallax", "mas", _PLX, "parallax"),
    "member_parallax_mas": Column(
        "member_parallax", "mas", "pos.parallax;stat.fit", "parallax from the star's own and its cluster's"
    ),
    "pmra_mas_yr": Column("pmra", _MOTION, _PMRA, "proper motion in right ascension, times cos(dec)"),
    "pmdec_mas_yr": Column("pmdec", _MOTION, _PMDEC, "proper motion in declination"),
    **_errors(),
    **_correlations(),
    "magnitude": Column("magnitude", "mag", "phot.mag;em.opt", "apparent magnitude"),
    "bp_magnitude": Column("phot_bp_mean_mag", "mag", "phot.mag;em.opt.B", "mean magnitude in BP"),
    "rp_magnitude": Column("phot_rp_mean_mag", "mag", "phot.mag;em.opt.R", "mean magnitude in RP"),
    "colour": Column("colour", "mag", "phot.color", "colour index"),
    "absolute_magnitude": Column(
        "absolute_magnitude", "mag", "phys.magAbs;em.opt", "absolute magnitude, without extinction"
    ),
    "radial_velocity": Column("radial_velocity", "km / s", "spect.dopplerVeloc.opt", "radial velocity"),
    "radial_velocity_error": Column(
        "radial_velocity_error", "km / s", "stat.error;spect.dopplerVeloc.opt", "error of radial_velocity"
    ),
    "ruwe": Column("ruwe", "", "stat.error", "renormalised unit weight error of the astrometry"),
}
_TYPES = {"source_id": "int64", "cluster": "str"}  # all others: float64
_REQUIRED = ("source_id", "cluster", "probability")


@dataclass(frozen=True)
class Origin:
    """What the members were found in: the file or catalogue, its epoch as a Julian year, and whom to cite."""

    source: str
    epoch: float | None = None
    citations: Sequence[str] = ()


def write_members(members: pd.DataFrame | Table, stem: str | Path, origin: Origin) -> tuple[Path, ...]:
    """Write ``stem`` with .fits, .vot and .parquet: the same stars in the same order; their paths.

    ``members`` has ``source_id``, ``cluster`` and ``probability``, and any other columns of ``COLUMNS``, in their
    units; no rows are a table too. What is missing is NaN. Each file is written whole or not at all.

    FITS: TUNITn, and TUCDn and TCOMMn as TOPCAT writes them. VOTable 1.4: the frame and epoch of the positions as
    COOSYS. Parquet: a VOTable without data in the metadata (VOParquet 1.0), which readers of plain Parquet ignore.

    InputError: a column that is not in ``COLUMNS`` or of another type than it has, or a required one is missing.
    """
    data = _checked(members)
    facts = _facts(origin)
    stem = Path(stem)
    paths = tuple(stem.with_name(stem.name + suffix) for suffix in (".fits", ".vot", ".parquet"))
    for path, write in zip(paths, (_write_fits, _write_votable, _write_parquet), strict=True):
        with atomic_path(path) as temporary:
            write(data, origin, facts, temporary)
    return paths


def _checked(members: pd.DataFrame | Table) -> dict[str, np.ndarray]:
    """Canonical column -> int64, str or float64 values."""
    names = list(members.columns)
    for name in names:
        if name not in COLUMNS:
            raise InputError(f"members: no canonical column {name!r}{did_you_mean(name, COLUMNS)}")
    if missing := [name for name in _REQUIRED if name not in names]:
        raise InputError(f"members: the column {missing[0]!r} is missing")
    data = {}
    for name in names:
        values = members[name]
        if isinstance(values, np.ma.MaskedArray) and name not in _TYPES:
            values = values.filled(np.nan)
        if name == "source_id" and len(values) and np.asarray(values).dtype.kind not in "iu":
            raise InputError(f"members: source_id is {values.dtype}, not whole numbers")
        try:
            data[name] = np.array(list(values), dtype=_TYPES.get(name, "float64"))
            if data[name].dtype.kind == "U":
                # of a width of 1, formats make a character and no text
                data[name] = data[name].astype(f"U{max(2, data[name].dtype.itemsize // 4)}")
        except (TypeError, ValueError) as error:
            raise InputError(f"members: {name} is no column of numbers: {error}") from error
    return data


def _facts(origin: Origin) -> dict[str, str]:
    """Where the file comes from, for its header."""
    from sciencevae import __version__

    facts = {
        "creator": f"sciencevae {__version__}",
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "source": origin.source,
    }
    return facts | {f"citation {n}": text for n, text in enumerate(origin.citations, start=1)}


def _description(column: Column, origin: Origin) -> str:
    """With the epoch, where the quantity is a position on the sky."""
    placed = column.ucd.endswith(";meta.main") and column.unit == "deg" and origin.epoch is not None
    return f"{column.description}, epoch J{origin.epoch}" if placed else column.description


def _write_fits(data: Mapping[str, np.ndarray], origin: Origin, facts: Mapping[str, str], path: Path) -> None:
    from astropy.io import fits
    from astropy.units import Unit

    columns = []
    for name, values in data.items():
        unit = Unit(COLUMNS[name].unit).to_string("fits") or None
        kind = {"i": "K", "f": "D"}.get(values.dtype.kind)
        if kind is None:
            values = _ascii(values)
            kind = f"{values.dtype.itemsize}A"
        columns.append(fits.Column(COLUMNS[name].name, kind, unit, array=values))
    hdu = fits.BinTableHDU.from_columns(columns, name="MEMBERS")
    for number, name in enumerate(data, start=1):
        hdu.header[f"TUCD{number}"] = COLUMNS[name].ucd
        hdu.header[f"TCOMM{number}"] = _description(COLUMNS[name], origin)
    hdu.header["RADESYS"] = "ICRS"
    for key, value in facts.items():
        if key in ("creator", "date"):
            hdu.header[key.upper()] = value
        else:
            hdu.header["HISTORY"] = _ascii(np.array([f"{key}: {' '.join(value.split())}"]))[0].decode()
    file = fits.HDUList([fits.PrimaryHDU(), hdu])
    with path.open("wb") as opened:
        file.writeto(opened, output_verify="exception", checksum=True)


def _ascii(values: np.ndarray) -> np.ndarray:
    """Text as bytes of one width, at least 2; what is not ASCII, which FITS does not have, as its escape."""
    encoded = [str(value).encode("ascii", "backslashreplace") for value in values]
    return np.array(encoded, dtype=f"S{max([2, *map(len, encoded)])}")


def _write_votable(
    data: Mapping[str, np.ndarray], origin: Origin, facts: Mapping[str, str], path: Path
) -> None:
    document = _votable(data, origin, facts)
    with path.open("wb") as file:
        document.to_xml(file)


def _votable(data: Mapping[str, np.ndarray], origin: Origin, facts: Mapping[str, str]) -> VOTableFile:
    from astropy.io.votable.tree import CooSys, Field, Info, Resource, TableElement, VOTableFile

    document = VOTableFile(version="1.4")
    document.description = "Members of star clusters with their probabilities"
    epoch = None if origin.epoch is None else f"J{origin.epoch}"
    document.coordinate_systems.append(CooSys(ID="icrs", system="ICRS", epoch=epoch))
    for number, (key, value) in enumerate(facts.items(), start=1):
        # without one, astropy makes an ID of the name, and there may be several citations
        document.infos.append(Info(ID=f"info_{number}", name=key.split()[0], value=" ".join(value.split())))
    resource = Resource(type="results")
    document.resources.append(resource)
    table = TableElement(document, name="members")
    resource.tables.append(table)
    for name, values in data.items():
        column = COLUMNS[name]
        described: dict[str, Any] = {"datatype": {"i": "long", "f": "double"}.get(values.dtype.kind)}
        if described["datatype"] is None:
            described = {"datatype": "unicodeChar", "arraysize": str(values.dtype.itemsize // 4)}
        placed = "icrs" if "pos." in column.ucd else None
        unit = column.unit or None
        field = Field(document, name=column.name, unit=unit, ucd=column.ucd, ref=placed, **described)
        field.description = _description(column, origin)
        table.fields.append(field)
    table.create_arrays(len(next(iter(data.values()))))
    for name, values in data.items():
        table.array[COLUMNS[name].name] = values
        table.array.mask[COLUMNS[name].name] = False
    return document


def _write_parquet(
    data: Mapping[str, np.ndarray], origin: Origin, facts: Mapping[str, str], path: Path
) -> None:
    import pyarrow.parquet

    text = io.BytesIO()
    _votable({name: values[:0] for name, values in data.items()}, origin, facts).to_xml(text)
    about = {"IVOA.VOTable-Parquet.version": "1.0", "IVOA.VOTable-Parquet.content": text.getvalue()}
    for name in (name for name, values in data.items() if values.dtype.kind == "U"):
        # astropy's own key: without it, astropy warns, and can't read a table without rows
        about[f"table::len::{COLUMNS[name].name}"] = str(data[name].dtype.itemsize // 4)
    table = pyarrow.table({COLUMNS[name].name: values for name, values in data.items()}, metadata=about)
    pyarrow.parquet.write_table(table, path)
