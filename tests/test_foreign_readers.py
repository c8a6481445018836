"""Results are read without us: by the libraries of their formats, in a process that cannot import sciencevae."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from sciencevae.cli import main
from sciencevae.runs import Run

#: what comes before the code of each reader; a warning would be an error
WITHOUT_US = """
import json, sys, warnings

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "sciencevae":
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocked())
try:
    import sciencevae
except ImportError:
    pass
else:
    raise SystemExit("sciencevae is not blocked")
warnings.simplefilter("error")
where = sys.argv[1]

def tell(**found):
    print(json.dumps(found, default=str))
"""


def _read(code: str, where: Path) -> dict[str, Any]:
    """What a reader without us tells of a file."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_US + code, str(where)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def files(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own rows encoded, and decoded into every general format."""
    folder = tmp_path_factory.mktemp("files")
    table = folder / "own.csv"
    table.write_text("name,a,b,c\nfirst,0.1,0.2,0.3\nsecond,1,2,3\nthird,x,2,3\n")
    model = str(toy_run / "model.safetensors")
    assert main(["encode", "--model", model, str(table), "-o", str(folder / "latents.parquet")]) == 0
    for ending in ("h5", "zarr", "parquet", "csv"):
        out = str(folder / f"decoded.{ending}")
        assert main(["decode", "--model", model, str(folder / "latents.parquet"), "-o", out]) == 0
    return folder


def test_latents_of_a_run_by_xarray(toy_run: Path) -> None:
    code = """
import xarray as xr
data = xr.open_zarr(where)
tell(sizes=dict(data.sizes), units=data.z.attrs["units"], name=data.z.attrs["long_name"],
     coords=sorted(data.coords), parts=data.split.attrs["flag_meanings"], mean=float(data.z.mean()),
     from_data=data.attrs["data"])
"""
    found = _read(code, toy_run / "latents.zarr")
    latents = Run(toy_run).main.latents
    assert found["sizes"] == {"sample": 240, "latent": 1}
    assert (found["units"], found["name"]) == ("1", "posterior mean")
    assert found["coords"] == ["group", "number", "split"]
    assert found["parts"] == "train valid test"
    assert found["mean"] == pytest.approx(float(latents["z"].mean()))
    assert found["from_data"] == Run(toy_run).main.data.attrs["fingerprint"]


def test_prepared_data_by_xarray(toy_run: Path) -> None:
    code = """
import xarray as xr
data = xr.open_zarr(where)
tell(units=data.x.attrs["units"], name=data.x.attrs["long_name"], shape=data.x.shape, first=float(data.x[0, 0]))
"""
    main_ = Run(toy_run).main
    found = _read(code, main_.store)
    assert (found["units"], found["name"], found["shape"]) == ("m", "position", [240, 3])
    assert found["first"] == float(main_.data["x"][0, 0])


def test_latents_of_a_file_by_pandas(toy_run: Path, files: Path) -> None:
    code = """
import pandas, pyarrow.parquet
table = pandas.read_parquet(where)
header = json.loads(pyarrow.parquet.read_schema(where).metadata[b"sciencevae"])
tell(columns=list(table), rows=table.values.tolist(), attrs=table.attrs, header=header)
"""
    from sciencevae.provenance import file_hash

    found = _read(code, files / "latents.parquet")
    assert found["columns"] == ["row", "id", "status", "z_0", "z_std_0", "beyond"]
    assert [row[1:3] for row in found["rows"]] == [
        ["first", "ok"],
        ["second", "ok"],
        ["third", "not a number"],
    ]
    assert found["header"]["model"] == file_hash(toy_run / "model.safetensors")
    assert found["attrs"]["sciencevae"] == found["header"]


def test_decoded_data_by_each_format_s_own_library(files: Path) -> None:
    """The same numbers, and their unit wherever the format has a place for it: not in CSV."""
    readers = {
        "h5": """
import h5py
with h5py.File(where) as file:
    x = file["x"]
    tell(x=x[:2].tolist(), units=x.attrs["units"], name=x.attrs["long_name"], domain=file.attrs["domain"],
         ids=[text.decode() for text in file["id"][:]], dims=list(x.attrs["dims"]))
""",
        "zarr": """
import xarray as xr
data = xr.open_zarr(where)
tell(x=data.x[:2].values.tolist(), units=data.x.attrs["units"], name=data.x.attrs["long_name"],
     domain=data.attrs["domain"], ids=data.id.values.tolist(), dims=data.x.dims)
""",
        "parquet": """
import pandas
table = pandas.read_parquet(where)
told = table.attrs
tell(x=table[["x_0", "x_1", "x_2"]][:2].values.tolist(), units=told["units"]["x_1"],
     name=told["long_name"]["x_1"], domain=told["domain"], ids=table.id.tolist())
""",
        "csv": """
import pandas
table = pandas.read_csv(where)
tell(x=table[["x_0", "x_1", "x_2"]][:2].values.tolist(), ids=table.id.tolist())
""",
    }
    found = {ending: _read(code, files / f"decoded.{ending}") for ending, code in readers.items()}
    for ending, told in found.items():
        assert told["ids"] == ["first", "second", "third"], ending
        assert np.allclose(told["x"], found["h5"]["x"], rtol=1e-6), ending
        if ending != "csv":
            assert (told["units"], told["name"], told["domain"]) == ("m", "position", "toy"), ending
    assert found["h5"]["dims"] == found["zarr"]["dims"] == ["sample", "feature"]


def test_a_model_by_safetensors(toy_run: Path) -> None:
    code = """
import safetensors
with safetensors.safe_open(where, "numpy") as file:
    header = json.loads(file.metadata()["sciencevae"])
    shapes = {name: file.get_tensor(name).shape for name in file.keys()}
tell(shapes=shapes, header=header)
"""
    found = _read(code, toy_run / "model.safetensors")
    model = Run(toy_run).main.model()
    assert found["shapes"] == {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert all(name.startswith(("encoder.", "decoder.")) for name in found["shapes"])
    assert found["header"]["domain"] == "toy"
    assert found["header"]["settings"]["training"]["epochs"] == 3
    assert found["header"]["metrics"]["steps"] == 18
    assert found["header"]["model"]["arguments"]["prior"]["arguments"] == {"dim": 1}


def test_tables_and_records_by_pandas_and_json(toy_run: Path) -> None:
    code = """
import pandas
table = pandas.read_csv(where + "/tables/spread.csv")
history = pandas.read_csv(where + "/history.csv")
from pathlib import Path
read = {name: json.loads(Path(where, name).read_text()) for name in ("metrics.json", "run.json")}
tell(rows=table.to_dict("list"), epochs=history.epoch.tolist(), spread=read["metrics.json"]["spread"],
     domain=read["run.json"]["domain"])
"""
    found = _read(code, toy_run)
    assert dict(zip(*found["rows"].values(), strict=True)) == pytest.approx(found["spread"]["spread"])
    assert found["epochs"] == [1, 2, 3]
    assert found["domain"] == "toy"


def test_fields_in_netcdf_by_xarray_and_scipy(tmp_path: Path) -> None:
    from sciencevae.builtin.fluids.writing import write_fields

    u = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    coords = {"y": ("y", [0.0, 0.5, 1.0], {"units": "m"}), "number": ("sample", [7, 8])}
    write_fields(xr.Dataset({"u": (("sample", "y", "x"), u, {"units": "m/s"})}, coords), tmp_path / "u.nc")
    by_xarray = """
import xarray as xr
with xr.open_dataset(where, engine=ENGINE) as data:
    tell(u=data.u.values.tolist(), units=data.u.attrs["units"], dims=data.u.dims, y=data.y.attrs["units"],
         number=data.number.values.tolist())
"""
    by_scipy = """
from scipy.io import netcdf_file
with netcdf_file(where, mmap=False) as file:
    u = file.variables["u"]
    tell(u=u[:].tolist(), units=u.units.decode(), dims=u.dimensions, y=file.variables["y"].units.decode(),
         number=file.variables["number"][:].tolist())
"""
    for code in (by_xarray.replace("ENGINE", '"scipy"'), by_scipy):
        found = _read(code, tmp_path / "u.nc")
        assert found == {
            "u": u.tolist(),
            "units": "m/s",
            "dims": ["sample", "y", "x"],
            "y": "m",
            "number": [7, 8],
        }
