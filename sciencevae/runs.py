"""A run folder: its settings, its variants, and what each stage has left in it.

DIR/config/run.json                       everything: domain, settings, input
DIR/config/<variant>/{train,encode}.json  what one stage depends on, rewritten only when it changes
DIR/config/{analyse,report}.json          the same for the stages that see all variants
DIR/config/{fetch,prepare}/<key>.json     the same for data, named by content: variants share them
DIR/prepared/<key>.zarr                   prepared data
DIR/trained/<key>/                        a training and its checkpoint, before a refit: variants share it
DIR/{model.safetensors, latents.zarr, history.csv}   of ``main``; of others in DIR/variants/<name>/
DIR/state/…                               one record for each stage done: when, where, how long
DIR/{metrics.json, tables/, figures/, report.html, run.json, logs/}
DIR/rerun.json                            of a run made again: how it compares
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciencevae.config import RunSettings, digest, validate
from sciencevae.errors import InputError, RunError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from sciencevae.registry import Domain
    from sciencevae.vae.model import VAE

__all__ = [
    "Run",
    "Variant",
    "check_folder",
    "configure",
    "manifest_digest",
    "prune",
    "read_json",
    "settle_dates",
    "write_json",
]

FORMAT = 2
#: stages whose records are named by a key of their content, because variants share them
DATA_STAGES = ("fetch", "simulate", "prepare")


class Variant:
    """One training of a run: its settings, and lazily its data, model, latents and history.

    name:     ``main`` or the name in ``variants``
    settings: the resolved settings of this variant (the domain's RunSettings subclass)
    folder:   where its model, latents and history lie
    """

    def __init__(self, run: Run, name: str) -> None:
        self.run, self.name = run, name
        self.folder = run.folder if name == "main" else run.folder / "variants" / name

    def __repr__(self) -> str:
        return f"<Variant {self.name} of {self.run.folder}>"

    @cached_property
    def settings(self) -> Any:
        """Resolved when asked for: a stage of one variant among thousands has no need of the others'."""
        return self.run.settings.variant(self.name)

    @property
    def key(self) -> str:
        """The name of this variant's prepared data: equal settings, equal data.

        As configured: a run that other code or another version opens still has the data it was made with.
        """
        return str(self.run.plan[self.name]["prepare"])

    @property
    def fetches(self) -> bool:
        """Whether its data set is needed: an input takes its place, unless the domain prepares it beside that."""
        return bool(self.settings.dataset) and (self.run.input is None or self.run.domain.keeps_data)

    @property
    def source(self) -> str:
        """``simulate`` where the raw files are made by our own code, otherwise ``fetch``."""
        return "simulate" if self.run.manifest(self.settings.dataset).generated else "fetch"

    @property
    def store(self) -> Path:
        """The prepared Zarr store."""
        return self.run.folder / "prepared" / f"{self.key}.zarr"

    @property
    def training(self) -> Path:
        """Where the training lies: equal settings, one training, whatever is refitted after it.

        Named by content, so that a change of the settings and its revocation find the checkpoint again.
        """
        return self.run.folder / "trained" / str(self.run.plan[self.name]["trained"])

    @cached_property
    def data(self) -> xr.Dataset:
        """The prepared data, lazily: physical units, with ``split`` and what identifies each sample."""
        from sciencevae.data.store import open_store

        return open_store(_existing(self.store, "prepare", self))

    @cached_property
    def latents(self) -> xr.Dataset:
        """``z`` and ``z_std`` (sample, latent) of every sample, with its coordinates, lazily."""
        from sciencevae.data.store import open_store

        return open_store(_existing(self.folder / "latents.zarr", "encode", self))

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row for each epoch: the terms of the loss on train and valid."""
        import pandas as pd

        return pd.read_csv(_existing(self.folder / "history.csv", "train", self))

    @property
    def model_path(self) -> Path:
        return self.folder / "model.safetensors"

    def model(self) -> VAE:
        """The trained model, in evaluation mode."""
        from sciencevae.vae.files import load, load_metadata

        path = _existing(self.model_path, "train", self)
        trained_for = load_metadata(path).get("domain", self.run.domain.name)
        if trained_for != self.run.domain.name:
            raise InputError(
                f"{path} is a model of domain {trained_for!r}, this run is of {self.run.domain.name!r}: "
                "remove it, or choose another run folder"
            )
        self.run.domain.load_networks()
        return load(path).eval()

    @property
    def metrics(self) -> dict[str, Any]:
        """What training said of the model: KL and active units a dimension, collapse, final losses."""
        return read_json(self.run.record("train", self.name)).get("metrics", {})


class Run:
    """A run folder opened.

    domain, settings, input (the user's own file or None), variants {name: Variant} with ``main`` first.
    Raises InputError when the folder is not a run's.

    >>> Run("runs/xy").variants["main"].latents.z.shape     # doctest: +SKIP
    (24000, 8)
    """

    def __init__(self, folder: str | Path) -> None:
        from sciencevae.data.manifest import load_manifest
        from sciencevae.registry import domain

        self.folder = Path(folder).resolve()
        path = self.folder / "config" / "run.json"
        if not path.is_file():
            raise InputError(
                f"{folder} is not a run folder; make one with 'sciencevae configure DOMAIN --out {folder}'"
            )
        plain = read_json(path)
        if plain.get("format") != FORMAT:
            raise InputError(f"{path} was written by another version of sciencevae: choose another folder")
        self.domain: Domain = domain(plain["domain"])
        # read once a run, whatever the number of its variants
        self.manifest = cache(load_manifest)
        self._manifest_digest = cache(manifest_digest)
        self._code = cache(self.domain.code)
        self.settings: Any = validate(self.domain.settings, plain["settings"], str(path))
        self.input = Path(plain["input"]) if plain["input"] else None
        self.variants: dict[str, Variant] = {
            name: Variant(self, name) for name in self.settings.variant_names()
        }

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What each variant starts from, by keys of content, as the folder was configured."""
        found: dict[str, Any] = read_json(self.folder / "config" / "workflow.json").get("variants", {})
        if missing := [name for name in self.variants if name not in found]:
            raise RunError(
                f"{self.folder} was not configured to the end ({missing[0]} is missing): do that again, with "
                f"'sciencevae configure {self.domain.name} --out {self.folder}' and its options"
            )
        return found

    @property
    def main(self) -> Variant:
        return self.variants["main"]

    def variant(self, name: str) -> Variant:
        """The variant called ``name``; InputError with the nearest name."""
        from sciencevae.errors import did_you_mean

        if name not in self.variants:
            raise InputError(f"{self.folder} has no variant {name!r}{did_you_mean(name, self.variants)}")
        return self.variants[name]

    @property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``: what the analyses found, by analysis, and ``training`` by variant."""
        path = self.folder / "metrics.json"
        return read_json(path) if path.is_file() else {}

    @property
    def tables(self) -> Path:
        """The folder of the analyses' tables; ``table`` reads one."""
        return self.folder / "tables"

    def table(self, name: str) -> pd.DataFrame:
        """A table that an analysis wrote, by its name."""
        import pandas as pd

        from sciencevae.errors import did_you_mean

        path = self.tables / f"{name}.csv"
        if not path.is_file():
            known = [found.stem for found in self.tables.glob("*.csv")]
            hint = did_you_mean(name, known) if known else f": sciencevae analyse {self.folder}"
            raise RunError(f"no table {name!r} in {self.tables}{hint}")
        return pd.read_csv(path)

    def record(self, stage: str, name: str = "") -> Path:
        """The record of a stage done; ``name`` is a variant, or the key of its data."""
        return self.folder / "state" / (f"{stage}/{name}.json" if name else f"{stage}.json")

    def records(self) -> Iterator[dict[str, Any]]:
        """The records of all stages done in this folder."""
        for path in sorted((self.folder / "state").rglob("*.json")):
            yield read_json(path)

    def label(self, stage: str, name: str = "") -> str:
        """How a stage is called in messages: ``train``, ``train/energy``; data by a variant that uses them."""
        if stage in DATA_STAGES:
            part = "prepare" if stage == "prepare" else "fetch"
            name = next((variant for variant, keys in self.plan.items() if keys[part] == name), name)
        return f"{stage}/{name}" if name and name != "main" else stage

    def fetch_slice(self, variant: Variant) -> dict[str, Any]:
        """What the raw files depend on."""
        return {"manifest": self._manifest_digest(variant.settings.dataset)} | variant.settings.slice("fetch")

    def prepare_slice(self, variant: Variant) -> dict[str, Any]:
        """What the prepared data depend on."""
        chosen = {
            "domain": self.domain.name,
            "code": self._code("prepare"),
            **variant.settings.slice("prepare"),
        }
        if variant.fetches or self.input is None:
            chosen |= {"manifest": self._manifest_digest(variant.settings.dataset)}
        return chosen | self._input_slice

    @cached_property
    def _input_slice(self) -> dict[str, Any]:
        """What a user's input is known by: its size and date, and those of the files that it names."""
        if self.input is None:
            return {}
        try:
            found = {"input": _dated(self.input)}
        except OSError as error:
            raise InputError(f"cannot read the input {self.input}: {error.strerror}") from error
        if self.domain.input_files is None:
            return found
        named: list[list[Any]] = []
        for path in self.domain.input_files(self.input):
            try:
                named.append(_dated(path))
            except OSError:  # what is missing is said by what reads it
                named.append([str(path)])
        return found | {"named": digest(named)}

    def train_slice(self, variant: Variant, data: str) -> dict[str, Any]:
        """What a training on the prepared data of that key depends on; ``refit`` comes after it."""
        chosen = {"data": data, "domain": self.domain.name, "code": self._code("train")}
        return chosen | variant.settings.slice("train")

    def refit_slice(self, variant: Variant) -> dict[str, Any]:
        """What a refit of a training depends on, beside the training."""
        return {"refit_code": self._code("refit")} | variant.settings.slice("refit")


def _dated(path: Path) -> list[Any]:
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]


def check_folder(folder: Path, domain: Domain) -> None:
    """InputError when ``folder`` holds a run of another domain, or something that is no run."""
    path = folder / "config" / "run.json"
    if path.is_file():
        found = read_json(path).get("domain")
        if found != domain.name:
            raise InputError(
                f"{folder} holds a run of domain {found!r}: choose another --out for {domain.name!r}"
            )
    elif folder.exists() and not (folder.is_dir() and _just_begun(folder)):
        raise InputError(f"{folder} exists and is no run folder: choose another --out")


def _just_begun(folder: Path) -> bool:
    """Whether nothing lies in a folder, or what ``configure`` leaves when it is killed before its first file."""
    ours = (folder / ".lock", folder / "config")
    return all(path in ours or path.name.startswith(".tmp-") for path in folder.rglob("*"))


def configure(
    folder: str | Path, domain: Domain, settings: RunSettings, input: str | Path | None = None
) -> Run:
    """Write the settings of a run into its folder, touching only the files whose content changes.

    Raises InputError as ``check_folder`` does.
    """
    folder = Path(folder)
    check_folder(folder, domain)
    path = folder / "config" / "run.json"
    settle_dates(folder)
    source = None
    if input is not None:
        source = str(Path(input).expanduser().resolve())
    plain = {"format": FORMAT, "domain": domain.name, "input": source, "settings": settings.dump()}
    write_json(path, plain)
    run = Run(folder)
    rules = domain.folder / "rules.smk"
    plan: dict[str, Any] = {"rules": str(rules) if rules.is_file() else None, "variants": {}}
    parts: dict[str, Any] = {}
    for variant in run.variants.values():
        prepare = run.prepare_slice(variant)
        key = digest(prepare)
        training = run.train_slice(variant, key)
        fetched = run.fetch_slice(variant) if variant.fetches else None
        fetch = digest(fetched) if fetched else None
        plan["variants"][variant.name] = {
            "source": variant.source if fetched else None,
            "fetch": fetch,
            "prepare": key,
            "trained": digest(training),
            "threads": variant.settings.training.threads or 1,
            "ranks": variant.settings.training.ranks,
        }
        if fetched:
            parts[f"fetch/{fetch}"] = fetched
        parts[f"prepare/{key}"] = {"fetch": fetch, **prepare}
        parts[f"{variant.name}/train"] = training | run.refit_slice(variant)
        parts[f"{variant.name}/encode"] = variant.settings.slice("encode")
    for stage in ("analyse", "report"):
        parts[stage] = {"variants": list(run.variants), "code": domain.code(stage), **settings.slice(stage)}
    for name, part in parts.items():
        # not waited for: one that a power cut empties is written again, because its content differs
        write_json(folder / "config" / f"{name}.json", part, sync=False)
    write_json(folder / "config" / "workflow.json", plan)
    _forget_lost(run)
    return run


def settle_dates(folder: Path) -> int:
    """Date settings and records that lie in the future now, in their order; gives how many there were.

    snakemake goes by dates, and a clock that was ahead may have been set right: then what is changed now would be
    older than the record that it changes. Now is what the file system says, which dated the others.
    """
    written = [path for part in ("config", "state") for path in (folder / part).rglob("*.json")]
    if not written:
        return 0
    from sciencevae.data.atomic import disk_errors

    with disk_errors(folder / "config"), tempfile.TemporaryFile(dir=folder) as file:
        now = os.fstat(file.fileno()).st_mtime_ns
    ahead = sorted((date, path) for path in written if (date := path.stat().st_mtime_ns) > now)
    for place, (_, path) in enumerate(ahead, start=-len(ahead)):
        os.utime(path, ns=(now + 1000 * place,) * 2)
    return len(ahead)


def _forget_lost(run: Run) -> None:
    """Drop the record of a stage whose files are gone, so that the workflow makes them again."""
    for path in (run.folder / "state").rglob("*.json"):
        missing = [name for name in read_json(path).get("outputs", []) if not (run.folder / name).exists()]
        if missing:
            path.unlink()


def prune(run: Run) -> None:
    """Remove prepared data and trainings that the settings no longer name."""
    trainings = {variant.training for variant in run.variants.values()}
    for folder in (run.folder / "trained").glob("*"):
        if folder not in trainings:
            shutil.rmtree(folder)
    keys = {variant.key for variant in run.variants.values()}
    for store in (run.folder / "prepared").glob("*.zarr"):
        if store.stem not in keys:
            shutil.rmtree(store)
            run.record("prepare", store.stem).unlink(missing_ok=True)
            (run.folder / "config" / "prepare" / f"{store.stem}.json").unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; RunError when it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}): remove it and run again") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} is damaged (not an object): remove it and run again")
    return found


def write_json(path: Path, value: Any, always: bool = False, sync: bool = True) -> bool:
    """Write a JSON file whole or not at all, and only when its content changes (or ``always``).

    sync: as ``atomic_path``'s
    """
    from sciencevae.data.atomic import atomic_path

    text = json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"
    if not always and path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    with atomic_path(path, sync=sync) as partial:
        partial.write_text(text, encoding="utf-8")
    return True


def manifest_digest(name: str) -> str:
    """Changes when the data set's manifest does."""
    if not name:
        return ""
    from sciencevae.data.manifest import load_manifest

    return digest(load_manifest(name).model_dump(mode="json"))


def _existing(path: Path, stage: str, variant: Variant) -> Path:
    if path.exists():
        return path
    which = "" if variant.name == "main" else f" --variant {variant.name}"
    raise RunError(f"{path} is not there yet: sciencevae {stage} {variant.run.folder}{which}")
