"""Programs that take turns: each runs in a process of its own, a moment at a time, many times in one run.

A machine that others use, or one that gets warm, is slower at one minute than at the next. What ran within the
same second is compared; the median over the rounds is told, with the smallest and the largest.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["HERE", "Program", "Task", "keep", "measure", "measured_now", "spread", "take_turns"]

HERE = Path(__file__).resolve().parent
PEERS_PYTHON = HERE.parent / ".venv-peers" / "bin" / "python"


class Task(NamedTuple):
    """What a program is given: ``file`` in this folder, a problem of ``peers/pace.py``, an option of the file's."""

    name: str
    file: str
    problem: str
    option: str


@dataclass
class Program:
    """One measured program and its seconds a step, by round."""

    name: str
    command: Sequence[str]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    start_up: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)

    def launch(self, problem: str, threads: int, option: str, log: Path) -> None:
        """Start it and wait until it is warm."""
        words = [*self.command, problem, str(threads), str(time.time()), option]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONWARNINGS": "ignore",
            "TMPDIR": str(log.parent),
        }
        self._log = log
        self._process = subprocess.Popen(
            words,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )
        answer = self._answer()
        self.start_up, self.versions = answer["start_up"], answer["versions"]

    def go(self, seconds: float) -> None:
        """One turn."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"go {seconds}\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.wall.append(answer["wall"] / answer["steps"])
        self.cpu.append(answer["cpu"] / answer["steps"])

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            last = self._log.read_text().strip().splitlines()[-3:]
            raise SystemExit(f"{self.name} ended before it was measured:\n" + "\n".join(last))
        return dict(json.loads(line))


def measure(tasks: Sequence[Task], threads: int, rounds: int, seconds: float) -> list[Program]:
    """All tasks as programs of one run, ours in this environment, the others in that of the peers."""
    if not PEERS_PYTHON.exists():
        raise SystemExit("the peers' environment is missing: run benchmarks/peers/setup")
    programs = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for task in tasks:
                python = PEERS_PYTHON if task.file.startswith("peers/") else sys.executable
                programs.append(Program(task.name, [str(python), str(HERE / task.file)]))
                log = Path(folder) / f"{len(programs)}.log"
                programs[-1].launch(task.problem, threads, task.option, log)
            take_turns(programs, rounds, seconds)
        finally:
            for program in programs:
                program.stop()
    return programs


def take_turns(programs: Sequence[Program], rounds: int, seconds: float) -> None:
    """``rounds`` turns each, the order turning by one each round."""
    for i in range(rounds):
        for j in range(len(programs)):
            programs[(i + j) % len(programs)].go(seconds)


def spread(above: Sequence[float], below: Sequence[float]) -> tuple[float, float, float]:
    """Median, smallest and largest of the ratios round by round."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def measured_now() -> dict[str, Any]:
    """When, and how busy the machine is."""
    return {"load": round(os.getloadavg()[0], 1), "date": time.strftime("%Y-%m-%d")}


def keep(name: str, result: dict[str, Any]) -> None:
    """Write the last result, with what it ran on, to results/NAME.json."""
    from importlib.metadata import version

    names = ("sciencevae", "torch", "numpy", "xarray", "zarr")
    where = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **measured_now(),
        "versions": {package: version(package) for package in names},
    }
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**where, **result}, indent=1) + "\n")
