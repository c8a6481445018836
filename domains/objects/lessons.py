"""Pictures without labels teach: a model's own poses of them, where they do not depend on the view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.data.batches import Batches, InMemory
from sciencevae.vae.model import VAE

from .settings import Refit
from .simulate import twin_of
from .views import lit, moves, on_table, seen_through
from .world import World

__all__ = ["joined", "labelled", "lesson", "seen_poses"]

_ROWS = 256
#: how the rows of a lesson are divided
_BELIEVED, _LABELLED = 0.3, 0.06


@torch.no_grad()
def seen_poses(
    own: World, model: VAE, pictures: Tensor, condition: Tensor, views: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Positions (V, N, 2) in mm and headings (V, N, 2), as κ (cos, sin), of pictures (N, 3, H, W) in V views.

    And the twins of the first view, (N, 3, H/2, W/2), where the model has some. The first view is the picture
    itself; in the others all on the table is turned and shifted and the light another, and what is read is told as
    it lies in the picture itself.
    """
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    places, ways, twins = [], [], torch.zeros(len(pictures), 0)
    for view in range(views):
        turn, shift = moves(own, len(pictures), generator)
        seen = pictures
        if view:
            seen = lit(seen_through(pictures, on_table(own, turn, shift)), generator)
        else:
            turn, shift = 0 * turn, 0 * shift
        likelihood: Any = model.decode(model.encode({"picture": seen}, {"condition": condition}).mean)
        read = likelihood.fields
        c, s = turn.cos(), turn.sin()
        back = torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)], -2)  # (N, 2, 2)
        place, way = read["position"].base_dist.mean, read["heading"]
        places.append((back @ (place - shift)[..., None])[..., 0])
        towards = torch.cat([way.loc.cos(), way.loc.sin()], 1) * way.concentration
        ways.append((back @ towards[..., None])[..., 0])
        if not view and "twin" in read:
            twins = read["twin"].mean
    return torch.stack(places), torch.stack(ways), twins


def lesson(own: World, model: VAE, train: Batches, chosen: Refit, seed: int) -> Batches | None:
    """Rows to learn from: simulated, labelled, and unlabelled ones with the poses that the model gives them.

    Believed is the share ``refit.believed`` of poses that differ least between ``refit.views`` views of their
    picture. They teach what labelled pictures do: of a model of twins the twin at that pose, of the kind and the
    quarter turn that are nearest to the decoded one; of a regressor the pose. None where there are no pictures
    without labels, or nothing in them is believed.
    """
    random = np.random.default_rng(seed)
    blocks = list(train.blocks(_ROWS))
    unlabelled = [block[_unlabelled(block)] for block in blocks if _unlabelled(block).any()]
    if not unlabelled:
        return None
    rows = joined(unlabelled)
    assert isinstance(rows.x, dict)
    found = [
        seen_poses(
            own,
            model,
            rows.x["picture"][i : i + _ROWS],
            rows.context["condition"][i : i + _ROWS],
            chosen.views,
            seed,
        )
        for i in range(0, len(rows), _ROWS)
    ]
    places, ways, twins = (
        torch.cat(parts, -2 if parts[0].ndim == 3 else 0) for parts in zip(*found, strict=True)
    )
    position = places.median(0).values
    apart = (places - position).norm(dim=-1).median(0).values
    good = (apart <= apart.quantile(chosen.believed)) & (position.abs().amax(1) < own.reach)
    if not good.any():
        return None
    towards = ways.sum(0)
    rows, position = rows[good], position[good]
    heading = torch.atan2(towards[:, 1], towards[:, 0])[good]
    assert isinstance(rows.x, dict)
    if twins.shape[1]:
        told = [
            _twin(own, *pose)
            for pose in zip(position.numpy(), heading.numpy(), twins[good].numpy(), strict=True)
        ]
        x = {**rows.x, "twin": torch.from_numpy(np.stack(told)).to(rows.x["twin"])}
    else:
        # of a kind that is not known: for views, which leave alone what a twin shows
        told = [
            np.mean([twin_of(own, kind, place[0], place[1], turn) for kind in own.kinds], 0)
            for place, turn in zip(position.numpy(), heading.numpy(), strict=True)
        ]
        twin = torch.from_numpy(np.stack(told)).to(rows.x["twin"])
        x = {**rows.x, "position": position, "heading": heading[:, None], "twin": twin}
    believed = Batch(x, rows.context)
    simulated = joined(block[block.context["condition"][:, 0] == 0] for block in blocks)
    half = torch.from_numpy(random.permutation(len(simulated))[: len(simulated) // 2])
    parts = [simulated[half]]
    total = len(half) / (1 - _BELIEVED - _LABELLED)
    for more, share in ((believed, _BELIEVED), (labelled(blocks), _LABELLED)):
        if more is not None and len(more):
            parts.append(more[torch.from_numpy(random.permutation(round(share * total)) % len(more))])
    return InMemory(joined(parts))


def _twin(own: World, place: np.ndarray, heading: float, seen: np.ndarray) -> np.ndarray:
    """The twin at a pose that is nearest to the one that was decoded, among all kinds and quarter turns."""
    turns = heading + np.pi / 2 * np.arange(4)
    drawn = [twin_of(own, kind, place[0], place[1], turn) for kind in own.kinds for turn in turns]
    return min(drawn, key=lambda twin: float(np.square(twin - seen).sum()))


def joined(blocks: Iterable[Batch]) -> Batch:
    """Batches as one, each row with the weight 1."""
    named = [replace(block, weight=None).tensors() for block in blocks]
    return Batch.from_tensors({name: torch.cat([own[name] for own in named]) for name in named[0]})


def labelled(blocks: Iterable[Batch]) -> Batch | None:
    """The realistic rows of which something is told: a twin, or a pose; None where there are none."""
    found = [block[own] for block in blocks if (own := _realistic(block) & ~_untold(block)).any()]
    return joined(found) if found else None


def _unlabelled(block: Batch) -> Tensor:
    return _realistic(block) & _untold(block)


def _realistic(block: Batch) -> Tensor:
    return block.context["condition"][:, 0] == 1


def _untold(block: Batch) -> Tensor:
    assert isinstance(block.x, dict)
    return block.x["twin"].flatten(1).isnan().any(1) & block.x["position"].isnan().any(1)
