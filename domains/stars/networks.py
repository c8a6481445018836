"""The networks in and out: they know the geometry of a moving star, so that the latent need not learn it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sciencevae.networks import Perceptron
from sciencevae.spec import recorded

from .kinematics import KAPPA

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
    """What both networks need: the scaling of x and the field, to go to mas, mas/yr, km/s and back.

    field: ``loc`` and ``scale`` of x (8 numbers each), ``centre`` (unit vector) and ``radius_deg`` of the field.
    """

    loc: Tensor
    scale: Tensor
    centre: Tensor

    def __init__(self, field: Mapping[str, Any]) -> None:
        super().__init__()
        # constants of the data set: arguments, not weights
        for name in ("loc", "scale", "centre"):
            self.register_buffer(name, torch.tensor(list(field[name]), dtype=torch.float32), persistent=False)
        self.radius = math.radians(float(field["radius_deg"]))
        self.typical = max(abs(float(field["loc"][3])), float(field["scale"][3]))  # parallax, mas

    def offsets(self, direction: Tensor) -> Tensor:
        """Equal-area offsets from the centre towards east and north, in radii of the field, (B, 2)."""
        across = direction @ tangent(self.centre).transpose(0, 1)
        cosine = (direction @ self.centre).clamp(min=-1 + 1e-6)
        return across * (2 / (1 + cosine)).sqrt().unsqueeze(-1) / self.radius

    def direction(self, offsets: Tensor) -> Tensor:
        """The inverse of ``offsets``, (B, 3)."""
        plane = self.radius * offsets
        rho2 = plane.square().sum(-1, keepdim=True).clamp(max=3.9)
        return (1 - rho2 / 2) * self.centre + (1 - rho2 / 4).sqrt() * (plane @ tangent(self.centre))


@recorded
class StarEncoder(_Physical):
    """(x scaled with NaN as 0, mask, direction) → (mean, log variance): (B, 16), (B, 3) → (B, 2·dim).

    The perceptron sees where in the field a star stands, arcsinh of its parallax and proper motion (both have
    long tails), of magnitude and colour, which of them are there, and the tangential velocity κ μ/ϖ as a vector
    of the common frame, where stars that move together nearly agree wherever they stand.
    """

    def __init__(self, field: Mapping[str, Any], hidden: Sequence[int], dim: int, perspective: bool) -> None:
        super().__init__(field)
        self.perspective, self.out_features = perspective, 2 * dim
        self.perceptron = Perceptron(12 + (6 if perspective else 0), hidden, 2 * dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        values, observed = (
            part[:, 3:] for part in x.chunk(2, dim=1)
        )  # (B, 5) each: ϖ, μα*, μδ, magnitude, colour
        seen = [self.offsets(condition), torch.asinh(values), observed]
        if self.perspective:
            physical = values[:, :3] * self.scale[3:6] + self.loc[3:6]
            parallax = physical[:, :1].clamp(min=_PARALLAX_FLOOR * self.typical)
            # a star without a proper motion has no velocity: 0, and the mask says so
            motion = physical[:, 1:] * observed[:, 1:3] * observed[:, :1]
            velocity = torch.einsum("bki,bk->bi", tangent(condition), KAPPA * motion / parallax)
            seen += [torch.asinh(velocity / VELOCITY_KMS), condition]
        return self.perceptron(torch.cat(seen, dim=1))


@recorded
class StarDecoder(_Physical):
    """(z, direction) → the mean of x, scaled: (B, dim), (B, 3) → (B, 8).

    The perceptron gives offsets in the field, the logarithm of the parallax, a space velocity V in the common
    frame, magnitude and colour; the proper motion follows as ϖ/κ (ê·V, n̂·V). So one latent point is one motion
    in space, and a cluster whose proper motions fan out over 20° is one point all the same.
    """

    def __init__(self, field: Mapping[str, Any], hidden: Sequence[int], dim: int, perspective: bool) -> None:
        super().__init__(field)
        self.perspective, self.out_features = perspective, 8
        self.perceptron = Perceptron(dim, list(hidden)[::-1], 8 if perspective else 7)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        out = self.perceptron(z)
        place = (self.direction(out[:, :2]) - self.loc[:3]) / self.scale[:3]
        if not self.perspective:
            return torch.cat([place, out[:, 2:]], dim=1)
        parallax = self.typical * out[:, 2:3].clamp(max=math.log(1e3)).exp()
        along = torch.einsum("bki,bi->bk", tangent(condition), VELOCITY_KMS * out[:, 3:6])
        moving = torch.cat([parallax, parallax / KAPPA * along], dim=1)  # mas, mas/yr
        return torch.cat([place, (moving - self.loc[3:6]) / self.scale[3:6], out[:, 6:]], dim=1)
