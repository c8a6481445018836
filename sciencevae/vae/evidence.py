"""The evidence log p(x) of data under a model, by importance sampling with the posterior as proposal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.vae.enumeration import enumerated_log_evidence
from sciencevae.vae.model import VAE
from sciencevae.vae.pareto import largest_shape, tail_length, tail_shape
from sciencevae.vae.vq import VQVAE

__all__ = ["Evidence", "Weights", "log_evidence", "unwarned_log_evidence", "warned"]

log = logging.getLogger("sciencevae")


@dataclass(frozen=True)
class Evidence:
    """value: the estimate of log p(x), nats, (B,) · stderr: its standard error · ess: effective sample size ·
    trusted: whether the weights' tail is light enough for all three to mean something, (B,) of bool.

    Unpacks as ``value, stderr, ess = evidence``.
    """

    value: Tensor
    stderr: Tensor
    ess: Tensor
    trusted: Tensor = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.trusted is None:  # nothing was estimated
            object.__setattr__(self, "trusted", torch.ones_like(self.value, dtype=torch.bool))

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.value, self.stderr, self.ess))


class Weights:
    """The mean of ``samples`` importance weights a datum that arrive in chunks of their logarithms."""

    def __init__(self, samples: int) -> None:
        self.samples, self.tail_length = samples, tail_length(samples)
        self.largest: Tensor | None = None  # (≤ M + 1, B), falling
        self.first: Tensor | None = None  # Σ w and Σ w² in units of the largest weight and its square, (B,)
        self.second: Tensor | None = None

    def add(self, log_w: Tensor) -> None:
        """log_w (s, B)."""
        old = self.largest
        seen = log_w if old is None else torch.cat([old, log_w])
        self.largest = seen.topk(min(self.tail_length + 1, len(seen)), dim=0).values
        # where all weights vanish so far, −∞ − −∞ is kept from turning into NaN
        shift = torch.where(self.largest[0].isinf(), 0.0, self.largest[0])
        first, second = (log_w - shift).exp().sum(0), (2 * (log_w - shift)).exp().sum(0)
        if old is not None:
            assert self.first is not None
            assert self.second is not None
            factor = (old[0] - shift).exp()
            first, second = self.first * factor + first, self.second * factor.square() + second
        self.first, self.second = first, second

    def evidence(self) -> Evidence:
        """What the weights say."""
        assert self.largest is not None
        assert self.first is not None
        assert self.second is not None
        top, mean = self.largest[0], self.first / self.samples
        variance = (self.second / self.samples - mean.square()).clamp(min=0) / (self.samples - 1)
        return Evidence(
            value=torch.where(top.isinf(), 0.0, top) + mean.log(),
            stderr=variance.sqrt() / mean,
            ess=self.first.square() / self.second,
            trusted=tail_shape(self.largest) <= largest_shape(self.samples),
        )


def warned(evidence: Evidence, samples: int, remedy: str) -> Evidence:
    """The same, with a warning, and the remedy, where it is not to be trusted."""
    if bad := int((~evidence.trusted).sum()):
        log.warning(
            "log p(x) is not to be trusted for %d of %d data: %d importance weights are too few for so heavy a "
            "tail (Pareto k above %.2f; see Evidence.trusted); %s",
            bad,
            len(evidence.trusted),
            samples,
            largest_shape(samples),
            remedy,
        )
    return evidence


def log_evidence(
    model: VAE, batch: Batch, samples: int = 1000, chunk: int = 100, seed: int | None = None
) -> Evidence:
    """log p(x | c) ≈ log 1/S Σ_s w_s, with w = p(x | z, c) p(z | c) / q(z | x, c) and z_s ~ q(z | x, c).

    Streams over chunks of draws with a running log-sum-exp, so memory holds chunk × B rows; exactly
    ``samples`` draws are used, also where chunk does not divide them. Each result is (B,):

    value:   biased low by about stderr²/2, as any logarithm of an average
    stderr:  of value, by the delta method, sd(w) / (√S mean(w))
    ess:     (Σ w)² / Σ w², between 1 and S
    trusted: whether the Pareto k̂ of the largest weights is at most min(1 − 1/log₁₀ S, 0.7), beyond which S draws
             do not settle their mean, and neither stderr nor ess shows it; a warning counts the data where it is
             not. Fewer than 25 draws are never trusted, unless all weights are equal, and below 100 good weights
             are often not recognised.

    seed makes it reproducible and leaves torch's own generator as it was.
    Of a VQVAE it is the exact sum over all grids of codes (ess: their number), InputError where they are many.
    Raises InputError where the data do not fit the model, as ``fit`` does.
    Burda et al. 2016, §2; for the standard error Owen, Monte Carlo theory, ch. 9; for k̂ Vehtari et al. 2024.
    """
    found = unwarned_log_evidence(model, batch, samples, chunk, seed)
    return warned(found, samples, "take more samples, or annealed_evidence")


@torch.no_grad()
def unwarned_log_evidence(
    model: VAE, batch: Batch, samples: int, chunk: int, seed: int | None = None
) -> Evidence:
    """``log_evidence`` without its warning, for one who goes through data part by part, and warns of all."""
    if samples < 2 or chunk < 1:
        raise InputError(f"log_evidence needs samples ≥ 2 and chunk ≥ 1, not {samples} and {chunk}")
    model.check(batch)
    if isinstance(model, VQVAE):
        value, number = enumerated_log_evidence(model, batch, chunk)
        return Evidence(value, torch.zeros_like(value), torch.full_like(value, number))
    weights = Weights(samples)
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        for done in range(0, samples, chunk):
            weights.add(model.terms(batch, min(chunk, samples - done)).log_weight)  # (s, B)
    return weights.evidence()
