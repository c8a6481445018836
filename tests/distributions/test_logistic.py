"""The mixture of discretised logistics against the difference of two distribution functions, and by enumeration."""

import mpmath
import pytest
import torch
from scipy import stats

from sciencevae.distributions import MixtureOfLogistics


def random(levels: int, shape=(6,), components: int = 3) -> MixtureOfLogistics:
    generator = torch.Generator().manual_seed(levels)
    logits, loc, log_scale = torch.randn(3, *shape, components, generator=generator, dtype=torch.float64)
    return MixtureOfLogistics(logits, loc, log_scale - 1, levels)


def grid(levels: int, dtype=torch.float64) -> torch.Tensor:
    return torch.arange(levels, dtype=dtype) / (levels - 1)


@pytest.mark.parametrize("levels", [2, 3, 16, 256])
def test_the_probabilities_of_all_levels_add_up_to_one(levels):
    d = random(levels)
    p = d.log_prob(grid(levels).unsqueeze(1)).exp()
    assert torch.allclose(p.sum(0), torch.ones(6, dtype=torch.float64), atol=1e-13)
    # also where the bins are wide, narrow, and far from the data
    for log_scale in (-15.0, -7.0, 0.0, 10.0):
        for loc in (-40.0, -1.0, 0.123, 1.0, 9.0):
            single = MixtureOfLogistics(
                torch.zeros(1, 1).double(),
                torch.full((1, 1), loc).double(),
                torch.full((1, 1), log_scale).double(),
                levels,
            )
            assert single.log_prob(grid(levels).unsqueeze(1)).exp().sum().item() == pytest.approx(
                1, abs=1e-12
            )


def test_each_probability_is_the_difference_of_two_distribution_functions():
    d, levels = random(16), 16
    x = grid(levels)
    for entry in range(6):
        weights = d.log_weights[entry].exp().numpy()
        for i, value in enumerate(x.tolist()):
            low = -float("inf") if i == 0 else 2 * value - 1 - 1 / 15
            high = float("inf") if i == levels - 1 else 2 * value - 1 + 1 / 15
            component = stats.logistic(d.loc[entry].numpy(), d.log_scale[entry].exp().numpy())
            wanted = (weights * (component.cdf(high) - component.cdf(low))).sum()
            found = d.log_prob(torch.full((6,), value, dtype=torch.float64))[entry].exp()
            assert found.item() == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_far_tails_are_exact(dtype, rel):
    """Where the difference of the two functions is 0 in any precision."""
    one = torch.ones(1, 1, dtype=dtype)
    for log_scale, level in ((-7.0, 200), (-4.0, 254), (-12.0, 3)):
        d = MixtureOfLogistics(one, -0.25 * one, log_scale * one, 256)
        with mpmath.workdps(20_000):
            s = mpmath.exp(mpmath.mpf(log_scale))
            low, high = ((mpmath.mpf(2 * level + side) / 255 - 1 + 0.25) / s for side in (-1, 1))
            # Σ over the tail in the direction that keeps its digits
            p = 1 / (1 + mpmath.exp(-high)) - 1 / (1 + mpmath.exp(-low))
            wanted = float(mpmath.log(p))
        x = torch.tensor([level / 255], dtype=dtype)
        assert d.log_prob(x).item() == pytest.approx(wanted, rel=rel)


def test_extremes_in_single_precision_have_finite_gradients():
    for log_scale in (-15.0, 10.0):
        for loc in (-1e3, 0.0, 1e3):
            parameters = [torch.tensor([[v, v]], requires_grad=True) for v in (0.0, loc, log_scale)]
            value = MixtureOfLogistics(*parameters, 256).log_prob(grid(256, torch.float32).unsqueeze(1))
            assert value.isfinite().all()
            for gradient in torch.autograd.grad(value.sum(), parameters):
                assert gradient.isfinite().all()


@pytest.mark.parametrize("levels", [2, 16, 256])
def test_moments_and_mode_are_those_of_the_enumeration(levels):
    d, x = random(levels), grid(levels).unsqueeze(1)
    p = d.log_prob(x).exp()
    mean = (p * x).sum(0)
    assert torch.allclose(d.mean, mean, atol=1e-12)
    assert torch.allclose(d.variance, (p * (x - mean).square()).sum(0), atol=1e-12)
    assert torch.allclose(d.mode, x[p.argmax(0), 0])


def test_samples_follow_the_probabilities():
    torch.manual_seed(0)
    d, levels = random(8, (2,)), 8
    x = d.sample((5000,))
    assert x.shape == (5000, 2)
    p = d.log_prob(grid(levels).unsqueeze(1)).exp()
    for column in range(2):
        counted = torch.stack(
            [((x[:, column] * 7).round() == level).sum() for level in range(levels)]
        ).double()
        expected = 5000 * p[:, column]
        chi2 = ((counted - expected).square() / expected).sum()
        assert stats.chi2(levels - 1).sf(chi2.item()) > 1e-3
