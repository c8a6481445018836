"""How parts read the named tensors a model is conditioned on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sciencevae.errors import InputError

__all__ = ["Context", "condition_of", "full_precision"]

Context = Mapping[str, Tensor]


def condition_of(part: str, context: Context | None, conditional: bool) -> tuple[Tensor, ...]:
    """The extra arguments of a part's network: ``(condition,)`` where it was declared, else ``()``."""
    if not conditional:
        return ()
    if context is None or "condition" not in context:
        raise InputError(
            f"{part} was built with conditional=True, but the batch brings no context['condition']: "
            "give Batch(x, context={'condition': …}), or build the part without conditional"
        )
    return (context["condition"],)


def full_precision(out: Tensor) -> Tensor:
    """What a network gives under autocast, as float32: densities are not computed in 8 bits."""
    return out.float() if out.dtype in (torch.bfloat16, torch.float16) else out
