"""The three distributions of objects, and what they are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sciencevae.batch import Batch
from sciencevae.networks import Fields, Identity
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Objective, TwoDomains

from .lessons import joined, labelled, lesson
from .networks import CELLS, Aimed, Pose, Read, Sight, Twin
from .settings import Objects
from .views import augment
from .world import world

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.data.batches import Batches
    from sciencevae.training.history import History

__all__ = ["build", "objective", "refit"]

#: how many features a regressor reads a pose from
_FEATURES = 96
_ROWS = 256


def build(settings: Objects, data: xr.Dataset) -> VAE:
    """q(z | picture), z ~ N(0, 1), twin ~ N(…, σ²), position ~ t_ν(…, …), heading ~ von Mises(…, …)."""
    chosen, reach = settings.model, world(settings.source.setup).reach
    if chosen.kind == "regress":
        read, pose = Read(_FEATURES, chosen.points, halvings=2), Pose(_FEATURES, chosen.hidden, reach)
        return _regressor(Aimed(read), pose, _pose(), conditional=True)
    dim = chosen.latents * CELLS**2
    sight = Aimed(Sight(chosen.latents, chosen.channels))
    trunk = Twin(chosen.latents, chosen.channels, _FEATURES, chosen.points, chosen.hidden, reach)
    described = {"twin": decoders.Gaussian(Identity(), scale=chosen.scale), **_pose()}
    encoder = encoders.Gaussian(sight, dim, conditional=True)
    return VAE(priors.StandardNormal(dim), encoder, decoders.Joint(described, trunk, seen=["picture"]))


def _regressor(
    network: nn.Module, pose: Pose, described: Mapping[str, decoders.Decoder], conditional: bool = False
) -> VAE:
    """What reads the pose from fields and describes nothing else."""
    encoder = encoders.Gaussian(network, _FEATURES, conditional=conditional)
    decoder = decoders.Joint(described, pose, seen=["picture", "twin"])
    return VAE(priors.StandardNormal(_FEATURES), encoder, decoder)


def _pose() -> dict[str, decoders.Decoder]:
    # most positions are off by millimetres, and some by a hand: where another thing is taken for the object
    return {
        "position": decoders.StudentT(Identity(), df="learned", features=2),
        "heading": decoders.VonMises(Identity()),
    }


def objective(settings: Objects, data: xr.Dataset | None) -> Objective:
    """−ELBO over simulated and over realistic pictures of which something is told."""
    chosen = settings.objective
    beta = chosen.beta if settings.model.kind == "translate" else 0.0
    return TwoDomains(ELBO(beta=beta), "condition", weights=(1.0, chosen.realistic))


def refit(settings: Objects, model: VAE, train: Batches, valid: Batches) -> History | None:
    """Rounds of lessons from pictures without labels; then the regressor goes on.

    Of a model that translates it reads twins that the model makes of the simulation alone. A regressor, to compare,
    is tuned on the labelled realistic pictures where ``refit.tune`` says so, before it has lessons.
    """
    from sciencevae.data.augment import Augmented
    from sciencevae.data.batches import InMemory
    from sciencevae.training.loop import fit

    chosen, seen = settings.refit, augment(settings)
    own = train.data if isinstance(train, Augmented) else train
    training = chosen.training.model_copy(update={"seed": settings.seed})
    trunk, history = model.decoder.network, None
    if isinstance(trunk, Pose) and chosen.tune and (told := labelled(own.blocks(_ROWS))) is not None:
        history = fit(
            model, Augmented(InMemory(told), seen), ELBO(beta=0.0), settings=training.for_rows(len(told))
        )
    for number in range(chosen.rounds):
        seed = settings.seed + number
        if (rows := lesson(world(settings.source.setup), model, own, chosen, seed)) is None:
            break
        again = chosen.lesson.model_copy(update={"seed": seed}).for_rows(len(rows))
        history = fit(model, Augmented(rows, seen), objective(settings, None), settings=again)
    if not isinstance(trunk, Twin):
        return history
    fields: Any = model.decoder.fields
    described = {name: fields[name] for name in _pose()}
    read = _regressor(Fields({"twin": trunk.read}, Identity()), trunk.pose, described)
    twins, others = (InMemory(_twins(model, trunk, batches)) for batches in (train, valid))
    return fit(read, twins, ELBO(beta=0.0), others, training.for_rows(len(twins)))


@torch.no_grad()
def _twins(model: VAE, trunk: Twin, batches: Batches) -> Batch:
    """Twins from a draw of the latents of simulated pictures, with their pose."""
    model.eval()
    found = []
    for block in batches.blocks(_ROWS):
        simulated = block[block.context["condition"][:, 0] == 0]
        if len(simulated):
            assert isinstance(simulated.x, dict)
            twin = trunk(model.encode(simulated.x, simulated.context).sample())["twin"]
            pose = {name: simulated.x[name] for name in ("position", "heading")}
            found.append(Batch({"twin": twin, **pose}))
    return joined(found)
