"""``sciencevae export``: a crate that states what is in it, and holds nobody else's data.

What the profiles demand is listed in https://w3id.org/ro/wfrun/workflow/0.5 and RO-Crate 1.1. The validator
roc-validator agrees; it cannot be installed beside the pinned versions, and fetches contexts from the network.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sciencevae import stages
from sciencevae.cli import main
from sciencevae.config import load
from sciencevae.crate import export
from sciencevae.crate_data import redistributable
from sciencevae.data.manifest import list_manifests, load_manifest
from sciencevae.errors import RunError
from sciencevae.registry import domain
from sciencevae.runs import Run, configure, read_json

Graph = dict[str, dict[str, Any]]
WORKFLOW = {"File", "SoftwareSourceCode", "ComputationalWorkflow"}


@pytest.fixture(scope="module")
def crate(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The crate of a whole run, as a folder."""
    folder = tmp_path_factory.mktemp("crates") / "crate"
    assert main(["export", str(toy_run), "-o", str(folder)]) == 0
    return folder


def _graph(metadata: str) -> Graph:
    return {entity["@id"]: entity for entity in json.loads(metadata)["@graph"]}


@pytest.fixture(scope="module")
def graph(crate: Path) -> Graph:
    return _graph((crate / "ro-crate-metadata.json").read_text())


def _types(entity: dict[str, Any]) -> set[str]:
    return {entity["@type"]} if isinstance(entity["@type"], str) else set(entity["@type"])


def _references(value: Any) -> list[str]:
    """Every identifier that a property refers to."""
    if isinstance(value, list):
        return [name for each in value for name in _references(each)]
    return [value["@id"]] if isinstance(value, dict) and set(value) == {"@id"} else []


def _actions(graph: Graph) -> dict[str, dict[str, Any]]:
    return {entity["name"]: entity for entity in graph.values() if "CreateAction" in _types(entity)}


def test_what_the_profiles_demand_is_there(graph: Graph) -> None:
    descriptor, root = graph["ro-crate-metadata.json"], graph["./"]
    assert descriptor["about"] == {"@id": "./"}
    assert "https://w3id.org/ro/crate/1.1" in _references(descriptor["conformsTo"])
    assert _types(root) == {"Dataset"}
    assert root["name"]
    assert root["description"]
    assert datetime.fromisoformat(root["datePublished"])
    assert graph[root["license"]["@id"]]["name"] == "not stated"
    claimed = _references(root["conformsTo"])
    assert [name.split("/")[-2] for name in claimed] == ["process", "workflow", "workflow-ro-crate"]
    workflow = graph[root["mainEntity"]["@id"]]
    assert _types(workflow) == WORKFLOW
    assert "ComputerLanguage" in _types(graph[workflow["programmingLanguage"]["@id"]])
    assert workflow["license"] == {"@id": "https://spdx.org/licenses/Apache-2.0"}
    named = {name for entity in graph.values() for value in entity.values() for name in _references(value)}
    assert {name for name in named - set(graph) if "://" not in name} == set()


def test_actions_say_what_ran_on_what_and_when(toy_run: Path, graph: Graph) -> None:
    actions = _actions(graph)
    record = read_json(toy_run / "run.json")
    assert len(actions) == len(record["stages"]) + 1
    assert set(_references(graph["./"]["mentions"])) == {action["@id"] for action in actions.values()}
    whole = actions["sciencevae run toy"]
    assert whole["instrument"] == graph["./"]["mainEntity"]
    for name, action in actions.items():
        tool = graph[action["instrument"]["@id"]]
        assert _types(tool) & {"SoftwareApplication", "ComputationalWorkflow"}
        began, ended = (datetime.fromisoformat(action[key]) for key in ("startTime", "endTime"))
        assert datetime.fromisoformat(whole["startTime"]) <= began <= ended
        assert ended <= datetime.fromisoformat(whole["endTime"]), name
        assert action["result"], name
    assert actions["sciencevae train/wide"]["result"] == [
        {"@id": "variants/wide/model.safetensors"},
        {"@id": "variants/wide/history.csv"},
    ]
    data = graph[actions["sciencevae train"]["object"]["@id"]]
    assert data["sha256"] in {prepared["fingerprint"] for prepared in record["data"].values()}
    versions = {e["name"]: e["softwareVersion"] for e in graph.values() if "softwareVersion" in e}
    assert versions == record["versions"] | {"python": record["python"]}
    assert not any(key in entity for entity in graph.values() for key in ("author", "agent", "creator"))


def test_every_file_is_named_and_what_it_is_said_to_be(crate: Path, graph: Graph) -> None:
    named = {name: entity for name, entity in graph.items() if "File" in _types(entity)}
    there = {path.relative_to(crate).as_posix() for path in crate.rglob("*") if path.is_file()}
    assert there == set(named) | {"ro-crate-metadata.json"}
    assert {"report.html", "run.json", "model.safetensors", "tables/spread.csv", "citations.bib"} <= there
    for name, entity in named.items():
        content = (crate / name).read_bytes()
        assert entity["contentSize"] == str(len(content)), name
        assert entity["sha256"] == hashlib.sha256(content).hexdigest(), name
        assert "/" in entity["encodingFormat"], name
    assert set(named) <= set(_references(graph["./"]["hasPart"]))
    parts = {
        path.relative_to(crate).as_posix() for path in (crate / "latents.zarr").rglob("*") if path.is_file()
    }
    assert set(_references(graph["latents.zarr/"]["hasPart"])) == parts
    assert not [name for name in there if name.startswith(("prepared/", "trained/", "state/", "logs/", "."))]


def test_a_zip_holds_the_same(toy_run: Path, crate: Path, graph: Graph, tmp_path: Path) -> None:
    out = tmp_path / "crate.zip"
    assert main(["export", str(toy_run), "-o", str(out), "--license", "CC-BY-4.0"]) == 0
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        zipped = _graph(archive.read("ro-crate-metadata.json").decode())
    files = {path.relative_to(crate).as_posix() for path in crate.rglob("*") if path.is_file()}
    assert names == files | {"latents.zarr/", "variants/wide/latents.zarr/"}
    assert zipped["./"]["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    stated = [{k: e.get("sha256") for k, e in g.items() if "File" in _types(e)} for g in (graph, zipped)]
    assert stated[0] == stated[1]


def test_a_crate_is_read_by_its_own_library(crate: Path) -> None:
    from rocrate.rocrate import ROCrate

    read = ROCrate(crate)
    assert read.mainEntity.id == "workflow/Snakefile"
    assert len(read.get_by_type("CreateAction")) == len(
        _actions(_graph((crate / "ro-crate-metadata.json").read_text()))
    )


def test_data_of_others_are_named_with_their_licence_and_never_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A set without a stated licence: latents, beside which its columns stand, are left out too."""
    raw = tmp_path / "gdb9.csv"
    raw.write_text("of others")
    monkeypatch.setattr(stages, "_files", lambda settings: {raw.name: raw})
    toy = domain("toy")
    settings = load(toy, overrides=["training.epochs=1", "variants={}", "dataset=qm9"])
    run = configure(tmp_path / "run", toy, settings)
    for stage in (stages.fetch, stages.prepare, stages.train, stages.encode):
        stage(run, run.main)
    stages.analyse(run)
    stages.report(run)
    assert main(["export", str(run.folder), "-o", str(tmp_path / "crate")]) == 0
    said = capsys.readouterr().out
    assert "left out latents.zarr: beside the latents it holds columns of qm9 (LicenseRef-unstated)" in said
    there = {path.name for path in (tmp_path / "crate").rglob("*")}
    assert not there & {"gdb9.csv", "latents.zarr", "prepared"}
    assert "model.safetensors" in there
    graph = _graph((tmp_path / "crate" / "ro-crate-metadata.json").read_text())
    assert "Left out: latents.zarr" in graph["./"]["description"]
    file = next(entity for entity in graph.values() if entity.get("name") == "gdb9.csv")
    assert file["sha256"] == hashlib.sha256(raw.read_bytes()).hexdigest()
    assert graph[file["license"]["@id"]]["name"] == "LicenseRef-unstated"
    assert "figshare" in graph[file["license"]["@id"]]["description"]
    dataset = graph[file["isPartOf"]["@id"]]
    assert dataset["citation"] == {"@id": "https://doi.org/10.1038/sdata.2014.22"}
    assert dataset["license"] == file["license"]
    assert file["@id"] in _references(_actions(graph)["sciencevae prepare"]["object"])


def test_which_data_may_be_passed_on() -> None:
    closed = {name for name in list_manifests() if not redistributable(load_manifest(name))}
    assert closed == {"cavity_piv", "esol", "qm9", "zinc250k"}


def test_what_cannot_be_exported_is_one_line(
    toy_run: Path, crate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(toy_run), "-o", str(crate)]) == 2
    assert "is there already: choose another -o" in capsys.readouterr().err
    assert main(["export", str(toy_run), "-o", str(tmp_path / "new"), "--license", "CC BY 4.0"]) == 2
    assert "'CC BY 4.0' names no licence" in capsys.readouterr().err
    toy = domain("toy")
    unfinished = configure(tmp_path / "run", toy, load(toy))
    assert main(["export", str(unfinished.folder), "-o", str(tmp_path / "crate")]) == 2
    assert "give the folder of a finished run" in capsys.readouterr().err
    assert not (tmp_path / "crate").exists()


def test_without_the_library_the_extra_is_named(
    toy_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    with pytest.raises(RunError, match=r"pip install 'sciencevae\[crate\]'"):
        export(Run(toy_run), tmp_path / "crate")
