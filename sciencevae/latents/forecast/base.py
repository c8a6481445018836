"""The contract of a forecaster, and the rollout that all share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sciencevae.distributions import DiagonalNormal, FullNormal
from sciencevae.errors import InputError, did_you_mean
from sciencevae.latents.forecast.series import Windows
from sciencevae.vae.evaluating import evaluating

if TYPE_CHECKING:
    from sciencevae.batch import Batch
    from sciencevae.latents.forecast.objective import Prediction
    from sciencevae.training.history import History
    from sciencevae.training.settings import TrainingSettings

__all__ = ["SCALINGS", "Forecaster", "Law"]

#: each: every latent to mean 0 and variance 1; common: one factor for all, as for coefficients of an orthonormal
#: basis (POD), whose squared errors add up to that of the field. In place of a name: D factors that make them such
#: coefficients, as ``lagged_metric``
SCALINGS = ("each", "common")

_AT_ONCE = 16  # latents whose windows are copied in double precision

Law = DiagonalNormal | FullNormal


class Forecaster(nn.Module):
    """p(z_{t+1} | z_{t−L+1} … z_t, c), step by step; Contract: ``fit``, ``start`` and ``step``, see below.

    dim: D · window: L, the frames it looks at · frames: how many it gives before it looks at a window again, the
    last frames of which are then its own · condition_features: c, of parameters of a run, as the Reynolds number ·
    scaling: "each" or "common" by the training windows, of ``SCALINGS``, or D factors.

    ``start(window (B, L, D), condition)`` gives a state, ``step(state, frame (B, D), condition, k)`` the law of the
    next frame (k = 0 … frames − 1) and the state after it; ``frame`` is the one before, true or forecast. Both see
    standardised numbers. ``fit`` learns from windows, in the latents' own units.
    """

    coded = False  # what a training loop asks of a model
    centre: Tensor
    spread: Tensor
    condition_centre: Tensor
    condition_spread: Tensor
    inflation: Tensor
    fitted: Tensor

    def __init__(
        self,
        dim: int,
        window: int,
        frames: int = 1,
        condition_features: int = 0,
        scaling: str | Sequence[float] = "each",
    ) -> None:
        super().__init__()
        if min(dim, window, frames) < 1 or condition_features < 0:
            raise InputError(
                f"a forecaster needs dim, window and frames ≥ 1 and condition_features ≥ 0, not {dim}, {window}, "
                f"{frames} and {condition_features}"
            )
        if isinstance(scaling, str) and scaling not in SCALINGS:
            raise InputError(f"unknown scaling {scaling!r}{did_you_mean(scaling, SCALINGS)}")
        if not isinstance(scaling, str) and (len(scaling) != dim or min(scaling) <= 0):
            raise InputError(f"scaling is {dim} factors > 0, one for each latent; found {len(scaling)}")
        self.dim, self.window, self.frames = dim, window, frames
        self.condition_features, self.scaling = condition_features, scaling
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))
        self.register_buffer("condition_centre", torch.zeros(condition_features))
        self.register_buffer("condition_spread", torch.ones(condition_features))
        self.register_buffer("inflation", torch.ones(1, dim))  # (H, D), the last row for all later frames
        self.register_buffer("fitted", torch.zeros(()))

    # ---- what a kind of forecaster says --------------------------------------------------------------

    def fit(
        self,
        train: Windows,
        valid: Windows | None = None,
        settings: TrainingSettings | None = None,
        objective: Prediction | None = None,
        progress: Any = False,
    ) -> History:
        """Learn from windows. settings, objective and valid (early stopping) are for those that are trained by
        steps; one in closed form needs none of them.

        Raises InputError for windows of another length, dimension or condition.
        """
        raise NotImplementedError

    def start(self, window: Tensor, condition: Tensor | None) -> Any:
        raise NotImplementedError

    def step(self, state: Any, frame: Tensor, condition: Tensor | None, k: int) -> tuple[Law, Any]:
        raise NotImplementedError

    # ---- what all share ------------------------------------------------------------------------------

    @torch.no_grad()
    def rollout(
        self,
        history: Tensor,
        steps: int,
        condition: Tensor | None = None,
        samples: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The ``steps`` frames after history (B, L, D): (B, steps, D), each fed the mean of the one before.

        samples: S draws, each fed its own frames, (S, B, steps, D), with ``generator`` the same ones again; their
        spread about their mean is widened by ``calibrate``'s factors. Of a longer history the last L frames count.
        """
        self._check(history, condition)
        if steps < 1 or (samples is not None and samples < 1):
            raise InputError(f"steps and samples are ≥ 1, not {steps} and {samples}")
        with evaluating(self):
            if samples is None:
                return self._mean_rollout(history, steps, condition)
            drawn = self._draws(history, steps, condition, samples, generator)
        factor = self.inflation[torch.arange(steps).clamp(max=len(self.inflation) - 1)]  # (steps, D)
        mean = drawn.mean(0)
        return mean + factor * (drawn - mean)

    def _mean_rollout(self, history: Tensor, steps: int, condition: Tensor | None) -> Tensor:
        def feed(_: int, law: Law) -> Tensor:
            return law.mean

        given = self._condition(condition)
        laws = self.unroll(self._standard(history)[:, -self.window :], steps, given, feed)
        return torch.stack([law.mean for law in laws], 1) * self.spread + self.centre

    def _draws(
        self,
        history: Tensor,
        steps: int,
        condition: Tensor | None,
        samples: int,
        generator: torch.Generator | None,
    ) -> Tensor:
        """(S, B, steps, D) as the forecaster gives them, not yet calibrated."""
        rows, drawn = len(history), []

        def feed(_: int, law: Law) -> Tensor:
            shape = (samples * rows, self.dim)
            device = None if generator is None else generator.device
            noise = torch.randn(shape, generator=generator, dtype=history.dtype, device=device)
            drawn.append(law.from_noise(noise.to(history.device)))
            return drawn[-1]

        given = self._condition(condition)
        many = self._standard(history)[:, -self.window :].repeat(samples, 1, 1)
        self.unroll(many, steps, None if given is None else given.repeat(samples, 1), feed)
        return (torch.stack(drawn, 1) * self.spread + self.centre).unflatten(0, (samples, rows))

    def unroll(
        self, window: Tensor, steps: int, condition: Tensor | None, feed: Callable[[int, Law], Tensor]
    ) -> list[Law]:
        """The laws of the next frames, standardised; ``feed(k, law)`` is the frame (B, D) that goes on from k."""
        laws: list[Law] = []
        while len(laws) < steps:
            state, frame, given = self.start(window, condition), window[:, -1], []
            for k in range(min(self.frames, steps - len(laws))):
                law, state = self.step(state, frame, condition, k)
                frame = feed(len(laws), law)
                laws.append(law)
                given.append(frame)
            window = torch.cat([window, torch.stack(given, 1)], 1)[:, -self.window :]
        return laws

    @torch.no_grad()
    def calibrate(
        self, valid: Windows, samples: int = 64, generator: torch.Generator | None = None
    ) -> Tensor:
        """The factors (H, D) by which the spread of rollouts is widened from here on, by lead time and latent:

        √(mean squared error of the mean / mean variance · S/(S+1)) over the windows, 1 where draws are calibrated
        (Fortin et al. 2014, eq. 15). To be given held-out windows; at later lead times the last factor holds.
        """
        self._check_windows(valid)
        self.inflation = torch.ones_like(self.inflation[:1])
        drawn = self.rollout(valid.history, valid.future.shape[1], valid.condition, samples, generator)
        error = (drawn.mean(0) - valid.future).square().mean(0)  # (H, D)
        variance = drawn.var(0).mean(0)
        tiny = torch.finfo(variance.dtype).tiny
        self.inflation = (error / variance.clamp(min=tiny) * samples / (samples + 1)).sqrt()
        return self.inflation

    def check(self, batch: Batch) -> None:
        """What the training loop asks before its first step; windows were checked by ``fit``."""

    def _standardise(self, train: Windows) -> None:
        """Centre and scale by the frames of the training windows."""
        self._check_windows(train)
        dtype = next((p.dtype for p in self.parameters()), self.centre.dtype)
        means, spreads = [], []
        for some in torch.arange(self.dim).split(_AT_ONCE):
            frames = torch.cat([train.history[..., some], train.future[..., some]], 1).double()
            means.append(frames.mean((0, 1)))
            spreads.append(frames.std((0, 1), correction=0))
        self.centre, spread = torch.cat(means).to(dtype), torch.cat(spreads)
        if self.scaling != "each":
            factors = spread.new_tensor([1.0] if self.scaling == "common" else self.scaling)
            spread = (factors * spread).square().mean().sqrt() / factors.expand_as(spread)
        self.spread = torch.where(spread > 0, spread, 1.0).to(dtype).clone()
        if train.condition is not None:
            known = train.condition.double()
            self.condition_centre = known.mean(0).to(dtype)
            width = known.std(0, correction=0)
            self.condition_spread = torch.where(width > 0, width, 1.0).to(dtype)
        self.inflation = self.inflation.new_ones(1, self.dim)
        self.fitted = torch.ones_like(self.fitted)

    def _standard(self, frames: Tensor) -> Tensor:
        return (frames - self.centre) / self.spread

    def _condition(self, condition: Tensor | None) -> Tensor | None:
        return None if condition is None else (condition - self.condition_centre) / self.condition_spread

    def _check_windows(self, windows: Windows) -> None:
        if not len(windows):
            raise InputError("there are no windows to learn from")
        self._check(windows.history, windows.condition, fitted=False)

    def _check(self, history: Tensor, condition: Tensor | None, fitted: bool = True) -> None:
        if history.dim() != 3 or history.shape[2] != self.dim:
            raise InputError(
                f"the history is {tuple(history.shape)}; this forecaster takes (B, {self.window}, {self.dim})"
            )
        if history.shape[1] < self.window:
            raise InputError(
                f"the history has {history.shape[1]} frames and this forecaster looks at {self.window}: give a "
                "longer history, or build it with a shorter window"
            )
        found = 0 if condition is None else condition.reshape(len(condition), -1).shape[1]
        if found != self.condition_features:
            raise InputError(
                f"the windows have {found} condition(s) and the forecaster was built for "
                f"{self.condition_features}: build it with condition_features={found}, or give a condition (B, c)"
            )
        if fitted and not bool(self.fitted):
            raise InputError(f"this {type(self).__name__} has learnt nothing yet: call fit(windows) first")
