"""Several commands as one, and ``sciencevae run`` of several domains on this machine; tests/cluster: on Slurm."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sciencevae.fanout import run_each

# waits for the others' first words before its own last: nothing ends unless all run at once
MEETS = """
import pathlib, sys, time
folder, me, code = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
(folder / me).touch()
print("begins", file=sys.stderr, flush=True)
while len(list(folder.iterdir())) < 3: time.sleep(0.01)
print("ends")
sys.exit(code)
"""
# saves when it is asked to
SAVES = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), os._exit(75)))
print("ready", flush=True)
if len(sys.argv) > 1: os.kill(int(sys.argv[1]), getattr(signal, sys.argv[2]))
while True: signal.pause()
"""


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_side_by_side_each_to_its_end_and_those_that_failed_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    codes = {"one": 0, "another": 3, "third": 2}
    commands = {name: python(MEETS, tmp_path, name, code) for name, code in codes.items()}
    assert run_each(commands, side_by_side=True) == 3
    out, err = capfd.readouterr()
    assert sorted(out.splitlines()) == ["another | ends", "one     | ends", "third   | ends"]
    *begun, last = err.splitlines()
    assert sorted(begun) == ["another | begins", "one     | begins", "third   | begins"]
    assert last.endswith("2 of 3 failed, as said above: another (exit code 3), third (exit code 2)")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_asks_all_to_save(capfd: pytest.CaptureFixture[str], name: str) -> None:
    """The last to start sends it, when the others may or may not be ready."""
    commands = {"first": python(SAVES), "second": python(SAVES, os.getpid(), name)}
    assert run_each(commands, side_by_side=True) == 75
    out, err = capfd.readouterr()
    assert "second | saved" in out
    assert "the same command goes on" in err


def test_one_after_another_goes_on_after_a_failure_and_not_after_a_signal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = "import sys, pathlib; pathlib.Path(sys.argv[1]).open('a').write(sys.argv[2]); sys.exit(int(sys.argv[3]))"
    commands = {name: python(log, tmp_path / "log", name, code) for name, code in (("a", 2), ("b", 0))}
    assert run_each(commands, side_by_side=False) == 2
    assert (tmp_path / "log").read_text() == "ab"
    last = {"saves": python(SAVES, os.getpid(), "SIGTERM"), **commands}
    assert run_each(last, side_by_side=False) == 75
    assert (tmp_path / "log").read_text() == "ab"
    assert capfd.readouterr().out == "ready\nsaved\n"


def test_commands_do_not_outlive_a_killed_one(tmp_path: Path) -> None:
    """They are asked to save, as by Ctrl-C."""
    told = tmp_path / "told"
    child = (
        "import pathlib, signal, sys; p = pathlib.Path(sys.argv[1])\n"
        "signal.signal(signal.SIGINT, lambda *_: (p.write_text('asked'), sys.exit()))\n"
        "print('ready', flush=True); signal.pause()"
    )
    parent = (
        "import sys; from sciencevae.fanout import run_each\n"
        f"run_each({{'child': {python(child, told)!r}}}, side_by_side=False)"
    )
    with subprocess.Popen(python(parent), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.read()  # ends when the child does, whose it is too
    assert told.read_text() == "asked"


def test_domains_run_one_after_another_here(
    toy_run: Path, tmp_path: Path, sciencevae_command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """One stands in its own way; the other is done already."""
    shutil.copytree(toy_run, tmp_path / "toy", symlinks=True)
    (tmp_path / "twin").write_text("in the way")
    settings = ("--set", "variants={wide: {model: {hidden: [16]}}}")
    done = sciencevae_command("run", "twin", "toy", "--out", tmp_path, *settings)
    assert done.returncode == 2
    assert "nothing to do" in done.stdout
    assert f"report   {tmp_path / 'toy' / 'report.html'}" in done.stdout
    assert "twin exists and is no run folder" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("1 of 2 failed, as said above: twin (exit code 2)")
    planned = sciencevae_command("run", "toy", "twin", "--dry-run", "--out", tmp_path / "new")
    assert planned.returncode == 0, planned.stderr
    assert [line.split()[:2] for line in planned.stdout.splitlines() if "jobs in" in line] == [
        ["10", "jobs"],
        ["5", "jobs"],
    ]
