"""The wake of a cylinder in two latents, and forecasts of its transient at a Reynolds number that was held out.

    python -m benchmarks.fluids_wake [TASK …] [--seeds N] [--input TASK=FILE …] [--out FOLDER]

Each task is a configuration of the domain ``fluids``, run up to its analyses with another seed each time:

    wake      the rank-9 reconstruction at Re = 100 (no snapshots of a solver): reconstruction held out in time
    cylinder  our own solver's wakes at Re 60 to 140, Re = 100 held out: forecasts beside their baselines

Told is the mean over the seeds and their standard deviation. ``--input`` names a file in place of the data set's
(the cylinder's takes about an hour to simulate). The last result is kept in benchmarks/results/fluids_wake.json.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks.turns import keep
from sciencevae import stages
from sciencevae.config import load
from sciencevae.registry import domain
from sciencevae.runs import Run, configure

TASKS = ("wake", "cylinder")


def run(task: str, seed: int, out: Path, given: Path | None, overrides: list[str]) -> Run:
    """One run of a task up to its analyses; what is finished is not done again."""
    owner = domain("fluids")
    settings = load(owner, task, [f"seed={seed}", f"analyse.seed={seed}", *overrides])
    made = configure(out / f"{task}-{seed}", owner, settings, given)
    if made.record("analyse").is_file():
        return made
    variant = made.main
    if not variant.store.is_dir():
        stages.fetch(made, variant)
        stages.prepare(made, variant)
    stages.train(made, variant)
    stages.encode(made, variant)
    stages.analyse(made)
    return made


def numbers(made: Run) -> dict[str, float]:
    """What is told of a run: errors of test frames, and of forecasts at the longest lead times."""
    table = made.table("reconstruction")
    table = table[table.part == "test"]
    found = {f"reconstruction, {row.phase}": row.error for row in table.itertuples()}
    found |= {f"POD, as many modes, {row.phase}": row.pod for row in table.itertuples()}
    forecast = made.table("forecast")
    for row in forecast.itertuples():
        name = "VAE" if row.model.startswith("main") else row.model.split(":")[0].split(",")[0]
        found[f"forecast, {row.phase}, {row.lead_time:g} ahead, {name}"] = row.error
    own = forecast[forecast.model.str.startswith("main") & (forecast.phase == "all")]
    for row in own.itertuples():
        found[f"CRPS, {row.lead_time:g} ahead"] = row.crps
        found[f"coverage of 68 %, {row.lead_time:g} ahead"] = row.coverage_68
        found[f"coverage of 95 %, {row.lead_time:g} ahead"] = row.coverage_95
    cycles = made.table("trajectories")
    cycles = cycles[cycles.model == "main"]
    if "strouhal" in cycles:
        test = cycles.dropna(subset=["strouhal"])
        if "reynolds" in test:
            test = test[test.reynolds == 100]
        for row in test.head(1).itertuples():
            found |= {"Strouhal number, Re = 100": row.strouhal, "its standard error": row.strouhal_error}
    return found


def main() -> None:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--input", action="append", default=[], metavar="TASK=FILE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of every run")
    parser.add_argument("--out", type=Path, default=Path("runs/fluids_wake"))
    arguments = parser.parse_args()
    given = {task: Path(path) for task, _, path in (each.partition("=") for each in arguments.input)}
    result: dict[str, Any] = {"seeds": arguments.seeds, "tasks": {}}
    for task in arguments.tasks or TASKS:
        rows: dict[str, list[float]] = {}
        for seed in range(arguments.seeds):
            for name, value in numbers(
                run(task, seed, arguments.out, given.get(task), arguments.set)
            ).items():
                rows.setdefault(name, []).append(float(value))
        result["tasks"][task] = rows
        print(f"\n{task}, {arguments.seeds} seeds")
        for name, values in rows.items():
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            print(f"  {name:<75} {statistics.mean(values):.4f} ± {spread:.4f}")
    keep("fluids_wake", result)


if __name__ == "__main__":
    main()
