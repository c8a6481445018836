"""The contract of an encoder, and how a network reads data with missing entries."""

from __future__ import annotations

import torch
import torch.distributions as td
from torch import Tensor, nn

from sciencevae.batch import Fields
from sciencevae.distributions.masked import observed_entries
from sciencevae.errors import InputError
from sciencevae.vae.context import Context, condition_of, full_precision

__all__ = ["Encoder", "network_call", "network_output"]


class Encoder(nn.Module):
    """Contract: ``forward(x, context)`` returns q(z | x, c) with batch shape (B,) and event shape (dim,).

    A posterior that has ``from_noise(ε)`` with ε ~ N(0, 1) of shape (S, B, dim) can be driven by given noise.
    """

    dim: int
    network: nn.Module
    #: what the network gives for each datum
    out_features: int
    missing: bool = False
    conditional: bool = False

    def forward(self, x: Fields, context: Context | None = None) -> td.Distribution:
        raise NotImplementedError


def network_call(encoder: Encoder, x: Fields, context: Context | None) -> Tensor:
    """What an encoder's network gives for x, with a mask of what is missing and the condition where it has them."""
    if encoder.missing:
        x = _with_mask(x)
    return full_precision(encoder.network(x, *condition_of("the encoder", context, encoder.conditional)))


def network_output(encoder: Encoder, x: Fields, context: Context | None) -> Tensor:
    """What an encoder's network gives, (B, out_features)."""
    out = network_call(encoder, x, context)
    if out.shape[-1] != encoder.out_features:
        raise InputError(
            f"the encoder's network gave {tuple(out.shape)}; expected (B, {encoder.out_features})"
        )
    return out


def _with_mask(x: Fields) -> Fields:
    if isinstance(x, Tensor):
        observed = observed_entries(x)
        return torch.cat([_filled(x, observed), observed.to(x.dtype)], dim=1)
    filled: dict[str, Tensor] = {}
    for name, field in x.items():
        observed = observed_entries(field)
        filled[name] = _filled(field, observed)
        filled[f"{name}.observed"] = observed
    return filled


def _filled(x: Tensor, observed: Tensor) -> Tensor:
    """x with 0 where nothing was observed, of the same kind: a network of integers gets integers."""
    return torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device))
