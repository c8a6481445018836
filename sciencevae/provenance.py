"""Where a result comes from: versions, commit, host, hashes, seeds, times, and what to cite."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import socket
import subprocess
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciencevae.paths import checkout_folder

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["citations", "commit", "environment", "file_hash", "run_record"]


def environment() -> dict[str, Any]:
    """Versions of Python and of every package that sciencevae itself depends on, the commit, and the host."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "commit": commit(),
        "versions": _versions(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


def _versions() -> dict[str, str]:
    names = {"sciencevae"}
    try:
        for requirement in metadata.requires("sciencevae") or []:
            if "extra ==" not in requirement:
                names.add(re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0])
    except metadata.PackageNotFoundError:
        from sciencevae import __version__

        return {"sciencevae": __version__}
    found = {}
    for name in sorted(names):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the checkout that runs, ``-dirty`` when it has changes; None in an installed wheel."""
    domains = checkout_folder("domains")
    if domains is None:
        return None
    git = ["git", "-C", str(domains.parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        if head.returncode:
            return None
        state = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("-dirty" if state.stdout.strip() else "")


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def run_record(run: Run) -> dict[str, Any]:
    """``run.json``: enough to make the run again, and to tell whether it came out the same."""
    records = list(run.records())
    data = {
        record["name"]: {k: record[k] for k in ("fingerprint", "rows") if k in record}
        for record in records
        if record["stage"] == "prepare"
    }
    # by the key of the fetch: variants may take files of one name from several sources
    files = {r["name"]: r["files"] for r in records if r["stage"] in ("fetch", "simulate")}
    models = {
        name: file_hash(variant.model_path)
        for name, variant in run.variants.items()
        if variant.model_path.is_file()
    }
    settings = run.settings.dump()
    if run.input is not None:
        settings.pop("dataset", None)  # which the input stands for
    return {
        "domain": run.domain.name,
        "settings": settings,
        "input": str(run.input) if run.input else None,
        "seeds": {name: variant.settings.seed for name, variant in run.variants.items()},
        "files": files,
        "data": data,
        "models": models,
        "stages": [
            {k: r.get(k) for k in ("stage", "name", "started", "seconds", "host", "threads")} for r in records
        ],
        "seconds": round(sum(r.get("seconds", 0.0) for r in records), 3),
        **environment(),
    }


def citations(run: Run) -> Iterator[tuple[str, str]]:
    """(what, BibTeX) of the data, the methods, and the software of a run."""
    from sciencevae.data.manifest import load_manifest

    for dataset in _unique(variant.settings.dataset for variant in run.variants.values()):
        if dataset and run.input is None:
            citation = load_manifest(dataset).citation
            bibtex = getattr(citation, "bibtex", None)
            if bibtex:
                yield f"data: {dataset}", bibtex.strip()
    for entry in run.domain.of(run).citations:
        yield "method", entry.strip()
    from sciencevae import __version__

    yield (
        "software",
        "@software{sciencevae,\n  title = {sciencevae: scientific pipelines around one "
        "variational-autoencoder core},\n  author = {The sciencevae developers},\n"
        f"  version = {{{__version__}}}\n}}",
    )


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
