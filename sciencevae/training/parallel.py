"""Several ranks that train one model: how they find one another, add up, and tell that one of them is gone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from sciencevae.errors import Interrupted, RunError

__all__ = ["RankLost", "Ranks", "announced", "joined"]

#: seconds in which all ranks of a job have to come up: the first import over a busy file system takes minutes
RENDEZVOUS_SECONDS = 300.0
#: the first of the ports that jobs under srun meet at, and how many there are
PORTS = (20_000, 10_000)


class RankLost(Interrupted):
    """Another rank of the training is gone: the job asks to be started again."""


@dataclass(frozen=True)
class Ranks:
    """The processes that train one model: the number of this one, and how many there are.

    Every method but ``here`` is a call that all ranks make together. Raises RankLost where one of them is gone.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Those of torch's process group, where one has been started; else this process alone."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks, in place."""
        if self.count > 1:
            with _watched():
                dist.all_reduce(tensor)
        return tensor

    def copied(self, tensor: Tensor) -> None:
        """What the first rank has, in place."""
        if self.count > 1:
            with _watched():
                dist.broadcast(tensor, 0)

    def told(self, value: Any) -> Any:
        """The first rank's value, of what JSON can say."""
        if self.count == 1:
            return value
        text = bytearray(json.dumps(value).encode() if self.rank == 0 else b"")
        size = torch.tensor([len(text)], device=_device())
        self.copied(size)
        sent = torch.zeros(int(size), dtype=torch.uint8, device=size.device)
        if self.rank == 0:
            sent.copy_(torch.frombuffer(text, dtype=torch.uint8))
        self.copied(sent)
        return json.loads(sent.cpu().numpy().tobytes())

    def gathered(self, rows: np.ndarray, most: int) -> np.ndarray:
        """Row numbers of all ranks, at most ``most`` of each, one rank's behind the other's."""
        if self.count == 1:
            return rows
        own = torch.full((self.count, most), -1, dtype=torch.int64, device=_device())
        own[self.rank, : len(rows)] = torch.from_numpy(np.asarray(rows, np.int64))
        own[: self.rank] = own[self.rank + 1 :] = 0
        found = self.add(own).flatten().cpu().numpy()
        return found[found >= 0]


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


@contextmanager
def _watched() -> Iterator[None]:
    """torch's errors of a rank that does not answer, as RankLost."""
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RankLost(
            f"another rank of this training is gone, or is longer silent than training.rank_seconds ({reason}): "
            "look for its last words, and start the job again; it goes on from its last checkpoint"
        ) from error


def announced(environment: Mapping[str, str] = os.environ) -> Ranks:
    """The ranks that torchrun, or srun with several tasks, started this process as one of.

    A batch script has ``SLURM_NTASKS`` too and is one process all the same: what tells is ``SLURM_STEP_NUM_TASKS``.
    """
    for rank, count in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if rank in environment and count in environment:
            return Ranks(int(environment[rank]), int(environment[count]))
    return Ranks()


@contextmanager
def joined(seconds: float, device: str = "auto") -> Iterator[Ranks]:
    """Inside, the announced ranks are torch's process group: NCCL where there are GPUs, else gloo.

    seconds: how long one may keep the others waiting. Where a group has been started already, or there is one rank
    only, nothing is done. Raises RunError where the ranks do not find one another.
    """
    ranks = announced()
    if ranks.count == 1 or dist.is_initialized():
        yield Ranks.here()
        return
    gpu = device != "cpu" and torch.cuda.is_available()
    if gpu:
        local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
        # srun may show each task one GPU alone, as number 0
        torch.cuda.set_device(local % torch.cuda.device_count())
    os.environ.setdefault("MASTER_ADDR", _first_node())
    os.environ.setdefault("MASTER_PORT", str(_port()))
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store, *_ = next(
            dist.rendezvous("env://", ranks.rank, ranks.count, timeout=timedelta(seconds=RENDEZVOUS_SECONDS))
        )
        dist.init_process_group(
            "nccl" if gpu else "gloo",
            store=dist.PrefixStore("sciencevae", store),
            rank=ranks.rank,
            world_size=ranks.count,
            timeout=timedelta(seconds=seconds),
        )
    except RuntimeError as error:
        raise RunError(
            f"the {ranks.count} ranks do not meet at {where} ({(str(error).splitlines() or ['?'])[0]}): start all "
            "of them, or set MASTER_ADDR and MASTER_PORT to a host and a free port that all of them reach"
        ) from error
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def _first_node() -> str:
    nodes = os.environ.get("SLURM_STEP_NODELIST")
    if nodes is None:
        return "127.0.0.1"
    try:
        said = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise RunError(f"scontrol does not say which the first of {nodes} is: set MASTER_ADDR") from error
    return said.stdout.split()[0]


def _port() -> int:
    """One that the ranks of a step agree on, and that other jobs on the node are not likely to use."""
    first, many = PORTS
    job, step = (int(os.environ.get(name, "0")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return first + (job * 31 + step) % many
