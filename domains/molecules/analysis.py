"""What is looked at: molecules that come back, new molecules, and better ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from rdkit import Chem
from scipy.stats import sem

from sciencevae.data.batches import as_batches
from sciencevae.data.splits import split_rows
from sciencevae.errors import RunError
from sciencevae.registry import Findings

from .chemistry import PROPERTIES, parsed
from .dataset import alphabet_of, write_smi
from .files import rows_of
from .metrics import alone, compare, describe

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from sciencevae.distributions import Joint
    from sciencevae.runs import Run
    from sciencevae.vae.model import VAE

    from .chemnet import ChemNet
    from .tokens import Alphabet

__all__ = ["decoded", "generation", "new_molecules", "optimisation", "reconstruction"]

TITLES = {
    "exact": "exact by the posterior mean, greedy (share)",
    "exact_error": "its error (share)",
    "exact_flat": "the same without stereochemistry (share)",
    "exact_drawn": "exact by drawn encodings and decodings (share)",
    "exact_drawn_error": "its error, over the molecules (share)",
    "valid": "valid of the drawn (share)",
    "other": "exact from another molecule's latent (share)",
    "kl": "KL (nats/molecule)",
    "active_units": "active latent dimensions",
    "own_over_shuffled": "own latent over a shuffled one (nats/molecule)",
}
#: rows that are decoded at once
_ROWS = 2000
#: SMILES that are read at once
_READ = 100_000


def reconstruction(run: Run) -> Findings:
    """How many test molecules come back exactly, by canonical SMILES.

    exact: the posterior mean decoded greedily; exact_drawn: ``draws`` latents of each molecule's posterior, each
    decoded ``draws`` times token by token at random, as Gómez-Bombarelli et al. 2018 and later papers measure it.
    """
    chosen, rows = run.settings.analyse, []
    for name, variant in run.variants.items():
        model, alphabet = variant.model(), alphabet_of(variant.data)
        data = variant.data.isel(sample=split_rows(variant.data, "test")[: chosen.rows]).load()
        (batch,) = as_batches(data).blocks(data.sizes["sample"])
        smiles = data["smiles"].values.tolist()
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(chosen.seed)
            posterior = model.encode(batch.x, batch.context)
            greedy = decoded(model, alphabet, posterior.mean)
            other = decoded(model, alphabet, posterior.mean.roll(1, 0))
            shares, valid = np.zeros(len(smiles)), 0.0
            for _ in range(chosen.draws):
                z = posterior.sample()
                for _ in range(chosen.draws):
                    drawn = decoded(model, alphabet, z, greedy=False)
                    shares += np.array([one == true for one, true in zip(drawn, smiles, strict=True)])
                    valid += sum(map(bool, drawn))
            shares /= chosen.draws**2
        exact = np.array([one == true for one, true in zip(greedy, smiles, strict=True)])
        flat = np.array([_flat(one) == _flat(true) for one, true in zip(greedy, smiles, strict=True)])
        use = variant.metrics["latents"]
        rows.append(
            {
                "model": name,
                "molecules": len(smiles),
                "exact": exact.mean(),
                "exact_error": sem(exact.astype(float)),
                "exact_flat": flat.mean(),
                "exact_drawn": shares.mean(),
                "exact_drawn_error": sem(shares),
                "valid": valid / (chosen.draws**2 * len(smiles)),
                "other": np.mean([one == true for one, true in zip(other, smiles, strict=True)]),
                "kl": use["kl"],
                "active_units": use["active_units"],
                "own_over_shuffled": use["own_over_shuffled"],
            }
        )
    table = pd.DataFrame(rows)
    metrics: dict[Any, Any] = table.set_index("model").to_dict("index")
    note = (
        f"Exact: the same canonical SMILES. Drawn: {chosen.draws} encodings of each molecule and {chosen.draws} "
        "decodings of each, the way in which published rates were measured."
    )
    return Findings(metrics, {"reconstruction": table}, (note,), TITLES)


def generation(run: Run) -> Findings:
    """New molecules from the prior beside molecules that are known: the metrics of MOSES. Writes ``samples.smi``.

    Beside the test molecules; of a run of MOSES also beside those with scaffolds that training has not, /TestSF.
    """
    chosen, rows, notes = run.settings.analyse, [], list[str]()
    chemnet = _chemnet(notes)
    filters, scaffolds = _of_moses(run)
    size = chosen.known or chosen.samples
    of_scaffolds = describe(scaffolds[:size], filters, chemnet) if scaffolds else None
    known: dict[str, Any] = {}
    for name, variant in run.variants.items():
        new = new_molecules(variant.model(), alphabet_of(variant.data), chosen.samples, chosen.seed)
        write_smi(new, range(1, len(new) + 1), variant.folder / "samples.smi")
        if variant.key not in known:
            test = split_rows(variant.data, "test")[:size]
            known[variant.key] = describe(_smiles(variant.data, test), filters, chemnet)
        of_test = known[variant.key]
        found = describe(new, filters, chemnet)
        training = _among(found.smiles, variant.data)
        row: dict[str, Any] = {"model": name, **alone(found, training), **compare(found, of_test)}
        if of_scaffolds is not None:
            row |= {f"{key}/TestSF": value for key, value in compare(found, of_scaffolds).items()}
        if not filters:
            row.pop("Filters")
        rows.append(row)
    table = pd.DataFrame(rows)
    metrics: dict[Any, Any] = table.set_index("model").to_dict("index")
    notes.append(
        f"{chosen.samples} molecules drawn from the prior and decoded token by token at random, beside "
        f"{min(len(of_test.smiles) for of_test in known.values())} test molecules; definitions of MOSES "
        "(Polykovskiy et al. 2020)."
    )
    return Findings(metrics, {"generation": table}, tuple(notes), TITLES)


def optimisation(run: Run) -> Findings:
    """The best 5 QED − SAS that each way finds in as many calls, all from the same molecules drawn first."""
    from .optimise import START, WAYS, Oracle, Space, at_random

    chosen = run.settings.analyse
    if chosen.optimise_calls is None:
        return Findings()
    space = Space.of(run.main)
    calls, rows = chosen.optimise_calls, []
    for seed in range(chosen.seed, chosen.seed + chosen.optimise_seeds):
        for way, search in WAYS.items():
            oracle = Oracle()
            at_random(space, oracle, START, seed)
            search(space, oracle, calls, seed)
            best = oracle.best()
            found = max(oracle.seen, key=lambda text: np.nan_to_num(oracle.seen[text], nan=-np.inf))
            rows += [
                {"way": way, "seed": seed, "calls": asked, "best": best[min(asked, oracle.calls) - 1]}
                for asked in sorted({START, *range(100, calls, 100), calls})
            ]
            best_one = parsed(found)
            rows[-1] |= (
                {name: PROPERTIES[name](best_one) for name in ("QED", "SAS", "logP")} if best_one else {}
            )
            rows[-1]["smiles"] = found
    table = pd.DataFrame(rows)
    last = table[table.calls == calls].groupby("way", sort=False).best
    metrics = {
        way: {"median": part.median(), "lowest": part.min(), "highest": part.max()} for way, part in last
    }
    note = (
        f"5 QED − SAS of {calls} molecules a way, the first {START} drawn from the prior, the same for "
        f"all; {chosen.optimise_seeds} seeds. logP of the best is told, not sought: a search for it, penalised or "
        "not, ends in long chains of carbon."
    )
    return Findings(metrics, {"optimisation": table}, (note,), TITLES)


@torch.no_grad()
def decoded(model: VAE, alphabet: Alphabet, z: torch.Tensor, greedy: bool = True) -> list[str]:
    """The canonical SMILES of latents (N, D), "" where a sequence is no molecule."""
    found: list[str] = []
    for part in z.split(_ROWS):
        likelihood: Joint = model.decode(part)  # type: ignore[assignment]
        tokens = likelihood.fields["tokens"]
        ids = tokens.mode if greedy else tokens.sample()
        found += [alphabet.decode(row) for row in ids.tolist()]
    return found


def new_molecules(model: VAE, alphabet: Alphabet, count: int, seed: int) -> list[str]:
    """Molecules drawn from p(z) and p(x | z)."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        return decoded(model, alphabet, model.sample_latents(count), greedy=False)


def _smiles(data: xr.Dataset, rows: np.ndarray) -> list[str]:
    found: list[str] = data["smiles"].isel(sample=rows).values.tolist()
    return found


def _among(smiles: Sequence[str], data: xr.Dataset) -> frozenset[str]:
    """Those that are training molecules, of which no more than a block are in memory at once."""
    new, train = frozenset(smiles), split_rows(data, "train")
    blocks = (train[start : start + _READ] for start in range(0, len(train), _READ))
    return frozenset[str]().union(*(new.intersection(_smiles(data, rows)) for rows in blocks))


def _flat(smiles: str) -> str:
    """Without stereochemistry."""
    found = parsed(smiles)
    if found is None:
        return ""
    Chem.RemoveStereochemistry(found)
    return Chem.MolToSmiles(found)


def _chemnet(notes: list[str]) -> ChemNet | None:
    from sciencevae.data.fetch import fetch

    from .chemnet import ChemNet

    try:
        return ChemNet.load(fetch("chemnet", progress=False)["ChemNet_v0.13_pretrained.pt"])
    except RunError as error:
        notes.append(f"Without the Fréchet ChemNet Distance, for which ChemNet is missing: {error}")
        return None


def _of_moses(run: Run) -> tuple[list[Path], list[str]]:
    """The files of its filters, and its molecules with new scaffolds; of a run of other data nothing."""
    if run.settings.dataset != "moses" or run.input is not None:
        return [], []
    from sciencevae.data.fetch import fetch

    files = fetch("moses", progress=False)
    scaffolds = [row.smiles for row in rows_of(files["test_scaffolds.csv.gz"])]
    return [files["mcf.csv"], files["wehi_pains.csv"]], scaffolds
