"""Quality on images, beside the numbers of the papers: one table, over several seeds.

    python -m benchmarks.digits [TASK …] [--seeds N] [--out FOLDER]

Each task is a configuration of the domain ``digits``, run as ``sciencevae run digits --config NAME --set seed=K``
runs it; what is finished is not run again. No choice in a run sees a label or a test image. Told is the median over
the seeds, from the lowest to the highest, and the core-minutes that a training took. The last result is kept in
benchmarks/results/digits.json. Without TASK all are run: hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.turns import HERE, keep

Found = dict[str, Any]


def nll(metrics: Found) -> dict[str, float]:
    """−log p(x) of test images."""
    main = metrics["likelihood"]["main"]
    return {
        "−log p(x), nats": main["minus_log_p"],
        "its standard error, over the images": main["minus_log_p_error"],
        "−ELBO, nats": main["minus_elbo"],
    }


def clusters(metrics: Found) -> dict[str, float]:
    """Matched one to one with the classes."""
    rows = metrics["clusters"].values()
    ten = [row for row in rows if row["clusters"] == 10]
    chosen = {"accuracy, ten Gaussians": ten[0], "accuracy, ten clusters of joined Gaussians": ten[-1]}
    return {name: row["accuracy"] for name, row in chosen.items()} | {
        "Gaussians joined": ten[-1]["components"]
    }


def sprites(metrics: Found) -> dict[str, float]:
    """Of each objective."""
    scores = {"mig": "MIG", "factor_vae": "FactorVAE score"}
    titles = {"main": "capacity", "tc": "β-TCVAE", "elbo": "ELBO"}
    return {
        f"{title}, {titles[model]}": found[key]
        for model, found in metrics["disentanglement"].items()
        for key, title in scores.items()
    }


def oneclass(metrics: Found) -> dict[str, float]:
    """Area under the ROC curve: its mean over the ten digits by score, and by digit of −ELBO."""
    found = metrics["anomalies"]
    means = {f"mean AUC, {score}": value for score, value in found["mean_auc"].items()}
    return means | {f"AUC of −ELBO, digit {digit}": value for digit, value in found["elbo_auc"].items()}


def completion(metrics: Found) -> dict[str, float]:
    """−log p(x | c) by method."""
    rows = metrics["completion"]["rows"]
    return {f"{row['quadrants']} told, {row['method']}": row["minus_log_p"] for row in rows}


#: task -> (what is read from a run, seeds by default, what others report)
TASKS: dict[str, tuple[Callable[[Found], dict[str, float]], int, str]] = {
    "fashion": (
        nll,
        1,
        "−log p(x): VAE 228.70, VampPrior 227.35, Exemplar VAE 226.75 (Norouzi et al. 2020, whole test set)",
    ),
    "mnist": (nll, 3, "−log p(x): VAE 84.45, VampPrior 82.43 (Tomczak & Welling 2018; Norouzi et al. 2020)"),
    "clusters": (clusters, 5, "accuracy: audits of VaDE 0.72 ± 0.04 (published 0.94), AE + k-means 0.79"),
    "sprites": (sprites, 3, "MIG and FactorVAE score, β-TCVAE on the full grid: about 0.3 and 0.8"),
    "oneclass": (
        oneclass,
        3,
        "An & Cho 2015: 0.5 to 0.98 by digit; −ELBO of a convolutional VAE, mean: 0.855 with 2 latents, 0.718 with "
        "32 (L. Tonnaer, doctoral thesis, Table 3.3)",
    ),
    "cvae": (
        completion,
        1,
        "Sohn et al. 2015, told 1, 2, 3 quadrants: network 100.0, 62.1, 26.0; CVAE 68.6, 45.6, 21.0",
    ),
}


def run(task: str, seed: int, out: Path) -> Found:
    """One run of a task: its metrics, and the core-seconds of its trainings."""
    folder = out / f"{task}-{seed}"
    command = [sys.executable, "-m", "sciencevae", "run", "digits", "--config", task]
    command += ["--set", f"seed={seed}", "--set", "training.threads=1", "--out", str(folder)]
    subprocess.run(command, check=True)
    records = sorted((folder / "state").rglob("train/*.json"))
    used = {path.stem: json.loads(path.read_text())["core_seconds"] for path in records}
    return {"metrics": json.loads((folder / "metrics.json").read_text()), "core_seconds": used}


def main() -> None:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []])
    parser.add_argument(
        "--seeds", type=int, help="how many, from 0; by default as many as the table asks for"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"))
    chosen = parser.parse_args()
    path = HERE / "results" / "digits.json"
    table: Found = json.loads(path.read_text())["table"] if path.exists() else {}
    for task in chosen.tasks or TASKS:
        read, seeds, published = TASKS[task]
        found = [run(task, seed, chosen.out) for seed in range(chosen.seeds or seeds)]
        values = [read(each["metrics"]) for each in found]
        minutes = [max(each["core_seconds"].values()) / 60 for each in found]
        rows = {name: sorted(value[name] for value in values) for name in values[0]}
        table[task] = {"published": published, "core_minutes": minutes, "rows": rows}
        keep("digits", {"table": table})
        print(f"\n{task}: {len(found)} seed(s), {max(minutes):.1f} core-minutes a training at most")
        print(f"  {published}")
        for name, row in rows.items():
            print(f"  {name:<36}{statistics.median(row):>9.3f}   {row[0]:.3f} … {row[-1]:.3f}")


if __name__ == "__main__":
    main()
