"""How fast a training step is, beside Pythae, Lightning and a hand-written loop in eager PyTorch.

    python -m benchmarks.training_step [--quick] [--threads 1 2] [--problems tabular-128 …]

One model, data set, optimiser (AdamW) and number of threads for all; steady steps within each program's own
loop, its epoch ends included, its start-up not (told apart: until the second step). The programs take turns in
one run (``turns.py``). With one thread time is the process's own processor time, which a busy machine disturbs
least; wall time is kept beside it, and counts with more threads. Peers live in an environment of their own:
``benchmarks/peers/setup``. The last result is kept in benchmarks/results/training_step.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.turns import HERE, PEERS_PYTHON, Program, keep, spread, take_turns

PROBLEMS = {
    "tabular-128": "tabular 8-64-32-2, batch 128",
    "images-128": "perceptron 784-512-(2×20), batch 128",
    "images-512": "perceptron 784-512-(2×20), batch 512",
}
OURS, EIGHT, PYTHAE, LOGGING = "sciencevae", "sciencevae, 8 seeds as one", "Pythae", "Lightning, logging"

#: name -> file, option
PROGRAMS = {
    OURS: ("ours.py", "compiled"),
    "sciencevae, uncompiled": ("ours.py", "eager"),
    EIGHT: ("ours.py", "ensemble"),
    "eager PyTorch, AdamW fused": ("peers/eager.py", "fused"),
    "eager PyTorch, AdamW foreach": ("peers/eager.py", "foreach"),
    PYTHAE: ("peers/pythae_vae.py", "-"),
    LOGGING: ("peers/lightning_vae.py", "logging"),
    "Lightning, no logging": ("peers/lightning_vae.py", "quiet"),
    "Lightning, no logging, whole batches": ("peers/lightning_vae.py", "batched"),
}
#: problem -> program -> by how much its step should be longer than ours
TARGETS = {
    "tabular-128": {PYTHAE: 4.0, LOGGING: 6.0, EIGHT: 2.0},
    "images-128": {PYTHAE: 1.25},
    "images-512": {PYTHAE: 1.25},
}
SKIPPED_ON_IMAGES = {EIGHT}


def measure(problem: str, threads: int, rounds: int, seconds: float) -> list[Program]:
    """All programs on one problem."""
    programs = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, (file, option) in PROGRAMS.items():
                if problem != "tabular-128" and name in SKIPPED_ON_IMAGES:
                    continue
                python = sys.executable if file == "ours.py" else str(PEERS_PYTHON)
                program = Program(name, [python, str(HERE / file)])
                programs.append(program)
                program.launch(problem, threads, option, Path(folder) / f"{len(programs)}.log")
            take_turns(programs, rounds, seconds)
        finally:
            for program in programs:
                program.stop()
    return programs


def table(problem: str, threads: int, programs: list[Program]) -> dict[str, Any]:
    """Print one table and return its numbers."""
    kind = "cpu" if threads == 1 else "wall"
    title = f"{PROBLEMS[problem]}, {threads} thread{'s'[: threads - 1]}"
    print(
        f"\n{title:<52}{'steps/s':>9}  {'time, ours = 1 (min–max)':<26}{'wall':>6}{'target':>9}{'start-up':>10}"
    )
    rows = {}
    for program in programs:
        times, ours = getattr(program, kind), getattr(programs[0], kind)
        middle, low, high = spread(times, ours)
        wall = spread(program.wall, programs[0].wall)[0]
        rate = 1 / statistics.median(times)
        target = TARGETS[problem].get(program.name)
        sign = "≤" if program.name == EIGHT else "≥"
        told = f"{sign} {target:g}" if target else ""
        ratio = f"{middle:.2f} ({low:.2f}–{high:.2f})"
        print(f"{program.name:<52}{rate:>9,.0f}  {ratio:<26}{wall:>6.2f}{told:>9}{program.start_up:>8.1f} s")
        rows[program.name] = {
            "steps_per_second": round(rate, 1), "time_ratio": round(middle, 3), "smallest": round(low, 3),
            "largest": round(high, 3), "wall_ratio": round(wall, 3), "target": target,
            "start_up_seconds": round(program.start_up, 1), "versions": program.versions,
        }  # fmt: skip
    return {"problem": problem, "threads": threads, "time": kind, "programs": rows}


def main() -> None:
    """Measure, print the tables, keep them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tabular, one thread, 3 rounds; nothing is kept")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each turn")
    given = parser.parse_args()
    if not PEERS_PYTHON.exists():
        raise SystemExit("the peers' environment is missing: run benchmarks/peers/setup")
    if given.quick:
        given.threads, given.problems, given.rounds = [1], ["tabular-128"], 3
    tables = [
        table(problem, threads, measure(problem, threads, given.rounds, given.seconds))
        for threads in given.threads
        for problem in given.problems
    ]
    if not given.quick:
        keep("training_step", {"rounds": given.rounds, "seconds": given.seconds, "tables": tables})


if __name__ == "__main__":
    main()
