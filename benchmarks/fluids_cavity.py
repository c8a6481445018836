"""Forecasts of measured cavity flow: our latents and forecaster beside persistence, delay-DMD and ridge on POD.

    python -m benchmarks.fluids_cavity [--quick] [--seeds 5]

Streamwise velocity over an open cavity at Mach 0.6, 26 × 10 places, 4,000 frames at 8 kHz (``cavity_piv``; academic
licence: fetched to measure on, no part of the product). 60/20/20 in this order in time, with gaps of 32 + 8 frames;
all methods forecast the same frames from at most 32 before. Errors: L2 over the L2 of the fluctuation about the
training mean, 1 and 8 frames ahead; differences by a paired moving-block bootstrap over the test frames. Whatever
is chosen (modes, delays, ranks, ridges, epochs) is chosen on the validation part, for each lead time by itself.
Draws of the best ridge and of ours both get errors of single places from the validation part. Needs pydmd (the
extra dmd). The last result is kept in benchmarks/results/fluids_cavity.json.
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
#: of our model: frames read and described, latents, POD modes of its linear part
READ, AHEAD, LATENTS, MODES = 8, 4, 96, 128
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
    grid = product((32, 64, 128), (1, 2, 4, 8), (25, 50, 100, 200))
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
    model = fc.lagged_vae(
        train, LATENTS, fc.Linear(MODES, READ, frames=AHEAD, scaling="common", **linear), 96
    )
    settings = TrainingSettings(**{**TRAINING, "epochs": epochs, "seed": seed, "compile": False})
    fit(
        model,
        fc.lagged_batch(model, train),
        ELBO(0.01),
        fc.lagged_batch(model, valid),
        settings,
        progress=False,
    )
    z = torch.full((len(cavity.x), LATENTS), torch.nan)
    for part in SPLITS:
        windows = cavity.windows(cavity.x, part, READ, 1)
        last = torch.from_numpy(windows.rows[:, -1])
        # the last window of a part has no future: its latent is that of the frames up to the end
        history = torch.cat([windows.history, cavity.x[last[-1] - READ + 1 : last[-1] + 1][None]])
        rows = torch.cat([last - 1, last[-1:]])
        z[rows] = fc.lagged_encode(model, history)
    return model, z


def ahead(model: VAE, path: Tensor, lag: int) -> Tensor:
    """The frames that latents of t, t + 1 … (N, H, D) tell ``lag`` ahead; nearer ones from z_t: (N, H, n)."""
    frames = fc.lagged_decode(model, path).flatten(3)  # (N, H, K + 1, n)
    near = frames[:, 0, 1:lag]
    return torch.cat([near, frames[:, : HORIZON - lag + 1, lag]], 1)


def path_of(cavity: Cavity, forecaster: fc.Forecaster, z: Tensor, part: str, **draws: Any) -> Tensor:
    """z_t and its forecasts, ([S,] N, H, D)."""
    history = cavity.windows(z, part, WINDOW - READ + 1).history
    rolled = forecaster.rollout(history, HORIZON - 1, **draws)
    now = history[:, -1:].expand(*rolled.shape[:-2], 1, -1)
    return torch.cat([now, rolled], -2)


def of_latents(cavity: Cavity, model: VAE, z: Tensor, **chosen: Any) -> tuple[fc.Forecaster, Callable]:
    forecaster = fc.Linear(LATENTS, frames=HORIZON - 1, scaling="common", **chosen)
    forecaster.fit(cavity.windows(z, "train", chosen["window"], HORIZON - 1))
    return forecaster, lambda part, lag: ahead(model, path_of(cavity, forecaster, z, part), lag)


def choose(cavity: Cavity, model: VAE, z: Tensor, quick: bool) -> dict[int, dict[str, Any]]:
    """Delays, ridge, decay and lag by the validation part, with the model of the first seed."""
    grid = product((8,), (1.0,), (0.9,)) if quick else product((4, 8, 16), (0.3, 1.0, 3.0), (0.8, 0.9, 1.0))

    def candidates() -> Iterator[tuple[dict[str, Any], Rollout]]:
        for window, strength, decay in grid:
            chosen = {"window": window, "ridge": strength, "decay": decay}
            _, rollout = of_latents(cavity, model, z, **chosen)
            for lag in range(1, AHEAD + 1):
                yield {**chosen, "lag": lag}, lambda part, lag=lag, rollout=rollout: rollout(part, lag)

    return {lead: settings for lead, (_, settings, _) in best(cavity, candidates()).items()}


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


def probabilistic(cavity: Cavity, members: list, chosen: dict, linear: dict, lead: int) -> dict[str, Any]:
    """Ours, a mixture over the seeds, and the best ridge on POD modes with its Gaussian law."""

    def ours(part: str) -> Tensor:
        share, found = DRAWS // len(members), []
        settings = dict(chosen[lead])
        lag = settings.pop("lag")
        for i, (model, z) in enumerate(members):
            forecaster, _ = of_latents(cavity, model, z, **settings)
            generator = torch.Generator().manual_seed(i)
            path = path_of(cavity, forecaster, z, part, samples=share, generator=generator)
            # of all draws the one latent that tells the lead
            where, lag_here = (0, lead) if lead <= lag else (lead - lag, lag)
            found.append(fc.lagged_decode(model, path[:, :, where])[:, :, lag_here].flatten(2))
        return torch.cat(found)

    def theirs(part: str) -> Tensor:
        settings = linear[lead]
        modes, delays = settings["modes"], settings["delays"]
        model = fc.Linear(modes, delays, settings["ridge"], frames=HORIZON, scaling="common")
        model.fit(cavity.windows(cavity.a[:, :modes], "train", delays))
        history = cavity.windows(cavity.a[:, :modes], part).history
        drawn = model.rollout(history, HORIZON, samples=DRAWS, generator=torch.Generator().manual_seed(9))
        return drawn[:, :, lead - 1] @ cavity.pod.modes[:modes]

    found = {
        name: distribution(cavity, with_noise(cavity, draw, lead), lead)
        for name, draw in (("ours", ours), ("ridge", theirs))
    }
    both = torch.stack([found[name].pop("frames") for name in ("ours", "ridge")], 1).double().numpy()
    pair = fc.block_bootstrap(both, lambda mean: mean[0] - mean[1])
    return {**found, "difference": float(pair.value), "stderr": float(pair.stderr)}


def measure(seeds: int, quick: bool) -> dict[str, Any]:
    """All rows, printed as they come."""
    cavity = Cavity()
    begun = time.monotonic()
    sizes = [(32, 2)] if quick else [*product((16, 32, 64, 128), (1, 2, 4, 8)), (16, 16), (32, 16), (64, 16)]
    ridges = [0.1] if quick else [0.03, 0.1, 0.3, 1.0, 3.0]
    baselines = {
        "persistence": persistence(cavity),
        "delay-DMD (PyDMD)": delay_dmd(cavity, quick),
        "ridge on POD modes, iterated": ridge(cavity, 1, sizes, [1.0], ridges),
        "ridge on POD modes, a map a lead": ridge(cavity, HORIZON, sizes, [1.0], ridges),
        "POD + our linear forecaster": ridge(
            cavity,
            HORIZON,
            [(32, 2)] if quick else product((32, 64, 128), (8, 16)),
            [0.5, 0.7, 0.9],
            ridges[-4:],
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
    members, ours, each = [], {lead: [] for lead in LEADS}, {lead: [] for lead in LEADS}
    chosen = {}
    for seed in range(seeds):
        model, z = trained(cavity, seed, linear, 1 if quick else TRAINING["epochs"])
        members.append((model, z))
        chosen = chosen or choose(cavity, model, z, quick)
        for lead in LEADS:
            found = dict(chosen[lead])
            lag = found.pop("lag")
            _, rollout = of_latents(cavity, model, z, **found)
            ours[lead].append({part: rollout(part, lag) for part in ("valid", "test")})
            each[lead].append(round(float(cavity.error(ours[lead][-1]["test"], "test")[lead - 1]), 4))
        print(
            f"{time.monotonic() - begun:5.0f} s  ours, seed {seed}: {each[1][-1]}, {each[8][-1]}", flush=True
        )
    name = f"VAE of windows + our linear forecaster, mean of {seeds} seeds"
    forecasts[name] = {lead: torch.stack([f["test"] for f in ours[lead]]).mean(0) for lead in LEADS}
    valid = {lead: torch.stack([f["valid"] for f in ours[lead]]).mean(0) for lead in LEADS}
    rows[name] = {
        lead: {
            "valid": round(float(cavity.error(valid[lead])[lead - 1]), 4),
            "test": round(float(cavity.error(forecasts[name][lead], "test")[lead - 1]), 4),
            "seeds": each[lead],
            "chosen": chosen[lead],
        }
        for lead in LEADS
    }
    others = [other for other in rows if other != name and not other.startswith("POD +")]
    for lead in LEADS:
        rival = min(others, key=lambda other: rows[other][lead]["test"])
        found = {"against": rival, **compared(cavity, forecasts[name][lead], forecasts[rival][lead], lead)}
        one = compared(cavity, ours[lead][0]["test"], forecasts[rival][lead], lead)
        same = compared(cavity, forecasts[name][lead], forecasts["POD + our linear forecaster"][lead], lead)
        rows[name][lead] |= {"paired": found, "paired, one seed": one, "paired with POD + the same": same}
    print(f"{time.monotonic() - begun:5.0f} s  {name}: {rows[name]}", flush=True)
    law = {
        lead: probabilistic(cavity, members, chosen, settings["ridge on POD modes, a map a lead"], lead)
        for lead in LEADS
    }
    print(f"{time.monotonic() - begun:5.0f} s  distributions: {law}", flush=True)
    frames = {part: len(getattr(cavity, part)) for part in ("valid", "test")}
    return {"windows": frames, "linear part": linear, "rows": rows, "distributions": law}


def main() -> None:
    """Measure, print the table, keep it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one choice of everything; nothing is kept")
    parser.add_argument("--seeds", type=int, default=5, help="models trained")
    given = parser.parse_args()
    result = measure(2 if given.quick else given.seeds, given.quick)
    print(f"\n{'':<58}{'1 frame':>10}{'8 frames':>10}")
    for name, row in result["rows"].items():
        print(f"{name:<58}" + "".join(f"{row[lead]['test']:>10.4f}" for lead in LEADS))
    if not given.quick:
        keep("fluids_cavity", result)


if __name__ == "__main__":
    main()
