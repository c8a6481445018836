"""``sciencevae run --profile`` on a real Slurm: jobs, failures, limits, preemption, signals, kills.

Trainings are held on their way, so that what happens to them happens in the middle.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
import torch
from lab import Lab, Started, equal, job, slurm, steps, wait_for

from sciencevae.runs import Run, read_json

Weights = dict[str, torch.Tensor]
GPU = {"train": {"slurm_partition": "gpu", "gres": "gpu:1", "slurm_account": "physics"}}
SEEDS = {"variants": "{second: {seed: 1}}"}


@pytest.fixture(scope="module")
def failing(lab: Lab) -> dict[str, Started]:
    """Runs whose training needs more memory than the 3,000 MB it gets at first, and one that is wrong."""
    ballast = {"objective.ballast_mb": 3000}
    return {
        "again": lab.run("again", ballast),
        "once": lab.run("once", ballast, retries=0),
        "wrong": lab.run("wrong", {"training.device": "cuda:99"}),
    }


@pytest.fixture(scope="module")
def seeds(lab: Lab) -> Started:
    """Two seeds, their trainings on a GPU each."""
    return lab.run("seeds", SEEDS, **{"set-resources": GPU})


def test_trainings_go_on_in_another_job(lab: Lab, weights: Weights, failing: dict[str, Started]) -> None:
    """One is told to stop, one runs out of time. Meanwhile others fail, for the next test."""
    told, late = lab.run("told"), lab.run("late")
    first = {run: run.training() for run in (told, late)}
    reached = {run: run.steps()[-1] for run in first}
    slurm("scancel", "-s", "TERM", first[told])
    slurm("scontrol", "update", f"JobId={first[late]}", "EndTime=now")
    for run in first:
        second = run.training(2)
        assert second != first[run]
        assert run.steps()[0] >= reached[run]
        assert job(second)["TimeLimit"] > job(first[run])["TimeLimit"]
        assert "train: stopped by SIGTERM at step" in run.output
        assert "once more, in a new job" in run.output
        assert equal(run.trained(), weights)
    assert job(first[told])["JobState"] == "FAILED"
    assert job(first[late])["JobState"] == "TIMEOUT"
    assert f"Slurm job {first[late]} ran out of time" in late.output


def test_failures_are_named_and_tried_again_with_more(failing: dict[str, Started]) -> None:
    """Wrong input is wrong at the next try, too: there is none."""
    again, once, wrong = failing.values()
    assert wrong.end() == 2
    assert once.end() == 1
    log = "logs/train/main.log"
    for run, says in (
        (wrong, "train failed: .*cuda:99"),
        (once, rf"train ended without a word \(Slurm job {once.jobs()[0]} was killed for memory"),
    ):
        assert len(run.jobs()) == 1
        (line,) = [line for line in run.output.splitlines() if line.startswith("sciencevae: error:")]
        assert re.search(says, line)
        assert f"log: {run.folder / log})" in line.replace(";", ")")
    assert "sciencevae: error:" in (wrong.folder / log).read_text()
    assert "once more" not in wrong.output
    again.training(2)
    again.trained()
    assert [job(number)["MinMemoryNode"] for number in again.jobs()] == ["3000M", "4500M"]
    assert "train: killed for memory" in again.output


def test_preempted_jobs_and_those_of_lost_nodes_go_on(lab: Lab, weights: Weights) -> None:
    """Each has a node of its own, by its GPU."""
    preempted, lost = (
        lab.run(name, **{"set-resources": {"train": {"gres": "gpu:1"}}}) for name in ("preempted", "lost")
    )
    first = {run: run.training() for run in (preempted, lost)}
    reached = {run: run.steps()[-1] for run in first}
    nodes = {run: job(first[run])["NodeList"] for run in first}
    assert set(nodes.values()) == {"n1", "n2"}
    urgent = ["--partition=urgent", f"--nodelist={nodes[preempted]}", "--gres=gpu:1"]
    slurm("srun", *urgent, "true")
    slurm("scontrol", "update", f"NodeName={nodes[lost]}", "State=DOWN", "Reason=test")
    slurm(
        "scontrol", "update", f"NodeName={nodes[lost]}", "State=RESUME", check=False
    )  # or it is back by itself
    for run in first:
        wait_for(lambda run=run: run.steps() and run.steps()[0] > reached[run])
        assert equal(run.trained(), weights)
    assert len(preempted.jobs()) == 2  # it saved and ended in the time it was given
    assert len(lost.jobs()) == 1  # which Slurm put into the queue again


def test_stopping_saves_what_runs_and_cancels_what_waits(lab: Lab) -> None:
    """Of three trainings for two GPUs one waits."""
    three = "{second: {seed: 1}, third: {seed: 2}}"
    run = lab.run("stopped", {"variants": three}, **{"set-resources": {"train": {"gres": "gpu:1"}}})
    jobs = wait_for(lambda: run.jobs()[2:] and run.jobs())
    names = ("main", "second", "third")
    going = wait_for(lambda: len(found := [name for name in names if run.steps(name)]) == 2 and found)
    assert sorted(job(number)["JobState"] for number in jobs) == ["PENDING", "RUNNING", "RUNNING"]
    assert run.stop() == 75
    assert "the same command goes on from there" in run.output
    wait_for(lambda: {job(number)["JobState"] for number in jobs} == {"CANCELLED"})
    assert len(list(run.folder.rglob("checkpoint.safetensors"))) == 2
    reached = {name: run.steps(name)[-1] for name in going}
    run.start()
    # which two of the three run now is Slurm's choice: one of those that ran is among them
    wait_for(lambda: any(run.steps(name) and run.steps(name)[0] > reached[name] for name in going))
    assert run.stop() == 75


def test_a_killed_run_cancels_its_jobs_and_goes_on(lab: Lab, weights: Weights, seeds: Started) -> None:
    """``sciencevae run`` alone is killed; then all of it, as when a login node goes down.

    Meanwhile ``seeds`` begins, for the next test.
    """
    run = lab.run("killed")
    first = run.training()
    run.process.kill()
    wait_for(lambda: job(first)["JobState"] == "CANCELLED")
    reached = run.steps()[-1]
    run.process.wait()
    run.start()
    second = wait_for(lambda: run.jobs()[1:])[0]
    wait_for(lambda: run.steps() and run.steps()[0] > reached)
    both = (run.process.pid, run.workflow())
    # stopped first: snakemake without its run cancels its jobs
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in both:
            os.kill(pid, number)
    run.process.wait()
    reached = run.steps()[-1]
    assert job(second)["JobState"] == "RUNNING"
    run.start()
    wait_for(lambda: run.steps() and run.steps()[0] > reached)
    assert len(run.jobs()) == 3
    assert job(second)["JobState"] == "FAILED"  # it saved and made way for the new one
    assert equal(run.trained(), weights)


def test_several_seeds_are_jobs_side_by_side_to_the_end(seeds: Started) -> None:
    jobs = wait_for(lambda: seeds.jobs()[1:] and seeds.jobs())
    for number in jobs:
        wait_for(lambda number=number: job(number)["JobState"] == "RUNNING")
        found = job(number)
        assert (found["Partition"], found["Account"]) == ("gpu", "physics")
    for variant in ("main", "second"):
        wait_for(lambda variant=variant: seeds.steps(variant))
        lock = read_json(seeds.folder / ".locks" / f"train-{variant}")
        environment = Path(f"/proc/{lock['pid']}/environ").read_text().split("\0")
        assert "CUDA_VISIBLE_DEVICES=0" in environment
        assert f"SLURMD_NODENAME={lock['host']}" in environment
    assert {job(number)["NodeList"] for number in jobs} == {"n1", "n2"}  # of one GPU each
    seeds.hold.unlink()
    assert seeds.end() == 0, seeds.output
    run = Run(seeds.folder)
    assert run.metrics["spread"]["spread"].keys() == {"main", "second"}
    records = [record for record in run.records() if record["stage"] != "prepare"]
    numbers = [record["environment"]["slurm_job"] for record in records]
    assert len(set(numbers)) == len(numbers) == 6
    assert {job(number)["JobState"] for number in numbers} == {"COMPLETED"}
    assert {record["host"] for record in records} <= {"n1", "n2"}
    seeds.start()
    assert seeds.end() == 0
    assert "nothing to do" in seeds.output


def test_several_domains_run_side_by_side_and_stop_and_go_on_as_one(lab: Lab) -> None:
    run = lab.run_each("domains", "toy", "twin")
    folders = [run.folder / "toy", run.folder / "twin"]
    wait_for(lambda: all(map(steps, folders)))
    for line in ("toy  | prepare: done", "twin | prepare: done"):
        assert line in run.output
    assert run.stop() == 75
    assert len(list(run.folder.rglob("checkpoint.safetensors"))) == 2
    reached = [steps(folder)[-1] for folder in folders]
    run.start()
    wait_for(lambda: all(f and f[0] > r for f, r in zip(map(steps, folders), reached, strict=True)))
    assert run.stop() == 75
    for line in ("toy  | stopping", "twin | stopping"):
        assert run.output.count(line) == 2
