"""What ``sciencevae run`` shows: the stages' logs, as bars on a terminal and as plain lines elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from sciencevae.progress import BEGAN, DONE, LINE

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["Watch", "job_ended", "watcher"]

_EVERY = 5.0  # seconds between plain progress lines of one stage
_ERROR = "sciencevae: error: "
_STOPPED = f"{_ERROR}stopped by SIGTERM"
_MEMORY = "oom-kill event"  # in a line of Slurm's, in the log of the stage


def job_ended(text: str, log: str = "") -> str:
    """What snakemake's text says of the end of a job of Slurm, in a line; empty when it says nothing.

    log: that of the stage, where Slurm tells which step it killed for memory.
    """
    found = re.search(r"SLURM-job '(\d+)' failed, SLURM status is: '(\w+)'", text)
    if not found:
        return ""
    name, state = found.groups()
    if state == "OUT_OF_MEMORY" or _MEMORY in log:
        return f"Slurm job {name} was killed for memory; more of it: set-resources, mem_mb, in the profile"
    if state == "TIMEOUT":
        return f"Slurm job {name} ran out of time; more of it: set-resources, runtime, in the profile"
    return f"Slurm job {name} ended as {state}"


@contextmanager
def watcher(run: Run, stream: TextIO) -> Iterator[Watch]:
    """Bars on a terminal, plain lines otherwise."""
    if not stream.isatty():
        yield Watch(run, stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", style="bold"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=stream), transient=True) as bars:
        yield Bars(run, bars)


class Watch:
    """Follows the logs of a run from where they end now; ``look`` shows what is new as plain lines.

    The logs lie on the file system that all nodes share, so this shows jobs on a cluster just as well.
    """

    def __init__(self, run: Run, stream: TextIO) -> None:
        self._run = run
        self._logs = run.folder / "logs"
        self._stream = stream
        # snakemake removes the log of a job that it starts again: another file then
        self._seen = {(path, path.stat().st_ino): path.stat().st_size for path in self._files()}
        self._shown: dict[str, float] = {}
        self.finished = 0
        self._ending = False
        self._workflow = self._logs / "snakemake.log"
        self._read = self._workflow.stat().st_size if self._workflow.exists() else 0

    def _files(self) -> list[Path]:
        return [path for path in sorted(self._logs.rglob("*.log")) if path.name != "snakemake.log"]

    def look(self) -> None:
        """Show what the stages said since the last look."""
        for path in self._files():
            label = self._label(path.relative_to(self._logs))
            with suppress(FileNotFoundError):  # removed since they were listed
                for line in self._new_lines(path):
                    self._line(label, line.rstrip())
        self._look_at_jobs()

    def _new_lines(self, path: Path) -> list[str]:
        """The whole lines of a log that were not shown yet."""
        status = path.stat()
        start = self._seen.get((path, status.st_ino), 0)
        start = 0 if status.st_size < start else start
        if status.st_size == start:
            return []
        with path.open("rb") as log:
            log.seek(start)
            new = log.read(status.st_size - start)
        whole = new.rfind(b"\n") + 1
        self._seen[path, status.st_ino] = start + whole
        return new[:whole].decode("utf-8", "replace").splitlines()

    def _look_at_jobs(self) -> None:
        """Show what a scheduler did to jobs, which no stage can tell."""
        if not self._workflow.exists() or self._workflow.stat().st_size == self._read:
            return
        with self._workflow.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        whole = new.rfind(b"\n") + 1
        self._read += whole
        for line in new[:whole].decode("utf-8", "replace").splitlines():
            if ended := job_ended(line):
                self.say(ended)
            elif line.startswith("Will exit after finishing"):
                self._ending = True
            elif line.startswith("Trying to restart job") and not self._ending:
                self.say("once more, in a new job")

    def _line(self, label: str, line: str) -> None:
        if line.startswith(BEGAN):
            self.began(label)
        elif line.startswith(DONE):
            self.finished += 1
            self.done(label, line.removeprefix(DONE).strip())
        elif match := LINE.match(line):
            self.progress(label, int(match[1]), int(match[2]), match[3])
        elif line.startswith(_STOPPED):
            self.text(label, line.removeprefix(_ERROR))
        elif _MEMORY in line:
            self.text(label, "killed for memory")
        elif line.strip() and not line.startswith(("|", _ERROR, "srun:", "slurmstepd-")):
            self.text(label, line)

    def _label(self, log: Path) -> str:
        return self._run.label(log.parts[0].removesuffix(".log"), log.stem if len(log.parts) > 1 else "")

    def say(self, text: str) -> None:
        """A line of our own."""
        print(text, file=self._stream, flush=True)

    def began(self, label: str) -> None:
        self._shown.pop(label, None)

    def done(self, label: str, seconds: str) -> None:
        self.say(f"{label}: done in {seconds}")

    def text(self, label: str, line: str) -> None:
        self.say(f"{label}: {line}")

    def progress(self, label: str, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if done >= total or now - self._shown.get(label, -_EVERY) >= _EVERY:
            self._shown[label] = now
            self.say(f"{label}: [{done}/{total}] {text}".rstrip())


class Bars(Watch):
    """The same on a terminal: one bar for each stage at work."""

    def __init__(self, run: Run, bars: Any) -> None:
        super().__init__(run, bars.console.file)
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def say(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)

    def began(self, label: str) -> None:
        if label in self._tasks:
            self._bars.remove_task(self._tasks[label])
        self._tasks[label] = self._bars.add_task(label, total=None, text="")

    def done(self, label: str, seconds: str) -> None:
        if label in self._tasks:
            self._bars.remove_task(self._tasks.pop(label))
        super().done(label, seconds)

    def text(self, label: str, line: str) -> None:
        if label in self._tasks:
            self._bars.update(self._tasks[label], text=line[:60])
        else:
            super().text(label, line)

    def progress(self, label: str, done: int, total: int, text: str) -> None:
        if label not in self._tasks:
            self.began(label)
        self._bars.update(self._tasks[label], completed=done, total=total, text=text[:60])
