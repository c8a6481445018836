"""Importing ``sciencevae.data`` loads nothing heavy; every public name is there when asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys

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
