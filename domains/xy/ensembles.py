"""Ensembles of configurations that a model makes, and what is measured on any ensemble."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from . import observables as xy
from .energy import energy, expected_energy

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.vae.model import VAE

__all__ = [
    "Decoded",
    "average",
    "decode",
    "decoded_parts",
    "each",
    "joined",
    "order_parameter",
    "sample_latents",
    "turned_back",
]

ROWS = 512
"""Latents that are decoded at once."""


@dataclass(frozen=True)
class Decoded:
    """p(x | z) at n latents: its mean angles, one draw from it, and the energies, per site."""

    mean_angle: np.ndarray  # (n, L, L)
    drawn: np.ndarray  # (n, L, L)
    energy: np.ndarray  # (n,), of the mean angles
    expected_energy: np.ndarray  # (n,), ⟨E⟩ under p(x | z)


def decode(model: VAE, z: np.ndarray, condition: np.ndarray | None = None, seed: int = 0) -> Decoded:
    """Decode latents (n, latent); ``condition`` (n, 1) is scaled already."""
    parts = [vars(part).values() for part in decoded_parts(model, z, condition, seed)]
    return Decoded(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@torch.no_grad()
def decoded_parts(
    model: VAE, z: np.ndarray, condition: np.ndarray | None = None, seed: int = 0
) -> Iterator[Decoded]:
    """What ``decode`` gives, ``ROWS`` latents at a time."""
    generator = np.random.default_rng(seed)
    for start in range(0, len(z), ROWS):
        rows = slice(start, start + ROWS)
        context = None
        if condition is not None:
            context = {"condition": torch.as_tensor(condition[rows], dtype=torch.float32)}
        likelihood: Any = model.decode(torch.as_tensor(z[rows], dtype=torch.float32), context)
        loc, kappa = likelihood.loc, likelihood.concentration  # (B, 1, L, L)
        angle = loc[:, 0].numpy()
        drawn = generator.vonmises(angle, kappa[:, 0].numpy()).astype(np.float32)
        yield Decoded(angle, drawn, energy(loc).numpy(), expected_energy(loc, kappa).numpy())


def turned_back(z: np.ndarray) -> np.ndarray:
    """Latents (n, D) without the direction of the spins: (|(z_0, z_1)|, z_2, …), (n, D − 1)."""
    return np.concatenate([np.hypot(z[:, 0], z[:, 1])[:, None], z[:, 2:]], 1)


def order_parameter(z: np.ndarray) -> np.ndarray:
    """ρ = |(z_0, z_1)|, the length of the latent vector that turns with the spins: (n,)."""
    return np.hypot(z[:, 0], z[:, 1])


def sample_latents(latents: xr.Dataset, temperature: float, n: int, seed: int) -> np.ndarray:
    """New latents (n, D) at a temperature: a Gaussian through the training latents at that temperature.

    In (ρ, z_2, …) the mean and the covariance (that of the posterior means plus the mean posterior variance)
    of the training data at each temperature, interpolated linearly in T, so that a temperature that was held
    out can be sampled; the direction of (z_0, z_1) is uniform, as the spins' is.
    """
    training = latents.isel(sample=np.flatnonzero(latents["split"].values == 0))
    t, z, width = (training[name].values for name in ("temperature", "z", "z_std"))
    grid = np.unique(t)
    features = turned_back(z)
    widths = np.concatenate([width[:, :1], width[:, 2:]], 1)
    means, covariances = [], []
    for one in grid:
        own = t == one
        means.append(features[own].mean(0))
        covariances.append(np.cov(features[own].T) + np.diag(np.square(widths[own]).mean(0)))
    k = int(np.clip(np.searchsorted(grid, temperature) - 1, 0, max(len(grid) - 2, 0)))
    after = min(k + 1, len(grid) - 1)
    share = 0.0 if after == k else float(np.clip((temperature - grid[k]) / (grid[after] - grid[k]), 0, 1))
    mean, covariance = ((1 - share) * m[k] + share * m[after] for m in (means, covariances))
    generator = np.random.default_rng([seed, round(1e6 * temperature)])
    drawn = generator.multivariate_normal(mean, covariance, n)
    angle = generator.uniform(-np.pi, np.pi, n)
    vector = drawn[:, :1] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.concatenate([vector, drawn[:, 1:]], 1)


def each(theta: np.ndarray) -> dict[str, np.ndarray]:
    """|m|, vortices, bond sums (n, 4) and G(r) (n, L//2 + 1) of each of n configurations (n, L, L)."""
    return {
        "magnetisation": np.hypot(*xy.magnetisation(theta).T),
        "vortex_density": xy.vortex_density(theta),
        "vortex_pairs": xy.vortex_pairs(theta),
        "bond_sums": xy.bond_sums(theta),
        "g": xy.correlation(theta),
    }


def joined(parts: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of the same names, one after the other."""
    found = list(parts)
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def average(
    of_each: dict[str, np.ndarray], temperature: float, lattice: int
) -> tuple[dict[str, float], np.ndarray]:
    """Averages of what ``each`` measured at one temperature with standard errors, and G(r)."""
    g, sums = np.asfortranarray(of_each["g"]), of_each["bond_sums"]  # each distance is summed pairwise
    row: dict[str, float] = {"n": len(g)}
    distances = {"g1": 1, "g2": 2, "g_quarter": lattice // 4, "g_half": lattice // 2}
    series = {
        "energy": -sums[:, :2].sum(1) / lattice**2,
        **{name: of_each[name] for name in ("magnetisation", "vortex_density", "vortex_pairs")},
        **{name: g[:, r] for name, r in distances.items()},
    }
    for name, values in series.items():
        row[name] = float(values.mean())
        row[f"{name}_error"] = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan
    stiffness = xy.helicity_modulus(sums, temperature, lattice)
    return row | {"helicity": stiffness.value, "helicity_error": stiffness.error}, g.mean(0)
