"""What a network sees of counts, and gives of light."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciencevae.networks import Perceptron
from sciencevae.spec import recorded

__all__ = ["Intensity", "Leading", "PointSources", "Stabilised"]


_DARK = 1e-4  # of the mean rate, so that a logarithm is finite
_REACH = 10.0  # radians at the sensor's edge that a point moves by for a unit of its network


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
class Intensity(nn.Module):
    """A network's complex field U, (B, 2·n, …) with real parts first, → log rate, ln(scale·|U|²), (B, n, …).

    Note 1. Fields are smooth where intensities have narrow minima, whose logarithm a network follows badly. Of two
    slits with four free parameters, −log p(x | z) of validation data after 20 epochs was 1,290 nats where a
    perceptron gave the logarithm itself, 1,086 where it gave U, and 711 where it moved ``PointSources``; the noise
    alone is 371.
    """

    def __init__(self, network: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.network, self.scale = network, scale
        self.out_features = int(network.out_features) // 2  # type: ignore[arg-type]

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        field = self.network(z) if condition is None else self.network(z, condition)
        real, imaginary = field.chunk(2, dim=1)
        # an untrained network gives an even pattern
        return (self.scale * ((1 + real).square() + imaginary.square() + _DARK)).log()


@recorded
class PointSources(nn.Module):
    """The field of ``sources`` points, U(u) = −1 + Σ_k A_k(z) e^{iκ_k(z) u}, on n pixels u from −1 to 1, (B, 2·n).

    Huygens' principle far from the aperture: point k lies at ξ_k = κ_k λz/(2π), and a network of the latents gives
    how far it has moved from its place among evenly spaced ones, and its complex amplitude. The −1 is what
    ``Intensity`` adds. Moving points follow fringes that get closer, where a plain network has to learn each
    pattern: see the note there.
    """

    place: Tensor
    coarse: Tensor
    fine: Tensor

    def __init__(
        self, latent: int, hidden: Sequence[int], pixels: int, sources: int, condition_features: int = 0
    ) -> None:
        super().__init__()
        self.out_features = 2 * pixels
        self.network = Perceptron(latent, hidden, 3 * sources, condition_features=condition_features)
        # fringes as fine as a quarter of the pixels' sampling allows, to begin with
        furthest = math.pi * pixels / 8
        self.register_buffer("place", torch.linspace(-furthest, furthest, sources), persistent=False)
        columns = next(size for size in range(math.isqrt(pixels), 0, -1) if pixels % size == 0)
        at = torch.linspace(-1, 1, pixels).unflatten(0, (-1, columns))
        self.register_buffer("coarse", at[:, 0], persistent=False)
        self.register_buffer("fine", at[0] - at[0, 0], persistent=False)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        out = self.network(z) if condition is None else self.network(z, condition)
        moved, real, imaginary = out.chunk(3, dim=1)  # each (B, K)
        waves = (self.place + _REACH * moved).unsqueeze(-1)  # κ, (B, K, 1)
        # e^{iκ(v + w)} = e^{iκv} e^{iκw}: the sum over sources is a product of matrices, (B, r, 2K) (B, 2K, s)
        coarse, fine = waves * self.coarse, waves * self.fine  # (B, K, r), (B, K, s)
        cosine, sine = coarse.cos(), coarse.sin()
        real, imaginary = real.unsqueeze(-1), imaginary.unsqueeze(-1)
        left = [real * cosine - imaginary * sine, real * sine + imaginary * cosine]
        right = [fine.cos(), fine.sin()]
        field = [
            torch.cat([left[0], -left[1]], 1).mT @ torch.cat(right, 1) - 1,
            torch.cat([left[1], left[0]], 1).mT @ torch.cat(right, 1),
        ]
        return torch.cat([part.flatten(1) for part in field], 1)


@recorded
class Leading(nn.Module):
    """The first ``out_features`` latents as they are: the head that makes each of them one parameter."""

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features

    def forward(self, z: Tensor) -> Tensor:
        return z[:, : self.out_features]
