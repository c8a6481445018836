"""Whether the latent space is used: KL and active units by dimension, or the codes that occur; own latents against
shuffled ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sciencevae.batch import Batch
from sciencevae.data.batches import as_batches
from sciencevae.vae.model import VAE
from sciencevae.vae.vq import VQVAE

__all__ = ["CodeUse", "LatentUse", "latent_use"]

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
        return {**vars(self), "collapsed": self.collapsed, "summary": self.describe()}


@dataclass(frozen=True)
class CodeUse:
    """kl: mean of −log p(z), nats · perplexity: exp(entropy) of the use of the codes over all data and places, the
    number of codes in even use · used_codes: how many of all ``codes`` occur ·
    own_over_shuffled: as of ``LatentUse`` · collapsed: whether the decoder does not use the codes
    """

    kl: float
    perplexity: float
    used_codes: int
    codes: int
    own_over_shuffled: float

    @property
    def collapsed(self) -> bool:
        return self.used_codes < 2 or self.own_over_shuffled < SHUFFLED

    def describe(self) -> str:
        """One sentence for people."""
        use = f"{self.used_codes} of {self.codes} codes occur, perplexity {self.perplexity:.1f}"
        if self.collapsed:
            return (
                f"COLLAPSED: the decoder does not use the codes ({use}; own codes explain the data better than "
                f"shuffled ones by {self.own_over_shuffled:.2f} nats): revive dead codes, or weaken the decoder"
            )
        return f"{use}; own codes explain the data better than shuffled ones by {self.own_over_shuffled:.1f} nats"

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "collapsed": self.collapsed, "summary": self.describe()}


@torch.no_grad()
def latent_use(model: VAE, data: Any, rows: int = 2048, seed: int = 0) -> LatentUse | CodeUse:
    """What a trained model's latents carry, from at most ``rows`` data (its first ones; fewer of large ones).

    data: as of ``fit``, a tensor (N, …), a Batch, a prepared Dataset or store, or Batches; all its rows.
    """
    here = next((p.device for p in model.parameters()), torch.device("cpu"))
    batches = as_batches(data)
    batch: Batch = next(batches.blocks(batches.at_once(rows))).to(here)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        terms = model.terms(batch)
        # a cyclic shift leaves no datum its own latent
        other: Any = model.decode(terms.z.roll(1, dims=1), batch.context)
    kl = terms.divergence
    own_over_shuffled = (terms.log_px - other.log_prob(batch.x)).mean().item()
    if isinstance(model, VQVAE):
        share = model.encoder.quantiser.use(terms.z[0], torch.ones_like(kl))
        perplexity = torch.special.entr(share).sum().exp().item()
        return CodeUse(kl.mean().item(), perplexity, int((share > 0).sum()), model.codes, own_over_shuffled)
    means, draws = terms.posterior.mean, terms.z[0]
    return LatentUse(
        kl=kl.mean().item(),
        kl_by_dim=None if terms.kl_by_dim is None else terms.kl_by_dim.mean(0).tolist(),
        active_units=int((means.var(0) > ACTIVE).sum()) if len(batch) > 1 else 0,
        dimensions=model.dim,
        own_over_shuffled=own_over_shuffled,
        aggregate_mean=draws.mean(0).tolist(),
        aggregate_std=draws.std(0).tolist(),
    )
