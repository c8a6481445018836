"""The von Mises density and sampler against mpmath, quadrature and moments, from κ = 0 to 10⁶."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sciencevae.distributions import VonMises
from sciencevae.distributions.von_mises import bessel_ratio

KAPPAS = [0.0, 1e-8, 1e-3, 0.5, 3.0, 40.0, 1e3, 1e5, 1e6]


def exact_log_prob(x: float, loc: float, kappa: float) -> float:
    with mpmath.workdps(50):
        k = mpmath.mpf(kappa)
        norm = mpmath.log(2 * mpmath.pi * mpmath.besseli(0, k)) if k < 1e4 else _asymptotic_log_norm(k)
        return float(k * mpmath.cos(mpmath.mpf(x) - mpmath.mpf(loc)) - norm)


def _asymptotic_log_norm(k: mpmath.mpf) -> mpmath.mpf:
    # log(2π I₀(κ)) by Hankel's expansion, DLMF 10.40.1; its terms at κ ≥ 10⁴ fall by 10⁻⁵ each
    series = mpmath.mpf(1)
    term = mpmath.mpf(1)
    for n in range(1, 8):
        term *= mpmath.mpf((2 * n - 1) ** 2) / (8 * n * k)
        series += term
    return mpmath.log(2 * mpmath.pi) + k - mpmath.log(2 * mpmath.pi * k) / 2 + mpmath.log(series)


@pytest.mark.parametrize("kappa", KAPPAS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_density_is_exact_at_any_concentration(kappa, dtype, tolerance):
    width = min(math.pi, 5 / math.sqrt(max(kappa, 1e-12)))
    for offset in np.linspace(-width, width, 9):
        loc = torch.tensor(0.3, dtype=dtype)
        x = torch.tensor(0.3 + offset, dtype=dtype)
        found = VonMises(loc, torch.tensor(kappa, dtype=dtype)).log_prob(x).item()
        wanted = exact_log_prob(x.item(), loc.item(), torch.tensor(kappa, dtype=dtype).item())
        # x itself is rounded: what one unit in its last place changes is allowed for
        rounding = kappa * abs(math.sin(x.item() - loc.item())) * torch.finfo(dtype).eps * math.pi
        assert abs(found - wanted) <= tolerance * max(1, abs(wanted)) + rounding


@pytest.mark.parametrize("kappa", [0.0, 0.7, 30.0, 1e6])
def test_density_integrates_to_one(kappa):
    width = min(math.pi, 12 / math.sqrt(max(kappa, 1e-12)))
    x = torch.linspace(-width, width, 200_001, dtype=torch.float64)
    density = (
        VonMises(torch.zeros((), dtype=torch.float64), torch.tensor(kappa, dtype=torch.float64))
        .log_prob(x)
        .exp()
    )
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-9)


@given(st.floats(-math.pi, math.pi), st.floats(-math.pi, math.pi), st.floats(0, 1e6))
def test_density_is_periodic(x, loc, kappa):
    d = VonMises(torch.tensor(loc, dtype=torch.float64), torch.tensor(kappa, dtype=torch.float64))
    value = torch.tensor(x, dtype=torch.float64)
    here, around = d.log_prob(value).item(), d.log_prob(value + 2 * math.pi).item()
    assert around == pytest.approx(here, rel=1e-7, abs=1e-8)


def test_across_the_seam():
    d = VonMises(torch.tensor(math.pi - 1e-3), torch.tensor(1e4))
    x = torch.tensor([-math.pi + 1e-3])
    assert d.log_prob(x).item() == pytest.approx(exact_log_prob(2e-3, 0.0, 1e4), abs=2e-2)


@pytest.mark.parametrize("kappa", [1e-3, 1.0, 1e3, 1e6])
def test_gradients_are_finite_and_right(kappa):
    loc = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    k = torch.tensor(kappa, dtype=torch.float64, requires_grad=True)
    x = torch.tensor(0.2 + 0.7 / math.sqrt(kappa + 1), dtype=torch.float64)
    VonMises(loc, k).log_prob(x).backward()
    assert loc.grad.item() == pytest.approx(kappa * math.sin(x.item() - 0.2), rel=1e-9)
    # d/dκ = cos(x − μ) − A(κ)
    with mpmath.workdps(40):
        ratio = mpmath.besseli(1, kappa) / mpmath.besseli(0, kappa)
        wanted = float(mpmath.cos(mpmath.mpf(x.item()) - mpmath.mpf("0.2")) - ratio)
    assert k.grad.item() == pytest.approx(wanted, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kappa", [0.0, 1e-7, 1e-4, 0.3, 2.0, 50.0, 1e4, 1e6, 1e9])
def test_samples_follow_the_density(kappa, dtype):
    torch.manual_seed(1)
    loc = 2.9  # close to the seam
    draws = VonMises(torch.tensor(loc, dtype=dtype), torch.tensor(kappa, dtype=dtype)).sample((20_000,))
    assert draws.dtype == dtype
    assert draws.max() <= torch.tensor(math.pi, dtype=dtype)
    assert draws.min() > -math.pi
    around = torch.remainder(draws.double() - loc + math.pi, 2 * math.pi) - math.pi
    cdf = stats.vonmises(kappa).cdf if kappa > 0 else stats.uniform(-math.pi, 2 * math.pi).cdf
    if kappa >= 1e9:  # float32 angles are no longer continuous at this width
        return
    resolved = dtype == torch.float64 or kappa < 1e6
    if resolved:
        assert stats.kstest(around.numpy(), cdf).pvalue > 1e-3
    wanted = 1 - bessel_ratio(torch.tensor(kappa, dtype=torch.float64)).item()
    spread = (1 - around.cos()).mean().item()
    assert spread == pytest.approx(wanted, rel=0.05, abs=1e-9 if kappa > 0 else 0.03)


def test_entropy_against_sampling():
    torch.manual_seed(0)
    d = VonMises(torch.tensor(1.0, dtype=torch.float64), torch.tensor(2.5, dtype=torch.float64))
    log_prob = d.log_prob(d.sample((200_000,)))
    assert -log_prob.mean().item() == pytest.approx(d.entropy().item(), abs=5 * log_prob.std().item() / 447)


@settings(deadline=None)
@given(st.floats(0, 1e6))
def test_mean_resultant_length_is_between_0_and_1(kappa):
    ratio = bessel_ratio(torch.tensor(kappa, dtype=torch.float64)).item()
    assert 0 <= ratio <= 1
    if kappa > 1e-3:
        assert ratio == pytest.approx(float(mpmath.besseli(1, kappa) / mpmath.besseli(0, kappa)), rel=1e-6)


@pytest.mark.parametrize("kappa", [1e-6, 0.3, 3.0, 49.0, 51.0, 1e3, 1e5, 1e7, 1e8])
def test_what_cancels_is_right_in_single_precision(kappa):
    """d log p/d log κ at the mode, variance and entropy against double precision and the normal limit."""
    found = {}
    for dtype in (torch.float32, torch.float64):
        log_kappa = torch.tensor(math.log(kappa), dtype=dtype, requires_grad=True)
        p = VonMises(torch.zeros((), dtype=dtype), log_kappa.exp())
        (slope,) = torch.autograd.grad(p.log_prob(torch.zeros((), dtype=dtype)), log_kappa)
        found[dtype] = torch.stack([slope, p.variance, p.entropy(), bessel_ratio(p.concentration)]).double()
    assert torch.allclose(found[torch.float32], found[torch.float64], rtol=1e-4, atol=1e-9)
    if kappa >= 1e5:
        slope, variance, entropy, _ = found[torch.float32].tolist()
        assert slope == pytest.approx(0.5, rel=1e-4)
        assert kappa * variance == pytest.approx(0.5, rel=1e-4)
        assert entropy == pytest.approx(0.5 * math.log(2 * math.pi * math.e / kappa), rel=1e-4)


def test_an_unknown_concentration_draws_nan():
    kappa = torch.tensor([math.nan, 1.0])
    assert VonMises(torch.zeros(2), kappa).sample().isnan().tolist() == [True, False]
