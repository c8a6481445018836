"""Grey values as a mixture of discretised logistics."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributions as td
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["MixtureOfLogistics"]


class MixtureOfLogistics(td.Distribution):
    """Elementwise grey values x ∈ {0, 1/(L−1), …, 1} of L ``levels``, a mixture of K discretised logistics.

    p(x) = Σ_k π_k [σ((y + h − μ_k)/s_k) − σ((y − h − μ_k)/s_k)],  y = 2x − 1, h = 1/(L−1)

    with −∞ for y − h at x = 0 and ∞ for y + h at x = 1, so that the probabilities of the L levels add up to 1.
    Salimans et al. 2017 (PixelCNN++), eq. 2. logits, loc (in units of y), log_scale: (*batch, K).

    1. Departure: with b and a the two arguments, log(σ(b) − σ(a)) = log σ(b) + log σ(−a) + log(1 − e^{a−b})
       exactly, where b − a = 2h/s depends on no x. The paper's code switches to a density in the tails.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own interface)
    has_rsample = False

    def __init__(self, logits: Tensor, loc: Tensor, log_scale: Tensor, levels: int = 256) -> None:
        self.log_weights = logits.log_softmax(-1)
        self.loc, self.log_scale, self.levels = loc, log_scale, levels
        super().__init__(loc.shape[:-1], validate_args=False)

    def _edge(self, level: Tensor | int) -> Tensor:
        """The lower edge of a level's bin, in units of each component's scale, (*batch, K)."""
        return ((2 * level - 1) / (self.levels - 1) - 1 - self.loc) / self.log_scale.exp()

    def log_prob(self, value: Tensor) -> Tensor:
        level = (value.to(self.loc.dtype) * (self.levels - 1)).round()
        return self._log_prob_of(level.unsqueeze(-1))

    def _log_prob_of(self, level: Tensor) -> Tensor:
        below = logsigmoid(self._edge(level + 1))
        above = logsigmoid(-self._edge(level))
        width = 2 / (self.levels - 1) * (-self.log_scale).exp()
        bottom, top = level <= 0, level >= self.levels - 1
        each = (
            torch.where(top, 0.0, below)
            + torch.where(bottom, 0.0, above)
            + torch.where(bottom | top, 0.0, (-torch.expm1(-width)).log())
        )
        return (self.log_weights + each).logsumexp(-1)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """⟨l⟩ and ⟨l²⟩ of the level l: Σ P(l ≥ i) and Σ (2i − 1) P(l ≥ i), without an axis of levels."""
        first = second = torch.zeros_like(self.loc[..., 0])
        weights = self.log_weights.exp()
        for level in range(1, self.levels):
            reached = (weights * torch.sigmoid(-self._edge(level))).sum(-1)
            first, second = first + reached, second + (2 * level - 1) * reached
        return first, second

    @property
    def mean(self) -> Tensor:
        return self._moments()[0] / (self.levels - 1)

    @property
    def variance(self) -> Tensor:
        first, second = self._moments()
        return (second - first.square()) / (self.levels - 1) ** 2

    @property
    def mode(self) -> Tensor:
        """The likeliest level."""
        best = torch.zeros_like(self.loc[..., 0])
        highest = self._log_prob_of(best.unsqueeze(-1))
        for level in range(1, self.levels):
            found = self._log_prob_of(torch.full_like(best, level).unsqueeze(-1))
            best = torch.where(found > highest, level, best)
            highest = torch.maximum(found, highest)
        return best / (self.levels - 1)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = torch.Size(sample_shape)
        component = td.Categorical(logits=self.log_weights, validate_args=False).sample(shape).unsqueeze(-1)
        loc = self.loc.expand(*shape, *self.loc.shape).gather(-1, component).squeeze(-1)
        scale = self.log_scale.exp().expand(*shape, *self.loc.shape).gather(-1, component).squeeze(-1)
        y = loc + scale * torch.logit(torch.rand_like(loc), eps=torch.finfo(loc.dtype).tiny)
        top = self.levels - 1
        return (0.5 * (y + 1) * top).round().clamp(0, top) / top
