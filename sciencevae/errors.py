"""The errors a user meets: each says what was found, where, and what to do, and knows its exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "Interrupted", "RunError", "ScienceVAEError", "did_you_mean"]


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
