"""Which parts of a model compile as one graph and train as an ensemble, and what that gains.

    python -m benchmarks.parts [PART:NAME …]

One model (a standard normal prior, a diagonal Gaussian encoder, a Gaussian decoder with a fixed σ, on the ELBO; 8
variables, 4 latents, layers of 64 and 32, batches of 128, one thread), one part of which is exchanged at a time; of
parts for codes, the model of one code of 32 a datum, a uniform prior and VQ (other priors: of 4 × 4 places).
Told is the time of a step uncompiled, and by how much compiling makes it shorter; and for four seeds as one,
compiled, how many times as long as one compiled step it takes. Time is the processor's, on one thread; the
best of many short repeats, in turn; of a machine that others use too the ratios are rough. A step that can't
be compiled has the compiler's reason beside it, and so has an ensemble that is refused. The last result is
kept in benchmarks/results/parts.json; ``tests/vae/test_parts.py`` fails when a part that is listed there as
compiled no longer compiles.

With names (``decoder:warp``) those rows are measured, and the others stay as they were kept: a new part costs two
compilations. Each row is kept as soon as it is measured. The parts are those of ``tests/vae/catalogue.py``, which
the tests of the contract run over.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

import sciencevae as sv
from benchmarks.turns import HERE, keep
from sciencevae.errors import InputError
from sciencevae.training.loop import Loop
from tests.vae.catalogue import PARTS, Names, Sizes, alone, build, build_objective, data

SIZES = Sizes(
    variables=8, latents=4, image=(4, 4), hidden=(64, 32), components=8, flow_hidden=(32, 32), bins=8,
    codes=32, grid=(4, 4), width=32,
)  # fmt: skip
B, ROWS = 128, 1280
SEEDS = (0, 1, 2, 3)
# short turns: some of them fall into a moment in which nobody else runs
REPEATS, STEPS = 40, 8


def steps(names: Names, compiled: bool, seeds: tuple[int, ...]) -> Callable[[], None]:
    """A function that runs ``STEPS`` steps; compiled here, so that only steps are timed."""
    models = [build(names, SIZES, seed) for seed in seeds]
    objective = build_objective(names, ROWS, SIZES)
    if len(seeds) > 1 and list(objective.parameters()):
        raise InputError("an objective that has parameters trains one model")  # as fit_ensemble does
    settings = sv.TrainingSettings(epochs=10**6, batch_size=B, compile=compiled, device="cpu")
    rows = data(names, ROWS, SIZES).to(torch.float32)
    loop = Loop(models, rows, objective, None, settings, list(seeds) if len(seeds) > 1 else None)
    state = loop._new_state()
    run = loop._first_step(state)
    batches = list(loop._epoch(0, 0))
    noise, values = loop._noise(0, B), loop._values(0)

    def several(count: int = STEPS) -> None:
        for number in range(count):
            run(state, batches[number % len(batches)], noise, values)

    several(3)
    return several


def measure(names: Names) -> dict[str, Any]:
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
            begin = time.process_time()
            function()
            times[kind].append((time.process_time() - begin) / STEPS)
    return found | {kind: min(values) for kind, values in times.items()}


def told(row: dict[str, Any]) -> None:
    """One line of the table, and why not."""
    eager, one, four = row["eager"], row["compiled"], row["ensemble"]
    gain = f"{eager / one:.1f}× faster" if one else "no"
    many = f"{four / one:.1f}" if one and four else "no"
    print(f"{row['part'] + ': ' + row['name']:<42}{1e6 * eager:>11.0f} µs{gain:>14}{many:>10}", flush=True)
    for kind in ("compiled", "ensemble"):
        if (why := row.get(f"{kind} refused")) is not None:
            print(f"    {kind}: {why}", flush=True)


def main() -> None:
    """Measure, print, keep."""
    torch.set_num_threads(1)
    every = [(part, name) for part, catalogue in PARTS.items() for name in catalogue]
    chosen = [tuple(word.split(":", 1)) for word in sys.argv[1:] if ":" in word] or every
    if unknown := set(chosen) - set(every):
        raise SystemExit(f"no such part: {unknown}; there are {', '.join(':'.join(row) for row in every)}")
    path = HERE / "results" / "parts.json"
    before = json.loads(path.read_text())["table"] if path.exists() else []
    rows = {(row["part"], row["name"]): row for row in before}
    print(f"{'':<42}{'uncompiled':>14}{'compiled':>14}{'4 seeds':>10}")
    for part, name in chosen:
        rows[part, name] = {"part": part, "name": name, **measure(alone(part, name))}
        told(rows[part, name])
        keep("parts", {"table": [rows[key] for key in every if key in rows]})
        torch._dynamo.reset()
    print("Ratios are rough on a machine that others use too.")


if __name__ == "__main__":
    main()
