"""A tiny domain for the tests of the workflow: points near a line, or a table of the user's."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field

from sciencevae.config import PrepareSettings, RunSettings, Section
from sciencevae.registry import Domain, Findings
from sciencevae.runs import Run


class Source(Section):
    samples: int = Field(240, ge=1)
    angle: float = 0.5


class Model(Section):
    latent: int = Field(1, ge=1)
    hidden: tuple[int, ...] = (8,)


class Objective(Section):
    beta: float = 1.0
    hold: str = ""  # while this file is there, a process does its first steps at once, and then one a second
    ballast_mb: int = 0  # memory that the training fills for a moment


class Refit(Section):
    components: int = 0


class Analyse(Section):
    slow: float = 0.0
    fail: bool = False


class Report(Section):
    title: str = "latents <b>"


class Toy(RunSettings):
    source: Source = Field(default_factory=Source)
    prepare: PrepareSettings = Field(default_factory=PrepareSettings)
    model: Model = Field(default_factory=Model)
    objective: Objective = Field(default_factory=Objective)
    refit: Refit = Field(default_factory=Refit)
    analyse: Analyse = Field(default_factory=Analyse)
    report: Report = Field(default_factory=Report)


def prepare(settings: Toy, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    if input is not None:
        values = pd.read_csv(input).to_numpy(np.float32)
    else:
        generator = np.random.default_rng(0)
        along = generator.normal(size=settings.source.samples)
        direction = [np.cos(settings.source.angle), np.sin(settings.source.angle), 1.0]
        values = np.outer(along, direction) + 0.1 * generator.normal(size=(len(along), 3))
    return xr.Dataset(
        {"x": (("sample", "feature"), values.astype(np.float32), {"units": "m", "long_name": "position"})},
        coords={"number": ("sample", np.arange(len(values)))},
    )


def read(path: Path, settings: Toy, template: xr.Dataset) -> Iterator[xr.Dataset]:
    row = 0
    for frame in pd.read_csv(path, chunksize=50, index_col="name"):
        values = frame.apply(pd.to_numeric, errors="coerce").to_numpy(np.float32, copy=True)
        bad = np.isnan(values).any(1)
        values[bad] = np.nan
        yield xr.Dataset(
            {"x": (("sample", "feature"), values, {"units": "m"})},
            coords={
                "row": ("sample", np.arange(row, row + len(frame))),
                "id": ("sample", frame.index.to_numpy(str)),
                "status": ("sample", np.where(bad, "not a number", "ok")),
            },
        )
        row += len(frame)


def build(settings: Toy, data: xr.Dataset) -> Any:
    from sciencevae.networks import Perceptron
    from sciencevae.vae import decoders, encoders, priors
    from sciencevae.vae.model import VAE

    width, latent = data.sizes["feature"], settings.model.latent
    return VAE(
        priors.StandardNormal(latent),
        encoders.Gaussian(Perceptron(width, settings.model.hidden, 2 * latent), latent),
        decoders.Gaussian(Perceptron(latent, settings.model.hidden, width), scale="learned"),
    )


def objective(settings: Toy, data: xr.Dataset) -> Any:
    import time

    from sciencevae.vae.objectives import ELBO

    class Held(ELBO):
        steps = 0

        def loss(self, *given: Any) -> Any:
            Held.steps += 1
            if hold is not None and Held.steps > 60 and hold.exists():
                time.sleep(1)
            return super().loss(*given)

    np.ones(settings.objective.ballast_mb * 2**20, np.uint8)
    hold = Path(settings.objective.hold) if settings.objective.hold else None
    return Held(beta=settings.objective.beta)


def refit(settings: Toy, model: Any, train: Any, valid: Any) -> Any:
    from sciencevae.vae.fit_prior import fit_prior
    from sciencevae.vae.priors import GaussianMixture

    if not settings.refit.components:
        return None
    return fit_prior(
        model, train, GaussianMixture(model.dim, settings.refit.components), valid, progress=False
    )


def spread(run: Run) -> Findings:
    import time

    time.sleep(run.settings.analyse.slow)
    if run.settings.analyse.fail:
        raise ZeroDivisionError("asked to\nfail <here>")
    rows = [
        {"variant": name, "spread": float(variant.latents["z"].std())}
        for name, variant in run.variants.items()
    ]
    table = pd.DataFrame(rows)
    return Findings({"spread": dict(table.values)}, {"spread": table}, ("A note with <angle> brackets.",))


def latents(run: Run) -> tuple[Any, str]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.hist(run.main.latents["z"].values[:, 0], bins=20)
    axes.set_xlabel("z")
    axes.set_ylabel("number of points")
    return figure, f"Histogram of the {run.settings.report.title}."


DOMAIN = Domain(
    name="toy",
    title="Points & lines <toy>",
    summary="points near a line",
    settings=Toy,
    prepare=prepare,
    build=build,
    read=read,
    objective=objective,
    refit=refit,
    analyses={"spread": spread},
    figures={"latents": latents},
)
