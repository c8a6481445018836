"""How long-running work shows itself: a bar on a terminal, plain lines elsewhere, always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Update", "human_bytes", "show", "tell"]

_SECONDS_BETWEEN_LINES = 10.0


class Update(Protocol):
    """Called with how much is done so far, and how much there is in all where that is known only now."""

    def __call__(self, done: int, total: int | None = None, /) -> None: ...


def human_bytes(count: float) -> str:
    """
    >>> human_bytes(32_673_535)
    '32.7 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def tell(line: str, enabled: bool = True) -> None:
    """One plain line on stderr."""
    if enabled:
        print(line, file=sys.stderr, flush=True)


@contextmanager
def show(label: str, total: int | None, unit: str = "", enabled: bool = True) -> Iterator[Update]:
    """Gives ``update(done)``; ``unit="bytes"`` prints sizes.

    total: how much there is in all, None when not known yet
    """
    if not enabled:
        yield _silent
    elif sys.stderr.isatty():
        yield from _bar(label, total, unit)
    else:
        yield from _lines(label, total, unit)


def _silent(done: int, total: int | None = None) -> None:
    pass


def _bar(label: str, total: int | None, unit: str) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(label, total=total)

        def update(done: int, total: int | None = None) -> None:
            bar.update(task, completed=done, total=total)

        yield update


def _lines(label: str, total: int | None, unit: str) -> Iterator[Update]:
    started = last = time.monotonic()

    def amount(count: int) -> str:
        return human_bytes(count) if unit == "bytes" else f"{count:,} {unit}".rstrip()

    def update(done: int, total: int | None = total) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            share = (
                f"{100 * done / total:.0f} %, {amount(done)} of {amount(total)}" if total else amount(done)
            )
            tell(f"{label}: {share}")

    tell(f"{label}: {amount(total)}" if total else label)
    yield update
    tell(f"{label}: done in {time.monotonic() - started:.1f} s")
