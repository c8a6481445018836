"""Measures of disentanglement on codes whose score is known: perfect, empty, rotated, doubled, noisy."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from sciencevae.errors import InputError
from sciencevae.latents.disentangle import dci, disentanglement, factor_vae_score, mig, sap

SIZES = (3, 4, 5)
#: a complete grid, ten data a point, so that factors are exactly independent
GRID = np.array(list(itertools.product(*map(range, SIZES))) * 10)
RANDOM = np.random.default_rng(0)


def standard(codes):
    return (codes - codes.mean(0)) / codes.std(0)


PERFECT = standard(GRID[:, [2, 0, 1]].astype(float))


def values(z, factors=GRID):
    found = dci(z, factors)
    return {
        "mig": mig(z, factors).value,
        "factor_vae": factor_vae_score(z, factors).value,
        "sap": sap(z, factors).value,
        "disentanglement": found.disentanglement,
        "completeness": found.completeness,
        "informativeness": found.informativeness,
    }


def test_one_dimension_a_factor_is_perfect():
    assert values(PERFECT) == pytest.approx(dict.fromkeys(values(PERFECT), 1.0), abs=1e-9)
    assert mig(PERFECT, GRID).matrix == pytest.approx(np.eye(3)[[2, 0, 1]], abs=1e-9)
    assert dci(PERFECT, GRID).importance.argmax(1).tolist() == [2, 0, 1]


def test_codes_that_know_nothing_score_chance():
    factors = np.stack([RANDOM.integers(0, n, 6000) for n in SIZES], 1)
    z = RANDOM.normal(size=(6000, 8))
    found = values(z, factors)
    for name in ("mig", "sap", "disentanglement", "completeness"):
        assert 0 <= found[name] < 0.01, name
    assert found["factor_vae"] == pytest.approx(1 / 3, abs=0.07)
    assert found["informativeness"] == pytest.approx(np.mean([1 / n for n in SIZES]), abs=0.03)
    # what histograms of independent quantities share by chance, over the entropy of the factor
    chance = [19 * (n - 1) / (2 * 6000) / np.log(n) for n in SIZES]
    assert mig(z, factors).matrix.mean(0) == pytest.approx(chance, rel=0.25)


def test_a_rotated_pair_is_informative_and_entangled():
    pair = np.array(list(itertools.product(range(4), range(4))) * 100)
    x, y = standard(pair.astype(float)).T
    z = np.stack([x + 0.5 * y, y - 0.5 * x], 1)
    found = values(z, pair)
    assert found["informativeness"] > 0.99
    # R² of one dimension is cos² = 1/1.25 for its own factor and sin² for the other
    assert found["sap"] == pytest.approx((1 - 0.25) / 1.25, abs=1e-9)
    for name in ("mig", "disentanglement", "completeness"):
        assert found[name] < 0.7, name
    # turned by 45 degrees neither dimension is ahead
    even = values(np.stack([x + y, y - x], 1), pair)
    for name in ("mig", "sap", "disentanglement"):
        assert even[name] < 0.05, name
    assert even["factor_vae"] < 0.75


def test_a_doubled_dimension_has_no_gap_and_is_not_complete():
    z = PERFECT[:, [0, 1, 2, 0, 1, 2]]
    found = values(z)
    assert found["mig"] == pytest.approx(0, abs=1e-9)
    assert found["sap"] == pytest.approx(0, abs=1e-9)
    assert found["factor_vae"] == 1
    assert found["disentanglement"] == pytest.approx(1)
    # each factor lies in two of six dimensions, which trees use about evenly
    assert found["completeness"] == pytest.approx(1 - np.log(2) / np.log(6), abs=0.08)


def test_noise_lowers_what_depends_on_it():
    noisy = standard(PERFECT + 0.5 * RANDOM.normal(size=PERFECT.shape))
    found = values(noisy)
    for name in ("mig", "sap", "disentanglement", "informativeness"):
        assert 0.3 < found[name] < 0.97, name
    assert found["factor_vae"] == 1  # the least variance is still where it was
    # R² of a code of variance 1 with noise of variance ¼
    assert found["sap"] == pytest.approx(0.8, abs=0.03)


@settings(max_examples=15, deadline=None)
@given(
    st.permutations(range(4)),
    st.lists(st.floats(1, 100), min_size=4, max_size=4),
    st.lists(st.floats(-10, 10), min_size=4, max_size=4),
    st.permutations(range(3)),
)
def test_order_scale_and_offset_of_dimensions_do_not_matter(order, scale, offset, factor_order):
    z = np.hstack(
        [PERFECT + 0.4 * np.sin(7 * np.arange(PERFECT.size)).reshape(PERFECT.shape), PERFECT[:, :1]]
    )
    z[:, 3] += 0.3 * np.cos(11 * np.arange(len(z)))
    changed = (z * scale + offset)[:, order]
    for measure in (mig, sap):
        one, two = measure(z, GRID), measure(changed, GRID[:, factor_order])
        assert two.value == pytest.approx(one.value, abs=1e-6)
        assert two.matrix == pytest.approx(one.matrix[np.ix_(order, factor_order)], abs=1e-6)
    one, two = factor_vae_score(z, GRID), factor_vae_score(changed, GRID)
    assert two.matrix == pytest.approx(one.matrix[order], abs=1e-9)
    one, two = dci(z, GRID, trees=5), dci(changed, GRID, trees=5)
    # trees draw the order in which they try dimensions, so equal splits may fall otherwise
    assert two.importance == pytest.approx(one.importance[order], abs=0.03)


def test_mutual_information_is_that_of_scikit_learn():
    z = RANDOM.normal(size=(500, 1)) + GRID[:500, :1]
    binned = np.minimum(((z - z.min()) / np.ptp(z) * 20).astype(int), 19)
    for k in range(3):
        classes = GRID[:500, k]
        entropy = mutual_info_score(classes, classes)
        assert mig(z, GRID[:500]).matrix[0, k] == pytest.approx(
            mutual_info_score(binned[:, 0], classes) / entropy, abs=1e-12
        )


def test_factors_without_order_are_separated_by_thresholds():
    """A code that orders the classes otherwise says all of a categorical factor, and R² does not see it."""
    z = np.array([1.0, -1.0, 0.0])[GRID[:, [0]]]
    assert sap(z, GRID[:, [0]]).value == pytest.approx(
        0.25
    )  # the correlation of (0, 1, 2) and (1, −1, 0) is −½
    assert sap(z, GRID[:, [0]], categorical=[0]).value == pytest.approx(1)
    noise = np.zeros((len(z), 1))
    noise[::2] = 2.0
    with_noise = sap(np.hstack([z, noise]), GRID[:, [0]], categorical=[0])
    assert with_noise.matrix[1, 0] == pytest.approx(1 / 3, abs=0.1)


def test_a_collapsed_model_scores_nothing_and_collapsed_dimensions_do_not_count():
    found = values(np.zeros((len(GRID), 3)))
    assert found.pop("informativeness") < 0.5
    assert found == dict.fromkeys(found, 0.0)
    # a collapsed dimension that says it all, in a whisper
    z = np.hstack([PERFECT[:, :1] + 0.5 * RANDOM.normal(size=(len(GRID), 1)), 1e-3 * PERFECT])
    assert factor_vae_score(z, GRID).matrix[1:].max() == 0
    assert sap(z, GRID).matrix[1:].max() == 0


def test_one_factor_and_one_dimension():
    alone = values(PERFECT[:, [1]], GRID[:, [0]])
    assert alone == pytest.approx(dict.fromkeys(alone, 1.0))


def test_the_table_has_a_row_a_factor_and_one_of_all():
    table = disentanglement(
        torch.from_numpy(PERFECT), torch.from_numpy(GRID), ["shape", "size", "angle"], [0]
    )
    assert table.factor.tolist() == ["shape", "size", "angle", "all"]
    assert table.dimension.tolist()[:3] == [1, 2, 0]
    last = table.iloc[-1]
    assert last.mig == last.factor_vae == last.disentanglement == pytest.approx(1)
    assert last.sap == pytest.approx(
        (1 - 1 / 3 + 2) / 3
    )  # thresholds on another dimension guess one of three
    assert table.completeness.tolist() == pytest.approx([1] * 4)
    again = disentanglement(PERFECT, GRID, ["shape", "size", "angle"], [0])
    assert table.equals(again)


@pytest.mark.parametrize("measure", [mig, sap, factor_vae_score, dci])
@pytest.mark.parametrize(
    ("z", "factors", "message"),
    [
        (np.where(PERFECT > 1, np.nan, PERFECT), GRID, "codes are not finite"),
        (PERFECT, np.where(np.arange(3) == 1, 5, GRID), "factor 1 has one value"),
        (PERFECT[1:], GRID, "599 codes and 600 rows of factors"),
        (PERFECT, GRID + 0.5, "not whole numbers"),
        (PERFECT, GRID[:, 0], r"the factors have shape \(600,\)"),
        (PERFECT[:, :0], GRID, r"the codes have shape \(600, 0\)"),
    ],
)
def test_what_cannot_be_measured_is_refused(measure, z, factors, message):
    with pytest.raises(InputError, match=message):
        measure(z, factors)


def test_what_single_measures_refuse():
    with pytest.raises(InputError, match="2 names for 3 factors"):
        disentanglement(PERFECT, GRID, ["a", "b"])
    with pytest.raises(InputError, match="categorical names factor 3 of 3"):
        sap(PERFECT, GRID, categorical=[3])
    with pytest.raises(InputError, match="no two data share a class of factor 0"):
        factor_vae_score(PERFECT, np.arange(600)[:, None])
    with pytest.raises(InputError, match="5 data are too few"):
        dci(PERFECT[:5], np.eye(5, dtype=int)[:, :1])
