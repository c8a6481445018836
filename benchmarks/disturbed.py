"""Pipelines that are disturbed while they run: which processes they have, where they are, and what came out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.turns import HERE

__all__ = ["TARGETS", "differences", "left_over", "outcome", "processes", "stage_now", "start", "unreadable"]

#: what can be killed: one process of a kind, or all at once
TARGETS = ("sciencevae run", "snakemake", "stage", "worker", "all")


def start(folder: Path, words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """``sciencevae run … --out FOLDER`` in a session of its own; what it says goes to FOLDER.out."""
    below = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH", "")]))
    with folder.with_suffix(".out").open("a") as out:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "sciencevae", "run", *words, "--out", str(folder)],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": below, **environment},
        )  # fmt: skip


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
            worker = any("spawn_main" in word for word in words)  # a process that a stage computes with
            kind = "snakemake" if "snakemake" in words else "worker" if worker else "stage"
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
        found |= {f"{name} latents {key}": value.values for key, value in variant.latents.variables.items()}
    found |= {path.name: path.read_text() for path in sorted(run.tables.glob("*.csv"))}
    found["stages"] = sorted((record["stage"], record["name"]) for record in run.records())
    return found


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """The names of what differs, bit for bit."""
    return [
        name
        for name in sorted({*first, *second})
        if name not in first or name not in second or not _equal(first[name], second[name])
    ]


def _equal(first: Any, second: Any) -> bool:
    """To the bit, NaN included."""
    a, b = np.asarray(first), np.asarray(second)
    return a.dtype == b.dtype and a.shape == b.shape and (a.tobytes() == b.tobytes() or np.array_equal(a, b))


def left_over(folder: Path) -> list[str]:
    """Half-written files and checkpoints that a complete run should not have."""
    return [
        str(path.relative_to(folder))
        for path in everything(folder)
        if path.name.startswith(".tmp-") or path.name.startswith("checkpoint")
    ]
