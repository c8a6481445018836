"""How training shows itself: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

__all__ = ["Report", "training_progress"]

#: report(epoch, step, parts): called after every reading of the losses
Report = Callable[[int, int, Mapping[str, float]], None]

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def training_progress(
    epochs: int, total_steps: int, show: bool | Report | None, label: str = "train"
) -> Iterator[Report]:
    """Yields the function that the loop reports to.

    show: False, nothing; a function, that one; None or True, a bar on a terminal and lines elsewhere
    (``SCIENCEVAE_PROGRESS=lines`` asks for lines, as the workflow does when several jobs share a terminal).
    """
    if show is False:
        yield lambda epoch, step, parts: None
    elif callable(show):
        yield show
    elif sys.stderr.isatty() and os.environ.get("SCIENCEVAE_PROGRESS") != "lines":
        yield from _bar(epochs, total_steps, label)
    else:
        yield from _lines(epochs, total_steps, label)


def _terms(parts: Mapping[str, float]) -> str:
    return " · ".join(f"{name} {value:.4g}" for name, value in parts.items())


def _bar(epochs: int, total_steps: int, label: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[terms]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total_steps, terms="")

        def report(epoch: int, step: int, parts: Mapping[str, float]) -> None:
            bar.update(task, completed=step, description=f"{label} {epoch}/{epochs}", terms=_terms(parts))

        yield report


def _lines(epochs: int, total_steps: int, label: str) -> Iterator[Report]:
    started = time.monotonic()
    last = -SECONDS_BETWEEN_LINES

    def report(epoch: int, step: int, parts: Mapping[str, float]) -> None:
        nonlocal last
        now = time.monotonic() - started
        if now - last >= SECONDS_BETWEEN_LINES or step == total_steps:
            last = now
            line = (
                f"{label}: epoch {epoch}/{epochs}, step {step}/{total_steps}, {now:.0f} s · {_terms(parts)}"
            )
            print(line, file=sys.stderr, flush=True)

    yield report
