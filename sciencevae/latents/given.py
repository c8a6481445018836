"""Latents of data of which something is known: z ~ p(z | y) by the model itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sciencevae.distributions import Joint
from sciencevae.errors import InputError, did_you_mean
from sciencevae.vae.model import VAE

__all__ = ["Given", "gumbel_keys", "latents_given"]

log = logging.getLogger(__name__)
#: draws of the prior that are weighed at once
_BLOCK = 1 << 16
#: draws after which it can be seen whether more would do
_ENOUGH = 1 << 18


class Given(NamedTuple):
    """z (n, D) · ess: of how many independent draws of p(z | y) the weighed draws are worth · draws: weighed."""

    z: Tensor
    ess: float
    draws: int


def gumbel_keys(log_w: Tensor) -> Tensor:
    """Of log weights; the n largest keys are n draws in proportion to the weights, none of them twice."""
    return log_w - torch.empty_like(log_w).exponential_().log()


@torch.no_grad()
def latents_given(
    model: VAE,
    known: Mapping[str, Tensor],
    n: int,
    seed: int | None = 0,
    most: int = 1 << 23,
    worth: float = 20.0,
) -> Given:
    """n draws z ~ p(z | y) ∝ p(z) p(y | z), where y are values of some of the model's named fields.

    known: field -> its values (*E,), scaled as the model was trained, NaN where nothing is known (then it is
    marginalised). No part is trained for it: draws of the prior are weighed by w = p(y | z), and n different ones
    kept with probabilities in proportion to w (sampling without replacement by Gumbel's keys, Kool et al. 2019;
    sampling, importance, resampling: Rubin 1988). Draws are added until ess = (Σ w)² / Σ w² is ``worth`` times n,
    or ``most`` are weighed, or it is plain that so many would not do; a warning says where ess stays below n: the
    values are too far from what the model knows.

    Raises InputError for a model without named fields, an unknown field, and where nothing is known.
    """
    fields = getattr(model.decoder, "fields", None)
    if fields is None:
        raise InputError("draws given a field need a model of several named fields (decoders.Joint)")
    for name, value in known.items():
        if name not in fields:
            raise InputError(f"the model has no field {name!r}{did_you_mean(name, fields)}")
        if not value.isfinite().any():
            raise InputError(f"nothing is known of {name!r}: give a finite value, or leave it out")
    first = next(model.parameters())
    keys, z = torch.empty(0, device=first.device), torch.empty(0, model.dim, device=first.device)
    sums = torch.full((2,), -torch.inf, device=first.device)  # log Σ w, log Σ w²
    draws, ess = 0, 0.0
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        while draws < most and ess < worth * n:
            drawn = model.sample_latents(_BLOCK)
            likelihood = model.decode(drawn)
            assert isinstance(likelihood, Joint)
            log_w = likelihood.log_prob(known)
            keys, z = torch.cat([keys, gumbel_keys(log_w)]), torch.cat([z, drawn])
            keys, best = keys.topk(min(n, len(keys)))
            z = z[best]
            sums = torch.logaddexp(sums, torch.stack([log_w.logsumexp(0), (2 * log_w).logsumexp(0)]))
            draws, ess = draws + _BLOCK, float((2 * sums[0] - sums[1]).exp())
            if draws >= _ENOUGH and ess * most < n * draws:
                break  # at this rate all draws would not do
        z = z[torch.randperm(len(z), device=z.device)]  # the keys put the likeliest ones first
    if ess < n:
        log.warning(
            "%d draws of the prior are worth %.0f given the condition, and %d are taken of them: it lies far from "
            "what the model knows, and what comes is alike; ask for fewer, or for values within the training data",
            draws,
            ess,
            n,
        )
    return Given(z, ess, draws)
