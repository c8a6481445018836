"""The von Mises distribution on the circle, right at any concentration and in single precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

__all__ = ["VonMises", "bessel_ratio"]

LOG_2PI = math.log(2 * math.pi)


def bessel_ratio(concentration: Tensor) -> Tensor:
    """A(κ) = I₁(κ) / I₀(κ), the mean resultant length: ⟨cos(x − μ)⟩ of a von Mises variable."""
    return _by_size(concentration, _ratio, lambda kappa: 1 - _one_minus_ratio(kappa))


def log_i0e(concentration: Tensor) -> Tensor:
    """log(e^{−κ} I₀(κ)).

    For large κ by its expansion: the derivative of i0e is i1e − i0e, of which single precision has no digit left
    at κ = 10⁷, and a fit of κ would stop there. Abramowitz & Stegun 9.7.1.
    """

    def expanded(kappa: Tensor) -> Tensor:
        u = 1 / (8 * kappa)
        series = u * (1 + u * (4.5 + u * (37.5 + u * 459.375)))
        return torch.log1p(series) - 0.5 * (LOG_2PI + kappa.log())

    return _by_size(concentration, lambda kappa: torch.special.i0e(kappa).log(), expanded)


def _by_size(kappa: Tensor, near: Callable[[Tensor], Tensor], far: Callable[[Tensor], Tensor]) -> Tensor:
    """near(κ), and far(κ), an expansion, from where on it is exact to rounding.

    Each sees κ kept to its own side, so that the branch not taken has a finite gradient.
    """
    border = 1e3 if kappa.dtype == torch.float64 else 50.0
    return torch.where(kappa < border, near(kappa.clamp(max=border)), far(kappa.clamp(min=border)))


def _ratio(kappa: Tensor) -> Tensor:
    return torch.special.i1e(kappa) / torch.special.i0e(kappa)


def _one_minus_ratio(kappa: Tensor) -> Tensor:
    """1 − A(κ) for large κ."""
    v = 1 / kappa
    return v * (0.5 + v * (0.125 + v * (0.125 + v * (25 / 128 + v * (13 / 32)))))


class VonMises(td.Distribution):
    """Angles x in (−π, π] about ``loc`` with ``concentration`` κ ≥ 0.

    log p(x) = −2κ sin²((x − μ)/2) − log(2π e^{−κ} I₀(κ))

    The two terms are each of the size of the result. The textbook form κ cos(x − μ) − log(2π I₀(κ)) subtracts
    two numbers of size κ: torch's own overflows or loses all digits in float32 at κ = 1e6. Periodic in x and
    μ, so a residual across ±π needs no wrapping.

    loc and concentration: radians and dimensionless, shapes that broadcast. Sampling: Best & Fisher (1979),
    computed in double precision; a κ so small that their ratio loses its digits is drawn uniformly, one
    above 1e8 as the normal it has become (relative error of the density below 1/(8κ)).
    Mardia & Jupp, Directional Statistics (2000), §3.5.4.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own interface)
    has_rsample = False

    def __init__(self, loc: Tensor, concentration: Tensor) -> None:
        self.loc, self.concentration = torch.broadcast_tensors(
            torch.as_tensor(loc), torch.as_tensor(concentration)
        )
        super().__init__(self.loc.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The circular mean μ, radians."""
        return self.loc

    mode = mean

    @property
    def variance(self) -> Tensor:
        """The circular variance 1 − A(κ)."""
        return _by_size(self.concentration, lambda kappa: 1 - _ratio(kappa), _one_minus_ratio)

    def log_prob(self, value: Tensor) -> Tensor:
        half = torch.sin((value - self.loc) / 2)
        log_norm = LOG_2PI + log_i0e(self.concentration)
        return -2 * self.concentration * half * half - log_norm

    def entropy(self) -> Tensor:
        """H = log(2π e^{−κ} I₀(κ)) + κ (1 − A(κ))."""
        kappa = self.concentration
        return LOG_2PI + log_i0e(kappa) + kappa * self.variance

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        kappa = self.concentration.double().expand(shape)
        draw = torch.full(shape, math.nan, dtype=torch.float64, device=kappa.device)  # for a κ that is NaN
        uniform, normal = kappa < 1e-6, kappa > 1e8
        draw[uniform] = math.pi * (2 * torch.rand_like(draw[uniform]) - 1)
        draw[normal] = torch.randn_like(draw[normal]) / kappa[normal].sqrt()
        between = (kappa >= 1e-6) & (kappa <= 1e8)
        draw[between] = _best_fisher(kappa[between])
        angle = draw + self.loc.double()
        wrapped = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi  # [−π, π)
        out = wrapped.to(self.loc.dtype)
        # float32(π) lies above π: the seam and what rounding pushed over it go to the closed end
        return torch.where(out <= -math.pi, torch.full_like(out, math.pi), out).clamp(max=math.pi)


def _best_fisher(kappa: Tensor) -> Tensor:
    """Draws about 0 by rejection from a wrapped Cauchy envelope; kappa (N,) in double precision."""
    tau = 1 + torch.sqrt(1 + 4 * kappa * kappa)
    rho = (tau - torch.sqrt(2 * tau)) / (2 * kappa)
    r = (1 + rho * rho) / (2 * rho)
    out = torch.empty_like(kappa)
    open_ = torch.arange(len(kappa), device=kappa.device)
    while len(open_):  # acceptance is at least 0.65: about 40 rounds for 10¹⁸ draws
        u1, u2, u3 = torch.rand(3, len(open_), dtype=kappa.dtype, device=kappa.device)
        z = torch.cos(math.pi * u1)
        f = (1 + r[open_] * z) / (r[open_] + z)
        c = kappa[open_] * (r[open_] - f)
        accept = (c * (2 - c) > u2) | (torch.log(c / u2) + 1 - c >= 0)
        value = torch.sign(u3 - 0.5) * torch.acos(f.clamp(-1, 1))
        out[open_[accept]] = value[accept]
        open_ = open_[~accept]
    return out
