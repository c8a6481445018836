"""What the workflow costs: seconds a job, here and on Slurm; jobs in groups; the planning of many variants.

    python -m benchmarks.jobs [--quick]

A job: a chain of jobs that do nothing, under our local profile and, where a Slurm is up (``.ci/slurm up``),
under our Slurm profile; the difference between a long chain and a short one, a job. There, most is the time
until snakemake looks again, seconds after the job was sent away and ten more at each look in vain. Groups: a
fan-out of jobs that do nothing, on Slurm, each alone and so many in one Slurm job, two of them side by side.
Planning: a run of ``xy`` with so many variants that differ in their seeds and share their data; processor seconds
to configure its folder, and those and the peak memory of ``snakemake --dry-run``, which runs nothing: each training
and encoding alone, and a hundred of each in a group. The last result is kept in benchmarks/results/jobs.json.
"""

from __future__ import annotations

import argparse
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
FAN_OUT = """
N = config["jobs"]
rule all:
    input: expand("{i}.done", i=range(N))
    localrule: True
rule one:
    output: "{i}.done"
    resources: mem_mb=500, runtime=5
    shell: "touch {output}"
"""


def snakemake(folder: Path, snakefile: Path, *options: str) -> tuple[float, float, float]:
    """Wall and processor seconds, and peak memory in MB, of one snakemake, without the memory of its jobs."""
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
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


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


def fan_out(jobs: int, group: int, profile: Path) -> dict[str, float]:
    """A fan-out on Slurm, so many in a job of it, two side by side: jobs of Slurm, and wall seconds in all."""
    with tempfile.TemporaryDirectory() as folder:
        snakefile = Path(folder) / "Snakefile"
        snakefile.write_text(FAN_OUT)
        given = ["--profile", str(profile), "--cores", "2", "--config", f"jobs={jobs}"]
        if group > 1:
            given += ["--groups", "one=many", "--group-components", f"many={group}"]
        seconds, *_ = snakemake(Path(folder), snakefile, *given)
        sent = (Path(folder) / "said").read_text().count("SLURM jobid")
    return {"slurm_jobs": sent, "seconds": round(seconds, 1)}


def planning(variants: int) -> dict[str, float]:
    """Configure a run with so many trainings, and plan it."""
    from sciencevae.paths import workflows_folder
    from sciencevae.workflow import configured

    seeds = "".join(f", seed{i}: {{seed: {i}}}" for i in range(1, variants))
    found: dict[str, float] = {"jobs": 2 * variants + 4}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        began = time.process_time()
        configured("xy", None, [f"variants={{{seeds[2:]}}}"], None, folder)(folder)
        found["configuring"] = round(time.process_time() - began, 1)
        given = ["--profile", str(workflows_folder() / "profiles" / "local"), "--dry-run", "--quiet", "all"]
        groups = ["--groups", "train=fit", "encode=fit", "--group-components", "fit=100"]
        for prefix, more in (("", []), ("grouped_", groups)):
            _, seconds, memory = snakemake(folder, workflows_folder() / "Snakefile", *given, *more)
            found |= {f"{prefix}seconds": round(seconds, 1), f"{prefix}peak_mb": round(memory)}
    return found


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
    slurm = not quick and shutil.which("sinfo")
    if slurm:
        found["a job, s"]["slurm"] = round(a_job(1, 4, profiles / "slurm"), 1)
    for name, seconds in found["a job, s"].items():
        print(f"{name:<8}{seconds:8.2f} s a job")
    found["groups"] = {}
    for size in (1, 4, 16) if slurm else ():
        row = fan_out(16, size, profiles / "slurm")
        found["groups"][str(size)] = row
        print(
            f"16 jobs by {size:>2}: {row['slurm_jobs']:>2} jobs of Slurm, {row['seconds']:.0f} s", flush=True
        )
    found["planning"] = {}
    titles = {"configuring": "configured s", "seconds": "planned s", "peak_mb": "peak MB"}
    titles |= {"grouped_seconds": "grouped s", "grouped_peak_mb": "peak MB"}
    print(f"{'variants':>9}{'jobs':>9}" + "".join(f"{title:>14}" for title in titles.values()))
    for variants in (100, 1000) if quick else (100, 1000, 10000):
        row = planning(variants)
        found["planning"][str(variants)] = row
        cells = "".join(f"{row[key]:>14,}" for key in titles)
        print(f"{variants:>9,}{row['jobs']:>9,}{cells}", flush=True)
    if not quick:
        keep("jobs", found)


if __name__ == "__main__":
    main()
