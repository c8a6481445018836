"""A star's five astrometric parameters with their covariance: as catalogued, corrected, at another epoch, as x."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from sciencevae.errors import InputError

from . import kinematics
from .columns import ALIASES, ASTROMETRY, CORRELATIONS, ERRORS, correlation_matrix
from .settings import Prepare
from .zeropoint import ecliptic_latitude, wavenumber, zero_point

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["at_epoch", "corrected", "covariance", "direction_covariance", "parallax_error_factor", "stated"]

_MAS_IN_RADIANS = float(np.radians(1 / 3.6e6))
_POSITION_ERROR_MAS = 1.0  # nominal: far below any scale of interest; the intrinsic scatter is added to it
#: mas, mas/yr: the error that stands for "not measured", beyond what any field spreads over
_UNMEASURED = 1e3
_DR3 = 2016.0  # reference epoch of Gaia EDR3 and DR3
_SIGNIFICANT = 2.0  # excess noise of lower significance is none (Lindegren et al. 2012, A&A 538, A78)


def covariance(frame: pd.DataFrame) -> np.ndarray:
    """(N, 5, 5) of (α*, δ, ϖ, μα*, μδ) in mas and mas/yr: C_ij = ρ_ij σ_i σ_j.

    A position without an error has a nominal one of 1 mas, without correlations.
    """
    sigma = np.stack([frame[name].to_numpy(float) if name in frame else np.full(len(frame), np.nan)
                      for name in ERRORS], axis=1)  # fmt: skip
    rho = correlation_matrix(frame)
    nominal = np.isnan(sigma[:, :2]).any(1)
    sigma[nominal, :2] = _POSITION_ERROR_MAS
    rho[nominal, :2, 2:] = rho[nominal, 2:, :2] = rho[nominal, 0, 1] = rho[nominal, 1, 0] = 0
    with np.errstate(invalid="ignore"):  # infinite errors, of rows that are marked as bad
        return rho * sigma[:, :, None] * sigma[:, None, :]


def direction_covariance(frame: pd.DataFrame) -> np.ndarray:
    """(N, 6, 6) of (r̂, ϖ, μα*, μδ), r̂ in radians: C = J C₅ Jᵀ with J = [ê n̂] on the position, else 1.

    A unit vector has no error along itself. There stands the mean variance of the position, which can't be
    told from it at 1e-9 rad, and the matrix is invertible. What was not measured has a variance of 1e6
    and no correlation (and is NaN in x, which marginalises it).
    """
    five, direction = covariance(frame), kinematics.directions(*_place(frame))
    missing = frame[list(ASTROMETRY[2:])].isna().to_numpy()
    absent = np.concatenate([np.zeros((len(frame), 2), bool), missing], axis=1)
    five[absent[:, :, None] | absent[:, None, :]] = 0
    five[:, range(5), range(5)] += np.where(absent, _UNMEASURED**2, 0)
    found = np.zeros((len(frame), 6, 6))
    found[:, 3:, 3:] = five[:, 2:, 2:]
    basis = kinematics.tangent_basis(direction) * _MAS_IN_RADIANS  # (N, 2, 3)
    found[:, :3, 3:] = np.einsum("nki,nkj->nij", basis, five[:, :2, 2:])
    found[:, 3:, :3] = found[:, :3, 3:].transpose(0, 2, 1)
    mean = five[:, [0, 1], [0, 1]].mean(1)[:, None, None]
    # around the mean, so that equal errors give a multiple of the identity to the last bit
    unlike = five[:, :2, :2] - mean * np.eye(2)
    found[:, :3, :3] = np.einsum("nki,nkl,nlj->nij", basis, unlike, basis)
    found[:, :3, :3] += mean * _MAS_IN_RADIANS**2 * np.eye(3)
    return found


def at_epoch(frame: pd.DataFrame, chosen: Prepare) -> pd.DataFrame:
    """A block of canonical columns at the Julian year ``chosen.epoch``, as it is where there is none.

    Propagated in space, see ``kinematics.propagate``, with the radial velocity where there is one and else with 0;
    a star without a proper motion stays where it is, at its own ``ref_epoch``.

    InputError: no epoch is known to start from, or the one that a zero-point is asked for is not Gaia DR3's.
    """
    epoch = _column(frame, "ref_epoch")
    if chosen.ref_epoch is not None:
        epoch = np.where(np.isnan(epoch), chosen.ref_epoch, epoch)
    if chosen.parallax_zero_point != "none" and (other := epoch[np.isfinite(epoch) & (epoch != _DR3)]).size:
        raise InputError(
            f"prepare.parallax_zero_point={chosen.parallax_zero_point} is for Gaia EDR3 and DR3 (epoch {_DR3:g}), "
            f"and these stars are of {other[0]:g}: set it to none"
        )
    if chosen.epoch is None:
        return frame
    if np.isnan(epoch).any():
        raise InputError(
            f"prepare.epoch needs to know of which epoch the positions are: a column ref_epoch "
            f"({', '.join(ALIASES['ref_epoch'])}), or --set prepare.ref_epoch=YEAR (Gaia DR3: 2016, DR2: 2015.5, "
            "DR1: 2015, Hipparcos: 1991.25)"
        )
    pm = frame[list(ASTROMETRY[3:])].to_numpy(float)
    going = ~np.isnan(pm).any(1) & (epoch != chosen.epoch)
    moved = frame.assign(ref_epoch=np.where(np.isnan(pm).any(1), epoch, chosen.epoch))
    years = np.where(going, chosen.epoch - epoch, 0)
    with np.errstate(all="ignore"):  # numbers of rows that are marked as bad
        direction = kinematics.directions(*_place(frame))
        parallax, radial = frame["parallax_mas"].to_numpy(), np.nan_to_num(_column(frame, "radial_velocity"))
        # of a distance that is not known, or noise below 0, there is no radial part
        away = np.maximum(np.nan_to_num(parallax), 0)
        later, nearer, turned = kinematics.propagate(direction, away, np.nan_to_num(pm), radial, years)
        five = kinematics.propagate_covariance(np.nan_to_num(covariance(frame)), direction, later, years)
        _write(moved, five)
    ra, dec = kinematics.sky_position(later)
    values = (ra, dec, np.where(parallax > 0, nearer, parallax), turned[:, 0], turned[:, 1])
    for name, value in zip(ASTROMETRY, values, strict=True):
        moved[name] = np.where(going, value, frame[name])
    for name in ERRORS[2:]:
        moved[name] = np.where(frame[name].isna(), np.nan, moved[name])
    return moved


def corrected(frame: pd.DataFrame, chosen: Prepare, counts: Counter[str]) -> pd.DataFrame:
    """Canonical columns after the corrections that are switched on, in this order.

    parallax_zero_point: ϖ − Z, see ``zeropoint``; a star without magnitude or colour keeps its ϖ.
    excess_noise: C + ε² 1, with ε the astrometric excess noise (mas, and mas/yr for motions) where its
        significance is above 2 or not given. Gaia's errors hold ε already, averaged down over the
        observations of a star; all of it on top is an upper bound, right for a motion (of a binary, say) that
        does not average out.
    error_inflation: F² C. parallax_error_inflation: σ_ϖ f(G), see ``parallax_error_factor``.

    counts: how many stars each could not be applied to is added there. InputError: a column that is needed is
    not there.
    """
    frame = frame.copy()
    with np.errstate(all="ignore"):  # numbers of rows that are marked as bad
        if chosen.parallax_zero_point != "none":
            z = _zero_point(frame)
            unknown = np.isnan(z) & frame["parallax_mas"].notna()
            counts["parallax zero-point not known"] += int(unknown.sum())
            frame["parallax_mas"] -= np.nan_to_num(z)
        if chosen.excess_noise == "add":
            _write(frame, covariance(frame) + _excess_noise(frame)[:, None, None] ** 2 * np.eye(5))
        if chosen.error_inflation != 1:
            _write(frame, covariance(frame) * chosen.error_inflation**2)
        if chosen.parallax_error_inflation != "none":
            _need(frame, ("magnitude",), "prepare.parallax_error_inflation")
            factor = parallax_error_factor(_column(frame, "magnitude"))
            counts["parallax error not inflated: no magnitude"] += int(np.isnan(factor).sum())
            frame["parallax_error_mas"] *= np.where(np.isnan(factor), 1, factor)
    return frame


def stated(chosen: Prepare) -> dict[str, str]:
    """The corrections that are switched on, in words, for the report."""
    return {
        name: text
        for name, on, text in (
            ("parallax zero-point", chosen.parallax_zero_point != "none",
             "subtracted, Lindegren et al. 2021, A&A 649, A4"),
            ("excess noise", chosen.excess_noise == "add",
             "its square added to all variances where its significance is above 2"),
            ("error inflation", chosen.error_inflation != 1, f"all errors times {chosen.error_inflation:g}"),
            ("parallax error inflation", chosen.parallax_error_inflation != "none",
             "by G, El-Badry et al. 2021, MNRAS 506, 2269, eq. 16"),
            ("epoch", chosen.epoch is not None, f"propagated to J{chosen.epoch}"),
        )
        if on
    }  # fmt: skip


def parallax_error_factor(magnitude: np.ndarray) -> np.ndarray:
    """f(G) = 0.21 exp(−(G − 12.65)²/0.9²) + 1.141 + 0.0040 G − 0.00062 G², by which σ_ϖ of (E)DR3 is too small.

    Of stars with a good single-star solution, from wide binaries: El-Badry, Rix & Heintz 2021, MNRAS 506, 2269,
    eq. 16, for G = 7 … 21; the value at the edge beyond.
    """
    g = np.clip(np.asarray(magnitude, float), 7, 21)
    return 0.21 * np.exp(-(((g - 12.65) / 0.9) ** 2)) + 1.141 + 0.0040 * g - 0.00062 * g**2


def _write(frame: pd.DataFrame, five: np.ndarray) -> None:
    """Errors and correlations of the covariances (N, 5, 5) back into a frame."""
    sigma = np.sqrt(np.einsum("nii->ni", five))
    for i, name in enumerate(ERRORS):
        frame[name] = sigma[:, i]
    for (i, j), name in CORRELATIONS.items():
        frame[name] = np.nan_to_num(five[:, i, j] / (sigma[:, i] * sigma[:, j]))


def _need(frame: pd.DataFrame, names: tuple[str, ...], what: str) -> None:
    if not any(name in frame for name in names):
        known = "; or ".join(f"{name} ({', '.join(ALIASES[name])})" for name in names)
        raise InputError(
            f"{what} needs a column {known}; name yours with --set prepare.columns.{names[0]}=COLUMN"
        )


def _place(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return frame["ra_deg"].to_numpy(), frame["dec_deg"].to_numpy()


def _column(frame: pd.DataFrame, name: str) -> np.ndarray:
    return frame[name].to_numpy(float) if name in frame else np.full(len(frame), np.nan)


def _zero_point(frame: pd.DataFrame) -> np.ndarray:
    """Z (N,) in mas from what the catalogue brings; NaN where magnitude or colour is missing."""
    what = "prepare.parallax_zero_point=lindegren-2021"
    _need(frame, ("magnitude",), what)
    _need(frame, ("nu_eff_used_in_astrometry", "pseudocolour", "bp_rp"), what)
    effective, pseudo = _column(frame, "nu_eff_used_in_astrometry"), _column(frame, "pseudocolour")
    effective = np.where(np.isnan(effective), wavenumber(_column(frame, "bp_rp")), effective)
    solved = _column(frame, "astrometric_params_solved")
    six = np.where(np.isnan(solved), np.isfinite(pseudo), solved == 95)
    latitude = _column(frame, "ecl_lat")
    latitude = np.where(np.isnan(latitude), ecliptic_latitude(*_place(frame)), latitude)
    return zero_point(_column(frame, "magnitude"), np.where(six, pseudo, effective), latitude, six)


def _excess_noise(frame: pd.DataFrame) -> np.ndarray:
    _need(frame, ("astrometric_excess_noise",), "prepare.excess_noise=add")
    noise, significance = (
        _column(frame, "astrometric_excess_noise"),
        _column(frame, "astrometric_excess_noise_sig"),
    )
    return np.where((significance > _SIGNIFICANT) | np.isnan(significance), np.nan_to_num(noise), 0)
