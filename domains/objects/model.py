"""The three distributions of objects, and what they are trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from sciencevae.batch import Batch
from sciencevae.networks import Fields, Identity
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Discrepancy, Objective, TwoDomains

from .networks import CELLS, Pose, Read, Sight, Twin
from .settings import Objects

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.data.augment import Augmentation
    from sciencevae.data.batches import Batches
    from sciencevae.training.history import History

__all__ = ["augment", "build", "objective", "refit"]

#: how many features a regressor reads a pose from
_FEATURES = 96
_ROWS = 256


def build(settings: Objects, data: xr.Dataset) -> VAE:
    """q(z | picture), z ~ N(0, 1), twin ~ N(…, σ²), position ~ N(…, …), heading ~ von Mises(…, …)."""
    chosen = settings.model
    if chosen.kind == "regress":
        return _regressor(Read(_FEATURES, chosen.points, 2), Pose(_FEATURES, chosen.hidden), "picture")
    dim = chosen.latents * CELLS**2
    sight = Sight(chosen.latents, chosen.channels)
    trunk = Twin(chosen.latents, chosen.channels, _FEATURES, chosen.points, chosen.hidden)
    described = {"twin": decoders.Gaussian(Identity(), scale=chosen.scale), **_pose()}
    encoder = encoders.Gaussian(Fields({"picture": sight}, Identity()), dim)
    return VAE(priors.StandardNormal(dim), encoder, decoders.Joint(described, trunk, seen=["picture"]))


def _regressor(read: Read, pose: Pose, field: str) -> VAE:
    """What reads the pose from a field and describes nothing else."""
    encoder = encoders.Gaussian(Fields({field: read}, Identity()), read.features)
    return VAE(priors.StandardNormal(read.features), encoder, decoders.Joint(_pose(), pose, seen=[field]))


def _pose() -> dict[str, Any]:
    return {
        "position": decoders.Gaussian(Identity(), scale="predicted"),
        "heading": decoders.VonMises(Identity()),
    }


def objective(settings: Objects, data: xr.Dataset | None) -> Objective:
    """−ELBO over simulated and over realistic pictures, and how far apart their latents lie."""
    chosen = settings.objective
    apart = {"discrepancy": Discrepancy("realistic", chosen.alignment)} if chosen.alignment else None
    beta = chosen.beta if settings.model.kind == "translate" else 0.0
    return TwoDomains(ELBO(beta=beta, extra=apart), "realistic", weights=(1.0, chosen.realistic))


def augment(settings: Objects) -> Augmentation:
    """Simulated pictures mirrored, with their pose, and all in other light.

    The simulation's camera stands in the plane x = 0, and each object is its own mirror image: what is seen in a
    mirror is the object at −x with the heading π − h. A real camera may stand beside it, and that is to be learnt.
    """

    def seen(batch: Batch, generator: torch.Generator) -> Batch:
        assert isinstance(batch.x, dict)
        x, rows = dict(batch.x), len(batch)
        mirrored = (torch.rand(rows, generator=generator) < 0.5) & (batch.context["realistic"] == 0)
        for name in {"picture", "twin"} & set(x):
            x[name] = torch.where(mirrored[:, None, None, None], x[name].flip(-1), x[name])
        x["position"] = x["position"] * torch.stack([1.0 - 2.0 * mirrored, torch.ones(rows)], 1)
        turned = torch.remainder(2 * math.pi - x["heading"], 2 * math.pi) - math.pi
        x["heading"] = torch.where(mirrored[:, None], turned, x["heading"])
        light = 1 + 0.15 * torch.randn(rows, 3, 1, 1, generator=generator)
        glow = 0.08 * torch.randn(rows, 3, 1, 1, generator=generator)
        x["picture"] = (light * x["picture"] + glow).clamp(0, 1)
        return replace(batch, x=x)

    return seen


def refit(settings: Objects, model: VAE, train: Batches, valid: Batches) -> History | None:
    """The regressor goes on, with twins that the model makes of simulated pictures; or, to compare, by few labels.

    Of a model that translates it reads twins of the simulation alone. A regressor is tuned on the labelled
    realistic pictures where ``refit.tune`` says so.
    """
    from sciencevae.data.augment import Augmented
    from sciencevae.data.batches import InMemory
    from sciencevae.training.loop import fit

    chosen = settings.refit.training.model_copy(update={"seed": settings.seed})
    trunk = model.decoder.network
    if isinstance(trunk, Twin):
        read = _regressor(trunk.read, trunk.pose, "twin")
        seen, unseen = (InMemory(_twins(model, trunk, batches)) for batches in (train, valid))
        return fit(read, seen, ELBO(beta=0.0), unseen, chosen)
    if not settings.refit.tune:
        return None
    labelled = InMemory(_joined(block[_labelled(block)] for block in train.blocks(_ROWS)))
    chosen = chosen.model_copy(update={"batch_size": min(chosen.batch_size, len(labelled))})
    return fit(model, Augmented(labelled, augment(settings)), ELBO(beta=0.0), settings=chosen)


@torch.no_grad()
def _twins(model: VAE, trunk: Twin, batches: Batches) -> Batch:
    """Twins from a draw of the latents of simulated pictures, with their pose."""
    model.eval()
    found = []
    for block in batches.blocks(_ROWS):
        simulated = block[block.context["realistic"] == 0]
        if len(simulated):
            assert isinstance(simulated.x, dict)
            twin = trunk(model.encode(simulated.x).sample())["twin"]
            pose = {name: simulated.x[name] for name in ("position", "heading")}
            found.append(Batch({"twin": twin, **pose}))
    return _joined(found)


def _joined(blocks: Iterable[Batch]) -> Batch:
    named = [block.tensors() for block in blocks]
    return Batch.from_tensors({name: torch.cat([own[name] for own in named]) for name in named[0]})


def _labelled(block: Batch) -> torch.Tensor:
    assert isinstance(block.x, dict)
    return (block.context["realistic"] == 1) & ~block.x["position"].isnan().any(1)
