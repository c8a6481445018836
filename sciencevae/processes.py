"""Processes that we start and stop: signals to us are handled, and what we started does not outlive us."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["handled_signals", "interrupted_with_us"]

_PR_SET_PDEATHSIG = 1


@contextmanager
def handled_signals(handle: Callable[[int], None]) -> Iterator[None]:
    """Call ``handle`` on SIGTERM, SIGINT and SIGHUP while active."""

    def caught(number: int, frame: FrameType | None) -> None:
        handle(number)

    previous = {n: signal.signal(n, caught) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def interrupted_with_us() -> None:
    """A ``preexec_fn``: on Linux, a process gets SIGINT when the one that started it is killed."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
