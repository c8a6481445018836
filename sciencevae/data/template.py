"""Prepared data without their rows: what a trained model must know of the data it was trained on.

Its variables with dimensions and units, the axes they share (wavelengths, lattice sites …), and the attributes, in
which ``prepare`` says what it learned (scaling, a vocabulary …). It travels in the header of a model's file; what
is too large for a header (the modes of a basis) says ``{"travels": 0}`` in its attributes and stays in the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["from_json", "to_json"]


def to_json(ds: xr.Dataset) -> dict[str, Any]:
    """The template of a prepared Dataset as plain JSON values; InputError for axes that JSON cannot hold."""
    variables = {
        str(name): {"dims": list(v.dims), "shape": list(v.shape[1:]), "dtype": str(v.dtype), "attrs": v.attrs}
        for name, v in ds.data_vars.items()
    }
    axes = {
        str(name): _axis(c)
        for name, c in ds.coords.items()
        if "sample" not in c.dims and c.attrs.get("travels", 1)
    }
    return {"variables": variables, "axes": axes, "attrs": ds.attrs}


def from_json(plain: Mapping[str, Any]) -> xr.Dataset:
    """The inverse: a Dataset with no rows."""
    import xarray as xr

    variables = {
        name: (v["dims"], np.empty((0, *v["shape"]), v["dtype"]), v["attrs"])
        for name, v in plain["variables"].items()
    }
    axes = {
        name: (c["dims"], np.asarray(c["values"], c["dtype"]), c["attrs"])
        for name, c in plain["axes"].items()
    }
    return xr.Dataset(variables, coords=axes, attrs=plain["attrs"])


def _axis(axis: xr.DataArray) -> dict[str, Any]:
    """Times as whole numbers of their unit, all else as it is."""
    values = axis.values.astype(str) if axis.dtype.kind in "OT" else axis.values
    if values.dtype.kind not in "biufUmM":
        raise InputError(f"the axis {axis.name!r} is of type {axis.dtype}: give numbers, text or times")
    plain = values.astype(np.int64) if values.dtype.kind in "mM" else values
    return {
        "dims": list(axis.dims),
        "values": plain.tolist(),
        "dtype": str(values.dtype),
        "attrs": axis.attrs,
    }
