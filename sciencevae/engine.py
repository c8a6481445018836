"""Where ``prepare`` and ``encode`` compute: threads of their job, processes of this machine, or jobs of a cluster.

All of it is Dask: data are cut into the same blocks everywhere, so what comes out does not depend on where. A file
says which, usually ``dask.yaml`` in the folder of a workflow's profile.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from sciencevae.config import Section, describe, read_yaml
from sciencevae.errors import InputError, RunError

__all__ = ["Engine", "engine"]


class Engine(Section):
    """The file: ``cluster``, ``workers``, and what Dask's own class for the cluster takes as ``options``."""

    cluster: Literal["local", "slurm"]
    workers: int = Field(ge=1, description="processes of this machine, or jobs of the cluster")
    options: dict[str, Any] = Field(
        default_factory=dict, description="of distributed.LocalCluster, or of dask_jobqueue.SLURMCluster"
    )
    wait_seconds: float = Field(600.0, gt=0, description="how long the first worker may take to come up")

    @classmethod
    def read(cls, path: str | Path) -> Engine:
        """The file at ``path``; InputError for what is wrong in it."""
        found = read_yaml(Path(path))
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            raise InputError(f"{path}: {describe(cls, error)}") from None


@contextmanager
def engine(path: str | Path | None, scratch: Path) -> Iterator[None]:
    """Inside, Dask computes where the file says; None: where it does, in threads.

    scratch: a folder that all workers see, for the logs of jobs and, readable by the owner alone, their keys: what
    goes between processes is encrypted, and only who has a key may join. A worker that dies is replaced, and its
    blocks are computed again.

    Raises InputError for a file that is wrong, RunError where the cluster does not start or no worker comes up.
    """
    if path is None:
        yield
        return
    asked = Engine.read(path)
    try:
        from distributed import Client, LocalCluster, Security

        security = Security.temporary()
        if asked.cluster == "slurm":
            from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise RunError(
            f"{path} asks for {error.name}: pip install 'sciencevae[slurm]', or leave --dask"
        ) from error
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder, encrypted = str(scratch), {"security": security, "protocol": "tls://"}
    cluster: Any
    usual: dict[str, Any]
    try:
        if asked.cluster == "local":
            usual = {"threads_per_worker": 1, "host": "127.0.0.1", "local_directory": folder}
            options = (
                usual | {"n_workers": asked.workers, "dashboard_address": None} | asked.options | encrypted
            )
            try:
                cluster = LocalCluster(**options)
            except RuntimeError:  # a worker was killed while it started, with which Dask gives up all
                cluster = LocalCluster(**options)
        else:
            usual = {"cores": 1, "processes": 1, "memory": "2GiB", "log_directory": folder}
            quiet = {"scheduler_options": {"dashboard_address": None}, "shared_temp_directory": folder}
            cluster = SLURMCluster(**usual | quiet | asked.options | encrypted)
            _check_taken(path, cluster)
            # kept at that number: a job that ends is replaced
            cluster.adapt(minimum_jobs=asked.workers, maximum_jobs=asked.workers)
    except InputError:
        raise
    except Exception as error:
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        if isinstance(first, TypeError):  # of the classes that the options go to
            raise InputError(f"{path}: options: {first}") from error
        raise RunError(f"the cluster of {path} does not start: {first}") from error
    with cluster, Client(cluster) as client:
        try:
            client.wait_for_workers(1, timeout=asked.wait_seconds)
        except TimeoutError as error:
            raise RunError(
                f"no worker of {path} came up in {asked.wait_seconds:g} s: see squeue, and the logs in {scratch}"
            ) from error
        yield


def _check_taken(path: str | Path, cluster: Any) -> None:
    """InputError where Slurm would not take a job of a worker: Dask goes on asking, and waits for it."""
    command = ["sbatch", "--test-only"]
    done = subprocess.run(command, input=cluster.job_script(), capture_output=True, text=True)
    if done.returncode:
        cluster.close()
        raise InputError(f"{path}: Slurm takes no such job: {' '.join(done.stderr.split())}")
