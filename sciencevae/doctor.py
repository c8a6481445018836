"""Checks of the machine: versions, threads, device, compiler, folders, locks, clock, network, scheduler."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

from sciencevae.paths import cache_folder, mirror_folder

__all__ = ["Check", "checks"]

#: seconds for all checks together, of a command, and of a connection
_DEADLINE, _COMMAND, _CONNECTION = 10.0, 5.0, 3.0
_SPACE = 1e9  # bytes that a folder should have left
_CLOCK = 2.0  # seconds by which a file may be younger than now
#: file systems that live in one machine's memory
_MEMORY = ("tmpfs", "ramfs")


class Check(NamedTuple):
    """What was looked at, whether it is good, what was found, and what to do where it is not."""

    name: str
    good: bool
    found: str
    remedy: str = ""


def checks() -> Iterator[Check]:
    """Every check that applies here, in a fixed order; none waits longer than ten seconds, nor needs a network."""
    wanted: dict[str, Callable[[], Check]] = {
        "python": _python,
        "versions": _versions,
        "threads": _threads,
        "device": _device,
        "compiler": _compiler,
        "cache": lambda: _folder(
            "cache", cache_folder(), "set SCIENCEVAE_CACHE to a folder you may write to"
        ),
        "data": _data,
        "scratch": lambda: _folder(
            # what TMPDIR names, also where Python, and it alone, would look for another folder
            "scratch",
            Path(os.environ.get("TMPDIR") or tempfile.gettempdir()),
            "set TMPDIR to a folder with space",
            shared=True,
        ),
        "locks": _locks,
        "clock": _clock,
        "scheduler": _scheduler,
    }
    if shutil.which("sbatch"):
        wanted |= {"run folders": _run_folders, "account": _account, "slurm plugin": _plugin}
    found: dict[str, Check] = {}

    def look(name: str, check: Callable[[], Check]) -> None:
        try:
            found[name] = check()
        except Exception as error:  # a check that stumbles is an answer, too
            told = " ".join(f"{type(error).__name__}: {error}".split())
            found[name] = Check(name, False, told, "this check itself failed: tell us")

    # at once, and in threads that hold nobody up: a file system that is gone never answers
    threads = {item[0]: threading.Thread(target=look, args=item, daemon=True) for item in wanted.items()}
    for thread in threads.values():
        thread.start()
    ends = time.monotonic() + _DEADLINE
    for name, thread in threads.items():
        thread.join(max(0.0, ends - time.monotonic()))
        yield found.get(name) or Check(
            name,
            False,
            f"no answer in {_DEADLINE:g} s",
            "a file system or a service that this asks hangs: try again, or ask who runs the machine",
        )


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")


def _versions() -> Check:
    """What is installed against the ranges of pyproject.toml."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in metadata.requires("sciencevae") or []]
    except metadata.PackageNotFoundError:
        return Check("versions", False, "sciencevae is not installed", "pip install -c constraints.txt -e .")
    wrong, shown = [], [f"sciencevae {metadata.version('sciencevae')}"]
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version or 'missing'} (wanted {requirement.specifier})")
        elif requirement.name in ("torch", "snakemake", "zarr"):
            shown.append(f"{requirement.name} {version}")
    remedy = "pip install -c constraints.txt sciencevae, in an environment of its own"
    return Check("versions", not wrong, ", ".join(wrong or shown), remedy)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _threads() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    allowed = min(cores, int(given)) if given.isdecimal() and int(given) else cores
    said = os.environ.get("OMP_NUM_THREADS")
    found = (
        f"{cores} cores{f', {given} given by Slurm' if given else ''}, OMP_NUM_THREADS {said or 'not set'}"
    )
    good = said is None or (said.isdecimal() and 1 <= int(said) <= allowed)
    return Check("threads", good, found, f"set OMP_NUM_THREADS to {allowed} at most, or unset it")


def _device() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:  # a library that it is linked to
        told = " ".join(f"torch cannot be imported: {error}".split())
        return Check("device", False, told, "pip install --force-reinstall -c constraints.txt torch")

    if torch.cuda.is_available():
        return Check("device", True, f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}")
    if not (shutil.which("nvidia-smi") or Path("/dev/nvidiactl").exists()):
        return Check("device", True, "no GPU: training runs on the CPU")
    if torch.version.cuda is None:
        found = f"a GPU, but torch {torch.__version__} was built without CUDA"
        return Check("device", False, found, "install the build of torch for your CUDA (see pytorch.org)")
    driver = _run("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    found = f"torch is built for CUDA {torch.version.cuda} and finds no GPU (driver: {driver or 'no answer'})"
    remedy = "update the driver, or install torch for an older CUDA; in a job, ask for a GPU (gres)"
    return Check("device", False, found, remedy)


def _compiler() -> Check:
    """What torch.compile needs for the CPU."""
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        if name and (place := shutil.which(name)):
            return Check("compiler", True, place)
    remedy = "install g++, or name one in CXX; until then trainings run uncompiled, which is slower"
    return Check("compiler", False, "none for C++", remedy)


def _folder(name: str, folder: Path, remedy: str, shared: bool = False) -> Check:
    """Whether a folder can be written to, has space, and, unless it is ``shared``, is not everybody's to write."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check(name, False, f"{folder}: {error.strerror}", remedy)
    if not shared and folder.stat().st_mode & stat.S_IWOTH:
        found = f"{folder} can be written to by everybody, who could exchange your data there"
        return Check(name, False, found, f"chmod o-w {folder}")
    free = shutil.disk_usage(folder).free
    found = f"{folder}, {free / 1e9:.0f} GB free"
    return Check(name, free > _SPACE, found, f"{remedy}; less than 1 GB is left")


def _data() -> Check:
    """Where data sets come from: a mirror, or the network, which is asked for one connection."""
    mirror = mirror_folder()
    if mirror is not None:
        good = mirror.is_dir() and any(mirror.iterdir())
        remedy = "SCIENCEVAE_MIRROR must name a folder that 'sciencevae data mirror' filled"
        return Check("data", good, f"mirror {mirror}", remedy)
    if os.environ.get("SCIENCEVAE_OFFLINE", "0") not in {"", "0"}:
        return Check("data", True, "the cache alone (SCIENCEVAE_OFFLINE)")
    from sciencevae.data.manifest import list_manifests, load_manifest

    urls = (url for name in list_manifests() for file in load_manifest(name).files for url in file.urls)
    place = urlsplit(getproxies().get("https") or next(urls, "https://example.org"))
    host, port = str(place.hostname), place.port or 443
    try:
        socket.create_connection((host, port), timeout=_CONNECTION).close()
    except OSError as error:
        remedy = (
            "no internet here? Where there is, run 'sciencevae data mirror FOLDER', bring FOLDER here, and name it "
            "in SCIENCEVAE_MIRROR; or set SCIENCEVAE_OFFLINE=1, if all is in the cache"
        )
        return Check("data", False, f"{host} cannot be reached ({error.strerror or error})", remedy)
    return Check("data", True, f"internet ({host} answers)")


def _here() -> Path:
    """Where run folders are made by default; the scratch folder, where it cannot be written to."""
    return Path.cwd() if os.access(Path.cwd(), os.W_OK) else Path(tempfile.gettempdir())


def _locks() -> Check:
    from sciencevae.errors import RunError
    from sciencevae.locks import hold

    here = _here()
    with tempfile.TemporaryDirectory(dir=here) as folder:
        path = Path(folder) / "lock"
        with hold(path, "the check"):
            try:
                with hold(path, "the check"):
                    found = f"not kept by the file system of {here}"
                    return Check(
                        "locks", False, found, "never start two runs in one folder, or use another disk"
                    )
            except RunError:
                return Check("locks", True, f"kept by the file system of {here}")


def _clock() -> Check:
    """This machine's clock against that of the file system, by which the workflow tells what is newer."""
    with tempfile.NamedTemporaryFile(dir=_here()) as file:
        off = os.stat(file.name).st_mtime - time.time()
    remedy = "the clocks of this machine and of its file server differ: ask for NTP on both"
    return Check("clock", abs(off) < _CLOCK, f"{off:+.1f} s between files and this machine", remedy)


def _scheduler() -> Check:
    if shutil.which("sbatch") is None:
        return Check("scheduler", True, "none (--profile local)")
    partitions = _run("sinfo", "--noheader", "--format=%P %a")
    if not partitions:
        remedy = (
            "Slurm is installed, but its controller does not answer: is this a login node? Or --profile local"
        )
        return Check("scheduler", False, "Slurm: sinfo gave no answer", remedy)
    up = [line.split()[0] for line in partitions.splitlines() if line.split()[-1] == "up"]
    if not any(name.endswith("*") for name in up):
        found = f"Slurm, partitions {', '.join(up) or 'none that is up'}, none of them the default"
        return Check("scheduler", False, found, "name one as slurm_partition in a profile of your own")
    return Check("scheduler", True, f"Slurm, partitions {', '.join(up)}")


def _account() -> Check:
    """The account that jobs are charged to, where the cluster has a database of them."""
    if os.environ.get("SLURM_ACCOUNT") or os.environ.get("SBATCH_ACCOUNT"):
        return Check("account", True, "of SLURM_ACCOUNT or SBATCH_ACCOUNT")
    query = ("show", "user", getpass.getuser(), "format=DefaultAccount")
    told = _run("sacctmgr", "--noheader", "--parsable2", *query)
    if told is None:
        return Check("account", True, "no database of accounts answers: none is needed, or set slurm_account")
    remedy = "name one as slurm_account in a profile of your own"
    return Check("account", bool(told), told.splitlines()[0] if told else "you have no default one", remedy)


def _plugin() -> Check:
    from packaging.requirements import Requirement

    name = "snakemake-executor-plugin-slurm"
    version = _version(name)
    try:
        wanted = [Requirement(text) for text in metadata.requires("sciencevae") or []]
    except metadata.PackageNotFoundError:
        wanted = []
    good = version is not None and all(r.specifier.contains(version) for r in wanted if r.name == name)
    return Check(
        "slurm plugin", good, version or "missing", "pip install -c constraints.txt 'sciencevae[slurm]'"
    )


def _run_folders() -> Check:
    """Whether other nodes can see what is written here."""
    here = _here()
    kind = _file_system(here)
    remedy = "start runs with --out on a file system that the nodes share"
    return Check(
        "run folders", kind not in _MEMORY, f"{here} is on {kind or 'an unknown file system'}", remedy
    )


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder lies on; empty where nothing tells."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    mounts = [line.split()[1:3] for line in lines]
    places = {re.sub(r"\\040", " ", place): kind for place, kind in mounts}
    folder = folder.resolve()
    return next((places[str(each)] for each in (folder, *folder.parents) if str(each) in places), "")


def _run(*command: str) -> str | None:
    """What a command says; None where it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_COMMAND
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout.strip()
