"""Our ``fit`` as a program that ``turns.py`` measures (see ``peers/pace.py``).

OPTION  compiled: the default · eager: compile=False · ensemble: eight seeds as one
        sample: no training; draws latents from the prior, and decodes them to the likelihood's mean
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import torch
from pace import BETAS, DRAWN, LEARNING_RATE, PRIORS, WEIGHT_DECAY, data, start

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
    encoder: torch.nn.Module
    decoder: torch.nn.Module
    if channels := problem.get("channels"):
        image = (1, 28, 28)
        encoder = sv.networks.ConvolutionalEncoder(image, 2 * latent, channels, *hidden)
        decoder = sv.networks.ConvolutionalDecoder(latent, image, channels[::-1], *hidden)
    else:
        encoder = sv.networks.Perceptron(width, hidden, 2 * latent, activation="relu")
        decoder = sv.networks.Perceptron(latent, hidden[::-1], width, activation="relu")
    posterior = sv.encoders.Gaussian(encoder, latent)
    return sv.VAE(prior_of(posterior), posterior, likelihood(decoder))


def prior_of(posterior: sv.encoders.Gaussian) -> sv.priors.Prior:
    """The prior of the problem, flows at their default size."""
    name, dim = problem.get("prior", "standard"), posterior.dim
    if name == "standard":
        return sv.priors.StandardNormal(dim)
    if name == "mixture":
        return sv.priors.GaussianMixture(dim, PRIORS[name])
    if name == "vamp":
        return sv.priors.VampPrior(posterior, PRIORS[name], [problem["x"]], low=0.0, high=1.0)
    if name == "affine":
        return sv.priors.Flow(dim, transforms=2, hidden=(128, 128, 128), bins=0)
    return sv.priors.Flow(dim, name)


@torch.no_grad()
def draw(model: sv.VAE) -> None:
    """Images by the batch, forever."""
    while True:
        _ = model.decode(model.sample_latents(DRAWN)).mean
        pace()


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


if option == "sample":
    pace.warm_up = 5
    draw(build().eval())
elif option == "ensemble":
    sv.fit_ensemble(build, rows, list(SEEDS), settings=settings, progress=report)
else:
    torch.manual_seed(0)
    sv.fit(build(), rows, settings=settings, progress=report)
