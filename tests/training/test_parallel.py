"""Training on several ranks: what one rank would give, and what happens when one of them stops or dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import rows, run

from sciencevae.data.order import order
from sciencevae.runs import Run
from sciencevae.training.parallel import announced

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["ranks"])  # torch is imported once, and not once a rank


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(out: Path, count: int, **asked: Any) -> list[BaseProcess]:
    """As many ranks as asked for, each in a process of its own."""
    out.mkdir(exist_ok=True)
    for old in (*out.glob("*.json"), out / "step"):
        old.unlink(missing_ok=True)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    processes: list[BaseProcess] = []
    for rank in range(count):
        processes.append(CONTEXT.Process(target=run, args=(out, where | {"RANK": str(rank)}, asked)))
        processes[-1].start()
    return processes


def ended(
    out: Path, processes: list[BaseProcess], seconds: float = 120
) -> tuple[list[int | None], list[str]]:
    """Exit codes and what was said."""
    for process in processes:
        process.join(seconds)
        process.kill()
        process.join()
    said = [(out / f"{rank}.said").read_text() for rank in range(len(processes))]
    return [process.exitcode for process in processes], said


def trained(out: Path, count: int, **asked: Any) -> list[dict[str, Any]]:
    codes, said = ended(out, start(out, count, **asked))
    assert codes == [0] * count, said
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(count)]


def alike(found: dict[str, Any], other: dict[str, Any], tolerance: float = 2e-5) -> None:
    """The same loss at every round, and the same weights, up to rounding."""
    assert len(found["rows"]) == len(other["rows"]) > 0
    for row, expected in zip(found["rows"], other["rows"], strict=True):
        for name, value in expected.items():
            if name != "seconds":
                assert row[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name
    np.testing.assert_allclose(found["weights"], other["weights"], rtol=0, atol=10 * tolerance)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """What one rank gives, once for each choice."""
    known: dict[str, dict[str, Any]] = {}

    def get(**asked: Any) -> dict[str, Any]:
        key = json.dumps(asked)
        if key not in known:
            (known[key],) = trained(tmp_path_factory.mktemp("single"), 1, **asked)
        return known[key]

    return get


@pytest.mark.parametrize(
    ("count", "asked"),
    [
        (2, {}),
        (3, {"gradient_clip": 0.5, "ema": 0.9, "weight_decay": 0.1}),
        (2, {"kind": "augmented"}),
        (2, {"compile": True}),
    ],
)
def test_ranks_give_what_one_rank_gives(
    tmp_path: Path, single: Callable[..., dict[str, Any]], count: int, asked: dict[str, Any]
) -> None:
    found = trained(tmp_path / "ranks", count, **asked)
    assert all(other["weights"] == found[0]["weights"] for other in found)  # to the bit
    assert found[0]["compiled"] == asked.get("compile", False)
    alike(found[0], single(**asked))


def test_ranks_that_begin_with_other_weights_train_one_model(
    tmp_path: Path, single: Callable[..., dict[str, Any]]
) -> None:
    found = trained(tmp_path / "ranks", 2, kind="unlike")
    assert found[0]["weights"] == found[1]["weights"]
    alike(found[0], single())


def test_a_store_larger_than_its_buffer(tmp_path: Path, single: Callable[..., dict[str, Any]]) -> None:
    import xarray as xr

    from sciencevae.data.store import write

    data = xr.Dataset({"x": (("sample", "feature"), rows().x.numpy())}, attrs={"scaling": "{}"})
    write(data, tmp_path / "data.zarr", chunk_rows=16)
    asked = {"store": str(tmp_path / "data.zarr")}
    found = trained(tmp_path / "ranks", 2, **asked)
    alike(found[0], single(**asked))


def signalled(process: BaseProcess, number: signal.Signals) -> None:
    assert process.pid is not None
    os.kill(process.pid, number)


def wait_for_step(out: Path, step: int, processes: list[BaseProcess]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (out / "step").exists() and int((out / "step").read_text() or 0) >= step:
            return
        assert all(process.is_alive() for process in processes), ended(out, processes)
        time.sleep(0.01)
    raise AssertionError(ended(out, processes))


LONG = {"epochs": 200, "valid_every": 50}


def test_a_signal_to_one_rank_stops_all_at_one_step_and_others_go_on(
    tmp_path: Path, single: Callable[..., dict[str, Any]]
) -> None:
    """Two ranks, then three, then one; SIGTERM to the second, then to the first."""
    out = tmp_path / "ranks"
    for count, told, step in ((2, 1, 150), (3, 0, 500)):
        processes = start(out, count, **LONG)
        wait_for_step(out, step, processes)
        signalled(processes[told], signal.SIGTERM)
        codes, said = ended(out, processes)
        assert codes == [75] * count, said
        assert len({text.split("stopped by SIGTERM at step ")[1].split()[0] for text in said}) == 1
    (found,) = trained(out, 1, **LONG)
    assert found["rows"][-1]["step"] == 1000
    alike(found, single(**LONG), tolerance=2e-3)


@pytest.mark.parametrize(("how", "lost"), [(signal.SIGKILL, 1), (signal.SIGKILL, 0), (signal.SIGSTOP, 1)])
def test_a_lost_rank_ends_the_job_which_goes_on_from_there(
    tmp_path: Path, single: Callable[..., dict[str, Any]], how: signal.Signals, lost: int
) -> None:
    out = tmp_path / "ranks"
    processes = start(out, 2, rank_seconds=4, checkpoint_seconds=0.05, **LONG)
    wait_for_step(out, 150, processes)
    began = time.monotonic()
    signalled(processes[lost], how)
    processes[1 - lost].join(60)
    assert time.monotonic() - began < 30
    codes, said = ended(out, processes, 0)
    assert codes[1 - lost] == 75
    assert "another rank of this training is gone" in said[1 - lost]
    assert "start the job again" in said[1 - lost]
    processes = start(out, 2, **LONG)
    wait_for_step(out, 150, processes)  # and not 50
    codes, said = ended(out, processes)
    assert codes == [0, 0], said
    alike(json.loads((out / "0.json").read_text()), single(**LONG), tolerance=2e-3)


@pytest.mark.parametrize(
    ("count", "asked", "says"),
    [
        (2, {"kind": "coupled"}, "BetaTCVAE of a datum depends on the others of its batch"),
        (2, {"kind": "normalised"}, "a statistic of its batch, which 2 ranks"),
        (2, {"kind": "ensemble"}, "an ensemble trains in one process"),
        (2, {"batch_size": 61}, "a batch of 61 rows cannot be shared by 2 ranks"),
    ],
)
def test_what_ranks_cannot_share_is_refused(
    tmp_path: Path, count: int, asked: dict[str, Any], says: str
) -> None:
    codes, said = ended(tmp_path / "ranks", start(tmp_path / "ranks", count, **asked))
    assert codes == [2] * count, said
    assert all(says in text for text in said)


def test_a_loss_that_is_not_finite_in_a_batch_of_which_a_rank_has_nothing(tmp_path: Path) -> None:
    bad = int(order(0, 0, 300)[-1])  # of the last 44 rows, which are all the first rank's
    codes, said = ended(tmp_path / "ranks", start(tmp_path / "ranks", 2, bad=bad, batch_size=128))
    assert codes == [1, 1], said
    assert all(f"row {bad}." in text for text in said), said


def test_a_loss_that_is_not_finite_is_named_by_every_rank(tmp_path: Path) -> None:
    codes, said = ended(tmp_path / "ranks", start(tmp_path / "ranks", 2, bad=37))
    assert codes == [1, 1], said
    assert all("row 37." in text for text in said), said


def test_the_command_under_torchrun(
    tmp_path: Path, toy_run: Path, sciencevae_command: Callable[..., Any]
) -> None:
    command = sciencevae_command
    folder = tmp_path / "run"
    assert command("configure", "toy", "--out", folder).returncode == 0
    assert command("prepare", folder).returncode == 0
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *("-m", "sciencevae", "train", str(folder)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    ours, single = (Run(path).main.model().state_dict() for path in (folder, toy_run))
    for name, tensor in single.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-4)


def test_the_command_starts_its_ranks_stops_them_and_goes_on(
    tmp_path: Path, toy_run: Path, sciencevae_command: Callable[..., Any]
) -> None:
    command = sciencevae_command
    folder = tmp_path / "run"
    long = ("--set", "training.epochs=3000", "--set", "training.valid_every=1000")
    assert command("configure", "toy", "--out", folder, *long).returncode == 0
    assert command("prepare", folder).returncode == 0
    line = [sys.executable, "-P", "-m", "sciencevae", "train", str(folder), "--ranks", "2"]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while " epoch " not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 75
    assert "rank 1: stopped by SIGTERM at step" in said
    assert command("configure", "toy", "--out", folder, "--set", "training.epochs=3").returncode == 0
    done = command("train", folder, "--ranks", "2")  # another training; the toy's
    assert done.returncode == 0, done.stderr
    ours, single = (Run(path).main.model().state_dict() for path in (folder, toy_run))
    for name, tensor in single.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-4)
    refused = command("train", folder, "--ranks", "2", "--variant", "nobody")
    assert refused.returncode == 2
    assert refused.stderr.count("error:") == 1


def test_a_batch_script_of_many_tasks_is_one_process() -> None:
    assert announced({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}).count == 1
    found = announced({"SLURM_NTASKS": "8", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"})
    assert (found.rank, found.count) == (3, 8)
