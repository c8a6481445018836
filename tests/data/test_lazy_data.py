"""Importing ``sciencevae.data`` loads nothing heavy; every public name is there when asked for."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import sciencevae.data


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, sciencevae.data, sciencevae.data.manifest, sciencevae.data.fetch, sciencevae.data.archive\n"
        "heavy = {'torch', 'xarray', 'dask', 'pandas', 'zarr', 'h5py', 'matplotlib', 'numba', 'astropy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    assert sorted(sciencevae.data.__all__) == sciencevae.data.__all__
    for name in sciencevae.data.__all__:
        value = getattr(sciencevae.data, name)
        home = importlib.import_module(value.__module__)
        assert name in home.__all__


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(sciencevae.data.__path__)])
def test_the_examples_in_docstrings_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"sciencevae.data.{name}")).failed == 0
