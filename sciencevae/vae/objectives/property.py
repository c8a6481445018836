"""A property that is predicted from the latents, and shapes them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sciencevae.batch import Batch
from sciencevae.distributions.masked import observed_entries
from sciencevae.errors import InputError
from sciencevae.training.schedules import Schedule
from sciencevae.vae.model import Terms
from sciencevae.vae.objectives.base import Term

__all__ = ["Property"]


class Property(Term):
    """A property of each datum predicted from its posterior mean μ(x) by a head that is trained along, (B,).

    gaussian:    ½ Σ_i (t_i − head(μ)_i)², a −log N(t; head(μ), 1) without its constant; t (B, n) or (B,)
    categorical: −log softmax(head(μ))_t; t (B,) or (B, 1), classes 0 … K−1, of which the head gives K logits

    What is not known (NaN; −1 of integers) costs nothing, so that data of which few are labelled are trained on
    together (Kingma et al. 2014; Gómez-Bombarelli et al. 2018).

    field: the target is ``batch.context[field]`` in place of ``batch.target``, for a second property.

    Raises InputError where the batch brings no such target, or one of another shape than the head's.

    >>> from sciencevae.networks import Perceptron
    >>> from sciencevae.vae.objectives import ELBO
    >>> objective = ELBO(extra={"energy": Property(Perceptron(2, [16], 1), weight=10.0)})
    """

    def __init__(
        self,
        head: nn.Module,
        weight: float | Schedule = 1.0,
        kind: Literal["gaussian", "categorical"] = "gaussian",
        field: str | None = None,
    ) -> None:
        if kind not in ("gaussian", "categorical"):
            raise InputError(f"kind is 'gaussian' or 'categorical', not {kind!r}")
        super().__init__(weight, head)
        self.kind, self.field = kind, field

    def forward(self, terms: Terms, batch: Batch) -> Tensor:
        target = batch.target if self.field is None else batch.context.get(self.field)
        if target is None:
            name = "target" if self.field is None else f"context[{self.field!r}]"
            raise InputError(
                f"a Property is trained on the batch's {name}, and there is none: give it to Batch"
            )
        out = self.function(terms.posterior.mean).flatten(1)  # (B, n) or (B, K)
        target = target.reshape(len(out), -1)
        expected = out.shape[1] if self.kind == "gaussian" else 1
        if target.shape[1] != expected:
            raise InputError(
                f"the target of a {self.kind} Property has {target.shape[1]} numbers a datum and its head gives "
                f"{out.shape[1]}: expected {expected}"
            )
        known = observed_entries(target)
        filled = torch.where(known, target, torch.zeros_like(target))
        if self.kind == "gaussian":
            return 0.5 * torch.where(known, filled.to(out.dtype) - out, 0.0).square().sum(-1)
        cost = cross_entropy(out, filled[:, 0].long(), reduction="none")
        return torch.where(known[:, 0], cost, 0.0)
