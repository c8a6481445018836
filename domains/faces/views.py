"""Faces as they might have been seen as well: mirrored, turned, shifted, stretched and in other light."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Views"]


class Views:
    """A new view of each of ``rows`` faces, the same for all that is seen of it; moved: how far, 1 as a rule."""

    def __init__(self, rows: int, generator: torch.Generator, moved: float = 1.0) -> None:
        def normal(*shape: int) -> Tensor:
            return torch.randn(rows, *shape, generator=generator)

        self.mirrored = torch.rand(rows, generator=generator) < 0.5
        angle, scale = 0.03 * moved * normal(), (0.04 * moved * normal()).exp()
        aspect = (0.05 * moved * normal()).exp()
        # of places (column, row) from −1 to 1: where the new picture looks in the old one
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).unflatten(1, (2, 2))
        stretch = torch.stack([scale * aspect, scale / aspect], -1)
        self.linear = turn * stretch.unsqueeze(1)
        self.linear[:, :, 0] *= torch.where(self.mirrored, -1.0, 1.0)[:, None]
        self.shift = 0.04 * moved * normal(2)
        self.light = 1 + 0.1 * normal(3, 1, 1)

    def pictures(self, faces: Tensor) -> Tensor:
        """Faces (B, 3, S, S) seen anew."""
        theta = torch.cat([self.linear, self.shift.unsqueeze(-1)], -1)
        grid = F.affine_grid(theta, list(faces.shape), align_corners=True)
        return self.light * F.grid_sample(faces, grid, padding_mode="reflection", align_corners=True)

    def points(self, places: Tensor, size: int) -> Tensor:
        """Where places (B, K, 2) of the faces, row and column, come to lie."""
        at = places.flip(-1) * 2 / (size - 1) - 1
        moved = torch.linalg.solve(self.linear.unsqueeze(1), (at - self.shift.unsqueeze(1)).unsqueeze(-1))
        return ((moved[..., 0] + 1) * (size - 1) / 2).flip(-1)
