"""Fields of flows as one Dataset, wherever they come from: (run, time, y, x), or (run, time, point), with units.

Every source gives this: data variables named as the fields, each with its unit; coordinates run, time (s, or
the flow's own unit) and x, y; what varies from run to run (reynolds, …) as coordinates (run,); on points their
mass, that is the area (quadrature weight) each stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.data.foreign import check_zarr, open_h5
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["NAMES", "canonical", "is_odd", "open_fields"]

#: how files call the dimensions
NAMES = {
    "run": ("run", "simulation", "sim", "member", "case"),
    "time": ("time", "t"),
    "y": ("y", "row"),
    "x": ("x", "column"),
    "point": ("point", "node", "cell", "points"),
}
#: fields that change sign in the mirror image of an axis
_ODD = {"x": {"u", "vorticity", "stream_function"}, "y": {"v", "vorticity", "stream_function"}}
_MOST_NEGATIVE = 0.01  # of the largest density: what schemes undershoot


def is_odd(name: str, axis: str) -> bool:
    """Whether a field changes its sign in the mirror image of an axis, y → −y or x → −x.

    >>> is_odd("v", "y"), is_odd("v", "x"), is_odd("pressure", "y")
    (True, False, False)
    """
    return name in _ODD[axis]


def open_fields(path: Path, units: Mapping[str, str] | None = None) -> xr.Dataset:
    """The fields of a file, lazily: NetCDF, Zarr, HDF5 with named dimensions, or a layout that is known here.

    HDF5: that of our solvers (``velocity`` (run, t, component, y, x) …), that of ``write_hdf5``, or datasets with
    dimension scales. ``.npz`` or a folder of Nek5000 files: the cylinder wake. ``.mat``: the PIV of the cavity.
    units: of fields of which the file does not say it.

    InputError: what cannot be read, no field, no unit, times that do not increase, negative densities.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"no file {path}")
    if path.suffix == ".npz":
        from .wake import open_wake

        return open_wake(path)
    if path.suffix == ".mat":
        from .cavity import open_cavity

        return open_cavity(path)
    if path.suffix in (".h5", ".hdf5"):
        return canonical(_open_h5(path), path, units or {})
    return canonical(_open_xarray(path), path, units or {})


def canonical(found: xr.Dataset, path: Path, units: Mapping[str, str]) -> xr.Dataset:
    """A Dataset with named dimensions as this module has it: axes renamed, in order and ascending, checked."""
    import xarray as xr

    known = {alias: name for name, aliases in NAMES.items() for alias in aliases}
    for dim in found.dims:
        name = known.get(str(dim), str(dim))
        if name != dim:
            taken = name in found.variables and found[name].dims == (dim,)
            found = found.swap_dims({dim: name}) if taken else found.rename({dim: name})
    on_points = "point" in found.dims
    inner = ("point",) if on_points else ("y", "x")
    fields = [n for n, v in found.data_vars.items() if {"time", *inner} <= set(v.dims)]
    if not fields:
        listed = "; ".join(f"{n} {tuple(map(str, v.dims))}" for n, v in found.data_vars.items()) or "nothing"
        raise InputError(
            f"{path} has no field over (time, y, x) or (time, point): name the dimensions so; found {listed}"
        )
    variables = {}
    for name in map(str, fields):
        field = found[name]
        if extra := set(field.dims) - {"run", "time", *inner}:
            raise InputError(
                f"{path}: {name} has the dimension {min(map(str, extra))!r}: select one entry of it"
            )
        if "run" not in field.dims:
            field = field.expand_dims("run")
        unit = str(units.get(name) or field.attrs.get("units", ""))
        if not unit:
            raise InputError(
                f"{path}: {name} has no attribute 'units': say it, --set prepare.units.{name}=UNIT ('1' for none)"
            )
        variables[name] = field.transpose("run", "time", *inner).assign_attrs(units=unit)
    runs = next(iter(variables.values())).sizes["run"]
    ds = xr.Dataset(variables, attrs=found.attrs)
    coords: dict[str, Any] = {}
    for key, variable in found.variables.items():
        name = str(key)
        if (variable.dims == ("run",) and runs > 1) or (
            name in ("x", "y", "mass") and variable.dims in ((name,), ("point",))
        ):
            coords[name] = variable
        elif name in ("time", "t") and variable.dims == ("time",):
            coords["time"] = variable
    ds = ds.assign_coords(coords)
    for axis in ("time", *([] if on_points else inner)):
        if axis not in ds.coords:
            ds = ds.assign_coords({axis: (axis, np.arange(ds.sizes[axis], dtype=float), {"units": "1"})})
    if on_points and "mass" not in ds.coords:
        ds = ds.assign_coords(mass=("point", np.ones(ds.sizes["point"]), {"units": "1"}))
    return checked(ds, path)


def checked(ds: xr.Dataset, path: Path) -> xr.Dataset:
    """Times that increase, axes made ascending, densities that are not negative."""
    time = ds["time"].values.astype(float)
    if not np.isfinite(time).all() or (np.diff(time) <= 0).any():
        where = int(np.argmax(~(np.diff(time) > 0)))
        raise InputError(
            f"{path}: times have to increase; step {where + 1} follows {time[where]:g} with {time[where + 1]:g}"
        )
    for axis in ("y", "x"):
        if axis in ds.dims:
            steps = np.diff(ds[axis].values.astype(float))
            if (steps < 0).all() and len(steps):
                ds = ds.isel({axis: slice(None, None, -1)})
            elif (steps <= 0).any():
                raise InputError(f"{path}: the axis {axis} is neither ascending nor descending")
    if "density" in ds:
        low, high = (float(getattr(ds["density"], most)()) for most in ("min", "max"))
        if low < -_MOST_NEGATIVE * max(high, 0.0):
            raise InputError(
                f"{path}: a density is negative ({low:g}; the largest is {high:g}): mend the data, or leave the "
                "field out with prepare.fields"
            )
    return ds


def _open_xarray(path: Path) -> xr.Dataset:
    import h5py
    import xarray as xr

    if path.is_dir():
        check_zarr(path)
    elif h5py.is_hdf5(path):
        open_h5(path).close()
    try:
        if path.is_dir():
            return xr.open_zarr(path, decode_times=False, consolidated=False)
        return xr.open_dataset(path, decode_times=False, chunks={})
    except Exception as error:  # each engine raises whatever it does
        remedy = ""
        if path.suffix in (".nc", ".nc4"):
            remedy = "; NetCDF-4 needs pip install 'sciencevae[netcdf]' (NetCDF-3 does not)"
        raise InputError(
            f"{path} cannot be read as {path.suffix or 'Zarr'}: {' '.join(str(error).split())[:200]}{remedy}"
        ) from error


def _open_h5(path: Path) -> xr.Dataset:
    """HDF5: of our solvers, of ``write_hdf5``, or with dimension scales."""
    import dask.array as da
    import h5py
    import xarray as xr

    file = open_h5(path)
    if "velocity" in file and file["velocity"].ndim == 5:
        from .simulated import open_simulated

        return open_simulated(file, path)
    variables = {}
    for name, data in file.items():
        if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "biuf":
            continue
        dims = data.attrs.get("dims")
        if dims is None:
            dims = [_scale_name(data, axis) for axis in range(data.ndim)]
        names = [d.decode() if isinstance(d, bytes) else str(d) for d in np.atleast_1d(dims)]
        if None in dims or len(names) != data.ndim:
            if data.ndim >= 3:
                raise InputError(
                    f"{path}: {name} {data.shape} does not name its dimensions: give it dimension scales, or an "
                    "attribute 'dims' of names such as t, y, x"
                )
            continue
        attrs = {k: (v.decode() if isinstance(v, bytes) else v) for k, v in data.attrs.items()}
        kept = {k: v for k, v in attrs.items() if k in ("units", "long_name")}
        values = da.from_array(data, chunks=(1, *data.shape[1:])) if data.ndim >= 3 else data[()]
        variables[name] = (names, values, kept)
    plain = {k: v for k, v in file.attrs.items() if isinstance(v, str)}
    return xr.Dataset(variables, attrs=plain)


def _scale_name(data: Any, axis: int) -> str | None:
    """The name of a dimension, from its label or its scale."""
    dimension = data.dims[axis]
    if dimension.label:
        return str(dimension.label)
    if len(dimension):
        return str(dimension[0].name).rsplit("/", 1)[-1]
    scale = data.attrs.get("NAME")  # an axis that is its own scale
    return str(data.name).rsplit("/", 1)[-1] if scale is not None and data.ndim == 1 else None
