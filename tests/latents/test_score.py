"""Thresholds of a stated false-positive rate, areas under the curve: against simulation and other libraries."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from sciencevae.errors import InputError
from sciencevae.latents.score import auc, threshold


@pytest.mark.parametrize(("n", "rate"), [(99, 0.01), (150, 0.01), (57, 0.1), (500, 0.05)])
def test_the_realised_rate_is_the_stated_one(n, rate):
    """For uniform scores the realised rate of a threshold t is 1 − t, exactly."""
    rng = np.random.default_rng(n)
    found = [threshold(rng.random(n), rate) for _ in range(4000)]
    realised = np.array([1 - t.value for t in found])
    error = realised.std() / len(realised) ** 0.5
    assert realised.mean() == pytest.approx(found[0].rate, abs=4 * error)
    assert found[0].rate <= rate + 1e-12
    assert found[0].rate > rate - 1 / (n + 1)  # and no lower than it has to be
    low, high = found[0].interval
    assert np.mean((realised > low) & (realised < high)) == pytest.approx(0.95, abs=0.015)
    # the whole distribution, not its ends alone
    k = n + 1 - round(found[0].rate * (n + 1))
    assert stats.kstest(realised, stats.beta(n + 1 - k, k).cdf).pvalue > 1e-3


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=60),
    st.integers(1, 60).flatmap(lambda d: st.tuples(st.integers(1, d), st.just(d + 1))),
)
def test_the_order_statistic_by_exact_arithmetic(scores, fraction):
    """k = ⌈(n + 1)(1 − α)⌉ in whole numbers; leaving each datum out of n + 1 shows the guarantee, ties included."""
    numerator, denominator = fraction
    n = len(scores)
    allowed = (n + 1) * numerator // denominator
    if allowed == 0:
        needed = -(-denominator // numerator) - 1
        with pytest.raises(InputError, match=f"at least {needed},"):
            threshold(scores, numerator / denominator)
        return
    assert threshold(scores, numerator / denominator).value == sorted(scores)[n - allowed]
    exchangeable = [*scores, 7]
    called = [
        threshold(exchangeable[:i] + exchangeable[i + 1 :], numerator / denominator).is_anomalous([datum])[0]
        for i, datum in enumerate(exchangeable)
    ]
    assert sum(called) <= allowed


def test_a_threshold_is_applied_in_the_kind_of_the_scores():
    scores = torch.linspace(0, 1, 199) / 3
    found = threshold(scores, 0.05)
    assert found.n == 199
    flags = found.is_anomalous(scores)  # float32 stays above, below and at the threshold what it is
    assert flags.dtype == torch.bool
    assert int(flags.sum()) == 9
    assert np.array_equal(found.is_anomalous(scores.numpy()), flags.numpy())
    assert found.is_anomalous(torch.full((2, 3), np.inf)).all()
    assert threshold(scores.double(), 0.05) == found
    assert threshold(np.append(scores, -np.inf), 0.05).value <= found.value


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        (np.zeros(98), {}, "98 scores .* at least 99, or allow a rate of 0.01"),
        (np.zeros(0), {}, "at least 99"),
        ([0.0, np.nan], {"false_positive_rate": 0.5}, "1 of scores are NaN"),
        (np.zeros((9, 2)), {"false_positive_rate": 0.5}, r"shape \(9, 2\)"),
        (np.zeros(9), {"false_positive_rate": 0.0}, "false_positive_rate lies between 0 and 1"),
        (np.zeros(9), {"false_positive_rate": 0.5, "confidence": 1.0}, "confidence lies between"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(scores, options, message):
    with pytest.raises(InputError, match=message):
        threshold(scores, **options)


def test_a_score_that_is_nan_is_not_called_normal():
    with pytest.raises(InputError, match="NaN"):
        threshold(np.arange(9), 0.5).is_anomalous(torch.tensor([1.0, torch.nan]))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 8), min_size=2, max_size=30), st.lists(st.integers(0, 8), min_size=2, max_size=30)
)
def test_auc_with_ties_against_scikit_learn_and_all_pairs(normal, anomalous):
    found = auc(normal, torch.tensor(anomalous, dtype=torch.float32))
    label = np.repeat([0, 1], [len(normal), len(anomalous)])
    assert found.value == pytest.approx(roc_auc_score(label, normal + anomalous), abs=1e-12)
    # DeLong's structural components, pair by pair
    pairs = (np.sign(np.subtract.outer(anomalous, normal)) + 1) / 2
    variance = sum(stats.sem(pairs.mean(axis)) ** 2 for axis in (0, 1))
    assert found.stderr == pytest.approx(variance**0.5, abs=1e-12)
    assert auc(anomalous, normal).value == pytest.approx(1 - found.value, abs=1e-12)


def test_auc_of_two_normals_and_the_spread_of_its_estimate():
    rng = np.random.default_rng(0)
    repeats = [auc(rng.normal(size=80), rng.normal(1.0, size=50)) for _ in range(2000)]
    values, errors = np.array(repeats).T
    exact = stats.norm.cdf(1 / 2**0.5)
    assert values.mean() == pytest.approx(exact, abs=4 * values.std() / 2000**0.5)
    assert errors.mean() == pytest.approx(values.std(), rel=0.06)


@pytest.mark.parametrize(
    ("normal", "anomalous", "message"),
    [
        ([1.0], [1.0, 2.0], "scores_normal holds 1 "),
        ([1.0, 2.0], [], "scores_anomalous holds 0 "),
        ([1.0, np.nan], [1.0, 2.0], "1 of scores_normal are NaN"),
        ([1.0, 2.0], [[1.0, 2.0]], "scores_anomalous has shape"),
    ],
)
def test_areas_that_cannot_be_are_refused(normal, anomalous, message):
    with pytest.raises(InputError, match=message):
        auc(normal, anomalous)
