"""What new data are to be like: numbers that a model is told, or values that they are to have."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sciencevae.errors import InputError, did_you_mean
from sciencevae.latents.trained import Trained
from sciencevae.networks import Fields
from sciencevae.vae.decoders import Warp

__all__ = ["given_numbers", "joined", "sample_with"]

log = logging.getLogger(__name__)
#: data drawn for one that is wanted; rows that are decoded at once
_DRAWN, _ROWS = 4, 2000


@torch.no_grad()
def sample_with(trained: Trained, condition: Mapping[str, float], n: int, seed: int) -> Any:
    """n new data that have these values y, by their fields, scaled: z ~ p(z | y), x ~ p(x | z).

    What comes of a draw of the prior need not have what its latent promised. So where the encoder does not read y,
    four times as many x are drawn, and of them n kept in proportion to p(y | z = E[q(z | x)]), which is what the
    model says of the data themselves; then y is given as it is predicted there.
    """
    from sciencevae.latents.given import gumbel_keys, latents_given

    given_numbers(trained, None)  # what the model is to be told besides is refused
    model, known = trained.model, _known(trained, condition)
    network = getattr(model.encoder, "network", None)
    blind = isinstance(network, Fields) and not known.keys() & network.networks.keys()
    times = _DRAWN if blind else 1
    z = latents_given(model, known, times * n, seed, worth=20 / times).z
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if not blind:
            return model.decode(z).sample()
        blocks, log_p = [], []
        for part in z.split(_ROWS):
            x: Any = model.decode(part).sample()
            told: Any = model.decode(model.encode(x).mean)
            blocks.append(x | {name: told.fields[name].mean for name in known})
            log_p.append(told.log_prob(known))
        kept = gumbel_keys(torch.cat(log_p)).topk(n).indices.sort().values
    return {name: values[kept] for name, values in joined(blocks).items()}


def joined(blocks: Sequence[Any]) -> Any:
    """Data that were drawn block by block as one: a tensor, or named fields."""
    if isinstance(blocks[0], torch.Tensor):
        return torch.cat(list(blocks))
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def _known(trained: Trained, condition: Mapping[str, float]) -> dict[str, torch.Tensor]:
    """Values by the names on the axes of the model's fields, scaled, NaN where nothing is said of an entry."""
    axes = {name.lower(): place for name, place in _axes(trained).items()}
    found: dict[str, torch.Tensor] = {}
    for name, value in condition.items():
        if name.lower() not in axes:
            raise InputError(
                f"--condition: the model describes no {name!r}{did_you_mean(name.lower(), axes)}"
            )
        if not math.isfinite(value):
            raise InputError(f"--condition {name}={value}: give a finite number")
        field, place = axes[name.lower()]
        values = found.setdefault(field, torch.full(trained.template[field].shape[1:], torch.nan))
        values[place] = value
        ranges = trained.template.attrs.get("ranges", {}).get(field)
        if ranges and not ranges[place][0] <= value <= ranges[place][1]:
            log.warning(
                "%s=%g lies outside the training data, %g to %g: what comes is a guess",
                name,
                value,
                *ranges[place],
            )
    return {field: trained.scaling.apply(field, values[None])[0] for field, values in found.items()}


def _axes(trained: Trained) -> dict[str, tuple[str, int]]:
    """The names on the axes of the model's fields -> field and place."""
    return {
        str(label): (str(field), place)
        for field, values in trained.template.data_vars.items()
        for axis in values.dims[1:2]
        if axis in trained.template.coords
        for place, label in enumerate(values[axis].values.tolist())
    }


def given_numbers(trained: Trained, condition: Sequence[float] | None) -> dict[str, torch.Tensor]:
    """The condition (1, c), scaled, that new data are drawn given; InputError where the model wants another."""
    decoders = list(trained.model.decoder.modules())  # those of named fields, too
    for known, needed in (
        ("a known error", any(getattr(part, "scale", None) == "per-datum" for part in decoders)),
        ("a source image", any(isinstance(part, Warp) for part in decoders)),
    ):
        if needed:
            raise InputError(
                f"this model describes data of which each has {known}, and a new datum has none: 'sample' is not "
                "for it; decode latents of your own with 'decode'"
            )
    if not any(getattr(part, "conditional", False) for part in (trained.model.prior, *decoders)):
        if condition is not None:
            named = list(_axes(trained))
            known = f"; what it describes is asked for by name: {named[0]}=NUMBER" if named else ""
            raise InputError(f"this model is told no condition: leave --condition{known}")
        return {}
    fitted = trained.scaling.fields.get("condition")
    width = fitted.loc.size if fitted is not None else None
    if condition is None or (width is not None and len(condition) != width):
        found = "none" if condition is None else len(condition)
        raise InputError(
            f"this model is told {width or 'some'} number(s) to condition on, and {found} is given: "
            "give --condition VALUE[,VALUE…]"
        )
    given = torch.tensor([list(condition)], dtype=torch.float32)
    if not given.isfinite().all():
        raise InputError(f"--condition: finite numbers, not {', '.join(map(str, condition))}")
    return {"condition": trained.scaling.apply("condition", given)}
