"""Several commands as one: side by side or one after another, and one that fails stops no other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from threading import Thread
from typing import IO, TextIO

from sciencevae.processes import handled_signals, interrupted_with_us

__all__ = ["run_each"]


def run_each(commands: Mapping[str, Sequence[str]], side_by_side: bool) -> int:
    """Run each command, by its name; gives the exit code of the first that failed, or 75 after a signal.

    What they say is shown as it is when they run one after another, and behind their names side by side. The last
    line names those that failed. SIGTERM, SIGINT and SIGHUP ask all that run to save and end.
    """
    running: dict[str, subprocess.Popen[str]] = {}
    shown: list[Thread] = []
    codes: dict[str, int] = {}
    stopped = False

    def stop(number: int) -> None:
        nonlocal stopped
        stopped = True
        for process in running.values():
            process.terminate()

    with handled_signals(stop):
        for name, command in commands.items():
            if stopped:
                break
            # a session of its own: Ctrl-C reaches us alone, and we pass it on
            running[name] = process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if side_by_side else None,
                stderr=subprocess.PIPE if side_by_side else None,
                text=True,
                errors="replace",
                start_new_session=True,
                preexec_fn=interrupted_with_us,
            )
            if stopped:  # while it was started
                process.terminate()
            if not side_by_side:
                process.wait()
            prefix = f"{name:<{max(map(len, commands))}} | "
            for source, out in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
                if source:
                    shown.append(Thread(target=_show, args=(source, out, prefix)))
                    shown[-1].start()
        codes = {name: process.wait() for name, process in running.items()}
        for thread in shown:
            thread.join()
    if stopped:
        print("sciencevae: stopped; the same command goes on from there", file=sys.stderr)
        return 75
    failed = {name: code for name, code in codes.items() if code}
    if failed:
        told = ", ".join(f"{name} (exit code {code})" for name, code in failed.items())
        print(
            f"sciencevae: error: {len(failed)} of {len(commands)} failed, as said above: {told}",
            file=sys.stderr,
        )
    return next(iter(failed.values()), 0)


def _show(source: IO[str], out: TextIO, prefix: str) -> None:
    """Each line as it comes, behind the name."""
    for line in source:
        out.write(f"{prefix}{line}")
        out.flush()
