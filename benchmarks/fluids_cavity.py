"""Forecasts of measured cavity flow: our latents and forecaster beside persistence, delay-DMD and ridge on POD.

    python -m benchmarks.fluids_cavity [--quick] [--seeds 4]

Streamwise velocity over an open cavity at Mach 0.6, 26 × 10 places, 4,000 frames at 8 kHz (``cavity_piv``; academic
licence: fetched to measure on, no part of the product). 60/20/20 in this order in time, with gaps of 32 + 8 frames;
all methods forecast the same frames from at most 32 before. Errors: L2 over the L2 of the fluctuation about the
training mean, 1 and 8 frames ahead; differences by a paired moving-block bootstrap over the test frames. Whatever
is chosen (modes, delays, ranks, ridges, epochs) is chosen on the validation part, for each lead time by itself.
Eight frames ahead means and stacks of our forecasts (seeds, delays) and of the ridge, and shrinkage by mode, were
tried on validation data, too: the best of them, a plain mean, is not two standard errors ahead of the ridge on test
either, and is left out. Draws of the best ridge and of ours both get errors of single places from the validation
part. Needs pydmd (the extra dmd). The last result is kept in benchmarks/results/fluids_cavity.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.turns import keep
from sciencevae.data.splits import SPLITS, time_blocks
from sciencevae.latents import forecast as fc
from sciencevae.training.loop import fit
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO

WINDOW, HORIZON = 32, 8
LEADS = (1, 8)
#: of our model: frames read and described, latents and the principal ones, POD modes of its linear part
READ, AHEAD, LATENTS, REDUCED, MODES = 8, 4, 5 * 48, 128, 128
TRAINING = {"epochs": 10, "batch_size": 64, "learning_rate": 5e-4, "weight_decay": 0.05, "schedule": "cosine"}
DRAWS = 100


class Cavity:
    """The measured frames x (T, 10, 26) about the training mean, in units of ``scale`` m/s, and their windows."""

    def __init__(self) -> None:
        import h5py

        from sciencevae.data.fetch import fetch

        with h5py.File(fetch("cavity_piv")["cavityPIV.mat"], "r") as file:
            u = torch.from_numpy(file["u"][()].transpose(2, 1, 0).copy())  # (T, y, x)
        self.split = time_blocks(
            len(u), {"train": 0.6, "valid": 0.2, "test": 0.2}, window=WINDOW, horizon=HORIZON
        )
        train = u[torch.from_numpy(self.split == SPLITS["train"])]
        self.scale = float(train.std(0).square().mean().sqrt())
        self.x = (u - train.mean(0)) / self.scale
        self.valid, self.test = (
            self.x[self.windows(self.x, part).rows[:, WINDOW:]].flatten(2) for part in ("valid", "test")
        )  # (N, H, n)
        self.pod = fc.POD.fit(train.sub(train.mean(0)).div(self.scale).flatten(1), 128)
        self.a = self.pod.encode(self.x.flatten(1))

    def windows(self, z: Tensor, part: str, window: int = WINDOW, horizon: int = HORIZON) -> fc.Windows:
        """Windows of frames or latents z (T, …), NaN where there is none."""
        flat = z.flatten(1)
        split = np.where(self.split == SPLITS[part], 0, -1)
        found = fc.windows_of(
            flat, np.zeros(len(z)), np.arange(len(z)), split, window=window, horizon=horizon
        )
        shape = z.shape[1:]
        return fc.Windows(found.history.unflatten(2, shape), found.future.unflatten(2, shape), found.rows)

    def error(self, forecast: Tensor, part: str = "valid") -> Tensor:
        truth = getattr(self, part)
        return fc.relative_error(forecast, truth, torch.zeros(truth.shape[2]))


Rollout = Callable[[str], Tensor]  # of a part of the data: (N, H, n)


def best(cavity: Cavity, candidates: Iterable[tuple[dict[str, Any], Rollout]]) -> dict[int, tuple]:
    """For each lead time the choice with the smallest validation error, (error, settings, forecaster)."""
    found: dict[int, tuple] = {}
    for settings, rollout in candidates:
        errors = cavity.error(rollout("valid"))
        for lead in LEADS:
            if lead not in found or float(errors[lead - 1]) < found[lead][0]:
                found[lead] = (float(errors[lead - 1]), settings, rollout)
    return found


def of_pod(cavity: Cavity, model: fc.Forecaster, modes: int) -> Rollout:
    def rollout(part: str) -> Tensor:
        windows = cavity.windows(cavity.a[:, :modes], part)
        return model.rollout(windows.history, HORIZON) @ cavity.pod.modes[:modes]

    return rollout


def persistence(cavity: Cavity) -> Iterator[tuple[dict[str, Any], Rollout]]:
    yield {}, lambda part: cavity.windows(cavity.x, part).history[:, -1:].flatten(2).expand(-1, HORIZON, -1)


def delay_dmd(cavity: Cavity, quick: bool) -> Iterator[tuple[dict[str, Any], Rollout]]:
    """PyDMD's DMD of stacked delays of POD coefficients, its operator applied k times."""
    try:
        import pydmd
    except ImportError as error:
        raise SystemExit("this benchmark compares with PyDMD: pip install 'sciencevae[dmd]'") from error
    grid = product((32, 64), (1, 2, 4), (32, 64, 128))
    for modes, delays, rank in [(32, 2, 50)] if quick else grid:
        if rank > modes * delays:
            continue
        series = cavity.windows(cavity.a[:, :modes], "train", delays, 1)
        before = series.history.flatten(1).double().numpy().T  # (L·m, N)
        after = torch.cat([series.history, series.future], 1)[:, 1:].flatten(1).double().numpy().T
        dmd = pydmd.DMD(svd_rank=rank, exact=True).fit(before, after)
        inverse = np.linalg.pinv(dmd.modes)

        def rollout(
            part: str, dmd: Any = dmd, inverse: Any = inverse, m: int = modes, d: int = delays
        ) -> Tensor:
            history = cavity.windows(cavity.a[:, :m], part).history[:, -d:]
            b = inverse @ history.flatten(1).double().numpy().T
            frames = [(dmd.modes[-m:] * dmd.eigs**k) @ b for k in range(1, HORIZON + 1)]
            return torch.from_numpy(np.stack(frames).real).float().permute(2, 0, 1) @ cavity.pod.modes[:m]

        yield {"modes": modes, "delays": delays, "rank": rank}, rollout


def ridge(
    cavity: Cavity,
    frames: int,
    sizes: Iterable[tuple[int, int]],
    decays: Iterable[float],
    ridges: Iterable[float],
) -> Iterator[tuple[dict[str, Any], Rollout]]:
    """Linear maps of delays of POD coefficients; frames=1 iterated, frames=8 one map for each lead time."""
    for (modes, delays), decay, strength in product(sizes, decays, ridges):
        model = fc.Linear(modes, delays, strength, frames=frames, scaling="common", decay=decay)
        model.fit(cavity.windows(cavity.a[:, :modes], "train", delays, frames))
        settings = {"modes": modes, "delays": delays, "ridge": strength, "decay": decay}
        yield settings, of_pod(cavity, model, modes)


# ---- ours --------------------------------------------------------------------------------------------


def trained(cavity: Cavity, seed: int, linear: dict[str, float], epochs: int) -> tuple[VAE, Tensor]:
    """A VAE of windows, and its latents at all times, NaN where a window would cross into another part."""
    torch.manual_seed(seed)
    train, valid = (cavity.windows(cavity.x, part, READ, AHEAD) for part in ("train", "valid"))
    part = fc.Linear(MODES, READ, frames=AHEAD, scaling="common", **linear)
    model = fc.lagged_vae(train, LATENTS, part, width=96)
    settings = TrainingSettings(**{**TRAINING, "epochs": epochs, "seed": seed, "compile": False})
    data = [fc.lagged_batch(model, windows) for windows in (train, valid)]
    fit(model, data[0], ELBO(0.01), data[1], settings, progress=False)
    history = cavity.x.unfold(0, READ, 1).movedim(-1, 1)  # (T − L + 1, L, 10, 26)
    z = torch.full((len(cavity.x), LATENTS), torch.nan)
    z[READ - 1 :] = fc.lagged_encode(model, history)
    for code in SPLITS.values():
        z[np.flatnonzero(cavity.split == code)[: READ - 1]] = torch.nan
    return model, z


class Ours:
    """Latents z (T, D), their principal directions, and our linear forecaster of these."""

    def __init__(
        self, cavity: Cavity, model: VAE, z: Tensor, window: int, ridge: float, decay: float
    ) -> None:
        self.cavity, self.model = cavity, model
        known = torch.from_numpy(cavity.split == SPLITS["train"]) & z.isfinite().all(1)
        metric = torch.tensor(fc.lagged_metric(model)).square()
        self.pod = fc.POD.fit(z[known], REDUCED, metric)
        self.a = self.pod.encode(z)
        self.forecaster = fc.Linear(REDUCED, window, ridge, frames=HORIZON - 1, scaling="common", decay=decay)
        self.forecaster.fit(cavity.windows(self.a, "train", window, HORIZON - 1))

    def path(self, part: str, **draws: Any) -> Tensor:
        """The latents of the last frame and of the 7 that follow, ([S,] N, 8, D)."""
        history = self.cavity.windows(self.a, part, WINDOW - READ + 1).history
        rolled = self.forecaster.rollout(history, HORIZON - 1, **draws)
        return torch.cat([history[:, -1:].expand(*rolled.shape[:-2], 1, -1), rolled], -2)

    def frame(self, path: Tensor, lead: int, lag: int) -> Tensor:
        """The frame ``lead`` ahead, as the latents ``lag`` before it tell it: ([S,] N, n)."""
        lag = min(lag, lead)
        z = self.pod.decode(path[..., lead - lag, :])
        x = self.model.decode(z.reshape(-1, LATENTS)).mean[:, lag]
        return x.reshape(*z.shape[:-1], -1)

    def rollout(self, lag: int) -> Rollout:
        def rollout(part: str) -> Tensor:
            path = self.path(part)
            return torch.stack([self.frame(path, lead, lag) for lead in range(1, HORIZON + 1)], 1)

        return rollout


def choose(cavity: Cavity, model: VAE, z: Tensor, quick: bool) -> dict[int, dict[str, Any]]:
    """Delays, ridge, decay and lag by the validation part, with the model of the first seed."""
    grid = product((8,), (1.0,), (0.9,)) if quick else product((8, 16), (1.0, 3.0), (0.8, 0.9))

    def candidates() -> Iterator[tuple[dict[str, Any], Rollout]]:
        for window, strength, decay in grid:
            ours = Ours(cavity, model, z, window, strength, decay)
            for lag in range(1, AHEAD + 1):
                yield {"window": window, "ridge": strength, "decay": decay, "lag": lag}, ours.rollout(lag)

    return {lead: settings for lead, (_, settings, _) in best(cavity, candidates()).items()}


def with_choice(cavity: Cavity, model: VAE, z: Tensor, chosen: dict[str, Any]) -> tuple[Ours, int]:
    return Ours(cavity, model, z, chosen["window"], chosen["ridge"], chosen["decay"]), chosen["lag"]


# ---- scores ------------------------------------------------------------------------------------------


def compared(cavity: Cavity, ours: Tensor, theirs: Tensor, lead: int) -> dict[str, float]:
    """The difference of two relative errors on the test part and its standard error."""
    truth = cavity.test[:, lead - 1 : lead]
    squares = [fc.squared_errors(f[:, lead - 1 : lead], truth)[:, 0] for f in (ours, theirs)]
    rows = torch.stack([*squares, truth.square().sum((1, 2))], 1).double().numpy()
    found = fc.block_bootstrap(rows, lambda mean: np.sqrt(mean[0] / mean[2]) - np.sqrt(mean[1] / mean[2]))
    return {"difference": float(found.value), "stderr": float(found.stderr)}


def with_noise(cavity: Cavity, draw: Callable[[str], Tensor], lead: int) -> Tensor:
    """Draws (S, N, n) for the test part with an error of each place added, so that on the validation part their
    variance is the mean squared error of their mean there."""
    valid = draw("valid")
    error = (valid.mean(0) - cavity.valid[:, lead - 1]).square().mean(0)  # (n,)
    missing = (error - valid.var(0).mean(0)).clamp(min=0)
    test = draw("test")
    noise = torch.randn(test.shape, generator=torch.Generator().manual_seed(lead))
    return test + missing.sqrt() * noise


def distribution(cavity: Cavity, draws: Tensor, lead: int) -> dict[str, Any]:
    """CRPS in m/s by test frame, and coverage; of places that are measured (one is 0 throughout)."""
    truth = cavity.test[:, lead - 1]
    measured = truth.std(0) > 0
    draws, truth = draws[..., measured], truth[:, measured]
    score = fc.crps(draws, truth).mean(1) * cavity.scale
    covered = fc.coverage(draws[:, :, None], truth[:, None])[:, 0]
    return {"crps": float(score.mean()), "frames": score, "coverage": [round(float(c), 3) for c in covered]}


def probabilistic(
    cavity: Cavity, ours: Ours, lag: int, settings: dict[str, Any], lead: int
) -> dict[str, Any]:
    """Ours and the best ridge on POD modes, both by draws of their Gaussian law."""
    modes, delays = settings["modes"], settings["delays"]
    model = fc.Linear(modes, delays, settings["ridge"], frames=HORIZON, scaling="common")
    model.fit(cavity.windows(cavity.a[:, :modes], "train", delays))

    def of_ours(part: str) -> Tensor:
        path = ours.path(part, samples=DRAWS, generator=torch.Generator().manual_seed(0))
        return ours.frame(path, lead, lag)

    def of_ridge(part: str) -> Tensor:
        history = cavity.windows(cavity.a[:, :modes], part).history
        drawn = model.rollout(history, lead, samples=DRAWS, generator=torch.Generator().manual_seed(0))
        return drawn[:, :, lead - 1] @ cavity.pod.modes[:modes]

    found = {
        name: distribution(cavity, with_noise(cavity, draw, lead), lead)
        for name, draw in (("ours", of_ours), ("ridge", of_ridge))
    }
    both = torch.stack([found[name].pop("frames") for name in ("ours", "ridge")], 1).double().numpy()
    pair = fc.block_bootstrap(both, lambda mean: mean[0] - mean[1])
    return {**found, "difference": float(pair.value), "stderr": float(pair.stderr)}


def measure(seeds: int, quick: bool) -> dict[str, Any]:
    """All rows, printed as they come."""
    cavity = Cavity()
    begun = time.monotonic()
    sizes = [(m, d) for m, d in product((16, 32, 64, 128), (1, 2, 4, 8, 16)) if 32 <= m * d <= 1024]
    sizes = [(32, 2)] if quick else sizes
    ridges = [0.1] if quick else [0.03, 0.1, 0.3, 1.0, 3.0]
    baselines = {
        "persistence": persistence(cavity),
        "delay-DMD (PyDMD)": delay_dmd(cavity, quick),
        "ridge on POD modes, iterated": ridge(cavity, 1, sizes, [1.0], ridges),
        "ridge on POD modes, a map a lead": ridge(cavity, HORIZON, sizes, [1.0], ridges),
        "POD + our linear forecaster": ridge(
            cavity,
            HORIZON,
            [(32, 2)] if quick else [(32, 16), (64, 16), (128, 8)],
            [0.5, 0.7, 0.9],
            ridges,
        ),
    }
    rows: dict[str, Any] = {}
    forecasts: dict[str, dict[int, Tensor]] = {}
    settings: dict[str, Any] = {}
    for name, candidates in baselines.items():
        chosen = best(cavity, candidates)
        forecasts[name] = {lead: rollout("test") for lead, (_, _, rollout) in chosen.items()}
        settings[name] = {lead: found[1] for lead, found in chosen.items()}
        rows[name] = {
            lead: {
                "valid": round(chosen[lead][0], 4),
                "test": round(float(cavity.error(forecasts[name][lead], "test")[lead - 1]), 4),
                "chosen": settings[name][lead],
            }
            for lead in LEADS
        }
        print(f"{time.monotonic() - begun:5.0f} s  {name}: {rows[name]}", flush=True)

    candidates = ridge(cavity, AHEAD, [(MODES, READ)], [0.6, 0.7], [0.2] if quick else [0.2, 0.4, 0.8])
    linear = min(
        ((float(cavity.error(rollout("valid"))[:AHEAD].sum()), chosen) for chosen, rollout in candidates),
        key=lambda found: found[0],
    )[1]
    linear = {key: linear[key] for key in ("ridge", "decay")}
    latents, each = [], {lead: [] for lead in LEADS}
    first: dict[int, Tensor] = {}
    chosen: dict[int, dict[str, Any]] = {}
    for seed in range(seeds):
        model, z = trained(cavity, seed, linear, 1 if quick else TRAINING["epochs"])
        latents.append(z)
        chosen = chosen or choose(cavity, model, z, quick)
        for lead in LEADS:
            ours, lag = with_choice(cavity, model, z, chosen[lead])
            forecast = ours.rollout(lag)("test")
            first.setdefault(lead, forecast)
            each[lead].append(round(float(cavity.error(forecast, "test")[lead - 1]), 4))
        print(
            f"{time.monotonic() - begun:5.0f} s  ours, seed {seed}: {each[1][-1]}, {each[8][-1]}", flush=True
        )
    name = f"VAE of windows + our linear forecaster, latents of {seeds} seeds"
    final = {lead: with_choice(cavity, model, torch.stack(latents).mean(0), chosen[lead]) for lead in LEADS}
    forecasts[name] = {lead: ours.rollout(lag)("test") for lead, (ours, lag) in final.items()}
    rows[name] = {
        lead: {
            "valid": round(float(cavity.error(ours.rollout(lag)("valid"))[lead - 1]), 4),
            "test": round(float(cavity.error(forecasts[name][lead], "test")[lead - 1]), 4),
            "seeds": each[lead],
            "chosen": chosen[lead],
        }
        for lead, (ours, lag) in final.items()
    }
    others = [other for other in rows if other != name and not other.startswith("POD +")]
    for lead in LEADS:
        rival = min(others, key=lambda other: rows[other][lead]["test"])
        found = {"against": rival, **compared(cavity, forecasts[name][lead], forecasts[rival][lead], lead)}
        one = compared(cavity, first[lead], forecasts[rival][lead], lead)
        same = compared(cavity, forecasts[name][lead], forecasts["POD + our linear forecaster"][lead], lead)
        rows[name][lead] |= {"paired": found, "paired, one seed": one, "paired with POD + the same": same}
    print(f"{time.monotonic() - begun:5.0f} s  {name}: {rows[name]}", flush=True)
    settled = settings["ridge on POD modes, a map a lead"]
    law = {lead: probabilistic(cavity, *final[lead], settled[lead], lead) for lead in LEADS}
    print(f"{time.monotonic() - begun:5.0f} s  distributions: {law}", flush=True)
    frames = {part: len(getattr(cavity, part)) for part in ("valid", "test")}
    return {"windows": frames, "linear part": linear, "rows": rows, "distributions": law}


def main() -> None:
    """Measure, print the table, keep it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one choice of everything; nothing is kept")
    parser.add_argument("--seeds", type=int, default=4, help="models trained")
    given = parser.parse_args()
    result = measure(2 if given.quick else given.seeds, given.quick)
    print(f"\n{'':<58}{'1 frame':>10}{'8 frames':>10}")
    for name, row in result["rows"].items():
        print(f"{name:<58}" + "".join(f"{row[lead]['test']:>10.4f}" for lead in LEADS))
    if not given.quick:
        keep("fluids_cavity", result)


if __name__ == "__main__":
    main()
