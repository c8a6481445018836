"""What the sum of the encoder's states, and a weight of the properties, are worth to molecules in a short training.

    python -m benchmarks.molecules_encoder

The demonstration of the domain (12,000 molecules of QM9, 8 epochs), trained with each of both, with both and with
neither, three seeds each, judged on the test molecules. The last result is kept in
benchmarks/results/molecules_encoder.json.
"""

from __future__ import annotations

import statistics
import time
from itertools import product
from typing import Any

from benchmarks.turns import keep

SEEDS = (0, 1, 2)
SUMS, WEIGHTS = (False, True), (1.0, 5.0)


def measured() -> dict[str, Any]:
    """Share that comes back and mean absolute errors of the model's properties, of each seed."""
    from sciencevae import config
    from sciencevae.data.fetch import fetch
    from sciencevae.data.scaling import Scaling
    from sciencevae.registry import domain

    found = domain("molecules")
    from sciencevae.builtin.molecules.dataset import prepare

    data = prepare(config.load(found), fetch("qm9"), None)
    data.attrs["scaling"] = Scaling.fit(data).to_json()  # as the stage does that writes them
    table = []
    for sums, weight in product(SUMS, WEIGHTS):
        ours = [f"model.encoder_sums={str(sums).lower()}", f"objective.property_weight={weight}"]
        of_seeds = [trained(config.load(found, overrides=[*ours, f"seed={seed}"]), data) for seed in SEEDS]
        row: dict[str, Any] = {"sums": sums, "weight": weight}
        for name in of_seeds[0]:
            values = [one[name] for one in of_seeds]
            row[name] = {"mean": statistics.mean(values), "spread": statistics.stdev(values)}
        table.append(row)
        print(row, flush=True)
    return {"seeds": len(SEEDS), "table": table}


def trained(settings: Any, data: Any) -> dict[str, float]:
    """One training, and what became of it."""
    import torch
    from sciencevae.builtin.molecules.analysis import decoded
    from sciencevae.builtin.molecules.dataset import alphabet_of
    from sciencevae.builtin.molecules.model import build, objective

    from sciencevae.data.batches import as_batches
    from sciencevae.data.scaling import Scaling
    from sciencevae.data.splits import split_rows
    from sciencevae.training.loop import fit

    torch.manual_seed(settings.seed)
    model = build(settings, data)
    train, valid = (as_batches(data, split=part) for part in ("train", "valid"))
    began = time.perf_counter()
    chosen = settings.training.model_copy(update={"seed": settings.seed})
    fit(model, train, objective(settings, data), valid, chosen, progress=False)
    minutes = (time.perf_counter() - began) / 60
    test = data.isel(sample=split_rows(data, "test"))
    (batch,) = as_batches(test).blocks(test.sizes["sample"])
    with torch.no_grad():
        z = model.encode(batch.x, batch.context).mean
        told = Scaling.of(data).invert("properties", model.decode(z).fields["properties"].mean).numpy()
        back = decoded(model, alphabet_of(data), z)
    errors = abs(told - test["properties"].values).mean(0)
    same = [one == true for one, true in zip(back, test["smiles"].values.tolist(), strict=True)]
    names = data["property"].values.tolist()
    return {
        "exact": sum(same) / len(same),
        **dict(zip(names, errors.tolist(), strict=True)),
        "minutes": minutes,
    }


if __name__ == "__main__":
    keep("molecules_encoder", measured())
