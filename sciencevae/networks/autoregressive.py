"""Networks of sequences whose output at position t depends on inputs at positions before t only.

One contract: ``network(tokens, condition)`` takes integers (B, T), T ≤ length, and gives logits
(B, T, vocabulary) of which those at t predict token t and see tokens 0 … t − 1 and the condition (B, c).
Beside the tokens 0 … vocabulary − 1 the input may hold ``vocabulary``, which stands for "not told" (token
dropout), and −1 behind the end of a row, where logits mean nothing: a network need not compute them. ``PixelCNN``
does the same on a grid in raster order, and ``Raster`` makes a sequence of it.

A network with a state can go token by token, which sampling then uses:

    state = network.start(condition)             # or network.start(None, rows=B)
    logits, state = network.step(None, state)    # (B, vocabulary), of the first token
    logits, state = network.step(token, state)   # (B, vocabulary), of the one behind ``token`` (B,)

The state is a tuple of tensors with rows along axis 0, so that a search can reorder it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciencevae.errors import InputError
from sciencevae.networks.recurrent import GRUCell, check_length, unrolled
from sciencevae.spec import recorded

__all__ = ["CausalTransformer", "PixelCNN", "Raster", "Recurrent", "State"]

State = tuple[Tensor, ...]


class _Tokens(nn.Embedding):
    """Vectors of the tokens that stand before each position, (B, T) → (B, T, width).

    Behind the ``vocabulary`` tokens: one "not told" and one that stands before the first.
    """

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        if vocabulary < 2 or length < 1:
            raise InputError(
                f"a network of sequences needs vocabulary ≥ 2 and length ≥ 1, not {vocabulary} and {length}"
            )
        super().__init__(vocabulary + 2, width)
        self.first, self.length = vocabulary + 1, length

    def forward(self, tokens: Tensor) -> Tensor:
        check_length(tokens, self.length)
        first = torch.full_like(tokens[:, :1], self.first)
        return super().forward(torch.cat([first, _told(tokens[:, :-1], self.first - 1)], dim=1))

    def behind(self, token: Tensor | None, rows: int) -> Tensor:
        """The vectors of one position, (B, width), before which ``token`` (B,) stands, or nothing."""
        if token is None:
            return self.weight[self.first].expand(rows, -1)
        return super().forward(_told(token, self.first - 1))


def _told(tokens: Tensor, unknown: int) -> Tensor:
    """Tokens with ``unknown`` in place of padding."""
    return torch.where(tokens < 0, unknown, tokens)


class _Block(nn.Module):
    """Pre-norm transformer block, x + A(norm x), then x + M(norm x): (B, T, W) → (B, T, W); Xiong et al. 2020."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_dense = nn.LayerNorm(width), nn.LayerNorm(width)
        # a bias of the keys would cancel in the softmax
        self.queries_values, self.keys = nn.Linear(width, 2 * width), nn.Linear(width, width, bias=False)
        self.merge = nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self._projected(x)
        return self._merged(x, F.scaled_dot_product_attention(query, key, value, is_causal=True))

    def step(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """One more position, (B, 1, W), behind those whose keys and values are ``past``; and both with its own."""
        query, *own = self._projected(x)
        seen = torch.cat([past, torch.stack(own, dim=1)], dim=3)  # (B, 2, heads, t + 1, W / heads)
        return self._merged(x, F.scaled_dot_product_attention(query, seen[:, 0], seen[:, 1])), seen

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, (B, heads, T, W / heads) each."""
        normed = self.before_attention(x)
        query, value = self.queries_values(normed).chunk(2, dim=-1)
        query, key, value = (
            p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (query, self.keys(normed), value)
        )
        return query, key, value

    def _merged(self, x: Tensor, seen: Tensor) -> Tensor:
        x = x + self.merge(seen.transpose(1, 2).flatten(2))
        return x + self.dense(self.before_dense(x))


@recorded
class CausalTransformer(nn.Module):
    """Causal self-attention over tokens: (B, T) and a condition (B, c) → logits (B, T, vocabulary).

    length: the longest T; width: of the vectors, split over ``heads``; the condition is added at every
    position. Has ``start`` and ``step``, which keep the keys and values of the positions so far. Under ``vmap``
    torch's fused attention goes member by member, and says so in a warning. Vaswani et al. 2017; pre-norm.

    >>> CausalTransformer(20, 12, condition_features=3)(torch.zeros(5, 12).long(), torch.zeros(5, 3)).shape
    torch.Size([5, 12, 20])
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        condition_features: int = 0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise InputError(f"width {width} does not divide into {heads} heads")
        if layers < 1:
            raise InputError(f"a transformer needs layers ≥ 1, not {layers}")
        self.vocabulary, self.length = vocabulary, length
        self.tokens = _Tokens(vocabulary, length, width)
        self.positions = nn.Parameter(torch.empty(length, width))
        # vectors of size 1 would drown what the blocks add to them; Radford et al. 2019
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.02)
        self.condition = nn.Linear(condition_features, width, bias=False) if condition_features else None
        self.blocks: Any = nn.Sequential(*(_Block(width, heads) for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, vocabulary))

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]  # (B, T, W)
        if self.condition is not None:
            x = x + self.condition(_given(condition)).unsqueeze(1)
        return self.head(self.blocks(x))

    def start(self, condition: Tensor | None = None, rows: int = 1) -> State:
        """The state before the first token: what the condition adds (B, W), and each block's keys and values."""
        if self.condition is None:
            added = self.positions.new_zeros(rows, self.positions.shape[1])
        else:
            added = self.condition(_given(condition))
        rows, width = added.shape
        return added, *(added.new_empty(rows, 2, b.heads, 0, width // b.heads) for b in self.blocks)

    def step(self, token: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Logits (B, vocabulary) of the token behind ``token`` (B,), or of the first one, and the next state."""
        added, *past = state
        x = self.tokens.behind(token, len(added)) + self.positions[past[0].shape[3]] + added
        x, seen = x.unsqueeze(1), []
        for block, of_block in zip(self.blocks, past, strict=True):
            x, with_it = block.step(x, of_block)
            seen.append(with_it)
        return self.head(x).squeeze(1), (added, *seen)


def _given(condition: Tensor | None) -> Tensor:
    if condition is None:
        raise InputError("the network was built with condition_features, and is called without a condition")
    return condition


@recorded
class Recurrent(nn.Module):
    """Gated recurrent units over tokens: (B, T) and a condition (B, c) → logits (B, T, vocabulary).

    length: the longest T; width: of each layer's state; embedding: of a token's vector. The condition sets the
    initial state and is joined to each input. Has ``start`` and ``step``. What stands behind the end of a row is
    not computed. Compiled by compile=True alone: a graph of all T steps takes minutes to make.

    >>> Recurrent(20, 12, condition_features=3)(torch.zeros(5, 12).long(), torch.zeros(5, 3)).shape
    torch.Size([5, 12, 20])
    """

    unrolls = True

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int = 128,
        embedding: int = 32,
        layers: int = 1,
        condition_features: int = 0,
    ) -> None:
        super().__init__()
        self.vocabulary, self.length = vocabulary, length
        self.width, self.layers = width, layers
        self.tokens = _Tokens(vocabulary, length, embedding)
        self.initial = nn.Linear(condition_features, layers * width) if condition_features else None
        # joined to the input: W [x, c] = W₁ x + W₂ c, the second of which is the same at each step
        self.condition = nn.Linear(condition_features, 3 * width, bias=False) if condition_features else None
        self.cells: Any = nn.ModuleList(
            GRUCell(width if layer else embedding, width) for layer in range(layers)
        )
        self.head = nn.Linear(width, vocabulary)

    def start(self, condition: Tensor | None = None, rows: int = 1) -> State:
        """The state before the first token: each layer's h (B, layers, W), and what the condition adds (B, 3W)."""
        if self.initial is None or self.condition is None:
            zeros = self.head.weight.new_zeros(rows, (self.layers + 3) * self.width)
            h, added = zeros.split([self.layers * self.width, 3 * self.width], dim=1)
        else:
            h, added = self.initial(_given(condition)).tanh(), self.condition(_given(condition))
        return h.unflatten(1, (self.layers, self.width)), added

    def step(self, token: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Logits (B, vocabulary) of the token behind ``token`` (B,), or of the first one, and the next state."""
        h, added = state
        x, following = self.tokens.behind(token, len(h)), []
        for layer, cell in enumerate(self.cells):
            projected = cell.input(x)
            x = cell(projected if layer else projected + added, h[:, layer])
            following.append(x)
        return self.head(x), (torch.stack(following, dim=1), added)

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        initial, added = self.start(condition, len(tokens))
        observed = tokens >= 0
        x = self.tokens(tokens)  # (B, T, E)
        for layer, cell in enumerate(self.cells):
            x, _ = unrolled(cell, x, initial[:, layer], observed, None if layer else added)  # (B, T, W)
        return self.head(x)


class _Above(nn.Conv2d):
    """A convolution that sees, of the rows above and its own, (reach + 1) × (2 reach + 1) entries."""

    def __init__(self, in_channels: int, out_channels: int, reach: int) -> None:
        super().__init__(in_channels, out_channels, (reach + 1, 2 * reach + 1))
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.reach, self.reach, self.reach, 0)))


class _Left(nn.Conv2d):
    """A convolution that sees reach + 1 entries of a row: its own and those to the left."""

    def __init__(self, in_channels: int, out_channels: int, reach: int) -> None:
        super().__init__(in_channels, out_channels, (1, reach + 1))
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.reach, 0, 0, 0)))


class _GatedLayer(nn.Module):
    """One layer of the two stacks, each tanh(a) ⊙ sigmoid(b) with the condition added to a and b.

    The vertical stack holds, at row i, what stands in rows above i; the horizontal one adds what stands to
    the left. Both get their input shifted by one, so that no kernel has entries to mask.
    """

    def __init__(self, channels: int, reach: int, condition_features: int, residual: bool) -> None:
        super().__init__()
        self.above, self.left = _Above(channels, 2 * channels, reach), _Left(channels, 2 * channels, reach)
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.residual = residual
        self.condition = (
            nn.Linear(condition_features, 4 * channels, bias=False) if condition_features else None
        )

    def forward(
        self, vertical: Tensor, horizontal: Tensor, condition: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        above = self.above(vertical)  # (B, 2C, h, w)
        row = self.left(horizontal) + self.link(above)
        if self.condition is not None:
            added = self.condition(_given(condition))[..., None, None].chunk(2, dim=1)
            above, row = above + added[0], row + added[1]
        out = self.out(_gated(row))
        return _gated(above), horizontal + out if self.residual else out


def _gated(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return a.tanh() * b.sigmoid()


@recorded
class PixelCNN(nn.Module):
    """Codes of a grid in raster order: (B, h, w) and a condition (B, c) → logits (B, h, w, codes).

    The logits of an entry see all rows above it and what stands to its left, without a blind spot: gated
    convolutions in a vertical and a horizontal stack, the first 7 wide and the others 3. An entry is reached
    over layers + 2 rows and columns: all of the past of a grid up to (layers + 3)², 8 × 8 for 5 layers.
    van den Oord et al. 2016 (Conditional Image Generation with PixelCNN Decoders), §2.

    >>> PixelCNN(20, (4, 4), channels=8)(torch.zeros(5, 4, 4).long()).shape
    torch.Size([5, 4, 4, 20])
    """

    def __init__(
        self,
        codes: int,
        shape: Sequence[int],
        channels: int = 64,
        layers: int = 5,
        condition_features: int = 0,
    ) -> None:
        super().__init__()
        if len(shape) != 2 or codes < 2 or layers < 1:
            raise InputError(
                f"a PixelCNN needs codes ≥ 2, a shape (h, w) and layers ≥ 1, not {codes}, {tuple(shape)}, {layers}"
            )
        self.codes, self.shape = codes, tuple(shape)
        self.embedding = nn.Embedding(codes + 1, channels)  # the last one for "not told"
        self.layers = nn.ModuleList(
            _GatedLayer(channels, 1 if layer else 3, condition_features, residual=layer > 0)
            for layer in range(layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, codes, 1)
        )

    def forward(self, codes: Tensor, condition: Tensor | None = None) -> Tensor:
        if codes.shape[1:] != self.shape:
            raise InputError(f"the codes have the grid {tuple(codes.shape[1:])}; expected {self.shape}")
        x = self.embedding(_told(codes, self.codes)).permute(0, 3, 1, 2)  # (B, C, h, w)
        vertical, horizontal = F.pad(x, (0, 0, 1, -1)), F.pad(x, (1, -1, 0, 0))
        for layer in self.layers:
            vertical, horizontal = layer(vertical, horizontal, condition)
        return self.head(horizontal).permute(0, 2, 3, 1)


@recorded
class Raster(nn.Module):
    """A network of a grid of codes as one of sequences, row by row: (B, T), T ≤ h·w → logits (B, T, codes).

    >>> Raster(PixelCNN(20, (4, 4), channels=8))(torch.zeros(5, 7).long()).shape
    torch.Size([5, 7, 20])
    """

    def __init__(self, network: PixelCNN) -> None:
        super().__init__()
        self.network = network
        self.vocabulary, self.length = network.codes, math.prod(network.shape)

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        count = tokens.shape[1]
        grid = F.pad(tokens, (0, self.length - count)).unflatten(1, self.network.shape)
        return self.network(grid, condition).flatten(1, 2)[:, :count]
