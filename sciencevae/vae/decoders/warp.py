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

__all__ = ["Warp", "warp"]


@recorded
class Warp(Gaussian):
    """p(x | z, c) = N(x; source ∘ (id + u(z, c)), σ²), of which NaN entries of x are marginalised.

    The network gives the displacement u, (S·B, 2, H, W), in pixels: u[:, 0] along H (rows) and u[:, 1] along W
    (columns). ``context["source"]`` is the image (B, C, H, W) that is deformed, in the units of the (scaled) x:
    the expected x at pixel r is the source at r + u(r), interpolated between four pixels, and beyond the border
    that of the border. u = 0 is the identity, exactly. After VoxelMorph (Dalca et al. 2018, arXiv 1805.04605).

    scale, intrinsic, initial: as of ``Gaussian``, except "predicted". channels: C, for what is learned.
    """

    def __init__(
        self,
        network: nn.Module,
        scale: float | Literal["learned", "per-datum"] = 1.0,
        intrinsic: Literal["learned"] | None = None,
        channels: int | None = None,
        initial: float = 1.0,
        conditional: bool = False,
    ) -> None:
        if scale == "predicted":
            raise InputError("the network of a Warp gives a displacement: its scale can't be 'predicted' too")
        if channels is None and (scale == "learned" or intrinsic):
            raise InputError("a learned scale of a Warp needs channels=, the channels of the image")
        super().__init__(network, scale, intrinsic, channels, initial, conditional)
        self.outputs = 2

    def displacement(self, z: Tensor, context: Context | None = None) -> Tensor:
        """u(z, c) in pixels, (S, B, 2, H, W) for z (S, B, D)."""
        return self._displacement(self.blocks(z, context))

    @staticmethod
    def _displacement(blocks: Tensor) -> Tensor:
        if blocks.dim() != 6 or blocks.shape[3] != 1:
            found = (blocks.shape[0] * blocks.shape[3], *blocks.shape[4:])
            raise InputError(
                f"the network of a Warp gives (B, 2, H, W), a displacement; it gave (B, *{found})"
            )
        return blocks.squeeze(3).movedim(0, 2)

    def likelihood(self, blocks: Tensor, context: Context) -> td.Distribution:
        moved = warp(_source(context), self._displacement(blocks))
        return super().likelihood(moved.unsqueeze(0), context)

    def check(self, x: Tensor, context: Context) -> None:
        super().check(x, context)
        source = _source(context)
        if source.shape != x.shape:
            raise InputError(
                f"context['source'] has shape {tuple(source.shape)}, and x {tuple(x.shape)}: "
                "a Warp deforms a source image of the shape of x"
            )
        if not source.isfinite().all():
            raise InputError(
                "context['source'] holds NaN or infinities, which a deformation would carry into other pixels: "
                "fill them, or drop those rows"
            )


def _source(context: Context) -> Tensor:
    if "source" not in context:
        raise InputError(
            "a Warp deforms a source image, but the batch brings no context['source']: give it, (B, C, H, W) "
            "(as context['source.NAME'] for field NAME of a Joint decoder)"
        )
    return context["source"]


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
