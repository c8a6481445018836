"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sciencevae.data.atomic import atomic_path, make_folder
from sciencevae.errors import RunError

STORE = """
import sys, resource, numpy as np, xarray as xr
from sciencevae.data import write, write_hdf5
ds = xr.Dataset({"x": (("sample", "variable"), np.random.default_rng(0).normal(size=(20_000, 4)))})
"""


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert path.read_text() == "old"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert _names(tmp_path) == ["a.txt"]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic_path(tmp_path / "a.zarr") as temporary:
            (temporary / "c").mkdir(parents=True)
            (temporary / "c" / content).write_text(content)
        assert _names(tmp_path / "a.zarr" / "c") == [content]
    assert _names(tmp_path) == ["a.zarr"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, time; from sciencevae.data.atomic import atomic_path\n"
        f"with atomic_path({str(tmp_path / 'a.txt')!r}) as path: path.write_text('half'); print('x', flush=True); "
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with atomic_path(tmp_path / "a.txt") as temporary:  # beside a living writer
        temporary.write_text("whole")
    assert len(_names(tmp_path)) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert (tmp_path / "a.txt").read_text() == "whole"
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("again")
    assert _names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    "writes",
    [
        "write(ds, sys.argv[1])",
        "write(ds.chunk(sample=1000), sys.argv[1], memory_bytes=100_000)",
        "write_hdf5(ds, sys.argv[1])",
    ],
)
def test_disk_full_leaves_nothing(tmp_path: Path, writes: str) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    command = [sys.executable, "-c", f"{STORE}\n{limit}\n{writes}", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("sciencevae.errors.RunError: the disk is full:"), done.stderr
    assert "MB left there" in last
    assert _names(tmp_path) == []


@pytest.mark.parametrize("after", [0.0, 0.05, 0.2])
def test_a_store_killed_while_it_is_written_is_absent(tmp_path: Path, after: float) -> None:
    body = "print('go', flush=True)\nwhile True: write(ds, sys.argv[1], chunk_rows=10); print('done', flush=True)"
    command = [sys.executable, "-c", f"{STORE}\n{body}", str(tmp_path / "a.zarr")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    finished = process.stdout.read().count(b"done")
    process.wait()
    process.stdout.close()
    if (tmp_path / "a.zarr").exists():
        from sciencevae.data.store import fingerprint, open_store

        ds = open_store(tmp_path / "a.zarr")
        assert fingerprint(tmp_path / "a.zarr") == ds.attrs["fingerprint"]
    else:
        assert finished == 0


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunError, match=r"cannot write .*not a directory; choose a folder"),
        atomic_path(tmp_path / "file" / "x" / "y"),
    ):
        pass


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_place_where_nothing_can_be_made() -> None:
    with pytest.raises(RunError, match="cannot write /proc/nowhere: no such file or directory"):
        make_folder(Path("/proc/nowhere"))


def test_an_error_that_names_the_file_in_its_text_alone(tmp_path: Path) -> None:
    """As pyarrow's."""
    with pytest.raises(RunError, match="choose a folder you may write to"), atomic_path(tmp_path / "a"):
        raise PermissionError(13, f"Failed to open local file '{tmp_path}/.tmp-a'")


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        np.load(tmp_path / "nothing.npy")
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a"):
        raise PermissionError(1, os.strerror(1), "/somewhere/else")
