"""Series of latents as windows: so many frames of history, and those to forecast from them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciencevae.data.rows import evenly
from sciencevae.data.splits import split_rows
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Windows", "stretches", "windows", "windows_of"]

#: by how much a step in time may differ from the common one, of that step: stored times are rounded
TOLERANCE = 0.01

log = logging.getLogger("sciencevae")


@dataclass(frozen=True)
class Windows:
    """N windows of a series: history (N, L, D), future (N, H, D), condition (N, c) or None.

    rows: (N, L + H), the number of each frame's row in the table it was taken from; the field to be forecast is
    ``x[windows.rows[:, L:]]``.
    """

    history: Tensor
    future: Tensor
    rows: np.ndarray
    condition: Tensor | None = None

    def __len__(self) -> int:
        return len(self.history)

    def __getitem__(self, index: Any) -> Windows:
        """Those windows that ``index`` (a slice, numbers or booleans) takes."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        where = torch.as_tensor(index) if isinstance(index, np.ndarray) else index
        condition = None if self.condition is None else self.condition[where]
        return Windows(self.history[where], self.future[where], self.rows[index], condition)


def windows(
    latents: xr.Dataset,
    window: int,
    horizon: int,
    *,
    split: str | None = None,
    variable: str = "z",
    run: str = "run",
    stride: int = 1,
) -> Windows:
    """The windows of a table of latents ``z`` (sample, latent), as ``encode`` writes it, in any order of its rows.

    Its coordinates: ``time``; ``run``, whose name can be another, or missing where all is one run; ``split``, whose
    parts no window crosses; ``condition`` (sample,) or (sample, c) beside ``z`` goes along, as at the last frame of
    the history. split: the windows of that part alone. stride: frames between the beginnings of two windows.

    Raises InputError as ``stretches`` does, and where no stretch is as long as window + horizon.
    """
    if variable not in latents:
        raise InputError(f"the table has no {variable!r} (sample, latent) to forecast")
    if "time" not in latents.coords:
        raise InputError("the table has no coordinate 'time': a series is rows with a time")
    z = latents[variable].values
    rows = split_rows(latents, split)
    parts = latents["split"].values if "split" in latents.coords else np.zeros(len(z), np.int8)
    runs = latents[run].values if run in latents.coords else np.zeros(len(z), np.int8)
    condition = latents["condition"].values[rows] if "condition" in latents else None
    found = windows_of(
        z[rows],
        runs[rows],
        latents["time"].values[rows],
        parts[rows],
        condition=condition,
        window=window,
        horizon=horizon,
        stride=stride,
    )
    return Windows(found.history, found.future, rows[found.rows], found.condition)


def windows_of(
    z: Any,
    run: Any,
    time: Any,
    split: Any = None,
    *,
    window: int,
    horizon: int,
    condition: Any = None,
    stride: int = 1,
    most: int | None = None,
) -> Windows:
    """The windows of rows z (n, D), each of a run, at a time, in a part of the data; see ``windows``.

    most: of more than so many windows that number, evenly spaced.

    >>> series = windows_of(np.arange(10.0)[:, None], np.zeros(10), np.arange(10), window=3, horizon=2)
    >>> series.history.shape, series.future[0].flatten().tolist()
    (torch.Size([6, 3, 1]), [3.0, 4.0])
    """
    if min(window, horizon, stride) < 1:
        raise InputError(f"window, horizon and stride are ≥ 1, not {window}, {horizon} and {stride}")
    values = torch.as_tensor(z)
    whole = np.isfinite(values.numpy()).all(1)
    length = window + horizon
    found, longest, short = [], 0, []
    for rows in stretches(run, time, split, whole):
        longest = max(longest, len(rows))
        if len(rows) < length:
            short.append(str(np.asarray(run)[rows[0]]))
            continue
        found.append((rows, np.arange(0, len(rows) - length + 1, stride)))
    if not found:
        raise InputError(
            f"the series is shorter than window + horizon: {window} + {horizon} = {length} frames are needed, the "
            f"longest stretch without a gap has {longest}; shorten the window or the horizon, or bring longer runs"
        )
    if short:
        named = ", ".join(dict.fromkeys(short))
        log.warning("stretches of fewer than %d frames give no window (run %s)", length, named)
    taken = _taken(found, length, most)
    frames = values[torch.from_numpy(taken)]  # (N, L + H, D)
    given = None
    if condition is not None:
        given = torch.as_tensor(condition)[torch.from_numpy(taken[:, window - 1])].reshape(len(taken), -1)
        given = given.to(frames.dtype)
    return Windows(frames[:, :window], frames[:, window:], taken, given)


def _taken(found: list[tuple[np.ndarray, np.ndarray]], length: int, most: int | None) -> np.ndarray:
    """The rows (N, length) of windows, from the rows of each stretch and where windows begin in it."""
    count = sum(len(starts) for _, starts in found)
    chosen, first, parts = evenly(count, most or count), 0, []
    for rows, starts in found:
        own = chosen[np.searchsorted(chosen, first) : np.searchsorted(chosen, first + len(starts))] - first
        parts.append(rows[starts[own][:, None] + np.arange(length)])
        first += len(starts)
    return np.concatenate(parts)


def stretches(run: Any, time: Any, split: Any = None, whole: Any = None) -> Iterator[np.ndarray]:
    """The rows of each stretch of one run, one part of the data and equal steps in time, in order of time.

    run, time, split: (n,), split −1 being no part; whole: (n,) booleans, False where a frame is missing. A step
    of several times the common one is a gap, and ends a stretch.

    Raises InputError for times that are not finite, twice the same in one run, or off the common step.
    """
    runs, moments = np.unique(np.asarray(run), return_inverse=True)[1], np.asarray(time)
    if moments.dtype.kind in "mM":
        moments = (moments - moments.min()).astype("timedelta64[ns]").astype(np.float64)
    moments = moments.astype(np.float64)
    parts = np.zeros(len(runs), np.int8) if split is None else np.asarray(split)
    used = (parts >= 0) & (True if whole is None else np.asarray(whole))
    if not np.isfinite(moments[used]).all():
        raise InputError(
            "the coordinate 'time' has values that are not finite: mend them, or leave the rows out"
        )
    order = np.lexsort((moments, runs))
    order = order[used[order]]
    if len(order) < 2:
        if len(order):
            yield order
        return
    same = np.diff(runs[order]) == 0
    steps = np.diff(moments[order])
    breaks = ~same | (np.diff(parts[order]) != 0)
    if same.any():
        breaks |= _gaps(steps, same, np.asarray(run)[order], moments[order])
    yield from np.split(order, np.flatnonzero(breaks) + 1)


def _gaps(steps: np.ndarray, same: np.ndarray, run: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Where a step within a run is several times the common one; InputError where it is no multiple of it."""
    if (twice := np.flatnonzero(same & (steps == 0))).size:
        at = twice[0]
        raise InputError(
            f"run {run[at]} has two frames at time {time[at]:g}: a series has one frame at a time; give each "
            "simulation or recording a run of its own"
        )
    common = float(np.median(steps[same]))
    multiple = steps / common
    off = same & (np.abs(multiple - np.maximum(np.round(multiple), 1)) > TOLERANCE)
    if off.any():
        at = int(np.flatnonzero(off)[0])
        raise InputError(
            f"irregular time steps: {int(off.sum())} of {int(same.sum())} are no multiple of the common step "
            f"{common:g} (run {run[at]} goes from time {time[at]:g} to {time[at + 1]:g}); a forecaster knows "
            "frames, not times: interpolate the fields to one step (xarray: ds.interp(time=…)), or record at one"
        )
    return np.round(multiple) > 1
