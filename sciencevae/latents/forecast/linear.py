"""Forecasts in closed form: the last frame again, and linear maps of delays."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciencevae.distributions import DiagonalNormal, FullNormal
from sciencevae.errors import InputError
from sciencevae.latents.forecast.base import Forecaster, Law
from sciencevae.latents.forecast.series import Windows
from sciencevae.spec import recorded
from sciencevae.training.history import History

if TYPE_CHECKING:
    from sciencevae.latents.forecast.objective import Prediction
    from sciencevae.training.settings import TrainingSettings

__all__ = ["Linear", "Persistence"]


@recorded
class Persistence(Forecaster):
    """z_{t+1} ~ N(z_t, σ²), a random walk; σ by latent, of the training windows."""

    scale: Tensor

    def __init__(
        self, dim: int, condition_features: int = 0, scaling: str | Sequence[float] = "each"
    ) -> None:
        super().__init__(dim, 1, condition_features=condition_features, scaling=scaling)
        self.register_buffer("scale", torch.ones(dim))

    def fit(
        self,
        train: Windows,
        valid: Windows | None = None,
        settings: TrainingSettings | None = None,
        objective: Prediction | None = None,
        progress: Any = False,
    ) -> History:
        begun = time.monotonic()
        self._standardise(train)
        step = self._standard(train.future[:, 0]) - self._standard(train.history[:, -1])
        self.scale = step.square().mean(0).sqrt()
        return _history(step, begun)

    def start(self, window: Tensor, condition: Tensor | None) -> None:
        return None

    def step(self, state: Any, frame: Tensor, condition: Tensor | None, k: int) -> tuple[Law, Any]:
        return DiagonalNormal(frame, self.scale.expand_as(frame)), None


@recorded
class Linear(Forecaster):
    """z_{t+1+k} ~ N(b_k + A_k (z_{t−L+1} … z_t, c), Σ_k), least squares with a ridge, k = 0 … frames − 1:

    min_A 1/N ‖Y − b − X A‖² + ridge ‖A‖² over standardised delays X (N, L·D + c), Σ the covariance of the residuals
    by N − degrees of freedom. rank: X replaced by its truncated singular value decomposition. decay d < 1: the
    ridge of a frame l steps back is ridge / d^(2l): what is long past matters less, and many delays do not overfit.

    window=1 is dynamic mode decomposition (Schmid 2010; exact DMD, Tu et al. 2014, for an affine map), a longer
    window DMD of delays (Arbabi & Mezić 2017); frames > 1 is a map of its own for each lead time. ``eigenvalues``:
    of the map of window=1, frames=1.
    """

    weight: Tensor
    bias: Tensor
    root: Tensor

    def __init__(
        self,
        dim: int,
        window: int,
        ridge: float = 0.0,
        rank: int | None = None,
        frames: int = 1,
        condition_features: int = 0,
        scaling: str | Sequence[float] = "each",
        decay: float = 1.0,
    ) -> None:
        super().__init__(dim, window, frames, condition_features, scaling)
        if ridge < 0 or (rank is not None and rank < 1) or not 0 < decay <= 1:
            raise InputError(f"ridge is ≥ 0, rank ≥ 1 and decay in (0, 1], not {ridge}, {rank} and {decay}")
        self.ridge, self.rank, self.decay = ridge, rank, decay
        self.register_buffer("weight", torch.zeros(frames, window * dim + condition_features, dim))
        self.register_buffer("bias", torch.zeros(frames, dim))
        self.register_buffer("root", torch.eye(dim).repeat(frames, 1, 1))  # Cholesky factor of Σ

    def fit(
        self,
        train: Windows,
        valid: Windows | None = None,
        settings: TrainingSettings | None = None,
        objective: Prediction | None = None,
        progress: Any = False,
    ) -> History:
        begun = time.monotonic()
        self._standardise(train)
        if train.future.shape[1] < self.frames:
            raise InputError(
                f"the windows have a horizon of {train.future.shape[1]} and the forecaster gives {self.frames} "
                "frames at once: cut windows with horizon ≥ frames"
            )
        x = self._delays(self._standard(train.history)[:, -self.window :], self._condition(train.condition))
        y = self._standard(train.future[:, : self.frames]).flatten(1)  # (N, K·D)
        x, y = x.double(), y.double()
        x *= self._priors(x)
        x_mean, y_mean = x.mean(0), y.mean(0)
        x, y = x.sub_(x_mean), y.sub_(y_mean)
        a, used = _least_squares(x, y, self.ridge * len(x), self.rank)  # (L·D + c, K·D)
        residual = y - x @ a
        free = max(len(x) - 1 - used, 1.0)
        by_frame = residual.unflatten(1, (self.frames, self.dim)).transpose(0, 1)  # (K, N, D)
        covariance = by_frame.mT @ by_frame / free
        # a covariance of residuals that vanish, or of fewer rows than latents, has no Cholesky factor
        floor = covariance.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12) * 1e-6
        jitter = floor[:, None, None] * torch.eye(self.dim, dtype=x.dtype)
        dtype = self.weight.dtype
        self.root = torch.linalg.cholesky(covariance + jitter).to(dtype)
        self.bias = (y_mean - x_mean @ a).unflatten(0, (self.frames, self.dim)).to(dtype)
        a = a * self._priors(x)[:, None]
        self.weight = a.unflatten(1, (self.frames, self.dim)).transpose(0, 1).contiguous().to(dtype)
        return _history(residual, begun)

    @property
    def eigenvalues(self) -> Tensor:
        """(D,), complex, of z_{t+1} = b + A z_t; |λ| > 1 grows, arg λ / (2π) is the frequency in cycles a frame."""
        if self.window != 1:
            raise InputError(
                f"eigenvalues are those of one frame to the next; the window here is {self.window}"
            )
        # z scaled to (z − m) / s: A = S⁻¹ … S, which has the same eigenvalues
        return torch.linalg.eigvals(self.weight[0, : self.dim].double())

    def start(self, window: Tensor, condition: Tensor | None) -> Tensor:
        x = self._delays(window, condition)
        return torch.einsum("bx,kxd->bkd", x, self.weight) + self.bias  # (B, K, D)

    def step(self, state: Tensor, frame: Tensor, condition: Tensor | None, k: int) -> tuple[Law, Tensor]:
        return FullNormal(state[:, k], self.root[k]), state

    def _priors(self, x: Tensor) -> Tensor:
        """(L·D + c,), what each column is multiplied by, so that one ridge is a ridge of its own for each delay."""
        back = torch.arange(self.window - 1, -1, -1, dtype=torch.double, device=x.device)
        delays = (self.decay**back).repeat_interleave(self.dim)
        return torch.cat([delays, delays.new_ones(self.condition_features)])

    @staticmethod
    def _delays(window: Tensor, condition: Tensor | None) -> Tensor:
        x = window.flatten(1)
        return x if condition is None else torch.cat([x, condition.reshape(len(x), -1)], 1)


def _least_squares(x: Tensor, y: Tensor, ridge: float, rank: int | None) -> tuple[Tensor, float]:
    """min_A ‖y − x A‖² + ridge ‖A‖², and the degrees of freedom it uses, tr x (xᵀx + ridge)⁻¹ xᵀ."""
    if ridge > 0 and rank is None:  # well conditioned: ten times as fast
        gram = x.mT @ x
        factor = torch.linalg.cholesky(gram + ridge * torch.eye(len(gram), dtype=x.dtype))
        return torch.cholesky_solve(x.mT @ y, factor), float(torch.cholesky_solve(gram, factor).trace())
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    kept = s > s[0] * max(x.shape) * torch.finfo(x.dtype).eps
    if rank is not None:
        kept &= torch.arange(len(s)) < rank
    u, s, v = u[:, kept], s[kept], v[kept]
    damped = s.square() + ridge
    return v.mT @ ((s / damped)[:, None] * (u.mT @ y)), float((s.square() / damped).sum())


def _history(residual: Tensor, begun: float) -> History:
    """Of a fit in closed form: the mean squared error, standardised."""
    loss = float(residual.square().mean())
    seconds = time.monotonic() - begun
    return History(
        [{"epoch": 1, "step": 0, "seconds": seconds, "train_loss": loss}], "epochs", seconds=seconds
    )
