"""What the tests of several rooms share."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# The networks of tests are small: a thread each is faster than two, above all with several test processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# torch's compiler logs its every step; formatting that for pytest's report takes minutes.
logging.getLogger("torch.__trace").propagate = False

TOY_DOMAINS = Path(__file__).parent / "toy_domains"


@pytest.fixture(scope="session", autouse=True)
def _toy_domains() -> Iterator[None]:
    """The toy domain can be found, here and in subprocesses."""
    import sciencevae.builtin

    os.environ["SCIENCEVAE_DOMAINS"] = str(TOY_DOMAINS)
    sciencevae.builtin.__path__.append(str(TOY_DOMAINS))
    yield
    sciencevae.builtin.__path__.remove(str(TOY_DOMAINS))
    del os.environ["SCIENCEVAE_DOMAINS"]


def command(
    *arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "sciencevae", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | (env or {}),
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of the toy domain with a variant, done once; its output lies in ``said``. Copy, don't change."""
    folder = tmp_path_factory.mktemp("runs") / "a run's folder; with $HOME"  # nothing goes through a shell
    done = command("run", "toy", "--out", folder, "--set", "variants={wide: {model: {hidden: [16]}}}")
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stdout + "\0" + done.stderr)
    return folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, no mirror, no proxy, and quick retries."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SCIENCEVAE_CACHE", str(folder))
    monkeypatch.delenv("SCIENCEVAE_MIRROR", raising=False)
    monkeypatch.delenv("SCIENCEVAE_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("sciencevae.data.download._PAUSE_S", 0.01)
    return folder


@pytest.fixture
def sciencevae_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``sciencevae`` in a process of its own: sciencevae_command("run", "toy", …) -> CompletedProcess."""
    return command
