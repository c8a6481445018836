"""The order in which an epoch visits the data: a pure function of seed and epoch, not of ranks or time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sciencevae.errors import InputError

__all__ = ["Order", "check_batch", "order"]


@dataclass(frozen=True)
class Order:
    """n rows in blocks of ``block`` (the last may be shorter); the blocks are permuted, ``window`` of them at
    a time are held together, and the rows within a window are permuted.

    With one block (block ≥ n) this is a full permutation. Everything is computed window by window, so that
    the order of a data set larger than memory need not fit in memory either.
    """

    seed: int
    epoch: int
    n: int
    block: int
    window: int

    @cached_property
    def blocks(self) -> np.ndarray:
        """The blocks in the order visited, (n_blocks,)."""
        count = -(-self.n // self.block)
        return np.random.default_rng([self.seed, self.epoch, 0]).permutation(count)

    @cached_property
    def bounds(self) -> np.ndarray:
        """Positions in the order at which the windows begin, and n, (n_windows + 1,)."""
        sizes = np.minimum(self.block, self.n - self.blocks * self.block)
        return np.append(np.concatenate([[0], np.cumsum(sizes)])[: -1 : self.window], self.n)

    def blocks_of(self, window: int) -> list[tuple[int, int]]:
        """(first row, one past the last row) of each block of a window, in the order they are laid out."""
        chosen = self.blocks[window * self.window : (window + 1) * self.window]
        return [(int(b) * self.block, min((int(b) + 1) * self.block, self.n)) for b in chosen]

    def within(self, window: int) -> np.ndarray:
        """The permutation of the rows of a window, as positions in its blocks laid end to end."""
        size = self.bounds[window + 1] - self.bounds[window]
        return np.random.default_rng([self.seed, self.epoch, 1 + window]).permutation(size)

    def rows(self, window: int) -> np.ndarray:
        """The rows of a window in the order visited."""
        blocks, within = self.blocks_of(window), self.within(window)
        if len(blocks) == 1:
            return within + blocks[0][0] if blocks[0][0] else within
        return np.concatenate([np.arange(start, stop) for start, stop in blocks])[within]

    def between(self, start: int, stop: int) -> np.ndarray:
        """The rows from position ``start`` in the order up to ``stop``, not beyond the last."""
        first, last = np.searchsorted(self.bounds, [start, min(stop, self.n) - 1], side="right") - 1
        rows = np.concatenate([self.rows(w) for w in range(first, last + 1)])
        return rows[start - self.bounds[first] : stop - self.bounds[first]]


def order(seed: int, epoch: int, n: int, block: int | None = None, window: int = 1) -> np.ndarray:
    """The global order of one epoch, (n,): each row once. Batch t of size B is ``order[t·B : (t+1)·B]``.

    block:  rows read at once (default: all, a full permutation); window: blocks that are mixed

    >>> sorted(order(0, 3, 10, block=4, window=2).tolist()) == list(range(10))
    True
    """
    return Order(seed, epoch, n, block or n, window).between(0, n)


def check_batch(rows: int, batch_size: int, rank: int, ranks: int) -> int:
    """The rows of a batch that one rank takes; InputError when the numbers do not fit together."""
    if batch_size < 1:
        raise InputError(f"the batch size must be at least 1; found {batch_size}")
    if batch_size > rows:
        raise InputError(
            f"the batch of {batch_size} rows is larger than the data ({rows} rows): "
            f"set training.batch_size to {rows} or less"
        )
    if batch_size % ranks:
        raise InputError(f"a batch of {batch_size} rows cannot be shared by {ranks} ranks: choose a multiple")
    if not 0 <= rank < ranks:
        raise InputError(f"rank {rank} of {ranks} does not exist: ranks count from 0")
    return batch_size // ranks
