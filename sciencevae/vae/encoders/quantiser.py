"""The codebook of a VQ-VAE: which code is nearest, and how the codes follow what is encoded."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from sciencevae.errors import InputError
from sciencevae.spec import recorded

__all__ = ["Quantiser"]

#: ε of the Laplace smoothing of the counts
SMOOTHING = 1e-5


@recorded
class Quantiser(nn.Module):
    """K vectors e_k (K, D); a vector z_e becomes the nearest of them, k = argmin_k ‖z_e − e_k‖².

    learned="average": each step moves the codes to the running means of what is assigned to them,

        N_k ← γ N_k + (1−γ) n_k · m_k ← γ m_k + (1−γ) Σ_{j assigned to k} z_j · e_k = m_k / N̂_k,
        N̂_k = (N_k + ε) / (Σ N + K ε) · Σ N

    (van den Oord, Vinyals & Kavukcuoglu 2017, appendix A.1; the smoothing N̂ as in its authors' code, ε = 10⁻⁵).
    learned="gradient": the codes are parameters, which the codebook loss of the objective moves (eq. 3 there).
    decay: γ. revive: a code whose N_k is below this share of an even one, Σ N / K, is dead: it is set to a vector
    of the step's batch, as if it had had an even share; 0 never revives. All counts are 0 at first, so the first
    step sets all codes that it does not use to data, wherever they began.

    >>> Quantiser(4, 2).nearest(torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    embedding: Tensor
    count: Tensor
    total: Tensor
    shift: Tensor

    def __init__(
        self,
        codes: int,
        dim: int,
        learned: Literal["average", "gradient"] = "average",
        decay: float = 0.99,
        revive: float = 0.01,
    ) -> None:
        super().__init__()
        if codes < 2 or dim < 1:
            raise InputError(f"a codebook has codes ≥ 2 of dim ≥ 1, not {codes} of {dim}")
        if learned not in ("average", "gradient"):
            raise InputError(f"learned is 'average' or 'gradient', not {learned!r}")
        if not 0 <= decay < 1:
            raise InputError(f"decay is the memory of a running average, 0 ≤ decay < 1, not {decay}")
        if not 0 <= revive < 1:
            raise InputError(f"revive is a share of an even use of the codes, 0 ≤ revive < 1, not {revive}")
        self.codes, self.dim, self.learned, self.decay, self.revive = codes, dim, learned, decay, revive
        # from a generator of its own: the members of an ensemble begin with one codebook
        generator = torch.Generator().manual_seed(codes * 1009 + dim)
        start = torch.randn(codes, dim, generator=generator) / math.sqrt(dim)
        self.register_buffer("count", torch.zeros(codes))
        if learned == "average":
            self.register_buffer("embedding", start)
            self.register_buffer("total", torch.zeros(codes, dim))
        else:
            # a step can't set a parameter, which the optimiser moves: revived codes are shifted
            self.embedding = nn.Parameter(start)
            self.register_buffer("shift", torch.zeros(codes, dim))

    @property
    def codebook(self) -> Tensor:
        """e (K, D)."""
        return self.embedding + self.shift if self.learned == "gradient" else self.embedding

    def embed(self, codes: Tensor) -> Tensor:
        """e_k of integer codes (B, *grid), channels first: (B, D, *grid)."""
        return self.codebook[codes].movedim(-1, 1)

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """The code of each vector (B, D, *grid), (B, *grid); the first of several at one distance."""
        # of 8 bits a nearest code can't be told
        with torch.autocast(vectors.device.type, enabled=False):
            codebook = self.codebook
            distance = codebook.square().sum(-1) - 2 * vectors.movedim(1, -1) @ codebook.mT  # + ‖z_e‖²
        return distance.argmin(-1)

    def use(self, codes: Tensor, weight: Tensor) -> Tensor:
        """The share of each code among codes (B, *grid) whose rows count ``weight`` (B,); (K,)."""
        return self._assigned(codes, weight).mean(0) / weight.mean().clamp(min=torch.finfo(weight.dtype).tiny)

    def _assigned(self, codes: Tensor, weight: Tensor) -> Tensor:
        """Whether a vector has a code, times its row's weight, (B·n, K)."""
        chosen = codes.flatten().unsqueeze(-1) == torch.arange(self.codes, device=codes.device)
        return chosen * _repeated(weight, codes).unsqueeze(-1)

    @torch.no_grad()
    def update(self, vectors: Tensor, codes: Tensor, weight: Tensor, noise: Tensor) -> None:
        """One step of the codebook, from vectors (B, D, *grid), their codes (B, *grid) and weights (B,).

        noise: (B, n) numbers whose order says which vectors the dead codes are set to, n vectors a row.
        """
        flat = vectors.movedim(1, -1).flatten(0, -2)  # (B·n, D)
        with torch.autocast(vectors.device.type, enabled=False):
            assigned = self._assigned(codes, weight)
            count = self.decay * self.count + (1 - self.decay) * assigned.sum(0)
            sums = (1 - self.decay) * assigned.mT @ flat
        even = count.mean()
        dead = (count < self.revive * even).unsqueeze(-1)
        fresh = self._drawn(flat, dead, _repeated(weight, codes), noise.flatten())
        self.count.copy_(torch.where(dead.squeeze(-1), even, count))
        if self.learned == "gradient":
            self.shift.copy_(torch.where(dead, fresh - self.embedding, self.shift))
            return
        total = self.decay * self.total + sums
        smoothed = (count + SMOOTHING) / (count.sum() + self.codes * SMOOTHING) * count.sum()
        # a code that was never used stays where it is
        used = (count > 0).unsqueeze(-1)
        means = total / torch.where(used, smoothed.unsqueeze(-1), 1.0)
        self.total.copy_(torch.where(dead, even * fresh, total))
        self.embedding.copy_(torch.where(dead, fresh, torch.where(used, means, self.embedding)))

    @staticmethod
    def _drawn(flat: Tensor, dead: Tensor, weight: Tensor, noise: Tensor) -> Tensor:
        """For each dead code one of the vectors that count, different ones as long as there are; (K, D)."""
        counts = weight > 0
        order = torch.where(counts, noise, -math.inf).argsort(descending=True)  # those that count come first
        place = (dead.squeeze(-1).cumsum(0) - 1).clamp(min=0) % counts.sum().clamp(min=1)
        return flat[order[place]]


def _repeated(weight: Tensor, codes: Tensor) -> Tensor:
    """The weight of each row (B,) for each of its codes (B, *grid), flat: (B·n,)."""
    return weight.reshape(-1, *[1] * (codes.dim() - 1)).expand(codes.shape).flatten()
