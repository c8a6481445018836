"""The evidence lower bound and what may be changed about it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.training.schedules import Schedule, as_schedule
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives.base import Loss, Objective, Scalars, Term, check_samples

__all__ = ["ELBO"]


class ELBO(Objective):
    """The evidence lower bound, −ELBO = −E_q[log p(x | z, c)] + β KL(q(z | x, c) ‖ p(z | c)) + Σ w_i t_i.

    KL in closed form where there is one, otherwise its estimate from the same draws. β ≠ 1: Higgins et al.
    2017; a schedule: warm-up (Bowman et al. 2016).
    free_bits λ (nats): each latent dimension costs at least λ, Σ_d max(λ, mean over the batch of KL_d)
    (Kingma et al. 2016, eq. 15), so a dimension pays nothing for its first λ nats; without a closed form by
    dimension the whole KL is one group. The floor acts on the batch, so the loss of one datum then depends on
    the others.
    capacity C (nats): β |KL − C| in place of β KL (Burgess et al. 2018, eq. 8, whose γ is β here, and about 1000),
    for each datum by itself; as a rule ``WarmUp(25.0, 100_000)``, under which more and more may be told.
    extra: further terms by name.
    """

    def __init__(
        self,
        beta: float | Schedule = 1.0,
        free_bits: float = 0.0,
        samples: int = 1,
        extra: Mapping[str, Term] | None = None,
        capacity: float | Schedule | None = None,
    ) -> None:
        super().__init__()
        if free_bits < 0:
            raise InputError(f"free_bits is a number of nats ≥ 0, not {free_bits}")
        if free_bits and capacity is not None:
            raise InputError(
                "free_bits and capacity each change what the divergence costs, and not together: give one of them"
            )
        self.samples, self.free_bits = check_samples(samples), free_bits
        self.extra = nn.ModuleDict(extra or {})
        self.couples = any(term.couples for term in (extra or {}).values())
        self.schedules = {"beta": as_schedule(beta)}
        if capacity is not None:
            self.schedules["capacity"] = as_schedule(capacity)
        self.schedules |= {f"weight_{name}": as_schedule(t.weight) for name, t in (extra or {}).items()}

    def loss(self, model: VAE, batch: Batch, noise: Tensor | None, scalars: Scalars) -> Loss:
        # through __call__, so that hooks of the model are honoured
        terms = model(batch, self.samples, noise)
        reconstruction = -terms.log_px.mean(0)  # (B,)
        kl = terms.divergence
        charged = kl
        if self.free_bits:
            charged = self._with_floor(kl, terms.kl_by_dim, batch.weight)
        elif "capacity" in self.schedules:
            charged = (kl - scalars["capacity"]).abs()
        loss = reconstruction + scalars["beta"] * charged
        parts = {"reconstruction": reconstruction, "kl": kl}
        for name, term in self.extra.items():
            parts[name] = term(terms, batch)
            loss = loss + scalars[f"weight_{name}"] * parts[name]
        return Loss(loss, {"loss": loss, **parts})

    def _with_floor(self, kl: Tensor, by_dim: Tensor | None, weight: Tensor | None) -> Tensor:
        groups = by_dim if by_dim is not None else kl.unsqueeze(-1)  # (B, G)
        share = torch.ones_like(kl) if weight is None else weight
        whole = share.sum().clamp(min=torch.finfo(share.dtype).tiny)
        mean = (share.unsqueeze(-1) * groups).sum(0) / whole  # (G,)
        free = (mean < self.free_bits).to(kl.dtype)
        return (free * self.free_bits + (1 - free) * groups).sum(-1)
