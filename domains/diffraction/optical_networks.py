"""What a network of counts sees of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciencevae.spec import recorded

__all__ = ["Leading", "Stabilised"]


@recorded
class Stabilised(nn.Module):
    """Counts x (B, n, …) and behind them their mask → network((√(x + 3/8) − loc)/scale, mask [, condition]).

    The square root makes the noise of counts alike everywhere (Anscombe 1948). With ``shape`` each pattern is
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
class Leading(nn.Module):
    """The first ``out_features`` latents as they are: the head that makes each of them one parameter."""

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features

    def forward(self, z: Tensor) -> Tensor:
        return z[:, : self.out_features]
