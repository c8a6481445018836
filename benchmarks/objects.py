"""Poses read from realistic pictures: this model beside regressors, over labels and seeds.

    python -m benchmarks.objects [--seeds N] [--labels 0 10 100 300] [--out FOLDER]

``sciencevae run objects --config full --set seed=K --set prepare.split_seed=K`` for each seed K, with further
models for other numbers of labelled pictures; what is finished is not run again. Each seed has its own labelled
pictures, and all the same test pictures, by which nothing was chosen. Told are means over them, and how they spread
over the seeds. The last result is kept in benchmarks/results/objects.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.turns import keep

COLUMNS = (
    "position", "median", "pixels", "heading", "within_68", "within_95", "heading_within_68", "heading_within_95",
)  # fmt: skip


def run(seed: int, labels: Sequence[int], out: Path) -> Path:
    """One run, all its models trained on one thread."""
    folder = out / f"objects-{seed}"
    command = [sys.executable, "-m", "sciencevae", "run", "objects", "--config", "full", "--out", str(folder)]
    command += ["--set", f"seed={seed}", "--set", f"prepare.split_seed={seed}", "--set", "training.threads=1"]
    for count in labels:
        command += ["--set", f"variants.labels-{count}={{prepare: {{labelled: {count}}}}}"]
    subprocess.run(command, check=True)
    return folder


def collected(folders: Sequence[Path]) -> dict[str, Any]:
    """What the runs found: of each model and kind of pictures a list over seeds."""
    tables = [pd.read_csv(folder / "tables" / "poses.csv") for folder in folders]
    found: dict[str, Any] = {}
    for (model, pictures), rows in pd.concat(tables).groupby(["model", "pictures"], sort=False):
        found.setdefault(str(model), {})[str(pictures)] = {
            "count": int(rows["count"].iloc[0]),
            **{column: rows[column].tolist() for column in COLUMNS},
        }
    metrics = json.loads((folders[0] / "metrics.json").read_text())["poses"]
    for model, row in found.items():
        row["labels"] = metrics[model]["labels"]
    return found


def main() -> None:
    """Run, print, keep."""
    from benchmarks.tables.pictures import objects

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0")
    parser.add_argument("--labels", type=int, nargs="*", default=[0, 10, 100, 300], help="beside 30")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"))
    chosen = parser.parse_args()
    folders = []
    for seed in range(chosen.seeds):
        folders.append(run(seed, chosen.labels, chosen.out))
        keep("objects", {"table": collected(folders)})
    print(objects({"table": collected(folders)}))


if __name__ == "__main__":
    main()
