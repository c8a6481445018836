"""``sciencevae rerun``: a run made again from what its ``run.json`` says, and compared with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from sciencevae.compare import compare
from sciencevae.config import describe
from sciencevae.errors import InputError, RunError
from sciencevae.provenance import FORMAT, file_hash, input_content
from sciencevae.runs import Run, check_folder, configure, read_json, write_json

if TYPE_CHECKING:
    from sciencevae.registry import Domain

__all__ = ["TOLERANCE", "read_record", "rerun"]

#: relative, of a metric, where versions, processor or threads are others. Two threads in place of one, digits
#: (--config small): losses within 1e-4, of clusters, which are decisions, accuracies within 0.016
TOLERANCE = 0.02


class _File(BaseModel):
    sha256: str
    bytes: int


class _Input(_File):
    path: str


class _Prepared(BaseModel):
    fingerprint: str
    rows: int


class _Keys(BaseModel):
    fetch: str | None
    prepare: str


class _Stage(BaseModel):
    stage: str
    name: str
    started: datetime
    seconds: float
    host: str
    threads: int


class _Record(BaseModel):
    """What a ``run.json`` must hold to be followed and compared; it may hold more."""

    domain: str
    settings: dict[str, Any]
    input: _Input | None
    seeds: dict[str, int]
    code: dict[str, str]
    variants: dict[str, _Keys]
    files: dict[str, dict[str, _File]]
    beside: dict[str, dict[str, _File]]
    data: dict[str, _Prepared]
    models: dict[str, str]
    weights: dict[str, str]
    metrics: dict[str, Any]
    stages: list[_Stage]
    seconds: float
    python: str
    versions: dict[str, str]


def rerun(
    source: Path,
    out: Path,
    *,
    input: str | None = None,
    profile: str = "local",
    cores: int | None = None,
    tolerance: float = TOLERANCE,
) -> int:
    """Make the run that ``source`` tells of again in the folder ``out``, and compare; gives the exit code.

    source: a run folder, or a ``run.json`` alone. input: where the user's own data lie now

    Leaves ``rerun.json`` in ``out`` and prints a short table. Raises InputError for a run.json that cannot be
    followed and for an input that is not the one of the run, RunError when the result is not the same.
    """
    from sciencevae.workflow import carry_out, find_profile

    record = read_record(source)
    plan = _plan(record, source, input, out)
    code = carry_out(plan, out, find_profile(profile), cores)
    if code:
        return code
    made = read_json(out / "run.json")
    found = compare(record, made, tolerance)
    apart = dict(_weights_apart(source, Run(out), record))
    told = {"of": str(source), **found.to_json(), "weights_apart": apart}
    write_json(out / "rerun.json", told, always=True)
    for what, how in found.rows():
        print(f"{what:<20}{how}")
    for name, (tensor, value) in apart.items():
        print(f"{'weights':<20}{name}: at most {value:.2g} of the largest apart ({tensor})")
    if not found.same:
        raise RunError(f"{found.verdict()} (all of it: {out / 'rerun.json'})")
    print(found.verdict())
    return 0


def read_record(source: Path) -> dict[str, Any]:
    """The content of a ``run.json``, given itself or by its run folder; InputError when it cannot be followed."""
    path = source / "run.json" if source.is_dir() else source
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"no {path}: give the folder of a finished run, or its run.json") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): it cannot be followed") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format", "none") if isinstance(record, dict) else type(record).__name__
        raise InputError(
            f"{path} was written by another version of sciencevae (format {found}, here {FORMAT}): "
            "rerun it with the version it names under 'versions'"
        )
    try:
        _Record.model_validate(record)
    except ValidationError as error:
        raise InputError(f"{path} is damaged: {describe(_Record, error)}; it cannot be followed") from error
    metrics = path.with_name("metrics.json")
    if source.is_dir() and metrics.is_file() and read_json(metrics) != record["metrics"]:
        raise InputError(
            f"{metrics} is not what {path.name} beside it recorded: it was changed by hand, or a stage was run "
            f"alone since; then 'sciencevae report {source}' records it anew"
        )
    return record


def _plan(record: dict[str, Any], source: Path, input: str | None, out: Path) -> Callable[[Path], Run]:
    """Check all that the record asks for, before anything is written; gives the function that configures it."""
    from sciencevae.config import validate
    from sciencevae.registry import domain

    found = domain(record["domain"])
    settings = validate(found.settings, record["settings"], f"{source}: settings")
    given = _input(found, record, input)
    if out.resolve() == source.resolve() or out.resolve() == source.resolve().parent:
        raise InputError(f"{out} is the run itself: choose another --out")
    check_folder(out, found)
    there = out / "config" / "run.json"
    if there.is_file():
        plain = read_json(there)
        if (plain.get("settings"), plain.get("input")) != (settings.dump(), given and str(given)):
            raise InputError(f"{out} holds another run: choose another --out")
    return lambda folder: configure(folder, found, settings, given)


def _input(own: Domain, record: dict[str, Any], moved: str | None) -> Path | None:
    """The user's own data, which must be what the run was made from."""
    told = record["input"]
    if told is None:
        if moved is not None:
            raise InputError("the run was made without an input: leave --input")
        return None
    path = Path(moved or told["path"]).expanduser().resolve()
    if not path.exists():
        raise InputError(f"the input {path} is not there: say where it lies now with --input")
    found = input_content(own, path)
    if found["sha256"] != told["sha256"]:
        raise InputError(
            f"the input {path} is not what the run was made from: its sha256 is {found['sha256']}, recorded is "
            f"{told['sha256']}; name the right file with --input"
        )
    for name, known in told.get("named", {}).items():
        if (now := found["named"].get(name, "")) != known:
            what = "is not what the run was made from" if now else "is not there"
            raise InputError(
                f"{path} names {name}, which {what}: put it back, or name another table by --input"
            )
    return path


def _weights_apart(
    source: Path, made: Run, record: dict[str, Any]
) -> Iterator[tuple[str, tuple[str, float]]]:
    """(variant, (tensor, largest difference over its largest value)) of models that differ, where the old are."""
    from sciencevae.training.checkpoint import read_tensors
    from sciencevae.vae.files import REMEDY

    folder = source if source.is_dir() else source.parent
    for name, variant in made.variants.items():
        old = folder / variant.model_path.relative_to(made.folder)
        if not old.is_file() or file_hash(old) != record["models"].get(name):
            continue
        before, after = (read_tensors(path, REMEDY)[0] for path in (old, variant.model_path))
        if {n: t.shape for n, t in before.items()} != {n: t.shape for n, t in after.items()}:
            continue
        apart = {
            tensor: float((values - after[tensor]).abs().max() / values.abs().max().clamp(min=1e-30))
            for tensor, values in before.items()
            if values.numel() and values.is_floating_point()
        }
        worst = max(apart, key=lambda tensor: apart[tensor], default="")
        if worst and apart[worst]:
            yield name, (worst, apart[worst])
