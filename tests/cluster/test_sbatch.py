"""``workflows/slurm/train.sbatch`` on a real Slurm: it saves, is requeued, and comes out the same."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lab import Lab, equal, job, slurm, wait_for

from sciencevae.paths import workflows_folder
from sciencevae.runs import Run

Submit = Callable[..., int]


@pytest.fixture
def submit(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Send the script away on a run folder of that name; gives the job's number."""

    def sent(run: Path, *options: str) -> int:
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        script = workflows_folder() / "slurm" / "train.sbatch"
        output = f"--output={run.with_suffix('.log')}"
        return int(slurm("sbatch", "--parsable", "--mem=2000", output, *options, script, run))

    return sent


def _steps(run: Path) -> list[int]:
    """The steps told since the job began for the last time."""
    log = run.with_suffix(".log")
    text = log.read_text() if log.exists() else ""
    return [int(step) for step in re.findall(r"^\[ *(\d+)/", text, re.MULTILINE)]


def test_a_training_is_requeued_by_a_signal_and_comes_out_the_same(
    lab: Lab, submit: Submit, weights: dict[str, torch.Tensor]
) -> None:
    run, hold = lab.configured("requeued")
    number = submit(run)
    wait_for(lambda: _steps(run))
    reached = _steps(run)[-1]
    slurm("scontrol", "update", f"JobId={number}", "EndTime=now+90")  # within the two minutes of --signal
    wait_for(lambda: job(number)["Restarts"] == "1")
    wait_for(lambda: job(number)["JobState"] == "RUNNING" and _steps(run)[-1] > reached)
    hold.unlink()
    wait_for(lambda: job(number)["JobState"] == "COMPLETED")
    text = run.with_suffix(".log").read_text()
    assert "stopped by SIGTERM at step" in text  # and the second time is appended
    assert _steps(run)[1] > reached
    assert equal(Run(run).main.model().state_dict(), weights)


def test_a_cancelled_training_saves_and_stays_cancelled(lab: Lab, submit: Submit) -> None:
    run, _ = lab.configured("cancelled")
    number = submit(run)
    wait_for(lambda: _steps(run))
    slurm("scancel", number)
    wait_for(lambda: job(number)["JobState"] == "CANCELLED" and not slurm("squeue", "-h", "-j", number))
    assert "stopped by SIGTERM at step" in run.with_suffix(".log").read_text()
    assert job(number)["Restarts"] == "0"
    assert len(list(run.rglob("checkpoint.safetensors"))) == 1
