"""Data seen anew at every pass."""

from dataclasses import replace

import torch

from sciencevae.data.augment import Augmented
from sciencevae.data.batches import InMemory


def binarise(batch, generator):
    return replace(batch, x=(torch.rand(batch.x.shape, generator=generator) < batch.x).to(batch.x.dtype))


GREY = InMemory(torch.linspace(0, 1, 1000).repeat(4, 1).T.contiguous())
BITS = Augmented(GREY, binarise)


def drawn(seed, epoch, start=0):
    return [batch.x for batch in BITS.epoch(seed, epoch, 100, start)]


def test_each_pass_is_drawn_anew_and_can_be_repeated():
    first = drawn(0, 0)
    assert all(torch.equal(a, b) for a, b in zip(first, drawn(0, 0), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first[3:], drawn(0, 0, start=3), strict=True))
    blocks = [torch.cat([b.x for b in BITS.blocks(300)]) for _ in range(2)]
    assert torch.equal(*blocks)
    for other in (drawn(0, 1), drawn(1, 0)):
        # rows come in another order, so compare what is drawn of each grey value
        values = [torch.cat(list(x)) for x in (first, other)]
        assert not torch.equal(*values)
    assert len(BITS) == 1000
    assert BITS.nbytes == GREY.nbytes
    assert BITS.example.x.shape == GREY.example.x.shape


def test_the_mean_over_passes_is_the_grey_value():
    greys, bits = [], []
    for epoch in range(200):
        for grey, bit in zip(GREY.epoch(3, epoch, 500), BITS.epoch(3, epoch, 500), strict=True):
            greys.append(grey.x)
            bits.append(bit.x)
    grey, bit = torch.cat(greys), torch.cat(bits)
    for low in (0.0, 0.25, 0.5, 0.75):
        own = (grey >= low) & (grey < low + 0.25)
        error = 0.5 / own.sum().sqrt()
        assert abs(bit[own].mean() - grey[own].mean()) < 4 * error
