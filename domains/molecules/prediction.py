"""Properties from the latents, those that the model learned and others that were measured; latents from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from rdkit import Chem
from scipy.stats import sem

from sciencevae.data.batches import as_batches
from sciencevae.data.fetch import fetch
from sciencevae.data.rows import Rows, evenly
from sciencevae.data.scaling import Scaling
from sciencevae.data.splits import split_rows
from sciencevae.errors import RunError
from sciencevae.latents.asked import sample_with
from sciencevae.latents.trained import Trained
from sciencevae.registry import Findings

from .chemistry import PROPERTIES, parsed
from .dataset import alphabet_of, hash_of, read
from .files import rows_of
from .metrics import fingerprints

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from sciencevae.distributions import Joint
    from sciencevae.runs import Run, Variant

__all__ = ["MEASURED", "conditional", "prediction", "transfer"]

TITLES = {
    "mae": "mean absolute error",
    "mae_error": "its error",
    "rmse": "root mean square error",
    "unit": "unit",
    "left_out": "left out, which the model cannot read",
    "found": "found, mean",
    "spread": "found, standard deviation",
    "mae_unasked": "mean absolute error of training molecules, which were not asked",
}
_FOLDS = 5
_LEAST = 10 * _FOLDS  # molecules
#: rows that are encoded at once
_ROWS = 2000
#: training molecules that ridge regressions are of, at most, and test molecules whose fingerprints are held
_TRAINED, _TESTED = 250_000, 10_000
#: quantiles of the training molecules that are asked of new ones, and how many of these are drawn
_ASKED, _DRAWN = (0.1, 0.5, 0.9), 200


class Measured(NamedTuple):
    """The property in a table of molecules: of which file, in which column, in which unit."""

    file: str
    column: str
    unit: str


#: of MoleculeNet (Wu et al. 2018), by the names of their manifests
MEASURED: Mapping[str, Measured] = {
    "esol": Measured("ESOL.csv", "measured log solubility in mols per litre", "log10(mol/l)"),
    "freesolv": Measured("freesolv.csv", "expt", "kcal/mol"),
    "lipophilicity": Measured("Lipophilicity.csv", "exp", "1"),
}


def prediction(run: Run) -> Findings:
    """The properties of test molecules from their latents: by the model, and by ridge regression on the posterior
    means, beside ridge regression on Morgan fingerprints; mean absolute errors."""
    rows, limited = [], ""
    for name, variant in run.variants.items():
        if "properties" not in variant.data:
            continue
        data, latents = variant.data, Rows(variant.latents, "z")
        truth = data["properties"].values.astype(float)
        test, train = split_rows(data, "test"), split_rows(data, "train")
        mean = np.nanmean(truth[train], 0)
        if len(train) > _TRAINED:
            limited = (
                f" Ridge regressions are of {_TRAINED:,} training molecules, evenly spaced: no more are held."
            )
            train = train[evenly(len(train), _TRAINED)]
        z = latents[test].astype(float)
        ways = {
            "the model": _predicted(variant, z),
            "ridge on the latents": _ridge(latents[train].astype(float), truth[train])(z),
            "ridge on Morgan fingerprints": _by_fingerprints(data, train, truth[train], test),
            "the training mean": np.broadcast_to(mean, truth[test].shape),
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
                        "mae": np.nanmean(errors[:, column]),
                        "mae_error": sem(errors[:, column], nan_policy="omit"),
                    }
                )
    if not rows:
        return Findings()
    table = pd.DataFrame(rows)
    note = f"Mean absolute errors on the test molecules, in the properties' units.{limited}"
    return Findings(_errors(table, "property"), {"prediction": table}, (note,), TITLES)


def transfer(run: Run) -> Findings:
    """Measured properties that training never saw (``analyse.transfer``), from the latents.

    Ridge regression on the posterior means and on Morgan fingerprints, of the same molecules in the same five
    folds, by the hash of the canonical SMILES: all rows of a molecule are in one. A molecule that the model cannot
    read is left out, and counted.
    """
    rows, notes = [], []
    for data in run.settings.analyse.transfer:
        about = MEASURED[data]
        try:
            path = fetch(data, progress=False)[about.file]
        except RunError as error:
            notes.append(f"Without {data}: {error}")
            continue
        for name, variant in run.variants.items():
            z, smiles, truth, left_out = _encoded(variant, path, about.column)
            if len(truth) < _LEAST:
                notes.append(f"{name} reads {len(truth)} molecules of {data}, too few to learn from.")
                continue
            fold = np.array([hash_of(text, "fold ") % _FOLDS for text in smiles])
            for way, features in {
                "ridge on the latents": z,
                "ridge on Morgan fingerprints": _bits(smiles),
                "the training mean": np.zeros((len(z), 1)),
            }.items():
                guess = np.empty_like(truth)
                for one in range(_FOLDS):
                    inside = fold == one
                    guess[inside] = _ridge(features[~inside], truth[~inside])(features[inside])
                errors = np.abs(guess - truth)[:, 0]
                rows.append(
                    {
                        "model": name,
                        "data": data,
                        "unit": about.unit,
                        "molecules": len(truth),
                        "left_out": left_out,
                        "way": way,
                        "mae": errors.mean(),
                        "mae_error": sem(errors),
                        "rmse": np.sqrt((errors**2).mean()),
                    }
                )
    if not rows:
        return Findings(notes=tuple(notes))
    table = pd.DataFrame(rows)
    notes.append("Mean absolute errors in five folds, on measurements that training never saw.")
    return Findings(_errors(table, "data"), {"transfer": table}, tuple(notes), TITLES)


def conditional(run: Run) -> Findings:
    """New molecules of which a property is asked, z ~ p(z | y), and what they have of it, computed by RDKit.

    Asked are quantiles of the training molecules; how far these lie from it themselves stands beside.
    """
    rows = []
    for name, variant in run.variants.items():
        if "properties" not in variant.data:
            continue
        data, alphabet = variant.data, alphabet_of(variant.data)
        training = data["properties"].values[split_rows(data, "train")].astype(float)
        trained = Trained.open(variant.model_path)
        for column, label in enumerate(data["property"].values.tolist()):
            if label not in PROPERTIES:
                continue
            known = training[:, column]
            for asked in np.quantile(known, _ASKED):
                drawn = sample_with(trained, {label: asked}, _DRAWN, run.settings.analyse.seed)["tokens"]
                molecules = filter(None, map(parsed, map(alphabet.decode, drawn.tolist())))
                found = np.array([PROPERTIES[label](one) for one in molecules] or [np.nan])
                rows.append(
                    {
                        "model": name,
                        "property": label,
                        "asked": asked,
                        "molecules": np.isfinite(found).sum(),
                        "found": found.mean(),
                        "spread": found.std(),
                        "mae": np.abs(found - asked).mean(),
                        "mae_unasked": np.abs(known - asked).mean(),
                    }
                )
    if not rows:
        return Findings()
    metrics: dict[str, Any] = {}
    for row in rows:
        told = {key: row[key] for key in ("found", "spread", "mae", "mae_unasked")}
        metrics.setdefault(row["model"], {})[f"{row['property']} = {row['asked']:.3g}"] = told
    note = f"{_DRAWN} molecules drawn for each value that is asked; what they have is computed by RDKit."
    return Findings(metrics, {"conditional": pd.DataFrame(rows)}, (note,), TITLES)


def _errors(table: pd.DataFrame, of: str) -> dict[str, Any]:
    """The mean absolute errors: model -> what is predicted, with its unit -> way -> error."""
    found: dict[str, Any] = {}
    for model, what, unit, way, mae in table[["model", of, "unit", "way", "mae"]].itertuples(index=False):
        name = what if unit == "1" else f"{what} ({unit})"
        found.setdefault(model, {}).setdefault(name, {})[way] = float(mae)
    return found


@torch.no_grad()
def _encoded(variant: Variant, path: Path, column: str) -> tuple[np.ndarray, list[str], np.ndarray, int]:
    """Posterior means (N, D), canonical SMILES and values (N, 1) of a table, and how many rows are left out."""
    model, own = variant.model(), variant.settings
    settings = own.model_copy(update={"prepare": own.prepare.model_copy(update={"column": "smiles"})})
    value = np.array([row.values or (np.nan,) for row in rows_of(path, measured=(column,))])
    z, smiles, number = [], list[str](), list[int]()
    for block in read(path, settings, variant.data.isel(sample=slice(0))):
        good = np.flatnonzero((block["status"].values == "ok") & np.isfinite(value[block["row"].values, 0]))
        if not len(good):
            continue
        block = block.isel(sample=good)
        for batch in as_batches(block).blocks(_ROWS):
            z.append(model.encode(batch.x, batch.context).mean.double().numpy())
        smiles += block["smiles"].values.tolist()
        number += block["row"].values.tolist()
    latents = np.concatenate(z) if z else np.empty((0, model.dim))
    return latents, smiles, value[number], len(value) - len(number)


@torch.no_grad()
def _predicted(variant: Variant, z: np.ndarray) -> np.ndarray:
    """The mean of p(properties | z), in their units."""
    likelihood: Joint = variant.model().decode(torch.as_tensor(z, dtype=torch.float32))  # type: ignore[assignment]
    mean = likelihood.fields["properties"].mean
    return Scaling.of(variant.data).invert("properties", mean).double().numpy()


def _by_fingerprints(data: xr.Dataset, train: np.ndarray, truth: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Of test rows what ridge regression on fingerprints of training rows says."""

    def bits(rows: np.ndarray) -> np.ndarray:
        return _bits(data["smiles"].isel(sample=rows).values.tolist())

    guess = _ridge(bits(train), truth)
    blocks = (test[start : start + _TESTED] for start in range(0, len(test), _TESTED))
    return np.concatenate([guess(bits(rows)) for rows in blocks])


def _ridge(train: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Ridge regression with its strength by leave-one-out on those training molecules whose value is known."""
    from sklearn.linear_model import RidgeCV

    known = np.isfinite(truth)
    if truth.shape[1] > 1 and not known.all():
        each = [_ridge(train, truth[:, [column]]) for column in range(truth.shape[1])]
        return lambda test: np.hstack([one(test) for one in each])
    rows = known.all(1)
    fitted = RidgeCV(np.logspace(-2, 4, 13), alpha_per_target=True).fit(train[rows], truth[rows])
    return lambda test: fitted.predict(test).reshape(len(test), -1)


def _bits(smiles: Sequence[str]) -> np.ndarray:
    """Morgan fingerprints (N, 1024)."""
    found = [fingerprints().GetFingerprintAsNumPy(Chem.MolFromSmiles(text)) for text in smiles]
    return np.stack(found).astype(np.float32)
