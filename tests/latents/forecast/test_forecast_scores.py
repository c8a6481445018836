"""Scores against closed forms and against a variance that is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciencevae.errors import InputError
from sciencevae.latents.forecast import (
    POD,
    block_bootstrap,
    block_length,
    coverage,
    crps,
    crps_gaussian,
    relative_error,
    spread_skill,
)


def test_crps_of_a_gaussian():
    """The mean of the unbiased estimator from 2 draws, and the value from many, are the closed form."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor([0.0, 1.0, -2.5], dtype=torch.double)
    exact = crps_gaussian(torch.tensor(0.3), torch.tensor(1.7), truth)
    many = 0.3 + 1.7 * torch.randn(200_000, 3, generator=generator, dtype=torch.double)
    assert torch.allclose(crps(many, truth), exact, atol=0.01)
    pairs = many.reshape(2, 100_000, 3)
    assert torch.allclose(crps(pairs, truth.expand(100_000, 3)).mean(0), exact, atol=0.02)


def test_crps_gaussian_is_its_integral():
    """∫ (F(x) − 1[x ≥ y])² dx."""
    x = torch.linspace(-12, 12, 200_001, dtype=torch.double)
    for mean, scale, truth in ((0.0, 1.0, 0.4), (1.0, 0.5, -0.7)):
        square = (torch.special.ndtr((x - mean) / scale) - (x >= truth).double()).square()
        found = crps_gaussian(*(torch.tensor(v, dtype=torch.double) for v in (mean, scale, truth)))
        assert float(found) == pytest.approx(float(torch.trapezoid(square, x)), abs=1e-4)


@given(count=st.integers(2, 7), seed=st.integers(0, 1000))
def test_crps_is_its_definition(count, seed):
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(count, 3, generator=generator, dtype=torch.double)
    truth = torch.randn(3, generator=generator, dtype=torch.double)
    pairs = (draws[:, None] - draws[None]).abs().sum((0, 1)) / (2 * count * (count - 1))
    assert torch.allclose(crps(draws, truth), (draws - truth).abs().mean(0) - pairs)


def test_one_draw_has_no_crps():
    with pytest.raises(InputError, match="two at least"):
        crps(torch.zeros(1, 3), torch.zeros(3))


@pytest.mark.parametrize("count", [40, 99])
def test_coverage_and_spread_of_exchangeable_draws(count):
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(count + 1, 3000, 2, 5, generator=generator)
    truth, draws = draws[0], draws[1:]
    found = coverage(draws, truth)
    assert torch.allclose(found, torch.tensor([[0.68] * 2, [0.95] * 2]), atol=0.012), found
    spread, error = spread_skill(draws, truth)
    assert torch.allclose(spread, error, rtol=0.02)
    assert torch.all(coverage(draws / 2, truth)[0] < 0.45)


def test_coverage_needs_draws():
    with pytest.raises(InputError, match="draw at least 39"):
        coverage(torch.zeros(38, 2, 1, 1), torch.zeros(2, 1, 1))
    assert coverage(torch.zeros(39, 2, 1, 1), torch.zeros(2, 1, 1)).shape == (2, 1)


def test_relative_error_by_hand():
    truth = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])  # (N, H, n)
    mean = torch.tensor([0.0, 2.0])
    weight = torch.tensor([1.0, 3.0])
    assert torch.allclose(relative_error(mean.expand_as(truth), truth, mean, weight), torch.ones(2))
    forecast = truth + torch.tensor([1.0, -1.0])
    expected = torch.tensor([math.sqrt(4 / 1), math.sqrt(4 / (9 + 3 * 4))])
    assert torch.allclose(relative_error(forecast, truth, mean, weight), expected)
    hidden = truth.clone()
    hidden[0, 1, 0] = torch.nan
    expected = torch.tensor([2.0, math.sqrt(3 / 12)])
    assert torch.allclose(relative_error(forecast, hidden, mean, weight), expected)
    with pytest.raises(InputError, match="both alike"):
        relative_error(forecast[:, :1], truth, mean)


def autoregression(n, rho, generator):
    x = np.empty(n)
    x[0] = generator.normal() / math.sqrt(1 - rho**2)
    for t in range(1, n):
        x[t] = rho * x[t - 1] + generator.normal()
    return x


def test_block_bootstrap_of_an_autoregression():
    """The mean of n frames of AR(1) has a variance of about 1 / (n (1 − ρ)²), 6 times that of white noise."""
    generator = np.random.default_rng(0)
    n, rho = 4000, 0.6
    expected = 1 / (math.sqrt(n) * (1 - rho))
    found = np.mean(
        [
            float(block_bootstrap(autoregression(n, rho, generator), draws=400, seed=i).stderr)
            for i in range(12)
        ]
    )
    assert found == pytest.approx(expected, rel=0.12)
    singly = np.mean(
        [
            float(block_bootstrap(autoregression(n, rho, generator), length=1, draws=400, seed=i).stderr)
            for i in range(4)
        ]
    )
    assert singly < 0.6 * expected  # what is wrong without blocks


def test_paired_differences_of_a_common_noise():
    generator = np.random.default_rng(1)
    common = autoregression(2000, 0.7, generator)
    a, b = common + 0.1 * generator.normal(size=2000), common + 0.05
    paired = block_bootstrap(np.stack([a, b], 1), lambda mean: mean[0] - mean[1])
    assert float(paired.stderr) == pytest.approx(0.1 / math.sqrt(2000), rel=0.25)
    assert float(block_bootstrap(a).stderr) > 10 * float(paired.stderr)
    low, high = paired.interval(0.95)
    assert low < paired.value < high


def test_blocks_of_white_noise_are_short_and_too_long_ones_refused():
    assert block_length(np.random.default_rng(0).normal(size=5000)) <= 3
    assert block_length(np.ones(50)) == 1
    with pytest.raises(InputError, match="two blocks"):
        block_bootstrap(np.zeros(10), length=6)


# ---- POD ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [50, 9])  # 9: fewer than places, the method of snapshots
def test_pod_is_scikit_learns_and_orthonormal_in_mass(count):
    from sklearn.decomposition import PCA

    generator = torch.Generator().manual_seed(0)
    scales = torch.linspace(1, 3, 12).reshape(4, 3)
    x = torch.randn(count, 4, 3, generator=generator, dtype=torch.double) * scales
    plain = POD.fit(x, 5)
    theirs = PCA(5).fit(x.flatten(1).numpy())
    expected = theirs.inverse_transform(theirs.transform(x.flatten(1).numpy())).reshape(count, 4, 3)
    assert np.allclose(plain.decode(plain.encode(x)).numpy(), expected)
    assert np.allclose(plain.variances.numpy() * count / (count - 1), theirs.explained_variance_)

    weight = torch.rand(4, 3, generator=generator, dtype=torch.double) + 0.1
    weight[0, 0] = 0  # a place without mass has no part in it
    massed = POD.fit(x, 5, weight)
    gram = (massed.modes * weight).flatten(1) @ massed.modes.flatten(1).mT
    assert torch.allclose(gram, torch.eye(5, dtype=torch.double), atol=1e-10)
    assert torch.allclose(massed.encode(x).square().mean(0), massed.variances)
    # the best basis in its mass: better there than the plain one
    error = [((pod.decode(pod.encode(x)) - x).square() * weight).sum() for pod in (massed, plain)]
    assert error[0] < error[1]
    assert massed.encode(x[:8].reshape(2, 4, 4, 3)).shape == (2, 4, 5)
    assert torch.allclose(massed.leading(2).encode(x), massed.encode(x)[:, :2])


def test_modes_without_variance_are_orthonormal_too():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*shape, generator=generator, dtype=torch.double) for shape in ((9, 2), (2, 20)))
    pod = POD.fit(a @ b, 5)
    assert torch.allclose(pod.modes @ pod.modes.mT, torch.eye(5, dtype=torch.double), atol=1e-10)
    assert torch.allclose(pod.decode(pod.encode(a @ b)), a @ b, atol=1e-10)
    assert float(pod.variances[2:].max()) < 1e-12 * float(pod.variances[0])


def test_pod_refuses():
    x = torch.zeros(5, 3)
    with pytest.raises(InputError, match="1 … 3 there are"):
        POD.fit(x, 4)
    x[0, 0] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        POD.fit(x, 1)
    with pytest.raises(InputError, match="expected"):
        POD.fit(torch.zeros(5, 3), 2, torch.ones(2))
