"""A decoder of velocities without divergence: they are the derivatives of a stream function."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciencevae.errors import InputError
from sciencevae.latents.forecast import lagged  # noqa: F401  (classes that a model's file may name)
from sciencevae.networks import ConvolutionalDecoder
from sciencevae.networks.convolution import padded
from sciencevae.spec import recorded

__all__ = ["StreamFunctionDecoder", "divergence", "velocity_of"]


def velocity_of(psi: Tensor, spacing: Sequence[float]) -> tuple[Tensor, Tensor]:
    """u = ∂ψ/∂y and v = −∂ψ/∂x by central differences, ψ (B, H+2, W+2) with a border → (B, H, W) each.

    spacing: (Δy, Δx). Since the two differences commute, ``divergence`` of (u, v) is zero to rounding.
    """
    dy, dx = spacing
    u = (psi[:, 2:, 1:-1] - psi[:, :-2, 1:-1]) / (2 * dy)
    v = (psi[:, 1:-1, :-2] - psi[:, 1:-1, 2:]) / (2 * dx)
    return u, v


def divergence(u: Tensor, v: Tensor, spacing: Sequence[float], padding: Sequence[str]) -> Tensor:
    """∂u/∂x + ∂v/∂y by central differences, (B, H, W) each; the border only of periodic axes."""
    dy, dx = spacing
    width = [int(edge == "periodic") for edge in padding]
    u, v = (padded(field[:, None], ["periodic" if w else "zeros" for w in width])[:, 0] for field in (u, v))
    full = (u[:, 1:-1, 2:] - u[:, 1:-1, :-2]) / (2 * dx) + (v[:, 2:, 1:-1] - v[:, :-2, 1:-1]) / (2 * dy)
    rows, columns = (slice(1 - w, w - 1 or None) for w in width)
    return full[:, rows, columns]


@recorded
class StreamFunctionDecoder(nn.Module):
    """z (B, latent) → fields (B, C, H, W), scaled, of which u and v come from one stream function.

    u = ∂ψ/∂y, v = −∂ψ/∂x on the grid, so their discrete divergence vanishes for any weights; the other channels are
    decoded beside ψ. Along an axis that is not periodic, ψ has one more point at each edge. The scaling of both
    components has to be the same number, and their mean uniform.

    shape: (C, H, W); velocity: the channels of u and v; spacing: (Δy, Δx); the other arguments are those of
    ``ConvolutionalDecoder``.
    """

    def __init__(
        self,
        in_features: int,
        shape: Sequence[int],
        velocity: Sequence[int],
        spacing: Sequence[float],
        channels: Sequence[int] = (64, 32),
        hidden: int = 128,
        activation: str = "silu",
        condition_features: int = 0,
        padding: Sequence[str] = ("periodic", "periodic"),
    ) -> None:
        super().__init__()
        if len(set(velocity)) != 2 or not all(0 <= k < shape[0] for k in velocity):
            raise InputError(f"a stream function gives two channels, u and v; found {tuple(velocity)}")
        count, height, width = shape
        self.out_features = count
        self.velocity, self.padding = tuple(velocity), tuple(padding)
        self.border = [int(edge != "periodic") for edge in padding]
        finer = min(spacing)
        self.spacing = [step / finer for step in spacing]
        self.amplitude = max(height, width) / (2 * math.pi)  # ψ of a velocity of 1 on the largest scale
        grid = (count - 1, height + 2 * self.border[0], width + 2 * self.border[1])
        self.decoder = ConvolutionalDecoder(
            in_features, grid, channels, hidden, activation, condition_features, padding
        )

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        out = self.decoder(z) if condition is None else self.decoder(z, condition)
        inner = [slice(b, -b or None) for b in self.border]
        psi = self.amplitude * out[:, :1]
        bordered = padded(psi, ["periodic", "periodic"])  # (B, 1, H+2, W+2) where periodic, else H+4
        rows, columns = (slice(b, -b or None) for b in self.border)
        u, v = velocity_of(bordered[:, 0, rows, columns], self.spacing)
        others = iter(out[:, 1:, inner[0], inner[1]].unbind(1))
        found = {self.velocity[0]: u, self.velocity[1]: v}
        return torch.stack(
            [found[k] if k in found else next(others) for k in range(self.out_features)], dim=1
        )
