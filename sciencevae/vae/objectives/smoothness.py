"""How smooth the field is that deforms an image."""

from __future__ import annotations

import torch.distributions as td
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.distributions import Joint
from sciencevae.errors import InputError
from sciencevae.training.schedules import Schedule
from sciencevae.vae.model import Terms
from sciencevae.vae.objectives.base import Term

__all__ = ["Smoothness"]


class Smoothness(Term):
    """½ Σ_r ‖∇v(r)‖², the roughness of the velocity that a ``decoders.Warp`` deforms its source by, (B,).

    Differences between neighbouring pixels stand for the gradient; v in pixels, the mean over the draws of z. It is
    −log of a Gaussian prior on v that costs bends and not shifts, as in Dalca et al. 2018, §2.1, whose λ is the
    weight.

    field: the name of the warped image among the fields of a Joint decoder.

    Raises InputError where nothing is warped.
    """

    def __init__(self, weight: float | Schedule = 1.0, field: str | None = None) -> None:
        super().__init__(weight, self._roughness)
        self.field = field

    def _roughness(self, terms: Terms, batch: Batch) -> Tensor:
        found: td.Distribution = terms.likelihood
        if isinstance(found, Joint):
            found = found.fields.get(self.field or "", found)
        velocity = getattr(found, "velocity", None)
        if velocity is None:
            raise InputError(
                "Smoothness is of the field that a decoders.Warp deforms an image by, and this decoder has none: "
                "give the name of the warped field of a Joint decoder as field=, or leave Smoothness out"
            )
        squares = velocity.diff(dim=-2).square().sum((2, 3, 4)) + velocity.diff(dim=-1).square().sum(
            (2, 3, 4)
        )
        return 0.5 * squares.mean(0)
