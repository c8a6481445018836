"""What is looked at: how near edited faces are to the real ones, whether they fold, and what the latents hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sciencevae.data.splits import split_rows
from sciencevae.registry import Findings
from sciencevae.vae.decoders.warp import jacobian, warp
from sciencevae.vae.model import centre

from .dataset import MOUTH
from .editing import alike, edited, fitted_fields, psnr

if TYPE_CHECKING:
    from torch import Tensor

    from sciencevae.runs import Run, Variant

__all__ = ["editing", "expression", "smiling_pairs"]

TITLES = {
    "method": "method",
    "people": "people",
    "group": "people who are",
    "full": "PSNR, face (dB)",
    "mouth": "PSNR, mouth (dB)",
    "full_gain": "above the neutral face (dB)",
    "full_low": "from",
    "full_high": "to",
    "mouth_gain": "mouth, above the neutral face (dB)",
    "mouth_low": "from",
    "mouth_high": "to",
    "identity": "correlation around the eyes",
    "lowest_identity": "lowest correlation",
    "amount": "amount of the smile",
    "folds": "folded cells",
    "least_jacobian": "least determinant",
    "largest": "largest displacement (pixels)",
    "field_error": "error of the displacement (pixels)",
    "field_size": "displacement (pixels)",
    "accuracy": "expressions told by the latents (share)",
    "landmark_error": "error of landmarks (pixels)",
    "landmark_spread": "spread of landmarks (pixels)",
}
_MEAN_STEPS = 120


def smiling_pairs(variant: Variant, split: str, expression: int = 1) -> tuple[Tensor, Tensor, Any]:
    """Sources and targets (N, 3, S, S) of the rows that end in an expression, and the rows themselves."""
    data = variant.data
    rows = split_rows(data, split)
    rows = rows[data["expression"].values[rows] == expression]
    found = data.isel(sample=rows)
    return torch.from_numpy(found["condition"].values), torch.from_numpy(found["x"].values), found


def editing(run: Run) -> Findings:
    """Neutral faces of test people made to smile, beside their real smiles: PSNR, folds, and identity.

    Beside the models: the neutral face as it is; the mean flow, one deformation fitted to all training people;
    and the best smooth deformation of each test pair, which sees the answer. Differences to the neutral face are
    paired, and their intervals, 95 %, are of a bootstrap over people.
    """
    chosen, main = run.settings.analyse, run.main
    source, target, rows = smiling_pairs(main, "test")
    if not len(source):
        return Findings()
    faces: dict[str, Tensor] = {"neutral face": source}
    fit = {
        "grid": main.settings.model.grid,
        "roughness": main.settings.objective.roughness,
        "squarings": main.settings.model.squarings,
        "scale": main.settings.model.scale,
    }
    train_source, train_target, _ = smiling_pairs(main, "train")
    mean = fitted_fields(train_source, train_target, **fit, steps=_MEAN_STEPS, shared=True)
    faces["mean flow"] = warp(source, mean.expand(1, len(source), -1, -1, -1))[0]
    folds: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    for name, variant in run.variants.items():
        if variant.settings.prepare.size != main.settings.prepare.size:
            continue
        model = variant.model()
        if variant.settings.model.kind == "plain":
            faces[f"{name} (drawn anew)"] = _redrawn(variant, source)
            continue
        edits = {amount: edited(model, source, amount) for amount in {1.0, *chosen.amounts}}
        faces[name], displacement = edits[1.0]
        for amount in chosen.amounts:
            field = edits[amount][1]
            least = jacobian(field)
            folds.append(
                {
                    "model": name,
                    "amount": amount,
                    "folds": int((least <= 0).sum()),
                    "least_jacobian": least.min().item(),
                    "largest": field.square().sum(1).sqrt().max().item(),
                }
            )
        metrics[name] = _read(variant, model, rows) | _known(displacement, rows)
    if chosen.oracle_steps:
        best = fitted_fields(source, target, **fit, steps=chosen.oracle_steps, shared=False)
        faces["best deformation"] = warp(source, best.unsqueeze(0))[0]
    people = pd.DataFrame({"person": rows["person"].values})
    if "sex" in rows:
        people["sex"] = rows["sex"].values
    for name, found in faces.items():
        people[f"{name}: face"], people[f"{name}: mouth"] = psnr(found, target), psnr(found, target, MOUTH)
        people[f"{name}: identity"] = alike(found, source)
    table = _compared(people, list(faces), chosen.draws, chosen.seed)
    overall = table[table.group == "all"].set_index("method")
    for method, row in overall.drop(columns=["group", "people"]).iterrows():
        metrics[str(method)] = {**row.to_dict(), **metrics.get(str(method), {})}
    note = (
        f"{len(people)} test people; intervals are 95 % of {chosen.draws:,} bootstrap draws over them. The best "
        "deformation is fitted to the real smile, and bounds what moving pixels can do."
    )
    tables = {"edits": table, "people": people}
    if folds:
        tables["folds"] = pd.DataFrame(folds)
    return Findings(metrics, tables, (note,), TITLES)


def _compared(people: pd.DataFrame, methods: list[str], draws: int, seed: int) -> pd.DataFrame:
    """Means by method and group, with bootstrap intervals of the paired difference to the first method."""
    groups = {"all": np.ones(len(people), bool)}
    if "sex" in people:
        groups |= {str(sex): (people.sex == sex).to_numpy() for sex in sorted(people.sex.unique())}
    found = []
    for group, own in groups.items():
        count = int(own.sum())
        drawn = np.random.default_rng(seed).integers(count, size=(draws, count))
        for method in methods:
            row: dict[str, Any] = {"method": method, "group": group, "people": count}
            for part, column in (("full", "face"), ("mouth", "mouth")):
                values = people.loc[own, f"{method}: {column}"].to_numpy()
                gain = values - people.loc[own, f"{methods[0]}: {column}"].to_numpy()
                low, high = np.quantile(gain[drawn].mean(1), [0.025, 0.975])
                row |= {
                    part: values.mean(),
                    f"{part}_gain": gain.mean(),
                    f"{part}_low": low,
                    f"{part}_high": high,
                }
            identity = people.loc[own, f"{method}: identity"]
            row |= {"identity": identity.mean(), "lowest_identity": identity.min()}
            found.append(row)
    return pd.DataFrame(found)


def _redrawn(variant: Variant, source: Tensor) -> Tensor:
    """Test people's faces drawn anew, their latents moved by the mean difference of expressions."""
    latents = variant.latents
    train = latents["split"].values == 0
    smiling = latents["expression"].values == 1
    z = latents["z"].values
    step = torch.from_numpy(z[train & smiling].mean(0) - z[train & ~smiling].mean(0))
    model = variant.model()
    with torch.no_grad():
        return centre(model.decode(model.encode(source).mean + step))


def _read(variant: Variant, model: Any, rows: Any) -> dict[str, float]:
    """How well the model reads the landmarks of test people, in pixels, beside how far they are from the mean."""
    flow = model.decoder.network
    points = torch.from_numpy(rows["landmarks"].values)
    if not flow.modes or not points.isfinite().any():
        return {}
    read = flow.landmarks(torch.from_numpy(rows["condition"].values))

    def apart(found: Tensor) -> float:
        return (found - points).unflatten(1, (-1, 2)).square().sum(-1).sqrt().nanmean().item()

    return {"landmark_error": apart(read), "landmark_spread": apart(flow.mean)}


def _known(displacement: Tensor, rows: Any) -> dict[str, float]:
    """Of drawn people, how far the displacement is from the true one, in pixels, beside how large that is."""
    if "truth" not in rows:
        return {}
    truth = torch.from_numpy(rows["truth"].values)
    return {
        "field_error": (displacement - truth).square().sum(1).mean().sqrt().item(),
        "field_size": truth.square().sum(1).mean().sqrt().item(),
    }


def expression(run: Run) -> Findings:
    """Whether the latents hold the expression: the share of test rows that they tell apart.

    By the nearer of the mean latents of both expressions, along the line between them.
    """
    metrics = {}
    for name, variant in run.variants.items():
        latents = variant.latents
        z, smiling = latents["z"].values, latents["expression"].values == 1
        split = latents["split"].values
        train, test = split == 0, split == 2
        if not test.any():
            continue
        means = z[train & smiling].mean(0), z[train & ~smiling].mean(0)
        along = (z - (means[0] + means[1]) / 2) @ (means[0] - means[1])
        metrics[name] = {"accuracy": float(((along > 0) == smiling)[test].mean())}
    return Findings(metrics, titles=TITLES)
