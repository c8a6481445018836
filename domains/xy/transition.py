"""Pseudo-transition temperatures T*(L): where order falls most steeply, and where Υ crosses 2T/π."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import observables as xy
from .ensembles import order_parameter

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["pseudo_transitions", "steepest"]

LATENT, MAGNETISATION, HELICITY = "latent length ρ", "magnetisation |m|", "helicity modulus Υ"
_BONDS = ("cos_x", "cos_y", "sin_x", "sin_y")


def pseudo_transitions(latents: Mapping[int, xr.Dataset]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves against T, and T*(L) of each statistic, for each lattice side.

    Of ρ and of |m|, by one estimator: the temperature at which its mean over configurations falls most steeply.
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
            every = [np.concatenate(parts) for parts in chains]
            mean = np.array([one.mean() for one in every])
            error = np.array([one.std() / np.sqrt(len(one)) for one in every])
            star = steepest(grid, chains)
            found.append((lattice, name, star.value, star.error))
            frame = {"temperature": grid, "mean": mean, "error": error}
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


def steepest(
    temperatures: np.ndarray,
    chains: list[list[np.ndarray]],
    *,
    width: float = 0.2,
    draws: int = 300,
    seed: int = 0,
) -> xy.Estimate:
    """The temperature at which the mean falls most steeply; its error from drawing the chains again (bootstrap).

    chains: for each temperature the values of each independent chain. A cubic is fitted to the means within
    ``width`` of the steepest of the three-point slopes; its point of inflection is kept inside that window.
    """
    counts = [np.array([len(chain) for chain in parts]) for parts in chains]
    sums = [np.array([np.sum(chain) for chain in parts]) for parts in chains]
    generator = np.random.default_rng(seed)

    def once(pick: Callable[[int], np.ndarray]) -> float:
        rows = [pick(len(count)) for count in counts]
        mean = np.array([sums[k][own].sum() / counts[k][own].sum() for k, own in enumerate(rows)])
        slopes = np.pad(np.gradient(mean, temperatures), 1, mode="edge")
        centre = temperatures[int(np.argmin(np.convolve(slopes, np.ones(3) / 3, "valid")))]
        near = np.abs(temperatures - centre) <= width + 1e-9
        if near.sum() < 4:
            return float(centre)
        cubic, square, _, _ = np.polyfit(temperatures[near] - centre, mean[near], 3)
        inflection = -square / (3 * cubic) if cubic > 0 else 0.0
        return float(centre + np.clip(inflection, -width, width))

    spread = [once(lambda n: generator.integers(0, n, n)) for _ in range(draws)]
    return xy.Estimate(once(np.arange), float(np.std(spread)))
