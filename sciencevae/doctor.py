"""Checks of the machine: versions, cores, device, folders, locks, scheduler."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sciencevae.paths import cache_folder, mirror_folder

__all__ = ["checks"]

Check = tuple[str, bool, str, str]


def checks() -> Iterator[Check]:
    """(what, whether it is good, what was found, what to do)."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield "python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer"
    from sciencevae.provenance import environment

    found = environment()
    names = ("sciencevae", "torch", "snakemake", "zarr")
    yield "versions", True, ", ".join(f"{n} {found['versions'].get(n, 'missing')}" for n in names), ""
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    yield "cores", True, f"{found['cores']} (OMP_NUM_THREADS {threads})", ""
    yield _device()
    yield _folder("cache", cache_folder(), "set SCIENCEVAE_CACHE to a folder you may write to")
    mirror = mirror_folder()
    if mirror is not None:
        yield "mirror", mirror.is_dir(), str(mirror), "SCIENCEVAE_MIRROR must name a folder"
    yield _folder("scratch", Path(tempfile.gettempdir()), "set TMPDIR to a folder with space")
    yield _locks()
    slurm = shutil.which("sbatch")
    yield "scheduler", True, f"Slurm ({slurm})" if slurm else "none (--profile local)", ""
    if slurm:
        from importlib.util import find_spec

        plugin = find_spec("snakemake_executor_plugin_slurm") is not None
        yield "slurm plugin", plugin, "installed" if plugin else "missing", "pip install 'sciencevae[slurm]'"


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        return "device", True, torch.cuda.get_device_name(0), ""
    return "device", True, "no GPU: training runs on the CPU", ""


def _folder(name: str, folder: Path, remedy: str) -> Check:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return name, False, f"{folder}: {error.strerror}", remedy
    free = shutil.disk_usage(folder).free / 1e9
    return name, free > 1, f"{folder}, {free:.0f} GB free", f"{remedy}; less than 1 GB is left"


def _locks() -> Check:
    from sciencevae.errors import RunError
    from sciencevae.locks import hold

    with tempfile.TemporaryDirectory(dir=Path.cwd() if os.access(Path.cwd(), os.W_OK) else None) as folder:
        path = Path(folder) / "lock"
        with hold(path, "the check"):
            try:
                with hold(path, "the check"):
                    return (
                        "locks",
                        False,
                        "not kept by this file system",
                        "never start two runs in one folder",
                    )
            except RunError:
                return "locks", True, "kept by this file system", ""
