"""A catalogue of the user's own: which column is what, in which unit, and which rows can be used."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.data.tables import read_tables
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import Table

__all__ = ["ALIASES", "CANONICAL", "canonical", "read_catalogue", "status_of"]

#: canonical name -> unit; those of ``_REQUIRED`` must be there
CANONICAL = {
    "source_id": "",
    "ra_deg": "deg",
    "dec_deg": "deg",
    "parallax_mas": "mas",
    "pmra_mas_yr": "mas / yr",
    "pmdec_mas_yr": "mas / yr",
    "parallax_error_mas": "mas",
    "pmra_error_mas_yr": "mas / yr",
    "pmdec_error_mas_yr": "mas / yr",
    "parallax_pmra_corr": "",
    "parallax_pmdec_corr": "",
    "pmra_pmdec_corr": "",
    "magnitude": "mag",
    "colour": "mag",
}
_REQUIRED = tuple(CANONICAL)[:9]
#: what each is called: Gaia archive and VizieR, Hipparcos at CDS, common names; compared without case
ALIASES: dict[str, tuple[str, ...]] = {
    "source_id": ("source_id", "Source", "HIP", "hip_id", "id", "star_id"),
    "ra_deg": ("ra_deg", "ra", "RA_ICRS", "RAdeg", "_RA", "RArad", "RAJ2000", "alpha"),
    "dec_deg": ("dec_deg", "dec", "DE_ICRS", "DEdeg", "_DE", "DErad", "DEJ2000", "delta"),
    "parallax_mas": ("parallax_mas", "parallax", "Plx", "plx"),
    "pmra_mas_yr": ("pmra_mas_yr", "pmra", "pmRA", "pm_ra_cosdec", "pmra_cosdec"),
    "pmdec_mas_yr": ("pmdec_mas_yr", "pmdec", "pmDE", "pm_dec"),
    "parallax_error_mas": ("parallax_error_mas", "parallax_error", "e_Plx", "parallax_err"),
    "pmra_error_mas_yr": ("pmra_error_mas_yr", "pmra_error", "e_pmRA", "pmra_err"),
    "pmdec_error_mas_yr": ("pmdec_error_mas_yr", "pmdec_error", "e_pmDE", "pmdec_err"),
    "parallax_pmra_corr": ("parallax_pmra_corr", "PlxpmRAcor"),
    "parallax_pmdec_corr": ("parallax_pmdec_corr", "PlxpmDEcor"),
    "pmra_pmdec_corr": ("pmra_pmdec_corr", "pmRApmDEcor"),
    "magnitude": ("magnitude", "phot_g_mean_mag", "Gmag", "Hpmag", "mag"),
    "colour": ("colour", "color", "bp_rp", "BP-RP", "B-V", "b_v"),
}


def read_catalogue(
    path: Path, names: Mapping[str, str] | None = None, units: Mapping[str, str] | None = None
) -> Iterator[pd.DataFrame]:
    """Blocks of canonical columns and ``status`` from CSV, ECSV, FITS, VOTable or Parquet, in the file's order.

    names: canonical name -> column of the file, where the aliases don't fit; units: column of the file ->
    unit, where the file states none. Rows that can't be used stay, with the reason in ``status``.
    """
    for table in read_tables(Path(path)):
        block = canonical(table, str(path), names or {}, units or {})
        block["status"] = status_of(block)
        yield block


def canonical(table: Table, where: str, names: Mapping[str, str], units: Mapping[str, str]) -> pd.DataFrame:
    """The canonical columns of an astropy table, in their units; what is missing or unreadable is NaN.

    InputError: a required column is missing (the nearest name is suggested), a unit that can't be converted,
    numbers that are plainly in another unit than the one assumed.
    """
    import pandas as pd

    for name in names:
        if name not in CANONICAL:
            raise InputError(
                f"prepare.columns: no canonical column {name!r}; there are {', '.join(CANONICAL)}"
            )
    found = {name: _column_of(table, name, names, where) for name in CANONICAL}
    missing = [name for name in _REQUIRED if found[name] is None]
    if missing:
        raise InputError(f"{where} lacks {_describe_missing(missing, table.colnames)}")
    data: dict[str, Any] = {"source_id": _identifiers(table[found["source_id"]], where)}
    for name, unit in list(CANONICAL.items())[1:]:
        column = found[name]
        if column is None:
            data[name] = np.full(len(table), 0.0 if name.endswith("_corr") else np.nan)
            continue
        data[name] = _converted(table[column], column, unit, units, where)
        if name.endswith("_corr"):
            data[name] = np.nan_to_num(data[name], nan=0.0)
    frame = pd.DataFrame(data)
    stated = {n: found[n] in units or table[found[n]].unit is not None for n in _REQUIRED[1:]}
    _refuse_other_units(frame, stated, {n: str(found[n]) for n in _REQUIRED}, where)
    return frame


def _column_of(table: Table, name: str, names: Mapping[str, str], where: str) -> str | None:
    if name in names:
        if names[name] not in table.colnames:
            close = difflib.get_close_matches(names[name], table.colnames, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(f"{where} has no column {names[name]!r} (prepare.columns.{name}){hint}")
        return names[name]
    lower = {column.lower(): column for column in reversed(table.colnames)}
    return next((lower[alias.lower()] for alias in ALIASES[name] if alias.lower() in lower), None)


def _describe_missing(missing: Sequence[str], present: Sequence[str]) -> str:
    """The first missing column, its aliases, the nearest column there is, and what to do."""
    name = missing[0]
    lower = {column.lower(): column for column in present}
    near = [
        lower[match]
        for alias in ALIASES[name]
        for match in difflib.get_close_matches(alias.lower(), lower, n=1, cutoff=0.75)
    ]
    hint = f"; did you mean {near[0]!r}? then" if near else "; else"
    value = near[0] if near else "COLUMN"
    more = f" and {', '.join(missing[1:])}" if len(missing) > 1 else ""
    return f"a column {name} ({', '.join(ALIASES[name])}){more}{hint} --set prepare.columns.{name}={value}"


def _identifiers(column: Any, where: str) -> np.ndarray:
    """int64 identifiers, never through floats (a Gaia source_id has 19 digits)."""
    values = np.ma.asarray(column)
    if values.dtype.kind in "iu" and not np.ma.is_masked(values):
        return np.asarray(values, dtype=np.int64)
    try:
        if values.dtype.kind == "f":
            whole = np.asarray(values.filled(np.nan), float)
            if not (np.abs(whole) < 2**53).all() or (whole % 1).any():
                raise ValueError("floating-point numbers lose digits")
            return whole.astype(np.int64)
        return np.array([int(str(value)) for value in values], dtype=np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            f"{where}: the identifiers in {column.name!r} must be whole numbers: {error}"
        ) from error


def _converted(column: Any, name: str, unit: str, units: Mapping[str, str], where: str) -> np.ndarray:
    """A column as float64 in ``unit``; text that is no number becomes NaN."""
    import astropy.units as u

    try:
        values = np.ma.asarray(column)
        if values.dtype.kind in "OSU":
            import pandas as pd

            numbers = pd.to_numeric(pd.Series(values.astype(str)), errors="coerce")
            values = np.ma.masked_invalid(numbers.to_numpy())
        plain = np.asarray(np.ma.filled(values.astype(np.float64), np.nan))
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: column {name!r} holds {column.dtype}, not numbers ({error})") from error
    stated = units.get(name) or (str(column.unit) if column.unit is not None else "")
    if not stated and name.lower() in ("rarad", "derad"):
        stated = "rad"
    if not stated or not unit:
        return plain
    try:
        return (plain * u.Unit(stated)).to_value(u.Unit(unit))
    except (ValueError, TypeError, u.UnitConversionError) as error:
        raise InputError(
            f"{where}: column {name!r} is in {stated!r}, which is no unit like {unit!r}; "
            f"state the right one with --set 'prepare.units.{name}=UNIT'"
        ) from error


def _refuse_other_units(
    frame: pd.DataFrame, stated: Mapping[str, bool], column: Mapping[str, str], where: str
) -> None:
    """InputError for columns without a unit whose numbers are plainly radians or arcseconds."""
    ra, dec = frame["ra_deg"].to_numpy(), frame["dec_deg"].to_numpy()
    if not stated["ra_deg"] and len(frame) >= 50:
        spread = (
            np.nanmax(np.abs(ra), initial=0) <= 2 * np.pi and np.nanmax(np.abs(dec), initial=0) <= np.pi / 2
        )
        if spread and np.nanmax(np.abs(dec), initial=0) > 0:
            raise InputError(
                f"{where}: {column['ra_deg']!r} and {column['dec_deg']!r} look like radians; say so with "
                f"--set prepare.units.{column['ra_deg']}=rad --set prepare.units.{column['dec_deg']}=rad "
                "(or =deg if they are degrees)"
            )
    for name, unit in (("parallax_error_mas", "arcsec"), ("pmra_error_mas_yr", "arcsec/yr")):
        values = frame[name].to_numpy()
        values = values[values > 0]
        if not stated[name] and len(values) >= 50 and np.median(values) < 2e-3:
            raise InputError(
                f"{where}: the errors in {column[name]!r} have a median of {np.median(values):.2g}, which no "
                f"catalogue reaches in mas: state the unit of it and of its value, for example --set "
                f"prepare.units.{column[name]}={unit}"
            )


#: mas or mas/yr, beyond all stars and safe in single precision
_LARGEST = 1e8


def status_of(frame: pd.DataFrame) -> np.ndarray:
    """Why a row can't be used, as text; empty for a good one."""
    status = np.full(len(frame), "", dtype=object)
    ra, dec = frame["ra_deg"].to_numpy(), frame["dec_deg"].to_numpy()
    _mark(status, ~(np.isfinite(ra) & np.isfinite(dec)), "no position")
    _mark(status, ~((ra >= -1e-9) & (ra <= 360 + 1e-9)), "right ascension outside 0 to 360 degrees")
    _mark(status, ~(np.abs(dec) <= 90), "declination outside -90 to 90 degrees")
    for name, error in (
        ("parallax_mas", "parallax_error_mas"),
        ("pmra_mas_yr", "pmra_error_mas_yr"),
        ("pmdec_mas_yr", "pmdec_error_mas_yr"),
    ):
        value, sigma = frame[name].to_numpy(), frame[error].to_numpy()
        _mark(status, np.isinf(value), f"{name} is infinite")
        _mark(status, np.abs(value) > _LARGEST, f"{name} is beyond {_LARGEST:g}, which no star has")
        known = np.isfinite(value)
        _mark(status, known & np.isnan(sigma), f"{name} has no error")
        _mark(status, known & ~(sigma > 0), f"{error} is zero or negative")
        _mark(status, known & np.isinf(sigma), f"{error} is infinite")
    _mark(status, frame["source_id"].duplicated().to_numpy(), "source_id appears before")
    return status


def _mark(status: np.ndarray, rows: np.ndarray, reason: str) -> None:
    status[rows & (status == "")] = reason
