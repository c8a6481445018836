"""The networks of objects: what a picture shows, how the simulation shows it, and where it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciencevae.networks import Fields, Identity
from sciencevae.spec import recorded

from .scenes import REACH, SIZE
from .views import seen_through

__all__ = ["Aimed", "Pose", "Read", "Sight", "Twin"]

#: the concentration of a heading for one unit of the network
_CERTAIN = 10.0
#: cells along a side of the grid of latents
CELLS = SIZE // 8


def _layer(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation),
        nn.GroupNorm(4, outputs),
        nn.SiLU(),
    ]


def even(picture: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) whatever the exposure and the colour of the light: mean 0 in each colour, spread 1."""
    centred = picture - picture.mean((2, 3), keepdim=True)
    # of an even picture the spread is 0, at which the root has no gradient
    return centred / (centred.square().mean((1, 2, 3), keepdim=True).clamp(min=1e-12).sqrt() + 0.02)


@recorded
class Aimed(Fields):
    """A network of pictures, to which realistic ones are shown as the simulation's camera would have taken them.

    {picture: (B, 3, H, W), …}, condition (B, 1) → network(picture seen through 1 + condition · Δ). Where a real
    camera stands is not what a simulation believes; what that does to a plane is a homography, of which the eight
    numbers Δ are learnt with the rest.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__({"picture": network}, Identity())
        self.out_features = network.out_features
        self.off = nn.Parameter(torch.zeros(8))

    def forward(self, x: Mapping[str, Tensor], condition: Tensor | None = None) -> Tensor:
        assert condition is not None
        change = F.pad(self.off, (0, 1)).unflatten(0, (3, 3))
        through = torch.eye(3, dtype=change.dtype, device=change.device) + condition[:, :, None] * change
        return super().forward({"picture": seen_through(x["picture"], through)})


@recorded
class Sight(nn.Module):
    """Picture → mean and log variance of latents in each of 8 × 8 cells: (B, 3, 64, 64) → (B, 2 · latents · 64)."""

    def __init__(self, latents: int, channels: Sequence[int]) -> None:
        super().__init__()
        a, b, c = channels
        self.out_features = 2 * latents * CELLS**2
        self.convolutions = nn.Sequential(
            *_layer(3, a, 5, 2),
            *_layer(a, b, 3, 2),
            *_layer(b, b),
            *_layer(b, c, 3, 2),
            *_layer(c, c, dilation=2),
            *_layer(c, c, dilation=2),
            nn.Conv2d(c, 2 * latents, 1),
        )

    def forward(self, picture: Tensor) -> Tensor:
        return self.convolutions(even(picture)).flatten(1)


class _Image(nn.Module):
    """Grid (B, latents, 8, 8) → picture (B, 3, 32, 32), of which each cell draws its 4 × 4 pixels."""

    def __init__(self, latents: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_layer(latents, channels),
            *_layer(channels, channels),
            nn.Conv2d(channels, 3 * 4**2, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def forward(self, grid: Tensor) -> Tensor:
        return self.layers(grid)


class Points(nn.Module):
    """Picture → where its features are: (B, 3, H, W) → (B, 3C), the mean column and row of each and its height.

    The mean place of feature c is Σ_r r softmax(f_c / τ)(r), r from −1 to 1 (Levine et al. 2016, eq. 2).
    halvings: of the picture's size, one or two.
    """

    def __init__(self, channels: Sequence[int], halvings: int) -> None:
        super().__init__()
        a, b, c = channels
        self.out_features = 3 * c
        self.convolutions = nn.Sequential(
            *_layer(3, a, 5, 2), *_layer(a, b, 3, halvings), *_layer(b, c), *_layer(c, c)
        )
        self.sharpness = nn.Parameter(torch.ones(()))

    def forward(self, picture: Tensor) -> Tensor:
        features = self.convolutions(picture)
        weights = (features.flatten(2) * self.sharpness.exp()).softmax(-1).unflatten(2, features.shape[2:])
        places = torch.linspace(-1, 1, features.shape[-1], dtype=picture.dtype, device=picture.device)
        across, down = (weights.sum(2) * places).sum(-1), (weights.sum(3) * places).sum(-1)
        return torch.cat([across, down, features.amax((2, 3))], 1)


@recorded
class Read(nn.Module):
    """Picture → mean and log variance of features: (B, 3, H, W) → (B, 2 · features).

    A regressor has no use for the variance, and it starts small.
    """

    def __init__(self, features: int, points: Sequence[int], halvings: int) -> None:
        super().__init__()
        self.features, self.out_features = features, 2 * features
        self.points = Points(points, halvings)
        self.dense = nn.Linear(self.points.out_features, 2 * features)
        nn.init.constant_(self.dense.bias[features:], -8.0)

    def forward(self, picture: Tensor) -> Tensor:
        return self.dense(self.points(even(picture)))


@recorded
class Pose(nn.Module):
    """Features (B, D) → position (B, 4), location in millimetres and log scale, and heading (B, 3).

    Of the heading the network gives κ (cos μ, sin μ), so that where nothing is known yet, at κ = 0, there is a
    gradient towards what is. reach: positions lie within ± so many millimetres.
    """

    def __init__(self, features: int, hidden: int, reach: float = REACH) -> None:
        super().__init__()
        self.reach = reach
        self.layers = nn.Sequential(nn.SiLU(), nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, 6))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        place, spread, way = self.layers(features).split(2, 1)
        # a scale of 0.4 to 50 mm (of 45): no picture tells more, and no loss runs away
        scale = math.log(self.reach / REACH) + 1.5 + 2.5 * torch.tanh(spread / 5 + 0.6)
        position = torch.cat([self.reach * place, scale], 1)
        way = _CERTAIN * way
        certain = 0.5 * (way.square().sum(1, keepdim=True) + 1e-4).log()
        return {"position": position, "heading": torch.cat([way, certain], 1)}


@recorded
class Twin(nn.Module):
    """Latents → how the simulation shows the object, and its pose: (B, latents · 64) → mapping.

    twin (B, 3, 32, 32): the object alone. position (B, 4), heading (B, 3): as a regressor reads them from the twin.
    """

    def __init__(
        self,
        latents: int,
        channels: Sequence[int],
        features: int,
        points: Sequence[int],
        hidden: int,
        reach: float = REACH,
    ) -> None:
        super().__init__()
        self.latents, self.twin = latents, _Image(latents, channels[-1])
        self.read, self.pose = Read(features, points, halvings=1), Pose(features, hidden, reach)

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        twin = self.twin(z.unflatten(1, (self.latents, CELLS, CELLS)))
        return {"twin": twin, **self.pose(self.read(twin)[:, : self.read.features])}
