"""The three distributions of powder patterns and of the phases in them, and what they are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from sciencevae.data.splits import split_rows
from sciencevae.networks import ConvolutionalDecoder1d, ConvolutionalEncoder1d, Fields, Identity, Perceptron
from sciencevae.training.schedules import WarmUp
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Objective, Term

from .optical_networks import Stabilised
from .settings import Diffraction

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.batch import Batch
    from sciencevae.vae.model import Terms

__all__ = ["build", "objective"]

_ROWS = 2000  # whose mean and scatter the encoder's input is scaled by
_STRIDE = 4


def build(settings: Diffraction, data: xr.Dataset) -> VAE:
    """p(z) = N(0, 1); q(z | pattern); p(pattern, phases | z) = counts about a rate × phases present or not.

    The encoder sees the pattern alone, so the phases of a scan are p(phases | z) under q(z | pattern): of a scan
    they are missing, and marginalised. Counts are negative binomial: no decoder gives rates that are right to one
    part in √counts, and its relative error, 1/√r, is learned.
    """
    chosen = settings.model
    bins, phases = data.sizes["bin"], data.sizes["phase"]
    hidden, channels = chosen.hidden[-1], chosen.channels
    rows = data["pattern"].isel(sample=split_rows(data, "train")[:_ROWS]).values
    root = np.sqrt(rows / np.nanmean(rows, (1, 2), keepdims=True))
    encode = ConvolutionalEncoder1d((2, bins), 2 * chosen.latent, channels, hidden, _STRIDE)
    seen = Stabilised(encode, float(np.nanmean(root)), float(np.nanstd(root)), normalise=True)
    # half as wide as the encoder: half the time of a step, and no worse
    narrow = tuple(max(channel // 2, 4) for channel in channels[::-1])
    decode = ConvolutionalDecoder1d(chosen.latent, (1, bins), narrow, hidden, _STRIDE)
    return VAE(
        priors.StandardNormal(chosen.latent),
        encoders.Gaussian(Fields({"pattern": seen}, Identity()), chosen.latent, missing=True),
        decoders.Joint(
            {
                "pattern": decoders.NegativeBinomial(decode, features=1),
                "phases": decoders.Bernoulli(Perceptron(chosen.latent, (hidden,), phases)),
            }
        ),
    )


def objective(settings: Diffraction, data: xr.Dataset) -> Objective:
    """−ELBO + w · (−log p(phases | z)): a few nats of phases stand against thousands of counts."""
    chosen = settings.objective
    rows = int((data["split"] == 0).sum())
    steps = round(chosen.beta_share * settings.training.steps(rows))
    beta = WarmUp(chosen.beta, steps, start=chosen.beta_start)
    return ELBO(beta=beta, extra={"phases": Term(chosen.phases_weight, _phases)})


def _phases(terms: Terms, batch: Batch) -> Tensor:
    """−log p(phases | z), the mean over draws of z: (B,)."""
    return -terms.log_px_by_field["phases"].mean(0)
