"""What is looked at: molecules that come back, new molecules, properties from the latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from rdkit import Chem

from sciencevae.data.atomic import atomic_path
from sciencevae.data.batches import as_batches
from sciencevae.data.scaling import Scaling
from sciencevae.data.splits import SPLITS
from sciencevae.errors import RunError
from sciencevae.registry import Findings

from .dataset import alphabet_of
from .metrics import alone, compare, describe

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.distributions import Joint
    from sciencevae.runs import Run, Variant

    from .chemnet import ChemNet

__all__ = ["decoded", "generation", "new_molecules", "optimisation", "prediction", "reconstruction"]

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
    "mae": "mean absolute error",
    "mae_error": "its error",
    "unit": "unit",
    "constant": "of the training mean",
}
#: rows that are decoded at once
_ROWS = 2000


def reconstruction(run: Run) -> Findings:
    """How many test molecules come back exactly, by canonical SMILES.

    exact: the posterior mean decoded greedily; exact_drawn: ``draws`` latents of each molecule's posterior, each
    decoded ``draws`` times token by token at random, as Gómez-Bombarelli et al. 2018 and later papers measure it.
    """
    chosen, rows = run.settings.analyse, []
    for name, variant in run.variants.items():
        model, data = variant.model(), _part(variant, "test", chosen.rows)
        (batch,) = as_batches(data).blocks(data.sizes["sample"])
        smiles = data["smiles"].values.tolist()
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(chosen.seed)
            posterior = model.encode(batch.x, batch.context)
            greedy = decoded(variant, posterior.mean)
            other = decoded(variant, posterior.mean.roll(1, 0))
            shares, valid = np.zeros(len(smiles)), 0.0
            for _ in range(chosen.draws):
                z = posterior.sample()
                for _ in range(chosen.draws):
                    drawn = decoded(variant, z, greedy=False)
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
                "exact_error": _error(exact),
                "exact_flat": flat.mean(),
                "exact_drawn": shares.mean(),
                "exact_drawn_error": _error(shares),
                "valid": valid / (chosen.draws**2 * len(smiles)),
                "other": np.mean([one == true for one, true in zip(other, smiles, strict=True)]),
                "kl": use["kl"],
                "active_units": use["active_units"],
                "own_over_shuffled": use["own_over_shuffled"],
            }
        )
    table = pd.DataFrame(rows)
    note = (
        f"Exact: the same canonical SMILES. Drawn: {chosen.draws} encodings of each molecule and {chosen.draws} "
        "decodings of each, the way in which published rates were measured."
    )
    return Findings(_by_model(table), {"reconstruction": table}, (note,), TITLES)


def generation(run: Run) -> Findings:
    """New molecules from the prior beside the test molecules: the metrics of MOSES. Writes ``samples.smi``."""
    chosen, rows, notes = run.settings.analyse, [], list[str]()
    chemnet = _chemnet(notes)
    filters = _filters(run, notes)
    known: dict[str, Any] = {}
    for name, variant in run.variants.items():
        new = new_molecules(variant, chosen.samples, chosen.seed)
        _write(new, variant)
        if variant.key not in known:
            data = variant.data
            test = data["smiles"].values[data["split"].values == SPLITS["test"]].tolist()
            train = data["smiles"].values[data["split"].values == SPLITS["train"]].tolist()
            known[variant.key] = (describe(test[: chosen.samples], filters, chemnet), frozenset(train))
        of_test, training = known[variant.key]
        found = describe(new, filters, chemnet)
        row: dict[str, Any] = {"model": name, **alone(found, training), **compare(found, of_test)}
        if not filters:
            row.pop("Filters")
        rows.append(row)
    table = pd.DataFrame(rows)
    size = min(chosen.samples, min(len(of_test.smiles) for of_test, _ in known.values()))
    notes.append(
        f"{chosen.samples} molecules drawn from the prior and decoded token by token at random, beside {size} test "
        "molecules; definitions of MOSES (Polykovskiy et al. 2020)."
    )
    return Findings(_by_model(table), {"generation": table}, tuple(notes), TITLES)


def prediction(run: Run) -> Findings:
    """The properties of test molecules from their latents: by the model, and by ridge regression on the posterior
    means, beside ridge regression on Morgan fingerprints; mean absolute errors."""
    rows = []
    for name, variant in run.variants.items():
        if "properties" not in variant.data:
            continue
        data = variant.data.load()
        split, truth = data["split"].values, data["properties"].values.astype(float)
        test, train = split == SPLITS["test"], split == SPLITS["train"]
        z = variant.latents["z"].values.astype(float)
        told = _predicted(variant, z[test])
        bits = _fingerprints(data["smiles"].values.tolist())
        ways = {
            "the model": told,
            "ridge on the latents": _ridge(z[train], truth[train], z[test]),
            "ridge on Morgan fingerprints": _ridge(bits[train], truth[train], bits[test]),
            "the training mean": np.broadcast_to(truth[train].mean(0), truth[test].shape),
        }
        for way, guess in ways.items():
            errors = np.abs(guess - truth[test])
            for column, label in enumerate(data["property"].values):
                rows.append(
                    {
                        "model": name,
                        "property": label,
                        "unit": data["properties"].attrs["units"].split(", ")[column],
                        "way": way,
                        "mae": errors[:, column].mean(),
                        "mae_error": _error(errors[:, column]),
                    }
                )
    if not rows:
        return Findings()
    table = pd.DataFrame(rows)
    metrics: dict[str, Any] = {
        str(model): {
            f"{label}, {way}": float(mae)
            for label, way, mae in part[["property", "way", "mae"]].itertuples(index=False)
        }
        for model, part in table.groupby("model", sort=False)
    }
    return Findings(metrics, {"prediction": table}, (), TITLES)


def optimisation(run: Run) -> Findings:
    """The best 5 QED − SAS that each way finds in as many calls, all from the same molecules drawn first."""
    from .optimise import START, Oracle, at_random, by_genes, in_latents

    chosen, variant = run.settings.analyse, run.main
    if chosen.optimise_calls is None:
        return Findings()
    calls, rows = chosen.optimise_calls, []
    for seed in range(chosen.seed, chosen.seed + chosen.optimise_seeds):
        ways = {
            "Bayesian optimisation in the latents": in_latents,
            "genetic algorithm": by_genes,
            "random molecules": at_random,
        }
        for way, search in ways.items():
            oracle = Oracle()
            at_random(variant, oracle, START, seed)
            search(variant, oracle, calls, seed)
            best = oracle.best()
            found = max(oracle.seen, key=lambda text: np.nan_to_num(oracle.seen[text], nan=-np.inf))
            rows += [
                {"way": way, "seed": seed, "calls": asked, "best": best[asked - 1]}
                for asked in sorted({START, *range(100, calls, 100), calls})
            ]
            rows[-1]["smiles"] = found
    table = pd.DataFrame(rows)
    last = table[table.calls == calls].groupby("way", sort=False).best
    metrics = {
        way: {"median": part.median(), "lowest": part.min(), "highest": part.max()} for way, part in last
    }
    note = (
        f"5 QED − SAS of {calls} molecules a way, the first {START} of them drawn from the prior and the same for "
        f"all; {chosen.optimise_seeds} seeds."
    )
    return Findings(metrics, {"optimisation": table}, (note,), TITLES)


@torch.no_grad()
def decoded(variant: Variant, z: torch.Tensor, greedy: bool = True) -> list[str]:
    """The canonical SMILES of latents (N, D), "" where a sequence is no molecule."""
    alphabet, model = alphabet_of(variant.data), variant.model()
    found: list[str] = []
    for part in z.split(_ROWS):
        likelihood: Joint = model.decode(part)  # type: ignore[assignment]
        tokens = likelihood.fields["tokens"]
        ids = tokens.mode if greedy else tokens.sample()
        found += [alphabet.decode(row) for row in ids.tolist()]
    return found


def new_molecules(variant: Variant, count: int, seed: int) -> list[str]:
    """Molecules drawn from p(z) and p(x | z)."""
    model = variant.model()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        return decoded(variant, model.sample_latents(count), greedy=False)


def _part(variant: Variant, split: str, rows: int) -> xr.Dataset:
    data = variant.data
    return data.isel(sample=np.flatnonzero(data["split"].values == SPLITS[split])[:rows]).load()


@torch.no_grad()
def _predicted(variant: Variant, z: np.ndarray) -> np.ndarray:
    """The mean of p(properties | z), in their units."""
    likelihood: Joint = variant.model().decode(torch.as_tensor(z, dtype=torch.float32))  # type: ignore[assignment]
    mean = likelihood.fields["properties"].mean
    return Scaling.of(variant.data).invert("properties", mean).double().numpy()


def _ridge(train: np.ndarray, truth: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Ridge regression with its strength by leave-one-out on the training molecules."""
    from sklearn.linear_model import RidgeCV

    fitted = RidgeCV(np.logspace(-2, 4, 13), alpha_per_target=True).fit(train, truth)
    return fitted.predict(test).reshape(len(test), -1)


def _fingerprints(smiles: Sequence[str]) -> np.ndarray:
    """Morgan fingerprints, radius 2, 1024 bits, (N, 1024)."""
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    return np.stack([generator.GetFingerprintAsNumPy(Chem.MolFromSmiles(text)) for text in smiles]).astype(
        np.float32
    )


def _flat(smiles: str) -> str:
    """Without stereochemistry."""
    found = Chem.MolFromSmiles(smiles) if smiles else None
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


def _filters(run: Run, notes: list[str]) -> list[Any]:
    """Of MOSES, whose files a run of it has."""
    if run.settings.dataset != "moses":
        return []
    from sciencevae.data.fetch import fetch

    files = fetch("moses", progress=False)
    return [files["mcf.csv"], files["wehi_pains.csv"]]


def _write(smiles: Sequence[str], variant: Variant) -> None:
    with atomic_path(variant.folder / "samples.smi") as temporary:
        temporary.write_text("".join(f"{text} {number}\n" for number, text in enumerate(smiles, start=1)))


def _by_model(table: pd.DataFrame) -> dict[str, Any]:
    return {row["model"]: {k: v for k, v in row.items() if k != "model"} for row in table.to_dict("records")}


def _error(values: np.ndarray) -> float:
    """Standard error of the mean."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))
