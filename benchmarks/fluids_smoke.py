"""Forecasts of rising smoke in the latents of a VAE: their error on scenes held out, and how much faster they are.

    python -m benchmarks.fluids_smoke [--quick] [--epochs N] [--data FILE.h5]

480 scenes of 64 × 64 cells with random inflows and buoyancies, a frame every 0.1 s (5 solver steps) from rest to
4 s, 400 to train on (and their mirror images), 40 to choose on, 40 held out. A convolutional VAE of single frames
(density, u, v); an LSTM from 6 frames to the next 20 in its latents (Wiewel et al. 2019). Beside it, from the same
windows: persistence, as many POD coefficients with the same LSTM, and linear dynamics (DMD) with the number of POD
modes that is best on the validation scenes. Errors are L2 norms over those of the fluctuation about the mean frame
of training, by lead time; density and velocity are scaled to a fluctuation of 1.

Speed: processor time of one core for the 20 frames, 64 scenes at once: of the solvers, and of the forecast, which
encodes 6 frames, takes 20 steps of the LSTM and decodes every frame, or the last alone. The published way solves
for the pressure by conjugate gradients, here to 1e-3, the default of mantaflow, which Wiewel et al. ran. The last
result is kept in benchmarks/results/fluids_smoke.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

import sciencevae as sv
from benchmarks.turns import keep
from sciencevae.data.fetch import fetch
from sciencevae.latents.forecast import (
    POD,
    Forecaster,
    Linear,
    Prediction,
    Recurrent,
    Windows,
    windows_of,
)
from sciencevae.networks import ConvolutionalDecoder, ConvolutionalEncoder
from sciencevae.training.settings import TrainingSettings

SOURCE = {
    "kind": "smoke", "runs": 480, "frames": 41, "every": 5, "points": 64, "dt_s": 0.02,
    "advection": "semi-lagrangian",
}  # fmt: skip
VALID, TEST = 40, 40  # scenes
WINDOW, HORIZON, LATENT = 6, 20, 24
CHANNELS, HIDDEN, WIDTH = (8, 16, 32), 256, 128
LEADS = (1, 5, 10, 20)
FIELDS = {"density": slice(0, 1), "velocity": slice(1, 3), "all": slice(0, 3)}
MIRROR = torch.tensor([1.0, -1.0, 1.0])[:, None, None]  # u changes its sign

Encode = Callable[[Tensor], Tensor]


class Scenes:
    """Scaled frames (run, t, 3, y, x) of each part, less the mean frame of training."""

    def __init__(self, path: Path, fewer: int) -> None:
        with h5py.File(path) as file:
            density, velocity = file["density"][::fewer], file["velocity"][::fewer]
        x = torch.from_numpy(np.concatenate([density[:, :, None], velocity], 2))
        sizes = [len(x) - (VALID + TEST) // fewer, VALID // fewer, TEST // fewer]
        mean = x[: sizes[0]].mean((0, 1))
        mean = (mean + mean.flip(-1) * MIRROR) / 2
        x -= mean
        spread = x[: sizes[0]].square().mean((0, 1, 3, 4)).sqrt()
        spread[1:] = spread[1:].square().mean().sqrt()  # of a velocity, not of its components
        x /= spread[:, None, None]
        self.train, self.valid, self.test = x.split(sizes)

    def training_frames(self) -> Tensor:
        """(N, 3, y, x), mirror images among them."""
        frames = self.train.flatten(0, 1)
        return torch.cat([frames, frames.flip(-1) * MIRROR])


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
        seed=seed, compile=False,
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


def cut(encode: Encode, runs: Tensor, horizon: int = HORIZON, stride: int = 1) -> Windows:
    """Windows of the latents of runs (R, T, 3, y, x); their rows number the frames."""
    R, T = runs.shape[:2]
    z = by_parts(encode, runs.flatten(0, 1))
    run, moment = np.repeat(np.arange(R), T), np.tile(np.arange(T), R)
    return windows_of(z.numpy(), run, moment, window=WINDOW, horizon=horizon, stride=stride)


def lstm(encode: Encode, scenes: Scenes, epochs: int, seed: int) -> Recurrent:
    """An LSTM on the latents of training, mirror images too, its own forecasts fed back."""
    images = [cut(encode, runs) for runs in (scenes.train, scenes.train.flip(-1) * MIRROR)]
    both = Windows(torch.cat([w.history for w in images]), torch.cat([w.future for w in images]),
                   np.concatenate([w.rows for w in images]), None)  # fmt: skip
    torch.manual_seed(seed)
    made = Recurrent(both.history.shape[2], WINDOW, width=WIDTH, scaling="common")
    settings = TrainingSettings(
        epochs=epochs, batch_size=128, learning_rate=3e-3, schedule="cosine", gradient_clip=1.0, seed=seed,
        compile=False,
    )  # fmt: skip
    made.fit(both, cut(encode, scenes.valid), settings, Prediction(0.0, "squared"))
    return made


def errors(decode: Encode, forecast: Tensor, truth: Windows, runs: Tensor) -> dict[str, list[float]]:
    """The relative error of decoded forecasts (N, H, D), by lead time 1 … H, for each of FIELDS."""
    frames, found = runs.flatten(0, 1), []
    for k in range(forecast.shape[1]):
        true = frames[torch.from_numpy(truth.rows[:, WINDOW + k])]
        square = (by_parts(decode, forecast[:, k]) - true).square().sum((0, 2, 3))
        found.append((square, true.square().sum((0, 2, 3))))
    return {
        name: [float((square[part].sum() / whole[part].sum()).sqrt()) for square, whole in found]
        for name, part in FIELDS.items()
    }


def linear(pod: POD, scenes: Scenes, counts: tuple[int, ...]) -> tuple[str, Forecaster, int]:
    """DMD, of one frame and of all six, with the number of modes that is best on the validation scenes."""
    best: tuple[float, str, Forecaster, int] | None = None
    for count in counts:
        train, valid = (
            cut(lambda x, n=count: pod.encode(x)[:, :n], runs, stride=2)
            for runs in (scenes.train, scenes.valid)
        )
        for window in (1, WINDOW):
            made = Linear(count, window, ridge=1e-4, scaling="common")
            made.fit(train)
            error = errors(padded(pod), made.rollout(valid.history, HORIZON), valid, scenes.valid)["all"][-1]
            if np.isfinite(error) and (best is None or error < best[0]):
                best = (error, f"DMD of {window} frame{'s' * (window > 1)}, {count} POD modes", made, count)
    assert best is not None
    return best[1:]


def padded(pod: POD) -> Encode:
    """Decode the first so many coefficients."""

    def decode(a: Tensor) -> Tensor:
        return pod.mean + torch.tensordot(a, pod.modes[: a.shape[1]], dims=1)

    return decode


def seconds(run: Callable[[], Any], repeats: int = 5) -> float:
    """Processor seconds of one call, the median."""
    found = []
    for _ in range(repeats + 1):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return float(np.median(found[1:]))


@torch.no_grad()
def speeds(model: sv.VAE, forecaster: Forecaster, scenes: Scenes) -> dict[str, float]:
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
    frames = scenes.test[:, :WINDOW]
    frames = frames.repeat(-(-number // len(frames)), 1, 1, 1, 1)[:number]
    network = model.decoder.network

    def forecast(last: bool) -> None:
        z = model.encode(frames.flatten(0, 1)).mean.unflatten(0, (number, WINDOW))
        ahead = forecaster.rollout(z, HORIZON)
        for k in [HORIZON - 1] if last else range(HORIZON):
            network(ahead[:, k])

    found["forecast, every frame decoded"] = seconds(lambda: forecast(False))
    found["forecast, the last frame decoded"] = seconds(lambda: forecast(True))
    return {name: value / number * 1e3 for name, value in found.items()}


def main() -> None:
    """Print the tables and keep them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the scenes, one epoch; nothing is kept"
    )
    parser.add_argument("--epochs", type=int, default=24, help="of the VAE")
    parser.add_argument("--lstm-epochs", type=int, default=24)
    parser.add_argument("--latent", type=int, default=LATENT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="made already; else it is made and cached")
    parser.add_argument(
        "--model", type=Path, help="where the trained VAE is kept, and taken from if it is there"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    path = asked.data or fetch("fluids", parameters=SOURCE, seed=1)["fluids.h5"]
    scenes = Scenes(path, 10 if asked.quick else 1)
    epochs, lstm_epochs = (1, 1) if asked.quick else (asked.epochs, asked.lstm_epochs)
    start = time.process_time()
    if asked.model and asked.model.exists():
        model = sv.load(asked.model)
    else:
        model = vae(
            scenes.training_frames(),
            scenes.valid.flatten(0, 1)[::4].clone(),
            epochs,
            asked.seed,
            asked.latent,
        )
        if asked.model:
            sv.save(model, asked.model)
    trained = time.process_time() - start
    pod = POD.fit(
        scenes.train.flatten(0, 1)[:: max(1, 9 // (1 + 9 * asked.quick))][:2000],
        256 if not asked.quick else 64,
    )

    def encode(x: Tensor) -> Tensor:
        return model.encode(x).mean

    def decode(z: Tensor) -> Tensor:
        return model.decoder.network(z)

    test = cut(encode, scenes.test)
    table: dict[str, dict[str, list[float]]] = {}
    true = torch.cat([test.history, test.future], 1)[:, WINDOW:]
    table["VAE, the true frame decoded"] = errors(decode, true, test, scenes.test)
    start = time.process_time()
    forecaster = lstm(encode, scenes, lstm_epochs, asked.seed)
    trained += time.process_time() - start
    table["VAE and LSTM"] = errors(decode, forecaster.rollout(test.history, HORIZON), test, scenes.test)

    def linear_encode(x: Tensor) -> Tensor:
        return pod.encode(x)[:, : asked.latent]

    windows = cut(linear_encode, scenes.test)
    table[f"POD, the true frame in {asked.latent} modes"] = errors(
        padded(pod), windows.future, windows, scenes.test
    )
    same = lstm(linear_encode, scenes, lstm_epochs, asked.seed)
    table[f"POD, {asked.latent} modes, and the same LSTM"] = errors(
        padded(pod), same.rollout(windows.history, HORIZON), windows, scenes.test
    )
    name, dmd, count = linear(pod, scenes, (16, 64) if asked.quick else (32, 64, 128, 256))
    windows = cut(lambda x: pod.encode(x)[:, :count], scenes.test)
    table[name] = errors(padded(pod), dmd.rollout(windows.history, HORIZON), windows, scenes.test)
    frames = scenes.test.flatten(0, 1)
    still = torch.from_numpy(test.rows[:, WINDOW - 1])
    table["persistence"] = errors(
        lambda rows: frames[rows.long()], still[:, None].expand(-1, HORIZON), test, scenes.test
    )
    print(
        f"relative L2 error on {len(scenes.test)} scenes held out, {len(test)} windows; "
        f"trained in {trained / 60:.0f} CPU-minutes"
    )
    print(
        f"{'frames ahead':44}"
        + "".join(f"{f'{k}':>8}" for k in LEADS)
        + f"{'density':>9}{'velocity':>9}  (at {HORIZON})"
    )
    for row, found in table.items():
        print(f"{row:44}" + "".join(f"{found['all'][k - 1]:8.3f}" for k in LEADS)
              + f"{found['density'][-1]:9.3f}{found['velocity'][-1]:9.3f}")  # fmt: skip
    times = speeds(model, forecaster, scenes)
    published, ours = times["solver, conjugate gradients to 1e-3"], times["solver, cosines"]
    print(f"{'':40}{'ms a scene':>11}{'published way is':>18}{'cosines are':>13}")
    for row, value in times.items():
        print(f"{row:40}{value:11.2f}{published / value:17.1f}×{ours / value:12.1f}×")
    if not asked.quick:
        keep(
            "fluids_smoke",
            {"source": SOURCE, "latent": asked.latent, "epochs": epochs, "lstm_epochs": lstm_epochs,
             "seed": asked.seed, "windows": len(test), "cpu_minutes": trained / 60, "errors": table,
             "milliseconds": times},
        )  # fmt: skip


if __name__ == "__main__":
    main()
