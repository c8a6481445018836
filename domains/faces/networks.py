"""The networks of faces: what moves where, in the shape that this person's face has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sciencevae.networks import ConvolutionalEncoder
from sciencevae.spec import recorded
from sciencevae.vae.decoders.warp import warp

__all__ = ["Both", "PersonalFlow", "Still"]

#: share of the side, from each edge, over which a velocity falls to 0: what lies beyond the face stays
_EDGE = 0.08
#: what one unit of a knot's parameter moves, as a share of the side: so that a step of training is a good one
_REACH = 0.1


@recorded
class Both(nn.Module):
    """A face and the other one of the same person → vector: (B, 3·S²), (B, 3, S, S) → (B, out_features).

    A ``ConvolutionalEncoder`` sees at half the size the difference of the two, on its own scale, and the other one.
    """

    def __init__(self, size: int, out_features: int, channels: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.size, self.out_features = size, out_features
        shape = (6, size // 2, size // 2)
        self.encoder = ConvolutionalEncoder(shape, out_features, channels=channels, hidden=hidden)

    def forward(self, face: Tensor, condition: Tensor) -> Tensor:
        difference = face.unflatten(1, (3, self.size, self.size)) - condition
        return self.encoder(F.avg_pool2d(torch.cat([10 * difference, condition - 0.5], 1), 2))


@recorded
class Still(nn.Module):
    """The same ``count`` numbers whatever the latents, (B, D) → (B, count)."""

    values: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(count))

    def forward(self, z: Tensor) -> Tensor:
        return self.values.expand(len(z), -1)


@recorded
class PersonalFlow(nn.Module):
    """Velocities in the shape of a face: z (B, D), face (B, 3, S, S) → v (B, 2, S, S), landmarks (B, 2K).

    v(z, face)(r) = w(r) Σ_k z_k V_k(r − t(r)), linear in z without a constant: z = 0 changes nothing, −z undoes
    z, and a multiple of z is that multiple of the velocity. V_k are fields on a ``grid`` of knots over the mean
    face, w falls to 0 at the edges of the picture. t = Σ_m c_m(face) T_m is where this face's points lie beside
    the mean face's: a network reads the coefficients c from the face, and landmarks = mean + Σ_m c_m M_m teach it
    to: they alone, for the deformed picture, of many more numbers, would have it read whatever fits the training
    pairs.

    ``modes`` = 0: no shapes, t = 0. ``set_shapes`` gives the mean, M and T, which are not trained.
    attribute: the latent that ``smile`` is, (D,), set after training.
    """

    mean: Tensor
    shapes: Tensor
    fields: Tensor
    attribute: Tensor

    def __init__(
        self,
        latent: int,
        size: int,
        grid: int,
        modes: int,
        coordinates: int,
        channels: Sequence[int],
        hidden: int,
    ) -> None:
        super().__init__()
        self.size, self.grid, self.modes = size, grid, modes
        self.velocity = nn.Parameter(0.02 * torch.randn(latent, 2, grid, grid))
        self.register_buffer("attribute", torch.zeros(latent))
        self.register_buffer("mean", torch.zeros(coordinates))
        self.register_buffer("shapes", torch.zeros(modes, coordinates))
        self.register_buffer("fields", torch.zeros(modes, 2, grid, grid))
        if modes:
            shape = (1, size // 2, size // 2)
            self.reader = ConvolutionalEncoder(shape, modes, channels=channels, hidden=hidden)

    def set_shapes(self, mean: Tensor, shapes: Tensor, fields: Tensor) -> None:
        """The mean landmarks (2K,), how each mode moves them (M, 2K), and what lies between them (M, 2, G, G)."""
        for name, value in (("mean", mean), ("shapes", shapes), ("fields", fields)):
            getattr(self, name).copy_(value)

    def forward(self, z: Tensor, condition: Tensor) -> dict[str, Tensor]:
        velocity = self._fine(torch.einsum("bd,dcij->bcij", _REACH * self.size * z, self.velocity))
        if not self.modes:
            return {"face": self._window(velocity), "landmarks": self.mean.expand(len(z), -1)}
        coefficients = self.coefficients(condition)
        back = -self._fine(torch.einsum("bm,mcij->bcij", coefficients, self.fields))
        velocity = warp(velocity, back.detach().unsqueeze(0))[0]
        return {"face": self._window(velocity), "landmarks": self.mean + coefficients @ self.shapes}

    def coefficients(self, face: Tensor) -> Tensor:
        """c(face), (B, M), in units of their spread; whatever the light's strength and the skin's colour."""
        grey = F.avg_pool2d(face.mean(1, keepdim=True), 2)
        grey = grey - grey.mean((2, 3), keepdim=True)
        return self.reader(grey / (grey.square().mean((2, 3), keepdim=True).sqrt() + 0.05))

    def _fine(self, coarse: Tensor) -> Tensor:
        return F.interpolate(coarse, (self.size, self.size), mode="bicubic", align_corners=True)

    def _window(self, velocity: Tensor) -> Tensor:
        edge = torch.arange(self.size, dtype=velocity.dtype, device=velocity.device)
        inside = (torch.minimum(edge, self.size - 1 - edge) / (_EDGE * self.size)).clamp(max=1)
        inside = inside.square() * (3 - 2 * inside)
        return velocity * inside * inside[:, None]
