"""Objectives: values that turn a model's terms into a loss for each datum."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.training.schedules import Schedule, as_schedule
from sciencevae.vae.model import VAE, Terms

__all__ = ["ELBO", "IWAE", "Loss", "Objective", "Term"]


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

    function may be a module with parameters of its own (a property head), which are trained along.
    """

    def __init__(self, weight: float | Schedule, function: Callable[[Terms, Batch], Tensor]) -> None:
        super().__init__()
        self.weight, self.function = weight, function

    def forward(self, terms: Terms, batch: Batch) -> Tensor:
        return self.function(terms, batch)


class Objective(nn.Module):
    """Contract: ``forward(model, batch, noise, scalars)`` returns a Loss.

    samples: the draws of the posterior it wants for each datum. schedules: scalars that change with the step
    (β, a term's weight) by name; they arrive as tensors, so that a schedule never recompiles a step. Without
    ``scalars`` each schedule has its final value: that is how a model is judged.
    """

    samples: int = 1

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
        scalars: Mapping[str, Tensor | float] | None = None,
    ) -> Loss:
        raise NotImplementedError


class ELBO(Objective):
    """The evidence lower bound, −ELBO = −E_q[log p(x | z, c)] + β KL(q(z | x, c) ‖ p(z | c)) + Σ w_i t_i.

    KL in closed form where there is one, otherwise its estimate from the same draws. β ≠ 1: Higgins et al.
    2017; a schedule: warm-up (Bowman et al. 2016).
    free_bits λ (nats): each latent dimension costs at least λ, Σ_d max(λ, mean over the batch of KL_d)
    (Kingma et al. 2016, eq. 15), so a dimension pays nothing for its first λ nats; without a closed form by
    dimension the whole KL is one group. The floor acts on the batch, so the loss of one datum then depends on
    the others.
    extra: further terms by name.
    """

    def __init__(
        self,
        beta: float | Schedule = 1.0,
        free_bits: float = 0.0,
        samples: int = 1,
        extra: Mapping[str, Term] | None = None,
    ) -> None:
        super().__init__()
        if free_bits < 0:
            raise InputError(f"free_bits is a number of nats ≥ 0, not {free_bits}")
        if samples < 1:
            raise InputError(f"samples is a number of posterior draws ≥ 1, not {samples}")
        self.samples, self.free_bits = samples, free_bits
        self.extra = nn.ModuleDict(extra or {})
        self.schedules = {"beta": as_schedule(beta)}
        self.schedules |= {f"weight_{name}": as_schedule(t.weight) for name, t in (extra or {}).items()}

    def forward(
        self,
        model: VAE,
        batch: Batch,
        noise: Tensor | None = None,
        scalars: Mapping[str, Tensor | float] | None = None,
    ) -> Loss:
        values = scalars if scalars is not None else self.final_scalars()
        # through __call__, so that hooks of the model are honoured
        terms = model(batch, self.samples, noise)
        reconstruction = -terms.log_px.mean(0)  # (B,)
        kl = terms.divergence
        charged = kl if self.free_bits == 0 else self._with_floor(kl, terms.kl_by_dim, batch.weight)
        loss = reconstruction + values["beta"] * charged
        parts = {"reconstruction": reconstruction, "kl": kl}
        for name, term in self.extra.items():
            parts[name] = term(terms, batch)
            loss = loss + values[f"weight_{name}"] * parts[name]
        return Loss(loss, {"loss": loss, **parts})

    def _with_floor(self, kl: Tensor, by_dim: Tensor | None, weight: Tensor | None) -> Tensor:
        groups = by_dim if by_dim is not None else kl.unsqueeze(-1)  # (B, G)
        share = torch.ones_like(kl) if weight is None else weight
        whole = share.sum().clamp(min=torch.finfo(share.dtype).tiny)
        mean = (share.unsqueeze(-1) * groups).sum(0) / whole  # (G,)
        free = (mean < self.free_bits).to(kl.dtype)
        return (free * self.free_bits + (1 - free) * groups).sum(-1)


class IWAE(Objective):
    """The importance-weighted bound, −log 1/S Σ_s w_s with w = p(x | z) p(z) / q(z | x); Burda et al. 2016.

    ELBO = IWAE(1) ≤ IWAE(S) ≤ log p(x), and it grows with S.
    """

    def __init__(self, samples: int) -> None:
        super().__init__()
        if samples < 1:
            raise InputError(f"samples is a number of posterior draws ≥ 1, not {samples}")
        self.samples = samples

    def forward(
        self,
        model: VAE,
        batch: Batch,
        noise: Tensor | None = None,
        scalars: Mapping[str, Tensor | float] | None = None,
    ) -> Loss:
        terms = model(batch, self.samples, noise)
        loss = math.log(self.samples) - terms.log_weight.logsumexp(0)
        return Loss(loss, {"loss": loss, "reconstruction": -terms.log_px.mean(0)})
