"""The networks and the loss in plain torch, for the programs that bring none of their own."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Plain", "decoder", "encoder"]


def perceptron(widths: list[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
    for i, o in pairwise(widths[1:]):
        layers += [nn.ReLU(), nn.Linear(i, o)]
    return nn.Sequential(*layers)


def encoder(problem: dict[str, Any]) -> nn.Sequential:
    """To mean and log variance; for convolutions the layers of our ``ConvolutionalEncoder``."""
    hidden, latent = problem["hidden"], problem["latent"]
    if "channels" not in problem:
        return perceptron([problem["x"], *hidden, 2 * latent])
    a, b = problem["channels"]
    return nn.Sequential(
        nn.Conv2d(1, a, 3, stride=2, padding=1), nn.SiLU(), nn.Conv2d(a, b, 3, stride=2, padding=1), nn.SiLU(),
        nn.Flatten(), nn.Linear(b * 7 * 7, *hidden), nn.SiLU(), nn.Linear(*hidden, 2 * latent),
    )  # fmt: skip


def decoder(problem: dict[str, Any]) -> nn.Sequential:
    """To means or logits; for convolutions the layers of our ``ConvolutionalDecoder``."""
    hidden, latent = problem["hidden"][::-1], problem["latent"]
    if "channels" not in problem:
        return perceptron([latent, *hidden, problem["x"]])
    a, b = problem["channels"]
    return nn.Sequential(
        nn.Linear(latent, *hidden), nn.SiLU(), nn.Linear(*hidden, b * 7 * 7), nn.Unflatten(1, (b, 7, 7)),
        nn.SiLU(), nn.Conv2d(b, 4 * a, 3, padding=1), nn.PixelShuffle(2),
        nn.SiLU(), nn.Conv2d(a, 4, 3, padding=1), nn.PixelShuffle(2),
    )  # fmt: skip


class Plain(nn.Module):
    """A VAE as one writes it by hand."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__()
        self.gaussian = problem["likelihood"] == "gaussian"
        self.encoder, self.decoder = encoder(problem), decoder(problem)

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
