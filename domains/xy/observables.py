"""Observables of XY configurations, ensemble averages with errors, and the Kosterlitz–Thouless temperature.

Angles are radians, temperatures are in units of J/k_B, energies in units of J. Shapes: n configurations, L
lattice side. Ensemble errors are jackknife errors over blocks of successive configurations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "Estimate",
    "Extrapolation",
    "autocorrelation_time",
    "blocking_error",
    "bond_sums",
    "correlation",
    "crossing",
    "energy",
    "extrapolate",
    "helicity_modulus",
    "jackknife",
    "magnetisation",
    "vortex_charges",
    "vortex_density",
    "vortex_pairs",
    "wrap",
]

T_KT = 0.89289
"""Kosterlitz–Thouless temperature of the square-lattice XY model (Komura and Okabe 2012, 0.89289(5))."""


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.5g} ± {self.error:.1g}"


@dataclass(frozen=True)
class Extrapolation:
    """T_KT from T*(L) = T_KT + a/(ln bL)²: the fit's statistical error and that of not knowing b."""

    value: float
    statistical: float
    systematic: float
    slope: float  # a at the central b
    b: float  # the central b
    consistent: bool  # whether any b fits the temperatures within their errors (χ² per degree of freedom ≤ 4)


def wrap(angle: np.ndarray) -> np.ndarray:
    """The angle brought to [−π, π)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _floating(theta: np.ndarray) -> np.ndarray:
    """Angles in the precision they come in, single or double: sums are in double precision all the same."""
    return np.asarray(theta, None if np.asarray(theta).dtype == np.float32 else float)


def bond_sums(theta: np.ndarray) -> np.ndarray:
    """Sums over the bonds of each configuration: (n, L, L) → (n, 4): Σcos_x, Σcos_y, Σsin_x, Σsin_y.

    x runs along columns, y along rows; each site owns the bond to its next neighbour, so a 2 × 2 lattice has
    eight bonds (each pair twice).
    """
    theta = _floating(theta)
    right, down = (np.roll(theta, -1, axis) - theta for axis in (-1, -2))
    parts = (np.cos(right), np.cos(down), np.sin(right), np.sin(down))
    return np.stack([part.sum((-2, -1), dtype=float) for part in parts], -1)


def energy(theta: np.ndarray) -> np.ndarray:
    """Energy per site, −Σ cos(θ_i − θ_j)/L²: (n, L, L) → (n,)."""
    return -bond_sums(theta)[..., :2].sum(-1) / np.prod(np.shape(theta)[-2:])


def magnetisation(theta: np.ndarray) -> np.ndarray:
    """Magnetisation vector per site: (n, L, L) → (n, 2)."""
    return np.stack([np.cos(theta).mean((-2, -1)), np.sin(theta).mean((-2, -1))], -1)


def vortex_charges(theta: np.ndarray) -> np.ndarray:
    """Winding number of each plaquette, (n, L, L) → (n, L, L) int8; its sum over the torus is 0.

    Plaquette (i, j) has the corners (i, j), (i, j+1), (i+1, j+1), (i+1, j), taken in that order.
    """
    theta = _floating(theta)
    steps = (np.roll(theta, -1, axis) - theta for axis in (-1, -2))
    right, down = (np.rint(step / (2 * np.pi)).astype(np.int8) for step in steps)
    # the differences around a plaquette add to 0; what wrapping took from them is left
    return down + np.roll(right, -1, -2) - right - np.roll(down, -1, -1)


def vortex_density(theta: np.ndarray) -> np.ndarray:
    """Vortices and antivortices per site: (n, L, L) → (n,)."""
    return np.abs(vortex_charges(theta)).mean((-2, -1))


def vortex_pairs(theta: np.ndarray) -> np.ndarray:
    """Pairs of opposite vortices on adjacent plaquettes (sharing an edge), per site: (n, L, L) → (n,)."""
    charges = vortex_charges(theta).astype(np.int16)
    pairs = sum((charges * np.roll(charges, -1, axis) < 0).mean((-2, -1)) for axis in (-1, -2))
    return np.asarray(pairs)


def correlation(theta: np.ndarray) -> np.ndarray:
    """G(r) = ⟨cos(θ_i − θ_{i+r})⟩ along rows and columns, r = 0 … L/2: (n, L, L) → (n, L//2 + 1)."""
    theta = _floating(theta)
    cosine, sine, side = np.cos(theta), np.sin(theta), theta.shape[-1]
    products = [
        [
            (field * np.roll(field, -r, axis)).mean((-2, -1), dtype=float)
            for field in (cosine, sine)
            for axis in (-1, -2)
        ]
        for r in range(side // 2 + 1)
    ]
    return np.sum(products, axis=1).T / 2


def autocorrelation_time(series: ArrayLike, window: float = 6.0) -> tuple[float, float]:
    """Integrated autocorrelation time τ = ½ + Σ ρ(t) and its standard error, in steps of the series.

    Several chains (rows) of the same process are averaged. The sum stops at the first W ≥ ``window`` · τ(W)
    (Sokal 1997, §3); the error is τ √(2(2W+1)/n). A constant series has τ = ½.
    """
    series = np.atleast_2d(np.asarray(series, float))
    chains, n = series.shape
    centred = series - series.mean()
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(centred, size)) ** 2
    covariance = np.fft.irfft(spectrum.mean(0), size)[:n] / np.arange(n, 0, -1)
    if not covariance[0] > 1e-24 * (1 + series.mean() ** 2):
        return 0.5, 0.0
    running = np.cumsum(covariance / covariance[0]) - 0.5
    enough = np.arange(n) >= window * running
    cut = int(np.argmax(enough)) if enough.any() else n - 1
    tau = max(float(running[cut]), 0.5)
    return tau, tau * float(np.sqrt(2 * (2 * cut + 1) / (n * chains)))


def _blocks(values: np.ndarray, count: int) -> np.ndarray:
    """Means of ``count`` blocks of successive rows (the rest is dropped at the end): (n, …) → (count, …)."""
    length = len(values) // count
    return values[: length * count].reshape(count, length, *values.shape[1:]).mean(1)


def blocking_error(series: ArrayLike, minimum: int = 32) -> Estimate:
    """Mean and its error by blocking (Flyvbjerg and Petersen 1989, J. Chem. Phys. 91, 461).

    The error is √(2τ σ²/n) with τ from the Sokal window, which blocking reaches at blocks ≫ τ; blocks are
    doubled until longer than 10 τ, keeping at least ``minimum`` of them.
    """
    series = np.asarray(series, float)
    if len(series) < 2:
        return Estimate(float(series.mean()), float("nan"))
    tau, _ = autocorrelation_time(series)
    length = 1
    while length < 10 * tau and len(series) // (2 * length) >= minimum:
        length *= 2
    means = _blocks(series, len(series) // length)
    return Estimate(float(series.mean()), float(means.std(ddof=1) / np.sqrt(len(means))))


def jackknife(
    function: Callable[[np.ndarray], float | np.ndarray], values: np.ndarray, blocks: int = 50
) -> tuple[np.ndarray, np.ndarray]:
    """A function of the mean row of ``values`` (n, k), with its jackknife error over blocks of rows.

    Works for several numbers at once; the bias of the plain estimate is removed.
    """
    values = np.asarray(values, float)
    blocks = min(blocks, len(values))
    if blocks < 2:
        value = np.asarray(function(values.mean(0)))
        return value, np.full_like(value, np.nan)
    means = _blocks(values, blocks)
    total = means.mean(0)
    left_out = np.stack([np.asarray(function((blocks * total - one) / (blocks - 1))) for one in means])
    value = blocks * np.asarray(function(total)) - (blocks - 1) * left_out.mean(0)
    return value, np.sqrt((blocks - 1) * left_out.var(0))


def helicity_modulus(sums: np.ndarray, temperature: float, lattice: int, blocks: int = 50) -> Estimate:
    """Υ = (⟨Σcos⟩ − ⟨(Σsin)²⟩/T)/L², the mean over x and y, from bond sums (n, 4) in ``bond_sums`` order.

    Reference: Teitel and Jayaprakash (1983) PRB 27, 598.
    """
    sums = np.asarray(sums, float)
    rows = np.stack([sums[:, :2].mean(1), (sums[:, 2:] ** 2).mean(1)], 1)

    def stiffness(mean: np.ndarray) -> float:
        return float((mean[0] - mean[1] / temperature) / lattice**2)

    value, error = jackknife(stiffness, rows, blocks)
    return Estimate(float(value), float(error))


def crossing(
    temperatures: ArrayLike,
    values: ArrayLike,
    errors: ArrayLike,
    *,
    width: float = 0.06,
    draws: int = 400,
    seed: int = 0,
) -> Estimate:
    """The temperature at which Υ(T) meets the universal jump 2T/π.

    A weighted parabola is fitted to Υ − 2T/π within ``width`` of the first change of sign; the error is the
    spread of the root over ``draws`` redraws of the values from their errors. NaN when nothing crosses.
    """
    t, y, e = (np.asarray(array, float) for array in (temperatures, values, errors))
    order = np.argsort(t)
    t, gap, e = t[order], (y - 2 * t / np.pi)[order], np.maximum(e[order], 1e-12)
    changes = np.flatnonzero((gap[:-1] > 0) & (gap[1:] <= 0))
    if not len(changes):
        return Estimate(float("nan"), float("nan"))
    k = int(changes[0])
    centre = t[k] + (t[k + 1] - t[k]) * gap[k] / (gap[k] - gap[k + 1])
    near = np.abs(t - centre) <= width
    near[k : k + 2] = True
    degree = min(2, int(near.sum()) - 1)

    def root(shift: np.ndarray) -> float:
        fit = np.polynomial.Polynomial.fit(t[near] - centre, gap[near] + shift, degree, w=1 / e[near])
        real = [r.real for r in np.atleast_1d(fit.roots()) if abs(r.imag) < 1e-9]
        return centre + min(real, key=abs, default=float("nan"))

    noise = np.random.default_rng(seed).standard_normal((draws, int(near.sum()))) * e[near]
    spread = np.array([root(row) for row in noise])
    return Estimate(root(np.zeros(int(near.sum()))), float(np.nanstd(spread)))


def extrapolate(
    lattices: Sequence[float],
    temperatures: Sequence[float],
    errors: Sequence[float],
    *,
    b_range: tuple[float, float] = (0.7, 12.0),
    grid: int = 200,
) -> Extrapolation:
    """T_KT and a from T*(L) = T_KT + a/(ln bL)², b being known only to lie in ``b_range``.

    For each b the fit in (T_KT, a) is linear and weighted; each b counts by its likelihood exp(−χ²/2). The
    value is the mean over b, ``statistical`` the mean error of the linear fits, ``systematic`` the spread of
    T_KT over b. With three small lattices the systematic error is the larger one.
    """
    side, t, e = (np.asarray(array, float) for array in (lattices, temperatures, errors))
    if len(side) < 2 or not np.isfinite(t).all():
        nan = float("nan")
        return Extrapolation(nan, nan, nan, nan, nan, False)
    weight = 1 / np.maximum(e, 1e-9)
    bs = np.geomspace(*b_range, grid)
    found = np.empty((grid, 4))
    for k, b in enumerate(bs):
        design = np.stack([np.ones_like(side), np.log(b * side) ** -2.0], 1) * weight[:, None]
        covariance = np.linalg.inv(design.T @ design)
        best = covariance @ design.T @ (t * weight)
        found[k] = *best, covariance[0, 0], np.square(t * weight - design @ best).sum()
    chi2 = found[:, 3]
    likelihood = np.exp(-(chi2 - chi2.min()) / 2)
    likelihood /= likelihood.sum()
    value = float(likelihood @ found[:, 0])
    centre = int(np.argmin(np.abs(found[:, 0] - value)))
    return Extrapolation(
        value=value,
        statistical=float(np.sqrt(likelihood @ found[:, 2])),
        systematic=float(np.sqrt(likelihood @ np.square(found[:, 0] - value))),
        slope=float(found[centre, 1]),
        b=float(bs[centre]),
        consistent=bool(chi2.min() <= 4 * max(1, len(side) - 2)),
    )
