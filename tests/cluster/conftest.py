"""A Slurm that is up, or a reason to skip; what several tests of this folder compare with."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest
import torch
from lab import SLOW, Lab

from sciencevae.cli import main
from sciencevae.runs import Run


@pytest.fixture(scope="session")
def _slurm() -> None:
    """A Slurm that answers; without its daemon, sinfo waits long before it says so."""
    try:
        up = shutil.which("sinfo") and subprocess.run(["sinfo", "-h"], capture_output=True, timeout=5).stdout
    except subprocess.TimeoutExpired:
        up = b""
    if not up:
        pytest.skip("no Slurm is up here: .ci/slurm up")
    pytest.importorskip("snakemake_executor_plugin_slurm")


@pytest.fixture(scope="session")
def uninterrupted(_slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The SLOW training that nothing happened to, here and not on a cluster."""
    folder = str(tmp_path_factory.mktemp("uninterrupted") / "run")
    settings = [part for key, value in SLOW.items() for part in ("--set", f"{key}={value}")]
    assert main(["configure", "toy", "--out", folder, *settings]) == 0
    for stage in ("prepare", "train"):
        assert main([stage, folder]) == 0
    return Run(folder)


@pytest.fixture(scope="module")
def lab(uninterrupted: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A folder for the runs of a module; those that are left at its end are stopped."""
    made = Lab(tmp_path_factory.mktemp("lab"), uninterrupted)
    yield made
    for run in made.runs:
        if run.process.poll() is None:
            run.process.terminate()
    for run in made.runs:
        run.end(90)


@pytest.fixture(scope="session")
def weights(uninterrupted: Run) -> dict[str, torch.Tensor]:
    """Those of the uninterrupted training."""
    return uninterrupted.main.model().state_dict()
