"""The Kullback–Leibler divergence between normal distributions in closed form."""

from __future__ import annotations

import torch
import torch.distributions as td
from torch import Tensor

from sciencevae.distributions.normal import DiagonalNormal, FullNormal

__all__ = ["kl_normal"]


def kl_normal(q: td.Distribution, p: td.Distribution) -> tuple[Tensor | None, Tensor | None]:
    """KL(q ‖ p) and its split over dimensions, where they are known in closed form; None where not.

    Diagonal:  KL = ½ Σ_d [ (σ_q² + (μ_q − μ_p)²)/σ_p² − 1 − log(σ_q²/σ_p²) ]
               (for p = N(0, 1): ½ Σ (μ² + σ² − 1 − log σ²))
    Otherwise: KL = ½ [ tr(Σ_p⁻¹ Σ_q) + Δᵀ Σ_p⁻¹ Δ − D + log |Σ_p| − log |Σ_q| ]

    q has batch shape (B,), p () or (B,). Returns ((B,), (B, D)), ((B,), None) or (None, None).
    torch's ``kl_divergence`` of Independent distributions breaks a compiled graph; this does not.
    """
    if isinstance(q, DiagonalNormal) and isinstance(p, DiagonalNormal):
        ratio = q.scale / p.scale
        by_dim = 0.5 * (ratio.square() + ((q.loc - p.loc) / p.scale).square() - 1) - ratio.log()
        return by_dim.sum(-1), by_dim
    if isinstance(q, DiagonalNormal | FullNormal) and isinstance(p, DiagonalNormal | FullNormal):
        root_q, root_p = _root(q), _root(p)
        batch = torch.broadcast_shapes(root_q.shape, root_p.shape)
        root_p = root_p.expand(batch)
        spread = torch.linalg.solve_triangular(root_p, root_q.expand(batch), upper=False)
        shift = torch.linalg.solve_triangular(root_p, (q.loc - p.loc).unsqueeze(-1), upper=False)
        log_det = root_p.diagonal(dim1=-2, dim2=-1).log() - root_q.diagonal(dim1=-2, dim2=-1).log()
        squares = spread.square().sum((-2, -1)) + shift.square().sum((-2, -1))
        return 0.5 * (squares - q.loc.shape[-1]) + log_det.sum(-1), None
    return None, None


def _root(normal: DiagonalNormal | FullNormal) -> Tensor:
    if isinstance(normal, DiagonalNormal):
        return torch.diag_embed(normal.scale)
    return normal._unbroadcasted_scale_tril
