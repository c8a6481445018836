"""How far a datum lies from what a model was trained on, as shares of validation data that lie nearer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciencevae.errors import InputError
from sciencevae.latents.score import anomaly_score
from sciencevae.vae.vq import VQVAE

if TYPE_CHECKING:
    from sciencevae.data.batches import Batches
    from sciencevae.vae.context import Context
    from sciencevae.vae.model import VAE

__all__ = ["Typical", "distance"]

_SHARES = np.linspace(0, 1, 201)
_ROWS = 1000  # that go through the model at once
_SAMPLES = 4  # draws of each, of its −ELBO
_MOST = 20_000  # validation data looked at, at most


@dataclass(frozen=True)
class Typical:
    """Quantiles, at the shares 0, 0.005 … 1, of validation data's ``distance`` and of their −ELBO, nats.

    A share that is told for another datum is exact to 0.005 where there are thousands of validation data.
    """

    latent: tuple[float, ...]
    elbo: tuple[float, ...]

    @classmethod
    def of(cls, model: VAE, valid: Batches) -> Typical:
        """Of a trained model and the data that it was stopped by."""
        latent, elbo, rows = [], [], 0
        for batch in valid.blocks(valid.at_once(_ROWS, _SAMPLES)):
            with torch.no_grad():
                if isinstance(model, VQVAE):
                    z = model.encode(batch.x, batch.context).codes
                else:
                    z = model.encode(batch.x, batch.context).mean
            latent.append(distance(model, z, batch.context))
            elbo.append(anomaly_score(model, batch, "elbo", samples=_SAMPLES).double().numpy())
            rows += len(batch)
            if rows >= _MOST:
                break
        found = (np.quantile(np.concatenate(values), _SHARES).tolist() for values in (latent, elbo))
        return cls(*map(tuple, found))

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Typical:
        """The inverse of ``to_json``; InputError for anything else."""
        found = [np.asarray(plain[kind], np.float64) for kind in ("latent", "elbo")]
        if any(values.shape != _SHARES.shape for values in found):
            raise InputError(f"what is typical is told by {len(_SHARES)} quantiles each")
        return cls(*(tuple(values.tolist()) for values in found))

    def to_json(self) -> dict[str, Any]:
        return {"latent": list(self.latent), "elbo": list(self.elbo)}

    def beyond(self, values: np.ndarray, kind: str) -> np.ndarray:
        """The share of validation data whose value is smaller, (N,): near 1 a datum is unlike all of them.

        kind: "latent" of ``distance``, "elbo" of −ELBO
        """
        return np.interp(values, getattr(self, kind), _SHARES, left=0.0, right=1.0)


@torch.no_grad()
def distance(model: VAE, z: Tensor, context: Context) -> np.ndarray:
    """−log p(z | c) of posterior means z (N, D), nats, (N,); of codes (N, *grid) −log p of the code."""
    return -model.prior(context).log_prob(z).double().numpy()
