"""Random patterns of mixtures of phases, drawn from the ranges of the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .axes import anode
from .crystals import Crystal
from .powder import Instrument, Phase, Specimen, background, diffract
from .powder_settings import Powder

__all__ = ["AXES", "Patterns", "draw", "edges_of"]

AXES = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]])
"""Low-index directions that texture is drawn along."""
_BATCH = 64
_CHEBYSHEV = 5


@dataclass(frozen=True)
class Patterns:
    """n simulated patterns of N bins over K phases.

    rate (n, N): expected counts; fraction (n, K): weight fractions, 0 where a phase is not in it; strain (n, K):
    mean relative change of its cell's lengths; size_nm (n, K)
    """

    rate: np.ndarray
    fraction: np.ndarray
    strain: np.ndarray
    size_nm: np.ndarray


def edges_of(settings: Powder) -> np.ndarray:
    """The edges of the bins, (N + 1,), degrees 2θ."""
    scan = settings.scan
    return np.linspace(scan.start, scan.stop, scan.bins + 1)


def draw(
    settings: Powder,
    crystals: Sequence[Crystal],
    n: int,
    seed: int,
    phases: Sequence[Sequence[int]] | None = None,
) -> Patterns:
    """n patterns, each of 1 … ``most_phases`` of the crystals, or of the given ones.

    Every specimen has its own instrument, background and exposure, every phase in it its own cell, grains and
    texture. Sizes and counts are drawn evenly in their logarithm.
    """
    random = np.random.default_rng(seed)
    count = len(crystals)
    tube = anode(settings.scan.anode)
    made = [Phase.of(crystal, tube.alpha1, min(settings.scan.stop + 2.0, 178.0)) for crystal in crystals]
    edges = torch.as_tensor(edges_of(settings), dtype=torch.float32)
    centres = (edges[1:] + edges[:-1]) / 2
    fraction = np.zeros((n, count))
    for row in range(n):
        chosen = phases[row] if phases is not None else _some(random, settings, count)
        spare = 1 - settings.least_fraction * len(chosen)
        fraction[row, chosen] = settings.least_fraction + spare * random.dirichlet(np.ones(len(chosen)))
    strain = random.uniform(*settings.strain, (n, count, 3))
    size = _log_uniform(random, settings.size_nm, (n, count))
    microstrain = random.uniform(*settings.microstrain, (n, count))
    march = random.uniform(*settings.march, (n, count))
    axis = AXES[random.integers(len(AXES), size=(n, count))]
    width2 = random.uniform(*settings.fwhm, n) ** 2
    instrument = [
        random.uniform(*settings.zero, n),
        random.uniform(*settings.displacement_mm, n),
        width2 * random.uniform(0.0, 0.5, n),
        -width2 * random.uniform(0.0, 0.3, n),
        width2,
    ]
    rate = torch.zeros(n, len(centres))
    for k, phase in enumerate(made):
        own = np.flatnonzero(fraction[:, k])
        for start in range(0, len(own), _BATCH):
            rows = own[start : start + _BATCH]
            specimen = Specimen(
                *(torch.as_tensor(a[rows, k]) for a in (strain, size, microstrain, march, axis))
            )
            zero, displacement, u, v, w = (torch.as_tensor(a[rows]) for a in instrument)
            device = Instrument(zero, displacement, u, v, w, settings.radius_mm, settings.alpha2)
            pattern = diffract(phase, specimen, device, tube, edges)
            rate[rows] += torch.as_tensor(fraction[rows, k], dtype=torch.float32)[:, None] * pattern
    rate /= rate.amax(1, keepdim=True)
    rate += _background(random, settings, centres, n)
    rate *= torch.as_tensor(_log_uniform(random, settings.peak_counts, (n, 1)), dtype=torch.float32)
    there = fraction > 0
    ties = np.array([phase.ties for phase in made])
    mean = np.take_along_axis(strain, ties[None].repeat(n, 0), 2).mean(2)
    return Patterns(rate.numpy(), fraction, np.where(there, mean, np.nan), np.where(there, size, np.nan))


def _some(random: np.random.Generator, settings: Powder, count: int) -> np.ndarray:
    number = random.integers(1, min(settings.most_phases, count) + 1)
    return random.choice(count, number, replace=False)


def _background(random: np.random.Generator, settings: Powder, centres: torch.Tensor, n: int) -> torch.Tensor:
    """Smooth backgrounds of a mean level drawn from the settings, (n, N), over the brightest bin's counts."""
    low, high = float(centres[0]), float(centres[-1])
    falling = np.array([1.0, *[0.5 / k**1.5 for k in range(1, _CHEBYSHEV)]])
    coefficients = random.normal(0, 1, (n, _CHEBYSHEV)) * falling
    coefficients[:, 0] = 2.0
    hump = np.column_stack(
        [
            random.uniform(0, 2, n) * (random.uniform(size=n) < 0.5),
            random.uniform(low + 5, low + 0.4 * (high - low), n),
            random.uniform(2, 8, n),
        ]
    )
    air = random.uniform(0, 3, n)
    shape = background(torch.as_tensor(coefficients), torch.as_tensor(hump), torch.as_tensor(air), centres)
    level = torch.as_tensor(_log_uniform(random, settings.background, (n, 1)), dtype=shape.dtype)
    return level * shape / shape.mean(1, keepdim=True)


def _log_uniform(
    random: np.random.Generator, edges: tuple[float, float], shape: tuple[int, ...]
) -> np.ndarray:
    return np.exp(random.uniform(np.log(edges[0]), np.log(edges[1]), shape))
