"""How sure a score of a series is: the moving-block bootstrap, and its paired use."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sciencevae.errors import InputError

__all__ = ["Bootstrap", "block_bootstrap", "block_length"]


@dataclass(frozen=True)
class Bootstrap:
    """A statistic of a series, its standard error, and the draws it comes from, (draws, …)."""

    value: np.ndarray
    stderr: np.ndarray
    draws: np.ndarray

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Where the central ``level`` of the draws lies."""
        low, high = np.quantile(self.draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high


def block_bootstrap(
    series: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    length: int | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Bootstrap:
    """The statistic of a series (n, …) in order of time, and its error by moving blocks of it (Künsch 1989).

    Each draw joins blocks of ``length`` consecutive rows that begin anywhere, to n rows. statistic: a function of
    the mean over the rows (…), by default that mean. Paired: what is to be compared goes into one row, so that each
    draw takes it at the same times, as ``block_bootstrap(np.stack([errors_a, errors_b, truth], 1), lambda m:
    np.sqrt(m[0] / m[2]) - np.sqrt(m[1] / m[2]))``. length: by default ``block_length(series)``.

    Raises InputError for fewer than two blocks.
    """
    series = np.asarray(series, dtype=np.float64)
    n = len(series)
    length = block_length(series) if length is None else length
    if not 1 <= length <= n // 2:
        raise InputError(
            f"blocks of {length} of {n} rows: a bootstrap needs two blocks at least; shorten them"
        )
    of_mean = statistic or (lambda mean: mean)
    generator = np.random.default_rng(seed)
    # the mean of a block is a difference of sums
    sums = np.concatenate([np.zeros((1, *series.shape[1:])), np.cumsum(series - series.mean(0), 0)])
    whole, rest = divmod(n, length)
    found = []
    for _ in range(draws):
        starts = generator.integers(0, n - length + 1, whole)
        total = (sums[starts + length] - sums[starts]).sum(0)
        if rest:
            last = generator.integers(0, n - rest + 1)
            total = total + sums[last + rest] - sums[last]
        found.append(of_mean(series.mean(0) + total / n))
    stacked = np.asarray(found)
    return Bootstrap(np.asarray(of_mean(series.mean(0))), stacked.std(0, ddof=1), stacked)


def block_length(series: np.ndarray) -> int:
    """The length of moving blocks that is best for the variance of the mean of a series (n, …):

    (3/2)^⅓ (2ρ / (1 − ρ²))^⅔ n^⅓, ρ the correlation of neighbours, as of a first-order autoregression (Carlstein
    1986; Künsch 1989); of several columns the longest.
    """
    values = np.asarray(series, dtype=np.float64).reshape(len(series), -1)
    centred = values - values.mean(0)
    variance = np.square(centred).sum(0)
    rho = (centred[1:] * centred[:-1]).sum(0) / np.where(variance > 0, variance, 1.0)
    largest = float(np.clip(rho, 0.0, 0.99).max())
    best = 1.5 ** (1 / 3) * (2 * largest / (1 - largest**2)) ** (2 / 3) * len(values) ** (1 / 3)
    return min(max(1, math.ceil(best)), len(values) // 2)
