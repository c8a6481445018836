"""Reads hip2.dat: the Hipparcos catalogue in the new reduction (van Leeuwen 2007; CDS I/311)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sciencevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "correlations", "read_hip2"]

#: the 41 fields in the order of the file, by their names at CDS
COLUMNS = (
    *("HIP", "Sn", "So", "Nc", "RArad", "DErad", "Plx", "pmRA", "pmDE"),
    *("e_RArad", "e_DErad", "e_Plx", "e_pmRA", "e_pmDE"),
    *("Ntr", "F2", "F1", "var", "ic", "Hpmag", "e_Hpmag", "sHp", "VA", "B-V", "e_B-V", "V-I"),
    *(f"UW{i}" for i in range(1, 16)),
)
_UPPER = [(row, column) for column in range(5) for row in range(column + 1)]  # order of the 15 weights
#: how far the errors implied by the (rounded) weights may differ from the published ones
_WEIGHT_TOLERANCE = 0.3


def read_hip2(path: Path) -> pd.DataFrame:
    """The catalogue as canonical columns (``columns.CANONICAL``), one row a star, index 0 … N−1.

    Positions at epoch J1991.25, ICRS, turned from radians into degrees with astropy's units. B−V = 0 with
    error 0 is how the file marks a missing colour: NaN here. Correlations come from the weight matrix.
    """
    import astropy.units as u
    import pandas as pd

    try:
        raw = pd.read_csv(path, sep=r"\s+", header=None, names=list(COLUMNS), index_col=False)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise InputError(f"{path} is not a hip2.dat: {error}") from error
    numeric = raw.apply(pd.to_numeric, errors="coerce")
    broken = numeric.isna().any(axis=1).to_numpy()
    if not len(raw) or broken.any():
        where = f"line {int(np.argmax(broken)) + 1}" if len(raw) else "no line"
        raise InputError(f"{path} is not a hip2.dat: {where} has not {len(COLUMNS)} numbers; fetch it again")
    raw = numeric
    ra, dec = raw["RArad"].to_numpy() * u.rad, raw["DErad"].to_numpy() * u.rad
    rho = correlations(raw)
    colour = raw["B-V"].where((raw["B-V"] != 0) | (raw["e_B-V"] != 0))
    return pd.DataFrame(
        {
            "source_id": raw["HIP"].astype("int64"),
            "ra_deg": ra.to_value(u.deg),
            "dec_deg": dec.to_value(u.deg),
            "parallax_mas": raw["Plx"],
            "pmra_mas_yr": raw["pmRA"],
            "pmdec_mas_yr": raw["pmDE"],
            "parallax_error_mas": raw["e_Plx"],
            "pmra_error_mas_yr": raw["e_pmRA"],
            "pmdec_error_mas_yr": raw["e_pmDE"],
            "parallax_pmra_corr": rho[:, 2, 3],
            "parallax_pmdec_corr": rho[:, 2, 4],
            "pmra_pmdec_corr": rho[:, 3, 4],
            "magnitude": raw["Hpmag"],
            "colour": colour,
        }
    )


def correlations(raw: pd.DataFrame) -> np.ndarray:
    """Correlation matrices (N, 5, 5) of (RA, Dec, ϖ, μα*, μδ) from the weights UW1 … UW15.

    C⁻¹ = UᵀU with U upper triangular, written column by column. Note 1: the diagonal of U is multiplied by the
    published error in the file and the rest is not; we found this by demanding that C give back the published
    errors, which holds to the rounding of the weights for single stars (median ratio 1.003, 98 % in
    0.96–1.12), and not otherwise. Where it fails by more than 30 % in any of the five (3 % of the stars,
    mostly double ones), the correlations are taken as 0.
    """
    errors = raw[["e_RArad", "e_DErad", "e_Plx", "e_pmRA", "e_pmDE"]].to_numpy(float)
    root = np.zeros((len(raw), 5, 5))
    for number, (row, column) in enumerate(_UPPER, start=1):
        value = raw[f"UW{number}"].to_numpy(float)
        root[:, row, column] = value / errors[:, row] if row == column else value
    diagonal = np.einsum("nii->ni", root)
    usable = (np.isfinite(root).all((1, 2))) & (np.abs(diagonal) > 1e-12).all(1)
    root[~usable] = np.eye(5)
    inverse = np.linalg.inv(root)
    covariance = inverse @ inverse.transpose(0, 2, 1)
    implied = np.sqrt(np.einsum("nii->ni", covariance))
    rho = covariance / implied[:, :, None] / implied[:, None, :]
    usable &= (np.abs(implied / errors - 1) < _WEIGHT_TOLERANCE).all(1)
    rho[~usable] = np.eye(5)
    return rho
