"""Raw simulator output as HDF5: variables with units and dimension names, written whole, opened lazily."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.data.atomic import atomic_path
from sciencevae.data.foreign import open_h5
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["open_hdf5", "write_hdf5"]


def write_hdf5(ds: xr.Dataset, path: str | Path) -> None:
    """Write every variable and coordinate of ``ds`` as an HDF5 dataset with its attributes and dimensions.

    Written block by block along the first dimension where it is lazy. The file appears whole or not at all.
    Times are numbers with a unit, "hours since …"; an attribute that HDF5 has no type or no room for is JSON text.
    """
    import h5py
    from xarray.conventions import encode_cf_variable

    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for key, value in ds.attrs.items():
            _attach(file, str(key), value)
        for name, variable in ds.variables.items():
            if variable.dtype.kind in "mM":
                variable = encode_cf_variable(variable)
            text = variable.dtype.kind in "OUS"
            kind: Any = h5py.string_dtype() if text else variable.dtype
            target = file.create_dataset(str(name), variable.shape, kind)
            for where in _steps(variable):
                values = variable[where].values
                target[where] = values.astype(object) if text else values
            for key, value in variable.attrs.items():
                _attach(target, str(key), value)
            target.attrs["dims"] = [str(dim) for dim in variable.dims]
            target.attrs["coordinate"] = name in ds.coords


def open_hdf5(path: str | Path) -> xr.Dataset:
    """A file of ``write_hdf5`` as a lazy Dataset; it stays open for as long as the Dataset is used.

    Of a file from elsewhere: arrays without dimension names get ``NAME_0``, ``NAME_1`` and so on.
    """
    import dask.array as da
    import h5py
    import xarray as xr

    if not Path(path).is_file():
        raise InputError(f"no file {path}")
    file = open_h5(Path(path))
    variables, coords = {}, []
    for name, data in file.items():
        if not isinstance(data, h5py.Dataset):
            continue
        attrs = {key: _plain(value) for key, value in data.attrs.items()}
        dims = attrs.pop("dims", [f"{name}_{axis}" for axis in range(data.ndim)])
        if attrs.pop("coordinate", False):
            coords.append(name)
        text = h5py.check_string_dtype(data.dtype) is not None
        values = (
            data.asstr()[()].astype(str) if text else da.from_array(data, chunks=_chunks(data), lock=True)
        )
        variables[name] = (dims, values, attrs)
    ds = xr.Dataset(variables, attrs={key: _plain(value) for key, value in file.attrs.items()})
    ds.set_close(file.close)
    return ds.set_coords(coords)


def _attach(target: Any, key: str, value: Any) -> None:
    try:
        target.attrs[key] = value
    except (TypeError, ValueError, OSError):  # None, nested, mixed; or longer than 64 kB
        target.attrs[key] = json.dumps(value, ensure_ascii=False)


def _steps(variable: Any) -> list[Any]:
    if not variable.ndim:
        return [()]
    step = max(1, (64 << 20) // max(1, variable.nbytes // max(1, variable.shape[0])))
    return [slice(start, start + step) for start in range(0, variable.shape[0], step)]


def _chunks(data: Any) -> Any:
    """About 16 MiB along the first dimension."""
    if not data.ndim:
        return ()
    rows = max(1, (16 << 20) // max(1, data.dtype.itemsize * int(np.prod(data.shape[1:], dtype=np.int64))))
    return (min(rows, max(1, data.shape[0])), *data.shape[1:])


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    return value.decode() if isinstance(value, bytes) else value
