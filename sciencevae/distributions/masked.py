"""Missing data: a factorised density that marginalises what is NaN."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

__all__ = ["Masked", "observed_entries"]


def observed_entries(x: Tensor) -> Tensor:
    """True where a value is there: not NaN, or for integers not −1."""
    return ~x.isnan() if x.is_floating_point() else x != -1


class Masked(td.Independent):
    """Independent entries over the last ``event_ndims`` axes; the missing ones (NaN; integers −1) drop out.

    log p(x) = Σ_{i observed} log p_i(x_i): for a factorised density this is the exact marginal.

    Missing entries are filled with 0, which lies in the support of every base used here, *before* the density
    is evaluated: masking afterwards gives the right value with NaN gradients. For the same reason a base is
    built from finite parameters; ``known`` is False where they stand in for unknown ones, and a value observed
    there has the density NaN.
    """

    def __init__(self, base: td.Distribution, event_ndims: int, known: Tensor | None = None) -> None:
        super().__init__(base, event_ndims, validate_args=False)
        self.known = known

    @property
    def mode(self) -> Tensor:
        return self.base_dist.mode

    def elementwise_log_prob(self, value: Tensor) -> Tensor:
        """log p_i(x_i) of each entry, 0 where missing, (S, B, *E)."""
        observed = observed_entries(value)
        filled = torch.where(observed, value, torch.zeros((), dtype=value.dtype, device=value.device))
        entries = torch.where(observed, self.base_dist.log_prob(filled), 0.0)
        return entries if self.known is None else torch.where(observed & ~self.known, math.nan, entries)

    def log_prob(self, value: Tensor) -> Tensor:
        entries = self.elementwise_log_prob(value)
        axes = tuple(range(-self.reinterpreted_batch_ndims, 0))
        return entries.sum(axes) if axes else entries

    def __getattr__(self, name: str) -> Any:
        # what the base knows (loc, concentration, logits, ...) is read through
        if name.startswith("_") or name == "base_dist":
            raise AttributeError(name)
        return getattr(self.base_dist, name)
