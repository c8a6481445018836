"""How fast batches of 64×64 fields come from a Zarr store: our loader, and the usual ways beside it.

    python benchmarks/loader.py [--quick]

Samples a second in shuffled batches of 256 (xbatcher: in order, it does not shuffle), one torch thread, files
in the page cache, scaled where it is ours. The peers read the same values: a random-access DataLoader over
the same store, over a store of one field a chunk, and over a memory map (the fastest, but it knows no Zarr
and holds every page); xbatcher over the opened store (from ``benchmarks/peers/setup``). Median of several repeats,
taken in turn. Below: reading a store's chunks straight and through zarr; the in-memory loader on a small
table; how much memory an epoch takes. The last result is kept in benchmarks/results/loader.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import zarr
from torch.utils.data import DataLoader, Dataset

from sciencevae.batch import Batch
from sciencevae.data import InMemory, Streaming, open_store, write
from sciencevae.data.chunks import Column, open_group

BATCH = 256
SHAPE = (1, 64, 64)
TARGET = 67_000  # samples a second; a random-access DataLoader was measured at 1,300, xbatcher at 7,000


class RandomAccess(Dataset):
    """One row at a time, as most tutorials have it."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(np.array(self.rows[index]))


def rate(batches: Iterator[Any], seconds: float) -> tuple[float, float]:
    """Samples a second and samples a CPU-second, over the whole epoch or the first ``seconds`` of it."""
    start, begin, rows = time.perf_counter(), time.process_time(), 0
    for batch in batches:
        rows += len(batch)
        if time.perf_counter() - start > seconds:
            break
    return rows / (time.perf_counter() - start), rows / (time.process_time() - begin)


def xbatches(path: Path) -> Iterator[torch.Tensor]:
    """xbatcher's batches as tensors."""
    import xbatcher

    dims = {"sample": BATCH, "channel": 1, "row": 64, "column": 64}
    for batch in xbatcher.BatchGenerator(open_store(path)[["x"]], input_dims=dims, preload_batch=False):
        yield torch.from_numpy(batch["x"].transpose("sample", ...).values)


def loaders(folder: Path, n: int) -> dict[str, Callable[[int], Iterator[Any]]]:
    """name -> a function of the repeat that starts an epoch."""
    x = np.random.default_rng(0).standard_normal((n, *SHAPE), dtype=np.float32)
    start = time.perf_counter()
    write(xr.Dataset({"x": (("sample", "channel", "row", "column"), x)}), folder / "ours.zarr")
    print(f"written in {time.perf_counter() - start:.1f} s ({x.nbytes / 1e6:,.0f} MB)")
    single = zarr.create_array(
        str(folder / "single.zarr"), shape=(n // 16, *SHAPE), chunks=(1, *SHAPE), dtype="f4", compressors=None
    )
    single[:] = x[: n // 16]
    np.save(folder / "x.npy", x)
    ours = Streaming(folder / "ours.zarr")

    def random(rows: Any, workers: int = 0) -> Iterator[Any]:
        return iter(DataLoader(RandomAccess(rows), BATCH, shuffle=True, num_workers=workers))

    found: dict[str, Callable[[int], Iterator[Any]]] = {
        "sciencevae": lambda repeat: ours.epoch(0, repeat, BATCH),
        "DataLoader, same store": lambda repeat: random(
            zarr.open_group(str(folder / "ours.zarr"), mode="r")["x"]
        ),
        "DataLoader, a field a chunk": lambda repeat: random(
            zarr.open_array(str(folder / "single.zarr"), mode="r")
        ),
        "DataLoader, memory map": lambda repeat: random(np.load(folder / "x.npy", mmap_mode="r")),
    }
    # pure Python on our own xarray; last on the path, so that nothing else of the peers' is taken
    sys.path += map(str, Path(__file__).parents[1].glob(".venv-peers/lib/python*/site-packages"))
    if find_spec("xbatcher"):
        found["xbatcher"] = lambda repeat: xbatches(folder / "ours.zarr")
    return found


def reading(folder: Path) -> dict[str, float]:
    """Rows a second of whole-chunk reads into a buffer: straight, and through zarr."""
    array: Any = open_group(folder / "ours.zarr")["x"]
    column, found = Column(array, folder / "ours.zarr" / "x"), {}
    buffer = column.empty(column.chunk_rows)
    starts = range(0, min(column.shape[0], 8192), column.chunk_rows)
    for name, direct in (("straight", True), ("through zarr", False)):
        column.direct = direct
        best = 0.0
        for _ in range(3):
            begin = time.perf_counter()
            for start in starts:
                column.read_into(start, start + column.chunk_rows, buffer)
            best = max(best, len(starts) * column.chunk_rows / (time.perf_counter() - begin))
        found[name] = best
    return found


def table_step() -> float:
    """Microseconds a batch of 128 from a table in memory (20,000 × 8, with condition and noise); the best."""
    x = torch.randn(20_000, 8)
    data = InMemory(Batch(x, context={"condition": x[:, :1].clone(), "noise": x.abs()}))
    best = float("inf")
    for epoch in range(20):
        start = time.perf_counter()
        for _ in data.epoch(0, epoch, 128):
            pass
        best = min(best, time.perf_counter() - start)
    return 1e6 * best / data.steps(128)


def memory_growth(folder: Path) -> float:
    """MB by which an epoch through 64 MiB of buffers raises this process's peak; in a fork of its own."""
    read, out = os.pipe()
    if child := os.fork():
        os.waitpid(child, 0)
        return float(os.read(read, 64))
    data = Streaming(folder / "ours.zarr", buffer_bytes=64 << 20)
    next(data.blocks(8))
    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak counts anew
    before = _peak()
    for _ in islice(data.epoch(0, 0, BATCH), None):
        pass
    os.write(out, str(_peak() - before).encode())
    os._exit(0)


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    found = [float(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")]
    return found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Print the tables and keep them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a quarter of the data, one repeat; nothing is kept"
    )
    quick = parser.parse_args().quick
    n, repeats, seconds = (16_384, 1, 2.0) if quick else (65_536, 5, 4.0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        named = loaders(folder, n)
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in named}
        for repeat in range(repeats):
            for name, start in named.items():
                rates[name].append(rate(start(repeat), seconds))
        medians = {name: np.median(found, axis=0) for name, found in rates.items()}
        ours = medians["sciencevae"]
        print(f"{'samples':<30}{'a second':>10}{'best':>9}{'ours is':>10}{'a CPU-second':>14}{'ours is':>10}")
        for name, (median, cpu) in medians.items():
            best = max(rates[name])[0]
            print(
                f"{name:<30}{median:10,.0f}{best:9,.0f}{ours[0] / median:9.1f}×{cpu:14,.0f}{ours[1] / cpu:9.1f}×"
            )
        print(f"target {TARGET:,} samples a second; load of this machine {os.getloadavg()[0]:.1f}")
        chunks, step, growth = reading(folder), table_step(), memory_growth(folder)
    print("chunks into a buffer, rows/s:", ", ".join(f"{k} {v:,.0f}" for k, v in chunks.items()))
    print(f"a batch of a table in memory: {step:.1f} µs (target 20)")
    print(f"memory of an epoch with 64 MiB of buffers: {growth:.0f} MB, of {n * 16384 / 1e6:,.0f} MB of data")
    result = {"samples_per_second": rates, "chunk_rows_per_second": chunks, "table_batch_us": step}
    result |= {"epoch_memory_mb": growth, "rows": n, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    result |= {"machine": platform.machine(), "torch": torch.__version__, "zarr": zarr.__version__}
    if not quick:
        path = Path(__file__).parent / "results" / "loader.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
