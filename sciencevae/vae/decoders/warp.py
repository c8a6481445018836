"""The decoder of an image as a deformation of another."""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributions as td
from torch import Tensor, nn

from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.decoders.gaussian import Gaussian

__all__ = ["Warp", "compose", "exponential", "jacobian", "warp"]


@recorded
class Warp(Gaussian):
    """p(x | z, c) = N(x; source ∘ (id + u(z, c)), σ²), of which NaN entries of x are marginalised.

    The network gives the displacement u, (S·B, 2, H, W), in pixels: u[:, 0] along H (rows) and u[:, 1] along W
    (columns). ``context["source"]`` is the image (B, C, H, W) that is deformed, in the units of the (scaled) x:
    the expected x at pixel r is the source at r + u(r), interpolated between four pixels, and beyond the border
    that of the border. u = 0 is the identity, exactly. After VoxelMorph (Dalca et al. 2018, arXiv 1805.04605).

    squarings: K > 0: the network gives not u but a velocity v, and id + u = exp(v) is where its flow has come to at
    time 1, by K squarings. A smooth v then has no folds, ``amount`` a of it is exp(a·v), and exp(−v) undoes exp(v).
    source: the tensor of the context that is deformed; "condition" where the networks look at it, too.
    scale, intrinsic, initial: as of ``Gaussian``, except "predicted". channels: C, for what is learned.

    Its likelihoods know the ``velocity`` (the displacement itself, where there are no squarings), (S, B, 2, H, W).
    """

    def __init__(
        self,
        network: nn.Module,
        scale: float | Literal["learned", "per-datum"] = 1.0,
        intrinsic: Literal["learned"] | None = None,
        channels: int | None = None,
        initial: float = 1.0,
        conditional: bool = False,
        squarings: int = 0,
        source: str = "source",
    ) -> None:
        if scale == "predicted":
            raise InputError("the network of a Warp gives a displacement: its scale can't be 'predicted' too")
        if channels is None and (scale == "learned" or intrinsic):
            raise InputError("a learned scale of a Warp needs channels=, the channels of the image")
        if not 0 <= squarings <= 20:
            raise InputError(f"squarings is a number from 0 to 20 (5 to 8 as a rule), not {squarings}")
        super().__init__(network, scale, intrinsic, channels, initial, conditional)
        self.outputs, self.squarings, self.source = 2, squarings, source

    def velocity(self, z: Tensor, context: Context | None = None) -> Tensor:
        """What the network gives, v(z, c) or without squarings u(z, c), in pixels, (S, B, 2, H, W)."""
        return self._velocity(self.blocks(z, context))

    def displacement(self, z: Tensor, context: Context | None = None, amount: float | Tensor = 1.0) -> Tensor:
        """u(z, c) in pixels, (S, B, 2, H, W) for z (S, B, D), that of ``amount`` times the velocity."""
        return self._flowed(amount * self.velocity(z, context))

    def _flowed(self, velocity: Tensor) -> Tensor:
        return exponential(velocity, self.squarings) if self.squarings else velocity

    @staticmethod
    def _velocity(blocks: Tensor) -> Tensor:
        if blocks.dim() != 6 or blocks.shape[3] != 1:
            found = (blocks.shape[0] * blocks.shape[3], *blocks.shape[4:])
            raise InputError(
                f"the network of a Warp gives (B, 2, H, W), a displacement; it gave (B, *{found})"
            )
        return blocks.squeeze(3).movedim(0, 2)

    def likelihood(self, blocks: Tensor, context: Context) -> td.Distribution:
        velocity = self._velocity(blocks)
        moved = warp(self._source(context), self._flowed(velocity))
        found = super().likelihood(moved.unsqueeze(0), context)
        found.velocity = velocity  # type: ignore[attr-defined]
        return found

    def check(self, x: Tensor, context: Context) -> None:
        super().check(x, context)
        source = self._source(context)
        if source.shape != x.shape:
            raise InputError(
                f"context[{self.source!r}] has shape {tuple(source.shape)}, and x {tuple(x.shape)}: "
                "a Warp deforms a source image of the shape of x"
            )
        if not source.isfinite().all():
            raise InputError(
                f"context[{self.source!r}] holds NaN or infinities, which a deformation would carry into other "
                "pixels: fill them, or drop those rows"
            )

    def _source(self, context: Context) -> Tensor:
        if self.source not in context:
            raise InputError(
                f"a Warp deforms a source image, but the batch brings no context[{self.source!r}]: give it, "
                f"(B, C, H, W) (as context['{self.source}.NAME'] for field NAME of a Joint decoder)"
            )
        return context[self.source]


def warp(source: Tensor, displacement: Tensor) -> Tensor:
    """source (B, C, H, W) at r + u(r), u = displacement (S, B, 2, H, W) in pixels; (S, B, C, H, W).

    Bilinear, with the border's value beyond the border. torch's ``grid_sample`` gives the same up to rounding,
    by coordinates in [−1, 1], whose rounding makes the identity inexact.
    """
    draws, _, _, height, width = displacement.shape
    pixels = source.flatten(2).expand(draws, *source.shape[:2], -1)  # (S, B, C, H·W)

    def neighbours(axis: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        along = torch.arange(size, dtype=displacement.dtype, device=displacement.device)
        own = along.unsqueeze(-1) if axis == 0 else along
        position = (displacement[:, :, axis] + own).clamp(0, size - 1)  # (S, B, H, W)
        low = position.detach().floor()
        return low.long(), (low + 1).clamp(max=size - 1).long(), (position - low).unsqueeze(2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row * width + column).flatten(2).unsqueeze(2)  # (S, B, 1, H·W)
        return pixels.gather(3, index.expand(-1, -1, pixels.shape[2], -1)).unflatten(3, (height, width))

    top, bottom, down = neighbours(0, height)
    left, right, across = neighbours(1, width)
    upper = (1 - across) * at(top, left) + across * at(top, right)
    lower = (1 - across) * at(bottom, left) + across * at(bottom, right)
    return (1 - down) * upper + down * lower


def compose(first: Tensor, second: Tensor) -> Tensor:
    """The displacement of (id + second) ∘ (id + first): u(r) = first(r) + second(r + first(r)), (…, 2, H, W)."""
    fields, at = (u.reshape(-1, *u.shape[-3:]) for u in (second, first))
    return first + warp(fields, at.unsqueeze(0)).reshape(first.shape)


def exponential(velocity: Tensor, squarings: int) -> Tensor:
    """The displacement u (…, 2, H, W) with id + u = exp(v), where the flow ṙ = v(r) has come to at time 1.

    Scaling and squaring: exp(v) = exp(v / 2ᴷ) ^ 2ᴷ, the first factor being id + v / 2ᴷ (Arsigny et al. 2006,
    algorithm 2), K = ``squarings``.
    """
    u = velocity / 2**squarings
    for _ in range(squarings):
        u = compose(u, u)
    return u


def jacobian(displacement: Tensor) -> Tensor:
    """The least determinant of ∂(r + u)/∂r in each cell between four pixels, (…, H − 1, W − 1), u (…, 2, H, W).

    Between four pixels u is bilinear, so the determinant is linear there and least at one of the corners: where no
    number is ≤ 0 the deformation folds nowhere, at no pixel and between none.
    """
    down = displacement.diff(dim=-2)  # ∂u/∂row along the left and right edges, (…, 2, H−1, W)
    across = displacement.diff(dim=-1)  # ∂u/∂column along the upper and lower edges, (…, 2, H, W−1)
    corners = []
    for side in (slice(None, -1), slice(1, None)):
        for end in (slice(None, -1), slice(1, None)):
            d, a = down[..., :, :, side], across[..., :, end, :]
            corners.append((1 + d[..., 0, :, :]) * (1 + a[..., 1, :, :]) - d[..., 1, :, :] * a[..., 0, :, :])
    return torch.stack(corners).amin(0)
