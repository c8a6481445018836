"""Counts and categories."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

__all__ = ["Categorical", "NegativeBinomial", "Poisson"]


class Categorical(td.Categorical):
    """Integers 0 … K−1 with ``logits`` (*batch, K); torch's own, without a mean.

    Categories have no order, so no mean: ``mode`` is the likeliest one, ``probs`` (*batch, K) what is known.
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits=logits, validate_args=False)

    @property
    def mean(self) -> Tensor:
        raise NotImplementedError("categories have no mean: take the mode, or probs")

    @property
    def variance(self) -> Tensor:
        raise NotImplementedError("categories have no variance: take probs")


class Poisson(td.Distribution):
    """Elementwise counts k = 0, 1, … of ``log_rate`` log λ.

    log p(k) = −k (e^u − 1 − u) + log(kᵏ e⁻ᵏ / k!),  u = log λ − log k;  log p(0) = −λ

    That is Loader's form (2000, Fast and accurate computation of binomial probabilities). The textbook form
    k log λ − λ − log k! subtracts numbers of size k log k: in single precision it is off by more than 0.1 at 10⁷
    counts.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own interface)
    has_rsample = False

    def __init__(self, log_rate: Tensor) -> None:
        self.log_rate = log_rate
        super().__init__(log_rate.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The rate λ."""
        return self.log_rate.exp()

    variance = mean

    @property
    def mode(self) -> Tensor:
        return self.mean.floor()

    def log_prob(self, value: Tensor) -> Tensor:
        k = value.to(self.log_rate.dtype)
        some = k.clamp(min=1)
        at_least_one = _log_top(some) - some * _exp_minus_line(self.log_rate - some.log())
        return torch.where(k > 0, at_least_one, -self.log_rate.exp())

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        return torch.poisson(self.mean.expand(self._extended_shape(torch.Size(sample_shape))))


class NegativeBinomial(td.Distribution):
    """Elementwise counts k = 0, 1, … of mean λ, given by ``log_rate`` log λ, and variance λ + λ²/r, r ``size``.

    p(k) = Γ(k + r) / (Γ(r) k!) (r/(r + λ))ʳ (λ/(r + λ))ᵏ;  r → ∞ is the Poisson distribution

    As Loader 2000 has it, from p(k) = r/(r + k) · binomial(r; r + k, r/(r + λ)) and the saddle-point form of the
    binomial, so that counts of any size keep their digits in single precision. log_rate, size: shapes that
    broadcast.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own interface)
    has_rsample = False

    def __init__(self, log_rate: Tensor, size: Tensor) -> None:
        self.log_rate, self.size = torch.broadcast_tensors(log_rate, size)
        super().__init__(self.log_rate.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The rate λ."""
        return self.log_rate.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean + self.mean.square() / self.size

    @property
    def mode(self) -> Tensor:
        return (self.mean * (1 - 1 / self.size)).clamp(min=0).floor()

    def log_prob(self, value: Tensor) -> Tensor:
        k, r, rate = value.to(self.log_rate.dtype), self.size, self.mean
        some = k.clamp(min=1)
        share = (some - rate) / (r + rate)
        far = (r + some).log() - (r + rate).log()
        over = torch.where(share < -0.5, far, torch.log1p(share.clamp(min=-0.5)))  # log((r + k)/(r + λ))
        tops = _log_top(r) + _log_top(some) - _log_top(some + r)
        misses = r * _exp_minus_line(over) + some * _exp_minus_line(over + self.log_rate - some.log())
        at_least_one = tops - torch.log1p(some / r) - misses
        return torch.where(k > 0, at_least_one, -r * torch.log1p(rate / r))

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        size = self.size.expand(shape).contiguous()
        return torch.poisson(torch._standard_gamma(size) * (self.mean / self.size))


def _exp_minus_line(u: Tensor) -> Tensor:
    """e^u − 1 − u, near 0 by its series."""
    small = u.clamp(-0.1, 0.1)
    series = 1 + small / 7 * (1 + small / 8 * (1 + small / 9 * (1 + small / 10)))
    for n in (6, 5, 4, 3):
        series = 1 + small / n * series
    return torch.where(u.abs() < 0.1, 0.5 * small * small * series, torch.expm1(u) - u)


def _log_top(k: Tensor) -> Tensor:
    """log(kᵏ e⁻ᵏ / k!), the log probability of k where λ = k; from 16 on Stirling's series."""
    few, many = k.clamp(max=16), k.clamp(min=16)
    v = 1 / many
    v2 = v * v
    tail = v * (1 / 12 - v2 * (1 / 360 - v2 * (1 / 1260 - v2 * (1 / 1680 - v2 / 1188))))
    stirling = -0.5 * (2 * torch.pi * many).log() - tail
    return torch.where(k < 16, few * few.log() - few - torch.lgamma(few + 1), stirling)
