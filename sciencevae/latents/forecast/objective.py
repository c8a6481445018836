"""What a trained forecaster minimises: the error of its rollouts, by one of three losses."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.errors import InputError, did_you_mean
from sciencevae.latents.forecast.base import Law
from sciencevae.latents.forecast.scores import crps
from sciencevae.training.schedules import Schedule, as_schedule
from sciencevae.vae.objectives import Loss, Objective
from sciencevae.vae.objectives.base import Scalars

__all__ = ["LOSSES", "Prediction"]

LOSSES = ("nll", "squared", "crps")


class Prediction(Objective):
    """The mean over the H frames of a window of one of these, each summed over the latents:

    nll      −log p(z_t | …), of the Gaussian law of each step
    squared  ‖z_t − mean‖²
    crps     the continuous ranked probability score of ``samples`` draws, each going on from its own frames, by the
             unbiased estimator: the spread of whole rollouts is learnt, not that of one step (Ferro 2014, eq. 8)

    teacher_forcing: the probability, or its schedule over the steps, that a frame's successor is forecast from the
    true frame in place of the forecast (Williams & Zipser 1989; falling: Bengio et al. 2015). The forecast is the
    mean, for ``crps`` the draw. With ``nll`` and forcing below 1 the scale learnt is that of the whole error at a
    lead time, not of a step: draws of rollouts then spread too much, which ``calibrate`` or ``crps`` mends.
    """

    def __init__(
        self,
        teacher_forcing: float | Schedule = 1.0,
        loss: Literal["nll", "squared", "crps"] = "nll",
        samples: int = 2,
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise InputError(f"unknown loss {loss!r}{did_you_mean(loss, LOSSES)}")
        if loss == "crps" and samples < 2:
            raise InputError(f"crps compares draws with one another: samples ≥ 2, not {samples}")
        self.kind, self.horizon = loss, 1  # the horizon is that of the windows
        self.samples = samples if loss == "crps" else 1
        self.schedules = {"teacher_forcing": as_schedule(teacher_forcing)}

    def noise_shape(self, model: Any, rows: int) -> tuple[int, ...]:
        """(S, rows, H, D + 1): for the draws, and whether the true frame is fed."""
        return (self.samples, rows, self.horizon, model.dim + 1)

    def loss(self, model: Any, batch: Batch, noise: Tensor | None, scalars: Scalars) -> Loss:
        assert isinstance(batch.x, Tensor)
        assert batch.target is not None
        history, future = model._standard(batch.x), model._standard(batch.target)
        condition = model._condition(batch.context.get("condition"))
        if noise is None:
            noise = torch.randn(self.noise_shape(model, len(history)), dtype=history.dtype)
        samples, rows, steps = noise.shape[:3]
        noise = noise.flatten(0, 1)  # (S·B, H, D + 1)
        chance = torch.special.ndtr(noise[..., -1:])
        truth = future.repeat(samples, 1, 1)
        drawn: list[Tensor] = []

        def feed(k: int, law: Law) -> Tensor:
            frame = law.from_noise(noise[:, k, :-1]) if self.kind == "crps" else law.mean
            drawn.append(frame)
            return torch.where(chance[:, k] < scalars["teacher_forcing"], truth[:, k], frame)

        many = history[:, -model.window :].repeat(samples, 1, 1)
        laws = model.unroll(many, steps, None if condition is None else condition.repeat(samples, 1), feed)
        if self.kind == "nll":
            by_frame = torch.stack([-law.log_prob(future[:, k]) for k, law in enumerate(laws)], 1)
        elif self.kind == "squared":
            by_frame = (torch.stack(drawn, 1) - future).square().sum(-1)
        else:
            by_frame = crps(torch.stack(drawn, 1).unflatten(0, (samples, rows)), future).sum(-1)
        error = (torch.stack(drawn, 1).unflatten(0, (samples, rows)).mean(0) - future).square().mean((1, 2))
        loss = by_frame.mean(1)
        return Loss(loss, {"loss": loss, "squared_error": error})
