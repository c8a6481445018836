"""The metrics of generated molecules: against the published rows that need no model, and against the MOSES package.

    python -m benchmarks.moses golden [--samples N] [--known N]
    python -m benchmarks.moses rate [--molecules N]      # after benchmarks/peers/setup-moses
    python -m benchmarks.moses curve --run RUN ...       # after sciencevae run molecules --config moses-S --out RUN
    python -m benchmarks.moses draws --run RUN ... [--molecules N]

golden: N training molecules, the first ones in the order of their hash, described as if a model had made them,
beside all test molecules and those of new scaffolds. rate: both do the same for N training molecules and N test
molecules, on one core, in turns, in processor time; their values are compared, too. curve: of the runs' models what
comes back exactly, and how their new molecules are distributed. draws: whether the prior or the decoder is to
blame, N molecules decoded from latents of the prior, of posteriors of training molecules, and from their means. The
last results are kept in benchmarks/results/moses_golden.json, moses_rate.json, moses_curve.json, moses_draws.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.turns import HERE, keep, spread

#: Polykovskiy et al. 2020, Table 1, row "Train": FCD, SNN, Frag and Scaf against Test and TestSF
PUBLISHED = {
    "Test": {"FCD": 0.008, "SNN": 0.642, "Frag": 1.0, "Scaf": 0.991},
    "TestSF": {"FCD": 0.476, "SNN": 0.586, "Frag": 0.999, "Scaf": 0.0},
}
#: of DD-VAE (Davidson et al. 2020): the share of test molecules that come back, and FCD against Test
DD_VAE = {0.70: 0.19, 0.80: 0.31, 0.90: 0.70, 0.95: 1.14}
PEER = HERE.parent / ".venv-moses" / "bin" / "python"
ROUNDS = 3


def molecules(name: str, files: dict[str, Path], count: int | None = None) -> list[str]:
    """Of a file of MOSES: all, or those of the smallest hash."""
    from sciencevae.registry import domain

    domain("molecules")
    from sciencevae.builtin.molecules.files import rows_of

    found = [row.smiles for row in rows_of(files[name])]
    found.sort(key=lambda text: hashlib.sha256(text.encode()).digest())
    return found[:count]


def inputs() -> tuple[dict[str, Path], list[Path], Any]:
    """The files of MOSES, its filters, and ChemNet."""
    from sciencevae.data.fetch import fetch
    from sciencevae.registry import domain

    domain("molecules")
    from sciencevae.builtin.molecules.chemnet import ChemNet

    files = fetch("moses")
    chemnet = ChemNet.load(fetch("chemnet")["ChemNet_v0.13_pretrained.pt"])
    return files, [files["mcf.csv"], files["wehi_pains.csv"]], chemnet


def golden(samples: int, known: int | None) -> dict[str, Any]:
    """Ours beside the published numbers."""
    files, filters, chemnet = inputs()
    from sciencevae.builtin.molecules.metrics import alone, compare, describe

    began = time.perf_counter()
    new = describe(molecules("train.csv.gz", files, samples), filters, chemnet)
    result: dict[str, Any] = {"samples": samples, "alone": alone(new), "table": {}}
    for name, file in (("Test", "test.csv.gz"), ("TestSF", "test_scaffolds.csv.gz")):
        of_known = describe(molecules(file, files, known), filters, chemnet)
        result["table"][name] = {"known": len(of_known.smiles), **compare(new, of_known)}
    result["minutes"] = (time.perf_counter() - began) / 60
    return result


def rate(count: int) -> dict[str, Any]:
    """Seconds of both, and where their values differ."""
    import dask

    files, filters, chemnet = inputs()
    from sciencevae.builtin.molecules.metrics import alone, compare, describe

    train, test = (molecules(name, files, count) for name in ("train.csv.gz", "test.csv.gz"))
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder, dask.config.set(num_workers=1):
        given = Path(folder, "molecules.json")
        given.write_text(json.dumps({"new": train, "test": test, "train": train}))
        compare(describe(train[:5], filters, chemnet), describe(test[:5], filters, chemnet))  # compiles
        for _ in range(ROUNDS):
            began = time.process_time()
            new = describe(train, filters, chemnet)
            found = {**alone(new, frozenset(train)), **compare(new, describe(test, filters, chemnet))}
            ours.append(time.process_time() - began)
            peer = subprocess.run(
                [PEER, HERE / "peers" / "moses_metrics.py", given], check=True, capture_output=True, text=True
            )
            answer = json.loads(peer.stdout.splitlines()[-1])
            theirs.append(answer["seconds"])
    names = {"valid": "Valid", "unique@1000": "Unique@1k", "IntDiv": "IntDiv", "IntDiv2": "IntDiv2"}
    names |= {f"{name}/Test": name for name in ("FCD", "SNN", "Frag", "Scaf")}
    names |= {"Filters": "Filters", "Novelty": "Novelty", "logP": "W1 logP", "SA": "W1 SAS"}
    names |= {"QED": "W1 QED", "weight": "W1 weight"}
    median, smallest, largest = spread(theirs, ours)
    return {
        "molecules": count,
        "ours_ms": 1e3 * min(ours) / count,
        "theirs_ms": 1e3 * min(theirs) / count,
        "ratio": [median, smallest, largest],
        "values": {
            mine: [found[mine], answer["found"][name]] for name, mine in names.items() if mine in found
        },
    }


def curve(folders: list[Path]) -> dict[str, Any]:
    """Each model of the runs: the weight of its KL, what it gives back, what it makes."""
    from sciencevae.runs import Run

    table = [
        {
            "rows": run.settings.prepare.rows,
            "beta": variant.settings.objective.beta,
            "epochs": variant.metrics["epochs"],
            "hours": variant.metrics["seconds"] / 3600,
            **run.metrics["reconstruction"][name],
            **run.metrics["generation"][name],
        }
        for run in map(Run, folders)
        for name, variant in run.variants.items()
    ]
    return {"table": sorted(table, key=lambda row: row["beta"])}


def draws(folders: list[Path], count: int) -> dict[str, Any]:
    """Of each model, molecules from latents of several origins beside test molecules."""
    import torch

    from sciencevae.data.splits import split_rows
    from sciencevae.runs import Run

    files, _, chemnet = inputs()
    from sciencevae.builtin.molecules.analysis import decoded
    from sciencevae.builtin.molecules.dataset import alphabet_of
    from sciencevae.builtin.molecules.metrics import compare, describe

    known = describe(molecules("test.csv.gz", files, count), (), chemnet)
    table = []
    for variant in (variant for folder in folders for variant in Run(folder).variants.values()):
        model, alphabet, latents = variant.model(), alphabet_of(variant.data), variant.latents
        rows = split_rows(latents, "train")[:count]
        mean, scale = (torch.tensor(latents[name].values[rows]) for name in ("z", "z_std"))
        torch.manual_seed(0)
        with torch.no_grad():
            origins = {
                "the prior": model.sample_latents(count),
                "posteriors of training molecules": mean + scale * torch.randn_like(scale),
                "their means": mean,
            }
        for origin, z in origins.items():
            for greedy in (False, True):
                found = compare(describe(decoded(model, alphabet, z, greedy=greedy), (), chemnet), known)
                table.append(
                    {"beta": variant.settings.objective.beta, "origin": origin, "greedy": greedy, **found}
                )
                print(table[-1], flush=True)
    return {"molecules": count, "table": sorted(table, key=lambda row: row["beta"])}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("golden", "rate", "curve", "draws"))
    parser.add_argument("--samples", type=int, default=30_000)
    parser.add_argument("--known", type=int)
    parser.add_argument("--molecules", type=int, default=2000)
    parser.add_argument("--run", type=Path, nargs="+")
    chosen = parser.parse_args()
    if chosen.what in ("curve", "draws") and not chosen.run:
        parser.error(f"{chosen.what} is of runs: name their folders with --run")
    if chosen.what == "golden":
        result = golden(chosen.samples, chosen.known)
    elif chosen.what == "rate":
        result = rate(chosen.molecules)
    elif chosen.what == "draws":
        result = draws(chosen.run, chosen.molecules)
    else:
        result = curve(chosen.run)
    keep(f"moses_{chosen.what}", result)
    print(json.dumps(result, indent=1))
