"""Runs of the toy domain on a real Slurm, and what became of their jobs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import waiting
import yaml

from sciencevae.errors import RunError
from sciencevae.paths import workflows_folder
from sciencevae.runs import Run, configure, read_json

#: a training of 360 steps that is saved every 50, and held on its way while the file ``hold`` is there
SLOW = {
    "variants": {},
    "training.epochs": 60,
    "training.checkpoint_seconds": 0.1,
    "training.valid_every": 100,
}

#: each node has a name of its own, as on a cluster, though all are this machine
NODES = """
import os, socket
if node := os.environ.get("SLURMD_NODENAME"):
    socket.gethostname = lambda: node
"""

#: the workflow may look at its jobs after minutes only
wait_for = partial(waiting.wait_for, seconds=300)


def slurm(*command: str | int, check: bool = True) -> str:
    """What a command of Slurm prints."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=30)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def job(number: int | str) -> dict[str, str]:
    """All that Slurm knows of a job."""
    return dict(re.findall(r"(\w+)=(\S*)", slurm("scontrol", "show", "job", "-o", number)))


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether weights are equal, bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def steps(folder: Path, variant: str = "main") -> list[int]:
    """The steps that a training of a run folder has said it did since it began, or began again."""
    log = folder / "logs" / "train" / f"{variant}.log"
    text = log.read_text().split("--- began")[-1] if log.is_file() else ""
    return [int(step) for step in re.findall(r"^\[ *(\d+)/", text, re.MULTILINE)]


@dataclass(eq=False)
class Started:
    """A ``sciencevae run`` of toy domains on the cluster; ``hold`` holds its trainings."""

    folder: Path
    arguments: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.hold.touch()
        self.start()

    @property
    def hold(self) -> Path:
        return self.folder.with_suffix(".hold")

    @property
    def output(self) -> str:
        """All that it has said."""
        return self.folder.with_suffix(".out").read_text()

    def start(self) -> None:
        """The same command, for the first time or again."""
        with self.folder.with_suffix(".out").open("a") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sciencevae", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )

    def end(self, seconds: float = 200) -> int:
        """Wait for it; gives its exit code."""
        return self.process.wait(timeout=seconds)

    def stop(self) -> int:
        """Ask it to stop; gives its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.end(60)

    def workflow(self) -> int:
        """The process number of its snakemake."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        (found,) = [pid for pid in children if "snakemake" in Path(f"/proc/{pid}/cmdline").read_text()]
        return int(found)

    def jobs(self, rule: str = "train") -> list[int]:
        """The numbers of the jobs of a rule, in order."""
        log = self.folder / "logs" / "snakemake.log"
        found = re.findall(
            rf"SLURM jobid (\d+) \(log: \S*/rule_{rule}/", log.read_text() if log.exists() else ""
        )
        return [int(number) for number in found]

    def steps(self, variant: str = "main") -> list[int]:
        """As ``steps`` of the run's folder."""
        return steps(self.folder, variant)

    def training(self, count: int = 1) -> int:
        """Wait until the training in its ``count``-th job has made steps; gives the job's number."""
        number = wait_for(lambda: self.jobs()[count - 1 :])[0]
        wait_for(lambda: self._at_work(number) and self.steps())
        return int(number)

    def _at_work(self, number: int) -> bool:
        """Whether the main training runs in that job."""
        try:
            holder = read_json(self.folder / ".locks" / "train-main")
            return f"SLURM_JOB_ID={number}" in Path(f"/proc/{holder['pid']}/environ").read_text().split("\0")
        except (OSError, KeyError, RunError):
            return False

    def trained(self, variant: str = "main") -> dict[str, torch.Tensor]:
        """Let go, wait for the training, and stop what comes after it; gives the weights."""
        self.hold.unlink()
        wait_for(lambda: (self.folder / "state" / "train" / f"{variant}.json").exists())
        self.stop()
        return Run(self.folder).variant(variant).model().state_dict()


@dataclass(eq=False)
class Lab:
    """Starts runs in ``folder``, with a profile that is a copy of ours, and the data of a run that is done."""

    folder: Path
    prepared: Run
    runs: list[Started] = field(default_factory=list)

    def profile(self, name: str, **changes: Any) -> Path:
        """Our profile with the lab's partition, looked at more often, and ``changes``."""
        ours = yaml.safe_load((workflows_folder() / "profiles" / "slurm" / "config.yaml").read_text())
        ours |= {"slurm-init-seconds-before-status-checks": 1, "latency-wait": 5}
        ours["default-resources"] |= {"slurm_partition": "cpu"}
        path = self.folder / name
        path.mkdir(exist_ok=True)
        (path / "config.yaml").write_text(yaml.safe_dump(ours | changes))
        return path

    def configured(self, name: str) -> tuple[Path, Path]:
        """A folder with prepared data, whose SLOW training is held by the second path."""
        folder, hold = self.folder / name, self.folder / f"{name}.hold"
        shutil.copytree(self.prepared.folder / "prepared", folder / "prepared")
        shutil.copytree(self.prepared.folder / "config", folder / "config")
        hold.touch()
        settings = self.prepared.settings.model_copy(deep=True)
        settings.objective.hold = str(hold)
        configure(folder, self.prepared.domain, settings)
        return folder, hold

    def run(self, name: str, settings: dict[str, Any] | None = None, **profile: Any) -> Started:
        """``sciencevae run toy --profile …`` in a folder of that name."""
        folder = self.folder / name
        for part in ("config", "state/prepare", "prepared"):
            shutil.copytree(self.prepared.folder / part, folder / part)
        return self._started(folder, ["toy"], settings or {}, profile)

    def run_each(self, name: str, *domains: str, **profile: Any) -> Started:
        """``sciencevae run DOMAIN …``, each in a folder of its name, of data that are not prepared yet."""
        folder = self.folder / name
        folder.mkdir()
        return self._started(folder, [*domains], {}, profile)

    def _started(
        self, folder: Path, domains: list[str], settings: dict[str, Any], profile: dict[str, Any]
    ) -> Started:
        arguments = ["run", *domains, "--out", str(folder)]
        arguments += ["--profile", str(self.profile(f"{folder.name}-profile", **profile))]
        chosen = {"objective.hold": str(folder.with_suffix(".hold")), **SLOW, **settings}
        for key, value in chosen.items():
            arguments += ["--set", f"{key}={value}"]
        site = self.folder / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(NODES)
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
        self.runs.append(Started(folder, arguments, os.environ | {"PYTHONPATH": path}))
        return self.runs[-1]
