"""How well test frames are forecast, beside the baselines, and whether a long forecast stays bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sciencevae.data.rows import evenly
from sciencevae.latents.forecast import told_by
from sciencevae.registry import Findings

from . import forecasting as f
from .analysis import TITLES
from .frames import Frames, decoded, relative

if TYPE_CHECKING:
    from sciencevae.latents.forecast import Forecaster, Windows
    from sciencevae.runs import Run, Variant

    from .settings import Analyse

__all__ = ["forecast"]

#: where forecasts of a transient start, in units of saturation
START = (0.01, 0.5)
_PEERS = (8, 16, 32, 64)  # modes that DMD is tried with, beside as many as there are latents
_RIDGES = (1e-8, 1e-5, 1e-3, 0.1, 1.0)
_UNSURE = 32  # test windows of which draws are compared with the truth


def forecast(run: Run) -> Findings:
    """Forecasts of test frames by lead time, in the model's latents and by its baselines.

    The forecaster with the least error on validation data; the same choice on as many POD modes; DMD, and DMD of
    delays, with the number of modes and the ridge that validation chose; the last frame; the training mean has 1.
    Kept beside each model as ``forecaster.safetensors``, its spread calibrated on validation data.
    """
    from sciencevae.latents.forecast import save_forecaster
    from sciencevae.latents.forecast.apply import FORECASTER

    asked = run.settings.analyse
    rows: list[dict[str, Any]] = []
    energies, notes, metrics = [], [], {}
    spectra, compared = None, set[str]()
    for name, variant in run.variants.items():
        frames = Frames(variant)
        model = variant.model()
        cut = f.model_latents(variant, model, frames)
        chosen = f.choose(cut, frames, asked)
        chosen.forecaster.calibrate(cut.valid)
        step = float(frames.data.attrs["time_step"])
        told = {"variant": name, "method": chosen.kind, "time_step": step}
        save_forecaster(chosen.forecaster, variant.folder / FORECASTER, told)
        starts = _starts(run, frames, cut.test)
        table = _scored(
            f"{name}: {chosen.kind}", f.errors(cut, cut.test, frames, chosen.forecaster, asked), starts
        )
        _add_draws(table, run, variant, cut, frames, chosen.forecaster)
        limited = _limited(f"{name}: {chosen.kind}", cut)
        if variant.key not in compared:
            compared.add(variant.key)
            peers, of_peers = _baselines(variant, cut, frames, asked, starts)
            table, limited = table + peers, limited + of_peers
        rows += [row | {"lead_time": row["lead"] * step} for row in table]
        energy, found = _rollout(run, name, cut, frames, chosen.forecaster)
        energies.append(energy)
        spectra = found if spectra is None else spectra
        largest = float(energy.of_training.max())
        metrics[name] = {"chosen": chosen.kind, "valid_error": chosen.valid, "largest_energy": largest}
        notes.append(_sentence(f"{name}: {chosen.kind}", rows, max(asked.lead_times), run) + limited)
        notes.append(
            f"{name}: over {len(energy)} frames the energy of the forecast rises to {largest:.2f} of the "
            "largest of a training frame."
        )
    tables = {"forecast": pd.DataFrame(rows), "rollout": pd.concat(energies)}
    if spectra is not None:
        tables["spectra"] = spectra
    unit = run.main.data.attrs["time_unit"]
    titles = TITLES | {"lead_time": f"lead time ({unit})"} if unit else TITLES
    return Findings(metrics, tables, tuple(notes), titles)


def _baselines(
    variant: Variant, cut: f.Cut, frames: Frames, asked: Analyse, starts: dict[str, np.ndarray]
) -> tuple[list[dict[str, Any]], str]:
    """POD of as many modes with the same choice of forecasters, DMD, DMD of delays, the last frame; and what is to
    be said where they are not of all training data."""
    modes, peers = f.frame_modes(variant.settings), list(_PEERS)
    if cut.ahead:
        peers.append(variant.settings.model.windows.modes)
    series = f.PODSeries.fit(frames, max(modes, *peers))
    most = len(series.pod.modes)
    linear = series.cut(variant, frames, min(modes, most))
    same = f.choose(linear, frames, asked)
    label = f"POD of {linear.dim}: {same.kind}"
    rows = _scored(label, f.errors(linear, linear.test, frames, same.forecaster, asked), starts)
    limited = series.limited + _limited(label, linear)
    for name, window in (("DMD", 1), ("DMD of delays", None)):
        tried: list[tuple[float, int, Forecaster]] = []
        for k in sorted({min(k, most) for k in (modes, *peers)}):
            own = series.cut(variant, frames, k)  # one at a time: there can be 256 MiB of their windows
            for ridge in _RIDGES:
                one = f.fit(own, "linear", asked, ridge=ridge, window=window)
                tried.append((f.valid_error(own, frames, one, asked), len(tried), one))
        _, _, one = min(tried)
        own = series.cut(variant, frames, one.dim)
        label = f"{name}, {own.dim} modes"
        rows += _scored(label, f.errors(own, own.test, frames, one, asked), starts)
        limited += _limited(label, own)
    return rows + _scored("last frame", f.persistence(cut.test, frames, asked), starts), limited


def _limited(label: str, cut: f.Cut) -> str:
    """What is to be said where there are more training windows than are held."""
    if not cut.limited:
        return ""
    return f" {label} learnt from {len(cut.train):,} training windows, evenly spaced: no more are held."


def _scored(label: str, errors: f.Errors, starts: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """A row for each lead time, of all windows and of those that start in a transient."""
    return [
        {
            "model": label,
            "phase": phase,
            "lead": lead,
            "error": relative(errors.squared[some, k], errors.fluctuation[some, k]),
        }
        for phase, some in starts.items()
        if some.any()
        for k, lead in enumerate(errors.leads)
    ]


def _add_draws(
    table: list[dict[str, Any]], run: Run, variant: Variant, cut: f.Cut, frames: Frames, chosen: Forecaster
) -> None:
    """CRPS and coverage into the rows of all windows."""
    model = variant.model()

    def draw(z: Any, rows: np.ndarray, lag: int) -> np.ndarray:
        return decoded(model, z, frames.condition(rows), draw=True, lag=lag)

    count = len(cut.test)
    few = cut.test[evenly(count, _UNSURE)]
    found = f.probabilistic(cut, few, frames, chosen, run.settings.analyse, draw)
    for row in table:
        if row["phase"] == "all":
            row |= found[row["lead"]]


def _rollout(
    run: Run, name: str, cut: f.Cut, frames: Frames, forecaster: Forecaster
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The energy of a long forecast from the first test window, frame by frame, beside the truth where there is;
    and the spectra of velocity of test frames and of the last quarter of the forecast."""
    asked = run.settings.analyse
    steps = asked.rollout or 4 * max(*asked.lead_times, run.settings.prepare.horizon)
    first = cut.test[:1]
    source, lag = told_by(steps, cut.ahead)
    z = forecaster.rollout(first.history, steps, first.condition)
    z = torch.cat([first.history[:, -1:], z], 1)[0, source]
    start = int(first.rows[0, first.history.shape[1] - 1])
    ending, energies = np.empty((0, *frames.mean.shape), np.float32), []
    for place in frames.blocks(np.arange(steps)):
        for k in lag[place].unique():
            own = place[lag[place] == k]
            made = cut.frames_of(z[own], np.full(len(own), start), int(k))
            energies.append(frames.squares(made - frames.mean))
            ending = np.concatenate([ending, made])[-max(steps // 4, 1) :]
    energy = np.concatenate(energies)
    following = start + 1 + np.arange(steps)
    following = following[following < len(frames.run)]
    following = following[(frames.run[following] == frames.run[start]) & frames.original[following]]
    truth = np.full(steps, np.nan)
    truth[: len(following)] = frames.fluctuation(following)
    train = np.flatnonzero(frames.split == 0)
    some = train[evenly(len(train), 1000)]
    test = np.unique(cut.test.rows)
    few = test[evenly(len(test), 64)]
    shown = {"test frames": frames.scaled(few), "long forecast": ending}
    table = pd.DataFrame(
        {
            "model": name,
            "frame": np.arange(1, steps + 1),
            "energy": energy,
            "truth": truth,
            "of_training": energy / frames.fluctuation(some).max(),
        }
    )
    return table, _spectra(frames, shown)


def _spectra(frames: Frames, shown: dict[str, np.ndarray]) -> pd.DataFrame | None:
    """½ |û|² summed over shells of wave vectors, of velocity on a periodic grid; None for others."""
    attrs = frames.data.attrs
    names = list(attrs["channels"])
    periodic = attrs["padding_x"] == attrs["padding_y"] == "periodic"
    if frames.on_modes or not periodic or not {"u", "v"} <= set(names):
        return None
    tables = []
    for label, scaled in shown.items():
        velocity = frames.scaling.invert("x", scaled)[:, [names.index("u"), names.index("v")]]
        height, width = velocity.shape[2:]
        power = np.square(np.abs(np.fft.fft2(velocity, norm="forward"))).sum(1).mean(0) / 2
        longest = max(height, width)
        wave = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]) * longest
        energy = np.bincount(np.rint(wave).astype(int).ravel(), power.ravel())[1 : longest // 2]
        table = {"frames": label, "wavenumber": np.arange(1, len(energy) + 1), "energy": energy}
        tables.append(pd.DataFrame(table))
    return pd.concat(tables)


def _sentence(label: str, rows: list[dict[str, Any]], lead: int, run: Run) -> str:
    here = [row for row in rows if row["lead"] == lead]
    phase, time = here[-1]["phase"], f"{here[0]['lead_time']:g} {run.main.data.attrs['time_unit']}".strip()
    found = {row["model"]: row["error"] for row in here if row["phase"] == phase}
    told = ", ".join(f"{name} {error:.3f}" for name, error in found.items() if name != label)
    which = "" if phase == "all" else f", {phase}"
    error = f"{label}, {lead} frames ({time}) ahead{which}: relative error {found[label]:.3f}"
    return f"{error}; {told}; the training mean 1."


def _starts(run: Run, frames: Frames, test: Windows) -> dict[str, np.ndarray]:
    """Which windows a score is of: all, and those that start in the growth of the instability."""
    every = np.ones(len(test), bool)
    if not run.settings.analyse.transient:
        return {"all": every}
    start = frames.saturation()[test.rows[:, test.history.shape[1] - 1]]
    low, high = START
    return {
        "all": every,
        f"started at {100 * low:g} to {100 * high:g} % of saturation": (start >= low) & (start <= high),
    }
