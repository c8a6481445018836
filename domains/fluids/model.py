"""The three distributions of a frame, and what they are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from sciencevae.errors import InputError
from sciencevae.networks import ConvolutionalDecoder, ConvolutionalEncoder, Perceptron
from sciencevae.training.schedules import WarmUp
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Objective

from .networks import StreamFunctionDecoder
from .settings import Fluids

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.data.batches import Batches

__all__ = ["build", "objective", "refit"]

_SCALE = 0.3  # learned standard deviation at the start of training, in units of the fluctuation


def build(settings: Fluids, data: xr.Dataset) -> VAE:
    """p(z) = N(0, 1), q(z | x) Gaussian, p(x | z) Gaussian with one learned σ a field, or one of all modes.

    Of windows (prepare.ahead) it is ``lagged_vae``, whose linear forecasts are fitted to the training frames here.
    Frames on a grid are convolved, with edges as declared; coefficients of modes go through dense layers. With a
    condition, both networks are told the parameters.
    """
    if settings.prepare.ahead:
        return _of_windows(settings, data)
    chosen = settings.model
    told = data.sizes["variable"] if "condition" in data else 0
    missing = bool(data.attrs["missing"])
    encoder: nn.Module
    decoder: nn.Module
    if "mode" in data["x"].dims:
        if chosen.stream_function:
            raise InputError("model.stream_function decodes fields on a grid: leave prepare.modes unset")
        count, hidden, active = data.sizes["mode"], list(chosen.hidden), chosen.activation
        encoder = Perceptron(count, hidden, 2 * chosen.latent, active, told)
        decoder = Perceptron(chosen.latent, hidden[::-1], count, active, told)
        features = 1
    else:
        encoder, decoder = _convolutions(settings, data, told, missing)
        features = data.sizes["channel"]
    return VAE(
        priors.StandardNormal(chosen.latent),
        encoders.Gaussian(encoder, chosen.latent, missing=missing, conditional=told > 0),
        decoders.Gaussian(decoder, "learned", features=features, initial=_SCALE, conditional=told > 0),
    )


def objective(settings: Fluids, data: xr.Dataset) -> Objective:
    """−ELBO, β rising from 0 while training begins."""
    steps = settings.training.steps(int((data["split"] == 0).sum()))
    return ELBO(beta=WarmUp(settings.objective.beta, round(settings.objective.beta_rise * steps)))


def refit(settings: Fluids, model: VAE, train: Batches, valid: Batches) -> None:
    """Of windows: the errors of forecasts are those of validation data."""
    if settings.prepare.ahead:
        from sciencevae.latents.forecast import lagged_settle

        lagged_settle(model, valid)


def _of_windows(settings: Fluids, data: xr.Dataset) -> VAE:
    import torch

    from sciencevae.data.scaling import Scaling
    from sciencevae.latents.forecast import Linear, Windows, lagged_vae

    from .lagging import PAST

    chosen, ahead, scaling = settings.model.windows, settings.prepare.ahead, Scaling.of(data)
    rows = np.flatnonzero(data["split"].values == 0)
    parts = (data[name].isel(sample=rows).values for name in (PAST, "x"))
    past, x = (torch.from_numpy(scaling.apply("x", part)) for part in parts)
    whole = x.flatten(1).isfinite().all(1)  # there are frames ahead
    train = Windows(past[whole], x[whole, 1:], rows[whole.numpy(), None])
    modes = min(chosen.modes, len(train) + settings.prepare.read - 2, x[0, 0].numel())
    linear = Linear(
        modes, settings.prepare.read, chosen.ridge, frames=ahead, scaling="common", decay=chosen.decay
    )
    return lagged_vae(
        train, settings.model.latent, linear, chosen.width, chosen.dropout, settings.objective.beta
    )


def _convolutions(
    settings: Fluids, data: xr.Dataset, told: int, missing: bool
) -> tuple[nn.Module, nn.Module]:
    chosen = settings.model
    edges = [chosen.padding_y or data.attrs["padding_y"], chosen.padding_x or data.attrs["padding_x"]]
    count, height, width = data["x"].shape[1:]
    how = (chosen.hidden[0], chosen.activation, told, edges)
    encoder = ConvolutionalEncoder(
        (count * (1 + missing), height, width), 2 * chosen.latent, chosen.channels, *how
    )
    back, shape = chosen.channels[::-1], (count, height, width)
    if not chosen.stream_function:
        return encoder, ConvolutionalDecoder(chosen.latent, shape, back, *how)
    names = list(data.attrs["channels"])
    if not {"u", "v"} <= set(names):
        raise InputError(
            f"model.stream_function gives u and v, and the fields are {', '.join(names)}: add them with "
            "prepare.fields, or set model.stream_function=false"
        )
    spacing = [_spacing(data, axis) for axis in ("y", "x")]
    velocity = (names.index("u"), names.index("v"))
    return encoder, StreamFunctionDecoder(chosen.latent, shape, velocity, spacing, back, *how)


def _spacing(data: xr.Dataset, axis: str) -> float:
    """The distance of two points along an axis; InputError where it is not uniform."""
    steps = np.diff(data[f"{axis}_position"].values)
    if not np.allclose(steps, steps[0], rtol=1e-3):
        raise InputError(
            f"model.stream_function needs a uniform grid, and the steps in {axis} go from {steps.min():g} to "
            f"{steps.max():g}"
        )
    return float(steps[0])
