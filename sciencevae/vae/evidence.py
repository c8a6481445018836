"""The evidence log p(x) of data under a model, by importance sampling with the posterior as proposal."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.vae.enumeration import enumerated_log_evidence
from sciencevae.vae.model import VAE
from sciencevae.vae.vq import VQVAE

__all__ = ["Evidence", "log_evidence"]


class Evidence(NamedTuple):
    """value: the estimate of log p(x), nats, (B,) · stderr: its standard error · ess: effective sample size."""

    value: Tensor
    stderr: Tensor
    ess: Tensor


@torch.no_grad()
def log_evidence(
    model: VAE, batch: Batch, samples: int = 1000, chunk: int = 100, seed: int | None = None
) -> Evidence:
    """log p(x | c) ≈ log 1/S Σ_s w_s, with w = p(x | z, c) p(z | c) / q(z | x, c) and z_s ~ q(z | x, c).

    Streams over chunks of draws with a running log-sum-exp, so memory holds chunk × B rows; exactly
    ``samples`` draws are used, also where chunk does not divide them. Each result is (B,):

    value:  biased low by about stderr²/2, as any logarithm of an average
    stderr: of value, by the delta method, sd(w) / (√S mean(w)); it is to be trusted only where ess is large
    ess:    (Σ w)² / Σ w², between 1 and S

    seed makes it reproducible and leaves torch's own generator as it was.
    Of a VQVAE it is the exact sum over all grids of codes (ess: their number), InputError where they are many.
    Burda et al. 2016, §2; for the standard error Owen, Monte Carlo theory, ch. 9.
    """
    if samples < 2 or chunk < 1:
        raise InputError(f"log_evidence needs samples ≥ 2 and chunk ≥ 1, not {samples} and {chunk}")
    if isinstance(model, VQVAE):
        value, number = enumerated_log_evidence(model, batch, chunk)
        return Evidence(value, torch.zeros_like(value), torch.full_like(value, number))
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        top = first = second = None
        for done in range(0, samples, chunk):
            log_w = model.terms(batch, min(chunk, samples - done)).log_weight  # (s, B)
            peak = log_w.max(0).values
            new_top = peak if top is None else torch.maximum(top, peak)
            # where all weights vanish so far, −∞ − −∞ is kept from turning into NaN
            shift = torch.where(new_top.isinf(), 0.0, new_top)
            sums = torch.stack([(log_w - shift).exp().sum(0), (2 * (log_w - shift)).exp().sum(0)])
            if top is None or first is None or second is None:
                first, second = sums
            else:
                factor = (top - shift).exp()
                first, second = first * factor + sums[0], second * factor.square() + sums[1]
            top = new_top
    assert top is not None
    assert first is not None
    assert second is not None
    variance = (second / samples - (first / samples).square()).clamp(min=0) / (samples - 1)
    return Evidence(
        value=torch.where(top.isinf(), 0.0, top) + first.log() - math.log(samples),
        stderr=variance.sqrt() / (first / samples),
        ess=first.square() / second,
    )
