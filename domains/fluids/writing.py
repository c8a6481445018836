"""Fields to files, with named dimensions and units."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.data.atomic import atomic_path
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["fields_dataset", "physical", "write_fields"]

_AXES = (("y", "row"), ("x", "column"))


def fields_dataset(data: xr.Dataset) -> xr.Dataset:
    """Frames x (sample, channel, row, column), or (sample, mode), as a variable for each field, with its unit.

    (sample, y, x); of a forecast, (run, time, y, x), with NAME_spread, the standard deviation of its members; on
    points (…, point). Coefficients without their basis (it stays in the run's folder) are written as they are.
    """
    import xarray as xr

    if "lag" in data["x"].dims:  # of a window the frame at its own time
        data = data.isel(lag=0)
    on_modes = "mode" in data["x"].dims
    if on_modes and "basis_modes" not in data.coords:
        return data
    x = physical(data, data["x"].values)  # (n, C, *grid)
    spread = None
    if "x_members" in data:
        members = [physical(data, one) for one in data["x_members"].values]
        spread = np.std(np.stack(members), axis=0, ddof=1)
    axes, inner = _axes(data, x.ndim)
    lead: list[str] = ["sample"]
    coords: dict[str, Any] = dict(axes)
    if "lead" in data.coords:  # a forecast: as many frames of each run
        lead = ["run", "time"]
        runs = np.unique(data["run"].values)
        shape = (len(runs), len(x) // len(runs))
        times = data["time"].values.reshape(shape)
        coords["run"] = ("run", runs)
        unit = {"units": str(data.attrs.get("time_unit", ""))}
        same = np.allclose(times, times[:1])
        coords["time"] = ("time", times[0] if same else np.arange(1, shape[1] + 1), unit)
        if not same:
            coords["moment"] = (("run", "time"), times, unit)
        for k, name in enumerate(data.attrs.get("condition", [])):
            coords[name] = ("run", data["condition"].values[:: shape[1], k])
        x = x.reshape(*shape, *x.shape[1:])
        spread = None if spread is None else spread.reshape(x.shape)
    else:
        coords |= {str(n): c for n, c in data.coords.items() if c.dims == ("sample",)}
    units = data.attrs["channel_units"] if on_modes else data["unit"].values.tolist()
    fields = {}
    for k, name in enumerate(data.attrs["channels"]):
        fields[name] = ((*lead, *inner), x.take(k, len(lead)).astype(np.float32), {"units": str(units[k])})
        if spread is not None:
            told = {"units": str(units[k]), "long_name": f"standard deviation of {name}"}
            fields[f"{name}_spread"] = ((*lead, *inner), spread.take(k, len(lead)).astype(np.float32), told)
    return xr.Dataset(fields, coords)


def write_fields(fields: xr.Dataset, path: Path) -> None:
    """By the ending: NetCDF-3 (.nc), HDF5 (.h5) or Zarr (.zarr); whole or not at all."""
    if path.suffix == ".h5":
        from sciencevae.data.hdf5 import write_hdf5

        write_hdf5(fields, path)
    elif path.suffix == ".zarr":
        from sciencevae.data.store import quiet

        with atomic_path(path) as temporary, quiet():
            fields.to_zarr(temporary, mode="w", consolidated=True)
    elif path.suffix == ".nc":
        # NetCDF-3, which needs no extra to read or write: it has no 64-bit integers and no text of any length
        kept = fields.drop_vars([n for n, v in fields.variables.items() if v.dtype.kind in "OU"])
        wide = {n: v.astype(np.int32) for n, v in kept.variables.items() if v.dtype.kind in "iub"}
        kept = kept.assign({n: v for n, v in wide.items() if n in kept.data_vars})
        kept = kept.assign_coords({n: v for n, v in wide.items() if n in kept.coords})
        with atomic_path(path) as temporary:
            kept.to_netcdf(temporary, engine="scipy", format="NETCDF3_64BIT")
    else:
        raise InputError(f"{path.name}: fields are written to .nc, .h5 or .zarr")


def physical(data: xr.Dataset, values: np.ndarray) -> np.ndarray:
    """Frames (n, C, *grid) in physical units."""
    if "mode" not in data["x"].dims:
        return values
    from .basis import Basis

    basis = Basis.of(data)
    frames = basis.decode(values.astype(np.float64))
    frames[:, :, basis.mass == 0] = np.nan  # no fluid
    return frames.reshape(len(values), frames.shape[1], *data.attrs["grid"])


def _axes(data: xr.Dataset, ndim: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The axes of a frame, and the names of its dimensions."""
    prefix = "basis_{}" if "mode" in data["x"].dims else "{}_position"
    inner = ("y", "x") if ndim == 4 else ("point",)
    found = {}
    for axis, _ in _AXES:
        name = prefix.format(axis)
        if name in data.coords:
            place = (axis,) if ndim == 4 else ("point",)
            found[axis] = (place, data[name].values, {"units": str(data[name].attrs.get("units", ""))})
    return found, inner
