"""What each measured program shares: its problem, and a clock that stops it between measurements.

A measured program is a subprocess that trains and calls ``pace()`` at each step. After its warm-up it says
that it is ready and waits; "go SECONDS" on its standard input lets it run for that long, after which it
answers with the steps, the wall and the processor seconds. So programs take turns many times in one run, each in
the middle of its own training loop, and nothing of a start-up is counted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

__all__ = ["DRAWN", "PRIORS", "PROBLEMS", "WARM_UP", "Pace", "data", "start"]

WARM_UP = 60
#: images that a step of sampling draws
DRAWN = 1000
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2
BETAS = (0.9, 0.999)

#: components, where a prior has any; "affine": an autoregressive flow as Pythae's sampler has it
PRIORS = {"standard": 0, "mixture": 50, "vamp": 100, "coupling": 0, "autoregressive": 0, "affine": 0}
_IMAGES: dict[str, Any] = {
    "rows": 10_240, "x": 784, "hidden": [512], "latent": 20, "batch": 128, "likelihood": "bernoulli",
}  # fmt: skip
#: rows, width of x, hidden layers of the encoder (the decoder's are these backwards), latent, batch, likelihood;
#: of images 28×28 the channels of convolutions before those layers; the prior, N(0, 1) where none is named
PROBLEMS: Mapping[str, dict[str, Any]] = {
    "tabular-128": {
        "rows": 49_920, "x": 8, "hidden": [64, 32], "latent": 2, "batch": 128, "likelihood": "gaussian",
    },
    "images-128": _IMAGES,
    "images-512": {**_IMAGES, "batch": 512},
    "convolution-128": {**_IMAGES, "channels": [32, 64], "hidden": [128], "latent": 16},
    **{f"prior-{name}": {**_IMAGES, "latent": 32, "prior": name} for name in PRIORS},
}  # fmt: skip


def data(problem: dict[str, Any]) -> Any:
    """x (rows, width): a normal cloud around a plane, or binary images, (rows, 1, 28, 28) for convolutions.

    A whole number of batches an epoch.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    z = torch.randn(problem["rows"], problem["latent"], generator=generator)
    mixing = torch.randn(problem["latent"], problem["x"], generator=generator)
    x = z @ mixing / problem["latent"] ** 0.5
    if problem["likelihood"] == "bernoulli":
        bits = (torch.rand(x.shape, generator=generator) < x.sigmoid()).float()
        return bits.unflatten(1, (1, 28, 28)) if "channels" in problem else bits
    return x + 0.5 * torch.randn(x.shape, generator=generator)


class Pace:
    """The clock. Calling it counts a step; the instance ends the process when it is told to."""

    def __init__(self, answers: TextIO, started: float, versions: dict[str, str]) -> None:
        self.answers, self.started, self.versions = answers, started, versions
        self.count, self.deadline, self.warm_up = 0, float("inf"), WARM_UP
        self.first = 0.0

    def __call__(self) -> None:
        self.count += 1
        if self.count == 2:
            self.first = time.time() - self.started
        if self.deadline == float("inf"):
            if self.count >= self.warm_up:
                self._answer(ready=True, start_up=self.first, versions=self.versions)
                self._wait()
        elif time.perf_counter() >= self.deadline:
            wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
            self._answer(steps=self.count, wall=wall, cpu=cpu)
            self._wait()

    def _answer(self, **values: Any) -> None:
        self.answers.write(json.dumps(values) + "\n")
        self.answers.flush()

    def _wait(self) -> None:
        words = sys.stdin.readline().split()
        if not words or words[0] != "go":
            os._exit(0)  # trainers catch exceptions and save: leave without them
        self.count = 0
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        self.deadline = self.wall + float(words[1])


def start(*packages: str) -> tuple[dict[str, Any], str, Pace]:
    """The problem and the options that the command line names (PROBLEM THREADS STARTED OPTION), and the clock."""
    from importlib.metadata import version

    import torch

    name, threads, started, option = sys.argv[1:5]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a trainer prints goes to the log
    versions = {package: version(package) for package in ("torch", *packages)}
    return PROBLEMS[name], option, Pace(answers, float(started), versions)
