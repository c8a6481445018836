"""Data seen anew at every pass: a random function of each batch, as the binarisation of grey images."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from sciencevae.batch import Batch
from sciencevae.data.batches import Batches
from sciencevae.data.order import Order, check_batch

__all__ = ["Augmentation", "Augmented"]

Augmentation = Callable[[Batch, torch.Generator], Batch]


class Augmented(Batches):
    """The batches of ``data``, each through ``augment(batch, generator)``.

    What a batch becomes is a pure function of (seed, epoch, its number), and each rank takes its part of that; the
    rows that ``blocks`` hands out, to evaluate, become the same every time. ``data`` are the rows as they are.

    >>> from sciencevae.data.batches import InMemory
    >>> grey = InMemory(torch.full((4, 3), 0.5))
    >>> bits = Augmented(grey, lambda b, g: Batch((torch.rand(b.x.shape, generator=g) < b.x).float()))
    >>> sorted(set(next(bits.blocks(4)).x.flatten().tolist()))
    [0.0, 1.0]
    """

    def __init__(self, data: Batches, augment: Augmentation) -> None:
        self.data, self._augment = data, augment

    def __len__(self) -> int:
        return len(self.data)

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    @property
    def example(self) -> Batch:
        return self._seen(self.data.example, 0, 0)

    def epoch(
        self, seed: int, epoch: int, batch_size: int, start: int = 0, rank: int = 0, ranks: int = 1
    ) -> Iterator[Batch]:
        size = check_batch(len(self), batch_size, rank, ranks)
        batches = self.data.epoch(seed, epoch, batch_size, start)
        steps = self.steps(batch_size)
        seen = (
            self._seen(batch, seed + 1, epoch * steps + number) for number, batch in enumerate(batches, start)
        )
        return seen if ranks == 1 else (batch[rank * size : (rank + 1) * size] for batch in seen)

    def order(self, seed: int, epoch: int) -> Order:
        return self.data.order(seed, epoch)

    def identifiers(self, rows: np.ndarray) -> tuple[str, np.ndarray]:
        return self.data.identifiers(rows)

    def blocks(self, rows: int) -> Iterator[Batch]:
        return (self._seen(block, 0, number) for number, block in enumerate(self.data.blocks(rows)))

    def _seen(self, batch: Batch, seed: int, number: int) -> Batch:
        device = next(iter(batch.tensors().values())).device
        generator = torch.Generator(device).manual_seed((seed * 1_000_003 + number) * 4099)
        return self._augment(batch, generator)
