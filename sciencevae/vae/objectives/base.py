"""The contract of an objective, the loss it returns, and the further terms it may have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.training.schedules import Schedule
from sciencevae.vae.model import VAE, Terms

__all__ = ["Loss", "Objective", "Scalars", "Term", "check_samples"]

Scalars = Mapping[str, Tensor | float]


@dataclass(frozen=True)
class Loss:
    """per_datum (B,): what is minimised, Σ w·l / Σ w over the batch; parts: what it is made of, (B,) each.

    auxiliary (B,): minimised along with it, but no measure of the model, which is judged by per_datum alone.
    """

    per_datum: Tensor
    parts: Mapping[str, Tensor]
    auxiliary: Tensor | None = None


class Term(nn.Module):
    """A further named term of a loss: weight × function(terms, batch), (B,).

    function may be a module with parameters of its own (a property head), which are trained along. couples: whether
    the term of a datum depends on the others of its batch.
    """

    couples: bool = False

    def __init__(self, weight: float | Schedule, function: Callable[[Terms, Batch], Tensor]) -> None:
        super().__init__()
        self.weight = weight
        self.function: Callable[..., Tensor] = function

    def forward(self, terms: Terms, batch: Batch) -> Tensor:
        return self.function(terms, batch)


class Objective(nn.Module):
    """Contract: ``loss(model, batch, noise, scalars)`` returns a Loss; ``forward`` is what calls it.

    samples: the draws of the posterior it wants for each datum. schedules: scalars that change with the step
    (β, a term's weight) by name; they arrive as tensors, so that a schedule never recompiles a step. Called
    without ``scalars``, each schedule has its final value: that is how a model is judged. couples: whether the loss
    of a datum depends on the others of its batch, so that ranks cannot share a batch out.
    """

    samples: int = 1
    couples: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.schedules: dict[str, Schedule] = {}

    def noise_shape(self, model: VAE, rows: int) -> tuple[int, ...]:
        """The shape of the noise that a step of ``rows`` data takes."""
        return model.noise_shape(self.samples, rows)

    def final_scalars(self) -> dict[str, float]:
        return {name: schedule.final for name, schedule in self.schedules.items()}

    def forward(
        self,
        model: VAE,
        batch: Batch,
        noise: Tensor | None = None,
        scalars: Scalars | None = None,
    ) -> Loss:
        return self.loss(model, batch, noise, self.final_scalars() if scalars is None else scalars)

    def loss(self, model: VAE, batch: Batch, noise: Tensor | None, scalars: Scalars) -> Loss:
        raise NotImplementedError


def check_samples(samples: int) -> int:
    """samples, where it is a number of draws."""
    if samples < 1:
        raise InputError(f"samples is a number of posterior draws ≥ 1, not {samples}")
    return samples
