"""The networks of faces: what moves where, in the shape that this person's face has."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sciencevae.networks import ConvolutionalEncoder
from sciencevae.spec import recorded
from sciencevae.vae.decoders.warp import warp

__all__ = ["FEATURES", "Both", "PersonalFlow", "gradients"]

#: share of the side, from each edge, over which a velocity falls to 0: what lies beyond the face stays
_EDGE = 0.08
#: what one unit of a knot's parameter moves, as a share of the side: so that a step of training is a good one
_REACH = 0.1
#: of ``gradients``: side of the picture, side of a cell, orientations
_SEEN_AT, _CELL, _TURNS = 64, 8, 8
#: how many numbers they are
FEATURES = _TURNS * (2 * _SEEN_AT // _CELL - 1) ** 2


@recorded
class Both(nn.Module):
    """A face and the other one of the same person → vector: (B, 3, S, S) each → (B, out_features).

    A ``ConvolutionalEncoder`` sees at half the size the difference of the two, on its own scale, and the other one.
    """

    def __init__(self, size: int, out_features: int, channels: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.out_features = out_features
        shape = (6, size // 2, size // 2)
        self.encoder = ConvolutionalEncoder(shape, out_features, channels=channels, hidden=hidden)

    def forward(self, face: Tensor, condition: Tensor) -> Tensor:
        difference = face - condition
        return self.encoder(F.avg_pool2d(torch.cat([10 * difference, condition - 0.5], 1), 2))


@recorded
class PersonalFlow(nn.Module):
    """Velocities in the shape of a face: z (B, D), face (B, 3, S, S) → v (B, 2, S, S), in pixels.

    v(z, face)(r) = w(r) Σ_k z_k V_k(r − t(r)), linear in z without a constant: z = 0 changes nothing, −z undoes
    z, and a multiple of z is that multiple of the velocity. V_k are fields on a ``grid`` of knots over the mean
    face, w falls to 0 at the edges of the picture. t = Σ_m c_m(face) T_m is where this face's points lie beside
    the mean face's, c linear in the picture's ``gradients``.

    ``modes`` = 0: no shapes, t = 0. ``set_shapes`` gives mean, M, T and c, which are not trained: taught by the
    deformed pictures, of many more numbers than landmarks have, c would be whatever fits the training pairs.
    attribute: the latent that ``smile`` is, (D,), set after training.
    """

    mean: Tensor
    shapes: Tensor
    fields: Tensor
    reader: Tensor
    attribute: Tensor

    def __init__(self, latent: int, size: int, grid: int, modes: int, coordinates: int) -> None:
        super().__init__()
        self.size, self.grid, self.modes = size, grid, modes
        self.velocity = nn.Parameter(0.02 * torch.randn(latent, 2, grid, grid))
        self.register_buffer("attribute", torch.zeros(latent))
        self.register_buffer("mean", torch.zeros(coordinates))
        self.register_buffer("shapes", torch.zeros(modes, coordinates))
        self.register_buffer("fields", torch.zeros(modes, 2, grid, grid))
        self.register_buffer("reader", torch.zeros(modes, 1 + FEATURES))

    def set_shapes(self, mean: Tensor, shapes: Tensor, fields: Tensor, reader: Tensor) -> None:
        """Mean landmarks (2K,), how modes move them (M, 2K) and what lies between (M, 2, G, G), c (M, 1 + F)."""
        for name, value in (("mean", mean), ("shapes", shapes), ("fields", fields), ("reader", reader)):
            getattr(self, name).copy_(value)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        velocity = self._fine(torch.einsum("bd,dcij->bcij", _REACH * self.size * z, self.velocity))
        if self.modes:
            back = -self._fine(torch.einsum("bm,mcij->bcij", self.coefficients(condition), self.fields))
            velocity = warp(velocity, back.unsqueeze(0))[0]
        edge = torch.arange(self.size, dtype=velocity.dtype, device=velocity.device)
        inside = (torch.minimum(edge, self.size - 1 - edge) / (_EDGE * self.size)).clamp(max=1)
        inside = inside.square() * (3 - 2 * inside)
        return velocity * inside * inside[:, None]

    def smile(self, faces: Tensor) -> Tensor:
        """The velocity of the attribute, (B, 2, S, S), that a face in a mirror gives mirrored.

        ½ (v(a, face) + R v(a, R face)), R the mirror: smiles of people may be lopsided, the usual one is not.
        """
        z = self.attribute.expand(len(faces), -1)
        mirrored = self(z, faces.flip(-1)).flip(-1) * faces.new_tensor([1.0, -1.0])[:, None, None]
        return 0.5 * (self(z, faces) + mirrored)

    def coefficients(self, face: Tensor) -> Tensor:
        """c(face), (B, M), in units of their spread; whatever the light's strength and the skin's colour."""
        return self.reader[:, 0] + gradients(face) @ self.reader[:, 1:].T

    def landmarks(self, face: Tensor) -> Tensor:
        """Where the points of faces are read to be, (B, 2K), row and column in turn."""
        return self.mean + self.coefficients(face) @ self.shapes

    def _fine(self, coarse: Tensor) -> Tensor:
        return F.interpolate(coarse, (self.size, self.size), mode="bicubic", align_corners=True)


def gradients(faces: Tensor) -> Tensor:
    """How strong edges of each orientation are at each place, (B, 3, S, S) → (B, FEATURES), about 1 each.

    Histograms of oriented gradients (Dalal & Triggs 2005): cos⁴ of the angle between the brightness's gradient and
    each orientation, times its size, in overlapping cells, relative to what is around.
    """
    grey = F.adaptive_avg_pool2d(faces.mean(1, keepdim=True), _SEEN_AT)
    down = F.pad(grey[..., 2:, :] - grey[..., :-2, :], (0, 0, 1, 1))
    right = F.pad(grey[..., 2:] - grey[..., :-2], (1, 1))
    turns = 2 * math.pi / _TURNS * torch.arange(_TURNS, device=faces.device)[:, None, None]
    size = (down.square() + right.square() + 1e-8).sqrt()
    along = (right * turns.cos() + down * turns.sin()) / size
    cells = F.avg_pool2d(size * along.clamp(min=0) ** 4, _CELL, _CELL // 2)  # (B, turns, cells, cells)
    around = F.pad(cells.square().sum(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    return (cells / (F.avg_pool2d(around, 3, 1) + 1e-4).sqrt()).flatten(1)
