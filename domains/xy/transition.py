"""Pseudo-transition temperatures T*(L): where a quantity fluctuates most, and where Υ crosses 2T/π."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import observables as xy
from .ensembles import order_parameter

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["peak", "pseudo_transitions"]

LATENT, MAGNETISATION, HELICITY = "latent length ρ", "magnetisation |m|", "helicity modulus Υ"
_BONDS = ("cos_x", "cos_y", "sin_x", "sin_y")


def pseudo_transitions(latents: Mapping[int, xr.Dataset]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves against T, and T*(L) of each statistic, for each lattice side.

    Of ρ and of |m|, by one estimator: the temperature at which its variance over configurations is largest.
    Beside them the crossing of the helicity modulus with 2T/π, which needs the bond sums.
    """
    curves, found = [], []
    for lattice, data in latents.items():
        t, group = data["temperature"].values, data["group"].values
        grid = np.unique(t)
        for name, values in (
            (LATENT, order_parameter(data["z"].values)),
            (MAGNETISATION, data["magnetisation"].values),
        ):
            chains = [[values[(t == one) & (group == g)] for g in np.unique(group[t == one])] for one in grid]
            variance = np.array([np.concatenate(parts).var(ddof=1) for parts in chains])
            mean = np.array([np.concatenate(parts).mean() for parts in chains])
            star = peak(grid, chains)
            found.append((lattice, name, star.value, star.error))
            frame = {"temperature": grid, "mean": mean, "variance": variance / variance.max()}
            curves.append(pd.DataFrame({"lattice": lattice, "statistic": name, **frame}))
        sums = np.stack([data[name].values for name in _BONDS], 1)
        stiffness = [xy.helicity_modulus(sums[t == one], one, lattice) for one in grid]
        values, errors = (np.array([getattr(one, part) for one in stiffness]) for part in ("value", "error"))
        crossing = xy.crossing(grid, values, errors, width=0.11)
        found.append((lattice, HELICITY, crossing.value, crossing.error))
        frame = {"temperature": grid, "mean": values, "error": errors}
        curves.append(pd.DataFrame({"lattice": lattice, "statistic": HELICITY, **frame}))
    table = pd.DataFrame(found, columns=["lattice", "statistic", "temperature", "error"])
    table = table.sort_values(["statistic", "lattice"], kind="stable", ignore_index=True)
    return pd.concat(curves, ignore_index=True), table


def peak(
    temperatures: np.ndarray,
    chains: list[list[np.ndarray]],
    *,
    width: float = 0.2,
    draws: int = 300,
    seed: int = 0,
) -> xy.Estimate:
    """The temperature of largest variance, with its error from drawing the chains again (bootstrap).

    chains: for each temperature the values of each independent chain. A parabola is fitted to the logarithm of
    the variance within ``width`` of the largest of its three-point means; the vertex is kept inside that window.
    """
    counts, sums, squares = (
        [np.array([function(chain) for chain in parts]) for parts in chains]
        for function in (len, np.sum, lambda values: np.square(values).sum())
    )
    generator = np.random.default_rng(seed)

    def once(pick: Callable[[int], np.ndarray]) -> float:
        variance = np.empty(len(temperatures))
        for k in range(len(temperatures)):
            rows = pick(len(counts[k]))
            n = counts[k][rows].sum()
            variance[k] = max(squares[k][rows].sum() / n - (sums[k][rows].sum() / n) ** 2, 1e-30)
        smooth = np.convolve(np.pad(variance, 1, mode="edge"), np.ones(3) / 3, "valid")
        centre = temperatures[int(np.argmax(smooth))]
        near = np.abs(temperatures - centre) <= width + 1e-9
        if near.sum() < 3:
            return float(centre)
        a, b, _ = np.polyfit(temperatures[near] - centre, np.log(variance[near]), 2)
        vertex = -b / (2 * a) if a < 0 else 0.0
        return float(centre + np.clip(vertex, -width, width))

    spread = [once(lambda n: generator.integers(0, n, n)) for _ in range(draws)]
    return xy.Estimate(once(np.arange), float(np.std(spread)))
