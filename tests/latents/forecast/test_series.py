"""Windows of series: what they hold, and what they never cross."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from sciencevae.errors import InputError
from sciencevae.latents.forecast import stretches, windows, windows_of


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    window=st.integers(1, 4),
    horizon=st.integers(1, 3),
    stride=st.integers(1, 3),
    seed=st.integers(0, 10_000),
)
def test_windows_are_consecutive_frames_of_one_run_and_split(lengths, window, horizon, stride, seed):
    """Shuffled rows, frames left out at random, splits at random: each window is what a slow search finds."""
    generator = np.random.default_rng(seed)
    run = np.repeat(np.arange(len(lengths)), lengths)
    frame = np.concatenate([np.arange(n) for n in lengths])
    split = np.sort(generator.integers(-1, 3, len(run)))
    kept = generator.permutation(len(run))[: max(1, int(0.9 * len(run)))]
    run, frame, split = run[kept], frame[kept], split[kept]
    place = {(r, t): i for i, (r, t) in enumerate(zip(run.tolist(), frame.tolist(), strict=True))}
    whole = []
    for (r, t), i in place.items():
        rows = [place.get((r, t + j)) for j in range(window + horizon)]
        if None not in rows and split[i] >= 0 and len({int(split[row]) for row in rows}) == 1:
            whole.append(rows)
    z = np.stack([run, frame], 1).astype(np.float32)
    if not _most_steps_are_single(run, frame, split):  # else several frames are the common step
        return
    if not whole:
        with pytest.raises(InputError, match=r"shorter than window|irregular"):
            windows_of(z, run, 0.1 * frame, split, window=window, horizon=horizon)
        return
    found = windows_of(z, run, 0.1 * frame, split, window=window, horizon=horizon, stride=stride)
    assert {*map(tuple, found.rows.tolist())} <= {*map(tuple, whole)}
    if stride == 1:
        assert len(found) == len(whole)
    assert torch.equal(torch.cat([found.history, found.future], 1), torch.from_numpy(z[found.rows]))


def _most_steps_are_single(run, frame, split):
    order = np.lexsort((frame, run))
    order = order[split[order] >= 0]
    steps = np.diff(frame[order])[np.diff(run[order]) == 0]
    return not len(steps) or np.median(steps) == 1


def table(frames=30, **coords):
    time = np.arange(frames) * 0.5
    return xr.Dataset(
        {"z": (("sample", "latent"), np.stack([time, -time], 1).astype(np.float32))},
        {"time": ("sample", time), **{name: ("sample", values) for name, values in coords.items()}},
    )


def test_a_table_of_latents():
    split = np.repeat([0, 1, 2], 10).astype(np.int8)
    ds = table(run=np.zeros(30), split=split).assign(condition=("sample", np.arange(30.0)))
    ds = ds.isel(sample=np.random.default_rng(0).permutation(30))
    found = windows(ds, 3, 2, split="valid")
    assert (len(found), found.history.shape, found.future.shape) == (6, (6, 3, 2), (6, 2, 2))
    assert found.future[0, :, 0].tolist() == [6.5, 7.0]
    assert found.condition[:, 0].tolist() == [12.0, 13.0, 14.0, 15.0, 16.0, 17.0]  # of the last frame known
    assert torch.equal(torch.from_numpy(ds["z"].values[found.rows[:, 3:]]), found.future)
    assert len(windows(ds, 3, 2)) == 18
    assert len(found[found.condition[:, 0].numpy() > 14]) == 3


def test_missing_frames_are_gaps():
    z = np.arange(12.0)[:, None].copy()
    z[5] = np.nan
    found = windows_of(z, np.zeros(12), np.arange(12), window=2, horizon=1)
    assert found.rows[:, 0].tolist() == [0, 1, 2, 6, 7, 8, 9]


def test_dates_are_times():
    days = np.datetime64("2020-01-01") + np.array([0, 1, 2, 3, 5, 6, 7]).astype("timedelta64[D]")
    assert [len(rows) for rows in stretches(np.zeros(7), days)] == [4, 3]


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ([0, 1, 2, 3.4, 4.4, 5.4], "irregular time steps: 1 of 5.*interpolate"),
        ([0, 1, 2, 2, 3, 4], "two frames at time 2"),
        ([0, 1, 2, np.nan, 4, 5], "not finite"),
        ([0, 1, 2, 13, 14, 15], r"2 \+ 2 = 4 frames are needed, the longest stretch without a gap has 3"),
    ],
)
def test_what_is_refused(time, words):
    with pytest.raises(InputError, match=words):
        windows_of(np.zeros((6, 1)), np.zeros(6), time, window=2, horizon=2)


def test_a_table_without_time_is_refused():
    with pytest.raises(InputError, match="no coordinate 'time'"):
        windows(table().drop_vars("time"), 2, 2)
    with pytest.raises(InputError, match="no 'y'"):
        windows(table(), 2, 2, variable="y")
