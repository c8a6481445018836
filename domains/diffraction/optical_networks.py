"""What a network sees of counts, and gives of light."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciencevae.spec import recorded

__all__ = ["Intensity", "Leading", "Stabilised"]


_DARK = 1e-4  # of the mean rate, so that a logarithm is finite


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

    Note 1. Fields are smooth where intensities have narrow minima, whose logarithm a network follows badly: of two
    slits, the same network giving the logarithm itself was left with {LEFT}.
    """

    def __init__(self, network: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.network, self.scale = network, scale
        self.out_features = network.out_features // 2

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        field = self.network(z) if condition is None else self.network(z, condition)
        real, imaginary = field.chunk(2, dim=1)
        # an untrained network gives an even pattern
        return (self.scale * ((1 + real).square() + imaginary.square() + _DARK)).log()


@recorded
class Leading(nn.Module):
    """The first ``out_features`` latents as they are: the head that makes each of them one parameter."""

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features

    def forward(self, z: Tensor) -> Tensor:
        return z[:, : self.out_features]
