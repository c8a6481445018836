"""How unlikely a datum is under a model."""

from __future__ import annotations

import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.errors import InputError, did_you_mean
from sciencevae.vae.evidence import log_evidence
from sciencevae.vae.model import VAE

__all__ = ["KINDS", "anomaly_score"]

KINDS = ("elbo", "reconstruction", "evidence")


@torch.no_grad()
def anomaly_score(
    model: VAE, batch: Batch, kind: str = "elbo", samples: int = 64, seed: int | None = 0
) -> Tensor:
    """A score for each datum, in nats, (B,): higher is more anomalous.

    elbo:           −E_q[log p(x | z)] + KL(q(z | x) ‖ p(z))
    reconstruction: −E_q[log p(x | z)], the reconstruction probability of An & Cho 2015
    evidence:       −log p(x), by importance sampling

    Each from ``samples`` draws of the posterior. seed: the same draws at each call, leaving torch's own
    generator as it was; None draws from that one.
    """
    if kind not in KINDS:
        raise InputError(f"unknown score {kind!r}{did_you_mean(kind, KINDS)}")
    if kind == "evidence":
        return -log_evidence(model, batch, samples, chunk=min(samples, 100), seed=seed).value
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        terms = model.terms(batch, samples)
    reconstruction = -terms.log_px.mean(0)
    if kind == "reconstruction":
        return reconstruction
    return reconstruction + terms.divergence
