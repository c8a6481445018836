"""Counts and categories against mpmath, scipy and enumeration."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sciencevae.distributions import Categorical, NegativeBinomial, Poisson

RATES = [1e-13, 1e-3, 0.7, 3.0, 15.9, 400.0, 1e6, 1e9]


def exact(k: float, log_rate: float) -> float:
    with mpmath.workdps(40):
        k, u = mpmath.mpf(k), mpmath.mpf(log_rate)
        return float(k * u - mpmath.exp(u) - mpmath.loggamma(k + 1))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_density_is_exact_at_any_rate(rate, dtype):
    log_rate = torch.tensor(math.log(rate), dtype=dtype)
    near = [max(0, round(rate + sigmas * math.sqrt(rate))) for sigmas in (-5, -2, -0.3, 0, 0.4, 3)]
    for k in {0, 1, 2, 15, 16, 17, *near}:
        value = torch.tensor(float(k), dtype=dtype)
        found, wanted = Poisson(log_rate).log_prob(value), exact(value.item(), log_rate.item())
        # log λ and log k are rounded by δ each: |k − λ| δ, and in second order k δ²
        delta = torch.finfo(dtype).eps * (1 + abs(math.log(rate)))
        slack = 4 * (1 + abs(value.item() - rate)) * delta + value.item() * delta**2
        assert found.item() == pytest.approx(wanted, rel=20 * torch.finfo(dtype).eps, abs=slack)


def test_the_textbook_form_has_lost_its_digits_there():
    """What the other form is for: 10⁷ counts in single precision."""
    k = torch.tensor(1e7)
    textbook = torch.distributions.Poisson(k, validate_args=False).log_prob(k)
    wanted = exact(1e7, math.log(1e7))
    assert abs(textbook.item() - wanted) > 0.1
    assert Poisson(k.log()).log_prob(k).item() == pytest.approx(wanted, abs=1e-3)


@given(st.floats(-20, 20), st.integers(0, 10**6))
def test_the_gradient_is_k_minus_the_rate(log_rate, k):
    u = torch.tensor(log_rate, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(Poisson(u).log_prob(torch.tensor(k)), u)
    assert gradient.item() == pytest.approx(k - math.exp(log_rate), rel=1e-9, abs=1e-9 * max(1, k))


@pytest.mark.parametrize("rate", [0.01, 2.5, 30.0])
def test_probabilities_add_up_to_one_and_moments_are_theirs(rate):
    k = torch.arange(200, dtype=torch.float64)
    d = Poisson(torch.tensor(math.log(rate), dtype=torch.float64))
    p = d.log_prob(k).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-13)
    assert (p * k).sum().item() == pytest.approx(d.mean.item())
    assert (p * (k - rate).square()).sum().item() == pytest.approx(d.variance.item())
    assert p.argmax() == d.mode


SIZES = [0.01, 0.3, 1.0, 7.0, 300.0, 1e4, 1e6]


def exact_negative_binomial(k: float, log_rate: float, size: float) -> float:
    with mpmath.workdps(50):
        k, rate, r = mpmath.mpf(k), mpmath.exp(mpmath.mpf(log_rate)), mpmath.mpf(size)
        gammas = mpmath.loggamma(k + r) - mpmath.loggamma(r) - mpmath.loggamma(k + 1)
        return float(gammas + r * mpmath.log(r / (r + rate)) + k * mpmath.log(rate / (r + rate)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_counts_that_scatter_more_have_the_exact_density(size, dtype, digits):
    for rate in (1e-3, 0.7, 3.0, 15.9, 400.0, 1e6):
        spread = math.sqrt(rate + rate**2 / size)
        near = [max(0, round(rate + sigmas * spread)) for sigmas in (-3, -1, 0, 1, 4)]
        log_rate, r = torch.tensor(math.log(rate), dtype=dtype), torch.tensor(size, dtype=dtype)
        for k in {0, 1, 2, 15, 16, 17, *near}:
            value = torch.tensor(float(k), dtype=dtype)
            found = NegativeBinomial(log_rate, r).log_prob(value).item()
            wanted = exact_negative_binomial(value.item(), log_rate.item(), r.item())
            assert found == pytest.approx(wanted, rel=digits, abs=digits), (rate, k)


@given(st.floats(-6, 12), st.floats(-3, 8), st.integers(0, 10**5))
def test_the_gradients_of_counts_that_scatter_more(log_rate, log_size, k):
    """d log p/d log λ = r (k − λ)/(r + λ), and that of r by scipy's digamma."""
    from scipy.special import digamma

    u = torch.tensor(log_rate, dtype=torch.float64, requires_grad=True)
    r = torch.tensor(math.exp(log_size), dtype=torch.float64, requires_grad=True)
    by_rate, by_size = torch.autograd.grad(NegativeBinomial(u, r).log_prob(torch.tensor(k)), (u, r))
    rate, size = math.exp(log_rate), r.item()
    assert by_rate.item() == pytest.approx(size * (k - rate) / (size + rate), rel=1e-8, abs=1e-8)
    wanted = digamma(k + size) - digamma(size) + math.log(size / (size + rate)) + (rate - k) / (size + rate)
    scale = 1 + abs(digamma(k + size)) + abs(digamma(size)) + k / size
    assert by_size.item() == pytest.approx(wanted, rel=1e-7, abs=1e-9 * scale)


@pytest.mark.parametrize(("rate", "size"), [(0.5, 0.4), (3.3, 1.5), (20.0, 8.0)])
def test_counts_that_scatter_more_against_scipy(rate, size):
    d = NegativeBinomial(
        torch.tensor(math.log(rate), dtype=torch.float64), torch.tensor(size, dtype=torch.float64)
    )
    known = stats.nbinom(size, size / (size + rate))
    k = torch.arange(2000, dtype=torch.float64)
    p = d.log_prob(k).exp()
    assert torch.allclose(p, torch.from_numpy(known.pmf(k.numpy())), rtol=1e-9)
    assert (d.mean.item(), d.variance.item()) == pytest.approx(known.stats("mv"))
    assert p.argmax() == d.mode
    torch.manual_seed(0)
    x = d.sample((4000,))
    counted = torch.bincount(x.long(), minlength=2000)[:2000].double()
    expected = 4000 * p
    often = expected > 5
    chi2 = ((counted - expected).square() / expected)[often].sum()
    assert stats.chi2(int(often.sum())).sf(chi2.item()) > 1e-3


def test_counts_that_scatter_more_are_finite_in_the_extremes():
    u = torch.tensor([-30.0, -30.0, 30.0, 30.0, 0.0, 30.0], requires_grad=True)
    r = torch.tensor([1e-2, 1e6, 1e-2, 1e6, 10.0, 10.0], requires_grad=True)
    value = NegativeBinomial(u, r).log_prob(torch.tensor([1e9, 1e9, 0.0, 1e13, 1e9, 2.0]))
    assert value.isfinite().all()
    for gradient in torch.autograd.grad(value.sum(), (u, r)):
        assert gradient.isfinite().all()


def test_samples_of_counts_follow_the_rate():
    torch.manual_seed(0)
    x = Poisson(torch.tensor([0.5, 30.0]).log()).sample((4000,))
    assert x.shape == (4000, 2)
    for column, rate in zip(x.T, (0.5, 30.0), strict=True):
        k = torch.arange(60)
        counted = torch.stack([(column == n).sum() for n in k]).double()
        expected = torch.from_numpy(stats.poisson(rate).pmf(k.numpy())) * 4000
        often = expected > 5
        chi2 = ((counted - expected).square() / expected)[often].sum()
        assert stats.chi2(int(often.sum())).sf(chi2.item()) > 1e-3


def test_extreme_counts_in_single_precision_are_finite():
    u = torch.tensor([-30.0, -30.0, 30.0, 30.0, 0.0, -100.0], requires_grad=True)
    value = Poisson(u).log_prob(torch.tensor([0.0, 1e9, 0.0, 1e13, 1e9, 0.0]))
    (gradient,) = torch.autograd.grad(value.sum(), u)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


def test_categories_are_scored_alike_as_integers_and_floats():
    logits = torch.randn(5, 4, dtype=torch.float64)
    d = Categorical(logits)
    k = torch.arange(4).unsqueeze(1)
    assert torch.allclose(d.log_prob(k).exp().sum(0), torch.ones(5, dtype=torch.float64))
    assert torch.equal(d.log_prob(k), d.log_prob(k.double()))
    assert torch.allclose(d.log_prob(k).T, logits.log_softmax(-1))
    assert torch.equal(d.mode, logits.argmax(-1))
    for moment in ("mean", "variance"):
        with pytest.raises(NotImplementedError, match="take"):
            getattr(d, moment)


def test_extreme_logits_are_finite():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    value = Categorical(logits).log_prob(torch.tensor([1]))
    assert value.item() == -2e4
    assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()
