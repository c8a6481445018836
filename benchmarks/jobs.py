"""What the workflow costs: seconds a job, here and on Slurm, and the planning of many variants.

    python -m benchmarks.jobs [--quick]

A job: a chain of jobs that do nothing, under our local profile and, where a Slurm is up (``.ci/slurm up``),
under our Slurm profile; the difference between a long chain and a short one, a job. There, most is the time
until snakemake looks again, seconds after the job was sent away and ten more at each look in vain. Planning:
our Snakefile with so many variants, of one data set, as settings that differ in their seeds; seconds and peak
memory of ``snakemake --dry-run``, which runs nothing. The last result is kept in
benchmarks/results/jobs.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.turns import keep

CHAIN = """
N = config["jobs"]
rule all:
    input: f"{N}.done"
    localrule: True
rule one:
    input: lambda wildcards: f"{int(wildcards.i) - 1}.done" if int(wildcards.i) > 1 else []
    output: "{i}.done"
    shell: "touch {output}"
"""


def snakemake(folder: Path, snakefile: Path, *options: str) -> tuple[float, float]:
    """Wall seconds and peak memory in MB of one snakemake, without that of its jobs."""
    words = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(snakefile),
        "--directory",
        str(folder),
        *options,
    ]
    with (folder / "said").open("w") as said:
        began = time.perf_counter()
        process = subprocess.Popen(words, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("\n".join((folder / "said").read_text().splitlines()[-20:]))
    return time.perf_counter() - began, used.ru_maxrss / 1024


def chain(jobs: int, profile: Path, *options: str) -> float:
    """Wall seconds of a chain of jobs that do nothing."""
    with tempfile.TemporaryDirectory() as folder:
        snakefile = Path(folder) / "Snakefile"
        snakefile.write_text(CHAIN)
        given = ["--profile", str(profile), "--cores", "1", "--config", f"jobs={jobs}", *options]
        return snakemake(Path(folder), snakefile, *given)[0]


def a_job(short: int, long: int, profile: Path, *options: str) -> float:
    """Seconds a job, start and end of snakemake not counted."""
    return (chain(long, profile, *options) - chain(short, profile, *options)) / (long - short)


def planning(variants: int) -> dict[str, float]:
    """A dry run of our workflow with so many trainings."""
    from sciencevae.paths import workflows_folder

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "config"
        names = ["main", *(f"seed{i}" for i in range(1, variants))]
        keys = {"source": None, "fetch": None, "prepare": "0" * 12, "threads": 1}
        plan = {name: {**keys, "trained": f"{i:012x}"} for i, name in enumerate(names)}
        for name in names:
            (config / name).mkdir(parents=True)
            for stage in ("train", "encode"):
                (config / name / f"{stage}.json").write_text("{}")
        (config / "prepare").mkdir()
        (config / "prepare" / f"{'0' * 12}.json").write_text("{}")
        for stage in ("analyse", "report"):
            (config / f"{stage}.json").write_text("{}")
        (config / "workflow.json").write_text(json.dumps({"rules": None, "variants": plan}))
        snakefile = workflows_folder() / "Snakefile"
        profile = workflows_folder() / "profiles" / "local"
        seconds, memory = snakemake(
            folder, snakefile, "--profile", str(profile), "--dry-run", "--quiet", "all"
        )
    return {"jobs": 2 * variants + 3, "seconds": round(seconds, 1), "peak_mb": round(memory)}


def main() -> None:
    """Print the tables and keep them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="up to 1,000 variants, no Slurm; nothing is kept"
    )
    quick = parser.parse_args().quick
    from sciencevae.paths import workflows_folder

    profiles = workflows_folder() / "profiles"
    found: dict[str, Any] = {"a job, s": {"local": round(a_job(1, 21, profiles / "local"), 3)}}
    if not quick and shutil.which("sinfo"):
        found["a job, s"]["slurm"] = round(a_job(1, 4, profiles / "slurm"), 1)
    for name, seconds in found["a job, s"].items():
        print(f"{name:<8}{seconds:8.2f} s a job")
    found["planning"] = {}
    print(f"{'variants':>9}{'jobs':>9}{'seconds':>9}{'peak MB':>9}")
    for variants in (100, 1000) if quick else (100, 1000, 10000):
        row = planning(variants)
        found["planning"][str(variants)] = row
        print(f"{variants:>9,}{row['jobs']:>9,}{row['seconds']:>9}{row['peak_mb']:>9,}", flush=True)
    if not quick:
        keep("jobs", found)


if __name__ == "__main__":
    main()
