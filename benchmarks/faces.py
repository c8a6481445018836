"""Smiles that a model makes beside the real ones, over several seeds.

    python -m benchmarks.faces [TASK …] [--seeds N] [--out FOLDER]

Each task is a configuration of the domain ``faces``, run as ``sciencevae run faces --config NAME --set seed=K``
runs it; what is finished is not run again. Told is of each method the mean over test people, and how it spreads
over the seeds; differences are paired, person by person, each the mean over the seeds, with 95 % of a bootstrap
over the people. The last result is kept in benchmarks/results/faces.json. Without TASK all are run: an hour on a
core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.turns import HERE, keep

#: task -> configuration, None: the demonstration
TASKS: dict[str, str | None] = {"drawn": None, "london": "london"}
DRAWS = 10_000
PARTS = {"full": "face", "mouth": "mouth"}
FIRST, SHARED = "neutral face", "mean flow"


def run(task: str, seed: int, out: Path) -> Path:
    """One run of a task, all its models trained on one thread."""
    folder = out / f"{task}-{seed}"
    config = TASKS[task]
    command = [sys.executable, "-m", "sciencevae", "run", "faces", *(["--config", config] if config else [])]
    command += ["--set", f"seed={seed}", "--set", "training.threads=1", "--cores", "1", "--out", str(folder)]
    subprocess.run(command, check=True)
    return folder


def collected(folders: Sequence[Path]) -> dict[str, Any]:
    """What the runs of one task found, by method."""
    people = [pd.read_csv(folder / "tables" / "people.csv") for folder in folders]
    folds = pd.concat([pd.read_csv(folder / "tables" / "folds.csv") for folder in folders])
    columns = people[0].columns
    methods = [name.removesuffix(": face") for name in columns if name.endswith(": face")]
    groups = {"all": np.ones(len(people[0]), bool)}
    if "sex" in columns:
        groups |= {str(sex): (people[0].sex == sex).to_numpy() for sex in sorted(people[0].sex.unique())}

    def of(method: str, column: str) -> np.ndarray:
        return np.stack([table[f"{method}: {column}"].to_numpy() for table in people])  # (seeds, people)

    found: dict[str, Any] = {}
    for method in methods:
        row: dict[str, Any] = {part: of(method, column).mean(1).tolist() for part, column in PARTS.items()}
        row["identity"] = of(method, "identity").min(1).tolist()
        for other in (FIRST, SHARED):
            row[f"over {other}"] = {
                group: {
                    part: interval((of(method, column) - of(other, column)).mean(0)[own])
                    for part, column in PARTS.items()
                }
                for group, own in groups.items()
            }
        if len(own := folds[folds.model == method]):
            row |= {"folds": int(own.folds.sum()), "least_jacobian": float(own.least_jacobian.min())}
        found[method] = row
    counts = {group: int(own.sum()) for group, own in groups.items()}
    return {"people": counts, "amounts": sorted(folds.amount.unique().tolist()), "methods": found}


def interval(values: np.ndarray) -> list[float]:
    """Mean, and 95 % of bootstrap draws of it."""
    drawn = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    return [float(values.mean()), *map(float, np.quantile(values[drawn].mean(1), [0.025, 0.975]))]


def minutes(folder: Path) -> float:
    """Core-minutes of the longest training of a run."""
    records = (folder / "state").rglob("train/*.json")
    return max(json.loads(path.read_text())["core_seconds"] for path in records) / 60


def main() -> None:
    """Run, print, keep."""
    from benchmarks.tables.pictures import faces

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []])
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"))
    chosen = parser.parse_args()
    path = HERE / "results" / "faces.json"
    table = json.loads(path.read_text())["table"] if path.exists() else {}
    for task in chosen.tasks or TASKS:
        folders = [run(task, seed, chosen.out) for seed in range(chosen.seeds)]
        table[task] = collected(folders) | {"core_minutes": [minutes(folder) for folder in folders]}
        keep("faces", {"table": table})
    print(faces({"table": table}))


if __name__ == "__main__":
    main()
