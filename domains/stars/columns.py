"""A catalogue of the user's own: which column is what, in which unit, and which rows can be used."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.data.tables import as_numbers, open_table
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ALIASES",
    "ASTROMETRY",
    "CANONICAL",
    "CORRELATIONS",
    "ERRORS",
    "NO_IDENTIFIER",
    "canonical",
    "correlation_matrix",
    "find_columns",
    "positive_definite",
    "read_catalogue",
    "status_of",
]

#: the five astrometric parameters in the order of Gaia, and their errors
ASTROMETRY = ("ra_deg", "dec_deg", "parallax_mas", "pmra_mas_yr", "pmdec_mas_yr")
ERRORS = ("ra_error_mas", "dec_error_mas", "parallax_error_mas", "pmra_error_mas_yr", "pmdec_error_mas_yr")
_SHORT = ("ra", "dec", "parallax", "pmra", "pmdec")
#: the ten correlations: (row, column) -> canonical name, of (α*, δ, ϖ, μα*, μδ)
CORRELATIONS = {(i, j): f"{_SHORT[i]}_{_SHORT[j]}_corr" for i in range(5) for j in range(i + 1, 5)}
#: canonical name -> unit; those of ``_REQUIRED`` must be there
CANONICAL = {
    "source_id": "",
    **dict(zip(ASTROMETRY, ("deg", "deg", "mas", "mas / yr", "mas / yr"), strict=True)),
    **dict(zip(ERRORS, ("mas", "mas", "mas", "mas / yr", "mas / yr"), strict=True)),
    **dict.fromkeys(CORRELATIONS.values(), ""),
    "magnitude": "mag",
    "colour": "mag",
    "bp_magnitude": "mag",
    "rp_magnitude": "mag",
    "bp_rp": "mag",
    "ruwe": "",
    "astrometric_excess_noise": "mas",
    "astrometric_excess_noise_sig": "",
    "nu_eff_used_in_astrometry": "1 / um",
    "pseudocolour": "1 / um",
    "ecl_lat": "deg",
    "astrometric_params_solved": "",
    "radial_velocity": "km / s",
    "radial_velocity_error": "km / s",
    "ref_epoch": "",
}
_REQUIRED = ("source_id", *ASTROMETRY, *ERRORS[2:])
#: what is there, if only as NaN, whatever a file holds
_ALWAYS = (*_REQUIRED, "parallax_pmra_corr", "parallax_pmdec_corr", "pmra_pmdec_corr")
#: at CDS, correlations are called by these
_CDS = ("RA", "DE", "Plx", "pmRA", "pmDE")
#: what each is called: the Gaia archive from DR1 to DR3, VizieR (I/311, I/337, I/345, I/350, I/355; the
#: correlations of I/239), common names; compared without case, the first that is there
ALIASES: dict[str, tuple[str, ...]] = {
    "source_id": ("source_id", "Source", "HIP", "hip_id", "gaia_source_id", "id", "star_id"),
    "ra_deg": ("ra_deg", "ra", "RA_ICRS", "RAdeg", "RAICRS", "_RA", "RArad", "RAJ2000", "_RAJ2000", "alpha"),
    "dec_deg": (
        "dec_deg",
        "dec",
        "DE_ICRS",
        "DEdeg",
        "DEICRS",
        "_DE",
        "DErad",
        "DEJ2000",
        "_DEJ2000",
        "delta",
    ),
    "parallax_mas": ("parallax_mas", "parallax", "Plx"),
    "pmra_mas_yr": ("pmra_mas_yr", "pmra", "pmRA", "pm_ra_cosdec", "pmra_cosdec"),
    "pmdec_mas_yr": ("pmdec_mas_yr", "pmdec", "pmDE", "pm_dec"),
    "ra_error_mas": ("ra_error_mas", "ra_error", "e_RA_ICRS", "e_RAdeg", "e_RArad", "e_RAICRS"),
    "dec_error_mas": ("dec_error_mas", "dec_error", "e_DE_ICRS", "e_DEdeg", "e_DErad", "e_DEICRS"),
    "parallax_error_mas": ("parallax_error_mas", "parallax_error", "e_Plx", "parallax_err"),
    "pmra_error_mas_yr": ("pmra_error_mas_yr", "pmra_error", "e_pmRA", "pmra_err"),
    "pmdec_error_mas_yr": ("pmdec_error_mas_yr", "pmdec_error", "e_pmDE", "pmdec_err"),
    **{
        name: (name, f"{_CDS[i]}{_CDS[j]}cor", f"{_CDS[j]}:{_CDS[i]}")
        for (i, j), name in CORRELATIONS.items()
    },
    "magnitude": ("magnitude", "phot_g_mean_mag", "Gmag", "<Gmag>", "g_mag", "Hpmag", "mag"),
    "colour": ("colour", "color", "bp_rp", "BP-RP", "B-V", "b_v"),
    "bp_magnitude": ("bp_magnitude", "phot_bp_mean_mag", "BPmag", "bp_mag", "bp"),
    "rp_magnitude": ("rp_magnitude", "phot_rp_mean_mag", "RPmag", "rp_mag", "rp"),
    "bp_rp": ("bp_rp", "BP-RP"),
    "ruwe": ("ruwe",),
    "astrometric_excess_noise": ("astrometric_excess_noise", "epsi"),
    "astrometric_excess_noise_sig": ("astrometric_excess_noise_sig", "sepsi"),
    "nu_eff_used_in_astrometry": ("nu_eff_used_in_astrometry", "nueff"),
    "pseudocolour": ("pseudocolour", "pscol"),
    "ecl_lat": ("ecl_lat", "ELAT"),
    "astrometric_params_solved": ("astrometric_params_solved", "Solved"),
    "radial_velocity": ("radial_velocity", "dr2_radial_velocity", "RV", "RVDR2", "HRV"),
    "radial_velocity_error": (
        "radial_velocity_error",
        "dr2_radial_velocity_error",
        "e_RV",
        "e_RVDR2",
        "e_HRV",
    ),
    "ref_epoch": ("ref_epoch", "Epoch", "RefEpoch"),
}
#: text that stands for a missing value
_MISSING = ["", "null", "NULL", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "--", "-", "None", "none", "masked"]
#: stands for an identifier that is missing; the row is marked as bad
NO_IDENTIFIER = -1


def read_catalogue(
    path: Path | pd.DataFrame,
    names: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> Iterator[pd.DataFrame]:
    """Blocks of canonical columns and ``status`` from CSV, ECSV, FITS, VOTable or Parquet, in the file's order; or
    from a table.

    names: canonical name -> column of the file, where the aliases don't fit (empty: use none); units: column of
    the file -> unit, where the file states none. Rows that can't be used stay, with the reason in ``status``.
    """
    file = open_table(path, _MISSING)
    where = str(path) if isinstance(path, str | Path) else "the table"
    found = find_columns(file.names, names or {}, where)
    stated = file.units | dict(units or {})
    for number, raw in enumerate(file.blocks(list(dict.fromkeys(found.values())))):
        block = canonical(raw, found, stated, where)
        if number == 0:  # of a file in order of place, a later block may well lie between RA 0 and 6 degrees
            _refuse_other_units(block, found, stated, where)
        block["status"] = status_of(block)
        yield block


def find_columns(present: Sequence[str], names: Mapping[str, str], where: str) -> dict[str, str]:
    """Canonical name -> column of the file, of all that the file holds.

    InputError: a required column is missing (its aliases are named, and the nearest column is suggested), or
    ``names`` has one that is not there.
    """
    for name in names:
        if name not in CANONICAL:
            raise InputError(
                f"prepare.columns: no canonical column {name!r}; there are {', '.join(CANONICAL)}"
            )
    columns = {name: _column_of(present, name, names, where) for name in CANONICAL}
    found = {name: column for name, column in columns.items() if column is not None}
    missing = [name for name in _REQUIRED if name not in found]
    if missing:
        free = [column for column in present if column not in found.values()]
        raise InputError(f"{where} lacks {_describe_missing(missing, free)}")
    return found


def canonical(
    raw: pd.DataFrame, found: Mapping[str, str], units: Mapping[str, str], where: str
) -> pd.DataFrame:
    """The canonical columns of a block, in their units, with ``status``; what is missing or unreadable is NaN.

    found: of ``find_columns``; units: column of the file -> unit. A missing correlation is 0. The colour is
    BP − RP where there is no other. Without one of position, parallax and proper motion there is a 2-parameter
    solution (``astrometric_params_solved`` = 3), whatever stands in the other columns.

    InputError: a unit that can't be converted, a column that holds no numbers.
    """
    import pandas as pd

    status = _Status(len(raw))
    data: dict[str, Any] = {"source_id": _identifiers(raw[found["source_id"]], where)}
    status.mark(data["source_id"] == NO_IDENTIFIER, "no identifier")
    for name, unit in list(CANONICAL.items())[1:]:
        column = found.get(name)
        if column is not None:
            data[name], broken = _numbers(raw[column], where)
            data[name] = data[name] * _factor(column, unit, units, where)
            if name in _REQUIRED:
                status.mark(broken, f"{name} is not a number")
        elif name in _ALWAYS:
            data[name] = np.full(len(raw), np.nan)
        if name.endswith("_corr") and name in data:
            data[name] = np.nan_to_num(data[name], nan=0.0)
    if "bp_magnitude" in data and "rp_magnitude" in data:
        difference = data["bp_magnitude"] - data["rp_magnitude"]
        for name in ("bp_rp", "colour"):
            known = data.get(name, difference)
            data[name] = np.where(np.isnan(known), difference, known)
    if "astrometric_params_solved" in data:
        unsolved = data["astrometric_params_solved"] == 3
        for name in ASTROMETRY[2:]:
            data[name] = np.where(unsolved, np.nan, data[name])
    return pd.DataFrame(data).assign(status=status.text())


def _column_of(present: Sequence[str], name: str, names: Mapping[str, str], where: str) -> str | None:
    if name in names:
        if not names[name]:
            return None
        if names[name] not in present:
            close = difflib.get_close_matches(names[name], present, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(f"{where} has no column {names[name]!r} (prepare.columns.{name}){hint}")
        return names[name]
    lower = {column.lower(): column for column in reversed(present)}
    return next((lower[alias.lower()] for alias in ALIASES[name] if alias.lower() in lower), None)


def _describe_missing(missing: Sequence[str], free: Sequence[str]) -> str:
    """The first missing column, its aliases, the nearest column that is nothing else, and what to do."""
    name = missing[0]
    lower = {column.lower(): column for column in free}
    near = [
        lower[match]
        for alias in ALIASES[name]
        for match in difflib.get_close_matches(alias.lower(), lower, n=1, cutoff=0.75)
    ]
    hint = f"; did you mean {near[0]!r}? then" if near else "; else"
    value = near[0] if near else "COLUMN"
    more = f" and {', '.join(missing[1:])}" if len(missing) > 1 else ""
    return f"a column {name} ({', '.join(ALIASES[name])}){more}{hint} --set prepare.columns.{name}={value}"


def _identifiers(column: pd.Series, where: str) -> np.ndarray:
    """int64 identifiers, never through floats (a Gaia source_id has 19 digits); a missing one is −1."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        if column.dtype.kind in "iu":
            wide = np.dtype(np.uint64 if column.dtype.kind == "u" else np.int64)
            values = column.to_numpy(wide, na_value=0)
            if len(values) and int(values.max()) > np.iinfo(np.int64).max:
                raise ValueError(f"{values.max()} is beyond 63 bits")
            return np.where(column.isna().to_numpy(), NO_IDENTIFIER, values.astype(np.int64))
        if column.dtype.kind == "f":
            whole = column.to_numpy(float, na_value=np.nan)
            known = ~np.isnan(whole)
            if not (np.abs(whole[known]) < 2**53).all() or (whole[known] % 1).any():
                raise ValueError("floating-point numbers lose digits: write them as int64 or text")
            return np.where(known, np.nan_to_num(whole), NO_IDENTIFIER).astype(np.int64)
        if isinstance(column.dtype, pd.ArrowDtype):
            text = pa.array(column)
        else:
            text = pa.array(
                [str(value) if known else None for value, known in zip(column, column.notna(), strict=True)]
            )
        clean = pc.utf8_trim_whitespace(text.cast(pa.string()))
        numbers = pc.if_else(pc.is_in(clean, pa.array(_MISSING)), None, clean).cast(pa.int64())
        return numbers.fill_null(NO_IDENTIFIER).to_numpy(zero_copy_only=False)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            f"{where}: the identifiers in {column.name!r} must be whole numbers: {error}; name a column of "
            "such with --set prepare.columns.source_id=COLUMN"
        ) from error


def _numbers(column: pd.Series, where: str) -> tuple[np.ndarray, np.ndarray]:
    """A column as float64, NaN where it is missing or no number, and where it is text that is no number."""
    import pandas as pd

    broken = np.zeros(len(column), dtype=bool)
    if (numbers := as_numbers(column)) is not None:
        return numbers, broken
    given = column.notna()
    first = next(iter(column[given]), "")
    if not isinstance(first, (str, float, int)):
        raise InputError(f"{where}: column {column.name!r} holds {type(first).__name__}, not numbers")
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    text = column[given & np.isnan(values)].astype(str).str.strip()
    broken[given.to_numpy() & np.isnan(values)] = ~text.isin(_MISSING).to_numpy()
    if broken.any() and broken.sum() == given.sum():
        raise InputError(
            f"{where}: column {column.name!r} holds text such as {column[broken].iloc[0]!r}, not numbers: "
            "positions are decimal degrees; name another column with --set prepare.columns.NAME=COLUMN"
        )
    return values, broken


def _factor(name: str, unit: str, units: Mapping[str, str], where: str) -> float:
    """What a column's numbers are multiplied by to be in ``unit``."""
    import astropy.units as u

    stated = units.get(name, "rad" if name.lower() in ("rarad", "derad") else "")
    if not stated or not unit:
        return 1.0
    for form in (None, "fits", "cds", "vounit"):  # mas/yr, mas.yr**-1, mas.yr-1
        try:
            return float(u.Unit(stated, format=form).to(u.Unit(unit)))
        except (ValueError, TypeError, u.UnitConversionError):
            continue
    raise InputError(
        f"{where}: column {name!r} is in {stated!r}, which is no unit like {unit!r}; "
        f"state the right one with --set 'prepare.units.{name}=UNIT'"
    )


def _refuse_other_units(
    frame: pd.DataFrame, found: Mapping[str, str], units: Mapping[str, str], where: str
) -> None:
    """InputError for numbers that are plainly in another unit than the one stated or assumed."""
    ra, dec = np.abs(frame["ra_deg"].to_numpy()), np.abs(frame["dec_deg"].to_numpy())
    if len(frame) < 50:
        return
    if found["ra_deg"] not in units and found["ra_deg"].lower() != "rarad":
        spread = np.nanmax(ra, initial=0) <= 2 * np.pi and np.nanmax(dec, initial=0) <= np.pi / 2
        if spread and np.nanmax(dec, initial=0) > 0:
            raise InputError(
                f"{where}: {found['ra_deg']!r} and {found['dec_deg']!r} look like radians; say so with "
                f"--set prepare.units.{found['ra_deg']}=rad --set prepare.units.{found['dec_deg']}=rad "
                "(or =deg if they are degrees)"
            )
    for name, unit in (("parallax_error_mas", "arcsec"), ("pmra_error_mas_yr", "arcsec/yr")):
        values = frame[name].to_numpy()
        values = values[values > 0]
        if found[name] not in units and len(values) >= 50 and np.median(values) < 2e-3:
            raise InputError(
                f"{where}: the errors in {found[name]!r} have a median of {np.median(values):.2g}, which no "
                f"catalogue reaches in mas: state the unit of it and of its value, for example --set "
                f"prepare.units.{found[name]}={unit}"
            )
    for name, error in zip(ASTROMETRY[2:], ERRORS[2:], strict=True):
        value, sigma = frame[name].to_numpy(), frame[error].to_numpy()
        measured = np.isfinite(value) & (sigma > 0)
        if found[name] in units or measured.sum() < 50:
            continue
        least = np.quantile(sigma[measured], 0.16)
        scatter = np.diff(np.quantile(value[measured], [0.16, 0.84]))[0] / 2
        if scatter < 0.2 * least:  # of what is measured, it is larger than the error; here 3 times or more
            raise InputError(
                f"{where}: {found[name]!r} scatters by {scatter:.2g} and its errors {found[error]!r} are "
                f"{least:.2g} or more, so one of the two is in another unit: state that of both, for example "
                f"--set prepare.units.{found[name]}={CANONICAL[name].replace(' ', '').replace('mas', 'arcsec')} "
                f"--set prepare.units.{found[error]}={CANONICAL[error].replace(' ', '')}"
            )
    parallax = np.abs(frame["parallax_mas"].to_numpy())
    if np.isfinite(parallax).any() and np.nanmedian(parallax) > _NEAREST_MAS:
        raise InputError(
            f"{where}: the parallaxes in {found['parallax_mas']!r} have a median of {np.nanmedian(parallax):.4g} "
            f"mas, and not 25 stars of the sky have more than {_NEAREST_MAS:g}: state their unit, for example "
            f"--set prepare.units.{found['parallax_mas']}=uas"
        )


#: parallax of 3.3 pc, within which lie α Centauri, Sirius, Barnard's star and some twenty others
_NEAREST_MAS = 300.0
#: mas or mas/yr, beyond all stars and safe in single precision
_LARGEST = 1e8


class _Status:
    """Why each of N rows can't be used: the first reason counts."""

    def __init__(self, count: int) -> None:
        self.code, self.reasons = np.zeros(count, np.int16), [""]

    def mark(self, rows: np.ndarray, reason: str) -> None:
        new = np.asarray(rows) & (self.code == 0)
        if new.any():
            self.code[new] = len(self.reasons)
            self.reasons.append(reason)

    def text(self) -> np.ndarray:
        return np.array(self.reasons, dtype=object)[self.code]


def status_of(frame: pd.DataFrame) -> np.ndarray:
    """Why a row can't be used, as text; empty for a good one. A ``status`` that is there goes first."""
    status = _Status(len(frame))
    for reason in frame["status"].unique() if "status" in frame else ():
        if reason:
            status.mark((frame["status"] == reason).to_numpy(), str(reason))
    ra, dec = frame["ra_deg"].to_numpy(), frame["dec_deg"].to_numpy()
    status.mark(~(np.isfinite(ra) & np.isfinite(dec)), "no position")
    status.mark(~((ra >= -1e-9) & (ra <= 360 + 1e-9)), "right ascension outside 0 to 360 degrees")
    status.mark(~(np.abs(dec) <= 90), "declination outside -90 to 90 degrees")
    for name, error in zip(ASTROMETRY[2:], ERRORS[2:], strict=True):
        value, sigma = frame[name].to_numpy(), frame[error].to_numpy()
        status.mark(np.isinf(value), f"{name} is infinite")
        status.mark(np.abs(value) > _LARGEST, f"{name} is beyond {_LARGEST:g}, which no star has")
        known = np.isfinite(value)
        status.mark(known & np.isnan(sigma), f"{name} has no error")
        _mark_errors(status, sigma, known, error)
    for error in ERRORS[:2]:
        if error in frame:
            sigma = frame[error].to_numpy()
            _mark_errors(status, sigma, ~np.isnan(sigma), error)
    for name in CORRELATIONS.values():
        if name in frame:
            status.mark(np.abs(frame[name].to_numpy()) > 1, f"{name} is outside -1 to 1")
    linked = frame[[name for name in CORRELATIONS.values() if name in frame]].any(axis=1).to_numpy()
    broken = np.zeros(len(frame), dtype=bool)
    broken[linked] = ~positive_definite(correlation_matrix(frame[linked]))
    status.mark(broken, "the correlations are no covariance")
    status.mark(frame["source_id"].duplicated().to_numpy(), "source_id appears before")
    return status.text()


def _mark_errors(status: _Status, sigma: np.ndarray, known: np.ndarray, name: str) -> None:
    status.mark(known & ~(sigma > 0), f"{name} is zero or negative")
    status.mark(known & np.isinf(sigma), f"{name} is infinite")


def correlation_matrix(frame: pd.DataFrame) -> np.ndarray:
    """(N, 5, 5) of (α*, δ, ϖ, μα*, μδ); 0 where a correlation is not known."""
    rho = np.broadcast_to(np.eye(5), (len(frame), 5, 5)).copy()
    for (i, j), name in CORRELATIONS.items():
        if name in frame:
            rho[:, i, j] = rho[:, j, i] = frame[name].to_numpy(float)
    return rho


def positive_definite(rho: np.ndarray) -> np.ndarray:
    """Whether correlation matrices (N, n, n) are some, with a margin for single precision, (N,) bool.

    Gaussian elimination: all pivots (the variances of each, given those before it) above 1e-6.
    """
    left, good = rho.copy(), np.ones(len(rho), dtype=bool)
    for k in range(rho.shape[-1]):
        pivot = left[:, k, k]
        good &= pivot > 1e-6
        row = left[:, k, k + 1 :] / np.where(pivot > 1e-6, pivot, 1.0)[:, None]
        left[:, k + 1 :, k + 1 :] -= left[:, k + 1 :, k, None] * row[:, None, :]
    return good
