"""One rank of a training, for the tests."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from sciencevae.batch import Batch
from sciencevae.data.augment import Augmented
from sciencevae.data.batches import InMemory
from sciencevae.errors import ScienceVAEError
from sciencevae.networks import Perceptron
from sciencevae.training.ensemble import fit_ensemble
from sciencevae.training.loop import fit
from sciencevae.training.parallel import joined
from sciencevae.training.schedules import WarmUp
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, BetaTCVAE


def build(normalised: bool = False) -> VAE:
    encoder = Perceptron(4, [16], 4)
    return VAE(
        priors.StandardNormal(2),
        encoders.Gaussian(
            torch.nn.Sequential(torch.nn.BatchNorm1d(4), encoder) if normalised else encoder, dim=2
        ),
        decoders.Gaussian(Perceptron(2, [16], 4), scale="learned"),
    )


def rows(bad: int | None = None) -> Batch:
    """300 rows, some of which count more than others."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.tensor([[1.0, 0.5, -0.3, 0.0], [0.0, 0.8, 0.4, -1.0]])
    x = torch.randn(300, 2, generator=generator) @ mixing + 0.2 * torch.randn(300, 4, generator=generator)
    if bad is not None:
        x[bad] = 3e38
    return Batch(x, weight=0.5 + torch.rand(300, generator=generator))


def train(out: Path, asked: dict[str, Any]) -> None:
    """Fit, and leave history and weights in RANK.json."""
    kind, bad, store = asked.pop("kind", "plain"), asked.pop("bad", None), asked.pop("store", None)
    chosen = TrainingSettings(
        **({"epochs": 4, "batch_size": 60, "compile": False, "learning_rate": 3e-3} | asked)
    )
    with joined(chosen.rank_seconds, "cpu") as ranks:
        torch.manual_seed(0 if kind != "unlike" else ranks.rank)
        model = build(kind == "normalised")
        objective = BetaTCVAE(300) if kind == "coupled" else ELBO(beta=WarmUp(1.0, 10))
        data = store or InMemory(rows(bad))
        if kind == "augmented":
            data = Augmented(
                data, lambda b, g: Batch(b.x + 0.1 * torch.randn(b.x.shape, generator=g), weight=b.weight)
            )

        def show(epoch: int, step: int, parts: object) -> None:
            (out / "step").write_text(str(step))

        if kind == "ensemble":
            fit_ensemble(build, data, [0, 1], objective, settings=chosen)
        history = fit(
            model,
            data,
            objective,
            None if store else Batch(rows().x[:100]),
            chosen,
            out / "run",
            progress=show,
        )
    found = {
        "rows": history.rows,
        "compiled": history.compiled,
        "weights": torch.cat([p.detach().reshape(-1) for p in model.parameters()]).tolist(),
    }
    (out / f"{os.environ['RANK']}.json").write_text(json.dumps(found))


def run(out: Path, environment: dict[str, str], asked: dict[str, Any]) -> None:
    """``train`` in a process of its own, as the command line would end it; what it says goes to RANK.said."""
    os.environ |= environment
    os.dup2(os.open(out / f"{environment['RANK']}.said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    try:
        train(out, asked)
    except ScienceVAEError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
