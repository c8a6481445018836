"""``sciencevae run`` from end to end on a toy domain: reruns, kills, signals, failures, two at once."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_for

from sciencevae.cli import main
from sciencevae.errors import RunError
from sciencevae.runs import Run, read_json, settle_dates, write_json
from sciencevae.watch import Watch
from sciencevae.workflow import _explain, _failures, find_profile

Command = Callable[..., subprocess.CompletedProcess[str]]
WIDE = ("--set", "variants={wide: {model: {hidden: [16]}}}")  # what the finished run was made with
ALONE = ("--set", "variants={}")  # the main training alone


#: as where sciencevae was installed without what a cluster needs
WITHOUT_THE_PLUGIN = """
import pkgutil
found, plugin = pkgutil.iter_modules, "snakemake_executor_plugin_slurm"
pkgutil.iter_modules = lambda *given: (module for module in found(*given) if module.name != plugin)
"""


@pytest.fixture
def copied(toy_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run with the times kept."""
    folder = tmp_path / "run"
    shutil.copytree(toy_run, folder, symlinks=True)
    return folder


def _times(folder: Path) -> dict[str, int]:
    """When each stage was last done."""
    state = folder / "state"
    return {str(p.relative_to(state).with_suffix("")): p.stat().st_mtime_ns for p in state.rglob("*.json")}


def _rerun(before: dict[str, int], folder: Path) -> set[str]:
    after = _times(folder)
    return {name for name, time in after.items() if before.get(name) != time}


def test_a_run_leaves_what_the_readme_says(toy_run: Path) -> None:
    for name in (
        "report.html",
        "run.json",
        "metrics.json",
        "model.safetensors",
        "latents.zarr",
        "history.csv",
    ):
        assert (toy_run / name).exists()
    assert (toy_run / "figures" / "latents.svg").is_file()
    assert (toy_run / "tables" / "spread.csv").is_file()
    assert (toy_run / "variants" / "wide" / "model.safetensors").is_file()
    assert not list(toy_run.rglob("checkpoint.safetensors"))
    assert len(list((toy_run / "prepared").glob("*.zarr"))) == 1  # 'wide' shares the data of main
    run = Run(toy_run)
    assert run.main.latents["z"].shape == (240, 1)
    assert set(run.main.latents["number"].values) == set(range(240))
    assert run.metrics["spread"]["spread"].keys() == {"main", "wide"}
    assert run.variant("wide").model().encoder.network.layers[0].out_features == 16


def test_it_says_what_it_does_and_where_things_lie(toy_run: Path) -> None:
    out, err = (toy_run / "said").read_text().split("\0")
    assert re.search(r"^train/wide: \[\d+/18\] epoch", err, re.MULTILINE)
    assert re.search(r"^report: done in", err, re.MULTILINE)
    report, *figures = out.splitlines()
    assert report.split(None, 1)[1] == str(toy_run / "report.html")
    assert figures[0].split(None, 1)[1] == str(toy_run / "figures" / "latents.png")


def test_provenance_is_enough_to_do_it_again(toy_run: Path) -> None:
    record = read_json(toy_run / "run.json")
    assert record["settings"]["training"]["epochs"] == 3
    stages = {stage["stage"] for stage in record["stages"]}
    assert stages == {"prepare", "train", "encode", "analyse", "report"}
    assert all(stage["seconds"] > 0 for stage in record["stages"])
    assert len(record["models"]["wide"]) == 64
    assert record["versions"]["torch"]
    assert record["seeds"] == {"main": 0, "wide": 0}
    assert all(len(data["fingerprint"]) == 64 and data["rows"] == 240 for data in record["data"].values())


def test_a_second_run_does_nothing(copied: Path, sciencevae_command: Command) -> None:
    before = _times(copied)
    done = sciencevae_command("run", "toy", "--out", copied, *WIDE)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout
    assert _rerun(before, copied) == set()


def _planned(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [line.split()[2] for line in done.stdout.splitlines() if line.startswith("would run")]


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("report.title=other", ["report"]),
        ("analyse.slow=0.1", ["analyse", "report"]),
        ("training.checkpoint_seconds=7", []),
        ("variants.wide.model.hidden=[12]", ["train/wide", "encode/wide", "analyse", "report"]),
        (
            "variants.turned.source.angle=1",
            ["prepare/turned", "train/turned", "encode/turned", "analyse", "report"],
        ),
    ],
)
def test_a_dry_run_says_what_a_changed_setting_reruns_and_changes_nothing(
    copied: Path, capsys: pytest.CaptureFixture[str], override: str, stages: list[str]
) -> None:
    files = {p: p.stat().st_mtime_ns for p in copied.rglob("*")}
    assert main(["run", "toy", "--out", str(copied), "--dry-run", *WIDE, "--set", override]) == 0
    said = capsys.readouterr().out
    assert [line.split()[2] for line in said.splitlines() if line.startswith("would run")] == stages
    assert stages or "nothing to do" in said
    assert files == {p: p.stat().st_mtime_ns for p in copied.rglob("*")}


def test_a_result_that_was_lost_is_made_again(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As by whoever clears old files from a scratch disk; what was made from it is there still."""
    for name, stages in (
        ("tables", ["analyse", "report"]),
        ("variants/wide/latents.zarr", ["encode/wide", "analyse", "report"]),
        ("model.safetensors", ["train", "encode", "encode/wide", "analyse", "report"]),
    ):
        lost = copied / name
        shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
        assert main(["run", "toy", "--out", str(copied), "--dry-run", *WIDE]) == 0
        planned = [line.split()[2] for line in capsys.readouterr().out.splitlines() if "would run" in line]
        assert sorted(planned) == sorted(stages)


def test_a_changed_setting_reruns_what_depends_on_it(copied: Path, sciencevae_command: Command) -> None:
    before = _times(copied)
    done = sciencevae_command("run", "toy", "--out", copied, *WIDE, "--set", "report.title=other")
    assert done.returncode == 0, done.stderr
    assert _rerun(before, copied) == {"report"}
    assert "Histogram of the other." in (copied / "report.html").read_text()


def test_your_own_file_and_data_that_replace_the_old(
    copied: Path, tmp_path: Path, sciencevae_command: Command
) -> None:
    table = tmp_path / "my table.csv"
    table.write_text("a,b,c\n" + "".join(f"{i},{i % 7},{i % 3}\n" for i in range(60)))
    before = _times(copied)
    done = sciencevae_command("run", "toy", "--input", table, "--out", copied, *ALONE)
    assert done.returncode == 0, done.stderr
    run = Run(copied)
    assert run.main.data.sizes["sample"] == 60
    assert _rerun(before, copied) == {
        f"prepare/{run.main.key}",
        "train/main",
        "encode/main",
        "analyse",
        "report",
    }
    assert [store.stem for store in (copied / "prepared").glob("*.zarr")] == [run.main.key]


@pytest.mark.parametrize(
    ("override", "code", "says"),
    [
        ("training.device=cuda:99", 2, "train failed: "),
        ("analyse.fail=true", 1, "analyse failed: ZeroDivisionError: asked to fail <here>"),
    ],
)
def test_a_failing_stage_is_one_line_with_its_log_and_its_exit_code(
    copied: Path, sciencevae_command: Command, override: str, code: int, says: str
) -> None:
    done = sciencevae_command("run", "toy", "--out", copied, "--set", override, *ALONE)
    assert done.returncode == code, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert says in line
    assert "Traceback" not in done.stderr
    log = re.search(r"\(log: (.*)\)$", line)
    assert log is not None
    assert "sciencevae: error:" in Path(log[1]).read_text()


def test_a_stage_that_cannot_write_says_so_and_leaves_no_half(
    copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full in the midst of a table, and a folder in which nothing may be changed."""

    def full(frame: Any, path: Path, **_: Any) -> None:
        Path(path).write_text("variant,spr")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as context:
        context.setattr("pandas.DataFrame.to_csv", full)
        assert main(["analyse", str(copied)]) == 1
    assert "the disk is full: " in capsys.readouterr().err
    assert not [path for path in (copied / "tables").rglob("*") if path.is_file()]

    def refused(path: Path, **_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("pathlib.Path.unlink", refused)
    assert main(["analyse", str(copied)]) == 1
    assert re.search(r"error: cannot write \S.*: read-only file system; choose a", capsys.readouterr().err)


def _start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "sciencevae", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _steps(folder: Path) -> list[int]:
    """The steps that the training has said it did since it began, or began again."""
    log = folder / "logs" / "train" / "main.log"
    text = log.read_text().split("--- began")[-1] if log.is_file() else ""
    return [int(step) for step in re.findall(r"^\[ *(\d+)/", text, re.MULTILINE)]


SLOW = (*ALONE, "--set", "training.checkpoint_seconds=0.2", "--set", "training.valid_every=100")
LONG = (*SLOW, "--set", "training.epochs=100000")


def test_a_terminated_run_saves_and_ends_with_75_and_refuses_company(
    tmp_path: Path, sciencevae_command: Command
) -> None:
    folder = tmp_path / "run"
    process = _start("run", "toy", "--out", folder, *LONG)
    try:
        wait_for(lambda: _steps(folder))
        for arguments in (("run", "toy", "--out", folder, *LONG), ("train", folder)):
            second = sciencevae_command(*arguments)
            assert second.returncode == 1
            assert second.stderr.count("\n") == 1
            assert f"process {process.pid} on" in second.stderr
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "the same command goes on from there" in out
    (checkpoint,) = folder.rglob("checkpoint.safetensors")
    assert not (folder / "model.safetensors").exists()

    # another setting is another training, and takes nothing from this one until it is done
    other = (*ALONE, "--set", "model.hidden=[5]", "--set", "analyse.fail=true")
    assert sciencevae_command("run", "toy", "--out", folder, *other).returncode == 1
    assert checkpoint.exists()
    done = sciencevae_command("run", "toy", "--out", folder, *ALONE, "--set", "model.hidden=[5]")
    assert done.returncode == 0, done.stderr
    assert not checkpoint.exists()
    assert Run(folder).main.model().encoder.network.layers[0].out_features == 5


def test_a_run_killed_in_training_resumes_there_and_equals_an_uninterrupted_one(
    tmp_path: Path, sciencevae_command: Command
) -> None:
    options = (*SLOW, "--set", "training.epochs=300")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    process = _start("run", "toy", "--out", broken, *options)
    wait_for(lambda: list(broken.rglob("checkpoint.safetensors")))
    steps = wait_for(lambda: _steps(broken))[-1]
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    done = sciencevae_command("run", "toy", "--out", broken, *options)
    assert done.returncode == 0, done.stderr
    assert _steps(broken)[0] >= steps > 0

    assert sciencevae_command("configure", "toy", "--out", whole, *options).returncode == 0
    for stage in ("prepare", "train"):
        assert sciencevae_command(stage, whole).returncode == 0
    models = [Run(folder).main.model().state_dict() for folder in (whole, broken)]
    assert all((models[0][name] == models[1][name]).all() for name in models[0])


def test_a_stage_killed_hard_is_named(copied: Path) -> None:
    process = _start("run", "toy", "--out", copied, *WIDE, "--set", "analyse.slow=60")
    lock = wait_for(lambda: (p := copied / ".locks" / "analyse").exists() and p.read_text())
    os.kill(json.loads(lock)["pid"], signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "analyse ended without a word" in out
    assert "logs/analyse.log" in out


def test_what_a_stage_says_before_it_begins_is_told(copied: Path) -> None:
    """It leaves no record of a failure: there is no run yet in which it could."""
    process = _start("run", "toy", "--out", copied, *WIDE, "--set", "analyse.slow=60")
    lock = wait_for(lambda: (p := copied / ".locks" / "analyse").exists() and p.read_text())
    log = copied / "logs" / "analyse.log"
    wait_for(lambda: log.exists() and "began" in log.read_text())
    with log.open("a") as file:
        file.write("sciencevae: error: that is no run\n")
    os.kill(json.loads(lock)["pid"], signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    assert "analyse failed: that is no run" in out


def test_stages_refuse_data_that_are_not_what_was_written(
    toy_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage, name in (
        ("train", "prepared/*.zarr"),
        ("encode", "prepared/*.zarr"),
        ("analyse", "latents.zarr"),
    ):
        folder = tmp_path / stage
        shutil.copytree(toy_run, folder, symlinks=True)
        (store,) = folder.glob(name)
        file = max(
            (path for path in store.rglob("c/*") if path.is_file()), key=lambda path: path.stat().st_size
        )
        content = bytearray(file.read_bytes())
        content[8] ^= 1
        file.write_bytes(content)
        assert main([stage, str(folder)]) == 1
        assert f"{store} " in (said := capsys.readouterr().err)
        assert "remove it and run again" in said


def test_dates_in_the_future_rerun_what_changed_and_nothing_else(
    copied: Path, sciencevae_command: Command
) -> None:
    """The folder was made by a machine whose clock was a day ahead."""
    for path in copied.rglob("*"):
        date = path.stat().st_mtime_ns + 86400 * 10**9
        os.utime(path, ns=(date, date))
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    planned = sciencevae_command(
        "run", "toy", "--out", copied, *WIDE, "--dry-run", "--set", "report.title=other"
    )
    assert _planned(planned) == ["report"]
    assert before == {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    started = {r["stage"] + r["name"]: r["started"] for r in Run(copied).records()}
    time.sleep(1.0)  # records tell whole seconds
    for options, expected in ((("--set", "report.title=other"), {"report"}), ((), {"report"}), ((), set())):
        done = sciencevae_command("run", "toy", "--out", copied, *WIDE, *options)
        assert done.returncode == 0, done.stderr
        now = {r["stage"] + r["name"]: r["started"] for r in Run(copied).records()}
        assert {name for name in now if now[name] != started[name]} == expected
        started = now


def test_a_clock_that_steps_back_in_the_middle_costs_no_run(copied: Path) -> None:
    """What was done before then lies in the future, and no workflow takes what is older than that."""
    process = _start("run", "toy", "--out", copied, *WIDE, "--set", "analyse.slow=2")
    wait_for(lambda: (lock := copied / ".locks" / "analyse").exists() and lock.read_text())
    date = time.time() + 3600
    os.utime(copied / "state" / "encode" / "main.json", (date, date))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert "the clock stepped back" in out
    assert all(path.stat().st_mtime <= time.time() for path in (copied / "state").rglob("*.json"))


def test_a_log_that_is_removed_while_it_is_looked_at_ends_no_run(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """snakemake removes the log of a stage before it does it again."""
    said = io.StringIO()
    watch = Watch(Run(copied), said)
    gone, other = copied / "logs" / "analyse.log", copied / "logs" / "report.log"
    monkeypatch.setattr(watch, "_files", lambda: [gone, other])
    gone.unlink()
    with other.open("a") as log:
        log.write("all is well\n")
    watch.look()
    assert said.getvalue() == "report: all is well\n"


def test_a_disk_that_is_full_for_snakemake_is_named(tmp_path: Path) -> None:
    """Its error is a line of its own, and what it is about the next."""
    (tmp_path / "logs").mkdir()
    full = f"recording metadata ([Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)})"
    (tmp_path / "logs" / "snakemake.log").write_text(f"before\nWorkflowError:\nError {full}. Please\n")
    with pytest.raises(RunError, match="the disk is full"):
        _explain(tmp_path, tmp_path, find_profile("local"), 0)


def test_a_failure_that_is_tried_again_while_it_is_read_is_none(tmp_path: Path) -> None:
    logs = tmp_path / "logs" / "train"
    logs.mkdir(parents=True)
    (logs / "main.failure.json").symlink_to("removed")
    assert _failures(tmp_path) == []
    write_json(logs / "wide.failure.json", {"exit_code": 1, "time": 0.0})
    assert [failure["exit_code"] for failure in _failures(tmp_path)] == [1]


def test_a_clock_that_has_caught_up_again_costs_no_run(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stepped back by little: when snakemake has ended, nothing lies in the future any more."""
    from sciencevae import workflow

    def step() -> None:
        wait_for(lambda: (lock := copied / ".locks" / "analyse").exists() and lock.read_text())
        date = time.time() + 3600
        os.utime(copied / "state" / "encode" / "main.json", (date, date))

    def caught_up(folder: Path) -> int:
        settle_dates(folder)
        return 0

    monkeypatch.setattr(workflow, "settle_dates", caught_up)
    thread = threading.Thread(target=step)
    thread.start()
    code = main(["run", "toy", "--out", str(copied), *WIDE, "--set", "analyse.slow=2"])
    thread.join()
    assert code == 0
    assert "the clock stepped back" in capsys.readouterr().err


def test_each_stage_runs_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "run")
    assert main(["configure", "toy", "--out", folder, *ALONE]) == 0
    assert capsys.readouterr().out.strip() == folder
    assert main(["encode", folder]) == 1
    assert f"sciencevae train {folder}" in capsys.readouterr().err
    for stage in ("prepare", "train", "encode", "analyse", "report"):
        assert main([stage, folder]) == 0
    assert (tmp_path / "run" / "report.html").is_file()
    assert main(["run", "toy", "--out", folder, *ALONE]) == 0
    assert "nothing to do" in capsys.readouterr().out  # the workflow takes what was done by hand


def test_a_stage_whose_run_has_ended_takes_no_folder_for_itself(
    copied: Path, sciencevae_command: Command
) -> None:
    """It was started just before, and began to work just after."""
    done = sciencevae_command("analyse", copied, env={"SCIENCEVAE_RUN": "a token that nobody holds"})
    assert done.returncode == 75
    assert "has ended" in done.stderr
    assert not (copied / ".lock").read_text()


def test_a_full_scratch_disk_is_named(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """snakemake's own words name no folder."""
    log = copied / "logs" / "snakemake.log"
    said = log.stat().st_size
    with log.open("a") as file:
        file.write("Select jobs to execute...\nOSError: [Errno 28] No space left on device\n")
    monkeypatch.setattr("tempfile.tempdir", str(copied.parent))
    with pytest.raises(RunError, match=f"the disk is full, .*MB in {re.escape(str(copied.parent))} are left"):
        _explain(copied, copied, find_profile("local"), said)


def test_a_profile_that_snakemake_does_not_take_is_named(
    copied: Path, tmp_path: Path, sciencevae_command: Command
) -> None:
    """Whatever stands in the log of the runs before."""
    profile = tmp_path / "mine"
    profile.mkdir()
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(WITHOUT_THE_PLUGIN)
    hidden = os.pathsep.join(filter(None, [str(tmp_path / "hidden"), os.environ.get("PYTHONPATH")]))
    for text, words, says in (
        (
            "retrys: 3",
            [],
            f"{profile / 'config.yaml'} is no profile of snakemake: unrecognized arguments: --retrys=3",
        ),
        (
            "retries: [3",
            ["--dry-run"],
            f"{profile / 'config.yaml'} is no profile of snakemake: Couldn't parse",
        ),
        ("executor: slurm", [], "needs more than is installed: pip install 'sciencevae[slurm]'"),
    ):
        (profile / "config.yaml").write_text(text)
        run = ("run", "toy", "--out", copied, "--profile", profile, *ALONE, *words)
        done = sciencevae_command(*run, env={"PYTHONPATH": hidden})
        assert done.returncode == 2
        assert says in done.stderr


def test_the_slurm_profile_plans(tmp_path: Path, sciencevae_command: Command) -> None:
    pytest.importorskip("snakemake_executor_plugin_slurm")
    planned = _planned(
        sciencevae_command("run", "toy", "--profile", "slurm", "--dry-run", "--out", tmp_path / "run")
    )
    assert len(planned) == 10
    assert not (tmp_path / "run").exists()
