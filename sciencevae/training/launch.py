"""One command as several ranks of a training: srun's tasks within a Slurm job, else processes of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from types import FrameType

__all__ = ["launch"]

#: what a new step of a job has to know
OF_JOB = ("SLURM_JOB_ID", "SLURM_CONF")
#: what is passed on to the ranks: stop, and save
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def launch(command: Sequence[str], ranks: int, threads: int) -> int:
    """Run a command as so many ranks of ``threads`` threads each; gives its exit code.

    That is 0 where all gave 0, that of an error where one had one, and else 75: the ranks have saved, or one was
    killed, which made the others save. Within a Slurm job srun takes the place of this process.
    """
    if "SLURM_JOB_ID" in os.environ and shutil.which("srun"):
        # This process may be a step of the job itself, on one of its nodes, as its variables say; the new step has
        # all of them, and all of their memory.
        own = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") or k in OF_JOB}
        step = ["--overlap", "--mem=0", f"--ntasks={ranks}", f"--cpus-per-task={threads}"]
        os.execvpe("srun", ["srun", *step, *command], own)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(ranks)}
    processes: list[subprocess.Popen[bytes]] = []
    waiting: list[int] = []  # signals that came before there was somebody to have them

    def forward(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        for rank in range(ranks):
            own = where | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            # a group of its own: Ctrl-C reaches us alone, and we pass it on
            processes.append(subprocess.Popen(command, env=os.environ | own, process_group=0))
            for number in waiting:
                processes[-1].send_signal(number)
        codes = [process.wait() for process in processes]
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return next((code for code in codes if code not in (0, 75) and code > 0), 75 if any(codes) else 0)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
