"""Whether the latent space is used: KL and active units by dimension, own latents against shuffled ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sciencevae.batch import Batch
from sciencevae.data.batches import Batches
from sciencevae.vae.model import VAE

__all__ = ["LatentUse", "latent_use"]

#: variance over the data of a posterior mean above which its dimension counts as active (Burda et al. 2016)
ACTIVE = 0.01
#: gain of log p(x | own z) over log p(x | another datum's z), nats a datum, below which nothing is encoded
SHUFFLED = 0.1


@dataclass(frozen=True)
class LatentUse:
    """kl_by_dim: mean KL of each latent dimension, nats, where it is known in closed form, else None ·
    active_units: dimensions whose posterior mean varies over the data with a variance above 0.01 ·
    own_over_shuffled: mean of log p(x | own z) − log p(x | another's z), nats a datum ·
    aggregate_mean, aggregate_std: of draws of the aggregate posterior, by dimension (0 and 1 where it is
    the standard normal) · collapsed: whether the decoder does not use the latents
    """

    kl: float
    kl_by_dim: list[float] | None
    active_units: int
    dimensions: int
    own_over_shuffled: float
    aggregate_mean: list[float]
    aggregate_std: list[float]

    @property
    def collapsed(self) -> bool:
        return self.active_units == 0 or self.own_over_shuffled < SHUFFLED

    def describe(self) -> str:
        """One sentence for people."""
        use = f"{self.active_units} of {self.dimensions} latent dimensions are active, KL {self.kl:.2f} nats"
        if self.collapsed:
            return (
                f"COLLAPSED: the decoder does not use the latents ({use}; own latents explain the data better "
                f"than shuffled ones by {self.own_over_shuffled:.2f} nats): warm β up from 0, use free_bits, "
                "or weaken the decoder"
            )
        return f"{use}; own latents explain the data better than shuffled ones by {self.own_over_shuffled:.1f} nats"

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "collapsed": self.collapsed}


@torch.no_grad()
def latent_use(model: VAE, data: Batches, rows: int = 2048, seed: int = 0) -> LatentUse:
    """What a trained model's latents carry, from at most ``rows`` data (its first ones in stored order)."""
    here = next((p.device for p in model.parameters()), torch.device("cpu"))
    batch: Batch = next(data.blocks(rows)).to(here)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        terms = model.terms(batch)
        # a cyclic shift leaves no datum its own latent
        shuffled = model.decoder(terms.z.roll(1, dims=1), batch.context).log_prob(batch.x)
    kl = terms.divergence
    means, draws = terms.posterior.mean, terms.z[0]
    return LatentUse(
        kl=kl.mean().item(),
        kl_by_dim=None if terms.kl_by_dim is None else terms.kl_by_dim.mean(0).tolist(),
        active_units=int((means.var(0) > ACTIVE).sum()) if len(batch) > 1 else 0,
        dimensions=model.dim,
        own_over_shuffled=(terms.log_px - shuffled).mean().item(),
        aggregate_mean=draws.mean(0).tolist(),
        aggregate_std=draws.std(0).tolist(),
    )
