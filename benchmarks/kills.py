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

import numpy as np

from benchmarks.turns import HERE, keep

TOY_DOMAINS = HERE.parent / "tests" / "toy_domains"
SETTINGS = (
    "variants={}",
    "training.epochs=400",
    "training.checkpoint_seconds=0.2",
    "training.valid_every=50",
)
#: what is killed: one process of a kind, or all at once
TARGETS = ("sciencevae run", "snakemake", "stage", "all")


@dataclass
class Kill:
    """One kill: what, when (seconds from the start of the command), and at which stage."""

    target: str
    moment: float
    stage: str


def start(folder: Path) -> subprocess.Popen[bytes]:
    """``sciencevae run`` in a session of its own."""
    words = [sys.executable, "-P", "-m", "sciencevae", "run", "toy", "--out", str(folder)]
    for setting in SETTINGS:
        words += ["--set", setting]
    environment = {
        **os.environ, "SCIENCEVAE_DOMAINS": str(TOY_DOMAINS), "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH", "")])),
    }  # fmt: skip
    with folder.with_suffix(".out").open("a") as out:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
        )


def processes(root: int) -> dict[str, list[int]]:
    """The living processes below ``root``, by target."""
    found: dict[str, list[int]] = {name: [] for name in TARGETS}
    below = [root]
    while below:
        pid = below.pop()
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            for task in Path(f"/proc/{pid}/task").iterdir():
                below += [int(child) for child in (task / "children").read_text().split()]
            kind = "snakemake" if "snakemake" in words else "stage"
            found["sciencevae run" if pid == root else kind].append(pid)
            found["all"].append(pid)
    return found


def stage_now(folder: Path) -> str:
    """The last stage that said it began, or that nothing has yet."""
    logs = [path for path in everything(folder / "logs") if path.suffix == ".log"]
    stages = [path for path in logs if path.name != "snakemake.log"]
    newest = max(stages, key=lambda path: path.stat().st_mtime, default=None)
    return newest.relative_to(folder / "logs").parts[0].removesuffix(".log") if newest else "start"


def everything(folder: Path) -> list[Path]:
    """All files and folders below; what a stage that still lives removes meanwhile is passed over."""
    return [Path(top, name) for top, folders, files in os.walk(folder) for name in (*folders, *files)]


def unreadable(folder: Path) -> list[str]:
    """The files under final names that cannot be read, or are not whole."""
    from safetensors import SafetensorError, safe_open

    from sciencevae.data.store import open_store
    from sciencevae.errors import ScienceVAEError
    from sciencevae.runs import read_json

    bad = []
    for path in everything(folder):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, "np") as file:
                    for name in file.keys():  # noqa: SIM118
                        file.get_tensor(name)
            elif path.suffix == ".json" and path.is_file() and ".zarr" not in str(path):
                read_json(path)
            elif path.suffix == ".zarr":
                open_store(path).load()
        except FileNotFoundError:
            continue  # a stage that still lived has replaced it
        except (SafetensorError, ScienceVAEError, ValueError, KeyError, OSError) as error:
            bad.append(f"{path.relative_to(folder)}: {error}")
    return bad


def outcome(folder: Path) -> dict[str, Any]:
    """What a complete run came to: weights, latents, tables and the stages on record, by name."""
    from safetensors.numpy import load_file

    from sciencevae.runs import Run

    run = Run(folder)
    found: dict[str, Any] = {}
    for name, variant in run.variants.items():
        found |= {f"{name} {key}": value for key, value in load_file(variant.model_path).items()}
        found[f"{name} latents"] = variant.latents["z"].values
        found[f"{name} numbers"] = variant.latents["number"].values
    found |= {path.name: path.read_text() for path in sorted(run.tables.glob("*.csv"))}
    found["stages"] = sorted((record["stage"], record["name"]) for record in run.records())
    return found


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """The names of what differs, bit for bit."""
    return [
        name
        for name in sorted({*first, *second})
        if name not in first or name not in second or not np.array_equal(first[name], second[name])
    ]


def left_over(folder: Path) -> list[str]:
    """Half-written files and checkpoints that a complete run should not have."""
    return [
        str(path.relative_to(folder))
        for path in everything(folder)
        if path.name.startswith(".tmp-") or path.name.startswith("checkpoint")
    ]


def killed_pipelines(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Pipelines with so many kills in all; what happened, and all that was wrong."""
    chosen = random.Random(seed)
    began = time.monotonic()
    if start(folder / "undisturbed").wait():
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
            process, moment = start(run), chosen.uniform(0, whole)
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
