"""Forecasting of latents in time: windows of series, forecasters with one contract, and their scores.

Knows no domain: a series is a table of latents with a run and a time, a forecast is latents again, which the model
decodes. Shapes: N windows, B batch, L frames of history, H frames to forecast, D latents, S samples, c conditions.

**Series** (``series``). ``windows(latents, window=L, horizon=H, split="train", stride=1)`` cuts a Dataset of latents
(``z`` (sample, latent), coordinates ``run``, ``time``, ``split``, optional ``condition`` (sample, c)) into
``Windows(history (N, L, D), future (N, H, D), condition (N, c) or None, rows (N, L + H))``; none crosses a run, a
split or a gap in time; ``rows`` numbers the samples in the Dataset, so that true fields are ``x[windows.rows[:, L:]]``.
``windows_of(z, run, time, split, …)`` takes plain arrays. InputError: irregular steps, a series that is too short.

**Forecasters** (``forecasters``), modules, each one with the same contract:

    forecaster.fit(train: Windows, valid: Windows | None = None, settings: TrainingSettings | None = None,
                   objective: Prediction | None = None, progress=False) -> History
    forecaster.rollout(history (B, L, D), steps, condition (B, c) | None = None,
                       samples=None, generator=None) -> (B, steps, D), or (S, B, steps, D) of draws
    forecaster.calibrate(valid: Windows, samples=64) -> the factors of the spread by lead time, kept in the forecaster

    Persistence(dim)
    Linear(dim, window, ridge=0.0, rank=None, frames=1)       delays with ridge; window=1: DMD; rank: truncated
    Residual(dim, window, hidden=(128, 128), frames=1)        z_{t+k} = z_t + f_k(window, condition)
    Recurrent(dim, window, width=128, frames=1)               LSTM encoder over the window, LSTM decoder of ``frames``
    Ensemble([forecaster, …])                                 members that differ in their seed, trained in one step

    all with condition_features=c. ``frames``: how many a forecaster gives before it looks again at a window, which
    then ends in its own forecasts. Units are those of the latents given; standardisation is inside.

``Prediction(teacher_forcing=1.0 | schedule, loss="nll" | "squared" | "crps")`` is the objective of the trained ones:
all H frames of ``train`` are forecast as in a rollout, each step fed the true frame with that probability, else the
forecast. ``fit`` is the toolkit's own loop (``sciencevae.fit``) with its settings; with ``valid`` it stops early.

**POD** (``pod``): ``POD.fit(x (N, n), modes, weight=None)`` with ``encode``, ``decode``; its coefficients are
latents, so "POD + the same forecaster" is the same forecaster.

**Scores** (``scores``): ``relative_error(forecast, truth, mean, weight=None)`` by lead time, ``crps(samples, truth)``,
``coverage``, ``spread_skill``; and ``block_bootstrap(differences, …)`` (``bootstrap``) with its paired use.

**Files** (``files``): ``save_forecaster(forecaster, path, metadata)``, ``load_forecaster(path)``: safetensors, no pickle.
"""
