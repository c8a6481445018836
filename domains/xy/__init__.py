"""The XY model: planar spins on a square lattice, and what a VAE sees of the Kosterlitz–Thouless transition."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciencevae.registry import Domain

from .settings import XY

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.vae.model import VAE
    from sciencevae.vae.objectives import Objective

__all__ = ["DOMAIN", "build", "objective"]


def prepare(settings: XY, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """Raw configurations to the prepared data set."""
    from .dataset import prepare

    return prepare(settings, files, input)


def read(path: Path, settings: XY) -> Iterator[xr.Dataset]:
    """A user's configurations, block by block."""
    from .dataset import read

    return read(path, settings)


def write(data: xr.Dataset, path: Path) -> None:
    """Configurations to a file of the field's own formats."""
    from .dataset import write

    write(data, path)


def build(settings: XY, data: xr.Dataset) -> VAE:
    """p(z) = N(0, 1); q(z | x) and the von Mises p(x | z) from periodic networks."""
    from sciencevae.vae import decoders, encoders, priors
    from sciencevae.vae.model import VAE

    from .networks import SpinDecoder, SpinEncoder

    chosen, lattice = settings.model, data.sizes["row"]
    told = chosen.conditional
    size = (lattice, chosen.latent, chosen.channels, chosen.hidden, 1 if told else 0)
    return VAE(
        priors.StandardNormal(chosen.latent),
        encoders.Gaussian(SpinEncoder(*size), chosen.latent, conditional=told),
        decoders.VonMises(SpinDecoder(*size, canting=chosen.canting), conditional=told),
    )


def objective(settings: XY, data: xr.Dataset) -> Objective:
    """−ELBO, with the energy term where it has a weight; both weights rise from 0 while training begins."""
    import math

    from sciencevae.training.schedules import WarmUp
    from sciencevae.vae.objectives import ELBO, Term

    from .objective import energy_term

    chosen, training = settings.objective, settings.training
    rows = int((data["split"] == 0).sum())
    steps = training.epochs * math.ceil(rows / training.batch_size)
    beta = WarmUp(chosen.beta, round(chosen.beta_rise * steps))
    extra = {}
    if chosen.energy_weight > 0:
        weight = WarmUp(chosen.energy_weight, round(chosen.energy_rise * steps))
        extra["energy"] = Term(weight, energy_term)
    return ELBO(beta=beta, extra=extra)


def _later(module: str, name: str) -> Callable[..., Any]:
    """A function of a module of this folder, imported when it is called."""

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)(*arguments)

    return call


DOMAIN = Domain(
    name="xy",
    title="XY model",
    summary="Monte Carlo of planar spins; the Kosterlitz–Thouless transition in the latents",
    settings=XY,
    prepare=prepare,
    read=read,
    write=write,
    build=build,
    objective=objective,
    analyses={name: _later("analysis", name) for name in ("decoding", "latents", "clusters", "transition")},
    figures={
        name: _later("figures", name)
        for name in ("spins", "latents", "observables", "correlation", "transition", "clusters")
    },
)
