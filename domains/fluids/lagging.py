"""Data that are stretches of frames: those up to its own, which are read, and those after, described, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from .settings import Prepare

__all__ = ["DIMS", "PAST", "Lags", "lagged"]

#: what ``WindowEncoder`` of the core reads
PAST = "past"

#: of x, the frame and those that follow, and of the frames up to its own
DIMS = {name: ("sample", lag, "channel", "row", "column") for name, lag in (("x", "lag"), (PAST, "back"))}


class Lags:
    """Which frames each of n rows, in the order of runs and times, has before it and after: numbers of rows.

    past (n, read) · following (n, ahead + 1), its own the first; −1 where the run has none. run, time: (n,); mirror
    images of a run's stretches have gaps between them.
    """

    def __init__(self, run: np.ndarray, time: np.ndarray, chosen: Prepare) -> None:
        step = float(np.median(np.diff(time)[np.diff(run) == 0]))

        def rows(lags: np.ndarray) -> np.ndarray:
            number = np.arange(len(run))[:, None] + lags
            inside = number.clip(0, len(run) - 1)
            late = np.abs(time[inside] - time[:, None] - lags * step) > step / 2
            return np.where((inside != number) | (run[inside] != run[:, None]) | late, -1, number)

        self.past = rows(np.arange(1 - chosen.read, 1))
        self.following = rows(np.arange(chosen.ahead + 1))

    @property
    def whole(self) -> np.ndarray:
        """Which rows have all frames before them that are read, (n,)."""
        return np.asarray((self.past >= 0).all(1))

    def block(self, frames: Any, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """x (b, ahead + 1, C, H, W) and the past (b, read, C, H, W) of some rows; NaN where there is no frame.

        frames: of all rows, (n, C, H, W), lazy or not, of which those are taken that are needed.
        """
        both = [numbers[rows] for numbers in (self.following, self.past)]
        known = np.concatenate([numbers[numbers >= 0] for numbers in both])
        first, last = int(known.min()), int(known.max())
        some = np.asarray(frames[first : last + 1], np.float32)
        absent = np.full((1, *some.shape[1:]), np.nan, np.float32)
        some = np.concatenate([some, absent])
        x, past = (some[np.where(numbers >= 0, numbers - first, -1)] for numbers in both)
        return x, past


def lagged(ds: xr.Dataset, chosen: Prepare) -> xr.Dataset:
    """Prepared frames as stretches, lazily; the first rows of a run, which have no whole past, are left out.

    InputError for frames with missing values.
    """
    import dask.array as da

    if ds.attrs["missing"]:
        raise InputError(
            "prepare.ahead: frames with missing values (an obstacle, NaN) are not read in windows: choose a part "
            "without them, or describe single frames with prepare.ahead=0"
        )
    lags, frames = Lags(ds["run"].values, ds["time"].values, chosen), da.asarray(ds["x"].data)
    # −1, where there is no frame, is the last of these
    padded = da.concatenate([frames, da.full((1, *frames.shape[1:]), np.nan, dtype=frames.dtype)])
    whole = np.flatnonzero(lags.whole)
    made = ds.drop_vars("x").isel(sample=whole)
    for (name, dims), numbers in zip(DIMS.items(), (lags.following, lags.past), strict=True):
        stretch = da.stack([padded[column] for column in numbers[whole].T], 1)
        made[name] = (dims, stretch, ds["x"].attrs)
    return made.assign_attrs(context=[PAST])
