"""Our ``fit`` as a program that ``turns.py`` measures (see ``peers/pace.py``).

OPTION  compiled: the default · eager: compile=False · ensemble: eight seeds as one
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import torch
from pace import BETAS, LEARNING_RATE, WEIGHT_DECAY, data, start

import sciencevae as sv
from sciencevae.batch import Batch
from sciencevae.data.batches import InMemory

problem, option, pace = start()

SEEDS = range(8)
FOREVER = 10**7


class Counted(InMemory):
    """The in-memory loader, telling the clock of each batch of the first seed."""

    def epoch(self, seed: int, epoch: int, *args: Any, **kwargs: Any) -> Iterator[Batch]:
        for batch in super().epoch(seed, epoch, *args, **kwargs):
            if seed == 0:
                pace()
            yield batch


def build() -> sv.VAE:
    """The model of the problem, the Gaussian with σ = 1 as the peers' squared error has it."""
    hidden, latent, width = problem["hidden"], problem["latent"], problem["x"]
    likelihood = {"gaussian": sv.decoders.Gaussian, "bernoulli": sv.decoders.Bernoulli}[problem["likelihood"]]
    encoder = sv.networks.Perceptron(width, hidden, 2 * latent, activation="relu")
    decoder = sv.networks.Perceptron(latent, hidden[::-1], width, activation="relu")
    return sv.VAE(
        sv.priors.StandardNormal(latent), sv.encoders.Gaussian(encoder, latent), likelihood(decoder)
    )


settings = sv.TrainingSettings(
    epochs=FOREVER,
    batch_size=problem["batch"],
    learning_rate=LEARNING_RATE,
    weight_decay=WEIGHT_DECAY,
    betas=BETAS,
    compile=option != "eager",
    device="cpu",
)
rows = Counted(data(problem))


def report(*_: Any) -> None:
    """Progress that is read but not shown."""


if option == "ensemble":
    sv.fit_ensemble(build, rows, list(SEEDS), settings=settings, progress=report)
else:
    torch.manual_seed(0)
    sv.fit(build(), rows, settings=settings, progress=report)
