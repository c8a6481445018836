"""What the prior fitted to the latents afterwards is worth for new molecules: N(0, 1), a mixture, a flow.

    python -m benchmarks.molecules_priors

The model is molecules-qm9 as it comes with the package, but for its prior, which is fitted here anew; the data
are QM9, prepared as for its training. Drawn are as many molecules as a run of qm9.yaml draws, compared with as many
test molecules. The last result is kept in benchmarks/results/molecules_priors.json.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.turns import keep


def measured() -> dict[str, Any]:
    """Each prior: −E_q[log p(z)] of validation latents, metrics of new molecules, and the minutes of its fit."""
    import sciencevae as sv
    from sciencevae import config
    from sciencevae.data.batches import as_batches
    from sciencevae.data.fetch import fetch
    from sciencevae.data.splits import split_rows
    from sciencevae.registry import domain
    from sciencevae.vae.fit_prior import refit_prior
    from sciencevae.vae.priors import StandardNormal

    found = domain("molecules")
    from sciencevae.builtin.molecules.analysis import new_molecules
    from sciencevae.builtin.molecules.chemnet import ChemNet
    from sciencevae.builtin.molecules.dataset import alphabet_of, prepare
    from sciencevae.builtin.molecules.metrics import alone, compare, describe

    settings = config.load(found, "qm9")
    chosen = settings.analyse
    data = prepare(settings, fetch("qm9"), None)
    chemnet = ChemNet.load(fetch("chemnet")["ChemNet_v0.13_pretrained.pt"])
    test, training = (data["smiles"].values[split_rows(data, part)].tolist() for part in ("test", "train"))
    known = describe(test[: chosen.samples], (), chemnet)
    train, valid = (as_batches(data, split=part) for part in ("train", "valid"))
    table: dict[str, Any] = {"none": {"minutes": 0}}
    for kind in ("none", "mixture", "flow"):
        model = sv.load("molecules-qm9")
        model.prior = StandardNormal(model.dim)
        began = time.perf_counter()
        fitted = refit_prior(kind, settings.refit, model, train, valid, settings.seed)
        if fitted is not None:
            table[kind] = {
                "cross_entropy": fitted.best_loss,
                "minutes": (time.perf_counter() - began) / 60,
            }
            table["none"]["cross_entropy"] = fitted.rows[0]["valid_loss"]
        new = describe(new_molecules(model, alphabet_of(data), chosen.samples, chosen.seed), (), chemnet)
        table[kind] |= {**alone(new, frozenset(training)), **compare(new, known)}
        print(kind, table[kind], flush=True)
    return {"samples": chosen.samples, "table": table}


if __name__ == "__main__":
    keep("molecules_priors", measured())
