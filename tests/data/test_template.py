"""Prepared data without their rows, as they travel in a model's file."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from sciencevae.data import template


def test_all_but_the_rows_comes_back() -> None:
    data = xr.Dataset(
        {
            "x": (("sample", "angle"), np.ones((5, 3), np.float32), {"units": "counts"}),
            "class": ("sample", np.arange(5)),
        },
        coords={
            "angle": ("angle", [10.0, 10.5, 11.0], {"units": "deg", "long_name": "2θ"}),
            "element": ("angle", ["Fe", "O", "Si"]),
            "wavelength": ((), 1.5406, {"units": "angstrom"}),
            "identifier": ("sample", list("abcde")),
        },
        attrs={"fields": ["x"], "vocabulary": ["[C]", "[=O]"], "scaling": "{}"},
    )
    back = template.from_json(json.loads(json.dumps(template.to_json(data))))
    xr.testing.assert_identical(back, data.isel(sample=slice(0)).drop_vars("identifier"))
