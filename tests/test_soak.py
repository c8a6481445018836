"""``benchmarks/soak.py``: what it injects arrives, and it tells what survived from what did not."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from benchmarks import soak


@pytest.fixture
def injected(tmp_path: Path) -> soak.Soak:
    return soak.Soak(tmp_path, seed=0)


def test_its_clock_is_the_one_that_programs_see(injected: soak.Soak) -> None:
    """And the clock that only counts on stays."""
    program = "import time; print(time.time(), time.time_ns() / 1e9, time.monotonic())"

    def told() -> list[float]:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=injected.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return [float(word) for word in done.stdout.split()]

    before = told()
    injected._set_clock(-3600)
    after = told()
    assert [round((now - then) / 3600) for now, then in zip(after, before, strict=True)] == [-1, -1, 0]


def test_a_jump_of_the_clock_makes_files_older_by_as_much(injected: soak.Soak, tmp_path: Path) -> None:
    file = tmp_path / "run" / "file"
    file.parent.mkdir()
    file.write_text("")
    process = subprocess.Popen(["true"])
    process.wait()
    said = injected._jump(process, tmp_path / "run")
    jump = timedelta(seconds=injected._now())
    assert jump
    assert str(abs(jump)) in said
    age = datetime.now() - datetime.fromtimestamp(file.stat().st_mtime)
    assert abs(age - jump) < timedelta(seconds=10)


def test_a_corrupted_file_is_another_file(injected: soak.Soak) -> None:
    file = injected.cache / "file"
    for _ in range(20):
        file.write_bytes(bytes(100))
        assert injected._corrupt(subprocess.Popen(["true"]), injected.folder)
        assert file.read_bytes() != bytes(100)


@pytest.mark.parametrize(
    ("kind", "code", "said", "wrong"),
    [
        ("SIGTERM", 75, "stopped", False),
        ("SIGTERM", 1, "error", True),
        ("full disk", 1, "the disk is full: …", False),
        ("full disk", 1, "error: 17", True),
        ("full disk", 1, "the disk is full\nTraceback (most recent call last)", True),
        ("killed process", 1, "killed by signal 9", False),
        ("killed worker", 1, "error", True),
        ("clock jump", 1, "error", True),
        ("corrupted cache file", 1, "error", True),
        *((kind, 0, "", False) for kind in soak.INJECT),
    ],
)
def test_how_a_command_may_end(kind: str, code: int, said: str, wrong: bool) -> None:
    assert bool(soak._wrong_end(kind, code, said)) is wrong
