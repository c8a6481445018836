"""Prepared data without their rows, as they travel in a model's file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from sciencevae.data import template
from sciencevae.errors import InputError


def test_all_but_the_rows_comes_back() -> None:
    data = xr.Dataset(
        {
            "x": (("sample", "angle"), np.ones((5, 3), np.float32), {"units": "counts"}),
            "class": ("sample", np.arange(5)),
        },
        coords={
            "angle": ("angle", [10.0, 10.5, 11.0], {"units": "deg", "long_name": "2θ"}),
            "element": ("angle", ["Fe", "O", "Si"]),
            "exposed": ("angle", np.array([True, False, True])),
            "counts": ("angle", np.array([0.1, np.nan, 3], np.float32)),
            "begin": ("angle", np.array(["2020-02-29", "1969-12-31T23", "NaT"], "M8[ns]")),
            "duration": ("angle", np.array([1, 2, 3], "m8[ms]")),
            "wavelength": ((), 1.5406, {"units": "angstrom"}),
            "identifier": ("sample", list("abcde")),
        },
        attrs={"fields": ["x"], "vocabulary": ["[C]", "[=O]"], "scaling": "{}"},
    )
    back = template.from_json(json.loads(json.dumps(template.to_json(data))))
    xr.testing.assert_identical(back, data.isel(sample=slice(0)).drop_vars("identifier"))


def test_what_is_too_large_stays_in_the_store() -> None:
    modes = ("mode", np.ones(4), {"travels": 0})
    data = xr.Dataset(
        {"x": (("sample", "mode"), np.ones((5, 4)))}, {"basis": modes, "wavenumber": ("mode", np.ones(4))}
    )
    assert set(template.from_json(template.to_json(data)).coords) == {"wavenumber"}


def test_an_axis_that_cannot_travel_is_named() -> None:
    data = xr.Dataset({"x": (("sample", "k"), np.ones((5, 2)))}, {"k": [1 + 1j, 2]})
    with pytest.raises(InputError, match="the axis 'k' is of type complex128: give numbers, text or times"):
        template.to_json(data)
