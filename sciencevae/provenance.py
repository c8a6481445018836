"""Where a result comes from: versions, commit, host, hashes, seeds, times, and what to cite."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import socket
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciencevae.paths import checkout_folder
from sciencevae.runs import read_json

if TYPE_CHECKING:
    from sciencevae.registry import Domain
    from sciencevae.runs import Run

__all__ = [
    "FORMAT",
    "citations",
    "commit",
    "content",
    "environment",
    "file_hash",
    "input_content",
    "run_record",
]

#: of ``run.json``; another number when its keys mean something else
FORMAT = 1
#: a folder larger than this counts by the names and sizes of its files: a catalogue, of which a run reads a cone
_FOLDER_BYTES = 64 << 30
#: what decides, beside the settings and the data, whether numbers come out the same to the last bit
_CIRCUMSTANCES = ("python", "platform", "processor", "commit", "versions")


def environment() -> dict[str, Any]:
    """Versions of Python and of every package that sciencevae depends on, the commit, the host and its processor.

    Packages of extras are named where they are installed.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
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
            if not re.search(r"extra == .(test|lint).", requirement):
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


def _processor() -> str:
    """The processor's name: libraries choose their code by it, and round differently."""
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


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


def input_content(domain: Domain, path: Path) -> dict[str, Any]:
    """What a user's input holds, as of ``content``; ``named``: the sha256 of each file that it names, else ""."""
    if domain.input_files is None:
        return content(path)
    files = {found.relative_to(path.parent).as_posix(): found for found in domain.input_files(path)}
    return content(path) | {
        "named": {name: file_hash(found) if found.is_file() else "" for name, found in sorted(files.items())}
    }


def content(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file, or of a folder: of its files' names, sizes and hashes.

    ``by`` says of a very large folder that the hash is of names and sizes only.
    """
    if not path.is_dir():
        return {"bytes": path.stat().st_size, "sha256": file_hash(path)}
    files = sorted(found for found in path.rglob("*") if found.is_file())
    sizes = [found.stat().st_size for found in files]
    whole = sum(sizes) <= _FOLDER_BYTES
    digest = hashlib.sha256()
    for found, size in zip(files, sizes, strict=True):
        name = found.relative_to(path).as_posix()
        digest.update(f"{name}\0{size}\0{file_hash(found) if whole else ''}\n".encode())
    kept = {"bytes": sum(sizes), "files": len(files), "sha256": digest.hexdigest()}
    return kept if whole else kept | {"by": "names and sizes"}


def run_record(run: Run) -> dict[str, Any]:
    """``run.json``: enough to make the run again, and to tell whether it came out the same.

    ``variants`` says which of ``files`` and ``data`` each training started from. A stage that ran in other
    circumstances than the last one says so in ``elsewhere``.
    """
    records = list(run.records())
    here = environment()
    prepared = {record["name"]: record for record in records if record["stage"] == "prepare"}
    trained = {record["name"]: record for record in records if record["stage"] == "train"}
    fetched = [record for record in records if record["stage"] in ("fetch", "simulate")]
    models = {
        name: file_hash(variant.model_path)
        for name, variant in run.variants.items()
        if variant.model_path.is_file()
    }
    source = None
    if run.input is not None:
        source = {"path": str(run.input)} | prepared.get(run.main.key, {}).get("input", {})
    return {
        "format": FORMAT,
        "domain": run.domain.name,
        "settings": run.settings.dump(),
        "input": source,
        "seeds": {name: variant.settings.seed for name, variant in run.variants.items()},
        "code": {stage: run.domain.code(stage) for stage in ("prepare", "train", "refit", "analyse")},
        "variants": {
            name: {key: run.plan[name][key] for key in ("fetch", "prepare")} for name in run.variants
        },
        # by the key of the fetch: variants may take files of one name from several sources
        "files": {record["name"]: record["files"] for record in fetched},
        "beside": {name: files for record in fetched for name, files in record.get("beside", {}).items()},
        "data": {
            name: {key: record[key] for key in ("fingerprint", "rows") if key in record}
            for name, record in prepared.items()
        },
        "models": models,
        "weights": {
            name: record["weights"]
            for name, record in trained.items()
            if name in run.variants and "weights" in record
        },
        "metrics": run.metrics,
        "stages": [_stage(record, here) for record in records],
        "seconds": round(sum(r.get("seconds", 0.0) for r in records), 3),
        **here,
    }


def _stage(record: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    """What ``run.json`` says of one stage; its circumstances only where they are not those of the last one."""
    told = {key: record.get(key) for key in ("stage", "name", "started", "seconds", "host", "threads")}
    told |= {key: record[key] for key in ("device", "compiled") if key in record}
    there = record.get("environment", {})
    other = {key: there[key] for key in _CIRCUMSTANCES if key in there and there[key] != here[key]}
    if "versions" in other:
        other["versions"] = dict(set(other["versions"].items()) - set(here["versions"].items()))
    return told | ({"elsewhere": other} if other else {})


def citations(run: Run) -> Iterator[tuple[str, str]]:
    """(what, BibTeX) of the data, the methods, and the software of a run, each key once.

    Methods are those of the models that were trained, and what the domain says of its own.
    """
    from sciencevae.methods import citation_key

    seen = set()
    for what, bibtex in _cited(run):
        if (key := citation_key(bibtex)) not in seen:
            seen.add(key)
            yield what, bibtex.strip()


def _cited(run: Run) -> Iterator[tuple[str, str]]:
    from sciencevae.data.manifest import load_manifest
    from sciencevae.methods import PAPERS
    from sciencevae.software import SOFTWARE, used_by

    for dataset in dict.fromkeys(v.settings.dataset for v in run.variants.values() if v.fetches):
        yield f"data: {dataset}", load_manifest(dataset).citation.bibtex
    for name in run.variants:
        for key in read_json(run.record("train", name)).get("methods", []):
            if key in PAPERS:  # another version may have named others
                yield "method", PAPERS[key]
    for entry in run.domain.of(run).citations:
        yield "method", entry
    versions = _versions()
    for name in used_by(run.domain):
        yield f"software: {' '.join(filter(None, (name, versions.get(name))))}", SOFTWARE[name]
