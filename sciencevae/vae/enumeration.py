"""The evidence of a model of codes, exactly: a sum over all grids of codes, where they are few."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.vae.vq import VQVAE

__all__ = ["enumerated_log_evidence"]

#: of grids of codes that are summed over
LARGEST = 65_536


@torch.no_grad()
def enumerated_log_evidence(model: VQVAE, batch: Batch, chunk: int) -> tuple[Tensor, int]:
    """log p(x | c) = log Σ_z p(z | c) p(x | e_z, c) over all K^n grids z, chunk of them at once: (B,), and K^n.

    Raises InputError where they are more than 65,536.
    """
    shape = torch.Size(model.grid)
    number = model.codes ** shape.numel()
    if number > LARGEST:
        raise InputError(
            f"log p(x) of codes is a sum over all of them, and {model.codes} codes at {shape.numel()} places are "
            f"more than {LARGEST:,} grids: use the bound log p(x | z) + log p(z), anomaly_score(…, kind='elbo')"
        )
    here = next(model.parameters()).device
    prior = model.prior(batch.context)
    strides = model.codes ** torch.arange(shape.numel(), device=here).reshape(shape)
    chunks = []
    for start in range(0, number, chunk):
        index = torch.arange(start, min(start + chunk, number), device=here)
        codes = index.reshape(-1, 1, *[1] * len(shape)) // strides % model.codes  # (s, 1, *grid)
        log_pz = prior.log_prob(codes.expand(-1, *(prior.batch_shape or (1,)), *shape))
        likelihood: Any = model.decode(codes.expand(-1, len(batch), *shape), batch.context)
        chunks.append((log_pz + likelihood.log_prob(batch.x)).logsumexp(0))
    return torch.stack(chunks).logsumexp(0), number
