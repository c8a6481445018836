"""The frequency of a periodic series with its standard error: the Strouhal number, in units of D and U.

    y_c(t) = m_c + Σ_k a_kc cos 2πkft + b_kc sin 2πkft + ε_c(t),    k = 1 … harmonics

The least-squares f, common to all channels c (lift, velocities of probes, latents), starts from the highest
peak of the periodogram. To first order f̂ − f = Σ d·ε / Σ d², with d the derivative of the model by f less what
the other parameters can follow; the variance of the sum takes the autocovariance of the residuals, tapered
(Bartlett) beyond the lag where it has died out, so the noise may be coloured and common to the channels.

References: Quinn and Hannan (2001) The Estimation and Tracking of Frequency, ch. 2 (least squares and its
variance in coloured noise); Newey and West (1987) Econometrica 55, 703 (the taper).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from sciencevae.errors import InputError

__all__ = ["Frequency", "shedding_frequency"]

_CYCLES = 3  # fewer in the series, and mean, trend and frequency cannot be told apart
_PADDING = 8  # of the periodogram


class Frequency(NamedTuple):
    """A frequency in cycles for each unit of time."""

    value: float
    error: float  # standard error
    explained: float  # share of the variance that the harmonic model has: near 1 for a saturated wake
    amplitude: np.ndarray  # (C,) of the first harmonic, in the units of the series


def _design(time: np.ndarray, frequency: float, harmonics: int) -> np.ndarray:
    phase = 2 * np.pi * frequency * np.outer(time, np.arange(1, harmonics + 1))
    return np.concatenate([np.ones((len(time), 1)), np.cos(phase), np.sin(phase)], axis=1)


def _checked(values: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, float]:
    """Finite values (T, C) less their means, and the time step."""
    if values.ndim > 2 or values.shape[:1] != time.shape or len(time) < 16:
        raise InputError(
            f"expected a series (T,) or (T, channels) with its T ≥ 16 times; found {values.shape}, {time.shape}"
        )
    if not (np.isfinite(values).all() and np.isfinite(time).all()):
        raise InputError("the series has values that are not finite: take a stretch without gaps")
    steps = np.diff(time)
    if not (steps.mean() > 0 and np.allclose(steps, steps.mean(), rtol=1e-3, atol=0)):
        raise InputError(
            f"the time steps are not equal, {steps.min():g} to {steps.max():g}: interpolate the series first"
        )
    centred = values.reshape(len(time), -1) - values.reshape(len(time), -1).mean(0)
    if not (centred**2).sum() > 0:
        raise InputError("the series is constant: it has no frequency")
    return centred, float(steps.mean())


def shedding_frequency(values: np.ndarray, time: np.ndarray, harmonics: int = 3) -> Frequency:
    """The strongest frequency of a series (T,) or (T, C) at equal time steps, with its standard error.

    Take the saturated part: over a transient the frequency drifts, and one value does not describe it. The
    drag has twice the frequency of the lift. Raises InputError for gaps, unequal steps, fewer than three
    cycles.

    >>> time = np.arange(0, 50, 0.25)
    >>> found = shedding_frequency(np.sin(2 * np.pi * 0.165 * time) + 0.1 * np.cos(4 * np.pi * 0.165 * time), time)
    >>> round(found.value, 6)
    0.165
    """
    values, time = np.asarray(values, np.float64), np.asarray(time, np.float64)
    centred, step = _checked(values, time)
    length = len(time) * step
    time = time - time.mean()  # uncorrelates the frequency with the phases
    window = np.hanning(len(time))[:, None]
    power = (np.abs(np.fft.rfft(centred * window, _PADDING * len(time), axis=0)) ** 2).sum(1)
    grid = np.fft.rfftfreq(_PADDING * len(time), step)
    power[grid < 1.5 / length] = 0  # what the window makes of a trend
    first = float(grid[power.argmax()])
    if first * length < _CYCLES:
        raise InputError(
            f"the series holds {first * length:.1f} cycles of its strongest frequency, {first:.4g}: it needs "
            f"{_CYCLES} at least"
        )
    harmonics = max(1, min(harmonics, int(0.45 / (step * first))))  # below half the sampling frequency

    def residuals(frequency: float) -> np.ndarray:
        design = _design(time, frequency, harmonics)
        return np.asarray(centred - design @ np.linalg.lstsq(design, centred, rcond=None)[0])

    found = minimize_scalar(
        lambda frequency: (residuals(frequency) ** 2).sum() / (centred**2).sum(),
        bounds=(first - 1 / length, first + 1 / length),
        method="bounded",
        options={"xatol": 1e-10 * first},
    ).x
    design = _design(time, found, harmonics)
    weights = np.linalg.lstsq(design, centred, rcond=None)[0]
    rest = centred - design @ weights
    order = np.arange(1, harmonics + 1)
    turned = np.concatenate(
        [weights[1 + harmonics :] * order[:, None], -weights[1:-harmonics] * order[:, None]]
    )
    slope = 2 * np.pi * time[:, None] * (design[:, 1:] @ turned)  # ∂ model / ∂ f
    slope -= design @ np.linalg.lstsq(design, slope, rcond=None)[0]
    parameters = design.shape[1] + 1
    variance = _variance(slope, rest) / (slope**2).sum() ** 2 * len(time) / (len(time) - parameters)
    return Frequency(
        float(found),
        float(np.sqrt(variance)),
        float(1 - (rest**2).sum() / (centred**2).sum()),
        np.hypot(weights[1], weights[1 + harmonics]),
    )


def _variance(slope: np.ndarray, rest: np.ndarray) -> float:
    """Of Σ slope · noise, from residuals (T, C) of the noise."""
    n = len(rest)
    spectrum = (np.abs(np.fft.rfft(rest, 2 * n, axis=0)) ** 2).sum(1)
    correlation = np.fft.irfft(spectrum)[: n // 4]
    if not correlation[0] > 0:
        return 0.0
    small = np.flatnonzero(np.abs(correlation / correlation[0]) < 2 / np.sqrt(n))
    lags = min(3 * int(small[0]) + 1 if len(small) else n, n // 4)
    total = 0.0
    for lag in range(lags):
        ahead, behind = slice(lag, None), slice(None, n - lag)
        product = (rest[behind].T @ rest[ahead] / n * (slope[behind].T @ slope[ahead])).sum()
        total += (1 if lag == 0 else 2) * (1 - lag / lags) * product
    return max(float(total), 0.0)
