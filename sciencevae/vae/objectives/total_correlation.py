"""β-TCVAE: the divergence from the prior split into mutual information, total correlation and the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.distributions import DiagonalNormal
from sciencevae.errors import InputError
from sciencevae.training.schedules import Schedule, as_schedule
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives.base import Loss, Objective, Scalars

__all__ = ["BetaTCVAE"]


class BetaTCVAE(Objective):
    """−E_q[log p(x | z)] + α I(x; z) + β TC(z) + γ Σ_d KL(q(z_d) ‖ p(z_d)); Chen et al. 2018, eq. 2 and 4.

    mutual_information = E log q(z | x) − log q(z) · total_correlation = E log q(z) − log Π_d q(z_d) ·
    dimension_kl = E log Π_d q(z_d) − log p(z), each (B,); with α = β = γ = 1 they add up to the KL of the ELBO,
    estimated from one draw. q(z) = 1/N Σ_n q(z | x_n) is the aggregate posterior of the whole data set.

    size: the number N of training data; of weighted data the sum of their weights. Rows of weight 0 are no part
    of q(z). The loss of one datum depends on the others of its batch. Memory grows as B² · D.

    Raises InputError for a posterior that is no diagonal Gaussian, whose density has no dimensions to split over.

    >>> BetaTCVAE(60_000, beta=6.0).final_scalars()
    {'alpha': 1.0, 'beta': 6.0, 'gamma': 1.0}
    """

    couples = True

    def __init__(
        self,
        size: int,
        beta: float | Schedule = 6.0,
        alpha: float | Schedule = 1.0,
        gamma: float | Schedule = 1.0,
    ) -> None:
        super().__init__()
        if size < 1:
            raise InputError(f"size is the number of training data, not {size}")
        self.size = size
        self.schedules = {
            "alpha": as_schedule(alpha),
            "beta": as_schedule(beta),
            "gamma": as_schedule(gamma),
        }

    def loss(self, model: VAE, batch: Batch, noise: Tensor | None, scalars: Scalars) -> Loss:
        terms = model(batch, self.samples, noise)
        posterior = terms.posterior
        if not isinstance(posterior, DiagonalNormal):
            raise InputError(
                "BetaTCVAE needs a posterior that is a diagonal Gaussian, and the encoder gives a "
                f"{type(posterior).__name__}: use encoders.Gaussian(covariance='diagonal')"
            )
        shares = _log_shares(
            terms.z.new_ones(len(batch)) if batch.weight is None else batch.weight, self.size
        )
        # log q(z_id | x_j) of each draw under each posterior, (S, B, B, D)
        by_pair = posterior.base_dist.log_prob(terms.z.unsqueeze(2))
        log_qz = (by_pair.sum(-1) + shares).logsumexp(2)  # (S, B)
        log_product = (by_pair + shares.unsqueeze(-1)).logsumexp(2).sum(-1)  # (S, B)
        reconstruction = -terms.log_px.mean(0)
        information = (terms.log_qz - log_qz).mean(0)
        correlation = (log_qz - log_product).mean(0)
        remainder = (log_product - terms.log_pz).mean(0)
        loss = (
            reconstruction
            + scalars["alpha"] * information
            + scalars["beta"] * correlation
            + scalars["gamma"] * remainder
        )
        parts = {
            "loss": loss,
            "reconstruction": reconstruction,
            "mutual_information": information,
            "total_correlation": correlation,
            "dimension_kl": remainder,
        }
        return Loss(loss, parts)


def _log_shares(weight: Tensor, size: float) -> Tensor:
    """Log of what q(z | x_j) counts in the estimate of q(z_i), (B, B); each row adds up to 1.

    z_i comes from datum i, which is w_i / N of the data set; the others of the batch stand for the rest of it.
    """
    # Note 1: Chen et al. 2018, appendix C.2 (stratified sampling), give all others but one 1/M and that one
    # (N − M)/(N M). Sharing alike is as unbiased for q(z), does not depend on the order of the batch, and is exact
    # where the batch is the whole data set.
    tiny = torch.finfo(weight.dtype).tiny
    own = (weight / size).clamp(max=1.0)
    others = weight.expand(len(weight), -1)
    others = others - torch.diag_embed(weight)
    rest = others.sum(-1, keepdim=True)
    shares = (1 - own).unsqueeze(-1) * others / rest.clamp(min=tiny) + torch.diag_embed(own)
    # a batch of which no row counts has no mixture; its loss is multiplied by 0, and must not be NaN
    shares = torch.where(weight.sum() > 0, shares, torch.ones_like(shares))
    return shares.log()
