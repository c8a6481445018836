"""Which parts of a model compile as one graph and train as an ensemble, and what that gains.

    python -m benchmarks.parts

One model (a standard normal prior, a diagonal Gaussian encoder, a Gaussian decoder with σ = 1; 8 variables, 4
latents, layers of 64 and 32, batches of 128, one thread) in which one part is exchanged at a time. Told is the time
of a step uncompiled, and by how much compiling makes it shorter; and for four seeds as one, compiled, how many
times as long as one compiled step it takes. Best of several repeats, taken in turn. The last result is kept in
benchmarks/results/parts.json; ``tests/vae/test_parts.py`` fails when a part that is listed there as compiled no
longer compiles.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

import sciencevae as sv
from benchmarks.turns import keep
from sciencevae.training.loop import Loop
from sciencevae.vae.priors import Prior

D, N, C, B = 4, 8, 2, 128
SEEDS = (0, 1, 2, 3)
REPEATS, STEPS = 7, 100

Part = Callable[[], Any]


def encoder_network(features: int = N, out: int = 2 * D, condition: int = 0) -> torch.nn.Module:
    """From data to the posterior."""
    return sv.networks.Perceptron(features, [64, 32], out, condition_features=condition)


def decoder_network(out: int = N, condition: int = 0) -> torch.nn.Module:
    """From latents to the likelihood."""
    return sv.networks.Perceptron(D, [32, 64], out, condition_features=condition)


PRIORS: dict[str, Callable[[], Prior]] = {
    "standard": lambda: sv.priors.StandardNormal(D),
    "mixture": lambda: sv.priors.GaussianMixture(D, 8),
    "full mixture": lambda: sv.priors.GaussianMixture(D, 8, covariance="full"),
}
ENCODERS: dict[str, Part] = {
    "diagonal": lambda: sv.encoders.Gaussian(encoder_network(), D),
    "full": lambda: sv.encoders.Gaussian(encoder_network(out=D + D * (D + 1) // 2), D, covariance="full"),
    "missing": lambda: sv.encoders.Gaussian(encoder_network(2 * N), D, missing=True),
    "conditional": lambda: sv.encoders.Gaussian(encoder_network(condition=C), D, conditional=True),
}
DECODERS: dict[str, Part] = {
    "gaussian": lambda: sv.decoders.Gaussian(decoder_network()),
    "learned": lambda: sv.decoders.Gaussian(decoder_network(), scale="learned"),
    "predicted": lambda: sv.decoders.Gaussian(decoder_network(2 * N), scale="predicted"),
    "noise": lambda: sv.decoders.Gaussian(decoder_network(), scale="per-datum"),
    "noise and scatter": lambda: sv.decoders.Gaussian(
        decoder_network(), scale="per-datum", intrinsic="learned"
    ),
    "covariance": lambda: sv.decoders.Gaussian(decoder_network(), scale="per-datum", intrinsic="learned"),
    "bernoulli": lambda: sv.decoders.Bernoulli(decoder_network()),
    "von mises": lambda: sv.decoders.VonMises(decoder_network(3 * N)),
    "conditional": lambda: sv.decoders.Gaussian(decoder_network(condition=C), conditional=True),
}


def data(encoder: str, decoder: str) -> sv.Batch:
    """Ten batches in the support of the parts."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10 * B, N, generator=generator).clamp(-3, 3)
    if decoder == "bernoulli":
        x = (x > 0).float()
    if encoder == "missing":
        x[torch.rand(x.shape, generator=generator) < 0.1] = float("nan")
    noise = torch.rand(10 * B, N, generator=generator) + 0.1
    if decoder == "covariance":
        root = torch.randn(10 * B, N, N, generator=generator)
        noise = root @ root.mT / N + 0.1 * torch.eye(N)
    return sv.Batch(x, context={"noise": noise, "condition": torch.randn(10 * B, C, generator=generator)})


def steps(names: dict[str, str], compiled: bool, seeds: tuple[int, ...]) -> Callable[[], None]:
    """A function that runs ``STEPS`` steps; compiled here, so that only steps are timed."""
    models = []
    for seed in seeds:
        torch.manual_seed(seed)
        parts = PRIORS[names["prior"]](), ENCODERS[names["encoder"]](), DECODERS[names["decoder"]]()
        models.append(sv.VAE(*parts))
    settings = sv.TrainingSettings(epochs=10**6, batch_size=B, compile=compiled, device="cpu")
    rows = data(names["encoder"], names["decoder"])
    loop = Loop(models, rows, None, None, settings, list(seeds) if len(seeds) > 1 else None)
    state = loop._new_state()
    run = loop._first_step(state)
    batches = list(loop._epoch(0, 0))
    noise, values = loop._noise(0, B), loop._values(0)

    def several(count: int = STEPS) -> None:
        for number in range(count):
            run(state, batches[number % len(batches)], noise, values)

    several(3)
    return several


def measure(names: dict[str, str]) -> dict[str, Any]:
    """Seconds of a step of each kind, the best of the repeats, None where it is refused; and the refusals."""
    kinds = {"eager": (False, SEEDS[:1]), "compiled": (True, SEEDS[:1]), "ensemble": (True, SEEDS)}
    found: dict[str, Any] = {}
    functions = {}
    for kind, (compiled, seeds) in kinds.items():
        try:
            functions[kind] = steps(names, compiled, seeds)
        except Exception as error:
            found |= {kind: None, f"{kind} refused": str(error).strip().splitlines()[0][:200]}
    times: dict[str, list[float]] = {kind: [] for kind in functions}
    for _ in range(REPEATS):
        for kind, function in functions.items():
            begin = time.perf_counter()
            function()
            times[kind].append((time.perf_counter() - begin) / STEPS)
    return found | {kind: min(values) for kind, values in times.items()}


def main() -> None:
    """Measure, print, keep."""
    torch.set_num_threads(1)
    base = {"prior": "standard", "encoder": "diagonal", "decoder": "gaussian"}
    table = []
    print(f"{'':<32}{'uncompiled':>14}{'compiled':>12}{'4 seeds':>10}")
    for part, catalogue in (("prior", PRIORS), ("encoder", ENCODERS), ("decoder", DECODERS)):
        for name in catalogue:
            row = {"part": part, "name": name, **measure(base | {part: name})}
            table.append(row)
            eager, one, four = row["eager"], row["compiled"], row["ensemble"]
            told = f"{eager / one:.1f}× faster" if one else "no"
            many = f"{four / one:.1f}" if one and four else "no"
            print(f"{part + ': ' + name:<32}{1e6 * eager:>11.0f} µs{told:>12}{many:>10}", flush=True)
    keep("parts", {"table": table})


if __name__ == "__main__":
    main()
