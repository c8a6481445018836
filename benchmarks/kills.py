"""Pipelines killed by -9 at random moments: does each complete, with the weights of one that nobody disturbed?

    python -m benchmarks.kills [--quick] [--kills N] [--seed S]

``sciencevae run`` on the toy domain of the tests, on one machine. At a random moment one of its processes
(the command, snakemake, a stage), or all at once, gets SIGKILL; then the same command is given again, until
it completes; then another pipeline begins, until N kills are done. Moments are uniform over the time that an
undisturbed pipeline takes. Looked at after each kill: that all under its final name can be read. Looked at in
the end: weights, latents and tables equal to the undisturbed ones bit for bit, every stage on record, nothing
half-written left. The last result is kept in benchmarks/results/kills.json.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.disturbed import differences, left_over, outcome, processes, stage_now, start, unreadable
from benchmarks.turns import HERE, keep

TOY_DOMAINS = HERE.parent / "tests" / "toy_domains"
SETTINGS = (
    "variants={}",
    "training.epochs=400",
    "training.checkpoint_seconds=0.2",
    "training.valid_every=50",
)


@dataclass
class Kill:
    """One kill: what, when (seconds from the start of the command), and at which stage."""

    target: str
    moment: float
    stage: str


def started(folder: Path) -> subprocess.Popen[bytes]:
    """The toy domain's pipeline."""
    words = ["toy", *(word for setting in SETTINGS for word in ("--set", setting))]
    return start(folder, words, {"SCIENCEVAE_DOMAINS": str(TOY_DOMAINS)})


def killed_pipelines(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Pipelines with so many kills in all; what happened, and all that was wrong."""
    chosen = random.Random(seed)
    began = time.monotonic()
    if started(folder / "undisturbed").wait():
        raise SystemExit((folder / "undisturbed.out").read_text())
    whole = time.monotonic() - began
    expected = outcome(folder / "undisturbed")
    done: list[Kill] = []
    wrong: list[str] = []
    pipelines = 0
    while len(done) < kills or pipelines == 0:
        run = folder / f"pipeline-{pipelines}"
        pipelines += 1
        while True:
            process, moment = started(run), chosen.uniform(0, whole)
            began = time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=None if len(done) >= kills else moment)
            if process.poll() is None:
                alive = {name: pids for name, pids in processes(process.pid).items() if pids}
                target = chosen.choice(sorted(alive))
                victims = alive[target] if target == "all" else [chosen.choice(alive[target])]
                for pid in victims:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                done.append(Kill(target, time.monotonic() - began, stage_now(run)))
                process.wait()
                wrong += [f"pipeline {pipelines}, kill {len(done)}: {what}" for what in unreadable(run)]
            elif process.returncode == 0:
                wrong += [
                    f"pipeline {pipelines} differs: {what}" for what in differences(expected, outcome(run))
                ]
                wrong += [f"pipeline {pipelines} left {what}" for what in left_over(run)]
                break
            else:
                said = run.with_suffix(".out").read_text().strip().splitlines()[-1]
                wrong.append(f"pipeline {pipelines}: exit {process.returncode} with nobody killed: {said}")
                break
        told = f"{len(wrong)} things wrong" + "".join(f"\n  {what}" for what in wrong)
        print(f"pipeline {pipelines}: {len(done)} kills so far, {told}", file=sys.stderr)
    return {
        "kills": len(done),
        "pipelines": pipelines,
        "seconds undisturbed": round(whole, 1),
        "by target": dict(Counter(kill.target for kill in done)),
        "by stage": dict(Counter(kill.stage for kill in done)),
        "wrong": wrong,
    }


def main() -> int:
    """Print the table and keep it; the exit code is 1 when anything was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="5 kills; nothing is kept")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ["SCIENCEVAE_DOMAINS"] = str(TOY_DOMAINS)
    with tempfile.TemporaryDirectory() as folder:
        found = killed_pipelines(Path(folder), 5 if given.quick else given.kills, given.seed)
    print(f"{found['kills']} kills over {found['pipelines']} pipelines of {found['seconds undisturbed']} s")
    for by in ("by target", "by stage"):
        print(f"  {by:<10}", ", ".join(f"{name} {count}" for name, count in found[by].items()))
    print(
        "nothing lost, nothing corrupt, all weights equal"
        if not found["wrong"]
        else "\n".join(found["wrong"])
    )
    if not given.quick:
        keep("kills", {"seed": given.seed, **found})
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
