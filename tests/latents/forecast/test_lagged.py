"""The VAE of windows: exact where the dynamics is linear, better than linear where it is not."""

import numpy as np
import pytest
import torch

from sciencevae.data.batches import as_batches
from sciencevae.errors import InputError
from sciencevae.latents.forecast import (
    POD,
    Linear,
    Windows,
    lagged_batch,
    lagged_encode,
    lagged_metric,
    lagged_settle,
    lagged_vae,
    relative_error,
    windows_of,
)
from sciencevae.networks import Perceptron
from sciencevae.training.loop import fit
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.files import load, save
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO

ROWS, COLUMNS = 2, 12


def carried(frames, seed, bend=False, noise=0.1):
    """A periodic field that moves one place a frame, x' = shift(0.9 x, or 1 − 1.4 ∣x∣ where it bends) + noise."""
    generator = np.random.default_rng(seed)
    x = np.zeros((frames, ROWS, COLUMNS), np.float32)
    for t in range(1, frames):
        now = 1 - 1.4 * np.abs(x[t - 1]) if bend else 0.9 * x[t - 1]
        x[t] = np.roll(now, 1, axis=1) + noise * generator.normal(size=(ROWS, COLUMNS))
    return torch.from_numpy(x)


def cut(x, window=4, horizon=2):
    found = windows_of(x.flatten(1), np.zeros(len(x)), np.arange(len(x)), window=window, horizon=horizon)
    shape = x.shape[1:]
    return Windows(found.history.unflatten(2, shape), found.future.unflatten(2, shape), found.rows)


def model_of(train, dim):
    torch.manual_seed(0)
    linear = Linear(ROWS * COLUMNS, 2, ridge=1e-3, frames=2, scaling="common")
    return lagged_vae(train, dim, linear, width=24, dropout=0.0)


def test_before_training_it_is_the_linear_forecast():
    """With all modes of each frame nothing is lost."""
    train = cut(carried(400, 0))
    model = model_of(train, 3 * ROWS * COLUMNS)
    path = model.decode(lagged_encode(model, train.history)).mean  # (N, K + 1, 2, 12)
    pod = POD.fit(torch.cat([train.history[0], train.future[:, 0]]).flatten(1), ROWS * COLUMNS)
    plain = Linear(ROWS * COLUMNS, 2, ridge=1e-3, frames=2, scaling="common")
    flat = Windows(pod.encode(train.history.flatten(2)), pod.encode(train.future.flatten(2)), train.rows)
    plain.fit(flat)
    expected = pod.decode(plain.rollout(flat.history, 2))
    assert torch.allclose(path[:, 1:].flatten(2), expected, atol=1e-3)
    assert torch.allclose(path[:, 0], train.history[:, -1], atol=1e-3)
    # and errors of latents are in their metric those of frames, times the weights of the lead times
    z = lagged_encode(model, train.history) * torch.tensor(lagged_metric(model))
    weights = model.encoder.weights
    scaled = ((path - path.mean(0)).flatten(2) * weights).square().sum((1, 2)).mean()
    assert float((z - z.mean(0)).square().sum(1).mean()) == pytest.approx(float(scaled), rel=1e-3)


def test_what_bends_is_learnt(tmp_path):
    train, valid = cut(carried(1200, 0, bend=True)), cut(carried(300, 1, bend=True))
    model = model_of(train, 3 * ROWS * COLUMNS)
    mean = train.future.mean((0, 1))

    def errors():
        forecast = model.decode(lagged_encode(model, valid.history)).mean[:, 1:]
        return relative_error(forecast, valid.future, mean)

    before = errors()
    settings = TrainingSettings(
        epochs=12, batch_size=64, learning_rate=4e-3, schedule="cosine", compile=False
    )
    fit(model, lagged_batch(model, train), ELBO(0.01), lagged_batch(model, valid), settings, progress=False)
    after = errors()
    assert after[0] < 0.7 * before[0], (before, after)
    # each lead time gets the error of the data that are held out
    held_out = lagged_batch(model, valid)
    lagged_settle(model, as_batches(held_out))
    missed = (model.reconstruct(held_out.x, held_out.context) - held_out.x).square().mean((0, 2, 3)).sqrt()
    assert torch.allclose(model.decoder.log_scale.exp(), missed, rtol=1e-4)
    save(model, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert torch.equal(lagged_encode(loaded, valid.history), lagged_encode(model, valid.history))


def test_what_is_refused():
    plain = VAE(
        priors.StandardNormal(2),
        encoders.Gaussian(Perceptron(8, [], 4), 2),
        decoders.Gaussian(Perceptron(2, [], 8)),
    )
    with pytest.raises(InputError, match="lagged_vae"):
        lagged_encode(plain, torch.zeros(3, 4, 2, 4))
    train = cut(carried(60, 0), window=2)
    with pytest.raises(InputError, match="shared out over 3 frames"):
        lagged_vae(train, 4, Linear(ROWS * COLUMNS, 2, frames=2))
    with pytest.raises(InputError, match="from at most 2"):
        lagged_vae(train, 3, Linear(ROWS * COLUMNS, 3, frames=2))
