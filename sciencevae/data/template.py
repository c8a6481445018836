"""Prepared data without their rows: what a trained model must know of the data it was trained on.

Its variables with dimensions and units, the axes they share (wavelengths, lattice sites …), and the attributes, in
which ``prepare`` says what it learned (scaling, a vocabulary …). It travels in the header of a model's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["from_json", "to_json"]


def to_json(ds: xr.Dataset) -> dict[str, Any]:
    """The template of a prepared Dataset as plain JSON values."""
    variables = {
        str(name): {"dims": list(v.dims), "shape": list(v.shape[1:]), "dtype": str(v.dtype), "attrs": v.attrs}
        for name, v in ds.data_vars.items()
    }
    axes = {
        str(name): {"dims": list(c.dims), "values": c.values.tolist(), "attrs": c.attrs}
        for name, c in ds.coords.items()
        if "sample" not in c.dims
    }
    return {"variables": variables, "axes": axes, "attrs": ds.attrs}


def from_json(plain: Mapping[str, Any]) -> xr.Dataset:
    """The inverse: a Dataset with no rows."""
    import xarray as xr

    variables = {
        name: (v["dims"], np.empty((0, *v["shape"]), v["dtype"]), v["attrs"])
        for name, v in plain["variables"].items()
    }
    axes = {name: (c["dims"], np.asarray(c["values"]), c["attrs"]) for name, c in plain["axes"].items()}
    return xr.Dataset(variables, coords=axes, attrs=plain["attrs"])
