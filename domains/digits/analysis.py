"""What is looked at: how probable test images are, clusters, factors, anomalies, completed quadrants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import sem

from sciencevae.batch import Batch
from sciencevae.data.batches import Batches, as_batches
from sciencevae.data.rows import evenly, rows_of
from sciencevae.data.splits import split_rows
from sciencevae.registry import Findings

from .dataset import CLASSES, SPLITS

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.runs import Run, Variant
    from sciencevae.vae.model import VAE

__all__ = [
    "anomalies",
    "clusters",
    "completion",
    "disentanglement",
    "first_images",
    "likelihood",
    "matched_accuracy",
]

#: what the columns and metrics are, on the page
TITLES = {
    "minus_elbo": "−ELBO (nats/image)",
    "minus_elbo_error": "error of −ELBO (nats/image)",
    "minus_log_p": "−log p(x) (nats/image)",
    "minus_log_p_error": "error of −log p(x) (nats/image)",
    "trusted": "trusted (share)",
    "seconds": "training time (s)",
    "active_units": "active latent dimensions",
    "components": "Gaussians",
    "held_out": "log-density of validation latents (nats/image)",
    "accuracy": "accuracy, matched one to one (share)",
    "purity": "purity (share)",
    "nmi": "normalised mutual information",
    "ari": "adjusted Rand index",
    "dimension": "latent with most information",
    "mig": "MIG",
    "factor_vae": "FactorVAE score",
    "disentanglement": "DCI disentanglement",
    "completeness": "DCI completeness",
    "informativeness": "DCI informativeness",
    "sap": "SAP",
    "class": "class left out",
    "auc": "area under the ROC curve",
    "mean_auc": "mean area under the ROC curve",
    "elbo": "−ELBO",
    "reconstruction": "reconstruction probability",
    "evidence": "−log p(x)",
    "elbo_auc": "area under the ROC curve of −ELBO",
    "threshold": "threshold of −ELBO (nats)",
    "false_positive_rate": "false positives, wanted (share)",
    "measured_false_positives": "false positives, test (share)",
    "found": "anomalies found (share)",
    "error": "standard error",
    "quadrants": "quadrants told",
    "images": "test images",
}
COMPLETION_TITLES = TITLES | {"minus_log_p": "−log p(x | c) (nats/image)", "error": "its error (nats/image)"}
_ROWS = 500
#: images of a split that are held as they are read; larger ones are read block by block, again for each score
_HELD_BYTES = 64 << 20
#: pixels, and what is told beside them, of the training images that other methods see
_PEERS_BYTES = 256 << 20
#: latents of a split that clusters are fitted to and chosen by
_CLUSTERED = 100_000
#: images decoded at once in estimates of log p(x)
_DECODED = 4_000


def likelihood(run: Run) -> Findings:
    """−log p(x) of test images beside −ELBO, for every model: nats an image.

    −ELBO is the mean over all test images; what −log p(x) lies below it is measured on ``evidence_rows`` of them by
    importance sampling, and is far more alike from image to image than either. Of a conditional model it is
    −log p(x | c); of codes there is only the bound −log p(x | z) − log p(z).
    """
    from sciencevae.vae.vq import VQVAE

    chosen, rows = run.settings.analyse, []
    for name, variant in run.variants.items():
        if variant.settings.prepare.anomaly is not None:
            continue  # its test images are of two kinds
        model = variant.model()
        bound = _bound(model, _images(variant, "test"), chosen.seed)
        row: dict[str, Any] = {"model": name, "minus_elbo": bound.mean(), "minus_elbo_error": sem(bound)}
        if not isinstance(model, VQVAE):
            part = first_images(variant, "test", chosen.evidence_rows)
            nll, trusted = _evidence(model, part, chosen.evidence_samples, chosen.seed)
            gap = bound[: len(nll)] - nll
            row["minus_log_p"] = bound.mean() - gap.mean()
            row["minus_log_p_error"] = float(np.hypot(sem(bound), sem(gap)))
            row["trusted"] = trusted.mean()
        row |= {
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds": variant.metrics["seconds"],
        }
        row["active_units"] = variant.metrics["latents"].get("active_units")
        rows.append(row)
    if not rows:
        return Findings()
    table = pd.DataFrame(rows)
    metrics: dict[Any, Any] = table.set_index("model").to_dict("index")
    if "minus_log_p" not in table:
        return Findings(metrics, {"likelihood": table}, titles=TITLES)
    note = (
        f"−log p(x) is −ELBO of all test images less the gap of {chosen.evidence_rows} of them, from "
        f"{chosen.evidence_samples} draws for each; its error is that of the mean over images. ‘trusted’ is the "
        "share of those images whose weights have no heavy tail; the estimates of the others make log p(x) rather "
        "too small than too large."
    )
    data = {name: variant.key for name, variant in run.variants.items()}
    return Findings(metrics, {"likelihood": table}, (*_most_probable(table, data), note), TITLES)


def _most_probable(table: pd.DataFrame, data: Mapping[str, str]) -> Iterator[str]:
    """A sentence for the models of each prepared data set, {model: data}, of which there are several."""
    known = table.dropna(subset="minus_log_p")
    for _, group in known.groupby(known.model.map(data), sort=False):
        if len(group) > 1:
            best = group.sort_values("minus_log_p").iloc[0]
            yield (
                f"Among {', '.join(group.model)}, {best.model} gives its test images the highest probability; "
                f"estimates that are trusted: {group.trusted.min():.0%} of the images or more."
            )


def _bound(model: VAE, images: Batches, seed: int, draws: int = 16) -> np.ndarray:
    """−ELBO of each image, nats."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.cat([_minus_elbo(model, part, draws) for part in _parts(images)]).double().numpy()


def _minus_elbo(model: VAE, part: Batch, draws: int) -> torch.Tensor:
    terms = model.terms(part, draws)
    return terms.divergence - terms.log_px.mean(0)


def _evidence(model: VAE, batch: Batch, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """−log p(x) of each image, nats, and whether its estimate is to be trusted."""
    from sciencevae.vae.evidence import log_evidence

    found = log_evidence(model, batch, samples, chunk=max(1, _DECODED // len(batch)), seed=seed)
    return -found.value.double().numpy(), found.trusted.numpy()


def clusters(run: Run) -> Findings:
    """A Gaussian mixture on the training latents: how its clusters follow the classes, which nothing was told.

    As many Gaussians as ``analyse.clusters``; as many as held-out likelihood chooses; and these joined, by their
    overlap, to ``analyse.clusters``. accuracy: of the test images, with clusters and classes matched one to one
    (Yang et al. 2010).
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    from sciencevae.latents.cluster import combine, fit_gaussians

    chosen, rows, most = run.settings.analyse, [], 0
    if chosen.clusters is None:
        return Findings()
    for name, variant in run.variants.items():
        latents = variant.latents
        if not {"label", "z"} <= {*latents.variables} or variant.settings.prepare.condition != "none":
            continue
        if variant.settings.prepare.anomaly is not None:
            continue
        z, label = (latents[k].values for k in ("z", "label"))
        train, valid, test = (split_rows(latents, part) for part in SPLITS)
        most = max(most, len(train), len(valid))
        train, valid = (part[evenly(len(part), _CLUSTERED)] for part in (train, valid))
        fitted, held = (z[part].astype(float) for part in (train, valid))
        many = sorted({chosen.clusters, 5, 10, 20, 30, 40, 60})
        fits = {k: fit_gaussians(fitted, k, "full", chosen.seed, 1, 1e-3) for k in many}
        held_out = {k: float(fit.score(held)) for k, fit in fits.items()}
        best = max(held_out, key=held_out.__getitem__)
        cuts = {(k, k): np.arange(k) for k in (chosen.clusters, best)}
        if best > chosen.clusters:
            cuts[best, chosen.clusters] = combine(fits[best].predict_proba(fitted), chosen.clusters)
        for (components, count), cluster in cuts.items():
            parts = np.array_split(z[test], -(-len(test) // _CLUSTERED))
            found = cluster[np.concatenate([fits[components].predict(part.astype(float)) for part in parts])]
            rows.append(
                {
                    "model": name,
                    "components": components,
                    "clusters": count,
                    "held_out": held_out[components],
                    "accuracy": matched_accuracy(found, label[test]),
                    "purity": _purity(found, label[test]),
                    "nmi": normalized_mutual_info_score(label[test], found),
                    "ari": adjusted_rand_score(label[test], found),
                }
            )
    if not rows:
        return Findings()
    table = pd.DataFrame(rows)
    metrics = {
        f"{r['model']}, {r['clusters']} clusters of {r['components']} Gaussians": r
        for r in table.to_dict("records")
    }
    note = "Components are chosen by the likelihood of validation images, and joined where they overlap most."
    if most > _CLUSTERED:
        note += f" Clusters are fitted to, and chosen by, at most {_CLUSTERED:,} images each, taken evenly."
    return Findings(metrics, {"clusters": table}, (note,), TITLES)


def matched_accuracy(found: np.ndarray, label: np.ndarray) -> float:
    """The share of data whose component is matched with their class, for the best one-to-one match."""
    from scipy.optimize import linear_sum_assignment

    counts = _counts(found, label)
    return float(counts[linear_sum_assignment(-counts)].sum() / len(label))


def _purity(found: np.ndarray, label: np.ndarray) -> float:
    """The share of data that are of the most frequent class of their component."""
    return float(_counts(found, label).max(1).sum() / len(label))


def _counts(found: np.ndarray, label: np.ndarray) -> np.ndarray:
    counts = np.zeros((int(found.max()) + 1, int(label.max()) + 1), int)
    np.add.at(counts, (found, label), 1)
    return counts


def disentanglement(run: Run) -> Findings:
    """MIG, FactorVAE score, DCI and SAP of models of sprites, whose factors are known exactly."""
    from sciencevae.latents.disentangle import disentanglement as measure

    tables, metrics = [], {}
    for name, variant in run.variants.items():
        latents = variant.latents
        names = sorted(str(n) for n in latents.coords if str(n).startswith("factor_"))
        if not names or "z" not in latents:
            continue
        factors = np.stack([latents[n].values for n in names], 1)
        several = [k for k in range(len(names)) if len(np.unique(factors[:, k])) > 1]
        if not several:
            continue
        chosen = [names[k].removeprefix("factor_") for k in several]
        shape = [i for i, factor in enumerate(chosen) if factor == "shape"]
        found = measure(latents["z"].values, factors[:, several], chosen, categorical=shape)
        tables.append(found.assign(model=name))
        metrics[name] = found[found.factor == "all"].drop(columns=["factor", "dimension"]).iloc[0].to_dict()
    if not tables:
        return Findings()
    return Findings(metrics, {"disentanglement": pd.concat(tables, ignore_index=True)}, titles=TITLES)


def anomalies(run: Run) -> Findings:
    """The class that training did not see among the test images: area under the ROC curve of several scores.

    Ours: −ELBO, the reconstruction probability (An & Cho 2015), −log p(x). Beside them, fitted to the same training
    images: PCA (what the components that hold 90 % of the variance leave over), isolation forest, and the distance
    to the fifth neighbour.
    """
    from sciencevae.latents.score import auc, threshold

    rows, thresholds, limits = [], [], list[str]()
    for name, variant in run.variants.items():
        digit = variant.settings.prepare.anomaly
        if digit is None:
            continue
        model = variant.model()
        test, valid = _images(variant, "test"), _images(variant, "valid")
        abnormal = variant.data["anomaly"].values[variant.data["split"].values == SPLITS["test"]]
        draws = {"elbo": 16, "reconstruction": 16, "evidence": run.settings.analyse.evidence_samples}
        scores = {kind: _scores(model, test, kind, n) for kind, n in draws.items()}
        train, told = _training(variant)
        limits.append(told)
        scores |= _baselines(train, test)
        seen = CLASSES[variant.settings.dataset][digit]
        for kind, score in scores.items():
            found = auc(score[~abnormal], score[abnormal])
            rows.append(
                {"model": name, "class": seen, "score": kind, "auc": found.value, "error": found.stderr}
            )
        limit = threshold(_scores(model, valid, "elbo", 16), 0.05)
        thresholds.append(
            {
                "model": name,
                "class": seen,
                "threshold": limit.value,
                "false_positive_rate": limit.rate,
                "measured_false_positives": float(limit.is_anomalous(scores["elbo"][~abnormal]).mean()),
                "found": float(limit.is_anomalous(scores["elbo"][abnormal]).mean()),
            }
        )
    if not rows:
        return Findings()
    table = pd.DataFrame(rows)
    means = table.groupby("score").auc.mean().to_dict()
    ours = table[table.score == "elbo"]
    return Findings(
        {"mean_auc": means, "elbo_auc": dict(zip(ours["class"].astype(str), ours.auc, strict=True))},
        {"anomalies": table, "thresholds": pd.DataFrame(thresholds)},
        (
            "Mean area under the ROC curve over the classes: "
            + ", ".join(
                f"{score} {value:.3f}" for score, value in sorted(means.items(), key=lambda kv: -kv[1])
            )
            + ".",
            f"−log p(x) is from {run.settings.analyse.evidence_samples} draws of each image: too large where "
            "images are unlike the training images, which does not harm a score.",
            *dict.fromkeys(filter(None, limits)),
        ),
        TITLES,
    )


def _scores(model: VAE, images: Batches, kind: str, draws: int) -> np.ndarray:
    from sciencevae.latents.score import anomaly_score, evidence_by_rows
    from sciencevae.vae.evidence import warned

    if kind == "evidence":  # one warning for all images
        found = evidence_by_rows(model, _blocks(images), draws)
        return -warned(found, draws, "take more samples, or annealed_evidence").value.double().numpy()
    return torch.cat([anomaly_score(model, part, kind, draws) for part in _parts(images)]).double().numpy()


def _baselines(train: Batch, test: Batches) -> dict[str, np.ndarray]:
    """Scores of the usual detectors, with the settings of their authors."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import NearestNeighbors

    seen = _pixels(train)
    pca = PCA(0.9, svd_solver="full", random_state=0).fit(seen)
    forest = IsolationForest(random_state=0).fit(seen)
    near = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(seen)
    found: dict[str, list[np.ndarray]] = {"PCA": [], "isolation forest": [], "kNN": []}
    for block in _blocks(test):
        x = _pixels(block)
        found["PCA"].append(np.square(x - pca.inverse_transform(pca.transform(x))).sum(1))
        found["isolation forest"].append(-forest.score_samples(x))
        found["kNN"] += [near.kneighbors(x[i : i + _ROWS])[0][:, -1] for i in range(0, len(x), _ROWS)]
    return {name: np.concatenate(parts) for name, parts in found.items()}


def completion(run: Run) -> Findings:
    """−log p(x | c) of the pixels that were not told, beside a deterministic network and nearest neighbours.

    The experiment of Sohn, Lee & Yan 2015, §5.1. Nearest neighbours: p of each pixel is its mean over the k
    training images with the nearest told pixels, moved towards one half by a share λ; k and λ are those of the
    lowest cost on validation images.
    """
    rows, limits = [], list[str]()
    for name, variant in run.variants.items():
        settings = variant.settings
        if settings.prepare.condition != "quadrants":
            continue
        test = first_images(variant, "test", run.settings.analyse.evidence_rows)
        cost, _ = _evidence(
            variant.model(), test, run.settings.analyse.evidence_samples, run.settings.analyse.seed
        )
        method = "network" if settings.model.kind == "deterministic" else "CVAE"
        rows.append(_completed(settings.prepare.quadrants, name, method, cost))
    for count in sorted({row["quadrants"] for row in rows}):
        variant = next(
            v
            for v in run.variants.values()
            if v.settings.prepare.condition == "quadrants" and v.settings.prepare.quadrants == count
        )
        cost, told = _nearest_images(variant, run.settings.analyse.evidence_rows)
        limits.append(told)
        rows.append(_completed(count, "", "nearest neighbours", cost))
    if not rows:
        return Findings()
    table = pd.DataFrame(rows).sort_values(["quadrants", "minus_log_p"])
    notes = tuple(dict.fromkeys(filter(None, limits)))
    return Findings({"rows": table.to_dict("records")}, {"completion": table}, notes, COMPLETION_TITLES)


def _completed(quadrants: int, model: str, method: str, cost: np.ndarray) -> dict[str, Any]:
    return {
        "quadrants": quadrants,
        "method": method,
        "model": model,
        "minus_log_p": float(cost.mean()),
        "error": sem(cost),
        "images": len(cost),
    }


def _nearest_images(variant: Variant, rows: int) -> tuple[np.ndarray, str]:
    from sklearn.neighbors import NearestNeighbors

    train, told = _training(variant)
    valid, test = first_images(variant, "valid", 1000), first_images(variant, "test", rows)
    near = NearestNeighbors(n_neighbors=50, algorithm="brute").fit(train.context["condition"].numpy())
    pixels = _pixels(train)

    def costs(batch: Batch, index: np.ndarray, k: int, share: float) -> np.ndarray:
        p = (1 - share) * pixels[index[:, :k]].mean(1) + share * 0.5
        x = _pixels(batch)
        return -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum(1)

    found = {id(b): near.kneighbors(b.context["condition"].numpy())[1] for b in (valid, test)}
    choices = [(k, share) for k in (1, 5, 10, 20, 50) for share in (0.02, 0.05, 0.1, 0.2)]
    best = min(choices, key=lambda choice: costs(valid, found[id(valid)], *choice).mean())
    return costs(test, found[id(test)], *best), told


def first_images(variant: Variant, split: str, rows: int) -> Batch:
    """At most so many images of one split as one batch: the first rows, of a store that is shuffled."""
    return _seen(variant, rows_of(variant.data, split_rows(variant.data, split)[:rows]))


def _training(variant: Variant) -> tuple[Batch, str]:
    """The training images for methods that need all at once, evenly; and a note where some are left out."""
    data = variant.data
    rows = split_rows(data, "train")
    row_bytes = sum(v.nbytes for v in data.data_vars.values()) // data.sizes["sample"]
    chosen = rows[evenly(len(rows), max(1, _PEERS_BYTES // row_bytes))]
    told = ""
    if len(chosen) < len(rows):
        told = (
            f"Other methods, which hold their images in memory, see {len(chosen):,} of {len(rows):,} training "
            "images, taken evenly."
        )
    return _seen(variant, rows_of(data, chosen)), told


def _seen(variant: Variant, data: xr.Dataset) -> Batch:
    """All images as the model sees them."""
    part = variant.run.domain.seen(as_batches(data), variant.settings)
    return next(part.blocks(len(part)))


def _images(variant: Variant, split: str) -> Batches:
    """The images of one split as the model sees them, from memory or from the store."""
    found = as_batches(variant.data, split, memory_limit=_HELD_BYTES)
    return variant.run.domain.seen(found, variant.settings)


def _blocks(images: Batches) -> Iterator[Batch]:
    """All images, as many at once as memory has room for, cut where ``_parts`` are."""
    return images.blocks(max(1, images.at_once(len(images)) // _ROWS) * _ROWS)


def _parts(images: Batches) -> Iterator[Batch]:
    return (
        block[start : start + _ROWS] for block in _blocks(images) for start in range(0, len(block), _ROWS)
    )


def _pixels(batch: Batch) -> np.ndarray:
    assert isinstance(batch.x, torch.Tensor)
    return batch.x.flatten(1).numpy()
