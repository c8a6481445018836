"""Normal distributions whose noise can be passed in, and which marginalise missing entries.

torch's own ``rsample`` fills its noise in place, which ``torch.func.vmap`` refuses, and takes no noise from
outside; both are needed for "compiled equals eager" and for training several seeds in one step.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

__all__ = ["CovarianceNormal", "DiagonalNormal", "FullNormal", "Normal"]

LOG_2PI = math.log(2 * math.pi)


class Normal(td.Normal):
    """Elementwise N(loc, scale²); ``from_noise(ε) = loc + scale·ε`` with ε ~ N(0, 1)."""

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(loc, scale, validate_args=False)

    def from_noise(self, noise: Tensor) -> Tensor:
        return self.loc + self.scale * noise

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.from_noise(torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device))


class DiagonalNormal(td.Independent):
    """N(loc, diag(scale²)) over the last axis: batch shape (*B,), event shape (D,)."""

    base_dist: Normal

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(Normal(loc, scale), 1, validate_args=False)

    @property
    def loc(self) -> Tensor:
        return self.base_dist.loc

    @property
    def scale(self) -> Tensor:
        return self.base_dist.scale

    def from_noise(self, noise: Tensor) -> Tensor:
        """z = loc + scale·ε, ε (S, *B, D)."""
        return self.base_dist.from_noise(noise)

    def log_prob(self, value: Tensor) -> Tensor:
        # summed before the constants are added: half the memory traffic of torch's, all that a mixture costs
        whitened = (value - self.loc) / self.scale
        constant = self.scale.log().sum(-1) + 0.5 * LOG_2PI * self.event_shape[0]
        return -0.5 * whitened.square().sum(-1) - constant

    def pick(self, index: Tensor) -> DiagonalNormal:
        """Those of the batch (K,) that ``index`` (*B,) numbers, as a batch (*B,)."""
        return DiagonalNormal(self.loc[index], self.scale[index])

    def detach(self) -> DiagonalNormal:
        return DiagonalNormal(self.loc.detach(), self.scale.detach())


class FullNormal(td.MultivariateNormal):
    """N(loc, LLᵀ) with L lower triangular: batch shape (*B,), event shape (D,)."""

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        super().__init__(loc, scale_tril=scale_tril, validate_args=False)

    def from_noise(self, noise: Tensor) -> Tensor:
        """z = loc + L·ε, ε (S, *B, D)."""
        return self.loc + (self._unbroadcasted_scale_tril @ noise.unsqueeze(-1)).squeeze(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.from_noise(torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device))

    def pick(self, index: Tensor) -> FullNormal:
        """Those of the batch (K,) that ``index`` (*B,) numbers, as a batch (*B,)."""
        return FullNormal(self.loc[index], self.scale_tril[index])

    def detach(self) -> FullNormal:
        return FullNormal(self.loc.detach(), self._unbroadcasted_scale_tril.detach())


class CovarianceNormal(td.Distribution):
    """N(loc, covariance) over the last axis, whose density is the marginal of the entries that are not NaN.

    log p(x_o) = −½ (x_o − μ_o)ᵀ Σ_oo⁻¹ (x_o − μ_o) − ½ log |Σ_oo| − ½ n_o log 2π

    loc (*B, n); covariance (n, n), (B, n, n) or any shape that broadcasts. With x (B, n) and loc (S, B, n) the
    factorisation is made once for the B covariances, not S·B times.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own interface)

    def __init__(self, loc: Tensor, covariance: Tensor) -> None:
        self.loc, self.covariance = loc, covariance
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc

    mode = mean

    @property
    def variance(self) -> Tensor:
        return self.covariance.diagonal(dim1=-2, dim2=-1).expand(self.loc.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        observed = ~value.isnan()  # (B, n)
        both = observed.unsqueeze(-1) & observed.unsqueeze(-2)  # (B, n, n)
        missing = torch.diag_embed((~observed).to(self.loc.dtype))
        # the rows and columns of missing entries become those of the identity: log-determinant 0, residual 0
        factor = torch.linalg.cholesky(torch.where(both, self.covariance, missing))
        residual = torch.where(observed, value, 0.0) - torch.where(observed, self.loc, 0.0)  # (S, B, n)
        whitened = torch.linalg.solve_triangular(factor, residual.unsqueeze(-1), upper=False).squeeze(-1)
        half_log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        count = observed.to(self.loc.dtype).sum(-1)  # an integer times 2π would be float32
        return -0.5 * (whitened.square().sum(-1) + count * LOG_2PI) - half_log_det

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        # what is unknown of a missing entry's errors: independent, with variance 1
        known = torch.where(
            self.covariance.isnan(), torch.eye(shape[-1]).to(self.covariance), self.covariance
        )
        return self.loc + (torch.linalg.cholesky(known) @ noise.unsqueeze(-1)).squeeze(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)
