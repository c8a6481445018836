"""What a network sees of counts, and gives of light."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciencevae.networks import Perceptron
from sciencevae.spec import recorded

__all__ = ["Aperture", "Leading", "PointSources", "Stabilised"]


_DARK = 1e-4  # of the mean rate, so that a logarithm is finite
_REACH = 10.0  # radians that a phase moves by for a unit of its network
_BENT = 5.0  # radians of phase at the edge of the cells, to begin with


@recorded
class Stabilised(nn.Module):
    """Counts x (B, n, …) and behind them their mask → network((√(x + 3/8) − loc)/scale, mask [, condition]).

    The square root makes the noise of counts alike everywhere (Anscombe 1948). With ``normalise`` each pattern is
    first divided by its mean count, so that the network sees its form at any brightness.
    """

    def __init__(self, network: nn.Module, loc: float, scale: float, normalise: bool) -> None:
        super().__init__()
        self.network, self.loc, self.scale, self.normalise = network, loc, scale, normalise
        self.out_features = network.out_features

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        counts, observed = x.chunk(2, dim=1)
        root = (counts.clamp(min=0) + 0.375).sqrt()
        if self.normalise:
            axes = tuple(range(1, x.dim()))
            mean = (counts * observed).sum(axes, keepdim=True) / observed.sum(axes, keepdim=True).clamp(min=1)
            root = root / (mean.clamp(min=0) + 0.375).sqrt()
        seen = torch.cat([(root - self.loc) / self.scale * observed, observed], dim=1)
        return self.network(seen) if condition is None else self.network(seen, condition)


@recorded
class PointSources(nn.Module):
    """Latents → log rate of n pixels u from −1 to 1, ln(scale·(|U|² + b)), U = Σ_k A_k e^{iκ_k u}, (B, n).

    Huygens' principle behind ``sources`` points at ξ_k = κ_k λz/(2π). A network of the latents gives how far each
    has moved from its place among evenly spaced ones, and its complex amplitude; b, light that is everywhere alike,
    is one linear step from the latents, and ``even`` at first. Moving points follow fringes that get closer, where
    a plain network has to learn each pattern.

    Note 1. Of two slits with four free parameters, −log p(x | z) of validation data after 20 epochs was 1,290 nats
    where a perceptron gave the logarithm itself, 1,086 where it gave U, and 711 where it moved point sources; the
    noise alone is 371.
    """

    place: Tensor
    coarse: Tensor
    fine: Tensor

    def __init__(
        self,
        latent: int,
        hidden: Sequence[int],
        pixels: int,
        sources: int,
        scale: float = 1.0,
        condition_features: int = 0,
        even: float = 0.7,
    ) -> None:
        super().__init__()
        self.out_features, self.scale = pixels, scale
        self.network = Perceptron(latent, hidden, 3 * sources, condition_features=condition_features)
        self.even = nn.Linear(latent + condition_features, 1)
        nn.init.zeros_(self.even.weight)
        nn.init.constant_(self.even.bias, math.log(math.expm1(even)))
        # fringes as fine as a quarter of the pixels' sampling allows, to begin with
        furthest = math.pi * pixels / 8
        self.register_buffer("place", torch.linspace(-furthest, furthest, sources), persistent=False)
        columns = next(size for size in range(math.isqrt(pixels), 0, -1) if pixels % size == 0)
        at = torch.linspace(-1, 1, pixels).unflatten(0, (-1, columns))
        self.register_buffer("coarse", at[:, 0], persistent=False)
        self.register_buffer("fine", at[0] - at[0, 0], persistent=False)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        told = () if condition is None else (condition,)
        moved, real, imaginary = self.network(z, *told).float().unsqueeze(2).chunk(3, dim=1)  # each (B, K, 1)
        waves = self.place.unsqueeze(1) + _REACH * moved  # κ
        # e^{iκ(v + w)} = e^{iκv} e^{iκw}: the sum over sources is a product of matrices, (B, r, K) (B, K, s)
        field = (torch.complex(real, imaginary) * _wave(waves * self.coarse)).mT @ _wave(waves * self.fine)
        return _log_rate(field.flatten(1), self.even(torch.cat([z, *told], 1)).float(), self.scale)


@recorded
class Aperture(nn.Module):
    """Latents → log rate of an image, ln(scale·(|U|² + b)), of a hole of any form, (B, 1, H, W).

    Huygens' principle in Fresnel's approximation, behind a square of n × n cells of transmittance t from 0 to 1:
    U(u) = g Σ_jk t_jk exp(iγ(p_j² + p_k²)) exp(iκ(p_j, p_k)·(u − u₀)), places p and pixels u from −1 to 1 in each
    direction, κ = π·width²/(2λz) at the edge of the cells, γ = that of the phase. One network of the latents draws
    t; one of its own gives κ, γ, g, the shift u₀, and b, light that is everywhere alike. The sum over cells is two
    products of matrices.

    Note 1. That t is real and one κ and one γ hold for all cells is what makes this learnable: −log p(x | z) of
    validation data was 13,700 nats after three epochs, and 18,300 where each line of cells had its own place and
    each cell a complex amplitude.
    """

    place: Tensor
    down: Tensor
    across: Tensor

    def __init__(
        self,
        latent: int,
        hidden: Sequence[int],
        shape: Sequence[int],
        cells: int,
        scale: float = 1.0,
        condition_features: int = 0,
    ) -> None:
        super().__init__()
        self.out_features, self.scale = 1, scale
        self.drawing = Perceptron(latent, hidden, cells**2, condition_features=condition_features)
        self.setup = Perceptron(latent, hidden[:1], 6, condition_features=condition_features)
        # fringes as fine as a quarter of the pixels' sampling allows, to begin with
        self.furthest = math.pi * max(shape) / 8
        for name, size in (("place", cells), ("down", shape[0]), ("across", shape[1])):
            self.register_buffer(name, torch.linspace(-1, 1, size).unsqueeze(0), persistent=False)

    def transmittance(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """t, (B, n, n), rows in y; its size is κ's."""
        told = () if condition is None else (condition,)
        cells = self.place.shape[1]
        return torch.sigmoid(2 * self.drawing(z, *told).float()).unflatten(1, (cells, cells))

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        told = () if condition is None else (condition,)
        size, bend, gain, even, y, x = self.setup(z, *told).float().unsqueeze(2).unbind(1)  # each (B, 1)
        waves = (self.furthest * size.exp() * self.place).unsqueeze(2)  # (B, n, 1)
        bent = ((_BENT + _REACH * bend) * (size.exp() * self.place).square()).unsqueeze(2)
        amplitude = self.transmittance(z, condition) * (2 / self.place.shape[1] * gain.exp()).unsqueeze(2)
        rows = _wave(waves * (self.down - y).unsqueeze(1) + bent)  # (B, n, H)
        columns = _wave(waves * (self.across - x).unsqueeze(1) + bent)
        field = rows.mT @ amplitude.to(rows.dtype) @ columns
        return _log_rate(field, even.unsqueeze(2), self.scale).unsqueeze(1)


def _wave(phase: Tensor) -> Tensor:
    return torch.complex(phase.cos(), phase.sin())  # whose gradient takes half the time of torch.polar's


def _log_rate(field: Tensor, even: Tensor, scale: float) -> Tensor:
    even = nn.functional.softplus(even) + _DARK
    return (scale * (field.real.square() + field.imag.square() + even)).log()


@recorded
class Leading(nn.Module):
    """The first ``out_features`` latents as they are: the head that makes each of them one parameter."""

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features

    def forward(self, z: Tensor) -> Tensor:
        return z[:, : self.out_features]
