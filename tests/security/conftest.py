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
def cache(own_cache: Path) -> Path:
    return own_cache


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
