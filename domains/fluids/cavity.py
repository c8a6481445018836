"""Measured velocity over an open cavity at Mach 0.6 (time-resolved PIV; Zhang, Cattafesta & Ukeiley 2020)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sciencevae.data.foreign import open_h5, parsing
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["NOTE", "open_cavity"]

NOTE = "measured by PIV; the file states no units: m/s and cavity depths fit its values"


def open_cavity(path: Path) -> xr.Dataset:
    """u (run, time, y, x) of ``cavityPIV.mat`` (MATLAB 7.3): 4,000 frames of 10 × 26 vectors at 8 kHz.

    The file has x descending and the flow towards −x; here x ascends, values are as measured.
    """
    import xarray as xr

    with open_h5(path) as file, parsing(path, "the cavity's PIV"):
        if missing := [name for name in ("u", "x", "y", "dt") if name not in file]:
            raise InputError(f"{path} is no cavity PIV: it has no array {missing[0]!r}")
        u = file["u"][()].transpose(2, 1, 0)  # (T, y, x)
        x, y, step = file["x"][:, 0], file["y"][0], float(file["dt"][0, 0])
    order = np.argsort(x)
    attrs = {"units": "m/s", "long_name": "streamwise velocity"}
    return xr.Dataset(
        {"u": (("run", "time", "y", "x"), u[None, :, :, order], attrs)},
        {
            "time": ("time", np.arange(len(u)) * step, {"units": "s"}),
            "x": ("x", x[order], {"units": "cavity depths"}),
            "y": ("y", y, {"units": "cavity depths"}),
        },
        {"note": NOTE},
    )
