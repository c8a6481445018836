"""``sciencevae run --profile`` on a real Slurm: jobs, failures, limits, preemption, signals, kills.

The runs of this module start together, and wait, held, for the test that is about them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from lab import Lab, job, slurm, wait_for

from sciencevae.runs import Run, read_json

Weights = dict[str, torch.Tensor]
GPU = {"train": {"slurm_partition": "gpu", "gres": "gpu:1", "slurm_account": "physics"}}
SEEDS = {"variants": "{second: {seed: 1}}"}


def equal(first: Weights, second: Weights) -> bool:
    """Bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_trainings_go_on_in_another_job(lab: Lab, uninterrupted: Weights) -> None:
    """One is told to stop, one runs out of time."""
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
        assert equal(run.trained(), uninterrupted)
    assert job(first[told])["JobState"] == "FAILED"
    assert job(first[late])["JobState"] == "TIMEOUT"
    assert f"Slurm job {first[late]} ran out of time" in late.output


def test_preempted_jobs_and_those_of_lost_nodes_go_on(lab: Lab, uninterrupted: Weights) -> None:
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
    slurm("scontrol", "update", f"NodeName={nodes[lost]}", "State=RESUME")
    for run in first:
        wait_for(lambda run=run: run.steps() and run.steps()[0] > reached[run])
        print(slurm("squeue", "--states=all"), run.jobs(), run.output)
        assert equal(run.trained(), uninterrupted)


def test_several_seeds_are_jobs_side_by_side_to_the_end(lab: Lab) -> None:
    seeds = lab.run("seeds", SEEDS, **{"set-resources": GPU})
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
    numbers = [record["slurm_job"] for record in run.records()]
    assert len(set(numbers)) == len(numbers) == 7
    assert {job(number)["JobState"] for number in numbers} == {"COMPLETED"}
    assert {record["host"] for record in run.records()} <= {"n1", "n2"}
    seeds.start()
    assert seeds.end() == 0
    assert "nothing to do" in seeds.output
