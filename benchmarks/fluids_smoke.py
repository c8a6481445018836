"""Forecasts of rising smoke in the latents of a VAE: their error on scenes held out, and how much faster they are.

    python -m benchmarks.fluids_smoke [--quick] [--only PART …] [--epochs N] [--folder DIR]

1,280 scenes of 64 × 64 cells with random inflows and buoyancies, a frame every 0.1 s (5 solver steps) from rest to
4 s, 1,200 to train on, 40 to choose on, 40 held out. A convolutional VAE of single frames (density, u, v); from 6
frames to the next 20 in its latents by an LSTM (Wiewel et al. 2019) which, as a solver is, is told a scene's inflow
and buoyancy; beside it the same LSTM not told, and a linear map with a residual network, told. From the same
windows and told the same: persistence, as many POD coefficients with the same LSTM, and linear dynamics (DMD) with
the POD modes, the frames and the ridge that are best on the validation scenes. Errors are L2 norms over those of
the fluctuation about the mean frame of training, by lead time; density and velocity are scaled to one of 1.

Speed: processor time of one core for the 20 frames, 64 scenes at once: of the solvers, and of the forecast, which
encodes 6 frames, takes 20 steps of the LSTM and decodes every frame, or the last alone; its three
parts are compiled, which made a step of the solver slower. The published way solves for the
pressure by conjugate gradients, here to 1e-3, the default of mantaflow, which Wiewel et al. ran.

The trained VAE and forecasters stay in the folder, and are taken from there if they are there already. Each part
(vae, pod, dmd, persistence, speed) is kept in benchmarks/results/fluids_smoke.json when it is done.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from torch import Tensor

import sciencevae as sv
from benchmarks.turns import HERE, keep
from sciencevae.data.fetch import fetch
from sciencevae.latents.forecast import (
    POD,
    Forecaster,
    Linear,
    Prediction,
    Recurrent,
    Residual,
    Windows,
    load_forecaster,
    save_forecaster,
    windows_of,
)
from sciencevae.latents.forecast.trained import Trained
from sciencevae.networks import ConvolutionalDecoder, ConvolutionalEncoder
from sciencevae.training.settings import TrainingSettings

SOURCE = {
    "kind": "smoke", "runs": 1280, "frames": 41, "every": 5, "points": 64, "dt_s": 0.02,
    "advection": "semi-lagrangian",
}  # fmt: skip
VALID, TEST = 40, 40  # scenes
WINDOW, HORIZON, LATENT = 6, 20, 24
CHANNELS, HIDDEN = (6, 12, 24), 256
TOLD = ("inflow_x", "inflow_y", "inflow_radius", "inflow_u", "inflow_v", "buoyancy")
LEADS = (1, 5, 10, 20)
FIELDS = {"density": slice(0, 1), "velocity": slice(1, 3), "all": slice(0, 3)}

Encode = Callable[[Tensor], Tensor]
Rows = dict[str, dict[str, list[float]]]


class Part(NamedTuple):
    """Scaled frames (R, t, 3, y, x), less the mean frame of training, and what is told of each scene (R, c)."""

    frames: Tensor
    told: Tensor


class Scenes:
    """The three parts of the scenes."""

    def __init__(self, path: Path, fewer: int) -> None:
        with h5py.File(path) as file:
            density, velocity = file["density"][::fewer], file["velocity"][::fewer]
            told = np.stack([file[name][::fewer] for name in TOLD], 1).astype(np.float32)
        x = torch.from_numpy(np.concatenate([density[:, :, None], velocity], 2))
        sizes = [len(x) - (VALID + TEST) // fewer, VALID // fewer, TEST // fewer]
        x -= x[: sizes[0]].mean((0, 1))
        spread = x[: sizes[0]].square().mean((0, 1, 3, 4)).sqrt()
        spread[1:] = spread[1:].square().mean().sqrt()  # of a velocity, not of its components
        x /= spread[:, None, None]
        self.train, self.valid, self.test = map(Part, x.split(sizes), torch.from_numpy(told).split(sizes))

    @cached_property
    def pod(self) -> POD:
        """256 modes of 2000 training frames, or of all."""
        frames = self.train.frames.flatten(0, 1)
        some = frames[torch.linspace(0, len(frames) - 1, min(2000, len(frames))).long()]
        return POD.fit(some, min(256, len(some) - 1))


def vae(frames: Tensor, valid: Tensor, epochs: int, seed: int, latent: int) -> sv.VAE:
    """A VAE of single frames, trained."""
    torch.manual_seed(seed)
    shape = tuple(frames.shape[1:])
    model = sv.VAE(
        sv.priors.StandardNormal(latent),
        sv.encoders.Gaussian(ConvolutionalEncoder(shape, 2 * latent, CHANNELS, HIDDEN), latent),
        sv.decoders.Gaussian(
            ConvolutionalDecoder(latent, shape, CHANNELS[::-1], HIDDEN), "learned", features=3, initial=0.3
        ),
    )
    settings = TrainingSettings(
        epochs=epochs, batch_size=32, learning_rate=4e-3, warmup_steps=200, schedule="cosine", gradient_clip=1e4,
        seed=seed,
    )  # fmt: skip
    sv.fit(model, frames, valid=valid, settings=settings, progress=report)
    return model


def report(epoch: int, step: int, parts: dict[str, Any]) -> None:
    """A line an epoch."""
    shown = ", ".join(f"{name} {float(value):.4g}" for name, value in parts.items())
    print(f"  epoch {epoch}, step {step}: {shown}", flush=True)


@torch.no_grad()
def by_parts(function: Encode, x: Tensor) -> Tensor:
    """A function of a batch, of many rows."""
    return torch.cat([function(part) for part in x.split(256)])


def cut(encode: Encode, part: Part, horizon: int = HORIZON, stride: int = 1) -> Windows:
    """Windows of the latents of scenes; their rows number the frames."""
    R, T = part.frames.shape[:2]
    z = by_parts(encode, part.frames.flatten(0, 1))
    run, moment = np.repeat(np.arange(R), T), np.tile(np.arange(T), R)
    told = part.told.repeat_interleave(T, 0).numpy()
    return windows_of(z.numpy(), run, moment, condition=told, window=WINDOW, horizon=horizon, stride=stride)


def lstm(dim: int, told: int = len(TOLD)) -> Recurrent:
    """From sequence to sequence."""
    return Recurrent(dim, WINDOW, 128, condition_features=told, scaling="common")


def untold(dim: int) -> Recurrent:
    """The same, not told of the scene."""
    return lstm(dim, 0)


def residual(dim: int) -> Residual:
    """A linear map of six frames, and what a perceptron adds."""
    how: dict[str, Any] = {"condition_features": len(TOLD), "scaling": "common"}
    return Residual(dim, WINDOW, (256, 256), base=Linear(dim, WINDOW, ridge=1e-4, **how), **how)


def ahead(made: Forecaster, windows: Windows) -> Tensor:
    """Forecasts of windows, (N, HORIZON, D)."""
    windows = suited(windows, made)
    return made.rollout(windows.history, HORIZON, windows.condition)


def suited(windows: Windows, made: Forecaster) -> Windows:
    """Windows that tell what a forecaster asks for."""
    return windows if made.condition_features else replace(windows, condition=None)


def trained(
    build: Callable[[int], Trained], encode: Encode, scenes: Scenes, asked: argparse.Namespace
) -> Trained:
    """A forecaster trained on the latents of training, its own forecasts fed back."""
    torch.manual_seed(asked.seed)
    made = build(asked.latent)
    epochs, rate = (60, 2e-3) if build is residual else (30, 3e-3)
    settings = TrainingSettings(
        epochs=1 if asked.quick else epochs, batch_size=128, learning_rate=rate, schedule="cosine",
        gradient_clip=1.0, seed=asked.seed, compile=False,
    )  # fmt: skip
    train, valid = (suited(cut(encode, part), made) for part in (scenes.train, scenes.valid))
    made.fit(train, valid, settings, Prediction(0.0, "squared"))
    return made


def errors(decode: Encode, forecast: Tensor, truth: Windows, part: Part) -> dict[str, list[float]]:
    """The relative error of decoded forecasts (N, H, D), by lead time 1 … H, for each of FIELDS."""
    frames, found = part.frames.flatten(0, 1), []
    for k in range(forecast.shape[1]):
        true = frames[torch.from_numpy(truth.rows[:, WINDOW + k])]
        square = (by_parts(decode, forecast[:, k]) - true).square().sum((0, 2, 3))
        found.append((square, true.square().sum((0, 2, 3))))
    return {
        name: [float((square[which].sum() / whole[which].sum()).sqrt()) for square, whole in found]
        for name, which in FIELDS.items()
    }


def mean_of(model: sv.VAE) -> Encode:
    """Encode to the mean of q(z | x)."""

    def encode(x: Tensor) -> Tensor:
        return model.encode(x).mean

    return encode


def of_vae(scenes: Scenes, asked: argparse.Namespace) -> Rows:
    """The VAE and its forecasters, trained or taken from the folder."""
    asked.folder.mkdir(parents=True, exist_ok=True)
    path = asked.folder / "vae.safetensors"
    if not path.exists():
        start, valid = time.process_time(), scenes.valid.frames.flatten(0, 1)[::4].clone()
        made = vae(scenes.train.frames.flatten(0, 1), valid, asked.epochs, asked.seed, asked.latent)
        sv.save(made, path)
        spent(asked.folder, {"vae": (time.process_time() - start) / 60})
    model = sv.load(path)
    encode, decode = mean_of(model), model.decoder.network
    test = cut(encode, scenes.test)
    found = {"VAE, the true frame decoded": errors(decode, test.future, test, scenes.test)}
    for name, (build, label) in FORECASTERS.items():
        path = asked.folder / f"{name}.safetensors"
        if not path.exists():
            start = time.process_time()
            save_forecaster(trained(build, encode, scenes, asked), path, {})
            spent(asked.folder, {name: (time.process_time() - start) / 60})
        found[f"VAE and {label}"] = errors(decode, ahead(load_forecaster(path)[0], test), test, scenes.test)
    return found


def spent(folder: Path, more: dict[str, float]) -> dict[str, float]:
    """The CPU-minutes that training took, kept beside what was trained."""
    path = folder / "minutes.json"
    minutes = (json.loads(path.read_text()) if path.exists() else {}) | more
    path.write_text(json.dumps(minutes))
    return minutes


def of_pod(scenes: Scenes, asked: argparse.Namespace) -> Rows:
    """As many POD coefficients as latents, with the same LSTM."""
    pod = scenes.pod.leading(asked.latent)
    encode, decode = pod.encode, pod.decode
    forecaster, test = trained(lstm, encode, scenes, asked), cut(encode, scenes.test)
    name = f"POD, {asked.latent} modes"
    return {
        f"{name}, the true frame": errors(decode, test.future, test, scenes.test),
        f"{name}, and the same LSTM": errors(decode, ahead(forecaster, test), test, scenes.test),
    }


def of_dmd(scenes: Scenes, asked: argparse.Namespace) -> Rows:
    """Linear dynamics of one frame or of all six, as is best on the validation scenes."""
    best = None
    for count in (32, 64, 128, 256):
        pod = scenes.pod.leading(count)
        train, valid = (cut(pod.encode, part, stride=2) for part in (scenes.train, scenes.valid))
        for window, ridge in product((1, WINDOW), (1e-4, 1e-2, 1.0)):
            made = Linear(
                train.history.shape[2], window, ridge=ridge, condition_features=len(TOLD), scaling="common"
            )
            made.fit(train)
            error = errors(pod.decode, ahead(made, valid), valid, scenes.valid)["all"][-1]
            if np.isfinite(error) and (best is None or error < best[0]):
                best = (error, f"DMD of {window} frame{'s' * (window > 1)}, {count} POD modes", made, pod)
    assert best is not None
    _, name, made, pod = best
    test = cut(pod.encode, scenes.test)
    return {name: errors(pod.decode, ahead(made, test), test, scenes.test)}


def of_persistence(scenes: Scenes, asked: argparse.Namespace) -> Rows:
    """The last frame as the forecast."""
    frames = scenes.test.frames.flatten(0, 1)
    numbers = torch.arange(len(frames), dtype=torch.float32).reshape(*scenes.test.frames.shape[:2], 1)
    test = cut(lambda x: x, scenes.test._replace(frames=numbers))
    last = torch.from_numpy(test.rows[:, WINDOW - 1])[:, None, None].expand(-1, HORIZON, 1)
    return {"persistence": errors(lambda rows: frames[rows[:, 0]], last, test, scenes.test)}


def seconds(run: Callable[[], Any], repeats: int = 5) -> float:
    """Processor seconds of one call, the median."""
    found = []
    for _ in range(repeats + 1):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return float(np.median(found[1:]))


@torch.no_grad()
def speeds(scenes: Scenes, asked: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of one core for the 20 frames of a scene: solvers, and forecasts."""
    from sciencevae.builtin.fluids.smoke import Smoke, random_scenes

    number, points, dt = 64, int(SOURCE["points"]), float(SOURCE["dt_s"])
    found = {}
    for name, options in {
        "solver, conjugate gradients to 1e-3": {"pressure": "cg", "tolerance": 1e-3},
        "solver, cosines": {},
    }.items():
        solver = Smoke(
            random_scenes(number, 0), (points, points), 1 / points, dt, SOURCE["advection"], **options
        )
        *_, state = solver.run(2, 50)
        steps = 2 if options else 10
        one = seconds(lambda: [solver.step(state) for _ in range(steps)], 3) / steps  # noqa: B023
        found[name] = one * HORIZON * int(SOURCE["every"])
    model = sv.load(asked.folder / "vae.safetensors")
    encoder, decoder = (torch.compile(part.network) for part in (model.encoder, model.decoder))
    forecaster, _ = load_forecaster(asked.folder / "lstm.safetensors")
    rollout = torch.compile(forecaster.rollout)
    some = np.arange(number) % len(scenes.test.frames)
    frames, told = scenes.test.frames[some, :WINDOW], scenes.test.told[some]

    def forecast(which: range) -> None:
        z = encoder(frames.flatten(0, 1))[:, : asked.latent].unflatten(0, (number, WINDOW))
        rolled = rollout(z, HORIZON, told)
        for k in which:
            decoder(rolled[:, k])

    found["forecast, every frame decoded"] = seconds(lambda: forecast(range(HORIZON)))
    found["forecast, the last frame decoded"] = seconds(lambda: forecast(range(HORIZON - 1, HORIZON)))
    return {name: value / number * 1e3 for name, value in found.items()}


FORECASTERS: dict[str, tuple[Callable[[int], Trained], str]] = {
    "lstm": (lstm, "LSTM"),
    "untold": (untold, "LSTM, not told"),
    "residual": (residual, "residual network"),
}
PARTS = {"vae": of_vae, "pod": of_pod, "dmd": of_dmd, "persistence": of_persistence}


def main() -> None:
    """Print the tables and keep them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the scenes, one epoch; nothing is kept"
    )
    parser.add_argument("--only", nargs="+", choices=[*PARTS, "speed"], default=[*PARTS, "speed"])
    parser.add_argument("--epochs", type=int, default=24, help="of the VAE")
    parser.add_argument("--latent", type=int, default=LATENT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="made already; else it is made and cached")
    parser.add_argument("--folder", type=Path, default=HERE.parent / "runs" / "fluids_smoke")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.quick:
        asked.epochs, asked.folder = 1, asked.folder / "quick"
    scenes = Scenes(
        asked.data or fetch("fluids", parameters=SOURCE, seed=1)["fluids.h5"], 10 if asked.quick else 1
    )
    same = {key: getattr(asked, key) for key in ("epochs", "latent", "seed")} | {"source": SOURCE}
    result = so_far({})
    for part in asked.only:
        start = time.process_time()
        found = speeds(scenes, asked) if part == "speed" else PARTS[part](scenes, asked)
        minutes = {part: (time.process_time() - start) / 60}
        if part == "vae":
            minutes = spent(asked.folder, {})
        if not asked.quick:
            result = so_far(same)  # another process may have kept a part in the meantime
        result["milliseconds" if part == "speed" else "errors"] |= found
        result["cpu_minutes"] |= minutes
        if not asked.quick:
            keep("fluids_smoke", result)
    show(result)


def so_far(same: dict[str, Any]) -> dict[str, Any]:
    """The parts kept with the same settings."""
    path = HERE / "results" / "fluids_smoke.json"
    kept = json.loads(path.read_text()) if same and path.exists() else {}
    names = ("errors", "milliseconds", "cpu_minutes")
    alike = all(kept.get(key) == value for key, value in same.items())
    return same | {name: kept.get(name, {}) if alike else {} for name in names}


def show(result: dict[str, Any]) -> None:
    """What there is."""
    for part, minutes in result["cpu_minutes"].items():
        print(f"{part}: {minutes:.1f} CPU-minutes")
    print(f"{'relative L2 error, frames ahead':36}" + "".join(f"{k:8d}" for k in LEADS)
          + f"{'density':>9}{'velocity':>9}  (at {HORIZON})")  # fmt: skip
    for row, found in result["errors"].items():
        print(f"{row:36}" + "".join(f"{found['all'][k - 1]:8.3f}" for k in LEADS)
              + f"{found['density'][-1]:9.3f}{found['velocity'][-1]:9.3f}")  # fmt: skip
    times = result["milliseconds"]
    if times:
        published, ours = times["solver, conjugate gradients to 1e-3"], times["solver, cosines"]
        print(f"{f'{HORIZON} frames':36}{'ms a scene':>11}{'published way is':>18}{'cosines are':>13}")
        for row, value in times.items():
            print(f"{row:36}{value:11.2f}{published / value:17.1f}×{ours / value:12.1f}×")


if __name__ == "__main__":
    main()
