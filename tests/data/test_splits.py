"""Splits never cut a group, whatever the groups are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from sciencevae.data.splits import assign, check_leakage, split_rows, time_blocks
from sciencevae.errors import InputError

Table = Callable[..., xr.Dataset]

labels = st.lists(st.integers(-5, 40), min_size=1, max_size=200)


@given(
    labels,
    st.integers(0, 2**32 - 1),
    st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.5, 0), (1, 0, 0), (0, 0.3, 0.7)]),
)
def test_no_group_is_cut_and_no_wanted_split_is_empty(
    groups: list[int], seed: int, shares: tuple[float, ...]
) -> None:
    fractions = dict(zip(("train", "valid", "test"), shares, strict=True))
    wanted = [code for code, share in enumerate(shares) if share > 0]
    if len(set(groups)) < len(wanted):
        with pytest.raises(InputError, match="cannot fill"):
            assign(groups, fractions, seed)
        return
    split = assign(groups, fractions, seed)
    assert split.dtype == np.int8
    assert sorted(set(split.tolist())) == wanted
    for group in set(groups):
        assert len(set(split[np.array(groups) == group])) == 1


@given(labels.filter(lambda groups: len(set(groups)) >= 3), st.randoms(use_true_random=False))
def test_the_split_of_a_group_does_not_depend_on_the_order_of_rows(groups: list[int], random: object) -> None:
    order = list(range(len(groups)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = assign([groups[i] for i in order], seed=1)
    assert np.array_equal(assign(groups, seed=1)[order], shuffled)


def test_fractions_are_met_for_many_groups() -> None:
    split = assign(np.repeat(np.arange(10_000), 3), seed=0)
    assert np.allclose(np.bincount(split) / len(split), [0.8, 0.1, 0.1], atol=1e-3)
    text = assign(np.array(["a", "b", "c", "a"]), seed=0)
    assert text[0] == text[3]


@given(st.integers(1, 400), st.integers(1, 12), st.integers(0, 6))
def test_no_window_of_a_run_reaches_into_another_block(steps: int, window: int, horizon: int) -> None:
    try:
        split = time_blocks(steps, window=window, horizon=horizon)
    except InputError as error:
        assert "too short" in str(error)  # noqa: PT017 - whether it is too short depends on the rounding
        return
    assert set(split[split >= 0]) == {0, 1, 2}
    reach = window + horizon
    for start in range(steps - reach + 1):
        codes = split[start : start + reach]
        assert len(set(codes[codes >= 0])) <= 1


def test_leakage_is_refused_by_name(table: Table) -> None:
    ds = table()
    check_leakage(ds)
    group = ds["group"].values.copy()
    first, second = (np.flatnonzero(ds["split"].values == code)[0] for code in (0, 2))
    group[second] = group[first]
    with pytest.raises(InputError, match=f"leakage: group {group[first]} lies in train and in test"):
        check_leakage(ds.assign_coords(group=("sample", group)))


def test_an_unknown_or_empty_split_is_refused(table: Table) -> None:
    ds = table()
    with pytest.raises(InputError, match="unknown split 'trian'; did you mean 'train'"):
        split_rows(ds, "trian")
    with pytest.raises(InputError, match="the split 'test' is empty"):
        split_rows(ds.isel(sample=ds["split"].values != 2), "test")
    with pytest.raises(InputError, match="no coordinate 'split'"):
        split_rows(ds.drop_vars("split"), "test")
    with pytest.raises(InputError, match="sum to 1"):
        assign([1, 2, 3], {"train": 0.5})
    with pytest.raises(InputError, match="unknown split 'tset'"):
        assign([1, 2, 3], {"train": 0.5, "tset": 0.5})


@pytest.mark.parametrize("labels", [["star0", "star1", "star2"], [0.0, 0.1, 0.2]])
def test_groups_may_have_labels_of_any_kind(labels) -> None:
    group = np.array(labels).repeat(2)
    ds = xr.Dataset(coords={"group": ("sample", group), "split": ("sample", np.array([0, 0, 1, 1, 2, 2]))})
    check_leakage(ds)
    with pytest.raises(InputError, match=f"leakage: group {labels[0]} lies in train and in valid"):
        check_leakage(ds.assign_coords(split=("sample", np.array([0, 1, 1, 1, 2, 2]))))
