"""``sciencevae doctor``: each thing that can be wrong is provoked, and its remedy is told; it never hangs."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from sciencevae import doctor
from sciencevae.cli import main

Fake = Callable[..., None]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Slurm, GPU and network, on which all is well."""
    for name in (
        "SLURM_CPUS_PER_TASK",
        "SLURM_ACCOUNT",
        "SBATCH_ACCOUNT",
        "SCIENCEVAE_MIRROR",
        "CXX",
        "HTTPS_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCIENCEVAE_OFFLINE", "1")
    monkeypatch.setenv("SCIENCEVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.chdir(tmp_path)
    _program(programs, "g++")
    return programs


def _program(folder: Path, name: str, says: str = "", code: int = 0, seconds: float = 0) -> None:
    import shutil

    sleep = f"{shutil.which('sleep', path=os.defpath)} {seconds}\n" if seconds else ""
    (folder / name).write_text(f"#!/bin/sh\n{sleep}echo '{says}'\nexit {code}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def fake(machine: Path) -> Fake:
    """fake(NAME, says, code, seconds): a command on the path."""
    return lambda *arguments, **how: _program(machine, *arguments, **how)


def found(name: str) -> doctor.Check:
    return {check.name: check for check in doctor.checks()}[name]


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert all(line.startswith("ok ") for line in lines)


def test_what_is_wrong_is_a_line_with_its_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    assert main(["doctor"]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FIX")]
    assert len(wrong) == 1
    assert "→ set OMP_NUM_THREADS to" in wrong[0]


# ---- the environment


def test_versions_outside_their_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "1.0" if name == "zarr" else real(name))
    check = found("versions")
    assert not check.good
    assert "zarr 1.0 (wanted >=3.0.8)" in check.found
    assert "constraints.txt" in check.remedy


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "numba":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "numba missing" in found("versions").found


@pytest.mark.parametrize("said", ["0", "-1", "all", "1000000", ""])
def test_threads_that_are_none_or_too_many(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert not found("threads").good


def test_more_threads_than_slurm_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert found("threads").good
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    check = found("threads")
    assert not check.good
    assert "set OMP_NUM_THREADS to 4 at most" in check.remedy


def test_a_gpu_that_torch_does_not_see(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert found("device") == doctor.Check("device", True, "no GPU: training runs on the CPU")
    fake("nvidia-smi", "535.10")
    monkeypatch.setattr(torch, "version", SimpleNamespace(cuda=None))
    assert "built without CUDA" in found("device").found
    monkeypatch.setattr(torch, "version", SimpleNamespace(cuda="13.0"))
    check = found("device")
    assert not check.good
    assert "CUDA 13.0 and finds no GPU (driver: 535.10)" in check.found
    assert "update the driver" in check.remedy
    fake("nvidia-smi", code=9)
    assert "driver: no answer" in found("device").found


def test_a_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    check = found("device")
    assert not check.good
    assert check.found.startswith("torch cannot be imported: ")
    assert check.remedy == "pip install --force-reinstall -c constraints.txt torch"


def test_no_compiler(machine: Path) -> None:
    (machine / "g++").unlink()
    check = found("compiler")
    assert not check.good
    assert "install g++" in check.remedy


# ---- folders


@pytest.mark.parametrize(("name", "variable"), [("cache", "SCIENCEVAE_CACHE"), ("scratch", "TMPDIR")])
def test_a_folder_that_cannot_be_written_to(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    """Python itself looks for another scratch folder then, and others do not."""
    monkeypatch.setenv(variable, "/proc/no")
    check = found(name)
    assert not check.good
    assert "/proc/no" in check.found
    assert variable in check.remedy


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10**8))
    assert "less than 1 GB is left" in found("scratch").remedy
    assert not found("cache").good


def test_a_cache_that_everybody_may_write_to(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o1777)  # the sticky bit keeps nobody from adding
    check = found("cache")
    assert not check.good
    assert check.remedy == f"chmod o-w {tmp_path / 'cache'}"
    (tmp_path / "cache").chmod(0o775)
    assert found("cache").good


def test_locks_that_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", refused)
    check = found("locks")
    assert not check.good
    assert "never start two runs in one folder" in check.remedy


def test_a_clock_that_differs_from_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    check = found("clock")
    assert not check.good
    assert "+3600" in check.found
    assert "NTP" in check.remedy


# ---- data


def test_no_network_and_no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(address: object, timeout: float) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setenv("SCIENCEVAE_OFFLINE", "0")
    monkeypatch.setattr(socket, "create_connection", unreachable)
    check = found("data")
    assert not check.good
    assert "Network is unreachable" in check.found
    assert "sciencevae data mirror" in check.remedy


def test_a_mirror_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("it asked the network"))
    monkeypatch.setenv("SCIENCEVAE_OFFLINE", "0")
    monkeypatch.setenv("SCIENCEVAE_MIRROR", str(tmp_path / "mirror"))
    assert not found("data").good
    (tmp_path / "mirror").mkdir()
    assert not found("data").good
    (tmp_path / "mirror" / "hipparcos").mkdir()
    assert found("data").good


def test_a_proxy_is_asked_in_place_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setenv("SCIENCEVAE_OFFLINE", "0")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setattr(
        socket, "create_connection", lambda address, timeout: asked.append(address) or socket.socket()
    )
    assert found("data").good
    assert asked == [("proxy.example", 3128)]


# ---- Slurm


def test_a_scheduler_that_is_well(fake: Fake) -> None:
    fake("sbatch")
    fake("sinfo", "cpu* up\ngpu up\nold down")
    fake("sacctmgr", "physics")
    found = {check.name: check for check in doctor.checks()}
    assert found["scheduler"] == ("scheduler", True, "Slurm, partitions cpu*, gpu", "")
    assert found["account"][:3] == ("account", True, "physics")
    assert {"run folders", "slurm plugin"} <= set(found)


def test_a_controller_that_does_not_answer(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_COMMAND", 0.5)
    fake("sbatch")
    fake("sinfo", "cpu* up", seconds=30)
    began = time.monotonic()
    check = found("scheduler")
    assert time.monotonic() - began < 5
    assert not check.good
    assert "controller does not answer" in check.remedy


def test_no_default_partition_and_no_default_account(fake: Fake) -> None:
    fake("sbatch")
    fake("sinfo", "cpu up\nold* down")
    fake("sacctmgr", "")
    assert "slurm_partition" in found("scheduler").remedy
    assert not found("scheduler").good
    assert "slurm_account" in found("account").remedy
    assert not found("account").good
    fake("sacctmgr", code=1)  # no database
    assert found("account").good


@pytest.mark.parametrize("version", [None, "1.9"])
def test_a_plugin_that_is_missing_or_old(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    real = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: version if name.startswith("snakemake-executor") else real(name)
    )
    fake("sbatch")
    check = found("slurm plugin")
    assert not check.good
    assert "sciencevae[slurm]" in check.remedy


def test_run_folders_in_the_memory_of_one_machine(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("sbatch")
    monkeypatch.setattr(doctor, "_file_system", lambda folder: "tmpfs")
    check = found("run folders")
    assert not check.good
    assert "the nodes share" in check.remedy


def test_the_file_system_is_that_of_the_nearest_mount() -> None:
    assert doctor._file_system(Path("/proc/self")) == "proc"


# ---- it always ends


def test_a_check_that_hangs_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    released = threading.Event()
    monkeypatch.setattr(doctor, "_DEADLINE", 0.5)
    monkeypatch.setattr(doctor, "_locks", lambda: released.wait(60))
    began = time.monotonic()
    check = found("locks")
    assert time.monotonic() - began < 5
    released.set()
    assert not check.good
    assert "no answer in 0.5 s" in check.found


def test_a_check_that_stumbles_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbling() -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(doctor, "_clock", stumbling)
    check = found("clock")
    assert not check.good
    assert check.found == "ZeroDivisionError: by zero"
