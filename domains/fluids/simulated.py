"""Files of our own solvers: (run, t, component, y, x) in HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.errors import InputError

if TYPE_CHECKING:
    import h5py
    import xarray as xr

__all__ = ["open_simulated"]

_SCALARS = ("density", "vorticity", "pressure")


def open_simulated(file: h5py.File, path: Path) -> xr.Dataset:
    """The fields of a file that ``python -m sciencevae.builtin.fluids.simulate`` wrote, lazily.

    Datasets: velocity (run, t, component, y, x), component u, v; density, vorticity, pressure (run, t, y, x), those
    there are; time (t,) or (run, t); x, y; parameters (run,). Where a dataset ``solid`` ([run,] y, x) is true,
    there is no fluid, and every field is NaN. InputError for another layout.
    """
    import dask.array as da
    import xarray as xr

    velocity = file["velocity"]
    if velocity.shape[2] != 2:
        raise InputError(f"{path}: velocity {velocity.shape} is to have two components, (run, t, 2, y, x)")
    runs, steps, _, height, width = velocity.shape
    dims = ("run", "time", "y", "x")
    solid = None
    if "solid" in file:
        solid = da.from_array(np.broadcast_to(file["solid"][()].astype(bool), (runs, height, width)))

    def field(values: Any, attrs: Any, name: str) -> tuple[Any, ...]:
        if solid is not None:
            values = da.where(solid[:, None], np.float32(np.nan), values)
        return dims, values, {"units": _text(attrs.get("units", "1")), "long_name": name}

    lazy = da.from_array(velocity, chunks=(1, min(64, steps), 2, height, width))
    variables = {
        "u": field(lazy[:, :, 0], velocity.attrs, "velocity in x"),
        "v": field(lazy[:, :, 1], velocity.attrs, "velocity in y"),
    }
    for name in _SCALARS:
        if name in file:
            data = file[name]
            if data.shape != (runs, steps, height, width):
                raise InputError(f"{path}: {name} has shape {data.shape}, velocity {velocity.shape}")
            variables[name] = field(
                da.from_array(data, chunks=(1, min(64, steps), height, width)), data.attrs, name
            )
    coords: dict[str, Any] = {}
    for name, data in file.items():
        if name in variables or name in ("velocity", "solid"):
            continue
        attrs = {"units": _text(data.attrs.get("units", ""))}
        if name == "time":
            times = data[()]
            if times.ndim == 2:
                if not np.allclose(times, times[:1]):
                    raise InputError(f"{path}: the runs have different times: write a file for each")
                times = times[0]
            coords["time"] = ("time", times, attrs)
        elif name in ("x", "y") and data.ndim == 1:
            coords[name] = (name, data[()], attrs)
        elif data.shape == (runs,) and data.dtype.kind in "biuf":
            coords[name] = ("run", data[()], attrs)
    attrs = {key: _text(value) for key, value in file.attrs.items()}
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
