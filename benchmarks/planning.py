"""What each domain costs at 1, 10, 1,000 and 1,000,000 times its demonstration size.

    python -m benchmarks.planning [--quick] [DOMAIN …]

The main training of each demonstration is run at two sizes, up to about its own, stage by stage, each a process of
one thread: processor seconds, and the largest resident memory. Both are drawn on as straight lines over the number
of data: a start, and a cost a datum. (Stars at three: a star marks a stage whose cost a datum rises.) Training is
measured for two epochs, uncompiled, and counted for as many as the demonstration has: its cost is one a datum and
epoch. So that memory that grows with the data shows at these sizes, the buffers (of 512 MiB: writing a store; a
split that is kept in memory) are cut to one MiB, and added again in what is told. The last result of each domain is
kept in benchmarks/results/planning.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.turns import HERE, keep

STAGES = ("fetch", "prepare", "train", "encode", "analyse", "report")
EPOCHS = 2
#: bytes to which the buffers are cut, and what the two large ones are otherwise
CUT, MEMORY_LIMIT = 1 << 20, 512 << 20
BUFFERS = {
    "sciencevae.data.batches": {"_BLOCK_BYTES": CUT, "_GROUP_BYTES": CUT},
    "sciencevae.data.store": {"_SHARD_BYTES": CUT},
    "sciencevae.data.rows": {"_HELD_BYTES": CUT, "_BLOCK_BYTES": CUT},
    "sciencevae.data.scaling": {"_BLOCK_BYTES": CUT},
    "sciencevae.data.sequential": {"_SMALL_BYTES": CUT},
    "sciencevae.data.tables": {"_BLOCK_BYTES": CUT},
    "sciencevae.latents.encode": {"BLOCK_BYTES": CUT, "WRITE_BYTES": CUT, "BLOCK_ROWS": 256},
    "sciencevae.training.loop": {"EVALUATION_ROWS": 256},
}
#: the same in the modules of a domain
OWN_BUFFERS = {
    "digits": {"analysis": {"_HELD_BYTES": CUT, "_PEERS_BYTES": CUT}},
    "fluids": {
        "basis": {"_BLOCK_BYTES": CUT},
        "frames": {"_BLOCK_BYTES": CUT},
        "forecasting": {"_TRAIN_BYTES": CUT, "_SNAPSHOT_BYTES": CUT},
    },
    "molecules": {"prediction": {"_TRAINED": 1000, "_TESTED": 256}, "analysis": {"_READ": 1000}},
    "tables": {"analysis": {"_READ_BYTES": CUT, "_PEERS_ROWS": 1000}, "scoring": {"_PART_BYTES": CUT}},
    "xy": {"analysis": {"_FITTED_BYTES": CUT}},
}
#: what a stage says that has to have a split in memory
REFUSAL = "the data does not fit the memory limit"
#: growth over the sizes that may be chance: seconds, bytes
NOISE = {"seconds": 0.5, "bytes": 24 << 20}
FACTORS = (1, 10, 1_000, 1_000_000)


class Plan(NamedTuple):
    """unit: what is counted; demonstration: how many, of ``main``; setting: says how many, by values ``sizes``."""

    unit: str
    demonstration: int
    setting: str
    sizes: tuple[int, ...]


PLANS = {
    "digits": Plan("images", 9216, "source.y", (2, 8)),
    "tables": Plan("rows", 569, "rows", (5_000, 40_000)),
    "stars": Plan("stars", 3352, "prepare.radius_deg", (10, 20, 40)),
    "xy": Plan("configurations", 12_500, "source.samples", (100, 400)),
    "molecules": Plan("molecules", 12_000, "prepare.rows", (1_500, 6_000)),
    "diffraction": Plan("patterns", 8_000, "source.samples", (2_000, 8_000)),
    "fluids": Plan("frames", 5120, "source.runs", (40, 160)),
}


def stage(name: str, folder: str, limit: int) -> int:
    """One stage, with its buffers cut; limit: bytes of a split that is kept in memory."""
    from sciencevae.cli import main as command
    from sciencevae.data import batches, store

    batches.as_batches.__kwdefaults__["memory_limit"] = limit
    store.write.__kwdefaults__["memory_bytes"] = CUT
    domain = Path(folder).name.partition("-")[0]
    own = {f"sciencevae.builtin.{domain}.{part}": of for part, of in OWN_BUFFERS.get(domain, {}).items()}
    for module, constants in (BUFFERS | own).items():
        for constant, value in constants.items():
            setattr(import_module(module), constant, value)
    return command([name, folder])


def run(*command: str, environment: dict[str, str], log: Path) -> tuple[float, int]:
    """Processor seconds and the largest resident memory in bytes, of a process and those it waited for."""
    with log.open("a") as out:
        process = subprocess.Popen([sys.executable, *command], stdout=out, stderr=out, env=environment)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed:\n" + "\n".join(log.read_text().splitlines()[-5:]))
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def table(rows: int, path: Path) -> None:
    """So many rows of the demonstration's tumours, drawn again and again and shaken by a hundredth."""
    import pandas as pd

    from sciencevae.data.fetch import fetch

    known = pd.read_csv(fetch("breast_cancer")["breast_cancer.csv"])
    random = np.random.default_rng(0)
    drawn = known.iloc[random.integers(len(known), size=rows)].reset_index(drop=True)
    numbers = drawn.columns.difference(["sample", "diagnosis"])
    drawn[numbers] *= 1 + 0.01 * random.normal(size=(rows, len(numbers)))
    drawn.assign(sample=np.arange(rows)).to_csv(path, index=False)


def measured(name: str, size: int, scratch: Path) -> dict[str, Any]:
    """A run of that size: rows, epochs of the demonstration, bytes on disk, seconds and bytes of each stage."""
    folder, log = scratch / f"{name}-{size}", scratch / f"{name}-{size}.log"
    settings = ["variants={}", f"training.epochs={EPOCHS}", "training.compile=false", "training.threads=1"]
    own: list[str] = []
    if name == "tables":
        table(size, folder.with_suffix(".csv"))
        own = ["--config", "config", "--input", str(folder.with_suffix(".csv"))]
    else:
        settings.append(f"{PLANS[name].setting}={size}")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    words = [word for setting in settings for word in ("--set", setting)]
    configure = ("-P", "-m", "sciencevae", "configure", name, "--out", str(folder), *own, *words)
    run(*configure, environment=environment, log=log)
    plan = json.loads((folder / "config" / "workflow.json").read_text())["variants"]["main"]
    if plan["source"] == "simulate":  # not what lies in the cache already
        environment["SCIENCEVAE_CACHE"] = str(scratch / "cache")
    found: dict[str, Any] = {"stages": {}}
    for which in STAGES:
        if which == "fetch" and plan["source"] != "simulate":
            continue
        command = ("-m", "benchmarks.planning", "--stage", which, str(folder))
        limit = MEMORY_LIMIT if which == "encode" else CUT  # whose blocks are batches in memory
        try:
            seconds, peak = run(*command, str(limit), environment=environment, log=log)
        except RuntimeError:  # a stage that has to have a split in memory says so
            if REFUSAL not in log.read_text():
                raise
            seconds, peak = run(*command, str(MEMORY_LIMIT), environment=environment, log=log)
            found["limited"] = [*found.get("limited", []), which]
        found["stages"][which] = {"seconds": round(seconds, 2), "bytes": peak}
    state = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("state/*/*.json")}
    raw = sum(file.get("bytes", 0) for file in state.get("simulate", {}).get("files", {}).values())
    found["rows"] = state["prepare"]["rows"]
    found["disk"] = raw + sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return found


def series(name: str, sizes: Sequence[int], scratch: Path) -> list[dict[str, Any]]:
    """The runs of a domain, one after another."""
    return [measured(name, size, scratch) for size in sizes]


def line(rows: list[int], values: list[float], noise: float) -> dict[str, Any]:
    """What there is at the start and what each datum adds; bent: more at the larger sizes than at the smaller.

    unseen: it grew by less than the noise, and ``each`` is what that leaves room for.
    """
    first, last = (np.diff(values) / np.diff(rows))[[0, -1]]
    each, start = (float(value) for value in np.polyfit(rows, values, 1))
    if values[-1] - values[0] < noise or each <= 0:
        return {"start": max(values), "each": noise / (rows[-1] - rows[0]), "bent": False, "unseen": True}
    bent = bool(values[-1] - values[-2] > 2 * noise and last > 1.6 * max(first, 0.0))
    return {"start": max(start, 0.0), "each": each, "bent": bent and len(rows) > 2, "unseen": False}


def fitted(found: dict[str, Any]) -> dict[str, Any]:
    """The lines of the disk, and of each stage's seconds and bytes."""
    runs = found["runs"]
    rows = [run["rows"] for run in runs]
    stages = {}
    for which in runs[0]["stages"]:
        seconds, peaks = ([run["stages"][which][part] for run in runs] for part in ("seconds", "bytes"))
        stages[which] = {
            "seconds": line(rows, seconds, NOISE["seconds"]),
            "bytes": line(rows[-2:], peaks[-2:], NOISE["bytes"]),  # blocks of rows are full by then
        }
    return {"disk": line(rows, [run["disk"] for run in runs], 0), "stages": stages}


def costs(found: dict[str, Any], rows: float) -> dict[str, Any]:
    """Core-seconds and bytes of each stage, and the disk, for so many data; unseen: most of the seconds are.

    Memory that was not seen to grow does not: the buffers are what it may take.
    """
    lines = fitted(found)
    disk = lines["disk"]["start"] + lines["disk"]["each"] * rows
    seconds, memory, grown = {}, {}, {"seen": 0.0, "unseen": 0.0}
    for which, of in lines["stages"].items():
        passes = found["epochs"] / EPOCHS if which == "train" else 1
        added = of["seconds"]["each"] * rows * passes
        grown["unseen" if of["seconds"]["unseen"] else "seen"] += added
        seconds[which] = of["seconds"]["start"] + added
        more = 0 if of["bytes"]["unseen"] else of["bytes"]["each"] * rows
        memory[which] = of["bytes"]["start"] + more + min(2 * MEMORY_LIMIT, lines["disk"]["each"] * rows)
    unseen = grown["unseen"] > 0.2 * sum(seconds.values())
    return {"seconds": seconds, "memory": memory, "disk": disk, "unseen": unseen}


#: cores, bytes, seconds of a night on a laptop, and of a week on a node
LAPTOP, NODE = (4, 16 << 30, 12 * 3600), (64, 256 << 30, 7 * 86400)
#: the stages that ranks or Dask's workers take to several nodes
SPREAD = ("prepare", "train", "encode")


def engine(found: dict[str, Any], cost: dict[str, Any]) -> str:
    """What carries it: in a night, or in a week; or what does not."""
    seconds, memory = cost["seconds"], cost["memory"]
    lost = {
        name: f"{duration(second)} in one process"
        for name, second in seconds.items()
        if name not in SPREAD and second > NODE[2]
    }
    if cost["disk"] > MEMORY_LIMIT:
        kept = f"keeps a split in memory, of {size(MEMORY_LIMIT)} at most"
        lost |= dict.fromkeys(found["runs"][-1].get("limited", []), kept)
    lost |= {name: f"{size(memory[name])} of memory" for name in memory if memory[name] > NODE[1]}
    total = sum(seconds.values())
    if not lost and max(memory.values()) <= LAPTOP[1]:
        if total <= LAPTOP[2]:
            return "a laptop, one core"
        if all(
            second <= LAPTOP[2] * (LAPTOP[0] if name in SPREAD else 1) for name, second in seconds.items()
        ):
            return "a laptop, its cores"
    if lost:
        return f"not carried: {', '.join(f'{name} ({why})' for name, why in lost.items())}"
    most = max(seconds[name] for name in SPREAD)
    if most <= NODE[0] * NODE[2]:
        cores = math.ceil(most / NODE[2])
        return f"a node, {cores} cores for a week: local Dask, ranks" if cores > 1 else "a node, one core"
    return f"a cluster, {math.ceil(most / NODE[2]):,} cores for a week: Dask, ranks"


def duration(seconds: float) -> str:
    """In the unit that suits."""
    for unit, length in (("core-years", 365 * 86400), ("core-days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """Bytes in the unit that suits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} PB"


def per_datum(of: dict[str, Any]) -> str:
    """What each datum adds to a stage."""
    seconds, peak = of["seconds"], of["bytes"]
    time = f"{'≤ ' * seconds['unseen']}{1e3 * seconds['each']:.2f} ms{'*' * seconds['bent']}"
    return f"{time}, {'≤ ' * peak['unseen']}{size(peak['each'])}"


def told(name: str, found: dict[str, Any]) -> list[list[str]]:
    """A row a size: data, core time in all and of the longest stage, largest memory, disk, what carries it."""
    plan, lines = PLANS[name], []
    for factor in FACTORS:
        rows = plan.demonstration * factor
        cost = costs(found, rows)
        longest = max(cost["seconds"], key=cost["seconds"].__getitem__)
        whole = duration(sum(cost["seconds"].values()))
        largest = max(cost["memory"], key=cost["memory"].__getitem__)
        lines.append(
            [
                f"{name}, {factor:,}×" if factor > 1 else f"{name}, {plan.unit}",
                f"{rows:,}",
                f"{'≤ ' * cost['unseen']}{whole} ({longest} {duration(cost['seconds'][longest])})",
                f"{size(cost['memory'][largest])} ({largest})",
                size(cost["disk"]),
                engine(found, cost),
            ]
        )
    return lines


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("domains", nargs="*", metavar="DOMAIN", help=f"of {', '.join(PLANS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="half the sizes; nothing is kept")
    parser.add_argument("--stage", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.stage:
        sys.exit(stage(asked.stage[0], asked.stage[1], int(asked.stage[2])))
    from sciencevae.config import load
    from sciencevae.registry import domain

    names = asked.domains or list(PLANS)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        work = {}
        for name in names:
            sizes = [size // 2 if asked.quick else size for size in PLANS[name].sizes]
            work[name] = pool.submit(series, name, sizes, Path(scratch))
        for name, done in work.items():
            found = {"epochs": load(domain(name)).training.epochs, "runs": done.result()}
            for which, of in fitted(found)["stages"].items():
                print(f"{name:12}{which:9}{per_datum(of)}")
            for row in told(name, found):
                print("  ".join(row), flush=True)
            if not asked.quick:
                path = HERE / "results" / "planning.json"
                known = json.loads(path.read_text())["domains"] if path.exists() else {}
                known[name] = found
                keep("planning", {"domains": {n: known[n] for n in PLANS if n in known}})


if __name__ == "__main__":
    main()
