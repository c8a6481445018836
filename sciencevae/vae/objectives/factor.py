"""FactorVAE: the total correlation estimated by a discriminator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import softplus

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.networks import Perceptron
from sciencevae.training.schedules import Schedule, as_schedule
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives.base import Loss, Objective, Scalars

__all__ = ["FactorVAE"]


class FactorVAE(Objective):
    """−ELBO + γ TC(z), TC = KL(q(z) ‖ Π_d q(z_d)) ≈ E_q(z)[log D(z) / (1 − D(z))]; Kim & Mnih 2018, eq. 2 and 3.

    D(z), a perceptron, tells codes z ~ q(z) from codes whose dimensions come each from another datum, and is
    trained along: ``Loss.auxiliary`` is its cross-entropy, ½ (−E log D(z) − E log(1 − D(z_permuted))), which is
    log 2 where there is nothing to tell. The model sees D held fixed and D sees z held fixed, so that neither
    loss moves what belongs to the other. D belongs to the objective, and its state to the training's checkpoint.

    dim: latent dimensions D. hidden: widths of the discriminator (the paper's: five of 1000).
    Raises InputError for a VQVAE.

    Departures from the paper's Algorithm 2: (1) model and discriminator take their steps at once, by the one
    optimiser of the training; (2) the permuted codes are those of the same batch, not of a second one, which
    would cost a second pass of the encoder; (3) of weighted data the dimensions are drawn by weight, so that rows
    of weight 0 are not among them; with equal weights this is a permutation.

    >>> FactorVAE(2, gamma=10.0, hidden=(64, 64)).final_scalars()
    {'gamma': 10.0}
    """

    couples = True

    def __init__(
        self, dim: int, gamma: float | Schedule = 10.0, hidden: Sequence[int] = (256, 256, 256)
    ) -> None:
        super().__init__()
        self.discriminator = Perceptron(dim, hidden, 1)
        self.schedules = {"gamma": as_schedule(gamma)}

    def noise_shape(self, model: VAE, rows: int) -> tuple[int, ...]:
        """One layer for the posterior's draw, and one that the permutations are made from."""
        return model.noise_shape(self.samples + 1, rows)

    def loss(self, model: VAE, batch: Batch, noise: Tensor | None, scalars: Scalars) -> Loss:
        if model.coded:
            raise InputError(
                "FactorVAE tells dimensions of continuous latents apart, and codes have none: take VQ"
            )
        terms = model(batch, self.samples, None if noise is None else noise[:-1])
        z = terms.z[0]  # (B, D)
        order = torch.randn_like(z) if noise is None else noise[-1]
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        correlation = functional_call(self.discriminator, fixed, z).squeeze(-1)  # log D/(1 − D), (B,)
        reconstruction, kl = -terms.log_px.mean(0), terms.divergence
        loss = reconstruction + kl + scalars["gamma"] * correlation
        weight = z.new_ones(len(z)) if batch.weight is None else batch.weight
        codes = z.detach()
        as_joint = softplus(-self.discriminator(codes).squeeze(-1))  # −log D
        as_product = softplus(self.discriminator(_permuted(codes, order, weight)).squeeze(-1)).mean()
        parts = {"loss": loss, "reconstruction": reconstruction, "kl": kl, "total_correlation": correlation}
        return Loss(loss, parts, auxiliary=0.5 * (as_joint + as_product))


def _permuted(z: Tensor, noise: Tensor, weight: Tensor) -> Tensor:
    """Codes (B, D) whose every dimension comes from rows in an order of its own, drawn by their weights.

    Systematic resampling at the B points (rank + ½)/B: with equal weights each row is drawn once.
    """
    rank = noise.argsort(0)
    edges = weight.cumsum(0)
    points = (rank + 0.5) / len(z) * edges[-1]
    rows = torch.searchsorted(edges, points.to(edges.dtype))
    return z.gather(0, rows.clamp(max=len(z) - 1))
