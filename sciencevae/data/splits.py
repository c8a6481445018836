"""Train, valid and test rows that share no group: by a permutation of groups, or by blocks of time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "SPLITS",
    "assign",
    "check_leakage",
    "split_attributes",
    "split_rows",
    "time_blocks",
    "valid_count",
    "with_splits",
]

SPLITS = {"train": 0, "valid": 1, "test": 2}
UNUSED = -1  # rows between time blocks, in no split
DEFAULT = {"train": 0.8, "valid": 0.1, "test": 0.1}


def assign(groups: Any, fractions: Mapping[str, float] = DEFAULT, seed: int = 0) -> np.ndarray:
    """The split of each row, (n,) int8 with 0 train, 1 valid, 2 test; rows of one group share it.

    groups: (n,) labels of any kind. The result depends on the labels and their counts, not on the row order.

    Every split with a fraction above zero gets at least one group; InputError when there are too few groups.

    >>> assign(["b", "b", "a", "c"], {"train": 0.5, "valid": 0.25, "test": 0.25}, seed=5).tolist()
    [0, 0, 2, 1]
    """
    wanted = _fractions(fractions)
    _, inverse, sizes = _labelled(np.asarray(groups))
    needed = int((wanted > 0).sum())
    if len(sizes) < needed:
        raise InputError(
            f"{len(sizes)} group(s) cannot fill {needed} splits without cutting one: "
            "bring more groups, or set the fraction of a split to 0"
        )
    order = np.random.default_rng(seed).permutation(len(sizes))
    middle = np.cumsum(sizes[order]) - sizes[order] / 2
    split = np.empty(len(sizes), dtype=np.int8)
    split[order] = np.searchsorted(np.cumsum(wanted)[:-1], middle / sizes.sum(), side="right")
    for code in np.flatnonzero(wanted > 0):
        if not (
            split == code
        ).any():  # its share is smaller than one group: take the smallest that can be spared
            counts = np.bincount(split, minlength=3)
            spare = order[counts[split[order]] > 1]
            split[spare[np.argmin(sizes[spare])]] = code
    return split[inverse]


def time_blocks(
    steps: int, fractions: Mapping[str, float] = DEFAULT, *, window: int, horizon: int = 0
) -> np.ndarray:
    """The split of each step of one run, (steps,) int8: train, valid, test in this order, in time.

    Between two blocks lie window + horizon steps of code −1, in no split, so that no window (with what it
    predicts) begins in one block and ends in another.
    """
    wanted = _fractions(fractions)
    codes = np.flatnonzero(wanted > 0)
    gap = window + horizon
    usable = steps - gap * (len(codes) - 1)
    lengths = np.diff(np.round(np.cumsum([0.0, *wanted[codes]]) * max(usable, 0)).astype(int))
    if usable < 1 or (lengths < gap).any():
        raise InputError(
            f"a run of {steps} steps is too short for {len(codes)} blocks with gaps of "
            f"window + horizon = {gap}: shorten the window, or set the fraction of a split to 0"
        )
    split = np.full(steps, UNUSED, dtype=np.int8)
    start = 0
    for code, length in zip(codes, lengths, strict=True):
        split[start : start + length] = code
        start += length + gap
    return split


def valid_count(count: int, fractions: Mapping[str, float] = DEFAULT) -> int:
    """Of ``count`` things of which none is test, how many are valid: as the fraction of valid is to that of train.

    >>> valid_count(90, {"train": 0.6, "valid": 0.2, "test": 0.2}), valid_count(90, {"test": 1.0})
    (22, 0)
    """
    train, valid, _ = _fractions(fractions)
    return round(count * valid / max(train + valid, 1e-12))


def check_leakage(ds: xr.Dataset) -> None:
    """InputError when a group of ``ds`` lies in two splits."""
    if "split" not in ds.coords or "group" not in ds.coords:
        return
    split, group = ds["split"].values, ds["group"].values
    if (split < 0).any():
        split, group = split[split >= 0], group[split >= 0]
    labels, codes, _ = _labelled(group)
    told = np.empty(len(codes) and int(codes.max()) + 1, dtype=np.int8)
    told[codes] = split
    if len(twice := codes[told[codes] != split]):
        names, cut = list(SPLITS), int(twice.min())
        first, second = (names[code] for code in np.unique(split[codes == cut])[:2])
        raise InputError(
            f"leakage: group {cut if labels is None else labels[cut]} lies in {first} and in {second}; "
            "splits must not cut a group (sciencevae.data.assign makes such splits)"
        )


def with_splits(ds: xr.Dataset, fractions: Mapping[str, float] = DEFAULT, seed: int = 0) -> xr.Dataset:
    """``ds`` with the coordinates ``group`` (each row its own, unless given) and ``split``."""
    n = ds.sizes["sample"]
    if "group" not in ds.coords:
        ds = ds.assign_coords(group=("sample", np.arange(n, dtype=np.int64)))
    if "split" not in ds.coords:
        ds = ds.assign_coords(split=("sample", assign(ds["group"].values, fractions, seed)))
    return ds.assign_coords(split=ds["split"].astype(np.int8).assign_attrs(split_attributes()))


def split_attributes() -> dict[str, Any]:
    """What the coordinate ``split`` says about its codes, as CF has it."""
    return {
        "long_name": "part of the data a row belongs to (-1: none)",
        "flag_values": list(SPLITS.values()),
        "flag_meanings": " ".join(SPLITS),
    }


def split_rows(ds: xr.Dataset, split: str | None) -> np.ndarray:
    """The rows (ascending) of one split, or all rows; InputError when there are none."""
    if split is None:
        return np.arange(ds.sizes["sample"])
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}{did_you_mean(split, SPLITS)}")
    if "split" not in ds.coords:
        raise InputError(f"the data has no coordinate 'split' to take {split!r} from: prepare it first")
    rows = np.flatnonzero(ds["split"].values == SPLITS[split])
    if not len(rows):
        raise InputError(f"the split {split!r} is empty: raise its fraction, or bring more groups")
    return rows


def _labelled(groups: np.ndarray) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """As ``np.unique``: labels in order (None: their numbers), the number of each row's, and the rows of each.

    Of rows that are numbered from 0 on, each number in use, no copy is made, let alone sorted.
    """
    if groups.dtype.kind == "i" and len(groups) and groups.min() == 0 and groups.max() < len(groups):
        sizes = np.bincount(groups)
        if sizes.all():
            return None, groups, sizes
    labels, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return labels, codes, sizes


def _fractions(fractions: Mapping[str, float]) -> np.ndarray:
    for name in fractions:
        if name not in SPLITS:
            raise InputError(f"unknown split {name!r}{did_you_mean(name, SPLITS)}")
    wanted = np.array([float(fractions.get(name, 0.0)) for name in SPLITS])
    if (wanted < 0).any() or abs(wanted.sum() - 1) > 1e-6:
        raise InputError(f"the fractions of the splits must be ≥ 0 and sum to 1; found {dict(fractions)}")
    return wanted
