"""``sciencevae export``: a finished run as a Workflow Run RO-Crate, which archives and other people's tools read.

Results, the workflow and its settings are copied; raw and prepared data are named by hash, size, licence and where
they come from, never copied. What a run does not know, as its author, is not said.

Reference: Workflow Run Crate 0.5, https://w3id.org/ro/wfrun/workflow/0.5, on RO-Crate 1.1.
"""

from __future__ import annotations

import hashlib
import mimetypes
import uuid
import zipfile
from collections.abc import Mapping
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciencevae.crate_data import DataEntities, entity
from sciencevae.data.atomic import atomic_path
from sciencevae.errors import InputError, RunError
from sciencevae.paths import workflows_folder
from sciencevae.provenance import citations, file_hash
from sciencevae.rerun import read_record
from sciencevae.runs import Run, read_json

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

__all__ = ["export"]

#: parts of a run folder that are no results: how it was made, and data of others
_INNER = frozenset({"config", "state", "logs", "prepared", "trained", "rerun.json"})
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
_CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
_FORMATS = {
    ".parquet": "application/vnd.apache.parquet",
    ".safetensors": "application/octet-stream",
    ".h5": "application/x-hdf5",
    ".nc": "application/netcdf",
    ".smi": "chemical/x-daylight-smiles",
    ".bib": "application/x-bibtex",
}
_ABOUT = {
    "report.html": "The report: figures, tables, citations and provenance",
    "run.json": "What the run was made from and with: 'sciencevae rerun' follows it",
    "metrics.json": "What training and the analyses measured",
    "model.safetensors": "The trained model: weights, and in the header all that rebuilds it",
    "history.csv": "The losses of training, by epoch",
    "latents.zarr": "Latents of every sample, with what identifies it, for xarray",
}


def export(run: Run, out: Path, licence: str | None = None) -> list[str]:
    """Write the crate of a finished run to a new folder or a ``.zip``; gives what was left out, and why.

    licence: of the results, as their maker states it: an SPDX identifier or a URL; not stated where it is not given

    Raises InputError when the run is not finished or ``out`` is there already, RunError without the library
    ``rocrate``.
    """
    try:
        from rocrate.rocrate import ROCrate
    except ImportError as error:
        raise RunError("export needs the package rocrate: pip install 'sciencevae[crate]'") from error
    if out.exists():
        raise InputError(f"{out} is there already: choose another -o")
    record = read_record(run.folder)
    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append(_CONTEXT)
    builder = _Builder(run, record, crate)
    builder.build(licence)
    with atomic_path(out) as temporary:
        if out.suffix == ".zip":
            crate.write_zip(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:  # rocrate leaves folders out, which it names
                for name in builder.stores:
                    archive.mkdir(f"{name}/")
        else:
            crate.write(temporary)
    return builder.left_out


class _Builder:
    """The entities of one crate, in the order in which they refer to each other."""

    def __init__(self, run: Run, record: dict[str, Any], crate: ROCrate) -> None:
        self.run, self.record, self.crate = run, record, crate
        self.data = DataEntities(run, record, crate)
        self.left_out: list[str] = []
        self.files: dict[str, Entity] = {}

    def build(self, licence: str | None) -> None:
        about, root = self.run.domain.of(self.run), self.crate.root_dataset
        root["name"] = f"{about.title}: a run of sciencevae"
        root["description"] = about.summary
        root["license"] = self.data.licence_of_results(licence)
        profiles = {
            url: entity(self.crate, url, type="CreativeWork", name=name, version=version)
            for url, (name, version) in _PROFILES.items()
        }
        self._results()
        workflow = self._workflow()
        root["conformsTo"] = list(profiles.values())
        engine = self._engine()
        raw, prepared = self.data.raw(), self.data.prepared()
        actions = [self._stage(stage, engine, raw, prepared) for stage in self.record["stages"]]
        begun = min(action["startTime"] for action in actions)
        whole = self.crate.add_action(
            workflow,
            identifier=f"#{uuid.uuid4()}",
            object=[self.files["config/run.json"], *raw.values()],
            result=[file for name, file in self.files.items() if name != "config/run.json"],
            properties={
                "name": f"sciencevae run {self.record['domain']}",
                "description": f"{len(actions)} stages, which took {self.record['seconds']:.0f} s together",
                "startTime": begun,
                "endTime": max(action["endTime"] for action in actions),
                "actionStatus": "http://schema.org/CompletedActionStatus",
            },
        )
        root["mentions"] = [whole, *actions]

    @property
    def stores(self) -> list[str]:
        """The Zarr stores in the crate."""
        return [name for name in self.files if name.endswith(".zarr")]

    # ---- files

    def _results(self) -> None:
        """All that lies in the run folder but for what is no result, and latents that would pass on data."""
        closed = self.data.closed
        for path in sorted(self.run.folder.rglob("*")):
            name = path.relative_to(self.run.folder)
            hidden = any(part.startswith(".") for part in name.parts)
            if hidden or name.parts[0] in _INNER or not path.is_file():
                continue
            store = next((p for p in [name, *name.parents] if p.suffix == ".zarr"), None)
            if store is None:
                self._file(path, name.as_posix(), _ABOUT.get(name.name, ""))
            elif closed and store.name == "latents.zarr":
                if store.as_posix() not in {line.split(":")[0] for line in self.left_out}:
                    self.left_out.append(
                        f"{store.as_posix()}: beside the latents it holds columns of {closed}"
                    )
            else:
                self._part(path, name.as_posix(), store.as_posix())
        text = "".join(f"% {what}\n{bibtex}\n\n" for what, bibtex in citations(self.run))
        self.files["citations.bib"] = self.crate.add_file(
            StringIO(text),
            dest_path="citations.bib",
            properties={
                "description": "What to cite: data, methods and software",
                "encodingFormat": _FORMATS[".bib"],
                "contentSize": str(len(text.encode())),
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
            },
        )
        self._file(self.run.folder / "config" / "run.json", "config/run.json", "The settings of the run")
        if self.left_out:
            self.crate.root_dataset["description"] += f" Left out: {'; '.join(self.left_out)}."

    def _file(self, path: Path, name: str, description: str) -> Entity:
        suffix = path.suffix.lower()
        kind = _FORMATS.get(suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        properties = {
            "name": path.name,
            "encodingFormat": kind,
            "contentSize": str(path.stat().st_size),
            "sha256": file_hash(path),
        }
        if description:
            properties["description"] = description
        self.files[name] = self.crate.add_file(path, dest_path=name, properties=properties)
        return self.files[name]

    def _part(self, path: Path, name: str, store: str) -> None:
        """A file of a Zarr store; the store is what the actions name."""
        if store not in self.files:
            properties = {"name": Path(store).name, "hasPart": []}
            if about := _ABOUT.get(Path(store).name):
                properties["description"] = about
            self.files[store] = self.crate.add_dataset(dest_path=store, properties=properties)
        part = self._file(path, name, "")
        del self.files[name]
        self.files[store].append_to("hasPart", part)

    # ---- the workflow and what it ran on

    def _workflow(self) -> Entity:
        folder = workflows_folder()
        licence = self.data.licence("Apache-2.0")
        workflow = self.crate.add_workflow(
            folder / "Snakefile",
            "workflow/Snakefile",
            main=True,
            lang="snakemake",
            lang_version=self.record["versions"].get("snakemake"),
            properties={
                "name": "sciencevae: fetch → prepare → train → encode → analyse → report",
                "license": licence,
                "version": self.record["versions"]["sciencevae"],
                "contentSize": str((folder / "Snakefile").stat().st_size),
                "sha256": file_hash(folder / "Snakefile"),
            },
        )
        rules = [(path, f"workflow/rules/{path.name}") for path in sorted((folder / "rules").glob("*.smk"))]
        if own := read_json(self.run.folder / "config" / "workflow.json").get("rules"):
            rules.append((Path(own), "workflow/rules/of the domain.smk"))
        parts = [self._file(path, name, "") for path, name in rules]
        for part, (_, name) in zip(parts, rules, strict=True):
            part["encodingFormat"] = "text/plain"
            del self.files[name]
        workflow["hasPart"] = parts
        workflow["encodingFormat"] = "text/plain"
        return workflow

    def _engine(self) -> Entity:
        """sciencevae itself, and the packages it ran with."""
        record = self.record
        versions = {"python": record["python"], **record["versions"]}
        packages = [
            entity(
                self.crate, f"#package-{name}", type="SoftwareApplication", name=name, softwareVersion=version
            )
            for name, version in versions.items()
            if name != "sciencevae"
        ]
        told = {"softwareVersion": versions["sciencevae"], "softwareRequirements": packages}
        if record.get("commit"):
            told["identifier"] = f"commit {record['commit']}"
        return entity(self.crate, "#sciencevae", type="SoftwareApplication", name="sciencevae", **told)

    def _stage(
        self,
        stage: Mapping[str, Any],
        engine: Entity,
        raw: Mapping[tuple[str, str], Entity],
        prepared: Mapping[str, Entity],
    ) -> Entity:
        """One stage as an action, from what it was made and what it made, so far as that is told."""
        kind, name = stage["stage"], stage["name"]
        began = datetime.fromisoformat(stage["started"])
        ended = began + timedelta(seconds=stage["seconds"])
        label = self.run.label(kind, name)
        action: Entity = self.crate.add_action(
            engine,
            identifier=f"#{uuid.uuid4()}",
            properties={
                "name": f"sciencevae {label}",
                "description": f"threads: {stage['threads']}; host: {stage['host']}",
                "startTime": began.isoformat(),
                "endTime": ended.isoformat(timespec="seconds"),
                "actionStatus": "http://schema.org/CompletedActionStatus",
            },
        )
        given, made = self._given_and_made(kind, name, raw, prepared)
        for key, entities in (("object", given), ("result", made)):
            if entities:
                action[key] = entities if len(entities) > 1 else entities[0]
        return action

    def _given_and_made(
        self, kind: str, name: str, raw: Mapping[tuple[str, str], Entity], prepared: Mapping[str, Entity]
    ) -> tuple[list[Entity], list[Entity]]:
        if kind in ("fetch", "simulate"):
            return [], [file for (key, _), file in raw.items() if key == name]
        if kind == "prepare":
            keys = {k["fetch"] for k in self.record["variants"].values() if k["prepare"] == name} | {"input"}
            return [file for (key, _), file in raw.items() if key in keys], [prepared[name]]
        if kind in ("train", "encode"):
            folder = self.run.variants[name].folder.relative_to(self.run.folder)
            model, history, latents = (
                self.files.get((folder / file).as_posix())
                for file in ("model.safetensors", "history.csv", "latents.zarr")
            )
            data = prepared[self.record["variants"][name]["prepare"]]
            made = [model, history] if kind == "train" else [latents]
            given = [data] if kind == "train" else [data, model]
            return [e for e in given if e is not None], [e for e in made if e is not None]
        within = ("metrics.json", "tables/") if kind == "analyse" else ("report.html", "figures/")
        of = ("latents.zarr", "model.safetensors") if kind == "analyse" else ("metrics.json", "tables/")
        return (
            [file for path, file in self.files.items() if path.endswith(of) or path.startswith(of)],
            [file for path, file in self.files.items() if path.startswith(within)],
        )
