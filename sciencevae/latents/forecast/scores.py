"""Scores of forecasts, by lead time: of their mean, and of their draws as a distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciencevae.errors import InputError

__all__ = ["coverage", "crps", "crps_gaussian", "relative_error", "spread_skill", "squared_errors"]


def squared_errors(forecast: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """‖forecast − truth‖² of each window and lead time, (N, H), of fields (N, H, *E); NaN of the truth left out.

    weight: (*E), the mass (area, volume, quadrature weight) of each place; None: 1.
    """
    if forecast.shape != truth.shape:
        raise InputError(
            f"the forecast is {tuple(forecast.shape)} and the truth {tuple(truth.shape)}: give both alike"
        )
    squares = (forecast - truth).square()
    squares = torch.where(truth.isnan(), torch.zeros_like(squares), squares)
    if weight is not None:
        squares = squares * weight
    return squares.flatten(2).sum(2)


def relative_error(forecast: Tensor, truth: Tensor, mean: Tensor, weight: Tensor | None = None) -> Tensor:
    """√(Σ ‖forecast − truth‖² / Σ ‖truth − mean‖²) over the windows, by lead time: (N, H, *E) → (H,).

    mean: (*E), that of the training data: 1 is what it would score itself as the forecast. weight: (*E), masses.
    """
    error = squared_errors(forecast, truth, weight).sum(0)
    fluctuation = squared_errors(mean.expand_as(truth), truth, weight).sum(0)
    return (error / fluctuation).sqrt()


def crps(samples: Tensor, truth: Tensor) -> Tensor:
    """The continuous ranked probability score of draws (S, *B) of what was then truth (*B): (*B), lower is better.

    E|x − y| − ½ E|x − x'|, by its unbiased estimator, 1/S Σ_i |x_i − y| − 1/(2S(S−1)) Σ_ij |x_i − x_j| (Ferro 2014,
    eq. 8), which does not depend on the number of draws in the mean.
    """
    count = len(samples)
    if count < 2:
        raise InputError(f"the score compares draws with one another: two at least, not {count}")
    ordered = samples.sort(0).values
    # Σ_ij |x_i − x_j| = 2 Σ_i (2i − S + 1) x_(i), i = 0 … S − 1
    rank = 2 * torch.arange(count, dtype=samples.dtype, device=samples.device) - count + 1
    between = torch.tensordot(rank, ordered, dims=1) / (count * (count - 1))
    return (samples - truth).abs().mean(0) - between


def crps_gaussian(mean: Tensor, scale: Tensor, truth: Tensor) -> Tensor:
    """The score of N(mean, scale²) in closed form, σ [w (2Φ(w) − 1) + 2φ(w) − 1/√π], w = (y − μ)/σ.

    Gneiting & Raftery 2007, eq. 21.
    """
    w = (truth - mean) / scale
    density = torch.exp(-0.5 * w.square()) / (2 * torch.pi) ** 0.5
    return scale * (w * (2 * torch.special.ndtr(w) - 1) + 2 * density - torch.pi**-0.5)


def coverage(samples: Tensor, truth: Tensor, levels: Sequence[float] = (0.68, 0.95)) -> Tensor:
    """The share of truth (N, H, *E) within the central intervals of draws (S, N, H, *E), by lead time: (levels, H).

    Calibrated draws give the levels themselves. The interval of a level p is that between the order statistics that
    hold p in the mean for S draws, interpolated: the quantiles (1 ± p)/2 at the places i/(S + 1).
    """
    count = len(samples)
    ordered = samples.sort(0).values
    observed = ~truth.isnan()
    found = []
    for level in levels:
        ends = []
        for chance in ((1 - level) / 2, (1 + level) / 2):
            place = chance * (count + 1) - 1
            if not 0 <= place <= count - 1:
                least = math.ceil(2 / (1 - level) - 1.001)
                raise InputError(
                    f"{count} draws have no interval of {level:.0%}: draw at least {least} samples"
                )
            low = min(int(place), count - 2)
            ends.append(torch.lerp(ordered[low], ordered[low + 1], place - low))
        inside = (truth >= ends[0]) & (truth <= ends[1])
        dims = [axis for axis in range(truth.dim()) if axis != 1]
        found.append(inside.sum(dims) / observed.sum(dims))
    return torch.stack(found)


def spread_skill(samples: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The spread √(mean variance · (S+1)/S) and the root mean squared error of the mean, by lead time, each (H,).

    Equal where draws (S, N, H, *E) and truth (N, H, *E) are exchangeable (Fortin et al. 2014, eq. 15).
    """
    count = len(samples)
    dims = [axis for axis in range(truth.dim()) if axis != 1]
    observed = ~truth.isnan()
    size = observed.sum(dims)
    squares = torch.where(observed, (samples.mean(0) - truth).square(), 0.0)
    variance = torch.where(observed, samples.var(0), 0.0) * (count + 1) / count
    return (variance.sum(dims) / size).sqrt(), (squares.sum(dims) / size).sqrt()
