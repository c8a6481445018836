"""Token sequences under an autoregressive network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor, nn

__all__ = ["Sequence"]

State = tuple[Tensor, ...]
#: the share of rows still going below which their states are moved together, so that ended ones cost nothing
_WORTH_MOVING = 0.8


class Sequence(td.Distribution):
    """p(x) = Π_t p(x_t | x_0 … x_{t−1}, c): integers (*batch_shape, length), −1 behind the stop token.

    network: ``network(tokens (N, T), condition (N, c)) -> logits (N, T, V)``, those at t seeing tokens before t
    only; called without a condition where there is none. Has it ``start`` and ``step`` (networks.autoregressive),
    sequences are drawn with them, otherwise by evaluating it for each token.
    stop: the token that ends a sequence; None: every sequence has ``length`` tokens.
    condition: (*batch_shape, c), or with more axes than c. unknown: (p, index): in ``log_prob`` each token is
    told to the network as ``index`` with probability p (token dropout).

    Missing tokens are −1 and marginalised, which an autoregressive likelihood can do at the end only: a
    trailing −1 contributes 0, as padding behind the stop token does. What stands elsewhere is not looked at here.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own interface)
    has_rsample = False

    def __init__(
        self,
        network: Callable[..., Tensor],
        batch_shape: tuple[int, ...],
        length: int,
        stop: int | None = None,
        condition: Tensor | None = None,
        unknown: tuple[float, int] | None = None,
    ) -> None:
        self.network, self.length, self.stop = network, length, stop
        self.condition, self.unknown = condition, unknown
        super().__init__(torch.Size(batch_shape), torch.Size((length,)), validate_args=False)

    @property
    def mean(self) -> Tensor:
        raise NotImplementedError("tokens have no mean: take .mode")

    @property
    def mode(self) -> Tensor:
        """The greedily decoded sequences, (*batch_shape, length): the likeliest token at each step.

        Decoded anew each time it is read. The likeliest sequence may be another: see ``beam``.
        """
        return self._decode(self.batch_shape, lambda logits: logits.argmax(-1))

    def log_prob(self, value: Tensor) -> Tensor:
        """value (..., T) with T ≤ length, its leading axes such that they broadcast with batch_shape."""
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        tokens = value.long().expand(*shape, value.shape[-1]).reshape(-1, value.shape[-1])  # (N, T)
        observed = tokens >= 0
        filled = tokens.clamp(min=0)
        told = tokens  # with −1 behind the end, where the network need not compute
        if self.unknown is not None:
            share, index = self.unknown
            hidden = observed & (torch.rand(filled.shape, device=filled.device) < share)
            told = torch.where(hidden, index, tokens)
        entries = _precise(self.network(told, *self._given(shape))).log_softmax(-1)
        entries = entries.gather(-1, filled.unsqueeze(-1)).squeeze(-1)  # (N, T)
        return torch.where(observed, entries, 0.0).sum(-1).reshape(shape)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        return self._decode(shape, lambda logits: torch.multinomial(_precise(logits).softmax(-1), 1)[:, 0])

    @torch.no_grad()
    def beam(self, width: int) -> tuple[Tensor, Tensor]:
        """The ``width`` likeliest sequences that a beam search finds, the best one first, of all rows at once.

        Returns the sequences (*batch_shape, width, length) and log p of each, (*batch_shape, width); −∞ where
        there are fewer sequences than ``width``. Width 1 is greedy; as wide as there are sequences, exact.
        """
        rows = math.prod(self.batch_shape)
        stepper, state = self._start(self.batch_shape, width)
        tokens = torch.full((rows * width, self.length), -1, device=self._device)
        # at the start all beams are the same one: only the first counts
        score = torch.full((rows, width), -math.inf, device=self._device)
        score[:, 0] = 0.0
        ended = torch.zeros(rows * width, dtype=torch.bool, device=self._device)
        offset = width * torch.arange(rows, device=self._device).unsqueeze(1)
        last = None
        for t in range(self.length):
            logits, state = stepper.step(last, state)
            following = _precise(logits).log_softmax(-1).unflatten(0, (rows, width))  # (rows, width, V)
            # a sequence that has ended goes on in one way, at no cost
            only = torch.full_like(following[0, 0], -math.inf)
            only[0] = 0.0
            following = torch.where(ended.view(rows, width, 1), only, following)
            score, best = (score.to(following.dtype).unsqueeze(-1) + following).flatten(1).topk(width)
            parent = (offset + best // following.shape[-1]).flatten()  # (rows · width,)
            tokens, ended, state = tokens[parent], ended[parent], tuple(s[parent] for s in state)
            last = (best % following.shape[-1]).flatten()
            tokens[:, t] = torch.where(ended, -1, last)
            if self.stop is not None:
                ended = ended | (last == self.stop)
        shape = (*self.batch_shape, width)
        return tokens.reshape(*shape, self.length), score.reshape(shape)

    @torch.no_grad()
    def _decode(self, shape: torch.Size, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Sequences (*shape, length), each token chosen from its logits (N, V)."""
        stepper, state = self._start(shape, 1)
        rows = math.prod(shape)
        tokens = torch.full((rows, self.length), -1, device=self._device)
        going = torch.arange(rows, device=self._device)  # the rows that are computed; of them ended:
        ended = torch.zeros(rows, dtype=torch.bool, device=self._device)
        last = None
        for t in range(self.length):
            logits, state = stepper.step(last, state)
            last = choose(logits)
            tokens[going, t] = torch.where(ended, -1, last)
            if self.stop is None:
                continue
            ended = ended | (last == self.stop)
            kept = (~ended).nonzero()[:, 0]
            if not len(kept):
                break
            if len(kept) < _WORTH_MOVING * len(going):
                going, ended, last = going[kept], ended[kept], last[kept]
                state = tuple(s[kept] for s in state)
        return tokens.reshape(*shape, self.length)

    def _start(self, shape: torch.Size, copies: int) -> tuple[Any, State]:
        """Who goes token by token, and its state before the first: ``copies`` rows for each of ``shape``."""
        stepper: Any = self.network if hasattr(self.network, "step") else _Anew(self.network, self._device)
        given = (c.repeat_interleave(copies, 0) for c in self._given(shape))
        return stepper, stepper.start(next(given, None), rows=math.prod(shape) * copies)

    def _given(self, shape: torch.Size) -> tuple[Tensor, ...]:
        """The condition for each of shape, flattened to rows."""
        if self.condition is None:
            return ()
        of_one = self.condition.shape[len(self.batch_shape) :]
        return (self.condition.expand(*shape, *of_one).reshape(-1, *of_one),)

    @property
    def _device(self) -> torch.device:
        if self.condition is not None:
            return self.condition.device
        parameters = self.network.parameters() if isinstance(self.network, nn.Module) else iter(())
        return next((p.device for p in parameters), torch.device("cpu"))


class _Anew:
    """``start`` and ``step`` for a network that has none: the state is all tokens so far, and the condition."""

    def __init__(self, network: Callable[..., Tensor], device: torch.device) -> None:
        self.network, self.device = network, device

    def start(self, condition: Tensor | None, rows: int) -> State:
        tokens = torch.zeros(rows, 0, dtype=torch.long, device=self.device)
        return (tokens,) if condition is None else (tokens, condition)

    def step(self, token: Tensor | None, state: State) -> tuple[Tensor, State]:
        tokens, *condition = state
        if token is not None:
            tokens = torch.cat([tokens, token.unsqueeze(1)], dim=1)
        # a place for the token asked for, which is not looked at
        padded = torch.nn.functional.pad(tokens, (0, 1))
        return self.network(padded, *condition)[:, -1], (tokens, *condition)


def _precise(logits: Tensor) -> Tensor:
    # under autocast they have 8 bits
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
