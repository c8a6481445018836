"""How heavy the tail of importance weights is: whether their mean can be estimated from them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["largest_shape", "tail_length", "tail_shape"]

#: fewest weights that a tail's shape is estimated from
SHORTEST_TAIL = 5
#: log weights that differ by less differ by rounding
ROUNDING = 1e-4


def tail_length(samples: int) -> int:
    """How many of the largest weights make the tail: ⌈min(S/5, 3√S)⌉; Vehtari et al. 2024, §2.4 and appendix."""
    return math.ceil(min(samples / 5, 3 * math.sqrt(samples)))


def largest_shape(samples: int) -> float:
    """The shape up to which S weights are enough for their mean, min(1 − 1/log₁₀ S, 0.7); Vehtari et al. 2024."""
    return min(1 - 1 / math.log10(samples), 0.7) if samples > 10 else 0.0


def tail_shape(largest: Tensor) -> Tensor:
    """Pareto k̂ of the tail of importance weights, (B,); the k-th moment of the weights exists for k < 1/k̂.

    largest (M + 1, B): the largest log weights in falling order, of which the last is the threshold. A generalised
    Pareto distribution is fitted to the M excesses (Zhang & Stephens 2009; the prior on k̂ of Vehtari et al. 2024,
    appendix C). −∞ where the weights are equal; +∞ where they are too few to tell.
    """
    count = len(largest) - 1
    equal = largest[0] - largest[-1] < ROUNDING
    if count < SHORTEST_TAIL:
        return torch.where(equal, -math.inf, math.inf).to(largest.dtype)
    tail = largest.double()
    # in units of the largest weight; rows of equal weights get any tail that can be fitted
    excess = (tail - tail[0]).exp() - (tail[-1] - tail[0]).exp()
    excess = torch.where(equal, torch.linspace(1, 0, count + 1, dtype=tail.dtype)[:, None].to(tail), excess)
    x = excess[:-1].flip(0).clamp(min=torch.finfo(tail.dtype).tiny)  # (M, B), rising
    grid = 30 + math.isqrt(count)
    steps = torch.arange(1, grid + 1, dtype=x.dtype, device=x.device)[:, None]
    quartile = x[math.floor(count / 4 + 0.5) - 1]
    b = (1 - (grid / (steps - 0.5)).sqrt()) / (3 * quartile) + 1 / x[-1]  # (G, B)
    k = torch.log1p(-b.unsqueeze(1) * x).mean(1)  # (G, B)
    profile = count * ((-b / k).log() - k - 1)
    b = (profile.softmax(0) * b).sum(0)
    k = torch.log1p(-b * x).mean(0)
    k = (count * k + 10 * 0.5) / (count + 10)
    return torch.where(equal, -math.inf, k).to(largest.dtype)
