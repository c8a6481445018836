"""The stages of a run: fetch → prepare → train → encode → analyse → report, each alone on a run folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from sciencevae.config import digest
from sciencevae.errors import InputError, Interrupted, RunError, ScienceVAEError
from sciencevae.locks import TOKEN, alive, hold, inherited, replaced, run_lock
from sciencevae.progress import BEGAN, DONE, Progress
from sciencevae.runs import Run, Variant, manifest_digest, read_json, write_json

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.data.batches import Batches
    from sciencevae.registry import Domain
    from sciencevae.training.history import History
    from sciencevae.vae.model import VAE
    from sciencevae.vae.objectives import Objective

__all__ = ["analyse", "encode", "fetch", "prepare", "prepared_dataset", "report", "train"]

Details = dict[str, Any]
#: seconds that a stage waits for the same stage of an earlier run, on another node, to save and end
_PATIENCE = 120.0


def fetch(run: Run, variant: Variant, threads: int = 1) -> None:
    """Bring the raw files of a variant's data set into the cache, verified."""
    if not variant.fetches:
        return
    source = variant.source
    with _stage(run, source, digest(run.fetch_slice(variant)), threads) as (progress, details):
        progress.say(f"{'simulating' if source == 'simulate' else 'fetching'} {variant.settings.dataset}")
        details["files"] = _described(_files(variant.settings))
        details["beside"] = {}
        for name in run.domain.beside(variant.settings) if run.domain.beside else ():
            from sciencevae.data.fetch import fetch as fetch_files

            try:
                details["beside"][name] = _described(fetch_files(name))
            except RunError as error:
                progress.say(f"without {name}, which an analysis reads: {error}")


def prepare(run: Run, variant: Variant, threads: int = 1, dask: str | None = None) -> None:
    """Raw files to one Zarr store in the schema that all domains share; dask: the file of an ``Engine``."""
    from sciencevae.engine import engine

    with (
        _stage(run, "prepare", variant.key, threads) as (progress, details),
        engine(dask, run.folder / ".dask"),
    ):
        progress.say(f"preparing {run.input or variant.settings.dataset or run.domain.name}")
        files = _files(variant.settings) if variant.fetches else {}
        if run.input:
            from sciencevae.provenance import input_content

            details["input"] = input_content(run.domain, run.input)
        data = _prepared(run.domain, variant.settings, files, run.input)
        details |= _write_store(data, variant.store, variant.settings)
        details["outputs"] = [str(variant.store.relative_to(run.folder))]
        progress.say(f"{details['rows']} samples in {variant.store.name}")


def train(run: Run, variant: Variant, threads: int = 1) -> None:
    """Fit one variant's model, going on from its checkpoint, and refit what the domain refits.

    Under torchrun or srun's tasks all ranks call it: the first does everything, the others fit along.
    """
    from sciencevae.training.parallel import announced

    if rank := announced().rank:
        try:
            with _stopping():
                _fitted(run, variant, *_seen(run, variant), threads)
        except ScienceVAEError as error:
            raise type(error)(f"rank {rank}: {error}") from error
        return
    with _stage(run, "train", variant.name, threads) as (progress, details):
        from sciencevae import methods
        from sciencevae.data import template
        from sciencevae.data.atomic import atomic_path
        from sciencevae.data.store import check
        from sciencevae.latents.collapse import latent_use
        from sciencevae.latents.typical import Typical
        from sciencevae.training.loop import limited_threads
        from sciencevae.vae.files import save, weights_digest

        settings, data = variant.settings, variant.data
        check(variant.store)
        described = template.to_json(data)  # what cannot travel is said before it is learned from
        batches, valid = _seen(run, variant)
        model, history = _fitted(run, variant, batches, valid, threads, progress)
        details["methods"] = _methods(run.domain, settings, data, model)
        refitted = None
        if run.domain.refit:
            _seed(settings.seed)
            with limited_threads(threads):
                refitted = run.domain.refit(settings, model, batches, valid)
        use = latent_use(model, valid)
        progress.say(use.describe())
        details["metrics"] = {**_training_metrics(history), "latents": use.to_json()}
        if refitted is not None:
            progress.say(f"refitted in {refitted.seconds:.0f} s · {_terms(refitted.rows[-1])}")
            details["metrics"]["refit"] = _training_metrics(refitted)
            if getattr(settings.refit, "prior", "none") != "none":
                details["methods"] += methods.refitted(model.prior)
                details["metrics"]["refit"] |= _prior_kept(refitted)
            if refitted.best_epoch == 0:
                progress.say(
                    "the prior of training stays: held-out latents find the fitted one no better · "
                    + _terms(refitted.rows[0])
                )
        variant.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(variant.folder / "history.csv") as path:
            history.table().to_csv(path, index=False)
        save(
            model,
            variant.model_path,
            {
                "domain": run.domain.name,
                "variant": variant.name,
                "settings": settings.dump(),
                "data": described,
                "typical": Typical.of(model, valid).to_json(),
                "metrics": details["metrics"],
            },
        )
        details |= {"weights": weights_digest(model), "device": history.device, "compiled": history.compiled}
        details["outputs"] = [
            str(variant.model_path.relative_to(run.folder)),
            str((variant.folder / "history.csv").relative_to(run.folder)),
        ]


def _seen(run: Run, variant: Variant) -> tuple[Batches, Batches]:
    """The training and the validation data as a model of the domain sees them."""
    from sciencevae.data.batches import as_batches

    train, valid = (
        run.domain.seen(as_batches(variant.data, split=part), variant.settings) for part in ("train", "valid")
    )
    return train, valid


def _fitted(
    run: Run,
    variant: Variant,
    batches: Batches,
    valid: Batches,
    threads: int,
    progress: Progress | None = None,
) -> tuple[VAE, History]:
    """The trained model, before any refit, and its history: of an equal training where there was one.

    progress: of the first rank, which writes both files; the others show nothing.
    """
    from sciencevae.training.history import History
    from sciencevae.training.loop import fit
    from sciencevae.training.parallel import joined
    from sciencevae.vae.files import load, save

    settings, domain = variant.settings, run.domain
    folder = variant.training
    trained, record = folder / "model.safetensors", folder / "history.json"
    training = settings.training.model_copy(update={"seed": settings.seed, "threads": threads})
    with joined(training.rank_seconds, training.device) as ranks:
        if ranks.told(trained.exists() and record.exists()):
            if progress:
                progress.say(f"trained already, in {folder.relative_to(run.folder)}")
            return load(trained), History(**read_json(record))
        _seed(settings.seed)
        model = domain.build(settings, variant.data)
        if progress and training.batch_size > len(batches):
            progress.say(f"a batch is all {len(batches)} rows, fewer than training.batch_size")
        training = training.for_rows(len(batches))
        steps = training.steps(len(batches))

        def show(epoch: int, step: int, parts: Mapping[str, float]) -> None:
            if progress:
                progress(step, steps, f"epoch {epoch} · {_terms(parts)}")

        history = fit(
            model,
            batches,
            objective=_objective(domain, settings, variant.data),
            valid=valid,
            settings=training,
            run=folder,
            progress=show,
        )
    if progress:
        save(model, trained, {"domain": domain.name})
        write_json(record, history.to_json())
        (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return model, history


def _objective(domain: Domain, settings: Any, data: xr.Dataset) -> Objective:
    from sciencevae.vae.objectives import ELBO

    return domain.objective(settings, data) if domain.objective else ELBO()


def _methods(domain: Domain, settings: Any, data: xr.Dataset, model: VAE) -> list[str]:
    """Keys of the papers that a training is after; the generator stays where it was."""
    import torch

    from sciencevae.methods import used

    with torch.random.fork_rng(devices=[]):
        return used(model, _objective(domain, settings, data))


def encode(run: Run, variant: Variant, threads: int = 1, dask: str | None = None) -> None:
    """All prepared samples through the encoder into ``latents.zarr``, block by block; dask: as ``prepare``'s."""
    from sciencevae.engine import engine

    with (
        _stage(run, "encode", variant.name, threads) as (progress, details),
        engine(dask, run.folder / ".dask"),
    ):
        from sciencevae.data.store import check
        from sciencevae.latents.encode import encode_store

        out = variant.folder / "latents.zarr"
        progress.say(f"encoding {variant.store.name}")
        model = variant.model()  # which is of this domain; workers read its file themselves
        check(variant.store)
        encode_store(variant.model_path if dask else model, variant.store, out, threads=threads)
        details["outputs"] = [str(out.relative_to(run.folder))]


def analyse(run: Run, threads: int = 1) -> None:
    """The domain's analyses over all variants: ``tables/*.csv`` and ``metrics.json``."""
    from sciencevae.data.atomic import atomic_path
    from sciencevae.data.store import check

    with _stage(run, "analyse", "", threads) as (progress, details):
        for variant in run.variants.values():
            if (latents := variant.folder / "latents.zarr").exists():
                check(latents)
        shutil.rmtree(run.tables, ignore_errors=True)
        run.tables.mkdir(parents=True)
        metrics: dict[str, Any] = {"training": {n: v.metrics for n, v in run.variants.items()}}
        details |= {"notes": {}, "tables": {}, "titles": {}}
        for done, (name, analysis) in enumerate(run.domain.analyses.items()):
            progress(done, len(run.domain.analyses), name)
            found = analysis(run)
            metrics[name] = _plain(found.metrics)
            details["notes"][name] = list(found.notes)
            details["tables"][name] = list(found.tables)
            details["titles"][name] = dict(found.titles)
            for table, frame in found.tables.items():
                path = run.tables / f"{table}.csv"
                if path.exists():
                    raise InputError(
                        f"two analyses of {run.domain.name!r} write a table {table!r}: rename one"
                    )
                with atomic_path(path) as partial:
                    frame.to_csv(partial, index=frame.index.name is not None)
        write_json(run.folder / "metrics.json", metrics, always=True)
        progress.say(f"{len(run.domain.analyses)} analyses in {run.tables.name}/ and metrics.json")
        details["outputs"] = ["metrics.json", "tables"]


def report(run: Run, threads: int = 1) -> None:
    """Figures and ``report.html``."""
    with _stage(run, "report", "", threads) as (progress, details):
        from sciencevae.report import write_report

        details["figures"] = write_report(run, progress)
        details["outputs"] = ["report.html", *details["figures"]]
    from sciencevae.provenance import run_record

    write_json(run.folder / "run.json", run_record(run), always=True)


def prepared_dataset(domain: Domain, dataset: str) -> xr.Dataset:
    """A data set prepared with its domain's default settings, kept in the cache."""
    from sciencevae.config import validate
    from sciencevae.data.store import open_store
    from sciencevae.paths import cache_folder

    settings = validate(domain.settings, {"dataset": dataset}, f"data set {dataset!r}")
    key = digest([domain.name, domain.code("prepare"), manifest_digest(dataset), settings.slice("prepare")])
    store = cache_folder() / "prepared" / f"{dataset}-{key}.zarr"
    if not store.exists():
        with hold(store.with_suffix(".lock"), f"preparing {dataset}", patience=600):
            if not store.exists():
                _write_store(_prepared(domain, settings, _files(settings), None), store, settings)
    return open_store(store)


@contextmanager
def _stage(run: Run, stage: str, name: str, threads: int) -> Iterator[tuple[Progress, Details]]:
    """Hold the locks, keep the time, and leave the stage's record when it went well."""
    belongs = inherited(run.folder)
    if belongs is None and in_workflow():  # and is no stage that somebody started by hand
        raise Interrupted("the run that started this stage has ended; the same command goes on from there")
    label = run.label(stage, name)
    progress = Progress()
    started, clock, used = datetime.now(UTC), time.monotonic(), time.process_time()
    details: Details = {"outputs": []}
    failure = run.folder / "logs" / f"{_path(stage, name)}.failure.json"
    from sciencevae.data.atomic import disk_errors
    from sciencevae.provenance import environment

    with disk_errors(failure):
        failure.unlink(missing_ok=True)

    if belongs:
        _end_with(run.folder, belongs)  # while it waits for a lock, too
    try:
        with (
            nullcontext() if belongs else run_lock(run.folder),
            _stopping(),
            # who else is at this stage belongs to a run that is no more, and is about to save and end
            hold(
                run.folder / ".locks" / _path(stage, name).replace("/", "-"),
                f"{label} of {run.folder}",
                _PATIENCE,
                ending=True,
            ),
        ):
            if belongs:
                progress.say(f"{BEGAN} {label} · {started:%Y-%m-%d %H:%M:%S} UTC · {socket.gethostname()}")
            yield progress, details
            seconds = time.monotonic() - clock
            record = {
                "stage": stage,
                "name": name,
                "started": started.isoformat(timespec="seconds"),
                "seconds": round(seconds, 3),
                "core_seconds": round(time.process_time() - used, 3),
                "host": socket.gethostname(),
                "threads": threads,
                "environment": environment(),
                **details,
            }
            write_json(run.record(stage, name), record, always=True)
            if belongs:
                progress.say(f"{DONE} {seconds:.1f} s")
    except BaseException as error:
        if belongs:
            _leave_failure(run, failure, label, _path(stage, name), error)
        raise
    finally:
        progress.close()


def _path(stage: str, name: str) -> str:
    return f"{stage}/{name}" if name else stage


def _leave_failure(run: Run, path: Path, label: str, log: str, error: BaseException) -> None:
    """What went wrong, for the ``sciencevae run`` that started this stage."""
    code = getattr(error, "exit_code", 130 if isinstance(error, KeyboardInterrupt) else 1)
    text = " ".join(str(error).split())
    if not hasattr(error, "exit_code"):
        text = f"{type(error).__name__}: {text}"
    found = {"label": label, "exit_code": code, "error": text, "log": f"logs/{log}.log", "time": time.time()}
    with suppress(Exception):  # a full disk, say: the log tells it too
        write_json(path, found, always=True)


@contextmanager
def _stopping() -> Iterator[None]:
    """SIGTERM ends a stage by Interrupted, so that nothing half-written is left; training does it better."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted("stopped by SIGTERM; the same command does it again")

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end_with(folder: Path, holder: dict[str, Any]) -> None:
    """Save and stop when the ``sciencevae run`` that started this stage is gone, or another has taken over.

    From another machine only the latter can be seen; there it is snakemake that cancels its jobs.
    """
    here = holder["host"] == socket.gethostname()

    def watch() -> None:
        while alive(holder["pid"], holder["host"]) and not replaced(folder, holder):
            time.sleep(0.5 if here else 2.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="watch-run", daemon=True).start()


def in_workflow() -> bool:
    """Whether this process was started by ``sciencevae run``."""
    return TOKEN in os.environ


def _described(files: Mapping[str, Path]) -> Details:
    """Where raw files lie, and what they are."""
    from sciencevae.provenance import content

    return {name: {"path": str(path), **content(path)} for name, path in files.items()}


def _files(settings: Any) -> dict[str, Path]:
    if not settings.dataset:
        return {}
    from sciencevae.data.fetch import fetch as fetch_files
    from sciencevae.data.manifest import load_manifest

    # of data that are fetched as they are, ``source`` is the domain's own, read by its ``prepare``
    made = load_manifest(settings.dataset).generated
    given = settings.source.model_dump(mode="json", exclude_none=True) if made else {}
    return fetch_files(settings.dataset, parameters=given or None)


def _prepared(domain: Domain, settings: Any, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """The domain's Dataset, with ``split`` added where the domain left it to us (``write`` adds the scaling)."""
    from sciencevae.data.splits import with_splits

    data = domain.prepare(settings, files, input)
    if "sample" not in data.dims:
        raise InputError(f"prepare of domain {domain.name!r} must give a Dataset with dimension 'sample'")
    data = with_splits(data, settings.prepare.fractions, settings.prepare.split_seed)
    data.attrs |= {"domain": domain.name, "dataset": settings.dataset}
    return data


def _write_store(data: xr.Dataset, path: Path, settings: Any) -> Details:
    from sciencevae.data.store import open_store, write

    path.parent.mkdir(parents=True, exist_ok=True)
    write(data, path, seed=settings.prepare.split_seed, shuffle=not data.attrs.get("ordered", False))
    stored = open_store(path)
    return {"rows": stored.sizes["sample"], "fingerprint": stored.attrs.get("fingerprint")}


def _terms(parts: Mapping[str, float]) -> str:
    return " · ".join(f"{name} {value:.4g}" for name, value in parts.items())


def _training_metrics(history: History) -> Details:
    """The last row's losses, and how the training ended."""
    last = history.rows[-1] if history.rows else {}
    return {
        "epochs": last.get("epoch"),
        "steps": history.steps,
        "seconds": round(history.seconds, 3),
        "stopped": history.stopped,
        "best_epoch": history.best_epoch,
        "compiled": history.compiled,
        **{name: value for name, value in last.items() if name.startswith(("train_", "valid_"))},
    }


def _prior_kept(refit: History) -> Details:
    """Which prior a model has after a refit, where it was compared with that of training."""
    first = refit.rows[0]
    if first["epoch"]:
        return {}
    kept = "the fitted one" if refit.best_epoch else "that of training"
    return {"valid_before": first["valid_loss"], "kept": kept}


def _seed(seed: int) -> None:
    """Initial weights come from torch's own generator."""
    import torch

    torch.manual_seed(seed)


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as JSON's own; NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if (isinstance(value, float) and value in (float("inf"), float("-inf"))) or value != value:
        return None
    return value


STAGES: Mapping[str, Callable[..., None]] = {
    "fetch": fetch,
    "prepare": prepare,
    "train": train,
    "encode": encode,
    "analyse": analyse,
    "report": report,
}
