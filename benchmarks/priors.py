"""What each prior costs, in training and in sampling, beside Pythae where it has the prior.

    python -m benchmarks.priors [--quick] [training sampling]

The perceptron of the images, 784-512-(2×32), with one prior or another. Training: batches of 128, ours compiled.
Sampling: 1,000 latents drawn from the prior and decoded to the mean of the likelihood, uncompiled; of Pythae its
samplers, under ``no_grad``, its mixture with full covariances. One thread, processor time; all programs of a table
take turns in one run (``turns.py``), the peers in an environment of their own: ``benchmarks/peers/setup``. The last
result of each table is kept in benchmarks/results/priors.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

from benchmarks.peers.pace import DRAWN, PRIORS, PROBLEMS
from benchmarks.turns import HERE, Program, Task, keep, measure, measured_now, spread

TITLES = {
    "standard": "N(0, 1)",
    "mixture": f"mixture, {PRIORS['mixture']} components",
    "vamp": f"VampPrior, {PRIORS['vamp']} components",
    "coupling": "coupling flow",
    "autoregressive": "autoregressive flow",
    "affine": "autoregressive flow, affine (MAF)",
}
#: table -> option of ours, and of Pythae the option and the priors that it has
TABLES = {
    "training": ("compiled", "train", ["standard", "vamp"]),
    "sampling": ("sample", "sample", ["standard", "mixture", "vamp", "affine"]),
}
PYTHAE = "Pythae "


def tasks(table: str) -> list[Task]:
    """Ours with every prior, then Pythae."""
    option, theirs, shared = TABLES[table]
    ours = [Task(prior, "ours.py", f"prior-{prior}", option) for prior in PRIORS]
    peers = [Task(PYTHAE + prior, "peers/pythae_vae.py", f"prior-{prior}", theirs) for prior in shared]
    return ours + peers


def told(table: str, programs: list[Program]) -> dict[str, Any]:
    """Print one table and return its numbers."""
    images = DRAWN if table == "sampling" else PROBLEMS["prior-standard"]["batch"]
    by_name = {program.name: program for program in programs}

    def row(program: Program, beside: Program) -> dict[str, Any]:
        middle, low, high = spread(program.cpu, beside.cpu)
        rate = images / statistics.median(program.cpu)
        return {
            "images_per_second": round(rate), "time_ratio": round(middle, 3), "smallest": round(low, 3),
            "largest": round(high, 3), "versions": program.versions,
        }  # fmt: skip

    print(f"\n{table:<30}{'images/s':>10}  time, N(0, 1) = 1      Pythae, images/s  its time, ours = 1")
    rows = {}
    for prior, title in TITLES.items():
        rows[prior] = {"ours": row(by_name[prior], by_name["standard"])}
        if peer := by_name.get(PYTHAE + prior):
            rows[prior]["pythae"] = row(peer, by_name[prior])
        words = [
            f"{found['images_per_second']:>10,}  "
            f"{found['time_ratio']:.2f} ({found['smallest']:.2f}–{found['largest']:.2f})"
            for found in rows[prior].values()
        ]
        print(f"{title:<30}" + "".join(f"{word:<35}" for word in words))
    return {"rounds": len(programs[0].cpu), **measured_now(), "rows": rows}


def main() -> None:
    """Measure, print the tables, keep them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="both, when none is named")
    parser.add_argument("--quick", action="store_true", help="sampling, 3 rounds; nothing is kept")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each turn")
    given = parser.parse_args()
    if given.quick:
        given.tables, given.rounds = ["sampling"], 3
    path = HERE / "results" / "priors.json"
    kept = json.loads(path.read_text())["tables"] if path.exists() else {}
    for table in given.tables or TABLES:
        kept[table] = told(table, measure(tasks(table), 1, given.rounds, given.seconds))
    if not given.quick:
        keep("priors", {"tables": kept})


if __name__ == "__main__":
    main()
