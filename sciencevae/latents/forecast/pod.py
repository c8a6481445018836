"""Proper orthogonal decomposition: the linear latents beside which others are measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciencevae.errors import InputError

__all__ = ["POD"]


@dataclass(frozen=True)
class POD:
    """x = mean + Σ_i a_i φ_i with modes orthonormal in mass, Σ_j w_j φ_ij φ_kj = δ_ik (Lumley 1967; Sirovich 1987).

    mean (*E) · modes (D, *E) · variances (D,), the mean squares of the training coefficients · weight (*E), the
    mass of each place (area, volume, quadrature weight). Of all bases of D modes, its reconstruction of the
    training frames has the smallest mean squared error in that mass.
    """

    mean: Tensor
    modes: Tensor
    variances: Tensor
    weight: Tensor

    @classmethod
    def fit(cls, x: Tensor, modes: int, weight: Tensor | None = None) -> POD:
        """Of training frames x (N, *E). InputError for more modes than frames or places, and for NaN."""
        if not torch.isfinite(x).all():
            raise InputError(
                "the frames have missing values (NaN): a POD needs whole fields; leave those places out"
            )
        size = x[0].numel()
        if not 1 <= modes <= min(len(x) - 1, size):
            raise InputError(
                f"{modes} modes of {len(x)} frames of {size} values: 1 … {min(len(x) - 1, size)} there are"
            )
        mass = torch.ones_like(x[0]) if weight is None else weight.to(x)
        if mass.shape != x.shape[1:] or bool((mass < 0).any()):
            raise InputError(f"the weight is {tuple(mass.shape)}; expected {tuple(x.shape[1:])}, masses ≥ 0")
        mean = x.mean(0)
        root = mass.sqrt().flatten()
        scaled = ((x - mean).flatten(1) * root).double()  # (N, n)
        v, squares = _snapshots(scaled, modes) if size > len(x) else _svd(scaled, modes)
        inverse = torch.where(root > 0, 1 / root, 0.0)
        basis = (v.to(x) * inverse).reshape(modes, *x.shape[1:])
        return cls(mean, basis, (squares / len(x)).to(x), mass)

    def leading(self, modes: int) -> POD:
        """The POD of the first ``modes`` alone."""
        return POD(self.mean, self.modes[:modes], self.variances[:modes], self.weight)

    def encode(self, x: Tensor) -> Tensor:
        """The coefficients of frames (…, *E): (…, D)."""
        lead = x.dim() - self.mean.dim()
        return ((x - self.mean) * self.weight).flatten(lead) @ self.modes.flatten(1).mT

    def decode(self, a: Tensor) -> Tensor:
        """The frames of coefficients (…, D): (…, *E)."""
        return self.mean + torch.tensordot(a, self.modes, dims=1)


def _svd(x: Tensor, modes: int) -> tuple[Tensor, Tensor]:
    """The leading right singular vectors (modes, n) of x (N, n), and the squares of their singular values."""
    _, s, v = torch.linalg.svd(x, full_matrices=False)
    return v[:modes], s[:modes].square()


def _snapshots(x: Tensor, modes: int) -> tuple[Tensor, Tensor]:
    """The same by the method of snapshots (Sirovich 1987), for frames of many places: N × N numbers, not N × n.

    The squares lose the digits of singular values below 1e-8 of the largest; QR makes their vectors orthonormal.
    """
    squares, vectors = torch.linalg.eigh(x @ x.mT)  # ascending
    squares = squares.flip(0)[:modes].clamp(min=0)
    leading = x.mT @ vectors.flip(1)[:, :modes]  # (n, modes), of lengths s
    leading /= squares.sqrt().clamp(min=torch.finfo(x.dtype).tiny)
    return torch.linalg.qr(leading)[0].mT, squares
