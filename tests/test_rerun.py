"""``sciencevae rerun``: a run made again from its run.json, and what is told when it came out otherwise."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sciencevae import stages
from sciencevae.cli import main
from sciencevae.compare import compare
from sciencevae.config import load
from sciencevae.provenance import content
from sciencevae.registry import domain
from sciencevae.runs import Run, configure, read_json, write_json

Command = Callable[..., subprocess.CompletedProcess[str]]
SHORT = ("training.epochs=1", "variants={}")


def _carried_out(plan: Callable[[Path], Run], out: Path, *_: object) -> int:
    """The stages of the main variant, in this process: all that a workflow does, in a second."""
    run = plan(out)
    for stage in (stages.fetch, stages.prepare, stages.train, stages.encode):
        stage(run, run.main, 1)
    stages.analyse(run, 1)
    stages.report(run, 1)
    return 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the toy domain. Copy, don't change."""
    toy, folder = domain("toy"), tmp_path_factory.mktemp("made") / "run"
    _carried_out(lambda out: configure(out, toy, load(toy, overrides=SHORT)), folder)
    return folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reruns go through their stages in this process."""
    monkeypatch.setattr("sciencevae.workflow.carry_out", _carried_out)


def _changed(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    record = read_json(source / "run.json")
    change(record)
    write_json(target, record)
    return target


def test_a_run_comes_out_the_same_from_its_run_json_alone(
    made: Path, tmp_path: Path, sciencevae_command: Command
) -> None:
    shutil.copy(made / "run.json", tmp_path)
    done = sciencevae_command("rerun", "run.json", "--out", "again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "the same, bit for bit"
    assert re.search(r"^prepared data +1 of 1 equal$", done.stdout, re.MULTILINE)
    told = read_json(tmp_path / "again" / "rerun.json")
    assert told["same"]
    assert told["differences"] == []
    assert told["compared"]["weights"] == 1
    assert told["compared"]["metrics"] > 10
    before, after = (read_json(folder / "run.json") for folder in (made, tmp_path / "again"))
    assert before["weights"] == after["weights"]


def test_the_record_names_what_a_result_depends_on(made: Path) -> None:
    record = read_json(made / "run.json")
    assert record["metrics"] == read_json(made / "metrics.json")
    assert record["processor"]
    train = next(stage for stage in record["stages"] if stage["stage"] == "train")
    assert (train["device"], train["compiled"], train["threads"]) == ("cpu", False, 1)
    assert set(record["code"]) == {"prepare", "train", "refit", "analyse"}
    assert record["data"][record["variants"]["main"]["prepare"]]["rows"] == 240
    assert "h5netcdf" in record["versions"], "extras, where they are installed"


def test_a_stage_that_ran_elsewhere_says_so(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made, tmp_path / "run")
    state = folder / "state" / "train" / "main.json"
    record = read_json(state)
    record["environment"]["versions"]["torch"] = "1.0"
    write_json(state, record)
    stages.report(Run(folder))
    told = read_json(folder / "run.json")
    train = next(stage for stage in told["stages"] if stage["stage"] == "train")
    assert train["elsewhere"] == {"versions": {"torch": "1.0"}}
    assert ("elsewhere" in str(told["stages"])) is ("elsewhere" in str(train))
    found = compare(read_json(made / "run.json"), told, 1e-3)
    assert ("versions", "train/main") in {(c.kind, c.name) for c in found.circumstances}


@pytest.mark.usefixtures("here")
def test_another_seed_is_another_result(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def reseed(record: dict[str, Any]) -> None:
        record["settings"]["seed"] = 1

    folder = shutil.copytree(made, tmp_path / "run")
    _changed(made, folder / "run.json", reseed)
    assert main(["rerun", str(folder), "--out", str(tmp_path / "again")]) == 1
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1].startswith(
        "sciencevae: error: not the same: seeds main: 0 → 1 (all of it: "
    )
    assert re.search(r"^weights +main: at most \S+ of the largest apart \(\w+", shown.out, re.MULTILINE)
    told = read_json(tmp_path / "again" / "rerun.json")
    assert not told["same"]
    assert {"seeds", "weights", "metrics"} == {found["kind"] for found in told["differences"]}


@pytest.mark.usefixtures("here")
def test_metrics_that_were_tampered_with_are_named(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def flatter(record: dict[str, Any]) -> None:
        record["metrics"]["training"]["main"]["valid_loss"] *= 0.9

    source = _changed(made, tmp_path / "run.json", flatter)
    assert main(["rerun", str(source), "--out", str(tmp_path / "again")]) == 1
    assert "not the same: metrics training.main.valid_loss: " in capsys.readouterr().err

    folder = shutil.copytree(made, tmp_path / "run")
    metrics = read_json(folder / "metrics.json")
    metrics["training"]["main"]["valid_loss"] *= 0.9
    write_json(folder / "metrics.json", metrics)
    assert main(["rerun", str(folder), "--out", str(tmp_path / "third")]) == 2
    assert "metrics.json is not what run.json beside it recorded" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()


@pytest.mark.usefixtures("here")
def test_an_input_that_changed_is_refused_and_one_that_moved_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy, table = domain("toy"), tmp_path / "table.csv"
    table.write_text("a,b,c\n" + "".join(f"{i},{i % 7},{i % 3}\n" for i in range(60)))
    folder = tmp_path / "run"
    _carried_out(lambda out: configure(out, toy, load(toy, overrides=SHORT), table), folder)
    record = read_json(folder / "run.json")
    assert record["input"] == {"path": str(table), **content(table)}

    moved = table.rename(tmp_path / "moved.csv")
    again = ["rerun", str(folder), "--out", str(tmp_path / "again")]
    assert main(again) == 2
    assert "say where it lies now with --input" in capsys.readouterr().err
    table.write_text(moved.read_text().replace("59,", "60,"))
    assert main(again) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert record["input"]["sha256"] in shown
    assert not (tmp_path / "again").exists()
    assert main([*again, "--input", str(moved)]) == 0
    out = capsys.readouterr().out
    assert out.endswith("the same, bit for bit\n")
    assert re.search(r"^input +1 of 1 equal$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is damaged"),
        ("[]", "another version of sciencevae (format list, here 1)"),
        ('{"domain": "toy"}', "another version of sciencevae (format none, here 1)"),
        ('{"format": 99}', "another version of sciencevae (format 99, here 1): rerun it with the version"),
        ('{"format": 1, "domain": "toy"}', "is damaged: key 'settings' is missing"),
    ],
)
def test_a_record_that_cannot_be_followed_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    (tmp_path / "run.json").write_text(text)
    assert main(["rerun", str(tmp_path / "run.json"), "--out", str(tmp_path / "again")]) == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("variants", {"main": 3}, "is damaged: variants.main: "),
        ("data", {"0": {"rows": "many"}}, "is damaged: key 'data.0.fingerprint' is missing (and 1 more)"),
        ("stages", [{"stage": "train"}], "is damaged: key 'stages.0.name' is missing"),
        ("domain", "toyy", "unknown domain 'toyy'; did you mean 'toy'?"),
        ("settings", {"sede": 1}, "settings: unknown key 'sede'; did you mean 'seed'?"),
    ],
)
def test_what_is_not_known_here_is_named(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: object, says: str
) -> None:
    source = _changed(made, tmp_path / "run.json", lambda record: record.update({key: value}))
    assert main(["rerun", str(source), "--out", str(tmp_path / "again")]) == 2
    assert says in capsys.readouterr().err


def test_a_folder_is_not_overwritten(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rerun", str(made), "--out", str(made)]) == 2
    assert "is the run itself" in capsys.readouterr().err
    assert main(["rerun", str(tmp_path), "--out", str(made)]) == 2
    assert "give the folder of a finished run" in capsys.readouterr().err
    toy = domain("toy")
    other = configure(tmp_path / "other", toy, load(toy))
    assert main(["rerun", str(made), "--out", str(other.folder)]) == 2
    assert "holds another run" in capsys.readouterr().err


def test_what_the_same_means(made: Path) -> None:
    """Bit for bit under the same versions and threads; otherwise within a tolerance, and data never."""
    then = read_json(made / "run.json")
    then["commit"] = "0" * 40

    def later(**changes: Any) -> dict[str, Any]:
        return json.loads(json.dumps(then)) | changes

    assert compare(then, later(), 1e-3).verdict() == "the same, bit for bit"
    nearly = later()
    nearly["metrics"]["spread"]["spread"]["main"] *= 1 + 1e-4
    nearly["weights"]["main"] = "other"
    found = compare(then, nearly, 1e-3)
    assert not found.same
    assert found.verdict().startswith("not the same: weights main: ")

    nearly["versions"] = then["versions"] | {"torch": "0"}
    found = compare(then, nearly, 1e-3)
    assert found.verdict() == "the same within 0.001, in other circumstances"
    assert [str(c) for c in found.circumstances] == [f"version torch: {then['versions']['torch']} → 0"]
    assert compare(then, nearly, 1e-5).verdict().startswith("not the same: metrics spread.spread.main: ")

    seconds = later()
    seconds["metrics"]["training"]["main"]["seconds"] = 1e6
    assert compare(then, seconds, 0.0).exact
    assert not compare(then, later(seeds={"main": 5}, python="4"), 1.0).same
    lost = later(python="4")
    del lost["metrics"]["spread"]
    assert compare(then, lost, 1.0).beyond[0].now is None


def test_a_folder_counts_by_all_that_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    before = content(tmp_path)
    assert before["files"] == before["bytes"] == 2
    (tmp_path / "two").write_text("3")
    assert content(tmp_path)["sha256"] != before["sha256"]
    (tmp_path / "two").write_text("2")
    assert content(tmp_path) == before
    (tmp_path / "two").rename(tmp_path / "three")
    assert content(tmp_path)["sha256"] != before["sha256"]
