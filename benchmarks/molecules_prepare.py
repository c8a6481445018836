"""How fast SMILES are made standard and written as tokens, and in how much memory.

    python -m benchmarks.molecules_prepare [--molecules N ...]

Training molecules of MOSES as a user's own ``.smi``: ``prepare`` keeps what training needs, so its memory rises
with the molecules; ``read`` is what ``encode`` goes through block by block, so its memory does not. SELFIES, no
properties, as many processes as there are cores. Each row is a process of its own: molecules a second of wall time,
and the largest resident memory of the process and of the largest of its workers. The last result is kept in
benchmarks/results/molecules_prepare.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.turns import keep

KINDS = ("prepare", "read")


def measured(kind: str, path: Path) -> dict[str, Any]:
    """Of this process: what it did and took."""
    from sciencevae.config import load
    from sciencevae.registry import domain

    found = domain("molecules")
    settings = load(found, "own", ["prepare.properties=[]"])
    from sciencevae.builtin.molecules.dataset import prepare, read

    began = time.perf_counter()
    if kind == "prepare":
        rows = prepare(settings, {}, path).sizes["sample"]
    else:
        from sciencevae.data.template import from_json, to_json

        few = path.with_name("few.smi")
        with path.open() as lines:
            few.write_text("".join(line for _, line in zip(range(5000), lines, strict=False)))
        template = from_json(to_json(prepare(settings, {}, few)))
        began = time.perf_counter()
        rows = sum(block.sizes["sample"] for block in read(path, settings, template))
    seconds = time.perf_counter() - began
    of_process, of_worker = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {"rows": rows, "per_second": rows / seconds, "process_mb": of_process, "worker_mb": of_worker}


def written(count: int, path: Path) -> None:
    """The molecules into a file; not by ``main``, whose memory the processes that it starts would be charged."""
    from benchmarks.moses import molecules
    from sciencevae.data.fetch import fetch

    path.write_text("\n".join(molecules("train.csv.gz", fetch("moses"), count)) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--molecules", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        what, path = chosen.one[0], Path(chosen.one[1])
        if what == "write":
            written(chosen.molecules[0], path)
        else:
            print(json.dumps(measured(what, path)))
        return
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for count in chosen.molecules:
            for kind in ("write", *KINDS):
                command = [sys.executable, "-m", "benchmarks.molecules_prepare", "--molecules", str(count)]
                command += ["--one", kind, f"{folder}/all.smi"]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                if kind in KINDS:
                    table.append({"kind": kind, **json.loads(done.stdout.splitlines()[-1])})
                    print(table[-1], flush=True)
    keep("molecules_prepare", {"table": table})


if __name__ == "__main__":
    main()
