"""Forecasting of latents in time: windows of series, forecasters with one contract, and their scores.

Knows no domain: a series is a table of latents with a run and a time, a forecast is latents again, which the
model decodes. Shapes: N windows, B batch, L frames of history, H frames to forecast, D latents, S samples,
c conditions.

**Series** (``series``). ``windows(latents, window=L, horizon=H, split="train", stride=1)`` cuts a Dataset of
latents (``z`` (sample, latent), coordinates ``run``, ``time``, ``split``, optional ``condition`` (sample, c)) into
``Windows(history (N, L, D), future (N, H, D), rows (N, L + H), condition (N, c) or None)``; none crosses a run, a
split or a gap in time; ``rows`` numbers the samples in the Dataset, so that true fields are
``x[windows.rows[:, L:]]``. ``windows_of(z, run, time, split, …)`` takes plain arrays. InputError: irregular steps,
a series that is too short.

**Forecasters**, modules, each one with the same contract (``base``):

    forecaster.fit(train: Windows, valid: Windows | None = None, settings: TrainingSettings | None = None,
                   objective: Prediction | None = None, progress=False) -> History
    forecaster.rollout(history (B, L, D), steps, condition (B, c) | None = None,
                       samples=None, generator=None) -> (B, steps, D), or (S, B, steps, D) of draws
    forecaster.calibrate(valid: Windows, samples=64) -> factors of the spread (H, D), kept in the forecaster

    Persistence(dim)
    Linear(dim, window, ridge=0.0, rank=None, frames=1, decay=1.0)   delays with a ridge; window=1: DMD
    Residual(dim, window, hidden=(128, 128), frames=1, base=None)    base (by default z_t) + f_k(window, condition)
    Recurrent(dim, window, width=128, frames=1)             LSTM encoder of the window, LSTM decoder of ``frames``
    Ensemble([forecaster, …])                               members that differ in their seed, trained in one step

    all with condition_features=c, scaling="each" | "common" | D factors. ``frames``: how many a forecaster gives
    before it looks at a window again, which then ends in its own forecasts. Units are those of the latents given;
    standardisation is inside.

``Prediction(teacher_forcing=1.0 | schedule, loss="nll" | "squared" | "crps")`` is the objective of the trained
ones: all H frames of ``train`` are forecast as in a rollout, each step fed the true frame with that probability,
else the forecast. ``fit`` is the toolkit's own loop (``sciencevae.fit``) with its settings; with ``valid`` it stops
early. For long rollouts train with H of several frames and a teacher_forcing that falls to 0.

**POD** (``pod``): ``POD.fit(x (N, *E), modes, weight=None)`` with ``encode``, ``decode``; its coefficients are
latents, so "POD + the same forecaster" is the same forecaster.

**Latents made to be forecast** (``lagged``): ``lagged_vae(windows of frames, dim, linear)`` builds a VAE that reads
a window and describes the frame and the K that follow; ``sciencevae.fit(model, lagged_batch(model, train), …)``
trains it, ``lagged_settle(model, batches)`` gives it the errors of held-out data, ``lagged_encode(model, history)``
is (N, D), ``model.decode(z).mean`` (N, K + 1, *E). Which latents tell a frame best says ``told_by(steps, K)``;
``scaling=lagged_metric(model)`` is that of their forecasters.

**Scores** (``scores``): ``relative_error(forecast, truth, mean, weight=None)`` by lead time, ``squared_errors``,
``crps(samples, truth)``, ``crps_gaussian``, ``coverage``, ``spread_skill``; ``block_bootstrap`` (``bootstrap``)
gives their errors, and by paired differences those of comparisons.

**Files** (``files``): ``save_forecaster(forecaster, path, metadata)``, ``load_forecaster(path) -> (forecaster,
metadata)``: safetensors, no pickle.
"""

from __future__ import annotations

from sciencevae.latents.forecast.base import Forecaster
from sciencevae.latents.forecast.bootstrap import Bootstrap, block_bootstrap, block_length
from sciencevae.latents.forecast.ensemble import Ensemble
from sciencevae.latents.forecast.files import load_forecaster, save_forecaster
from sciencevae.latents.forecast.lagged import (
    WindowEncoder,
    frames_ahead,
    lagged_batch,
    lagged_encode,
    lagged_metric,
    lagged_settle,
    lagged_vae,
    told_by,
)
from sciencevae.latents.forecast.linear import Linear, Persistence
from sciencevae.latents.forecast.objective import Prediction
from sciencevae.latents.forecast.pod import POD
from sciencevae.latents.forecast.scores import (
    coverage,
    crps,
    crps_gaussian,
    relative_error,
    spread_skill,
    squared_errors,
)
from sciencevae.latents.forecast.series import Windows, stretches, windows, windows_of
from sciencevae.latents.forecast.trained import Recurrent, Residual

__all__ = [
    "POD",
    "Bootstrap",
    "Ensemble",
    "Forecaster",
    "Linear",
    "Persistence",
    "Prediction",
    "Recurrent",
    "Residual",
    "WindowEncoder",
    "Windows",
    "block_bootstrap",
    "block_length",
    "coverage",
    "crps",
    "crps_gaussian",
    "frames_ahead",
    "lagged_batch",
    "lagged_encode",
    "lagged_metric",
    "lagged_settle",
    "lagged_vae",
    "load_forecaster",
    "relative_error",
    "save_forecaster",
    "spread_skill",
    "squared_errors",
    "stretches",
    "told_by",
    "windows",
    "windows_of",
]
