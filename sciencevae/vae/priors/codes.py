"""Priors p(z | c) over codes: integers 0 … K−1 at the places of a sequence (T,) or a grid (h, w)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor, nn

from sciencevae.distributions.sequence import Sequence as InOrder
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context, condition_of, full_precision
from sciencevae.vae.evaluating import evaluating
from sciencevae.vae.priors.normal import Prior

__all__ = ["Autoregressive", "CodePrior", "UniformCodes"]

#: places at which a network is tried for whether it looks ahead
PLACES_TRIED = 64


class CodePrior(Prior):
    """Contract: ``forward(context)`` returns p(z | c) over integer codes, event shape ``shape``.

    Its batch shape is () or (B,); ``log_prob`` takes codes (S, B, *shape).
    """

    codes: int
    shape: tuple[int, ...]

    def __init__(self, codes: int, shape: Sequence[int]) -> None:
        super().__init__()
        if codes < 2 or any(length < 1 for length in shape):
            raise InputError(
                f"codes ≥ 2 at the places of a grid (T,) or (h, w), not {codes} at {tuple(shape)}"
            )
        self.codes, self.shape = codes, tuple(shape)

    def check(self, codes: Tensor, context: Context | None = None) -> None:
        """Raise InputError where the prior is not fit for codes (B, *shape)."""


@recorded
class UniformCodes(CodePrior):
    """p(z) = K^−n for each of the K^n grids of n codes: log p(z) = −n log K, the prior of VQ training.

    >>> UniformCodes(8, (2, 3))().log_prob(torch.zeros(5, 2, 3, dtype=torch.long)).shape
    torch.Size([5])
    """

    zero: Tensor

    def __init__(self, codes: int, shape: Sequence[int]) -> None:
        super().__init__(codes, shape)
        self.register_buffer(
            "zero", torch.zeros(()), persistent=False
        )  # where densities are, and how precise

    def forward(self, context: Context | None = None) -> _Uniform:
        return _Uniform(self.codes, self.shape, self.zero)


class _Uniform(td.Distribution):
    arg_constraints = {}  # noqa: RUF012  (torch's own interface)

    def __init__(self, codes: int, shape: tuple[int, ...], zero: Tensor) -> None:
        self.codes, self.zero = codes, zero
        super().__init__(torch.Size(), torch.Size(shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        places = math.prod(self.event_shape)
        inside = (
            ((value >= 0) & (value < self.codes)).reshape(*_batch(value, self.event_shape), places).all(-1)
        )
        return torch.where(inside, self.zero - places * math.log(self.codes), -math.inf)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return torch.randint(self.codes, (*sample_shape, *self.event_shape), device=self.zero.device)


@recorded
class Autoregressive(CodePrior):
    """p(z | c) = Π_i p(z_i | z_1 … z_{i−1}, c), the places in the order of rows, each a Categorical.

    network: codes (B, *shape) [, condition] → logits (B, *shape, codes), those of place i from the places before
    it alone (``check`` tries it). Has it ``start`` and ``step`` (networks.autoregressive), sampling goes with them
    from place to place; otherwise it takes one call of the whole network for each.
    van den Oord, Kalchbrenner & Kavukcuoglu 2016 (PixelCNN); as a prior of codes: van den Oord et al. 2017, §3.3.
    """

    def __init__(
        self, network: nn.Module, codes: int, shape: Sequence[int], conditional: bool = False
    ) -> None:
        super().__init__(codes, shape)
        if not self.shape:
            raise InputError("an autoregressive prior goes from place to place: give a shape (T,) or (h, w)")
        self.network, self.conditional = network, conditional

    def forward(self, context: Context | None = None) -> _Ordered:
        return _Ordered(self, condition_of("the prior", context, self.conditional))

    def logits(self, codes: Tensor, condition: tuple[Tensor, ...] = ()) -> Tensor:
        """The network's answer to codes (N, *shape), (N, *shape, K); InputError where it has another shape."""
        out = full_precision(self.network(codes, *condition))
        if out.shape != (wanted := (*codes.shape, self.codes)):
            raise InputError(
                f"the prior's network gave {tuple(out.shape)} for codes {tuple(codes.shape)}; expected {wanted}, "
                "the logits of each code at each place"
            )
        return out

    def check(self, codes: Tensor, context: Context | None = None) -> None:
        """Raise InputError where the logits of a place depend on itself or on later ones."""
        places = math.prod(self.shape)
        tried = torch.linspace(0, places - 1, min(places, PLACES_TRIED)).round().long().to(codes.device)
        one = codes[:1].expand(len(tried), *self.shape)
        later = torch.arange(places, device=codes.device).reshape(self.shape) >= _column(tried, self.shape)
        other = torch.where(later, (one + 1) % self.codes, one)
        condition = condition_of("the prior", context, self.conditional)
        condition = tuple(c[:1].expand(len(tried), *c.shape[1:]) for c in condition)
        with evaluating(self):
            before, after = (self.logits(z, condition).flatten(1, -2) for z in (one, other))
        known = torch.arange(places, device=codes.device) <= tried.unsqueeze(-1)
        if not torch.allclose(before[known], after[known], rtol=1e-4, atol=1e-4):
            raise InputError(
                "the prior's network looks ahead: its logits of a place change with the code at that place or at a "
                "later one, so it gives no density; take a causal network (masked, or shifted by one place)"
            )


class _Ordered(td.Distribution):
    """The distribution of one ``Autoregressive`` under one condition; batch shape (), or (B,) with a condition."""

    arg_constraints = {}  # noqa: RUF012  (torch's own interface)

    def __init__(self, prior: Autoregressive, condition: tuple[Tensor, ...]) -> None:
        self.prior, self.condition = prior, condition
        batch = torch.Size([len(c) for c in condition])
        super().__init__(batch, torch.Size(prior.shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        batch = _batch(value, self.event_shape)
        flat = value.reshape(-1, *self.event_shape)
        logits = self.prior.logits(flat, self._repeated(batch))
        chosen = logits.log_softmax(-1).gather(-1, flat.unsqueeze(-1)).flatten(1)  # (N, n)
        return chosen.sum(-1).reshape(batch)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        condition = next(iter(self.condition), None)
        network = self.prior.network if hasattr(self.prior.network, "step") else _AsSequence(self.prior)
        places = math.prod(self.event_shape)
        draws = InOrder(network, self.batch_shape, places, condition=condition).sample(sample_shape)
        return draws.unflatten(-1, self.event_shape)

    def _repeated(self, batch: tuple[int, ...]) -> tuple[Tensor, ...]:
        """The condition for each of the values of a batch shape (…, B), flat."""
        return tuple(c.expand(*batch[:-1], *c.shape).reshape(-1, *c.shape[1:]) for c in self.condition)


class _AsSequence(nn.Module):
    """The network of whole grids as one of sequences, row by row: (N, T) → logits (N, T, K), T ≤ places."""

    def __init__(self, prior: Autoregressive) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, codes: Tensor, *condition: Tensor) -> Tensor:
        count = codes.shape[1]
        grids = F.pad(codes, (0, math.prod(self.prior.shape) - count)).unflatten(1, self.prior.shape)
        return self.prior.logits(grids, condition).flatten(1, -2)[:, :count]


def _batch(value: Tensor, event: Sequence[int]) -> tuple[int, ...]:
    return tuple(value.shape[: value.dim() - len(event)])


def _column(values: Tensor, shape: Sequence[int]) -> Tensor:
    """(N,) as (N, 1, …), to stand beside (N, *shape)."""
    return values.reshape(-1, *[1] * len(shape))
