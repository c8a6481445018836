"""Gated recurrent units over token sequences, and the encoder made of them.

A sequence is integers (B, T), −1 behind its end. A step leaves out the rows that have ended, where that can be
known (not in a compiled graph, nor under ``vmap`` of the tokens): a batch costs its tokens, not B · T.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from sciencevae.errors import InputError
from sciencevae.spec import recorded

__all__ = ["GRUCell", "LSTMCell", "RecurrentEncoder", "check_length", "unrolled"]


def check_length(tokens: Tensor, length: int) -> None:
    """Raise InputError where tokens (B, T) are more than a network of sequences was built for."""
    if tokens.shape[1] > length:
        raise InputError(f"the sequences have {tokens.shape[1]} tokens; the network was built for {length}")


class GRUCell(nn.Module):
    """h' = (1 − u) ⊙ n + u ⊙ h with r, u = sigmoid(W x + V h), n = tanh(W x + r ⊙ V h); Cho et al. 2014.

    As torch's, which under ``vmap`` or in a compiled graph does not run; the products W x are given, so that
    those of a whole sequence are one.
    """

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.input, self.hidden = nn.Linear(in_features, 3 * width), nn.Linear(width, 3 * width)

    def forward(self, projected: Tensor, h: Tensor) -> Tensor:
        """projected = input(x), (B, 3W); h (B, W) → (B, W)."""
        of_x, of_h = projected.chunk(3, dim=-1), self.hidden(h).chunk(3, dim=-1)
        reset, update = (of_x[0] + of_h[0]).sigmoid(), (of_x[1] + of_h[1]).sigmoid()
        new = (of_x[2] + reset * of_h[2]).tanh()
        return new + update * (h - new)


class LSTMCell(nn.Module):
    """c' = f ⊙ c + i ⊙ g, h' = o ⊙ tanh c' with i, f, o = sigmoid(W x + V h), g = tanh(W x + V h).

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000, open at first (its bias 1). As torch's,
    which under ``vmap`` or in a compiled graph does not run.
    """

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.input, self.hidden = nn.Linear(in_features, 4 * width), nn.Linear(width, 4 * width)
        with torch.no_grad():
            self.input.bias[width : 2 * width] += 1

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, E), h and c (B, W) → the next h and c."""
        enter, keep, new, out = (self.input(x) + self.hidden(h)).chunk(4, dim=-1)
        c = keep.sigmoid() * c + enter.sigmoid() * new.tanh()
        return out.sigmoid() * c.tanh(), c


def unrolled(
    cell: GRUCell, x: Tensor, h: Tensor, observed: Tensor, added: Tensor | None = None, backward: bool = False
) -> tuple[Tensor, Tensor]:
    """The states at each place (B, T, W) and the last ones (B, W), of inputs x (B, T, E) from the first ones h.

    observed: (B, T) booleans, False behind the end of a row, where its state stays or is zeros. added: joined to
    each product W x of a row, (B, 3W). backward: from the last place to the first.
    """
    order = _by_length(observed)
    if order is not None:
        return _packed(cell, x, h, *order, added, backward)
    projected = cell.input(x) if added is None else cell.input(x) + added.unsqueeze(1)
    states = []
    places = range(x.shape[1])
    for place in reversed(places) if backward else places:
        h = torch.where(observed[:, place, None], cell(projected[:, place], h), h)
        states.append(h)
    return torch.stack(states[::-1] if backward else states, dim=1), h


def _by_length(observed: Tensor) -> tuple[Tensor, Tensor] | None:
    """The rows, the longest first, and their lengths; None where values cannot be looked at, or there are none."""
    if torch.compiler.is_compiling() or not len(observed):
        return None
    places = torch.arange(1, observed.shape[1] + 1, device=observed.device)
    lengths, order = torch.where(observed, places, 0).amax(1).sort(descending=True, stable=True)
    try:
        int(lengths[0])
    except RuntimeError:  # the tokens differ from member to member of vmap
        return None
    return order, lengths


def _packed(
    cell: GRUCell,
    x: Tensor,
    h: Tensor,
    order: Tensor,
    lengths: Tensor,
    added: Tensor | None,
    backward: bool,
) -> tuple[Tensor, Tensor]:
    """``unrolled`` by steps that hold only the rows that go on, which are the first ones in ``order``."""
    rows, places = x.shape[:2]
    step = torch.arange(max(1, int(lengths[0])), device=order.device)[:, None]
    alive = step < lengths  # (S, B)
    index = (order * places + (lengths - 1 - step if backward else step))[alive]
    projected = cell.input(x.flatten(0, 1)[index])  # (N, 3W)
    h, states, ended = h[order], [], []
    if added is not None:
        added = added[order]
    for of_step in projected.split(alive.sum(1).tolist()):
        rows_left = len(of_step)
        ended.append(h[rows_left:])
        h = cell(of_step if added is None else of_step + added[:rows_left], h[:rows_left])
        states.append(h)
    last = torch.cat([h, *reversed(ended)])[order.argsort()]
    found = torch.cat(states)
    scattered = found.new_zeros(rows * places, found.shape[1]).index_copy(0, index, found)
    return scattered.unflatten(0, (rows, places)), last


@recorded
class RecurrentEncoder(nn.Module):
    """Gated recurrent units over tokens in both directions: (B, T) → (B, out_features).

    The last states of both directions of the last layer, joined, through a linear layer. vocabulary: tokens are
    0 … vocabulary − 1, −1 behind the end. length: the longest T; width: of a direction's state; embedding: of a
    token's vector; condition_features: of a condition (B, c) joined to the states. sums: joined to them, too, are
    the states summed over the tokens, through √length: what adds up along a sequence, as a molecule's logP does,
    is a linear map away, and each token a step away from the gradient.

    Compiled by compile=True alone: a graph of all steps takes minutes to make and computes to the longest T.

    >>> RecurrentEncoder(20, 12, 8)(torch.zeros(5, 12).long()).shape
    torch.Size([5, 8])
    """

    unrolls = True

    def __init__(
        self,
        vocabulary: int,
        length: int,
        out_features: int,
        width: int = 128,
        embedding: int = 32,
        layers: int = 1,
        condition_features: int = 0,
        sums: bool = False,
    ) -> None:
        super().__init__()
        if vocabulary < 2 or length < 1 or layers < 1:
            raise InputError(
                f"an encoder of sequences needs vocabulary ≥ 2, length ≥ 1 and layers ≥ 1, not {vocabulary}, "
                f"{length} and {layers}"
            )
        self.vocabulary, self.length, self.width, self.sums = vocabulary, length, width, sums
        self.tokens = nn.Embedding(vocabulary, embedding)
        self.cells: Any = nn.ModuleList(
            nn.ModuleList(GRUCell(2 * width if layer else embedding, width) for _ in range(2))
            for layer in range(layers)
        )
        self.head = nn.Linear(2 * width * (2 if sums else 1) + condition_features, out_features)

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        check_length(tokens, self.length)
        observed = tokens >= 0
        x = self.tokens(tokens.clamp(min=0))  # (B, T, E)
        h = x.new_zeros(len(x), self.width)
        for forth, back in self.cells:
            there, last = unrolled(forth, x, h, observed)
            here, first = unrolled(back, x, h, observed, backward=True)
            x = torch.cat([there, here], dim=-1)
        joined = [last, first]
        if self.sums:
            joined.append(torch.where(observed[..., None], x, 0).sum(1) / math.sqrt(self.length))
        if condition is not None:
            joined.append(condition)
        return self.head(torch.cat(joined, dim=-1))
