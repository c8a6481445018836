"""Forecasts of a run: fitted in the latents, chosen on validation data, scored on test beside their baselines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sciencevae.data.rows import evenly
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
    lagged_metric,
    told_by,
    windows_of,
)
from sciencevae.training.settings import TrainingSettings

from .frames import Frames, decoded

if TYPE_CHECKING:
    from sciencevae.runs import Variant
    from sciencevae.vae.model import VAE

    from .settings import Analyse, Fluids

__all__ = [
    "Chosen",
    "Cut",
    "Errors",
    "PODSeries",
    "choose",
    "errors",
    "fit",
    "frame_modes",
    "model_latents",
    "persistence",
    "probabilistic",
    "valid_error",
]

_VALID_WINDOWS, _TEST_WINDOWS = 256, 512  # evenly spaced, at most
_TRAIN_WINDOWS, _TRAIN_BYTES = 100_000, 256 << 20  # of these, and so many bytes, at most
_SCORED_ENTRIES = 512  # of a frame, evenly spaced, at most: where draws are compared with the truth
_RIDGES = (1e-8, 1e-6, 1e-4, 1e-2, 0.1, 1.0)  # of simulations, to those of noisy measurements
_SNAPSHOTS, _SNAPSHOT_BYTES = 800, 128 << 20  # frames that a POD is of, at most


@dataclass(frozen=True)
class Cut:
    """Windows of latents of one kind, and how they become frames.

    train, valid, test: windows; ``frames_of(z (n, D), rows (n,), lag)`` gives scaled frames (n, *E), ``lag`` ≤
    ``ahead`` after those of the latents; looks: how many latents a forecaster looks at, so that all kinds see as
    many frames; scaling: of a forecaster; limited: whether there are more training windows than are held.
    """

    train: Windows
    valid: Windows
    test: Windows
    frames_of: Callable[[Tensor, np.ndarray, int], np.ndarray]
    looks: int
    scaling: str | Sequence[float] = "each"
    ahead: int = 0
    limited: bool = False

    @property
    def dim(self) -> int:
        return int(self.train.history.shape[2])

    @property
    def told(self) -> int:
        return 0 if self.train.condition is None else int(self.train.condition.shape[1])

    def told_by(self, some: Windows, rolled: Tensor, lead: int) -> tuple[Tensor, int]:
        """The latents ([S,] N, D) that tell the frame ``lead`` ahead best, and how far it is from theirs."""
        source, lag = (int(number[-1]) for number in told_by(lead, self.ahead))
        return (rolled[..., source - 1, :] if source else some.history[:, -1]), lag


class Errors(NamedTuple):
    """At these lead times (H,), the squared errors of windows and the squared fluctuations of the truth, (N, H)."""

    leads: tuple[int, ...]
    squared: np.ndarray
    fluctuation: np.ndarray


@dataclass(frozen=True)
class Chosen:
    """A fitted forecaster, its kind, and its error on validation data, mean over the lead times."""

    forecaster: Forecaster
    kind: str
    valid: float


def model_latents(variant: Variant, model: VAE, frames: Frames) -> Cut:
    """Windows of the model's latents."""
    stored = variant.latents

    def frames_of(z: Tensor, rows: np.ndarray, lag: int) -> np.ndarray:
        return decoded(model, z, frames.condition(rows), lag=lag)

    z = stored["z"].values.astype(np.float32)
    chosen = variant.settings.prepare
    scaling = lagged_metric(model) if chosen.ahead else "each"
    return _cut(variant, frames, z, frames_of, scaling, chosen.read, chosen.ahead)


@dataclass(frozen=True)
class PODSeries:
    """POD of the training frames, and the coefficients of all frames, a (N, D).

    limited: what is to be said where memory set how many frames it is of.
    """

    pod: POD
    a: np.ndarray
    limited: str

    @classmethod
    def fit(cls, frames: Frames, modes: int) -> PODSeries:
        """Of evenly spaced training frames (with the mirror images that train), in the norm of errors."""
        train = np.flatnonzero(frames.split == 0)
        most, limited = max(2, _SNAPSHOT_BYTES // frames.frame_bytes), ""
        if most < min(len(train), _SNAPSHOTS):
            size = f"{_SNAPSHOT_BYTES >> 20} MiB"
            limited = f" The POD is of {most} training frames, evenly spaced: no more than {size} are held."
        train = train[evenly(len(train), min(most, _SNAPSHOTS))]
        x = torch.from_numpy(np.nan_to_num(frames.scaled(train)))
        weight = torch.from_numpy(frames.weight.astype(np.float32))
        pod = POD.fit(x, min(modes, len(train) - 1, x[0].numel()), weight)
        del x
        a = np.empty((len(frames.split), len(pod.modes)), np.float32)
        for rows in frames.blocks(np.arange(len(a))):
            a[rows] = pod.encode(torch.from_numpy(np.nan_to_num(frames.scaled(rows)))).numpy()
        return cls(pod, a, limited)

    def cut(self, variant: Variant, frames: Frames, modes: int) -> Cut:
        """Windows of the coefficients of the first ``modes``."""
        pod = self.pod.leading(modes)

        def frames_of(a: Tensor, rows: np.ndarray, lag: int) -> np.ndarray:
            return pod.decode(a).numpy()

        return _cut(variant, frames, self.a[:, :modes], frames_of, "common")


def frame_modes(settings: Fluids) -> int:
    """How many latents there are for each frame that a datum describes: as many modes POD is compared with."""
    return settings.model.latent // (settings.prepare.ahead + 1)


def _cut(
    variant: Variant,
    frames: Frames,
    z: np.ndarray,
    frames_of: Any,
    scaling: str | Sequence[float],
    read: int = 1,
    ahead: int = 0,
) -> Cut:
    chosen, asked = variant.settings.prepare, variant.settings.analyse
    told = frames.data["condition"].values if "condition" in frames.data else None
    most = max(2, _TRAIN_BYTES // (z[0].nbytes * (chosen.window + max(chosen.horizon, 1))))
    limits = {"train": min(_TRAIN_WINDOWS, most), "valid": _VALID_WINDOWS, "test": _TEST_WINDOWS}
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
            most=limits[name],
        )
        parts[name] = Windows(found.history, found.future, rows[found.rows], found.condition)
    limited = len(parts["train"]) == limits["train"]
    looks = chosen.window - read + 1
    return Cut(**parts, frames_of=frames_of, looks=looks, scaling=scaling, ahead=ahead, limited=limited)


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
    window = window or cut.looks
    made: Forecaster
    if kind == "linear":
        made = Linear(cut.dim, window, ridge=ridge, condition_features=cut.told, scaling=cut.scaling)
        made.fit(cut.train)
        return made
    torch.manual_seed(asked.seed)
    if kind == "residual":
        base = Linear(cut.dim, window, ridge=1e-4, condition_features=cut.told, scaling=cut.scaling)
        made = Residual(cut.dim, window, condition_features=cut.told, scaling=cut.scaling, base=base)
    else:
        made = Recurrent(cut.dim, window, width=64, condition_features=cut.told, scaling=cut.scaling)
    settings = TrainingSettings(
        epochs=asked.epochs,
        batch_size=128,
        learning_rate=2e-3,
        schedule="cosine",
        gradient_clip=1.0,
        seed=asked.seed,
        compile=False,
        threads=1,  # so small that a second one only waits
    )
    made.fit(cut.train, None, settings, Prediction(teacher_forcing=0.0, loss="squared"))
    return made


def valid_error(cut: Cut, frames: Frames, forecaster: Forecaster, asked: Analyse) -> float:
    """The relative error on validation windows, mean over the lead times."""
    found = errors(cut, cut.valid, frames, forecaster, asked)
    return float(np.mean(np.sqrt(found.squared.sum(0) / found.fluctuation.sum(0))))


def errors(cut: Cut, some: Windows, frames: Frames, forecaster: Forecaster, asked: Analyse) -> Errors:
    """Of forecasts of the windows; infinite where a forecast is not finite."""
    leads = tuple(asked.lead_times)
    rolled = forecaster.rollout(some.history, max(leads), some.condition)

    def missed(lead: int, rows: np.ndarray) -> np.ndarray:
        z, lag = cut.told_by(some, rolled, lead)
        if not bool(z.isfinite().all()):
            return np.full(len(rows), np.inf)

        def squares(places: np.ndarray) -> np.ndarray:
            made = cut.frames_of(z[places], rows[places], lag)
            return frames.squares(made - frames.scaled(rows[places]))

        return frames.by_blocks(len(rows), squares) + frames.outside(rows)

    return _errors(some, frames, leads, missed)


def persistence(some: Windows, frames: Frames, asked: Analyse) -> Errors:
    """Of the last frame as the forecast."""
    last = some.rows[:, some.history.shape[1] - 1]

    def missed(_: int, rows: np.ndarray) -> np.ndarray:
        return frames.by_blocks(
            len(rows), lambda some: frames.squares(frames.scaled(last[some]) - frames.scaled(rows[some]))
        )

    return _errors(some, frames, tuple(asked.lead_times), missed)


def _errors(
    some: Windows, frames: Frames, leads: tuple[int, ...], missed: Callable[[int, np.ndarray], np.ndarray]
) -> Errors:
    first = some.history.shape[1] - 1
    rows = {lead: some.rows[:, first + lead] for lead in leads}
    squared = np.stack([missed(lead, rows[lead]) for lead in leads], 1)
    return Errors(leads, squared, np.stack([frames.fluctuation(rows[lead]) for lead in leads], 1))


def probabilistic(
    cut: Cut,
    some: Windows,
    frames: Frames,
    forecaster: Forecaster,
    asked: Analyse,
    draw: Callable[[Any, np.ndarray, int], Any],
) -> dict[int, dict[str, float]]:
    """By lead time the CRPS, in units of the fluctuation, and the coverage of the central 68 and 95 %.

    draw: as ``cut.frames_of``, a draw of p(x | z) each.
    """
    leads, first = asked.lead_times, some.history.shape[1] - 1
    generator = torch.Generator().manual_seed(asked.seed)
    drawn = forecaster.rollout(some.history, max(leads), some.condition, asked.members, generator)
    entries = np.flatnonzero(frames.weight.reshape(-1) > 0)
    entries = entries[evenly(len(entries), _SCORED_ENTRIES)]
    found = {}
    for lead in leads:
        rows = some.rows[:, first + lead]
        z, lag = cut.told_by(some, drawn, lead)
        each = z.expand(asked.members, *z.shape[-2:])
        members = [draw(one, rows, lag).reshape(len(rows), -1)[:, entries] for one in each]
        x = torch.from_numpy(np.stack(members))[:, :, None]  # (S, N, 1, entries)
        truth = torch.from_numpy(frames.scaled(rows).reshape(len(rows), -1)[:, entries])[:, None]
        inside = coverage(x, truth, (0.68, 0.95))[:, 0].tolist()
        score = float(crps(x, truth).nanmean())
        found[lead] = {"crps": score, "coverage_68": inside[0], "coverage_95": inside[1]}
    return found
