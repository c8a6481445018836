"""Bayesian optimisation beside random search, on a function whose maximum is known."""

import pytest
import torch

from sciencevae.errors import InputError
from sciencevae.latents.optimise import trust_region

D = 6
BEST = torch.tensor([0.3, -0.2, 0.5, 0.1, -0.4, 0.0])


def bowl(z):
    value = -(z - BEST).square().sum(1)
    return torch.where(z[:, 0] < -0.9, torch.nan, value)  # where nothing can be evaluated


def first_ones(z, most):
    return z[:most], bowl(z[:most])


@pytest.mark.parametrize("seed", [0, 1])
def test_finds_a_maximum_that_random_search_does_not(seed):
    generator = torch.Generator().manual_seed(seed)
    start = 2 * torch.rand(20, D, generator=generator) - 1
    asked = []

    def evaluate(z, most):
        asked.append(most)
        return first_ones(z, most)

    bounds = torch.tensor([[-1.0] * D, [1.0] * D])
    z, values = trust_region(start, bowl(start), evaluate, calls=60, seed=seed, bounds=bounds)
    assert sum(asked) == 60
    assert len(z) == len(values) == 80
    assert torch.equal(z[:20], start)
    assert torch.allclose(bowl(z), values, equal_nan=True)
    at_random = bowl(2 * torch.rand(10_000, D, generator=generator) - 1)
    best = values[values.isfinite()].max()
    assert best > at_random[at_random.isfinite()].max(), "better than 10,000 random points in 60"


def test_the_same_seed_gives_the_same():
    start = torch.linspace(-1, 1, 5)[:, None].expand(5, D).clone()
    one, two = (trust_region(start, bowl(start), first_ones, 10, seed=4)[0] for _ in range(2))
    assert torch.equal(one, two)


def test_ends_where_nothing_new_comes():
    """What is decoded is a corner of the cube: 64 there are, of which two are known."""
    seen = {(-1.0,) * D, (1.0,) * D}

    def evaluate(z, most):
        corners = {tuple(row.tolist()) for row in z.sign()} - seen
        new = torch.tensor(sorted(corners)[:most]).reshape(-1, D)
        seen.update(tuple(row.tolist()) for row in new)
        return new, bowl(new)

    start = torch.tensor([[-1.0] * D, [1.0] * D])
    z, values = trust_region(start, -(start - BEST).square().sum(1), evaluate, calls=1000, batch=5)
    assert 2 < len(z) == len(values) == len(seen) == len(z.unique(dim=0))


def test_begins_with_values():
    with pytest.raises(InputError, match="two finite values"):
        trust_region(torch.zeros(3, D), torch.full((3,), torch.nan), first_ones, 5)
