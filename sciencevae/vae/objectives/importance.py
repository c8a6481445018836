"""The importance-weighted bound."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives.base import Loss, Objective, Scalars, check_samples

__all__ = ["IWAE"]


class IWAE(Objective):
    """The importance-weighted bound, −log 1/S Σ_s w_s with w = p(x | z) p(z) / q(z | x); Burda et al. 2016.

    ELBO = IWAE(1) ≤ IWAE(S) ≤ log p(x), and it grows with S.

    doubly_reparameterised: the same bound and the same expected gradient, but what reaches the encoder is
    Σ_s w̃_s² ∂log w_s/∂z_s ∂z_s/∂φ with w̃ = w / Σ w, whose variance does not swamp it as S grows (Tucker et al.
    2019, eq. 8); prior and decoder get Σ_s w̃_s ∂log w_s/∂θ as before. It costs a second forward pass, and asks
    for a posterior that is driven by given noise and whose parameters can be held fixed. A network whose two
    passes differ (dropout in training) gets weights of other draws than those they multiply: leave it out there.

    >>> IWAE(16, doubly_reparameterised=True).samples
    16
    """

    def __init__(self, samples: int, doubly_reparameterised: bool = False) -> None:
        super().__init__()
        self.samples = check_samples(samples)
        self.doubly_reparameterised = doubly_reparameterised

    def loss(self, model: VAE, batch: Batch, noise: Tensor | None, scalars: Scalars) -> Loss:
        if self.doubly_reparameterised:
            if noise is None:
                like = model.encode(batch.x, batch.context).mean
                shape = self.noise_shape(model, len(batch))
                noise = torch.randn(shape, dtype=like.dtype, device=like.device)
            with torch.no_grad():
                first = model(batch, self.samples, noise)
            if not (hasattr(first.posterior, "from_noise") and hasattr(first.posterior, "detach")):
                raise InputError(
                    "the doubly reparameterised gradient needs a posterior with from_noise and detach, and the "
                    f"encoder gives a {type(first.posterior).__name__}: use encoders.Gaussian, or "
                    "IWAE(doubly_reparameterised=False)"
                )
            shares = first.log_weight.softmax(0)  # w̃, (S, B)
            # the gradient of log Σ w is Σ w̃ ∇log w; w̃ once more through z makes it w̃²
            terms = model(batch, self.samples, noise, detach_posterior=True, gradient_scale=shares)
        else:
            terms = model(batch, self.samples, noise)
        loss = math.log(self.samples) - terms.log_weight.logsumexp(0)
        return Loss(loss, {"loss": loss, "reconstruction": -terms.log_px.mean(0)})
