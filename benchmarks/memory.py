"""How much memory prepare, train and encode take of data that are larger than it.

    python -m benchmarks.memory [--of fields|table] [--gib SIZE] [--folder DIR]

fields: velocities on 256 × 256 points in a Zarr folder of the user's own (``sciencevae run fluids --input``), by
default 8.5 GiB of them; table: 64 columns of numbers and a class in Parquet (``sciencevae run tables --input``), by
default 4.2 GiB. Each stage is a process of one thread, and what is told is the largest resident memory that
it had (VmHWM). The page cache, which the kernel gives back, is no part of it. Target: 2 GiB. Twice the size is
needed on the disk, of a table three times; the last results are kept in benchmarks/results/memory.json and
memory_table.json.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from benchmarks.turns import keep

SIDE, FRAMES = 256, 256  # points an axis, frames a run
STAGES = ("prepare", "train", "encode")
COLUMNS, GROUP = 64, 100_000  # numbers of a row, rows of a row group
TRAINING = ("training.epochs=1", "training.threads=1")
SETTINGS = {
    "fields": (
        *TRAINING, "training.batch_size=64", "model.channels=[4,8,16,32]", "model.hidden=[64]", "model.latent=8",
    ),
    "table": (*TRAINING, "training.batch_size=4096"),
}  # fmt: skip
DOMAINS, GIB = {"fields": "fluids", "table": "tables"}, {"fields": 8.5, "table": 4.2}


def fields(path: Path, gib: float) -> int:
    """Runs of travelling waves of random lengths and phases, written run by run; gives the bytes of the fields."""
    import dask.array as da

    runs = max(5, round(gib * 2**30 / (2 * 4 * SIDE**2 * FRAMES)))
    x = np.linspace(0, 2 * np.pi, SIDE, endpoint=False)

    def one(block_info: Any = None) -> np.ndarray:
        (run, first, *_), (_, last, *_) = zip(*block_info[None]["array-location"], strict=True)
        random = np.random.default_rng(run)
        k, phase = random.integers(1, 5, (4, 2)), random.uniform(0, 2 * np.pi, 4)
        t = np.arange(first, last)[:, None, None]
        waves = (np.cos(a * x[:, None] + b * x + c + 0.1 * t) for (a, b), c in zip(k, phase, strict=True))
        return sum(waves).astype(np.float32)[None]

    shape, chunks = (runs, FRAMES, SIDE, SIDE), ((1,) * runs, (64,) * (FRAMES // 64), (SIDE,), (SIDE,))
    data = da.map_blocks(one, chunks=chunks, dtype=np.float32, meta=np.empty((0,) * 4, np.float32))
    coords = {"time": ("time", np.arange(FRAMES) * 0.1, {"units": "s"})}
    coords |= {axis: (axis, x, {"units": "m"}) for axis in ("y", "x")}
    ds = xr.Dataset({n: (("run", "time", "y", "x"), data, {"units": "m/s"}) for n in ("u", "v")}, coords)
    encoding = {name: {"compressors": None} for name in ("u", "v")}
    ds.to_zarr(path, encoding=encoding, zarr_format=3, consolidated=False)
    return 2 * 4 * int(np.prod(shape))


def table(path: Path, gib: float) -> int:
    """Numbers of three causes each, and a class, written row group by row group; gives the bytes of the numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    groups = max(1, round(gib * 2**30 / (8 * COLUMNS * GROUP)))
    mixed = np.random.default_rng(0).normal(size=(3, COLUMNS))
    writer = None
    for group in range(groups):
        random = np.random.default_rng(group + 1)
        values = random.normal(size=(GROUP, 3)) @ mixed + 0.2 * random.normal(size=(GROUP, COLUMNS))
        part = pa.table(
            {f"x{k}": values[:, k] for k in range(COLUMNS)} | {"kind": random.choice(["a", "b", "c"], GROUP)}
        )
        writer = writer or pq.ParquetWriter(path, part.schema, compression="none", use_dictionary=["kind"])
        writer.write_table(part)
    assert writer is not None
    writer.close()
    return 8 * COLUMNS * GROUP * groups


def run(*arguments: str | Path) -> tuple[float, float]:
    """A command of sciencevae: seconds, and the largest resident memory in GiB."""
    command = [sys.executable, "-P", "-m", "sciencevae", *map(str, arguments)]
    began = time.monotonic()
    process = os.posix_spawn(sys.executable, command, os.environ)
    _, status, used = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.monotonic() - began, used.ru_maxrss / 2**20


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--of", choices=list(DOMAINS), default="fields", help="what is prepared")
    parser.add_argument("--gib", type=float, help="of the data (default: 8.5 of fields, 4.2 of a table)")
    parser.add_argument("--folder", type=Path, help="where the data go (default: a temporary folder)")
    asked = parser.parse_args()
    kind, make = asked.of, {"fields": fields, "table": table}[asked.of]
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        folder = Path(scratch)
        source = folder / {"fields": "flow.zarr", "table": "table.parquet"}[kind]
        size = make(source, asked.gib or GIB[kind]) / 2**30
        settings = [word for setting in SETTINGS[kind] for word in ("--set", setting)]
        own = ("--config", "own", "--input", source, "--out", folder / "run")
        run("configure", DOMAINS[kind], *own, *settings)
        print(f"{'stage':10}{'seconds':>9}{'GiB':>7}   ({size:.1f} GiB of {kind}, one thread)")
        result: dict[str, Any] = {"gib": size, "stages": {}}
        for stage in STAGES:
            seconds, memory = run(stage, folder / "run")
            result["stages"][stage] = {"seconds": seconds, "gib": memory}
            print(f"{stage:10}{seconds:9.0f}{memory:7.2f}", flush=True)
    if size >= 0.95 * GIB[kind]:
        keep("memory" if kind == "fields" else "memory_table", result)


if __name__ == "__main__":
    main()
