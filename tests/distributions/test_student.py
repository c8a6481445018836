"""Student's t against scipy, at any degrees of freedom and in single precision."""

import math

import pytest
import torch
from scipy import stats

from sciencevae.distributions import Normal, StudentT

DFS = [0.1, 0.5, 1.0, 2.5, 4.0, 49.0, 51.0, 900.0, 1001.0, 1e6]


@pytest.mark.parametrize("df", DFS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
def test_density_is_that_of_scipy(df, dtype, tolerance):
    x = torch.tensor([-1e4, -30.0, -2.0, -0.5, 0.0, 0.25, 1.0, 7.0, 1e3], dtype=dtype)
    nu = torch.tensor(df, dtype=dtype)
    found = StudentT(nu, torch.tensor(0.25, dtype=dtype), torch.tensor(0.5, dtype=dtype)).log_prob(x)
    wanted = torch.from_numpy(stats.t.logpdf(x.double().numpy(), float(nu), loc=0.25, scale=0.5))
    assert torch.allclose(found.double(), wanted, rtol=2 * tolerance, atol=tolerance)


@pytest.mark.parametrize("df", DFS)
def test_the_gradient_by_df_is_the_difference_quotient(df):
    def log_prob(nu):
        return StudentT(nu, torch.zeros((), dtype=nu.dtype), torch.ones((), dtype=nu.dtype)).log_prob(
            torch.tensor(1.7, dtype=nu.dtype)
        )

    nu = torch.tensor(df, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(log_prob(nu), nu)
    step = 1e-4 * df
    quotient = (stats.t.logpdf(1.7, df + step) - stats.t.logpdf(1.7, df - step)) / (
        2 * step
    )  # rounding: 1e-15 / step
    assert gradient.item() == pytest.approx(quotient, rel=1e-5, abs=1e-13 / step + 1e-15)


def test_torchs_own_has_lost_its_digits_there():
    nu, x = torch.tensor(1e6), torch.tensor(1.0)
    wanted = stats.t.logpdf(1.0, 1e6)
    assert abs(torch.distributions.StudentT(nu, validate_args=False).log_prob(x).item() - wanted) > 0.05
    assert StudentT(nu, 0 * x, x).log_prob(x).item() == pytest.approx(wanted, abs=1e-6)


def test_a_normal_is_its_limit():
    x, one = torch.randn(50, dtype=torch.float64), torch.ones((), dtype=torch.float64)
    assert torch.allclose(
        StudentT(1e9 * one, 0 * one, 2 * one).log_prob(x), Normal(0 * one, 2 * one).log_prob(x), atol=1e-7
    )


@pytest.mark.parametrize("df", [0.3, 1.0, 4.0, 30.0])
def test_the_cdf_is_the_integral_of_the_density(df):
    d = StudentT(*(torch.tensor(value).double() for value in (df, 1.0, 2.0)))
    x = torch.linspace(-6, 9, 20_001, dtype=torch.float64)
    below = torch.cumulative_trapezoid(d.log_prob(x).exp(), x)
    assert torch.allclose(d.cdf(x[1:]) - d.cdf(x[0]), below, atol=1e-7)
    assert d.cdf(torch.tensor(1.0).double()).item() == pytest.approx(0.5)
    assert d.cdf(torch.tensor([[-math.inf], [math.inf]])).tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize("df", [0.3, 1.0, 4.0, 30.0])
def test_samples_follow_the_density(df):
    torch.manual_seed(0)
    d = StudentT(torch.tensor(df).double(), torch.tensor(1.0).double(), torch.tensor(2.0).double())
    x = d.sample((4000,))
    assert stats.kstest(x.numpy(), stats.t(df, loc=1.0, scale=2.0).cdf).pvalue > 1e-3
    assert x.shape == (4000,)


def test_moments():
    df = torch.tensor([0.5, 1.5, 2.0, 3.0, 10.0], dtype=torch.float64)
    d = StudentT(df, torch.tensor(1.0).double(), torch.tensor(2.0).double())
    assert torch.equal(d.mean, torch.ones(5))
    assert d.variance[:3].tolist() == [math.inf] * 3
    assert d.variance[3:].tolist() == pytest.approx([stats.t(3, 1, 2).var(), stats.t(10, 1, 2).var()])


def test_extremes_in_single_precision_are_finite():
    for df in (1e-3, 1e3):
        for log_scale in (-15.0, 10.0):
            parameters = [torch.tensor(v, requires_grad=True) for v in (df, 0.0, math.exp(log_scale))]
            x = torch.tensor([-1e8, -1.0, 0.0, 1e-8, 1e8])
            value = StudentT(*parameters).log_prob(x)
            gradients = torch.autograd.grad(value.sum(), parameters)
            assert value.isfinite().all()
            assert all(g.isfinite() for g in gradients)
            assert StudentT(*parameters).sample((1000,)).isfinite().all()
