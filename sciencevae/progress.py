"""Progress as plain lines: ``[done/total] text``, read by a person and by ``sciencevae run`` alike."""

from __future__ import annotations

import re
import sys
import time
from typing import TextIO

__all__ = ["BEGAN", "DONE", "LINE", "Progress"]

#: how a stage's log says that it began and ended
BEGAN, DONE = "--- began", "--- done in"

#: what a progress line looks like
LINE = re.compile(r"^\[ *(\d+)/ *(\d+)\] ?(.*)$")


class Progress:
    """Print ``[done/total] text`` at most every ``every`` seconds, and the last one always.

    On a terminal the line is overwritten in place.
    """

    def __init__(self, stream: TextIO | None = None, every: float = 1.0) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._every = 0.1 if self._terminal else every
        self._last = -float("inf")
        self._open = False

    def __call__(self, done: int, total: int, text: str = "") -> None:
        now = time.monotonic()
        last = done >= total
        if now - self._last < self._every and not last:
            return
        self._last = now
        line = f"[{done:>{len(str(total))}}/{total}] {text}".rstrip()
        if self._terminal:
            self._stream.write(f"\r\x1b[K{line}")
            self._open = True
            if last:
                self.close()
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """A line of its own."""
        self.close()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """End a line that is being overwritten."""
        if self._open:
            self._stream.write("\n")
            self._open = False
