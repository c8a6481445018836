"""A mixture of distributions of one family."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

__all__ = ["Mixture"]


class Mixture(td.MixtureSameFamily):
    """p(z) = Σ_k w_k p_k(z): logits (K,) of the weights, components with batch shape (K,).

    A draw chooses its component first. torch's own draws from all K and keeps one, K times the memory and time;
    so it is here for components that can't be chosen from, those without ``pick``.
    """

    def __init__(self, logits: Tensor, components: td.Distribution) -> None:
        weights = td.Categorical(logits=logits, validate_args=False)
        super().__init__(weights, components, validate_args=False)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        if not hasattr(self.component_distribution, "pick"):
            return super().sample(sample_shape)
        chosen = self.mixture_distribution.sample(sample_shape)
        return self.component_distribution.pick(chosen).sample()
