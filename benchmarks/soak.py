"""All domains' demonstrations in a loop, under faults: what was injected, what was survived, what was lost.

    python -m benchmarks.soak [--minutes 60] [--seed S] [--domains NAME …] [--quick]

``sciencevae run DOMAIN`` as ``make demo`` runs it, domain after domain, with up to two faults a pipeline:

- killed process: SIGKILL to the command, to snakemake, to a stage, or to all of them at once;
- killed worker: SIGKILL to one of two Dask workers that prepare or encode;
- full disk: the file system of the run, the cache and the scratch space has not one block left;
- SIGTERM to the command;
- corrupted cache file: one byte of a file in the cache is another, or its end is missing;
- clock jump: the clock steps by up to a day, forward or back, and the files are that much older or newer.

A stage is drawn, then a moment within it. The same command is given again until the pipeline is complete. Survived
is: the command ended as it should (75 after SIGTERM; a full disk is named; a worker, a file in the cache and a
clock stop nothing), all under its final name could be read, and in the end weights, latents, raw files, prepared
data and every metric are those of an undisturbed run, bit for bit, with nothing half-written left. Else it is lost,
and its run folder is copied to where SOAK_KEEP says. Works in a namespace with a small file system of its own, in
memory. The last result is kept in benchmarks/results/soak.json.
"""

from __future__ import annotations

import argparse
import datetime
import errno
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.disturbed import (
    TARGETS,
    differences,
    left_over,
    outcome,
    processes,
    stage_now,
    start,
    unreadable,
)
from benchmarks.turns import HERE, keep
from sciencevae.runs import Run, read_json

DISK = 3 * 2**30  # bytes; the demonstrations need less than one
#: how long a command may take, in times of an undisturbed pipeline, and seconds beside
PATIENCE, AT_LEAST = 10, 300
#: seconds that a command has to end after SIGTERM
STOPPING = 120


@dataclass
class Fault:
    """One fault: into what and when it came, how the command ended that had it, and what was lost, if anything."""

    kind: str
    domain: str
    stage: str
    what: str
    ended: str = ""
    lost: list[str] = field(default_factory=list)


class Soak:
    """Folders, the clock, and the undisturbed runs that others are compared with."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.clock = folder / "clock"
        self.cache = folder / "cache"
        scratch = folder / "scratch"
        for each in (self.cache, scratch, folder / "workers"):
            each.mkdir()
        self._set_clock(0)
        library = folder / "clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "clock.c", "-ldl"], check=True)
        local = HERE.parent / "workflows" / "profiles" / "local"
        shutil.copy(local / "config.yaml", folder / "workers")
        (folder / "workers" / "dask.yaml").write_text("cluster: local\nworkers: 2\n")
        self.environment = {
            "LD_PRELOAD": str(library), "SOAK_CLOCK": str(self.clock), "SCIENCEVAE_CACHE": str(self.cache),
            "TMPDIR": str(scratch),
        }  # fmt: skip
        self.expected: dict[str, dict[str, Any]] = {}
        self.stages: dict[str, dict[str, float]] = {}
        self.seconds: dict[str, float] = {}

    def undisturbed(self, domain: str) -> None:
        """Run a demonstration, and keep what came out and how long each stage took, the longest of its kind."""
        run = self.folder / f"{domain}-undisturbed"
        began = time.monotonic()
        if start(run, [domain], self.environment).wait():
            raise SystemExit(run.with_suffix(".out").read_text())
        self.seconds[domain] = time.monotonic() - began
        self.expected[domain] = _outcome(run)
        records = sorted(Run(run).records(), key=lambda record: record["seconds"])
        self.stages[domain] = {record["stage"]: record["seconds"] for record in records}
        shutil.rmtree(run)

    def pipeline(self, domain: str, kinds: list[str], number: int) -> list[Fault]:
        """One demonstration with these faults, those at least that come before it is complete."""
        run = self.folder / f"{domain}-{number}"
        words = [domain, *(["--profile", str(self.folder / "workers")] if "killed worker" in kinds else [])]
        patience = PATIENCE * self.seconds[domain] + AT_LEAST
        faults: list[Fault] = []
        lost: list[str] = []
        for kind in (*kinds, None):
            process = start(run, words, self.environment)
            fault = self._injected(process, run, domain, kind) if kind else None
            hangs = not _ends(process, STOPPING if fault and kind == "SIGTERM" else patience)
            self.ballast.unlink(missing_ok=True)
            said, code = _said(run), process.returncode
            if fault:
                fault.ended = said.splitlines()[-1] if code else "complete"
                fault.lost = ["hangs"] if hangs else _wrong_end(fault.kind, code, said)
                fault.lost += unreadable(run)
                faults.append(fault)
                print(f"  {fault.kind}, {fault.what}, at {fault.stage}: {fault.ended}", file=sys.stderr)
            elif code:
                lost.append("hangs" if hangs else f"exit {code} undisturbed: {said.splitlines()[-1]}")
            if code == 0 or not fault:
                break
        if not lost:
            lost += _differs(self.expected[domain], _outcome(run))
            lost += [f"left over: {what}" for what in left_over(run)]
        if lost and not faults:
            faults.append(Fault("none", domain, "", "nothing"))
        for fault in faults:
            fault.lost += lost
        if (kept := os.environ.get("SOAK_KEEP")) and any(fault.lost for fault in faults):
            shutil.copytree(run, Path(kept) / run.name, symlinks=True)
        shutil.rmtree(run)
        return faults

    @property
    def ballast(self) -> Path:
        return self.folder / "ballast"

    def _injected(self, process: subprocess.Popen[bytes], run: Path, domain: str, kind: str) -> Fault | None:
        """Wait for the moment and inject; None when the command was done before."""
        done = {record["stage"] for record in Run(run).records()} if (run / "config").is_dir() else set()
        left = [stage for stage in self.stages[domain] if stage not in done]
        if kind == "killed worker":
            left = [stage for stage in left if stage in ("prepare", "encode")]
        if not left:
            return None
        stage = self.random.choice(left)
        while process.poll() is None and stage_now(run) != stage:
            time.sleep(0.05)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=self.random.uniform(0, self.stages[domain][stage]))
        if process.poll() is not None:
            return None
        what = INJECT[kind](self, process, run)
        return Fault(kind, domain, stage_now(run), what) if what else None

    # ---- what is injected; each gives a few words on it, or nothing when the command was done before

    def _kill_process(self, process: subprocess.Popen[bytes], run: Path) -> str:
        alive = {name: pids for name, pids in processes(process.pid).items() if pids}
        if not alive:
            return ""
        target = self.random.choice([name for name in TARGETS if name in alive])
        for pid in alive[target] if target == "all" else [self.random.choice(alive[target])]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return target

    def _kill_worker(self, process: subprocess.Popen[bytes], run: Path) -> str:
        while process.poll() is None:
            if workers := processes(process.pid)["worker"]:
                time.sleep(self.random.uniform(0, 3))  # some die before they have work
                with suppress(ProcessLookupError):
                    os.kill(self.random.choice(workers), signal.SIGKILL)
                    return "one of two"
            time.sleep(0.05)
        return ""

    def _fill_disk(self, process: subprocess.Popen[bytes], run: Path) -> str:
        with self.ballast.open("wb") as file:
            size = 2**26
            while size >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2
        return f"{self.ballast.stat().st_size / 1e6:,.0f} MB taken"

    def _terminate(self, process: subprocess.Popen[bytes], run: Path) -> str:
        process.send_signal(signal.SIGTERM)
        return "the command"

    def _corrupt(self, process: subprocess.Popen[bytes], run: Path) -> str:
        files = [path for path in sorted(self.cache.rglob("*")) if path.is_file() and path.stat().st_size]
        if not files:
            return ""
        path = self.random.choice(files)
        size = path.stat().st_size
        if self.random.random() < 0.5:
            os.truncate(path, self.random.randrange(size))
            return f"{path.relative_to(self.cache)} cut short"
        with path.open("r+b") as file:
            place = self.random.randrange(size)
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1 << self.random.randrange(8)]))
        return f"{path.relative_to(self.cache)}, one bit"

    def _jump(self, process: subprocess.Popen[bytes], run: Path) -> str:
        jump = self.random.choice((-1, 1)) * self.random.choice((60, 3600, 86400))
        self._set_clock(self._now() + jump)
        for path in [*run.rglob("*"), *self.cache.rglob("*")]:
            with suppress(OSError):  # files come and go
                found = path.stat()
                os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - jump * 10**9))
        return f"{datetime.timedelta(seconds=abs(jump))} {'forward' if jump > 0 else 'back'}"

    def _now(self) -> int:
        return int(struct.unpack("q", self.clock.read_bytes())[0])

    def _set_clock(self, offset: int) -> None:
        if not self.clock.exists():
            self.clock.write_bytes(bytes(8))
        with self.clock.open("r+b") as file:  # the same file: it is mapped
            file.write(struct.pack("q", offset))


INJECT: dict[str, Callable[[Soak, subprocess.Popen[bytes], Path], str]] = {
    "killed process": Soak._kill_process,
    "killed worker": Soak._kill_worker,
    "full disk": Soak._fill_disk,
    "SIGTERM": Soak._terminate,
    "corrupted cache file": Soak._corrupt,
    "clock jump": Soak._jump,
}


def _wrong_end(kind: str, code: int, said: str) -> list[str]:
    """What is wrong with how a command ended that had such a fault."""
    if code == 0:
        return []  # it was all but done, or the fault did not touch it
    if "Traceback" in said:
        return [f"a traceback, exit {code}"]
    if kind == "SIGTERM" and code != 75:
        return [f"exit {code} after SIGTERM"]
    if kind == "full disk" and not any(words in said for words in ("disk is full", "No space left")):
        return ["the full disk is not named"]
    if kind in ("killed worker", "clock jump", "corrupted cache file"):
        return [f"exit {code}"]
    return []


def _ends(process: subprocess.Popen[bytes], limit: float) -> bool:
    """Wait for a command; False when it had to be killed, with all below it."""
    try:
        process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        for pid in processes(process.pid)["all"]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        return False
    return True


def _outcome(run: Path) -> dict[str, Any]:
    """Weights, latents and stages of a run, and its ``run.json`` in place of its tables, which may hold times."""
    found = {name: value for name, value in outcome(run).items() if not name.endswith(".csv")}
    return found | {"run.json": read_json(run / "run.json")}


def _differs(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What is not equal bit for bit; of run.json what ``sciencevae rerun`` compares."""
    from sciencevae.compare import compare

    then, now = ({**each, "run.json": None} for each in (expected, found))
    compared = compare(expected["run.json"], found["run.json"], tolerance=0)
    return [f"differs: {what}" for what in (*differences(then, now), *compared.differences)]


def _said(run: Path) -> str:
    """What the last command on a run said, and no earlier one."""
    out = run.with_suffix(".out")
    said = out.read_text(errors="replace").strip()
    out.unlink()
    return said or "nothing said"


def soak(folder: Path, minutes: float, seed: int, domains: list[str]) -> dict[str, Any]:
    """The loop; gives what is kept."""
    soak = Soak(folder, seed)
    for domain in domains:
        soak.undisturbed(domain)
        print(f"{domain}: {soak.seconds[domain]:.0f} s undisturbed", file=sys.stderr)
    faults: list[Fault] = []
    pipelines: Counter[str] = Counter()
    next_domains: list[str] = []
    kinds: list[str] = []
    began = time.monotonic()
    while not pipelines or time.monotonic() - began < 60 * minutes:
        # each domain, and each kind of fault, as often as the others
        next_domains = next_domains or soak.random.sample(domains, len(domains))
        while len(kinds) < 2:
            kinds += soak.random.sample(list(INJECT), len(INJECT))
        domain = next_domains.pop()
        print(f"{(time.monotonic() - began) / 60:.0f} min: {domain}", file=sys.stderr)
        found = soak.pipeline(domain, kinds[:2], sum(pipelines.values()))
        for fault in found:
            with suppress(ValueError):
                kinds.remove(fault.kind)
            for what in fault.lost:
                print(f"  LOST by {fault.kind}: {what}", file=sys.stderr)
        pipelines[domain] += 1
        faults += found
    return {
        "seed": seed,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "pipelines": dict(pipelines),
        "seconds undisturbed": {name: round(seconds) for name, seconds in soak.seconds.items()},
        "faults": [asdict(fault) for fault in faults],
    }


def by_kind(faults: list[dict[str, Any]]) -> list[tuple[str, int, int, int, str]]:
    """(kind, injected, survived, lost, how many at which stage) of each kind of fault."""
    found = []
    for kind in [*INJECT, *sorted({fault["kind"] for fault in faults} - set(INJECT))]:
        own = [fault for fault in faults if fault["kind"] == kind]
        lost = sum(bool(fault["lost"]) for fault in own)
        stages = Counter(fault["stage"] for fault in own).most_common()
        where = ", ".join(f"{name} {count}" for name, count in stages)
        found.append((kind, len(own), len(own) - lost, lost, where))
    return found


def main() -> int:
    """Print the table and keep it; the exit code is 1 when anything was lost."""
    from sciencevae.registry import domains

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--domains", nargs="+", choices=sorted(domains()), default=sorted(domains()))
    parser.add_argument("--quick", action="store_true", help="one pipeline; nothing is kept")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside is None:  # once more, where a file system of our own can be mounted
        with tempfile.TemporaryDirectory(prefix="sciencevae-soak-") as folder:
            command = [
                "unshare",
                "--user",
                "--map-root-user",
                "--mount",
                sys.executable,
                "-m",
                "benchmarks.soak",
            ]
            return subprocess.run([*command, "--inside", folder, *sys.argv[1:]]).returncode
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", given.inside], check=True)
    found = soak(given.inside, 0 if given.quick else given.minutes, given.seed, given.domains)
    print(f"{sum(found['pipelines'].values())} pipelines in {found['minutes']} minutes")
    print(f"{'fault':<22}{'injected':>9}{'survived':>9}{'lost':>6}  at stage")
    for kind, injected, survived, lost, where in by_kind(found["faults"]):
        print(f"{kind:<22}{injected:>9}{survived:>9}{lost:>6}  {where}")
    for fault in found["faults"]:
        for what in fault["lost"]:
            print(f"lost: {fault['kind']} in {fault['domain']} at {fault['stage']}: {what}")
    if not given.quick:
        keep("soak", found)
    return 1 if any(fault["lost"] for fault in found["faults"]) else 0


if __name__ == "__main__":
    sys.exit(main())
