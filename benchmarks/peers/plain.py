"""The networks and the loss in plain torch, for the programs that bring none of their own."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Plain", "perceptron"]


def perceptron(widths: list[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
    for i, o in pairwise(widths[1:]):
        layers += [nn.ReLU(), nn.Linear(i, o)]
    return nn.Sequential(*layers)


class Plain(nn.Module):
    """A VAE as one writes it by hand."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__()
        self.gaussian = problem["likelihood"] == "gaussian"
        hidden = problem["hidden"]
        self.encoder = perceptron([problem["x"], *hidden, 2 * problem["latent"]])
        self.decoder = perceptron([problem["latent"], *hidden[::-1], problem["x"]])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """loss, reconstruction, kl: means over the batch."""
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        y = self.decoder(z)
        if self.gaussian:
            reconstruction = 0.5 * F.mse_loss(y, x, reduction="sum") / len(x)
        else:
            reconstruction = F.binary_cross_entropy_with_logits(y, x, reduction="sum") / len(x)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum() / len(x)
        return reconstruction + kl, reconstruction, kl
