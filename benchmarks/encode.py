"""How fast ``encode`` goes through a store, and how much memory it takes, on stores larger than the limit.

    python -m benchmarks.encode [--quick]

Rows a second of processor time (every thread's counted), and by how much the process's peak of resident memory
rises above what it holds with the model loaded and a small store encoded. Each measurement is a process of its
own; the repeats take turns. Stores: 64×64 fields (a perceptron, and a convolution whose activations are larger
than the data) and a long table of eight columns. The last result is kept in benchmarks/results/encode.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.turns import keep

if TYPE_CHECKING:
    import sciencevae as sv

LIMIT_MB = 512
#: name -> shape of a row, rows
STORES = {"fields": ((1, 64, 64), 49_152), "table": ((8,), 17_000_000)}
#: name -> store
CASES = {"fields, perceptron": "fields", "fields, convolution": "fields", "table, perceptron": "table"}
LATENT = 8


def make(folder: Path, name: str, rows: int) -> Path:
    """A store of normal numbers, and a small one beside it."""
    import dask.array as da
    import xarray as xr

    from sciencevae.data import write

    shape = STORES[name][0]
    dims = ("sample", "channel", "row", "column") if len(shape) == 3 else ("sample", "column")
    for kind, n in (("small", 4096), ("large", rows)):
        random = da.random.default_rng(0)
        block = max(1, (16 << 20) // (4 * int(_size(shape))))
        x = random.standard_normal((n, *shape), chunks=(block, *shape), dtype="f4")
        write(xr.Dataset({"x": (dims, x)}), folder / f"{name}-{kind}.zarr", shuffle=False)
    return folder / f"{name}-large.zarr"


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def build(case: str) -> sv.VAE:
    """The model of a case, untrained."""
    import torch
    from torch import nn

    import sciencevae as sv

    torch.manual_seed(0)
    shape = STORES[CASES[case]][0]
    network: nn.Module
    if "convolution" in case:
        network = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1), nn.SiLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.SiLU(), nn.Flatten(),
            nn.Linear(32 * 16 * 16, 2 * LATENT),
        )  # fmt: skip
    else:
        network = nn.Sequential(nn.Flatten(), sv.networks.Perceptron(_size(shape), [64, 32], 2 * LATENT))
    decoder = nn.Sequential(nn.Linear(LATENT, _size(shape)), nn.Unflatten(1, shape))
    return sv.VAE(
        sv.priors.StandardNormal(LATENT), sv.encoders.Gaussian(network, LATENT), sv.decoders.Gaussian(decoder)
    )


def worker(case: str, folder: Path, threads: int) -> None:
    """Encode a small store, then the large one; answer on standard output."""
    from sciencevae.latents.encode import encode_store

    model = build(case)
    store = CASES[case]
    encode_store(model, folder / f"{store}-small.zarr", folder / "out-small.zarr", threads=threads)
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")  # from here on the peak counts anew
    before, wall, cpu = _peak(), time.perf_counter(), time.process_time()
    encode_store(model, folder / f"{store}-large.zarr", folder / "out.zarr", threads=threads)
    values = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**values, "extra_mb": _peak() - before, "before_mb": before}))


def _peak() -> float:
    """Peak of resident memory in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(case: str, folder: Path, threads: int) -> dict[str, float]:
    """One measurement in a process of its own."""
    for old in folder.glob("out*.zarr"):
        subprocess.run(["rm", "-r", str(old)], check=True)
    command = [sys.executable, "-m", "benchmarks.encode", "--worker", case, str(folder), str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"encoding {case} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="an eighth of the rows, once; nothing is kept")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker[0], Path(given.worker[1]), int(given.worker[2]))
        return
    share, repeats = (8, 1) if given.quick else (1, given.repeats)
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sizes = {name: rows // share for name, (_, rows) in STORES.items()}
        for name, rows in sizes.items():
            make(folder, name, rows)
        for _ in range(repeats):
            for threads in given.threads:
                for case in CASES:
                    found.setdefault((case, threads), []).append(measure(case, folder, threads))
    rows_of = {case: sizes[store] for case, store in CASES.items()}
    print(f"{'':<24}{'threads':>8}{'data MB':>9}{'rows/CPU-s (min–max)':>28}{'rows/s':>11}{'extra MiB':>11}")
    table: list[dict[str, Any]] = []
    for (case, threads), runs in found.items():
        n = rows_of[case]
        rates = sorted(n / run["cpu"] for run in runs)
        megabytes = n * 4 * _size(STORES[CASES[case]][0]) / 1e6
        extra = max(run["extra_mb"] for run in runs)
        wall = statistics.median(n / run["wall"] for run in runs)
        middle = statistics.median(rates)
        told = f"{middle:,.0f} ({rates[0]:,.0f}–{rates[-1]:,.0f})"
        print(f"{case:<24}{threads:>8}{megabytes:>9,.0f}{told:>28}{wall:>11,.0f}{extra:>11,.0f}")
        table.append(
            {
                "case": case, "threads": threads, "rows": n, "data_mb": round(megabytes),
                "rows_per_cpu_second": round(middle), "smallest": round(rates[0]), "largest": round(rates[-1]),
                "rows_per_second": round(wall), "extra_mib": round(extra),
            }
        )  # fmt: skip
    print(f"(target: at most {LIMIT_MB} MiB extra at any size)")
    if not given.quick:
        keep("encode", {"limit_mib": LIMIT_MB, "repeats": repeats, "table": table})


if __name__ == "__main__":
    main()
