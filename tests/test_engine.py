"""Blocks on a cluster of Dask's: the results of one process, dead workers survived, strangers kept out."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from sciencevae.data.parallel import client, streamed
from sciencevae.data.store import fingerprint, write
from sciencevae.engine import Engine, engine
from sciencevae.errors import InputError
from sciencevae.latents.encode import encode_store
from sciencevae.networks import Perceptron
from sciencevae.runs import Run
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE

pytest.importorskip("distributed")
LOCAL = "cluster: local\nworkers: 2\n"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two workers; gives the folder of their keys."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "dask.yaml").write_text(LOCAL)
    with engine(folder / "dask.yaml", folder / "scratch"):
        yield folder / "scratch"


def squared(block: list[int], seconds: float, folder: str | None) -> list[int]:
    """The first call by a worker, where a folder is given, says which process it is and waits to be killed."""
    if folder is not None and 0 in block:
        mark = Path(folder) / "victim"
        if not mark.exists():
            mark.write_text(str(os.getpid()))
            time.sleep(60)
    time.sleep(seconds)
    return [number**2 for number in block]


def test_blocks_come_in_order_from_other_processes(cluster: Path) -> None:
    blocks = [[i, i + 1] for i in range(0, 40, 2)]
    found = list(streamed(squared, blocks, 0.0, None))
    assert found == [(block, [i**2 for i in block]) for block in blocks]
    own = {os.getpid()}
    assert not own & set(client().run(os.getpid).values())


def test_a_worker_that_dies_is_replaced(cluster: Path, tmp_path: Path) -> None:
    import threading

    def kill() -> None:
        mark = tmp_path / "victim"
        while not (mark.exists() and mark.read_text()):
            time.sleep(0.05)
        os.kill(int(mark.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    blocks = [[i, i + 1] for i in range(0, 20, 2)]
    found = list(streamed(squared, blocks, 0.01, str(tmp_path)))
    killer.join()
    assert found == [(block, [i**2 for i in block]) for block in blocks]


def model_of(features: int) -> VAE:
    torch.manual_seed(0)
    return VAE(
        priors.StandardNormal(2),
        encoders.Gaussian(Perceptron(features, [32], 4), dim=2),
        decoders.Gaussian(Perceptron(2, [32], features)),
    ).eval()


def test_latents_are_those_of_one_process_to_the_bit(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).normal(size=(5000, 6)).astype(np.float32)
    write(xr.Dataset({"x": (("sample", "feature"), x)}), tmp_path / "data.zarr")
    encode_store(model_of(6), tmp_path / "data.zarr", tmp_path / "cluster.zarr")
    monkeypatch.setattr("sciencevae.latents.encode.client", lambda: None)
    encode_store(model_of(6), tmp_path / "data.zarr", tmp_path / "threads.zarr", threads=2)
    encode_store(model_of(6), tmp_path / "data.zarr", tmp_path / "one.zarr")
    found = {fingerprint(tmp_path / f"{name}.zarr") for name in ("cluster", "threads", "one")}
    assert len(found) == 1


def test_who_has_no_key_stays_out(cluster: Path) -> None:
    import asyncio

    from distributed import Client

    address = client().scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    for stranger in (address, address.replace("tls", "tcp")):

        async def join(stranger: str = stranger) -> None:
            async with Client(stranger, asynchronous=True, timeout=3):
                pass

        with pytest.raises((OSError, TypeError, ValueError)):
            asyncio.run(join())


def test_keys_are_the_owners_alone(cluster: Path) -> None:
    assert stat.S_IMODE(cluster.stat().st_mode) == 0o700


def test_a_profile_says_where_a_run_computes(
    tmp_path: Path, toy_run: Path, sciencevae_command: Callable[..., Any]
) -> None:
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text("executor: local\n")
    (profile / "dask.yaml").write_text(LOCAL)
    folder = tmp_path / "run"
    done = sciencevae_command(
        *("run", "toy", "--out", folder, "--profile", profile, "--set", "variants={}"), timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (folder / ".dask").is_dir()
    ours, serial = Run(folder).main, Run(toy_run).main
    assert fingerprint(ours.store) == fingerprint(serial.store)
    assert fingerprint(ours.folder / "latents.zarr") == fingerprint(serial.folder / "latents.zarr")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cluster: pbs\nworkers: 2\n", "cluster"),
        ("cluster: local\n", "workers"),
        ("cluster: local\nworkers: 0\n", "workers"),
        ("cluster: local\nworkers: 1\noption: {}\n", "option"),
        ("cluster: local\nworkers: 1\noptions: {proceses: 3}\n", "proceses"),
        ("cluster: [\n", "not valid YAML"),
        ("- local\n", "dask.yaml"),
    ],
)
def test_a_wrong_file_is_one_line_that_says_what(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "dask.yaml").write_text(text)
    with pytest.raises(InputError, match=says), engine(tmp_path / "dask.yaml", tmp_path / "scratch"):
        raise AssertionError("it started")
    with pytest.raises(InputError, match="no-such"):
        Engine.read(tmp_path / "no-such.yaml")


def test_a_job_that_slurm_refuses_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "sbatch").write_text(
        "#!/bin/sh\ngrep -q 'SBATCH -p nowhere' && echo 'no such partition' >&2\nexit 1\n"
    )
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    file = tmp_path / "dask.yaml"
    file.write_text("{cluster: slurm, workers: 1, options: {queue: nowhere, interface: lo}}")
    with (
        pytest.raises(InputError, match="Slurm takes no such job: no such partition"),
        engine(file, tmp_path / "s"),
    ):
        pass
