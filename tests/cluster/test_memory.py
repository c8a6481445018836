"""Data larger than the memory of a job: every stage under a hard limit, which holding the data would break."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sciencevae.runs import Run

SIDE, FRAMES, RUNS = 64, 256, 96  # 768 MiB of u and v, of which training sees 614
LIMIT = 1400  # MiB


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Travelling waves, written run by run."""
    path = tmp_path_factory.mktemp("flow") / "flow.zarr"
    x = np.linspace(0, 2 * np.pi, SIDE, endpoint=False)
    t = np.arange(FRAMES)[:, None, None] * 0.1
    for run in range(RUNS):
        wave = np.sin((1 + run % 3) * x + run * x[:, None] / RUNS + t + run).astype(np.float32)[None]
        coords = {"time": t.ravel(), "y": x, "x": x}
        ds = xr.Dataset(
            {name: (("run", "time", "y", "x"), wave, {"units": "m/s"}) for name in ("u", "v")}, coords
        )
        for name in ("u", "v"):
            ds[name].encoding = {} if run else {"compressors": None}
        ds.to_zarr(path, mode="a", append_dim="run" if run else None, zarr_format=3, consolidated=False)
    return path


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """In a job of Slurm, which kills what takes more memory than it asked for."""
    return subprocess.run(
        ["srun", "--ntasks=1", f"--mem={LIMIT}", sys.executable, "-P", *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )


@pytest.mark.usefixtures("_slurm")
def test_prepare_train_and_encode_of_data_that_do_not_fit(flow: Path, tmp_path: Path) -> None:
    over = command("-c", f"import numpy as np; np.ones(({LIMIT} << 20) // 8)")
    if not over.returncode:
        pytest.skip("this Slurm does not enforce memory limits: it has no cgroups")
    settings = (
        "training.epochs=1", "prepare.fractions={train: 0.8, valid: 0.1, test: 0.1}", "model.channels=[4, 8]",
        "model.hidden=[16]", "model.latent=4",
    )  # fmt: skip
    run = tmp_path / "run"
    words = ["--config", "own", "--input", flow, "--out", run]
    words += [word for setting in settings for word in ("--set", setting)]
    done = command(
        "-m", "sciencevae", "configure", "fluids", "--config", "own", "--input", flow, "--out", run, *words
    )
    assert done.returncode == 0, done.stderr
    for stage in ("prepare", "train", "encode"):
        done = command("-m", "sciencevae", stage, run)
        assert done.returncode == 0, (stage, done.stderr)
    variant = Run(run).main
    assert variant.data["x"].nbytes == 2 * 4 * RUNS * FRAMES * SIDE**2
    assert int((variant.data["split"] == 0).sum()) * 2 * 4 * SIDE**2 > 512 << 20  # it streamed
    assert variant.latents["z"].shape == (RUNS * FRAMES, 4)
