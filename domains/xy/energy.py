"""Energies of a von Mises likelihood over spins, and the term that asks the decoded energy to be right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciencevae.distributions.von_mises import bessel_ratio

if TYPE_CHECKING:
    from sciencevae.batch import Batch
    from sciencevae.vae.model import Terms

__all__ = ["energy", "energy_term", "expected_energy"]


def energy(theta: Tensor) -> Tensor:
    """Energy per site of spin angles (…, 1, L, L), in J: (…)."""
    bonds = sum((theta.roll(-1, axis) - theta).cos() for axis in (-1, -2))
    return -torch.as_tensor(bonds).mean((-3, -2, -1))


def expected_energy(loc: Tensor, concentration: Tensor) -> Tensor:
    """⟨E⟩ per site of independent von Mises spins, −Σ A(κ_i) A(κ_j) cos(μ_i − μ_j)/L², A = I₁/I₀: (…)."""
    length = bessel_ratio(concentration)
    bonds = sum(length.roll(-1, axis) * length * (loc.roll(-1, axis) - loc).cos() for axis in (-1, -2))
    return -torch.as_tensor(bonds).mean((-3, -2, -1))


def energy_term(terms: Terms, batch: Batch) -> Tensor:
    """L² (E(μ(z)) − E(x))² with E per site, the mean over draws of z: (B,)."""
    assert isinstance(batch.x, Tensor)
    likelihood: Any = terms.likelihood
    mean_angle = likelihood.loc  # (S, B, 1, L, L)
    sites = batch.x.shape[-1] * batch.x.shape[-2]
    return sites * (energy(mean_angle) - energy(batch.x)).square().mean(0)
