"""Frames as coefficients of mass-weighted POD modes: a fixed linear map that keeps the weighted norm.

With modes that are orthonormal in ⟨f, g⟩ = Σ_c Σ_p m_p f_cp g_cp / s_c², m the mass of a point and s the scale of a
field, ‖x‖² = ‖a‖² + ‖r‖²: the Gaussian likelihood of all points, each weighted by its mass, is that of the
coefficients a, but for the residual r outside the modes, which no latent changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.data.rows import evenly
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Basis"]

_SNAPSHOTS = 600  # frames that modes are computed from, at most
_BLOCK_BYTES = 128 << 20


@dataclass(frozen=True)
class Basis:
    """mean (C, P), modes (K, C, P) in physical units, mass (P,), scale (C,); NaN in mean: no fluid there."""

    mean: np.ndarray
    modes: np.ndarray
    mass: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, frames: np.ndarray, mass: np.ndarray, scale: np.ndarray, modes: int) -> Basis:
        """The POD of frames (N, C, P), of as many modes as they have; InputError for fewer frames than modes."""
        import torch

        from sciencevae.latents.forecast import POD

        if len(frames) <= modes:
            raise InputError(f"prepare.modes={modes}: there are {len(frames)} training frames; ask for fewer")
        chosen = frames[evenly(len(frames), _SNAPSHOTS)]
        weight = mass / np.square(scale)[:, None]
        pod = POD.fit(
            torch.from_numpy(np.nan_to_num(chosen).astype(np.float64)), modes, torch.from_numpy(weight)
        )
        kept = pod.variances > 1e-12 * pod.variances[0]
        return cls(chosen.mean(0, dtype=np.float64), pod.modes[kept].numpy(), mass, scale)

    @property
    def weight(self) -> np.ndarray:
        """m_p / s_c², (C, P)."""
        return self.mass / np.square(self.scale)[:, None]

    def encode(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (N, K) of frames (N, C, P), and ‖r‖² (N,) of what lies outside the modes."""
        centred = np.nan_to_num(frames - self.mean)
        weighted = (centred * self.weight).reshape(len(frames), -1)
        a = weighted @ self.modes.reshape(len(self.modes), -1).T
        norm = np.einsum("ni,ni->n", weighted, centred.reshape(len(frames), -1))
        return a, np.maximum(norm - np.square(a).sum(1), 0.0)

    def decode(self, a: np.ndarray) -> np.ndarray:
        """Frames (N, C, P), physical units, of coefficients (N, K)."""
        return self.mean + np.tensordot(a, self.modes, 1)

    def coordinates(self) -> dict[str, Any]:
        """As coordinates of a prepared Dataset; they stay in the store, a model's file does not hold them."""
        stay = {"travels": 0}
        return {
            "basis_mean": (("field", "point"), self.mean.astype(np.float32), stay),
            "basis_modes": (("mode", "field", "point"), self.modes.astype(np.float32), stay),
            "basis_mass": (("point",), self.mass.astype(np.float64), stay),
            "basis_scale": (("field",), self.scale.astype(np.float64), stay),
        }

    @classmethod
    def of(cls, ds: xr.Dataset) -> Basis:
        """The basis of prepared data; InputError where there is none (a model's file alone)."""
        if "basis_modes" not in ds.coords:
            raise InputError(
                "the modes of these data lie in the run's folder, not in the model's file: name the run with --run"
            )
        names = ("basis_mean", "basis_modes", "basis_mass", "basis_scale")
        return cls(*(ds[name].values.astype(np.float64) for name in names))


def blocks(frames: Any) -> Iterator[tuple[slice, np.ndarray]]:
    """Frames (N, C, …), lazy or not, in blocks of bounded size."""
    row = max(1, int(np.prod(frames.shape[1:])) * 8)
    step = max(1, _BLOCK_BYTES // row)
    for start in range(0, frames.shape[0], step):
        where = slice(start, start + step)
        yield where, np.asarray(frames[where])
