"""What a user brings may be larger than memory: preparing or analysing more rows takes hardly more of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sciencevae.data.hdf5 import write_hdf5

#: bytes that pools and threads may take more; of files held in memory the larger took 200 to 550 MB more
SLACK = 64 << 20

PREPARE = """
import sys
from pathlib import Path
from sciencevae import stages
from sciencevae.config import load
from sciencevae.data import scaling, sequential, store, tables
from sciencevae.registry import domain

tables._BLOCK_ROWS, tables._BLOCK_BYTES = 10_000, 1 << 20
sequential._SMALL_BYTES = 4 << 20
store._SHARD_BYTES, store._CHUNK_BYTES, scaling._BLOCK_BYTES = 4 << 20, 1 << 18, 4 << 20
name, config, out, *paths = sys.argv[1:]
for path in paths:
    settings = load(domain(name), config or None)
    data = stages._prepared(domain(name), settings, {}, Path(path))
    store.write(data, out, seed=1, memory_bytes=8 << 20)
    # not getrusage's, which begins with what the process that started this one had
    told = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    print(data.sizes["sample"], int(told["VmHWM"].split()[0]) << 10)
"""

#: an untrained model, and latents that are noise: what analyses hold does not depend on what they find
ANALYSE = """
import sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import xarray as xr
from sciencevae import stages
from sciencevae.builtin.fluids import forecasting, frames, model
from sciencevae.config import load
from sciencevae.data import rows, scaling, store
from sciencevae.registry import domain

rows._HELD_BYTES = frames._BLOCK_BYTES = forecasting._SNAPSHOT_BYTES = 1 << 20
forecasting._TRAIN_WINDOWS, forecasting._VALID_WINDOWS, forecasting._TEST_WINDOWS = 200, 8, 8
store._SHARD_BYTES, store._CHUNK_BYTES, scaling._BLOCK_BYTES = 4 << 20, 1 << 18, 4 << 20
fluids, out = domain("fluids"), Path(sys.argv[1])
small = ["model={latent: 4, channels: [2], hidden: [4]}", "analyse={forecasters: [linear], lead_times: [1]}"]
for path in sys.argv[2:]:
    settings = load(fluids, "own", overrides=small)
    store.write(stages._prepared(fluids, settings, {}, Path(path)), out, shuffle=False, memory_bytes=8 << 20)
    data = store.open_store(out)
    z = np.random.default_rng(0).normal(size=(data.sizes["sample"], 4)).astype(np.float32)
    main = SimpleNamespace(
        name="main", key="", folder=out.parent, settings=settings, data=data,
        latents=xr.Dataset({"z": (("sample", "latent"), z)}), model=lambda: model.build(settings, data).eval(),
    )
    run = SimpleNamespace(settings=settings, main=main, variants={"main": main})
    notes = [note for analyse in fluids.analyses.values() for note in analyse(run).notes]
    told = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    print(data.sizes["sample"], int(told["VmHWM"].split()[0]) << 10)
assert "The POD is of 16 training frames" in notes[0], notes
assert any("main: linear learnt from 200 training windows" in note for note in notes), notes
"""


def table(path: Path, rows: int) -> None:
    random = np.random.default_rng(rows)
    frame = pd.DataFrame(random.normal(size=(rows, 40)), columns=[f"c{i}" for i in range(40)])
    frame.assign(kind=random.choice(["dwarf", "giant"], rows)).to_parquet(path, row_group_size=10_000)


def stars(path: Path, rows: int) -> None:
    random = np.random.default_rng(rows)
    errors = [f"{name}_error" for name in ("ra", "dec", "parallax", "pmra", "pmdec")]
    frame = pd.DataFrame(random.uniform(0.01, 0.2, (rows, 5)), columns=errors)
    frame[["ra", "dec"]] = random.normal([66, 16], 2, (rows, 2))
    frame[["parallax", "pmra", "pmdec", "phot_g_mean_mag"]] = random.normal(10, 1, (rows, 4))
    frame.assign(source_id=np.arange(rows)).to_parquet(path, row_group_size=10_000)


def lattices(path: Path, rows: int) -> None:
    random, temperatures = np.random.default_rng(rows), [0.5, 0.6, 0.9, 1.2]
    with h5py.File(path, "w") as file:
        file["theta"] = random.uniform(-3, 3, (rows, 16, 16)).astype(np.float32)
        file["temperature"] = np.repeat(temperatures, rows // 4)
        file["chain"] = np.arange(rows) * 40 // rows
        file["chain_temperature"], file["tau_int"] = np.repeat(temperatures, 10), np.ones(40)
        for name, size in (("magnetisation", 2), ("bond_sums", 4)):
            file[name] = random.normal(size=(rows, size))
        for name in ("energy", "vortex_density"):
            file[name] = random.normal(size=rows)
        file.attrs.update(lattice=16, seed=0)


def patterns(path: Path, rows: int) -> None:
    random = np.random.default_rng(rows)
    with h5py.File(path, "w") as file:
        file["counts"] = random.poisson(100, (rows, 128)).astype(np.int32)
        file["expected"] = np.full((rows, 128), 100, np.float32)


def images(path: Path, rows: int) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = np.random.default_rng(rows).integers(0, 256, (rows, 28, 28), np.uint8)


def flow(path: Path, frames: int) -> None:
    """A travelling wave and noise, on 128 × 128 points, in runs of 25 frames."""
    random, x = np.random.default_rng(frames), np.linspace(0, 2 * np.pi, 128, endpoint=False)
    values = random.random((frames // 25, 25, 128, 128), np.float32)
    values += np.cos(x + x[:, None] - 0.1 * np.arange(25)[:, None, None]).astype(np.float32)
    coords = {"time": ("time", np.arange(25) * 0.1, {"units": "s"})}
    coords |= {axis: (axis, x, {"units": "m"}) for axis in ("y", "x")}
    write_hdf5(xr.Dataset({"u": (("run", "time", "y", "x"), values, {"units": "m/s"})}, coords), path)


#: what is freed is given back at once: else the largest memory is one time 60 MB more than another
QUIET = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "262144"}

#: the larger files are of 15 to 165 MB, of which what is prepared takes more; bytes that a row more may take, of
#: what is known of all rows at once
CASES = [
    ("tables", "own", table, ".parquet", (20_000, 150_000), 100),
    ("stars", "own", stars, ".parquet", (20_000, 200_000), 250),
    ("xy", "", lattices, ".h5", (10_000, 160_000), 100),
    ("diffraction", "", patterns, ".h5", (20_000, 120_000), 100),
    ("digits", "mnist", images, ".h5", (10_000, 60_000), 100),
]


@pytest.mark.parametrize(
    ("name", "config", "make", "ending", "rows", "each"), CASES, ids=[case[0] for case in CASES]
)
def test_preparing_more_rows_takes_hardly_more_memory(
    name: str,
    config: str,
    make: Callable[[Path, int], None],
    ending: str,
    rows: tuple[int, int],
    each: int,
    tmp_path: Path,
) -> None:
    paths = made(make, rows, tmp_path, ending)
    assert_bounded(each, rows, PREPARE, name, config, tmp_path / "store.zarr", *paths)


def test_analysing_more_frames_takes_hardly_more_memory(tmp_path: Path) -> None:
    """The frames are of 13 and 85 MB."""
    rows = (200, 1300)
    assert_bounded(0, rows, ANALYSE, tmp_path / "store.zarr", *made(flow, rows, tmp_path))


def made(
    make: Callable[[Path, int], None], rows: tuple[int, int], folder: Path, ending: str = ".h5"
) -> list[Path]:
    """A file of the fewer rows, and one of the more."""
    paths = [folder / f"{count}{ending}" for count in rows]
    for path, count in zip(paths, rows, strict=True):
        make(path, count)
    return paths


def assert_bounded(each: int, rows: tuple[int, int], script: str, *arguments: str | Path) -> None:
    """The largest resident memory of a process grows from the fewer rows to the more by ``each`` bytes a row."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | QUIET,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (few, before), (many, after) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert (few, many) == rows
    assert after - before < each * (many - few) + SLACK, f"{(after - before) / (many - few):.0f} bytes a row"


ANALYSE_ROWS = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from sciencevae import stages
from sciencevae.builtin.digits import analysis as digits
from sciencevae.builtin.xy import analysis as xy
from sciencevae.config import load
from sciencevae.data import batches, rows, scaling, sequential, store
from sciencevae.registry import domain

sequential._SMALL_BYTES, rows._BLOCK_BYTES, batches._BLOCK_BYTES = 1 << 20, 1 << 20, 1 << 20
store._SHARD_BYTES, store._CHUNK_BYTES, scaling._BLOCK_BYTES = 1 << 20, 1 << 18, 1 << 20
digits._HELD_BYTES, xy._FITTED_BYTES = 1 << 20, 4 << 20
name, config, analysis, overrides, out, *paths = sys.argv[1:]
for path in paths:
    own = domain(name)
    settings = load(own, config or None, overrides=json.loads(overrides))
    data = stages._prepared(own, settings, {}, Path(path))
    data = store.write(data, f"{out}/store.zarr", seed=1, memory_bytes=4 << 20)
    model = own.build(settings, data).eval()
    z = (("sample", "latent"), np.random.default_rng(0).normal(size=(data.sizes["sample"], 4)))
    variant = SimpleNamespace(
        settings=settings, data=data, model=lambda: model, latents=data.coords.to_dataset().assign(z=z, z_std=z),
        key="", metrics={"seconds": 0.0, "latents": {}},
    )
    variant.run = run = SimpleNamespace(
        settings=settings, domain=own, variants={"main": variant}, main=variant
    )
    assert own.analyses[analysis](run).tables
    told = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    print(data.sizes["sample"], int(told["VmHWM"].split()[0]) << 10)
"""

#: of all images and lattices, and of what is decoded from them, the larger took 165 and 120 MB more
ANALYSES = [
    (
        "digits",
        "mnist",
        "likelihood",
        [
            "prepare.fractions={train: 0.1, valid: 0.1, test: 0.8}",
            "model={hidden: [16], latent: 2}",
            "analyse={evidence_rows: 10, evidence_samples: 2}",
            *("objective={}", "refit={}", "variants={}"),
        ],
        images,
        (2_000, 4_000),
        300,
    ),
    (
        "xy",
        "",
        "decoding",
        ["model={latent: 4, channels: 4, hidden: 16}", "analyse.draws=50", "variants={}"],
        lattices,
        (1_000, 11_000),
        500,
    ),
]


@pytest.mark.parametrize(
    ("name", "config", "analysis", "overrides", "make", "rows", "each"),
    ANALYSES,
    ids=[case[0] for case in ANALYSES],
)
def test_analysing_more_rows_takes_hardly_more_memory(
    name: str,
    config: str,
    analysis: str,
    overrides: list[str],
    make: Callable[[Path, int], None],
    rows: tuple[int, int],
    each: int,
    tmp_path: Path,
) -> None:
    paths = made(make, rows, tmp_path)
    assert_bounded(each, rows, ANALYSE_ROWS, name, config, analysis, json.dumps(overrides), tmp_path, *paths)
