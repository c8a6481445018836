"""How much faster two ranks train than one, at the same batch over all ranks, on this machine.

    python -m benchmarks.ranks [--steps N] [--rounds N]

Steps a second of a dense model of 64 numbers (batches of 256) and of a convolutional one of 64 × 64 images
(batches of 128), uncompiled: one rank of one thread, two ranks of one thread each (gloo, over the loopback
interface), and one rank of two threads, which is what one machine would rather do. Each takes its turn in every
round; told are medians with the smallest and the largest. The last result is kept in benchmarks/results/ranks.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import sciencevae as sv
from benchmarks.turns import keep
from sciencevae.networks import ConvolutionalDecoder, ConvolutionalEncoder, Perceptron
from sciencevae.training.parallel import joined

SETUPS = {"1 rank": (1, 1), "2 ranks": (2, 1), "1 rank, 2 threads": (1, 2)}


def dense() -> tuple[sv.VAE, torch.Tensor, int]:
    """A model, data, and the size of a batch."""
    model = sv.VAE(
        sv.priors.StandardNormal(8),
        sv.encoders.Gaussian(Perceptron(64, [256, 256], 16), 8),
        sv.decoders.Gaussian(Perceptron(8, [256, 256], 64), "learned"),
    )
    return model, torch.randn(4096, 64), 256


def convolutional() -> tuple[sv.VAE, torch.Tensor, int]:
    """As ``dense``."""
    shape = (1, 64, 64)
    model = sv.VAE(
        sv.priors.StandardNormal(16),
        sv.encoders.Gaussian(ConvolutionalEncoder(shape, 32, (16, 32, 64)), 16),
        sv.decoders.Gaussian(ConvolutionalDecoder(16, shape, (64, 32, 16)), "learned"),
    )
    return model, torch.randn(1024, *shape), 128


MODELS = {"dense": dense, "convolutional": convolutional}


def train(name: str, steps: int, out: Path) -> None:
    """One rank; the first writes how many steps a second there were after the first epoch."""
    with joined(60, "cpu") as ranks:
        torch.manual_seed(0)
        model, data, batch = MODELS[name]()
        epochs = 1 + -(-steps * batch // len(data))
        settings = sv.TrainingSettings(
            epochs=epochs, batch_size=batch, compile=False, threads=torch.get_num_threads()
        )
        rows = sv.fit(model, data, settings=settings, progress=False).rows
        if ranks.rank == 0:
            first, last = rows[0], rows[-1]
            out.write_text(json.dumps((last["step"] - first["step"]) / (last["seconds"] - first["seconds"])))


def measured(name: str, ranks: int, threads: int, steps: int) -> float:
    """Steps a second."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.json"
        command = [sys.executable, "-m", "benchmarks.ranks", "--train", name, str(out), "--steps", str(steps)]
        code = f"from sciencevae.training.launch import launch; raise SystemExit(launch({command!r}, {ranks}, 1))"
        subprocess.run(
            [sys.executable, "-c", code], check=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)}
        )
        return float(json.loads(out.read_text()))


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train", nargs=2, metavar=("MODEL", "OUT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.train:
        train(asked.train[0], asked.steps, Path(asked.train[1]))
        return
    result: dict[str, Any] = {"steps": asked.steps}
    print(f"{'steps a second':20}" + "".join(f"{setup:>26}" for setup in SETUPS) + f"{'2 ranks / 1':>14}")
    for name in MODELS:
        found: dict[str, list[float]] = {setup: [] for setup in SETUPS}
        for _ in range(asked.rounds):
            for setup, (ranks, threads) in SETUPS.items():
                found[setup].append(measured(name, ranks, threads, asked.steps))
        middle = {setup: statistics.median(values) for setup, values in found.items()}
        cells = (f"{middle[s]:.1f} ({min(v):.1f}–{max(v):.1f})" for s, v in found.items())
        print(f"{name:20}" + "".join(f"{cell:>26}" for cell in cells)
              + f"{middle['2 ranks'] / middle['1 rank']:13.2f}×", flush=True)  # fmt: skip
        result[name] = found
    keep("ranks", result)


if __name__ == "__main__":
    main()
