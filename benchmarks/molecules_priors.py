"""What the prior fitted to the latents afterwards is worth for new molecules: N(0, 1), a mixture, a flow.

    python -m benchmarks.molecules_priors RUN

RUN: of the domain molecules, refitted with a mixture and analysed. The training is the same for all; the flow is
fitted here, and what the molecules of the mixture are like is taken from the run. Drawn are as many molecules as
the run draws, compared with as many test molecules. The last result is kept in
benchmarks/results/molecules_priors.json.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.turns import keep


def measured(folder: Path) -> dict[str, Any]:
    """Each prior: −E_q[log p(z)] of validation latents, metrics of new molecules, and the minutes of its fit."""
    from sciencevae.data.batches import as_batches
    from sciencevae.data.fetch import fetch
    from sciencevae.data.splits import split_rows
    from sciencevae.runs import Run
    from sciencevae.vae.files import load
    from sciencevae.vae.fit_prior import refit_prior

    run = Run(folder)
    from sciencevae.builtin.molecules.analysis import new_molecules
    from sciencevae.builtin.molecules.chemnet import ChemNet
    from sciencevae.builtin.molecules.dataset import alphabet_of
    from sciencevae.builtin.molecules.metrics import alone, compare, describe

    settings, chosen, data = run.settings, run.settings.analyse, run.main.data
    chemnet = ChemNet.load(fetch("chemnet")["ChemNet_v0.13_pretrained.pt"])
    test, training = (data["smiles"].values[split_rows(data, part)].tolist() for part in ("test", "train"))
    known = describe(test[: chosen.samples], (), chemnet)
    refit = run.main.metrics["refit"]
    table = {}
    for kind in ("none", "flow"):
        model = load(run.main.training / "model.safetensors")
        began = time.perf_counter()
        train, valid = (as_batches(data, split=part) for part in ("train", "valid"))
        fitted = refit_prior(kind, settings.refit, model, train, valid, settings.seed)
        minutes = 0 if fitted is None else (time.perf_counter() - began) / 60
        new = describe(new_molecules(model, alphabet_of(data), chosen.samples, chosen.seed), (), chemnet)
        found = {**alone(new, frozenset(training)), **compare(new, known)}
        cross_entropy = refit["valid_before"] if fitted is None else fitted.best_loss
        table[kind] = {"cross_entropy": cross_entropy, "minutes": minutes, **found}
        print(kind, table[kind], flush=True)
    table["mixture"] = {
        "cross_entropy": refit["valid_loss"],
        "minutes": refit["seconds"] / 60,
        **run.metrics["generation"]["main"],
    }
    return {"samples": chosen.samples, "table": table}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    keep("molecules_priors", measured(parser.parse_args().run))
