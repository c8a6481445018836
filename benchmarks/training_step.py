"""How fast a training step is, beside Pythae, Lightning and a hand-written loop in eager PyTorch.

    python -m benchmarks.training_step [--quick] [--threads 1 2] [--problems tabular-128 …]

One model, data set, optimiser (AdamW) and number of threads for all; steady steps within each program's own
loop, its epoch ends included, its start-up not (told apart: until the second step). The programs take turns in
one run (``turns.py``). With one thread time is the process's own processor time, which a busy machine disturbs
least; wall time is kept beside it, and counts with more threads. Peers live in an environment of their own:
``benchmarks/peers/setup``. The last result of each problem and number of threads is kept in
benchmarks/results/training_step.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

from benchmarks.turns import HERE, Program, Task, keep, measure, measured_now, spread

PROBLEMS = {
    "tabular-128": "tabular 8-64-32-2, batch 128",
    "images-128": "perceptron 784-512-(2×20), batch 128",
    "images-512": "perceptron 784-512-(2×20), batch 512",
    "convolution-128": "convolutions 28×28: 32, 64, then 128-(2×16), batch 128",
}
OURS, EIGHT, PYTHAE, LOGGING = "sciencevae", "sciencevae, 8 seeds as one", "Pythae", "Lightning, logging"
CHANNELS_LAST = "eager PyTorch, AdamW fused, channels last"

#: name -> file, option
PROGRAMS = {
    OURS: ("ours.py", "compiled"),
    "sciencevae, uncompiled": ("ours.py", "eager"),
    EIGHT: ("ours.py", "ensemble"),
    "eager PyTorch, AdamW fused": ("peers/eager.py", "fused"),
    "eager PyTorch, AdamW foreach": ("peers/eager.py", "foreach"),
    CHANNELS_LAST: ("peers/eager.py", "fused+channels_last"),
    PYTHAE: ("peers/pythae_vae.py", "train"),
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
#: programs that run on one problem alone
ONLY = {EIGHT: "tabular-128", CHANNELS_LAST: "convolution-128"}


def tasks(problem: str) -> list[Task]:
    """All programs on one problem."""
    return [
        Task(name, file, problem, option)
        for name, (file, option) in PROGRAMS.items()
        if ONLY.get(name, problem) == problem
    ]


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
        target = TARGETS.get(problem, {}).get(program.name)
        sign = "≤" if program.name == EIGHT else "≥"
        told = f"{sign} {target:g}" if target else ""
        ratio = f"{middle:.2f} ({low:.2f}–{high:.2f})"
        print(f"{program.name:<52}{rate:>9,.0f}  {ratio:<26}{wall:>6.2f}{told:>9}{program.start_up:>8.1f} s")
        rows[program.name] = {
            "steps_per_second": round(rate, 1), "time_ratio": round(middle, 3), "smallest": round(low, 3),
            "largest": round(high, 3), "wall_ratio": round(wall, 3), "target": target,
            "start_up_seconds": round(program.start_up, 1), "versions": program.versions,
        }  # fmt: skip
    return {"problem": problem, "threads": threads, "time": kind, "rounds": len(programs[0].wall),
            **measured_now(), "programs": rows}  # fmt: skip


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
    if given.quick:
        given.threads, given.problems, given.rounds = [1], ["tabular-128"], 3
    path = HERE / "results" / "training_step.json"
    before = json.loads(path.read_text())["tables"] if path.exists() else []
    kept = {(found["threads"], found["problem"]): found for found in before}
    for threads in given.threads:
        for problem in given.problems:
            programs = measure(tasks(problem), threads, given.rounds, given.seconds)
            kept[threads, problem] = table(problem, threads, programs)
    if not given.quick:
        order = [(threads, problem) for threads in sorted({t for t, _ in kept}) for problem in PROBLEMS]
        keep("training_step", {"tables": [kept[key] for key in order if key in kept]})


if __name__ == "__main__":
    main()
