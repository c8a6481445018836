"""Several forecasters that differ in their seed, as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sciencevae.errors import InputError
from sciencevae.latents.forecast.base import Forecaster
from sciencevae.latents.forecast.series import Windows
from sciencevae.latents.forecast.trained import Trained, train_together
from sciencevae.spec import describe, recorded

if TYPE_CHECKING:
    from sciencevae.latents.forecast.objective import Prediction
    from sciencevae.training.history import History
    from sciencevae.training.settings import TrainingSettings

__all__ = ["Ensemble"]


@recorded
class Ensemble(Forecaster):
    """M forecasters built alike: the mean of their rollouts, and draws shared out over them (a mixture).

    Lakshminarayanan, Pritzel & Blundell 2017. ``fit`` trains them in one vectorised step, each with its own order
    of the data and its own early stopping. ``Ensemble.of(build, seeds)`` calls build() once under each seed.
    """

    def __init__(self, members: Sequence[Forecaster]) -> None:
        if not members or any(describe(member) != describe(members[0]) for member in members):
            raise InputError(
                "an ensemble has at least one member, and all are built alike (but for their seed)"
            )
        first = members[0]
        super().__init__(first.dim, first.window, first.frames, first.condition_features, first.scaling)
        self.members: Any = nn.ModuleList(members)

    @classmethod
    def of(cls, build: Callable[[], Forecaster], seeds: Sequence[int]) -> Ensemble:
        """build() once for each seed, under ``torch.manual_seed(seed)``; torch's generator stays as it was."""
        members = []
        with torch.random.fork_rng():
            for seed in seeds:
                torch.manual_seed(seed)
                members.append(build())
        return cls(members)

    def fit(
        self,
        train: Windows,
        valid: Windows | None = None,
        settings: TrainingSettings | None = None,
        objective: Prediction | None = None,
        progress: Any = False,
    ) -> History:
        """Train all members; the history is that of the first. The seeds of the orders follow ``settings.seed``."""
        members = list(self.members)
        if not all(isinstance(member, Trained) for member in members):
            raise InputError(
                f"a {type(members[0]).__name__} is fitted in closed form, and its members would all be the same: "
                "use one, or an ensemble of Residual or Recurrent"
            )
        self._standardise(train)
        first = 0 if settings is None else settings.seed
        seeds = range(first, first + len(members))
        return train_together(members, train, valid, settings, objective, progress, seeds)[0]

    def _mean_rollout(self, history: Tensor, steps: int, condition: Tensor | None) -> Tensor:
        rollouts = [member._mean_rollout(history, steps, condition) for member in self.members]
        return torch.stack(rollouts).mean(0)

    def _draws(
        self,
        history: Tensor,
        steps: int,
        condition: Tensor | None,
        samples: int,
        generator: torch.Generator | None,
    ) -> Tensor:
        whole, rest = divmod(samples, len(self.members))
        shares = [whole + (i < rest) for i in range(len(self.members))]
        drawn = [
            member._draws(history, steps, condition, share, generator)
            for member, share in zip(self.members, shares, strict=True)
            if share
        ]
        return torch.cat(drawn)
