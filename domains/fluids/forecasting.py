"""Forecasts of a run: fitted in the latents, chosen on validation data, scored on test beside their baselines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciencevae.errors import InputError
from sciencevae.latents.forecast import (
    POD,
    Forecaster,
    Linear,
    Prediction,
    Recurrent,
    Residual,
    Windows,
    coverage,
    crps,
    windows_of,
)
from sciencevae.training.settings import TrainingSettings

from .frames import Frames, decoded, relative

if TYPE_CHECKING:
    from sciencevae.runs import Variant
    from sciencevae.vae.model import VAE

    from .settings import Analyse

__all__ = ["Chosen", "Cut", "choose", "fit", "pod_latents"]

_VALID_WINDOWS, _TEST_WINDOWS = 256, 512  # evenly spaced, at most
_SCORED_ENTRIES = 512  # of a frame, evenly spaced, at most: where draws are compared with the truth
_RIDGES = (1e-8, 1e-6, 1e-4, 1e-2)
_SNAPSHOTS = 800  # frames that a POD is of, at most


@dataclass(frozen=True)
class Cut:
    """Windows of latents of one kind, and how they become frames.

    train, valid, test: windows; ``frames_of(z (n, D), rows (n,))`` gives scaled frames (n, *E).
    """

    train: Windows
    valid: Windows
    test: Windows
    frames_of: Any
    common: bool = False

    @property
    def dim(self) -> int:
        return int(self.train.history.shape[2])

    @property
    def told(self) -> int:
        return 0 if self.train.condition is None else int(self.train.condition.shape[1])


@dataclass(frozen=True)
class Chosen:
    """A fitted forecaster, its kind, and its error on validation data, mean over the lead times."""

    forecaster: Forecaster
    kind: str
    valid: float


def model_latents(variant: Variant, model: VAE, frames: Frames) -> Cut:
    """Windows of the model's latents."""
    stored = variant.latents

    def frames_of(z: Tensor, rows: np.ndarray) -> np.ndarray:
        return decoded(model, z, frames.condition(rows))

    z = stored["z"].values.astype(np.float32)
    return _cut(variant, frames, z, frames_of, common=False)


def pod_latents(variant: Variant, frames: Frames, modes: int) -> Cut:
    """Windows of the coefficients of POD modes of the same training frames, in the same norm."""
    pod = fit_pod(frames, modes)

    def frames_of(a: Tensor, rows: np.ndarray) -> np.ndarray:
        return pod.decode(a).numpy()

    a = encode_pod(pod, frames)
    return _cut(variant, frames, a, frames_of, common=True)


def fit_pod(frames: Frames, modes: int) -> POD:
    """POD of the training frames (with the mirror images that train)."""
    train = np.flatnonzero(frames.split == 0)
    if len(train) > _SNAPSHOTS:
        train = train[np.linspace(0, len(train) - 1, _SNAPSHOTS).astype(int)]
    x = torch.from_numpy(np.nan_to_num(frames.scaled(train)))
    weight = torch.from_numpy(frames.weight.astype(np.float32))
    return POD.fit(x, min(modes, len(train) - 1, x[0].numel()), weight)


def encode_pod(pod: POD, frames: Frames) -> np.ndarray:
    """The coefficients of all frames, block by block."""
    parts = []
    for start in range(0, len(frames.split), 512):
        rows = np.arange(start, min(start + 512, len(frames.split)))
        parts.append(pod.encode(torch.from_numpy(np.nan_to_num(frames.scaled(rows)))).numpy())
    return np.concatenate(parts)


def _cut(variant: Variant, frames: Frames, z: np.ndarray, frames_of: Any, common: bool) -> Cut:
    chosen, asked = variant.settings.prepare, variant.settings.analyse
    told = frames.data["condition"].values if "condition" in frames.data else None
    parts = {}
    for name, code in (("train", 0), ("valid", 1), ("test", 2)):
        rows = np.flatnonzero((frames.split == code) & (frames.original | (code == 0)))
        horizon = chosen.horizon if code == 0 else max(asked.lead_times)
        found = windows_of(
            z[rows],
            frames.run[rows],
            frames.time[rows],
            frames.split[rows],
            condition=None if told is None else told[rows],
            window=chosen.window,
            horizon=max(horizon, 1),
        )
        parts[name] = Windows(found.history, found.future, rows[found.rows], found.condition)
    return Cut(
        parts["train"],
        _some(parts["valid"], _VALID_WINDOWS),
        _some(parts["test"], _TEST_WINDOWS),
        frames_of,
        common,
    )


def choose(cut: Cut, frames: Frames, asked: Analyse) -> Chosen:
    """Of the kinds that are asked for the forecaster with the smallest error on validation data."""
    found = []
    for kind in asked.forecasters:
        if kind == "linear":
            ridges = [fit(cut, "linear", asked, ridge=ridge) for ridge in _RIDGES]
            found += [Chosen(one, kind, valid_error(cut, frames, one, asked)) for one in ridges]
        else:
            one = fit(cut, kind, asked)
            found.append(Chosen(one, kind, valid_error(cut, frames, one, asked)))
    finite = [one for one in found if math.isfinite(one.valid)]
    if not finite:
        raise InputError("no forecaster stays finite on validation data: give more data, or a longer window")
    return min(finite, key=lambda one: one.valid)


def fit(cut: Cut, kind: str, asked: Analyse, ridge: float = 1e-6, window: int | None = None) -> Forecaster:
    """One forecaster, fitted to the training windows."""
    scaling = "common" if cut.common else "each"
    window = window or int(cut.train.history.shape[1])
    made: Forecaster
    if kind == "linear":
        made = Linear(cut.dim, window, ridge=ridge, condition_features=cut.told, scaling=scaling)
        made.fit(cut.train)
        return made
    torch.manual_seed(asked.seed)
    if kind == "residual":
        base = Linear(cut.dim, window, ridge=1e-4, condition_features=cut.told, scaling=scaling)
        made = Residual(cut.dim, window, condition_features=cut.told, scaling=scaling, base=base)
    else:
        made = Recurrent(cut.dim, window, width=64, condition_features=cut.told, scaling=scaling)
    settings = TrainingSettings(
        epochs=asked.epochs,
        batch_size=128,
        learning_rate=2e-3,
        schedule="cosine",
        gradient_clip=1.0,
        seed=asked.seed,
        compile=False,
    )
    made.fit(cut.train, None, settings, Prediction(teacher_forcing=0.0, loss="squared"))
    return made


def valid_error(cut: Cut, frames: Frames, forecaster: Forecaster, asked: Analyse) -> float:
    """The relative error on validation windows, mean over the lead times."""
    return float(np.mean(errors(cut, cut.valid, frames, forecaster, asked.lead_times)[0]))


def errors(
    cut: Cut, some: Windows, frames: Frames, forecaster: Forecaster, leads: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The relative error by lead time (H,), and squared errors and fluctuations of each window (N, H)."""
    rolled = forecaster.rollout(some.history, max(leads), some.condition)
    found, scale = [], []
    first = some.history.shape[1] - 1
    for lead in leads:
        rows = some.rows[:, first + lead]
        z = rolled[:, lead - 1]
        if not bool(z.isfinite().all()):
            found.append(np.full(len(rows), np.inf))
        else:
            difference = cut.frames_of(z, rows) - frames.scaled(rows)
            found.append(frames.squares(difference) + frames.outside(rows))
        scale.append(frames.fluctuation(rows))
    squared, fluctuation = np.stack(found, 1), np.stack(scale, 1)
    return np.sqrt(squared.sum(0) / fluctuation.sum(0)), squared, fluctuation


def persistence(some: Windows, frames: Frames, leads: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors of the last frame as the forecast, and fluctuations, (N, H)."""
    first = some.history.shape[1] - 1
    last = frames.scaled(some.rows[:, first])
    squared, scale = [], []
    for lead in leads:
        rows = some.rows[:, first + lead]
        squared.append(frames.squares(last - frames.scaled(rows)))
        scale.append(frames.fluctuation(rows))
    return np.stack(squared, 1), np.stack(scale, 1)


def probabilistic(
    cut: Cut, some: Windows, frames: Frames, forecaster: Forecaster, asked: Analyse, draw: Any
) -> dict[str, np.ndarray]:
    """CRPS in units of the fluctuation and coverage of the central 68 and 95 %, by lead time.

    draw: ``(z (n, D), rows) -> scaled frames (n, *E)``, one draw of p(x | z) each.
    """
    leads, first = asked.lead_times, some.history.shape[1] - 1
    generator = torch.Generator().manual_seed(asked.seed)
    drawn = forecaster.rollout(some.history, max(leads), some.condition, asked.members, generator)
    entries = np.flatnonzero(frames.weight.reshape(-1) > 0)
    entries = entries[np.linspace(0, len(entries) - 1, min(len(entries), _SCORED_ENTRIES)).astype(int)]
    scores, covered = [], []
    for lead in leads:
        rows = some.rows[:, first + lead]
        members = [
            draw(drawn[s, :, lead - 1], rows).reshape(len(rows), -1)[:, entries] for s in range(len(drawn))
        ]
        x = torch.from_numpy(np.stack(members))[:, :, None]  # (S, N, 1, entries)
        truth = torch.from_numpy(frames.scaled(rows).reshape(len(rows), -1)[:, entries])[:, None]
        scores.append(float(crps(x, truth).nanmean()))
        inside = [level for level in (0.68, 0.95) if 2 / (1 - level) <= len(drawn) + 1]
        share = coverage(x, truth, inside)[:, 0].tolist() if inside else []
        covered.append(share + [float("nan")] * (2 - len(share)))
    return {"crps": np.array(scores), "coverage": np.array(covered)}


def summary(squared: np.ndarray, fluctuation: np.ndarray, some: np.ndarray | None = None) -> list[float]:
    """The relative error by lead time, of some of the windows."""
    keep = slice(None) if some is None else some
    return [relative(squared[keep, k], fluctuation[keep, k]) for k in range(squared.shape[1])]


def _some(found: Windows, most: int) -> Windows:
    if len(found) <= most:
        return found
    return found[np.linspace(0, len(found) - 1, most).astype(int)]


