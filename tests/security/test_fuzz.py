"""Readers under mutations of valid files: an error of our own or an answer, soon, and nothing left behind.

Seconds for each reader: ``SCIENCEVAE_FUZZ_SECONDS`` (default 1).
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import trimesh
import xarray as xr
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from sciencevae.builtin.diffraction.scans import read_scan
from sciencevae.builtin.digits.dataset import read as read_digits
from sciencevae.builtin.digits.settings import Digits
from sciencevae.builtin.faces.own import listed
from sciencevae.builtin.faces.pairs import read_template
from sciencevae.builtin.faces.photos import open_photo
from sciencevae.builtin.fluids.dataset import read as read_fluids
from sciencevae.builtin.fluids.settings import Fluids
from sciencevae.builtin.objects.own import own_labels as object_labels
from sciencevae.builtin.objects.settings import Setup
from sciencevae.builtin.objects.world import World, world

import sciencevae as sv
from sciencevae.config import load as load_config
from sciencevae.data.archive import unpack
from sciencevae.data.arrays import Arrays
from sciencevae.data.manifest import load_manifest
from sciencevae.data.tables import open_table
from sciencevae.errors import ScienceVAEError
from sciencevae.latents.trained import Trained
from sciencevae.paths import manifests_folder
from sciencevae.registry import domain
from sciencevae.training.state import State
from sciencevae.vae.files import load as load_model
from sciencevae.vae.files import save

SECONDS = float(os.environ.get("SCIENCEVAE_FUZZ_SECONDS", "1.0"))
#: read by HDF5's C library, which hangs or crashes on some damaged files: SECURITY.md says so
HDF5 = {"scan.nxs", "fields.h5", "simulated.h5", "fields.nc", "arrays.h5"}
#: what breaks readers: limits of numbers, marks of formats, text that is none
TOKENS = [
    *(b"\0", b"\xff", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\x7f", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80"),
    *(b"-1", b"0", b"1e999", b"nan", b"inf", b"-inf", b"99999999999999999999", b"null", b"true", b"[]", b"{}"),
    *(b"&a", b"*a", b"<<: ", b"!!int ", b"---\n", b": ", b"- ", b"#", b",", b";", b"\t", b" ", b"\n", b"\r"),
    *(b"<", b">", b"&", b"]]>", b"(", b")" * 50, b"(" * 50, b"%", b"@", b"\\", b'"', b"'", b"{", b"}", b"[", b"]"),
    *(b"1" * 400, b"A" * 5000, b"\n" * 100),
]  # fmt: skip

edits = st.one_of(
    st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 7)),
    st.tuples(st.just("set"), st.floats(0, 1), st.sampled_from(TOKENS)),
    st.tuples(st.just("insert"), st.floats(0, 1), st.sampled_from(TOKENS)),
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(0)),
    st.tuples(st.just("drop"), st.floats(0, 1), st.integers(1, 64)),
    st.tuples(st.just("repeat"), st.floats(0, 1), st.integers(1, 64)),
    st.tuples(st.just("swap"), st.floats(0, 1), st.integers(1, 64)),
)


def mutated(content: bytes, changes: list[tuple[str, float, Any]]) -> bytes:
    """The content after edits, each at a share of its length: so an edit means the same as the file shrinks."""
    for kind, share, value in changes:
        at = int(share * max(len(content) - 1, 0))
        before, after = content[:at], content[at:]
        if kind == "flip" and after:
            content = before + bytes([after[0] ^ 1 << value]) + after[1:]
        elif kind == "set":
            content = before + value + after[len(value) :]
        elif kind == "insert":
            content = before + value + after
        elif kind == "cut":
            content = before
        elif kind == "drop":
            content = before + after[value:]
        elif kind == "repeat":
            content = before + after[:value] * 8 + after[value:]
        elif kind == "swap":
            content = before + after[value : 2 * value] + after[:value] + after[2 * value :]
    return content


# ---- valid files


def _csv() -> bytes:
    return b"id,a,b,kind\n" + b"".join(b"s%d,%d.5,%d,x\n" % (i, i, -i) for i in range(20))


def _frame() -> pd.DataFrame:
    return pd.DataFrame({"id": [f"s{i}" for i in range(20)], "a": np.arange(20.0), "n": np.arange(20)})


def _astropy(form: str) -> bytes:
    from astropy import units
    from astropy.table import Table

    table = Table(
        {"id": list(_frame()["id"]), "a": np.arange(20.0) * units.mas, "n": np.arange(20, dtype="i4")}
    )
    out = io.BytesIO()
    if form == "ascii.ecsv":
        text = io.StringIO()
        table.write(text, format=form)
        return text.getvalue().encode()
    table.write(out, format=form)
    return out.getvalue()


def _parquet() -> bytes:
    out = io.BytesIO()
    _frame().to_parquet(out)
    return out.getvalue()


def _fields() -> xr.Dataset:
    rng = np.random.default_rng(0)
    axes = {"time": np.arange(6.0), "y": np.arange(4.0), "x": np.arange(5.0)}
    values = {name: (("time", "y", "x"), rng.normal(size=(6, 4, 5)), {"units": "m/s"}) for name in ("u", "v")}
    return xr.Dataset(values, axes)


def _netcdf(engine: str, **how: Any) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nc"
        _fields().to_netcdf(path, engine=engine, **how)
        return path.read_bytes()


def _hdf5() -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        for name, variable in _fields().variables.items():
            file[str(name)] = variable.values
            file[str(name)].attrs["dims"] = [str(dim) for dim in variable.dims]
            file[str(name)].attrs["units"] = "m/s"
    return out.getvalue()


def _simulated() -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file["velocity"] = np.zeros((2, 6, 2, 4, 5), np.float32)
        file["time"], file["x"], file["y"] = np.arange(6.0), np.arange(5.0), np.arange(4.0)
        file["reynolds"] = np.array([40.0, 80.0])
    return out.getvalue()


def _nexus() -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.attrs["default"] = "entry"
        data = file.create_group("entry/data")
        file["entry"].attrs["default"] = "data"
        data.attrs.update(NX_class="NXdata", signal="counts", axes="two_theta")
        data["counts"], data["two_theta"] = np.arange(50), np.linspace(10, 60, 50)
        data["two_theta"].attrs["units"] = "deg"
    return out.getvalue()


def _scan(separator: str = " ", header: str = "") -> bytes:
    lines = [f"{10 + i / 10:.2f}{separator}{100 + i * 7 % 13}{separator}{10 + i % 3}" for i in range(60)]
    return (header + "\n".join(lines) + "\n").encode()


def _ras() -> bytes:
    head = '*RAS_DATA_START\n*MEAS_SCAN_UNIT_X "deg"\n*HW_XG_TARGET_NAME "Cu"\n*RAS_INT_START\n'
    return head.encode() + _scan().replace(b" 10\n", b" 1.0\n") + b"*RAS_INT_END\n*RAS_DATA_END\n"


def _smiles() -> bytes:
    return b"smiles name\nCCO ethanol\nc1ccccc1O phenol\nCC(=O)Oc1ccccc1C(=O)O aspirin\nN[C@@H](C)C(=O)O\nC#N x\n"


def _sdf() -> bytes:
    from rdkit import Chem

    return "".join(
        Chem.MolToMolBlock(Chem.MolFromSmiles(s)) + ">  <logP>\n1.5\n\n$$$$\n"
        for s in ("CCO", "c1ccccc1O", "C#N")
    ).encode()


def _npz(packed: bool) -> bytes:
    out = io.BytesIO()
    images = np.zeros((5, 28, 28), np.uint8)
    if packed:
        np.savez_compressed(out, images=images)
    else:
        np.save(out, images)
    return out.getvalue()


def _idx() -> bytes:
    return b"\0\0\x08\x03" + np.array([5, 28, 28], ">i4").tobytes() + bytes(5 * 28 * 28)


def _model(kind: str) -> bytes:
    import tempfile

    torch.manual_seed(0)
    network = sv.networks.Perceptron
    model = sv.VAE(
        sv.priors.StandardNormal(2),
        sv.encoders.Gaussian(network(4, [8], 4), dim=2),
        sv.decoders.Gaussian(network(2, [8], 4), scale="learned"),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        if kind == "model":
            save(
                model,
                path,
                {"domain": "toy", "settings": {}, "data": {"variables": {}, "axes": {}, "attrs": {}}},
            )
        else:
            _state().save(path, {"a": 1})
        return path.read_bytes()


def _state() -> State:
    return State.new({"w": torch.zeros(3)}, {}, average=False, members=1)


def _archive(kind: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in" / "deep").mkdir(parents=True)
        for name in ("a", "deep/b"):
            (Path(folder) / "in" / name).write_bytes(name.encode() * 40)
        return Path(shutil.make_archive(f"{folder}/a", kind, f"{folder}/in")).read_bytes()


def _photo(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    exif, out = Image.Exif(), io.BytesIO()
    exif[274] = 6  # it lies on its side
    Image.fromarray(pixels).save(out, kind, exif=exif)
    return out.getvalue()


def _solid(kind: str) -> bytes:
    corners, triangles = World().solids["bracket"]
    content = trimesh.Trimesh(corners, triangles, process=False).export(file_type=kind)
    return content.encode() if isinstance(content, str) else content


# ---- readers: path -> anything, all of it read


def read_table(path: Path) -> None:
    file = open_table(path)
    for _ in file.blocks(file.names):
        pass


def read_molecules(path: Path) -> None:
    for block in Trained.open("molecules-qm9").read(path):
        assert set(block["status"].values)


def read_solid(path: Path) -> None:
    assert world(Setup(solids={"part": str(path)})).solids


def read_arrays(path: Path) -> None:
    with Arrays(path, "u") as file:
        for name in ("u", "v"):
            if name in file:
                np.asarray(file[name][()])


TEMPLATE = xr.Dataset(
    {"x": (("sample", "channel", "row", "column"), np.empty((0, 2, 4, 5)), {"units": "m/s"})},
    attrs={"channels": ["u", "v"], "grid": [4, 5]},
)

ARCHIVES = {"zip": "zip", "tar": "tar", "tgz": "gztar", "txz": "xztar"}  # what a name ends in -> the kind


def _unpacked(path: Path) -> None:
    unpack(path, path.parent / "out", limit_bytes=1 << 24)


READERS: dict[str, tuple[Callable[[], bytes], Callable[[Path], Any]]] = {
    "config.yaml": (
        lambda: (domain("stars").folder / "config.yaml").read_bytes(),
        lambda path: load_config(domain("stars"), str(path)),
    ),
    "hipparcos.yaml": (lambda: (manifests_folder() / "hipparcos.yaml").read_bytes()[:6000], load_manifest),
    "fluids.yaml": (lambda: (manifests_folder() / "fluids.yaml").read_bytes(), load_manifest),
    "table.csv": (_csv, read_table),
    "table.csv.gz": (lambda: gzip.compress(_csv()), read_table),
    "table.ecsv": (lambda: _astropy("ascii.ecsv"), read_table),
    "table.fits": (lambda: _astropy("fits"), read_table),
    "table.vot": (lambda: _astropy("votable"), read_table),
    "table.parquet": (_parquet, read_table),
    "molecules.smi": (_smiles, read_molecules),
    "molecules.csv": (lambda: _smiles().replace(b" ", b","), read_molecules),
    "molecules.sdf": (_sdf, read_molecules),
    "scan.xy": (_scan, read_scan),
    "scan.xye": (lambda: _scan("  "), read_scan),
    "scan.csv": (lambda: _scan(",", "2theta,counts,error\n"), read_scan),
    "scan.dat": (lambda: _scan("\t", "# a header\n"), read_scan),
    "scan.ras": (_ras, read_scan),
    "scan.nxs": (_nexus, read_scan),
    "fields.h5": (_hdf5, lambda path: list(read_fluids(path, Fluids(), TEMPLATE))),
    "simulated.h5": (_simulated, lambda path: list(read_fluids(path, Fluids(), TEMPLATE))),
    "fields.nc": (lambda: _netcdf("h5netcdf"), lambda path: list(read_fluids(path, Fluids(), TEMPLATE))),
    "classic.nc": (lambda: _netcdf("scipy"), lambda path: list(read_fluids(path, Fluids(), TEMPLATE))),
    "images.npz": (lambda: _npz(True), lambda path: list(read_digits(path, Digits()))),
    "images.npy": (lambda: _npz(False), lambda path: list(read_digits(path, Digits()))),
    "images.idx": (_idx, lambda path: list(read_digits(path, Digits()))),
    "photo.jpg": (lambda: _photo("JPEG"), open_photo),
    "photo.png": (lambda: _photo("PNG"), open_photo),
    "photo.tif": (lambda: _photo("TIFF"), open_photo),
    "photo.webp": (lambda: _photo("WEBP"), open_photo),
    "pictures.csv": (
        lambda: b"person,expression,file,eyes\na,neutral,a.png,1 2 3 4\na,smiling,b.png,\n",
        listed,
    ),
    "labels.csv": (
        lambda: b"file,x,y,heading,kind\na.png,12.5,-3,90,mug\nb.png,,,,\n",
        object_labels,
    ),
    "labels.json": (
        lambda: (
            b'{"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 2, "name": "tee"}], '
            b'"annotations": [{"image_id": 1, "category_id": 2, "bbox": [3, 4, 5, 6]}]}'
        ),
        object_labels,
    ),
    **{f"solid.{kind}": (partial(_solid, kind), read_solid) for kind in ("stl", "obj", "ply")},
    "landmarks.tem": (lambda: b"2\n565.0\t632.0\n778.0\t624.0\n", read_template),
    "arrays.h5": (_hdf5, read_arrays),
    "model.safetensors": (lambda: _model("model"), lambda path: (load_model(path), Trained.open(path))),
    "checkpoint.safetensors": (lambda: _model("checkpoint"), lambda path: _state().load(path, {"a": 1})),
    **{f"archive.{ending}": (partial(_archive, kind), _unpacked) for ending, kind in ARCHIVES.items()},
}


@pytest.mark.parametrize("name", READERS)
def test_a_valid_file_is_read(tmp_path: Path, name: str) -> None:
    """Otherwise the mutations would all fail at the same place."""
    make, read = READERS[name]
    (tmp_path / name).write_bytes(make())
    read(tmp_path / name)


@pytest.mark.parametrize("name", READERS)
def test_mutations_of_a_file(tmp_path: Path, name: str, bounded: Callable[..., Any]) -> None:
    make, read = READERS[name]
    whole, ends, endings = make(), time.monotonic() + SECONDS, [False]

    @settings(
        max_examples=int(200 * SECONDS),
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        derandomize=SECONDS == 1.5,
    )
    @given(st.lists(edits, min_size=1, max_size=4))
    def attack(changes: list[tuple[str, float, Any]]) -> None:
        if time.monotonic() > ends:
            return
        (tmp_path / name).write_bytes(mutated(whole, changes))
        if name in HDF5:
            endings.append(in_a_child(read, tmp_path / name))
        else:
            with bounded(seconds=20, megabytes=2000), suppress(ScienceVAEError):
                read(tmp_path / name)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert [path.name for path in tmp_path.iterdir()] == [name]

    attack()
    assert sum(endings) <= len(endings) / 4  # of those that the library itself ended


def in_a_child(read: Callable[[Path], Any], path: Path) -> bool:
    """Read in a process of its own; True where that was ended within the C library, which is no error of ours."""
    said = path.with_name(".said")
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(1)
        with suppress(BaseException), dask.config.set(scheduler="synchronous"):
            try:
                read(path)
            except ScienceVAEError:
                pass
            except BaseException:
                said.write_text(traceback.format_exc())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if said.exists():
        raise AssertionError(said.read_text())
    return status != 0


def _zarr_files(folder: Path) -> Iterator[Path]:
    _fields().to_zarr(folder, consolidated=False)
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def test_mutations_of_a_zarr_folder(tmp_path: Path, bounded: Callable[..., Any]) -> None:
    folder, ends = tmp_path / "fields.zarr", time.monotonic() + SECONDS
    files = {path: path.read_bytes() for path in _zarr_files(folder)}
    assert len(list(read_fluids(folder, Fluids(), TEMPLATE))) == 1

    @settings(
        max_examples=int(100 * SECONDS),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=SECONDS == 1.5,
    )
    @given(st.sampled_from(sorted(files)), st.lists(edits, min_size=1, max_size=4))
    def attack(path: Path, changes: list[tuple[str, float, Any]]) -> None:
        if time.monotonic() > ends:
            return
        path.write_bytes(mutated(files[path], changes))
        with bounded(seconds=20, megabytes=2000), suppress(ScienceVAEError):
            list(read_fluids(folder, Fluids(), TEMPLATE))
        path.write_bytes(files[path])

    attack()


def test_edits_do_what_they_say() -> None:
    """So that the mutations above are some."""
    content = bytes(range(100))
    assert mutated(content, [("flip", 0.5, 0)])[49] == 48
    assert mutated(content, [("insert", 0, b"x")]) == b"x" + content
    assert len(mutated(content, [("cut", 0.5, 0)])) == 49
    assert len(mutated(content, [("drop", 0, 10)])) == 90
    assert len(mutated(content, [("repeat", 0, 10)])) == 170
    assert sorted(mutated(content, [("swap", 0, 10)])) == sorted(content)
    assert yaml.safe_load(mutated(b"a: 1", [("set", 1, b"2")])) == {"a": 2}
