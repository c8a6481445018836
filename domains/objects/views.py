"""How a picture may look otherwise: mirrored, moved on the table, on a printed table, in other light."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from sciencevae.batch import Batch

from .settings import Objects
from .world import World, world

if TYPE_CHECKING:
    from sciencevae.data.augment import Augmentation

__all__ = ["augment", "lit", "moves", "on_table", "seen_through", "wrapped"]

#: spreads by which all on a table is turned (radians), and shifted (mm, on the built-in one)
_TURN, _SHIFT = 0.15, 10.0
#: how much redder than blue an object is in its twin, in which the table is blue
_RED = 0.04
#: patches that are printed on a table, and their half sides as shares of half a picture's
_PATCHES, _SMALLEST, _LARGEST = 5, 0.06, 0.5
#: the share of the tables that are printed
_PRINTED = 0.6


def augment(settings: Objects) -> Augmentation:
    """Simulated pictures mirrored, realistic ones turned and shifted, with twin and pose, and all in other light.

    Where the simulation's camera stands in the plane x = 0, and each object is its own mirror image, what is seen
    in a mirror is the object at −x with the heading π − h. A real camera may stand beside it, and that is to be
    learnt. ``views.randomised``: patches of other colours are printed on most tables, and colours, contrast and
    noise vary.
    """

    own = world(settings.source.setup)

    def seen(batch: Batch, generator: torch.Generator) -> Batch:
        assert isinstance(batch.x, dict)
        x, rows = dict(batch.x), len(batch)
        realistic = batch.context["condition"].reshape(-1)
        mirrored = (torch.rand(rows, generator=generator) < 0.5) & (realistic == 0) & own.mirrored
        side = torch.where(mirrored, -1.0, 1.0)
        turn, shift = moves(own, rows, generator)
        turn, shift = realistic * turn, realistic[:, None] * shift
        mirror = torch.diag_embed(torch.stack([side, *torch.ones(2, rows)], 1))
        for name in ("picture", "twin"):
            x[name] = seen_through(x[name], on_table(own, turn, shift) @ mirror)
        c, s = turn.cos(), turn.sin()
        across, along = x["position"].unbind(1)
        moved = torch.stack([c * across - s * along, s * across + c * along], 1) + shift
        x["position"] = torch.stack([side * moved[:, 0], moved[:, 1]], 1)
        heading = x["heading"] + turn[:, None]
        x["heading"] = wrapped(torch.where(side[:, None] < 0, math.pi - heading, heading))
        if settings.views.randomised:
            x["picture"] = _coloured(_printed(x["picture"], x["twin"], generator), generator)
        x["picture"] = lit(x["picture"], generator)
        return replace(batch, x=x)

    return seen


def wrapped(angle: Tensor) -> Tensor:
    """Angles in [−π, π)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def moves(own: World, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turns (N,) in radians and shifts (N, 2) in millimetres of all that lies on a table."""
    turn = _TURN * torch.randn(rows, generator=generator)
    return turn, own.size * _SHIFT * torch.randn(rows, 2, generator=generator)


def on_table(own: World, turn: Tensor, shift: Tensor) -> Tensor:
    """What a picture is to be seen through, (N, 3, 3), so that what is at p on the table is at R(turn) p + shift.

    Of what stands on the table an approximation, for which turns and shifts stay small.
    """
    c, s, zero, one = turn.cos(), turn.sin(), torch.zeros_like(turn), torch.ones_like(turn)
    across, along = shift.unbind(-1)
    rows = [
        [c, s, -c * across - s * along],
        [-s, c, s * across - c * along],
        [zero, zero, one],
    ]
    before = torch.stack([torch.stack(row, -1) for row in rows], -2)
    picture = torch.from_numpy(own.camera.plane).to(turn)
    return picture @ before @ torch.linalg.inv(picture)


def seen_through(pictures: Tensor, homography: Tensor) -> Tensor:
    """Pictures (N, C, n, n) that show at u what was at H u, for the H (3, 3) or (N, 3, 3) of each; sides lie at ±1.

    Bilinear; beyond its edge a picture goes on as it ends. What is seen through an H with NaN is NaN.
    """
    size = pictures.shape[-1]
    places = (2 * torch.arange(size, dtype=pictures.dtype, device=pictures.device) + 1) / size - 1
    down, across = torch.meshgrid(places, places, indexing="ij")
    flat = torch.stack([across, down, torch.ones_like(down)]).flatten(1)
    seen = (homography.to(pictures.dtype) @ flat).expand(len(pictures), 3, size * size)
    grid = (seen[:, :2] / seen[:, 2:]).transpose(1, 2).unflatten(1, (size, size))
    # the gradient of grid_sample at a place that is NaN ends the process
    known = grid.isfinite().all(-1, keepdim=True)
    found = F.grid_sample(pictures, grid.where(known, 0.0), padding_mode="border", align_corners=False)
    return found.where(known.movedim(-1, 1), torch.nan)


def _printed(pictures: Tensor, twins: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures whose tables have patches of other colours; where the object is, as its twin shows, nothing changes.

    A patch multiplies what is seen, so that shadows stay. Pictures without a twin stay as they are.
    """
    chosen = torch.rand(len(pictures), generator=generator) < _PRINTED
    chosen &= ~twins.isnan().flatten(1).any(1)
    twins, rows, size = twins[chosen], int(chosen.sum()), pictures.shape[-1]
    shown = (twins[:, :1] - twins[:, 2:] > _RED).to(pictures.dtype)
    # wide enough for a camera that stands some millimetres elsewhere
    shown = F.max_pool2d(F.interpolate(shown, size=(size, size)), 5, 1, 2)
    shown = F.avg_pool2d(shown, 3, 1, 1)
    places = torch.linspace(-1, 1, size)
    colours = pictures.new_ones(rows, 3, size, size)

    def drawn(*shape: int) -> Tensor:
        return torch.rand(rows, *shape, 1, 1, generator=generator)

    for _ in range(_PATCHES):
        turn, place, side = math.pi * drawn(), 1.2 * (2 * drawn(2) - 1), drawn(2)
        across, down = places - place[:, 0], places[:, None] - place[:, 1]
        side = _SMALLEST + (_LARGEST - _SMALLEST) * side
        u = (turn.cos() * across + turn.sin() * down) / side[:, 0]
        v = (turn.cos() * down - turn.sin() * across) / side[:, 1]
        inside = torch.where(drawn() < 0.25, u.square() + v.square() < 1, (u.abs() < 1) & (v.abs() < 1))
        colour = (0.6 * torch.randn(rows, 3, 1, 1, generator=generator)).exp()
        colours = torch.where(inside[:, None], colour, colours)
    found = pictures.clone()
    found[chosen] *= shown + (1 - shown) * colours
    return found


def _coloured(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures with another contrast, with colours that are mixed, and with noise."""
    rows = len(pictures)
    contrast = (0.3 * torch.randn(rows, 1, 1, 1, generator=generator)).exp()
    mix = torch.eye(3) + 0.25 * torch.randn(rows, 3, 3, generator=generator)
    spread = 0.05 * torch.rand(rows, 1, 1, 1, generator=generator)
    mixed = torch.einsum("bij,bjhw->bihw", mix, pictures.clamp(min=1e-3) ** contrast)
    return mixed + spread * torch.randn(pictures.shape, generator=generator)


def lit(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures in a light that is brighter or darker in each colour, with some of it everywhere."""
    light = 1 + 0.15 * torch.randn(len(pictures), 3, 1, 1, generator=generator)
    glow = 0.08 * torch.randn(len(pictures), 3, 1, 1, generator=generator)
    return (light * pictures + glow).clamp(0, 1)
