"""The three distributions of images, and what they are trained on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sciencevae.batch import Batch
from sciencevae.networks import (
    ConvolutionalCodes,
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    ConvolutionalImage,
    Perceptron,
    PixelCNN,
    Reshaped,
)
from sciencevae.training.schedules import Schedule, WarmUp
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.fit_prior import refit_prior
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, IWAE, VQ, BetaTCVAE, FactorVAE, Objective
from sciencevae.vae.vq import VQVAE

from .networks import ConditionAlone
from .settings import Digits

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.data.augment import Augmentation
    from sciencevae.data.batches import Batches
    from sciencevae.training.history import History

__all__ = ["augment", "build", "objective", "refit"]


def build(settings: Digits, data: xr.Dataset) -> VAE:
    """Bits x ~ Bernoulli; p(z), q(z | x, c) and the networks as the settings say."""
    chosen = settings.model
    shape = tuple(data["x"].shape[1:])
    told = data["condition"].shape[1] if "condition" in data else 0
    if chosen.kind == "vq":
        return _codes(settings, shape)
    encoder_network, decoder_network = _networks(settings, shape, told)
    encoder = encoders.Gaussian(encoder_network, chosen.latent, conditional=told > 0)
    decoder = decoders.Bernoulli(decoder_network, conditional=told > 0)
    return VAE(_prior(settings, encoder, data, told), encoder, decoder)


def _networks(settings: Digits, shape: tuple[int, ...], told: int) -> tuple[nn.Module, nn.Module]:
    chosen = settings.model
    if chosen.network == "convolution":
        given: dict[str, Any] = {
            "activation": chosen.activation,
            "hidden": chosen.hidden[-1],
            "condition_features": told,
        }
        return (
            ConvolutionalEncoder(shape, 2 * chosen.latent, channels=chosen.channels, **given),
            ConvolutionalDecoder(chosen.latent, shape, channels=chosen.channels[::-1], **given),
        )
    pixels = math.prod(shape)
    layers: dict[str, Any] = {"activation": chosen.activation}
    encode = Perceptron(pixels, chosen.hidden, 2 * chosen.latent, condition_features=told, **layers)
    if chosen.kind == "deterministic":
        decode: nn.Module = ConditionAlone(Perceptron(told, chosen.hidden[::-1], pixels, **layers))
    else:
        decode = Perceptron(chosen.latent, chosen.hidden[::-1], pixels, condition_features=told, **layers)
    if len(shape) == 1:
        return encode, decode
    return Reshaped(encode, shape, (2 * chosen.latent,)), Reshaped(decode, (chosen.latent,), shape)


def _prior(settings: Digits, encoder: encoders.Encoder, data: xr.Dataset, told: int) -> priors.Prior:
    chosen = settings.model
    if chosen.prior == "mixture":
        return priors.GaussianMixture(chosen.latent, chosen.components)
    if chosen.prior == "flow":
        return priors.Flow(chosen.latent)
    if chosen.prior == "conditional":
        network = Perceptron(told, chosen.hidden, 2 * chosen.latent, activation=chosen.activation)
        return priors.ConditionalNormal(network, chosen.latent)
    if chosen.prior == "vamp":
        shape = tuple(data["x"].shape[1:])
        prior = priors.VampPrior(encoder, chosen.components, shape, low=0.0, high=1.0)
        train = data["x"][(data["split"] == 0).values][: 20 * chosen.components]
        prior.initialise(torch.from_numpy(train.values))
        return prior
    return priors.StandardNormal(chosen.latent)


def _codes(settings: Digits, shape: tuple[int, ...]) -> VQVAE:
    chosen = settings.model
    network = ConvolutionalCodes(shape, chosen.latent, channels=chosen.channels)
    encoder = encoders.Code(network, encoders.Quantiser(chosen.codes, chosen.latent))
    image = ConvolutionalImage(chosen.latent, shape, channels=chosen.channels[::-1])
    prior = priors.UniformCodes(chosen.codes, encoder.grid)
    return VQVAE(prior, encoder, decoders.Bernoulli(image))


def objective(settings: Digits, data: xr.Dataset) -> Objective:
    """−ELBO, or the bound, decomposition or code loss that the settings say."""
    chosen, training = settings.objective, settings.training
    rows = int((data["split"] == 0).sum())
    steps = training.steps(rows)

    def risen(value: float) -> float | Schedule:
        return WarmUp(value, round(chosen.beta_rise * steps)) if chosen.beta_rise > 0 else value

    beta = risen(chosen.beta)
    if chosen.kind == "iwae":
        return IWAE(chosen.samples)
    if chosen.kind == "tc":
        return BetaTCVAE(rows, beta=beta)
    if chosen.kind == "factor":
        return FactorVAE(settings.model.latent, gamma=beta)
    if chosen.kind == "vq":
        return VQ()
    if chosen.capacity is not None:
        return ELBO(beta=chosen.beta, capacity=risen(chosen.capacity), samples=chosen.samples)
    return ELBO(beta=beta, free_bits=chosen.free_bits, samples=chosen.samples)


def augment(settings: Digits) -> Augmentation | None:
    """Bits drawn anew from the grey values at every pass (of bits, the same bits)."""
    if settings.prepare.binarise != "dynamic" or settings.dataset == "dsprites":
        return None
    pixels_told = settings.prepare.condition == "quadrants"

    def bits(batch: Batch, generator: torch.Generator) -> Batch:
        def draw(grey: torch.Tensor) -> torch.Tensor:
            uniform = torch.rand(grey.shape, generator=generator, dtype=grey.dtype, device=grey.device)
            return torch.where(grey.isnan(), grey, (uniform < grey).to(grey.dtype))

        assert isinstance(batch.x, torch.Tensor)
        context = {name: draw(c) if pixels_told else c for name, c in batch.context.items()}
        return replace(batch, x=draw(batch.x), context=context)

    return bits


def refit(settings: Digits, model: VAE, train: Batches, valid: Batches) -> History | None:
    """Give the model another prior, fitted to its latents."""
    chosen = settings.refit

    def pixelcnn() -> priors.Prior:
        assert isinstance(model, VQVAE)
        return priors.Autoregressive(PixelCNN(model.codes, model.grid), model.codes, model.grid)

    return refit_prior(chosen.prior, chosen, model, train, valid, settings.seed, {"pixelcnn": pixelcnn})
