"""The networks in and out: they know the geometry of a moving star, so that the latent need not learn it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from sciencevae.builtin.stars.kinematics import KAPPA
from torch import Tensor, nn

from sciencevae.networks import Perceptron
from sciencevae.spec import recorded

__all__ = ["VELOCITY_KMS", "StarDecoder", "StarEncoder"]

#: unit of velocity inside the networks, km/s: about the dispersion of the stars of the solar neighbourhood
VELOCITY_KMS = 20.0
_PARALLAX_FLOOR = 0.3  # of the typical parallax, below which κμ/ϖ is no velocity


def tangent(direction: Tensor) -> Tensor:
    """A (B, 2, 3): unit vectors towards east and north at r̂ (B, 3)."""
    x, y, z = direction.unbind(-1)
    flat = (x.square() + y.square()).clamp(min=1e-12).sqrt()
    east = torch.stack([-y / flat, x / flat, torch.zeros_like(x)], -1)
    north = torch.stack([-z * x / flat, -z * y / flat, flat], -1)
    return torch.stack([east, north], -2)


class _Physical(nn.Module):
    """What both networks need: the scaling of x, to turn it into mas, mas/yr and km/s and back."""

    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        # beside the latent's own units, constants of the data set: arguments, not weights
        self.register_buffer("loc", torch.tensor(list(loc), dtype=torch.float32), persistent=False)
        self.register_buffer("scale", torch.tensor(list(scale), dtype=torch.float32), persistent=False)
        self.typical = max(abs(float(loc[2])), float(scale[2]))


@recorded
class StarEncoder(_Physical):
    """(x scaled with NaN as 0, mask, direction) → (mean, log variance): (B, 10), (B, 3) → (B, 2·dim).

    The perceptron sees arcsinh of x (proper motions and parallaxes have long tails) and the tangential velocity
    κ μ/ϖ as a vector of the common frame, where stars that move together agree wherever they stand.
    """

    def __init__(
        self, loc: Sequence[float], scale: Sequence[float], hidden: Sequence[int], dim: int, perspective: bool
    ) -> None:
        super().__init__(loc, scale)
        self.perspective, self.out_features = perspective, 2 * dim
        self.perceptron = Perceptron(10 + (6 if perspective else 0), hidden, 2 * dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        values, observed = x.chunk(2, dim=1)
        seen = [torch.asinh(values), observed]
        if self.perspective:
            physical = values * self.scale + self.loc  # (B, 5)
            parallax = physical[:, 2:3].clamp(min=_PARALLAX_FLOOR * self.typical)
            # a star without a proper motion has no velocity: 0, and the mask says so
            motion = physical[:, 3:] * observed[:, 3:] * observed[:, 2:3]
            velocity = torch.einsum("bki,bk->bi", tangent(condition), KAPPA * motion / parallax)
            seen += [torch.asinh(velocity / VELOCITY_KMS), condition]
        return self.perceptron(torch.cat(seen, dim=1))


@recorded
class StarDecoder(_Physical):
    """(z, direction) → the mean of x, scaled: (B, dim), (B, 3) → (B, 5).

    The perceptron gives offsets, the logarithm of the parallax and a space velocity V in the common frame; the
    proper motion follows as ϖ/κ (ê·V, n̂·V). So one latent point is one motion in space, and a cluster whose
    proper motions fan out over 20° is one point all the same.
    """

    def __init__(
        self, loc: Sequence[float], scale: Sequence[float], hidden: Sequence[int], dim: int, perspective: bool
    ) -> None:
        super().__init__(loc, scale)
        self.perspective, self.out_features = perspective, 5
        self.perceptron = Perceptron(dim, list(hidden)[::-1], 6 if perspective else 5)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        out = self.perceptron(z)
        if not self.perspective:
            return out
        parallax = self.typical * out[:, 2:3].clamp(max=math.log(1e3)).exp()
        along = torch.einsum("bki,bi->bk", tangent(condition), VELOCITY_KMS * out[:, 3:])
        moving = torch.cat([parallax, parallax / KAPPA * along], dim=1)  # mas, mas/yr
        return torch.cat([out[:, :2], (moving - self.loc[2:]) / self.scale[2:]], dim=1)
