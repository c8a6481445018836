"""How long ``import sciencevae`` and ``sciencevae --help`` take.

    python -m benchmarks.imports [--quick]

Seconds of a new process, beside those of a Python that does nothing; in turns, after one round that warms the
file cache. The median, the smallest and the largest are told; a busy machine shows in the largest. The last
result is kept in benchmarks/results/imports.json.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

from benchmarks.turns import keep

#: name -> command, limit in seconds
COMMANDS: dict[str, tuple[list[str], float | None]] = {
    "python -c pass": (["-c", "pass"], None),
    "import sciencevae": (["-c", "import sciencevae"], 0.3),
    "sciencevae --help": (["-m", "sciencevae", "--help"], 0.5),
    "sciencevae run --help": (["-m", "sciencevae", "run", "--help"], None),
    "sciencevae domains": (["-m", "sciencevae", "domains"], None),
    "sciencevae.VAE (loads torch)": (["-c", "import sciencevae; sciencevae.VAE"], None),
    "import torch": (["-c", "import torch"], None),
}


def seconds(arguments: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=os.sep)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds; nothing is kept")
    parser.add_argument("--rounds", type=int, default=11)
    given = parser.parse_args()
    rounds = 3 if given.quick else given.rounds
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, (arguments, _limit) in COMMANDS.items():
            found[name].append(seconds(arguments))
    table = {}
    print(f"{'':<32}{'seconds (min–max)':>26}{'processor':>11}{'limit':>7}")
    for name, (_arguments, limit) in COMMANDS.items():
        walls = sorted(wall for wall, _ in found[name][1:])
        cpu = statistics.median(cpu for _, cpu in found[name][1:])
        middle = statistics.median(walls)
        told = f"{middle:.2f} ({walls[0]:.2f}–{walls[-1]:.2f})"
        print(f"{name:<32}{told:>26}{cpu:>11.2f}{limit or '':>7}")
        table[name] = {
            "seconds": round(middle, 3), "smallest": round(walls[0], 3), "largest": round(walls[-1], 3),
            "processor_seconds": round(cpu, 3), "limit": limit,
        }  # fmt: skip
    if not given.quick:
        keep("imports", {"rounds": rounds, "table": table})


if __name__ == "__main__":
    main()
