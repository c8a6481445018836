"""Run folders: locks that end with their holder, files that are whole or absent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sciencevae import stages
from sciencevae.cli import main
from sciencevae.config import load
from sciencevae.data.manifest import load_manifest
from sciencevae.errors import InputError, RunError
from sciencevae.locks import TOKEN, alive, hold, holders, inherited, run_lock
from sciencevae.registry import Domain, domain
from sciencevae.runs import Run, configure, read_json, write_json
from sciencevae.stages import prepared_dataset
from sciencevae.vae.priors import GaussianMixture, StandardNormal


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return configure(tmp_path / "run", domain("toy"), load(domain("toy")))


def _child(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "ready"
    return child


HOLD = """
import sys, time
from pathlib import Path
from sciencevae.locks import run_lock
with run_lock(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_two_at_once_are_refused_and_told_who_it_is(tmp_path: Path) -> None:
    child = _child(HOLD, tmp_path)
    try:
        with (
            pytest.raises(RunError, match=rf"process {child.pid} on .* choose another --out") as caught,
            run_lock(tmp_path),
        ):
            pass
        assert caught.value.exit_code == 1
    finally:
        child.kill()
        child.wait()
    with run_lock(tmp_path):  # a killed holder holds nothing
        pass


def test_a_folder_that_cannot_be_written_is_named() -> None:
    with (
        pytest.raises(RunError, match=r"cannot write /proc/run: .*; choose a folder you may write to"),
        run_lock(Path("/proc/run")),
    ):
        pass


def test_a_lock_that_children_inherited_is_waited_for(tmp_path: Path) -> None:
    """The jobs of a run killed by -9 may still save: the next run waits for them, and not for ever."""
    code = """
import os, subprocess, sys, time
from pathlib import Path
from sciencevae.locks import run_lock
with run_lock(Path(sys.argv[1])) as (descriptor, _):
    subprocess.Popen(["sleep", sys.argv[2]], pass_fds=(descriptor,), stdout=subprocess.DEVNULL)
    print("ready", flush=True)
    os.kill(os.getpid(), 9)
"""
    _child(code, tmp_path, "1.5").wait()
    began = time.monotonic()
    with run_lock(tmp_path, patience=30):
        assert time.monotonic() - began > 0.5
    orphan = _child(code, tmp_path, "3")
    orphan.wait()
    with pytest.raises(RunError, match="is at work already"), run_lock(tmp_path, patience=0.5):
        pass


def test_a_stage_of_a_run_inherits_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_lock(tmp_path) as (_, token):
        assert inherited(tmp_path) is None
        monkeypatch.setenv(TOKEN, token)
        found = inherited(tmp_path)
        assert found is not None
        assert found["pid"] == os.getpid()
    assert inherited(tmp_path) is None  # the run is over


def test_holders_are_the_living(tmp_path: Path) -> None:
    with hold(tmp_path / ".locks" / "train-main", "train"):
        assert [holder["stage"] for holder in holders(tmp_path)] == ["train-main"]
    assert holders(tmp_path) == []


def test_alive_knows_its_own_machine() -> None:
    import socket

    assert alive(os.getpid(), socket.gethostname())
    assert alive(1, "elsewhere")
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert not alive(gone.pid, socket.gethostname())


def test_json_is_written_whole_and_only_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    assert write_json(path, {"a": 1})
    assert not write_json(path, {"a": 1})
    assert write_json(path, {"a": 1}, always=True)
    assert read_json(path) == {"a": 1}
    assert [found.name for found in path.parent.iterdir()] == ["file.json"]
    path.write_text("[1]")
    with pytest.raises(RunError, match="damaged"):
        read_json(path)


def test_variants_know_their_folders(run: Run) -> None:
    assert list(run.variants) == ["main", "wide", "turned"]
    assert run.main.folder == run.folder
    assert run.variant("wide").folder == run.folder / "variants" / "wide"
    with pytest.raises(InputError, match="no variant 'wid'; did you mean 'wide'"):
        run.variant("wid")


def test_what_is_not_there_yet_is_named_with_the_stage_that_makes_it(run: Run) -> None:
    with pytest.raises(RunError, match=r"sciencevae prepare .*/run$"):
        _ = run.main.data
    with pytest.raises(RunError, match=r"sciencevae train .*/run --variant wide"):
        run.variant("wide").model()
    with pytest.raises(RunError, match=r"sciencevae encode .*/run$"):
        _ = run.main.latents
    with pytest.raises(RunError, match="no table 'spread'"):
        run.table("spread")


def test_a_model_of_another_domain_is_refused(run: Run) -> None:
    import torch

    from sciencevae.networks import Perceptron
    from sciencevae.vae import decoders, encoders, priors
    from sciencevae.vae.files import save
    from sciencevae.vae.model import VAE

    torch.manual_seed(0)
    model = VAE(
        priors.StandardNormal(1),
        encoders.Gaussian(Perceptron(3, [4], 2), 1),
        decoders.Gaussian(Perceptron(1, [4], 3), scale="learned"),
    )
    save(model, run.main.model_path, {"domain": "xy"})
    with pytest.raises(InputError, match="is a model of domain 'xy', this run is of 'toy'"):
        run.main.model()
    save(model, run.main.model_path, {"domain": "toy"})
    assert run.main.model().dim == 1
    whole = run.main.model_path.read_bytes()
    run.main.model_path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="truncated"):
        run.main.model()
    run.main.model_path.write_bytes(b"\x80\x04N.")
    with pytest.raises(InputError, match="pickle"):
        run.main.model()


def test_a_lost_file_is_made_again(run: Run) -> None:
    """The record of a stage whose files are gone is dropped when the run is configured again."""
    store = run.folder / "prepared" / "x.zarr"
    store.mkdir(parents=True)
    write_json(run.record("prepare", "x"), {"stage": "prepare", "outputs": ["prepared/x.zarr"]})
    configure(run.folder, run.domain, run.settings)
    assert run.record("prepare", "x").exists()
    store.rmdir()
    configure(run.folder, run.domain, run.settings)
    assert not run.record("prepare", "x").exists()


@pytest.mark.parametrize("ordered", [True, False])
def test_series_say_that_they_stay_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ordered: bool
) -> None:
    monkeypatch.setenv("SCIENCEVAE_CACHE", str(tmp_path))
    toy = domain("toy")
    series = replace(toy, prepare=lambda *given: toy.prepare(*given).assign_attrs(ordered=ordered))
    number = prepared_dataset(series, "")["number"].values
    assert sorted(number) == list(range(240))
    assert (list(number) == sorted(number)) is ordered


def test_another_prior_is_refitted_to_the_training_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = domain("toy")
    short = ["training.epochs=1", "variants={mixed: {refit: {components: 3}}}"]
    run = configure(tmp_path / "run", toy, load(toy, overrides=short))
    stages.prepare(run, run.main)
    for variant in run.variants.values():
        stages.train(run, variant)
    assert len(list((run.folder / "trained").iterdir())) == 1
    assert "trained already" in capsys.readouterr().err
    plain, mixed = (variant.model() for variant in run.variants.values())
    assert isinstance(plain.prior, StandardNormal)
    assert isinstance(mixed.prior, GaussianMixture)
    encoders = [model.encoder.state_dict() for model in (plain, mixed)]
    assert all((encoders[0][name] == encoders[1][name]).all() for name in encoders[0])
    assert (run.variants["mixed"].history == run.main.history).all(axis=None)

    # a training that is lost is done again, and comes out the same
    (run.main.training / "model.safetensors").unlink()
    stages.train(run, run.variants["mixed"])
    again = run.variants["mixed"].model().state_dict()
    assert all((again[name] == value).all() for name, value in mixed.state_dict().items())

    # as it would be by itself
    alone = configure(
        tmp_path / "alone", toy, load(toy, overrides=["training.epochs=1", "refit.components=3"])
    )
    stages.prepare(alone, alone.main)
    stages.train(alone, alone.main)
    again = alone.main.model().state_dict()
    assert all((again[name] == value).all() for name, value in mixed.state_dict().items())


def test_a_run_that_other_code_opens_still_has_its_data(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stages.prepare(run, run.main)
    monkeypatch.setattr(Domain, "code", lambda self, stage: "other")
    again = Run(run.folder)
    assert again.main.data.sizes["sample"] == 240
    assert configure(run.folder, again.domain, again.settings).main.key != run.main.key


def test_a_folder_configured_halfway_says_so(run: Run) -> None:
    (run.folder / "config" / "workflow.json").unlink()
    with pytest.raises(RunError, match="was not configured to the end"):
        stages.prepare(Run(run.folder), Run(run.folder).main)


SEEDS = "variants={" + ", ".join(f"seed{i}: {{seed: {i}}}" for i in range(1, 60)) + "}"
KILLED = """
import os, sys
from sciencevae.cli import main
left, rename = int(sys.argv[1]), os.replace
def replace(*names):
    global left
    left -= 1
    if left < 0: os.kill(os.getpid(), 9)
    rename(*names)
os.replace = replace
main(sys.argv[2:])
"""


def _files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("after", [0, 1, 70, 124])  # 125 files are renamed in all
def test_a_folder_configured_halfway_by_a_kill_is_mended_by_the_same_command(
    tmp_path: Path, after: int
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    asked = ["configure", "toy", "--set", SEEDS, "--out"]
    assert main([*asked, str(whole)]) == 0
    done = subprocess.run([sys.executable, "-c", KILLED, str(after), *asked, str(killed)])
    assert done.returncode == -9
    written = {p: p.stat().st_mtime_ns for p in (killed / "config").rglob("*.json") if p.name[0] != "."}
    assert len(written) == after
    for path in written:
        if path.parent.name == "seed1":
            path.write_text("")  # as after a power cut
    assert main([*asked, str(killed)]) == 0
    assert _files(killed / "config") == _files(whole / "config")
    assert all(p.stat().st_mtime_ns == t for p, t in written.items() if p.parent.name != "seed1")


def test_what_variants_share_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    monkeypatch.setattr(
        "sciencevae.data.manifest.load_manifest", lambda name: read.append(name) or load_manifest(name)
    )
    made = configure(tmp_path / "run", domain("xy"), load(domain("xy"), overrides=[SEEDS]))
    assert len(made.variants) == 60
    assert len(read) <= 2


def test_what_analyses_read_beside_is_fetched_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCIENCEVAE_OFFLINE", "1")
    monkeypatch.setenv("SCIENCEVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SCIENCEVAE_MIRROR", str(tmp_path))
    monkeypatch.setattr(stages, "_files", lambda settings: {})
    run = configure(tmp_path / "run", domain("toy"), load(domain("toy"), overrides=["dataset=xy"]))
    run.domain = replace(run.domain, beside=lambda settings: ("chemnet",))
    stages.fetch(run, run.main)
    assert "without chemnet, which an analysis reads: offline?" in capsys.readouterr().err
    assert run.records(), "the stage went well all the same"
