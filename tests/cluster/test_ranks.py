"""Several ranks and Dask's workers on a real Slurm, over its two nodes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lab import Lab, job, slurm, wait_for

from sciencevae.data.store import fingerprint
from sciencevae.runs import Run

Weights = dict[str, torch.Tensor]


def close(first: Weights, second: Weights) -> bool:
    """Whether weights are equal up to the rounding of sums in another order, over a few hundred steps."""
    return all(torch.allclose(first[name], second[name], rtol=0, atol=2e-3) for name in second)


def test_two_ranks_on_two_nodes_are_stopped_and_go_on_in_another_job(lab: Lab, weights: Weights) -> None:
    resources = {"train": {"nodes": 2, "tasks": 2}}
    run = lab.run("ranks", {"training.ranks": 2}, **{"set-resources": resources})
    first = run.training()
    assert job(first)["NumNodes"] == "2"
    reached = run.steps()[-1]
    slurm("scancel", "-s", "TERM", first)
    second = run.training(2)
    assert second != first
    assert run.steps()[0] >= reached
    assert close(run.trained(), weights)


def test_a_rank_that_dies_ends_the_step_within_a_minute(lab: Lab) -> None:
    run, hold = lab.configured("dead-rank")
    line = [sys.executable, "-P", "-m", "sciencevae", "train", str(run)]
    log = run.with_suffix(".log")
    with log.open("w") as said:
        step = subprocess.Popen(
            ["srun", "--nodes=2", "--ntasks=2", "--mem=1500", *line], stdout=said, stderr=said
        )
    wait_for(lambda: "epoch" in log.read_text())
    ranks = {
        environment["SLURM_PROCID"]: int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/environ")
        if (environment := _environment(path)).get("SLURM_STEP_NUM_TASKS") == "2"
        and str(run) in (path.parent / "cmdline").read_text()
        and "srun" not in (path.parent / "comm").read_text()
    }
    subprocess.run(["kill", "-9", str(ranks["1"])], check=True)
    hold.unlink()
    assert step.wait(timeout=60) != 0
    assert "another rank of this training is gone" in log.read_text()
    assert len(list(run.rglob("checkpoint.safetensors"))) == 1


def _environment(path: Path) -> dict[str, str]:
    try:
        words = path.read_text(errors="replace").split("\0")
    except OSError:
        return {}
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def test_prepare_and_encode_on_workers_that_are_jobs_and_one_is_killed(lab: Lab, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "dask.yaml").write_text(
        "cluster: slurm\nworkers: 2\n"
        'options: {queue: cpu, cores: 1, memory: 700MiB, walltime: "00:10:00", interface: lo}\n'
    )
    folder, _ = lab.configured("workers")
    prepared = lab.prepared.main
    line = [sys.executable, "-P", "-m", "sciencevae"]
    dask = ["--dask", str(tmp_path / "dask.yaml")]
    process = subprocess.Popen([*line, "prepare", str(folder), *dask], stderr=subprocess.PIPE, text=True)

    def workers() -> list[str]:
        return slurm("squeue", "-h", "-t", "R", "-n", "dask-worker", "-o", "%A").split()

    wait_for(workers)
    slurm("scancel", "-s", "KILL", workers()[0], check=False)
    assert process.wait(timeout=120) == 0, process.stderr and process.stderr.read()
    assert fingerprint(Run(folder).main.store) == fingerprint(prepared.store)
    (folder / "model.safetensors").write_bytes(prepared.model_path.read_bytes())
    done = subprocess.run([*line, "encode", str(folder), *dask], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    encoded = subprocess.run(
        [*line, "encode", str(lab.prepared.folder)], capture_output=True, text=True, timeout=200
    )
    assert encoded.returncode == 0, encoded.stderr
    found, expected = (path / "latents.zarr" for path in (folder, lab.prepared.folder))
    assert fingerprint(found) == fingerprint(expected)
    wait_for(lambda: not slurm("squeue", "-h", "-n", "dask-worker"))


def test_torchrun_within_a_job(lab: Lab, weights: Weights) -> None:
    run, hold = lab.configured("torchrun")
    hold.unlink()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    srun = ["srun", "--ntasks=1", "--cpus-per-task=2", "--mem=2500"]
    done = subprocess.run(
        [*srun, *torchrun, "-m", "sciencevae", "train", str(run)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert close(Run(run).main.model().state_dict(), weights)
