"""Signals during training: SIGUSR1 saves and goes on, SIGTERM saves and stops with exit code 75."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupts"]


class Interrupts:
    """While active, notes the two signals for the loop to act on between steps; then restores the handlers.

    Schedulers announce the end of a job by a signal some time before they kill it. Outside the main thread
    Python delivers no signals, and this does nothing.
    """

    def __init__(self) -> None:
        self.save = False
        self.stop = False
        self._previous: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self.stop = True
        else:
            self.save = True

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
