"""A cache of each test's own, and how much memory and time an attack may take."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SCIENCEVAE_CACHE", str(folder))
    monkeypatch.delenv("SCIENCEVAE_MIRROR", raising=False)
    monkeypatch.delenv("SCIENCEVAE_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("sciencevae.data.download._PAUSE_S", 0.01)
    return folder


@contextmanager
def _bounded(seconds: float = 10, megabytes: int = 512) -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"it took more than {seconds} s")

    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (now + (megabytes << 20), before[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture
def bounded() -> Callable[..., object]:
    """with bounded(seconds=10, megabytes=512): what takes more time, or more memory beside what is used, fails."""
    return _bounded
