"""Forecasters that are trained by steps: a residual network, and the LSTM from sequence to sequence."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from sciencevae.batch import Batch
from sciencevae.data.batches import InMemory
from sciencevae.distributions import DiagonalNormal
from sciencevae.errors import InputError
from sciencevae.latents.forecast.base import Forecaster, Law
from sciencevae.latents.forecast.linear import Persistence
from sciencevae.latents.forecast.series import Windows
from sciencevae.networks.perceptron import Perceptron
from sciencevae.networks.recurrent import LSTMCell
from sciencevae.spec import recorded
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae.evaluating import evaluating

if TYPE_CHECKING:
    from sciencevae.latents.forecast.objective import Prediction
    from sciencevae.training.history import History
    from sciencevae.vae.model import VAE

__all__ = ["Recurrent", "Residual", "Trained", "train_together"]

#: a step of Adam moves any parameter by about the learning rate, and a log scale has far to go
GAIN = 10.0
#: log scales, standardised, between which a law's lie: float32 has no smaller errors
LOWEST, HIGHEST = -12.0, 5.0


class Trained(Forecaster):
    """A forecaster whose means a network gives, trained by ``Prediction``; one scale for each frame and latent.

    After training by "nll" or "squared" the scales are the root mean squared errors of forecasts from true frames,
    of the validation windows where there are some: the maximum of the likelihood, given the means.
    """

    def __init__(
        self, dim: int, window: int, frames: int, condition_features: int, scaling: str | Sequence[float]
    ) -> None:
        super().__init__(dim, window, frames, condition_features, scaling)
        self.log_scale = nn.Parameter(torch.zeros(frames, dim))

    def fit(
        self,
        train: Windows,
        valid: Windows | None = None,
        settings: TrainingSettings | None = None,
        objective: Prediction | None = None,
        progress: Any = False,
    ) -> History:
        return train_together([self], train, valid, settings, objective, progress)[0]

    def law(self, mean: Tensor, k: int) -> DiagonalNormal:
        scale = (GAIN * self.log_scale[k]).clamp(LOWEST, HIGHEST).exp()
        return DiagonalNormal(mean, scale.expand_as(mean))

    def prepare(self, train: Windows, valid: Windows | None) -> None:
        """What comes before the steps: scaling, and scales to begin with."""
        self._standardise(train)
        self.settle(train)

    @torch.no_grad()
    def settle(self, windows: Windows) -> None:
        """Give the laws the scales of the errors made on these windows, from true frames."""
        if windows.future.shape[1] < self.frames:
            raise InputError(
                f"the windows have a horizon of {windows.future.shape[1]} and the forecaster gives {self.frames} "
                "frames at once: cut windows with horizon ≥ frames"
            )
        squares = torch.zeros_like(self.log_scale)
        with evaluating(self):
            history = self._standard(windows.history)[:, -self.window :]
            truth = self._standard(windows.future[:, : self.frames])
            condition = self._condition(windows.condition)
            laws = self.unroll(history, self.frames, condition, lambda k, _: truth[:, k])
            for k, law in enumerate(laws):
                squares[k] = (law.mean - truth[:, k]).square().mean(0)
        self.log_scale.data = (0.5 * squares.log()).clamp(LOWEST, HIGHEST) / GAIN


def train_together(
    members: Sequence[Trained],
    train: Windows,
    valid: Windows | None = None,
    settings: TrainingSettings | None = None,
    objective: Prediction | None = None,
    progress: Any = False,
    seeds: Sequence[int] | None = None,
) -> list[History]:
    """``fit`` of members that differ in their weights alone, in one vectorised step where there are ``seeds``."""
    from sciencevae.latents.forecast.objective import Prediction
    from sciencevae.training.loop import Loop

    settings = settings or TrainingSettings(epochs=200, patience=None if valid is None else 20)
    objective = copy.copy(objective or Prediction())
    objective.horizon = train.future.shape[1]
    if valid is not None and valid.future.shape[1] != objective.horizon:
        raise InputError(
            f"the training windows have a horizon of {objective.horizon} and those of validation "
            f"{valid.future.shape[1]}: cut both alike"
        )
    for member in members:
        member.prepare(train, valid)
    models = cast("list[VAE]", list(members))
    loop = Loop(
        models,
        _batches(train),
        objective,
        None if valid is None else _batches(valid),
        settings.for_rows(len(train)),
        None if seeds is None else list(seeds),
    )
    histories = loop.run(None, False, progress)
    if objective.kind != "crps":
        for member in members:
            member.settle(train if valid is None else valid)
    return histories


def _batches(windows: Windows) -> InMemory:
    context = {} if windows.condition is None else {"condition": windows.condition}
    return InMemory(Batch(windows.history, context, target=windows.future))


@recorded
class Residual(Trained):
    """z_{t+1+k} = base_k(window, c) + f_k(window, c), k = 0 … frames − 1; f a perceptron that is 0 at first.

    base: a forecaster in closed form, fitted to the same windows before; by default Persistence, z_t + f_k, an
    Euler step of an ordinary differential equation (He et al. 2016; Qin, Wu & Xiu 2019). Linear: what is linear is
    there before training begins, and f learns the rest.
    """

    def __init__(
        self,
        dim: int,
        window: int,
        hidden: Sequence[int] = (128, 128),
        frames: int = 1,
        condition_features: int = 0,
        scaling: str | Sequence[float] = "each",
        base: Forecaster | None = None,
    ) -> None:
        super().__init__(dim, window, frames, condition_features, scaling)
        if base is None:
            base = Persistence(dim, condition_features, scaling)
        if (base.dim, base.condition_features, base.scaling) != (dim, condition_features, scaling):
            raise InputError(
                f"the base was built for dim {base.dim}, condition_features {base.condition_features} and scaling "
                f"{base.scaling}, this forecaster for {dim}, {condition_features} and {scaling}: build both alike"
            )
        if base.window > window:
            raise InputError(f"the base looks at {base.window} frames, and this forecaster at {window} only")
        self.base = base
        self.network = Perceptron(window * dim, hidden, frames * dim, condition_features=condition_features)
        last = cast(nn.Linear, self.network.layers[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def prepare(self, train: Windows, valid: Windows | None) -> None:
        self.base.fit(train, valid)
        self.base.requires_grad_(False)
        super().prepare(train, valid)

    def start(self, window: Tensor, condition: Tensor | None) -> Tensor:
        laws = self.base.unroll(
            window[:, -self.base.window :], self.frames, condition, lambda _, law: law.mean
        )
        more = self.network(window.flatten(1), condition).unflatten(1, (self.frames, self.dim))
        return torch.stack([law.mean for law in laws], 1) + more  # (B, K, D)

    def step(self, state: Tensor, frame: Tensor, condition: Tensor | None, k: int) -> tuple[Law, Tensor]:
        return self.law(state[:, k], k), state


@recorded
class Recurrent(Trained):
    """An LSTM reads the window, another goes on from its state and gives ``frames`` frames one after the other.

    Wiewel, Becher & Thuerey 2019, §4.2. Two departures: 1. the decoder is given the frame before, true or forecast
    (Sutskever, Vinyals & Le 2014), where theirs is given the same code at each step: only so can one be drawn after
    the other. 2. It gives the change of a frame, z_{t+1} = z_t + W h, which is small where steps are.
    """

    unrolls = True  # a compiled graph of all steps takes minutes to make

    def __init__(
        self,
        dim: int,
        window: int,
        width: int = 128,
        frames: int = 1,
        condition_features: int = 0,
        scaling: str | Sequence[float] = "each",
    ) -> None:
        super().__init__(dim, window, frames, condition_features, scaling)
        self.reader = LSTMCell(dim + condition_features, width)
        self.writer = LSTMCell(dim + condition_features, width)
        self.head = nn.Linear(width, dim)
        self.width = width
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def start(self, window: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        h = c = window.new_zeros(len(window), self.width)
        # the last frame is the first that the decoder is given
        for frame in window[:, :-1].unbind(1):
            h, c = self.reader(self._joined(frame, condition), h, c)
        return h, c

    def step(
        self, state: tuple[Tensor, Tensor], frame: Tensor, condition: Tensor | None, k: int
    ) -> tuple[Law, tuple[Tensor, Tensor]]:
        h, c = self.writer(self._joined(frame, condition), *state)
        return self.law(frame + self.head(h), k), (h, c)

    @staticmethod
    def _joined(frame: Tensor, condition: Tensor | None) -> Tensor:
        return frame if condition is None else torch.cat([frame, condition], 1)
