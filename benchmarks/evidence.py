"""Whether importance sampling finds log p(x), by annealed importance sampling, which needs no posterior.

    python -m benchmarks.evidence [RUN …] [--rows N] [--chains S] [--temperatures T]

Both are lower bounds of log p(x) in expectation, so the larger is the nearer. Of test images of a run (mnist and
fashion of ``python -m benchmarks.digits``) each row is the mean over images of what a number of importance draws
falls short of annealing, with its standard error over the images. The last result is kept in
benchmarks/results/evidence.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

from benchmarks.turns import HERE, keep

DRAWS = (50, 500, 5000)


def compare(folder: Path, rows: int, chains: int, temperatures: int) -> dict[str, Any]:
    """The shortfall of each number of draws, in nats."""
    from sciencevae.data.batches import as_batches
    from sciencevae.runs import Run
    from sciencevae.vae.annealing import annealed_evidence
    from sciencevae.vae.evidence import log_evidence

    main = Run(folder).main
    model = main.model()
    test = main.data.isel(sample=main.data["split"].values == 2)
    (batch,) = as_batches(test.isel(sample=slice(rows))).blocks(rows)
    began = time.process_time()
    annealed = annealed_evidence(model, batch, temperatures=temperatures, chains=chains, seed=0)
    found: dict[str, Any] = {
        "minus_log_p": -annealed.value.mean().item(),
        "rows": rows,
        "chains": chains,
        "temperatures": temperatures,
        "annealed_ess": annealed.ess.median().item(),
        "annealed_seconds": time.process_time() - began,
        "shortfall": {},
    }
    for draws in DRAWS:
        began = time.process_time()
        evidence = log_evidence(model, batch, samples=draws, seed=0)
        short = annealed.value - evidence.value
        found["shortfall"][draws] = {
            "nats": short.mean().item(),
            "error": short.std().item() / math.sqrt(rows),
            "trusted": evidence.trusted.float().mean().item(),
            "seconds": time.process_time() - began,
        }
    return found


def main() -> None:
    """Compare, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="default: those in runs/benchmark")
    parser.add_argument("--rows", type=int, default=50, help="test images")
    parser.add_argument("--chains", type=int, default=25)
    parser.add_argument("--temperatures", type=int, default=500)
    chosen = parser.parse_args()
    path = HERE / "results" / "evidence.json"
    table: dict[str, Any] = json.loads(path.read_text())["table"] if path.exists() else {}
    for folder in chosen.runs or [Path(f"runs/benchmark/{name}-0") for name in ("mnist", "fashion")]:
        row = compare(folder, chosen.rows, chosen.chains, chosen.temperatures)
        table[folder.name.rpartition("-")[0] or folder.name] = row
        keep("evidence", {"table": table})
        print(
            f"\n{folder.name}: −log p(x) {row['minus_log_p']:.2f} nats annealed, {row['annealed_seconds']:.0f} s"
        )
        for draws, short in row["shortfall"].items():
            print(
                f"  {draws:>5} importance draws fall short by {short['nats']:.3f} ± {short['error']:.3f} nats, "
                f"{short['trusted']:.0%} trusted, {short['seconds']:.1f} s"
            )


if __name__ == "__main__":
    main()
