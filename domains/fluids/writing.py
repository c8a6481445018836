"""Fields to files, with named dimensions and units."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sciencevae.data.atomic import atomic_path
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["fields_dataset", "write_fields"]


def fields_dataset(data: xr.Dataset) -> xr.Dataset:
    """Frames x (sample, channel, row, column) as one variable (sample, y, x) for each field, with its unit."""
    import xarray as xr

    if "channel" not in data["x"].dims:
        return data
    axes = {}
    for name, dim in (("y", "row"), ("x", "column")):
        axes[name] = (name, data[f"{name}_position"].values, data[f"{name}_position"].attrs)
    fields = {
        str(name): (("sample", "y", "x"), data["x"].values[:, k], {"units": str(data["unit"].values[k])})
        for k, name in enumerate(data["channel"].values)
    }
    kept = {n: c for n, c in data.coords.items() if c.dims == ("sample",)}
    return xr.Dataset(fields, axes).assign_coords(kept)


def write_fields(fields: xr.Dataset, path: Path) -> None:
    """By the ending: NetCDF-3 (.nc), HDF5 (.h5) or Zarr (.zarr); whole or not at all."""
    if path.suffix == ".h5":
        from sciencevae.data.hdf5 import write_hdf5

        write_hdf5(fields, path)
    elif path.suffix == ".zarr":
        from sciencevae.data.store import quiet

        with atomic_path(path) as temporary, quiet():
            fields.to_zarr(temporary, mode="w", consolidated=False)
    elif path.suffix == ".nc":
        small = fields.copy()
        for (
            name,
            variable,
        ) in fields.variables.items():  # NetCDF-3 has no 64-bit integers and no text of any length
            if variable.dtype.kind in "iub":
                small[name] = variable.astype(np.int32)
        text = [n for n, v in fields.variables.items() if v.dtype.kind in "OU"]
        with atomic_path(path) as temporary:
            small.drop_vars(text).to_netcdf(temporary, engine="scipy", format="NETCDF3_64BIT")
    else:
        raise InputError(f"{path.name}: fields are written to .nc, .h5 or .zarr")
