"""What is looked at of light: parameters in the latents, what is determined, patterns without noise, new ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sciencevae.data.rows import row_blocks, rows_of
from sciencevae.data.splits import split_rows
from sciencevae.registry import Findings

from . import denoising as filters
from .parameters import MEANINGS, WORDS, units_of

if TYPE_CHECKING:
    import torch

    from sciencevae.runs import Run, Variant

__all__ = [
    "decode_rows",
    "denoising",
    "generation",
    "identifiability",
    "optical_variants",
    "recovery",
    "varied",
]

TITLES = {
    "spearman": "|Spearman| of its axis, test data",
    "spearman_error": "its error (bootstrap)",
    "pca_spearman": "the same of principal components",
    "r2": "R²",
    "r2_low": "R², 2.5 %",
    "r2_high": "R², 97.5 %",
    "resolution": "standard deviation at one latent",
    "resolution_error": "its error",
    "spread": "standard deviation of all data",
    "scatter": "relative error",
    "chi2": "mean (estimate − truth)²/truth (1: as noisy as the counts)",
    "relative": "‖estimate − truth‖/‖truth‖",
    "setting": "chosen on validation data",
    "distance": "median distance to the nearest training pattern, relative",
}
_ROWS = 500  # patterns that are decoded for a table
_COMPARED = 4000  # training patterns that principal components, and new patterns, are compared with
_RANKED = 10  # data at least, for a correlation of ranks
_PIXELS = 1 << 15  # of all patterns that are denoised
_STEPS = 100  # that refine a posterior
_AROUND = {"rotation_deg"}  # angles that come round are on no line
_PARTS = 6  # of as many patterns, from few photons to many


def recovery(run: Run) -> Findings:
    """How far one axis of the latents goes with each parameter, beside principal components.

    |Spearman|'s rank correlation on test data of the axis of which it is largest on validation data; the same of as
    many principal components of counts over their mean.
    """
    from scipy.stats import spearmanr

    rows: list[dict[str, Any]] = []
    rng = np.random.default_rng(run.settings.analyse.seed)
    for name, variant in optical_variants(run).items():
        latents = variant.latents
        split, z = latents["split"].values, latents["z"].values
        supervised = variant.settings.prepare.supervised
        linear = _principal_components(variant, z.shape[1])
        for parameter, values in varied(variant).items():
            known = np.isfinite(values)
            valid, test = (np.flatnonzero(known & (split == part)) for part in (1, 2))
            if min(len(valid), len(test)) < _RANKED:
                continue
            row: dict[str, Any] = {"model": name, "parameter": parameter}
            row["supervised"] = "yes" if parameter in supervised else "no"
            for prefix, codes in (("", z), ("pca_", linear)):
                found = [
                    abs(spearmanr(codes[valid, d], values[valid]).statistic) for d in range(codes.shape[1])
                ]
                axis = int(np.nanargmax(found))
                row[f"{prefix}axis"] = axis
                row[f"{prefix}spearman"] = abs(spearmanr(codes[test, axis], values[test]).statistic)
            drawn = [rng.choice(test, len(test)) for _ in range(50)]
            axis = row["axis"]
            row["spearman_error"] = np.std([abs(spearmanr(z[d, axis], values[d]).statistic) for d in drawn])
            rows.append(row)
    if not rows:
        return Findings()
    table = pd.DataFrame(rows)
    metrics: dict[str, dict[str, Any]] = {}
    for row in rows:
        numbers = {"spearman": row["spearman"], "pca": row["pca_spearman"]}
        metrics.setdefault(row["model"], {})[row["parameter"]] = numbers
    best = max(rows, key=lambda row: row["spearman"])
    kind = "supervised" if best["supervised"] == "yes" else "unsupervised"
    note = (
        f"Axes are chosen on validation data. In {best['model']}, axis {best['axis']} goes with the "
        f"{_word(best['parameter'])} at |Spearman| = {best['spearman']:.4f} on test data ({kind}), the best of the "
        f"principal components at {best['pca_spearman']:.3f}."
    )
    return Findings(metrics, {"recovery": table}, (note,), TITLES)


def identifiability(run: Run) -> Findings:
    """Which parameters the latents determine, given what the model is told, and which products of them."""
    from sciencevae.latents.identify import LEAST, identify

    tables: list[pd.DataFrame] = []
    powers: list[dict[str, Any]] = []
    notes: list[str] = []
    metrics: dict[str, Any] = {}
    for name, variant in optical_variants(run).items():
        latents, told = variant.latents, variant.settings.prepare.told
        own = {k: v for k, v in varied(variant).items() if k not in told and k not in _AROUND}
        given = f" (told {_listed([_word(parameter) for parameter in told])})" if told else ""
        # parameters of the same patterns together: a diameter is one of round holes alone
        having: dict[bytes, list[str]] = {}
        for parameter, values in own.items():
            having.setdefault(np.isfinite(values).tobytes(), []).append(parameter)
        for mask, names in having.items():
            rows = np.frombuffer(mask, bool)
            held = latents["split"].values[rows] == 2
            if held.sum() < LEAST:
                continue
            found = identify(
                latents["z"].values[rows],
                {_word(parameter): own[parameter][rows] for parameter in names},
                held,
                condition=latents["condition"].values[rows] if told else None,
                seed=run.settings.analyse.seed,
            )
            units = {_word(parameter): units_of(parameter) for parameter in names}
            tables.append(found.table.assign(model=name, unit=found.table["parameter"].map(units)))
            powers += [
                {"model": name, "product": str(power), "r2": power.r2, "scatter": power.scatter}
                for power in found.powers
            ]
            known = metrics.setdefault(name, {"determined": {}})
            known["determined"] |= {str(power): power.r2 for power in found.powers}
            for row in found.table.to_dict("records"):
                known[row["parameter"]] = {key: row[key] for key in ("r2", "resolution", "verdict")}
            notes += [f"{name}{given}: {sentence}" for sentence in found.sentences(units)]
    if not tables:
        return Findings()
    table = pd.concat(tables, ignore_index=True)
    table = table[["model", *(column for column in table if column != "model")]]
    kept = {"identifiability": table}
    if powers:
        kept["determined"] = pd.DataFrame(powers)
    return Findings(metrics, kept, tuple(notes), TITLES)


def denoising(run: Run) -> Findings:
    """Test patterns without their noise: decoded from the posterior mean, and by filters set on validation data.

    The encoder's posterior mean, and that of a posterior which is fitted to each pattern by itself from there on.
    """
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    metrics: dict[str, dict[str, float]] = {}
    for name, variant in optical_variants(run).items():
        data = variant.data
        if "expected" not in data:
            continue
        parts = {}
        count = int(np.clip(_PIXELS // np.prod(_image(data)), 50, _ROWS))  # of images fewer: each is refined
        for part in ("train", "valid", "test"):
            chosen = split_rows(data, part)[: 5 * _ROWS if part == "train" else count]
            own = rows_of(data, chosen)
            x, expected = (own[v].values.reshape(len(chosen), *_image(own)) for v in ("x", "expected"))
            parts[part] = chosen, x, expected
        test, noisy, truth = parts["test"]
        estimates = {"counts": (noisy, "")}
        estimates["VAE"] = (decode_rows(variant, test).reshape(noisy.shape), "")
        estimates["VAE, refined"] = (decode_rows(variant, test, refined=True).reshape(noisy.shape), "")
        estimates |= filters.tuned(parts["train"][1], parts["valid"][1:], noisy)
        photons = (
            data["photons"].values[test]
            if "photons" in data.coords
            else truth.sum(tuple(range(1, truth.ndim)))
        )
        for method, (estimate, setting) in estimates.items():
            squares = np.square(np.nan_to_num(estimate) - truth)
            axes = tuple(range(1, truth.ndim))
            chi2 = (squares / truth).mean(axes)
            relative = np.sqrt(squares.sum(axes) / np.square(truth).sum(axes))
            row = {"model": name, "method": method, "setting": setting, "chi2": chi2.mean()}
            rows.append(row | {"relative": np.median(relative), "patterns": len(test)})
            curves += [
                {
                    "model": name,
                    "method": method,
                    "photons": np.median(photons[part]),
                    "chi2": chi2[part].mean(),
                }
                for part in np.array_split(np.argsort(photons), _PARTS)
            ]
        metrics[name] = {row["method"]: row["chi2"] for row in rows if row["model"] == name}
    if not rows:
        return Findings()
    table, main = pd.DataFrame(rows), next(iter(metrics))
    others = {
        method: chi2 for method, chi2 in metrics[main].items() if not method.startswith(("VAE", "counts"))
    }
    best = min(others, key=lambda method: others[method])
    note = (
        f"{main}: decoded from its latents, a noisy pattern has {metrics[main]['VAE']:.3f} of its noise's variance "
        f"left, with latents refined for each pattern {metrics[main]['VAE, refined']:.3f} (counts: "
        f"{metrics[main]['counts']:.2f}); the best filter, {best}, {others[best]:.3f}."
    )
    return Findings(
        metrics, {"denoising": table, "denoising_by_photons": pd.DataFrame(curves)}, (note,), TITLES
    )


def generation(run: Run) -> Findings:
    """How far new patterns, from the prior and between two others, lie from simulated ones.

    The relative distance ‖a − b‖/‖b‖ of patterns of mean 1 to the nearest noiseless training pattern: of noiseless
    test patterns, of decoded ones, of samples, of the middle between two latents and, for comparison, the mean of
    the same two patterns.
    """
    import torch

    from sciencevae.vae.model import centre

    rows: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    generator = np.random.default_rng(run.settings.analyse.seed)
    for name, variant in optical_variants(run).items():
        data, latents = variant.data, variant.latents
        if "expected" not in data or variant.settings.prepare.told:
            continue
        expected = data[["expected"]].reset_coords(drop=True)
        test = split_rows(data, "test")[:_ROWS]
        known, truth = (
            _unit(rows_of(expected, rows)["expected"].values)
            for rows in (split_rows(data, "train")[:_COMPARED], test)
        )
        z = torch.from_numpy(latents["z"].values[test])
        other = torch.from_numpy(generator.permutation(len(test)))
        model = variant.model()

        def decoded(codes: torch.Tensor, model: Any = model) -> np.ndarray:
            with torch.no_grad():
                return _unit(centre(model.decode(codes)).numpy())

        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(run.settings.analyse.seed)
            drawn = model.prior().sample((len(test),))
        kinds = {
            "test patterns": truth,
            "decoded": decoded(z),
            "samples": decoded(drawn),
            "half way in the latents": decoded((z + z[other]) / 2),
            "half way in the counts": _unit((truth + truth[other.numpy()]) / 2),
        }
        for kind, patterns in kinds.items():
            rows.append({"model": name, "patterns": kind, "distance": np.median(_nearest(patterns, known))})
        metrics[name] = {row["patterns"]: row["distance"] for row in rows if row["model"] == name}
    if not rows:
        return Findings()
    notes = tuple(
        f"{name}: decoded half way between the latents of two patterns, one is "
        f"{far['half way in the latents']:.3f} from the nearest simulated pattern, relative to its size; half way "
        f"between their counts, {far['half way in the counts']:.3f}; drawn from the prior, {far['samples']:.3f}; "
        f"simulated anew, {far['test patterns']:.3f}."
        for name, far in metrics.items()
    )
    return Findings(metrics, {"generation": pd.DataFrame(rows)}, notes, TITLES)


def optical_variants(run: Run) -> dict[str, Variant]:
    """The trainings on light, by their names."""
    return {name: v for name, v in run.variants.items() if v.settings.source.kind == "optical"}


def varied(variant: Variant) -> dict[str, np.ndarray]:
    """The parameters that differ between patterns and that the model can see."""
    coords = variant.latents.coords
    names = [name for name in MEANINGS if name in coords]
    if variant.settings.prepare.exposure == "total":
        names = [name for name in names if name != "photons"]
    found = {name: coords[name].values for name in names}
    return {name: values for name, values in found.items() if np.nanmax(values) > np.nanmin(values)}


def decode_rows(variant: Variant, rows: np.ndarray, refined: bool = False) -> np.ndarray:
    """Mean counts decoded from the posterior means of rows, (n, *E); refined: of each pattern's own posterior."""
    import torch

    from sciencevae.data.batches import as_batches
    from sciencevae.vae.model import centre
    from sciencevae.vae.refine import refine

    model = variant.model()
    (batch,) = as_batches(variant.data.isel(sample=rows)).blocks(len(rows))
    with torch.no_grad():
        posterior = model.encode(batch.x, batch.context)
        if refined:
            posterior = refine(model, batch, steps=_STEPS, samples=2, seed=0).posterior
        return centre(model.decode(posterior.mean, batch.context)).numpy()


def _principal_components(variant: Variant, count: int) -> np.ndarray:
    """Of counts over their mean, fitted to training data, (N, count)."""
    from sklearn.decomposition import PCA

    x = variant.data[["x"]].reset_coords(drop=True)

    def read(rows: np.ndarray) -> Iterator[np.ndarray]:
        return (_unit(np.nan_to_num(block["x"].values)) for block in row_blocks(x, rows))

    train = np.concatenate(list(read(split_rows(variant.data, "train")[:_COMPARED])))
    components = PCA(count, svd_solver="randomized", random_state=0).fit(train)
    return np.concatenate([components.transform(part) for part in read(np.arange(x.sizes["sample"]))])


def _unit(patterns: np.ndarray) -> np.ndarray:
    """Patterns of mean 1 as rows."""
    flat = patterns.reshape(len(patterns), -1)
    return flat / np.maximum(flat.mean(1, keepdims=True), 1e-12)


def _nearest(patterns: np.ndarray, known: np.ndarray) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    distance, at = NearestNeighbors(n_neighbors=1).fit(known).kneighbors(patterns)
    return distance[:, 0] / np.linalg.norm(known[at[:, 0]], axis=1)


def _image(data: Any) -> tuple[int, ...]:
    """The shape of a pattern without its channel."""
    return tuple(data["x"].shape[-1:] if data["x"].ndim == 2 else data["x"].shape[-2:])


def _listed(words: list[str]) -> str:
    """``the a, the b and the c``."""
    *first, last = (f"the {word}" for word in words)
    return f"{', '.join(first)} and {last}" if first else last


def _word(parameter: str) -> str:
    return WORDS.get(parameter, parameter)
