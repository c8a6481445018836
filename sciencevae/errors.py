"""The errors a user meets: each says what was found, where, and what to do, and knows its exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "Interrupted", "RunError", "ScienceVAEError", "did_you_mean", "one_line"]


class ScienceVAEError(Exception):
    """Base of all errors raised on purpose; the command line prints its one line, without a traceback."""

    exit_code = 1


class InputError(ScienceVAEError, ValueError):
    """The user's input, configuration or command is wrong (exit code 2)."""

    exit_code = 2


class RunError(ScienceVAEError, RuntimeError):
    """The environment failed (offline, disk, hash, lock) or a run did (exit code 1)."""

    exit_code = 1


class Interrupted(ScienceVAEError):
    """The run saved its state after a signal and asks to be started again (exit code 75, EX_TEMPFAIL)."""

    exit_code = 75


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """The tail of an error line: the nearest known name, or all of them, the first twenty where there are more.

    >>> did_you_mean("trainig", ["training", "model"])
    "; did you mean 'training'?"
    """
    known = sorted(options)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return f"; known: {', '.join(known[:20]) or 'none'}{more}"


def one_line(text: object) -> str:
    """A text as one line that a terminal only shows: what a file brings to steer one stands there by its code.

    >>> one_line("no column 'a\\x1b[2J'\\n in it")
    "no column 'a\\\\x1b[2J' in it"
    """
    words = " ".join(str(text).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
