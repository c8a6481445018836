"""Training on two domains at once: simulated and measured, synthetic and real, one instrument and another."""

from __future__ import annotations

import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.training.schedules import Schedule
from sciencevae.vae.model import VAE, Terms
from sciencevae.vae.objectives.base import Loss, Objective, Scalars, Term

__all__ = ["Discrepancy", "TwoDomains", "discrepancy"]


class TwoDomains(Objective):
    """w₀ ⟨l⟩₀ + w₁ ⟨l⟩₁: the mean of an objective over each of two batches, one a domain.

    The two batches come as one: ``context[domain]``, (B,), is 0 for a row of the first domain and 1 for a row of
    the second. ⟨l⟩_d is the mean over the rows of domain d, however few they are (of no rows it is left out), so
    that a rare domain is heard; fields that only one domain has are NaN in the other's rows, and drop out.

    objective: of a datum, as ``ELBO()``. weights: w₀ and w₁. The loss of one datum depends on the others of its
    batch.

    Raises InputError where a batch does not say which row is of which domain.

    >>> from sciencevae.vae.objectives import ELBO
    >>> TwoDomains(ELBO(extra={"apart": Discrepancy("real", 10.0)}), "real").final_scalars()
    {'beta': 1.0, 'weight_apart': 10.0}
    """

    couples = True

    def __init__(self, objective: Objective, domain: str, weights: tuple[float, float] = (1.0, 1.0)) -> None:
        super().__init__()
        if not (min(weights) >= 0 and sum(weights) > 0):
            raise InputError(f"the weights of two domains are 0 or more, and one is above 0; not {weights}")
        self.objective, self.domain, self.weights = objective, domain, weights
        self.samples, self.schedules = objective.samples, dict(objective.schedules)

    def noise_shape(self, model: VAE, rows: int) -> tuple[int, ...]:
        return self.objective.noise_shape(model, rows)

    def loss(self, model: VAE, batch: Batch, noise: Tensor | None, scalars: Scalars) -> Loss:
        found = self.objective.loss(model, batch, noise, scalars)
        first, second = _domains(batch, self.domain)
        given = torch.ones_like(found.per_datum) if batch.weight is None else batch.weight
        # Σ g·l / Σ g of what comes out is Σ_d w_d ⟨l⟩_d
        scale = torch.zeros_like(given)
        for weight, rows in zip(self.weights, (first, second), strict=True):
            whole = (given * rows).sum()
            # of no rows there is no mean, and 0 · ∞ is no number
            share = torch.where(whole > 0, given.sum() / torch.where(whole > 0, whole, 1.0), 0.0)
            scale = scale + weight * share * rows
        loss = scale * found.per_datum
        return Loss(loss, {**found.parts, "loss": loss}, found.auxiliary)


class Discrepancy(Term):
    """MMD²(q₀(z), q₁(z)) between the latents of two domains in a batch, each row the same; 0 where they are alike.

    MMD² = Σ_ij a_i a_j k(z_i, z_j), a_i = 1/n₀ in the first domain and −1/n₁ in the second (Gretton et al. 2012,
    eq. 5; of rows with weights their shares), k the mean of Gaussian kernels of three widths about √D. Of draws of
    z, one a row. A batch without one of the domains has none.

    domain: as of ``TwoDomains``, within which it counts w₀ + w₁ times.
    """

    couples = True

    def __init__(self, domain: str, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight, self._apart)
        self.domain = domain

    def _apart(self, terms: Terms, batch: Batch) -> Tensor:
        first, second = _domains(batch, self.domain)
        z = terms.z[0]
        given = z.new_ones(len(z)) if batch.weight is None else batch.weight
        return discrepancy(z, given * first, given * second).expand(len(z))


def discrepancy(z: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """MMD² of draws z (N, D) with weights (N,) in each of two sets; 0 where one of them is empty."""
    tiny = torch.finfo(z.dtype).tiny
    shares = first / first.sum().clamp(min=tiny) - second / second.sum().clamp(min=tiny)
    both = (first.sum() > 0) & (second.sum() > 0)
    square = (z.unsqueeze(0) - z.unsqueeze(1)).square().sum(-1) / (2 * z.shape[1])
    kernel = torch.stack([(-square * s).exp() for s in (0.5, 1.0, 2.0)]).mean(0)
    shares = shares.to(kernel.dtype)
    return torch.where(both, shares @ kernel @ shares, 0.0)


def _domains(batch: Batch, domain: str) -> tuple[Tensor, Tensor]:
    """Which rows are of the first and of the second domain, (B,) each."""
    if domain not in batch.context:
        raise InputError(
            f"which row is of which domain, 0 or 1, is to be in context[{domain!r}], and the batch has "
            f"{', '.join(batch.context) or 'no context'}: add it to the data, and to their attribute 'context'"
        )
    second = batch.context[domain].reshape(-1)
    return 1 - second, second
