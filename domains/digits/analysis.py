"""What is looked at: how probable test images are, clusters, factors, anomalies, completed quadrants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import sem

from sciencevae.batch import Batch
from sciencevae.data.batches import as_batches
from sciencevae.errors import InputError
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
        model, test = variant.model(), first_images(variant, "test")
        bound = _bound(model, test, chosen.seed)
        row: dict[str, Any] = {"model": name, "minus_elbo": bound.mean(), "minus_elbo_error": sem(bound)}
        if not isinstance(model, VQVAE):
            part = test[: chosen.evidence_rows]
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


def _bound(model: VAE, batch: Batch, seed: int, draws: int = 16) -> np.ndarray:
    """−ELBO of each image, nats."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        terms = [model.terms(part, draws) for part in _parts(batch)]
        return torch.cat([t.divergence - t.log_px.mean(0) for t in terms]).double().numpy()


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

    chosen, rows = run.settings.analyse, []
    if chosen.clusters is None:
        return Findings()
    for name, variant in run.variants.items():
        latents = variant.latents
        if not {"label", "z"} <= {*latents.variables} or variant.settings.prepare.condition != "none":
            continue
        if variant.settings.prepare.anomaly is not None:
            continue
        z, split, label = (latents[k].values for k in ("z", "split", "label"))
        z = z.astype(float)
        train, valid, test = (split == code for code in SPLITS.values())
        many = sorted({chosen.clusters, 5, 10, 20, 30, 40, 60})
        fits = {k: fit_gaussians(z[train], k, "full", chosen.seed, 1, 1e-3) for k in many}
        held_out = {k: float(fit.score(z[valid])) for k, fit in fits.items()}
        best = max(held_out, key=held_out.__getitem__)
        cuts = {(k, k): np.arange(k) for k in (chosen.clusters, best)}
        if best > chosen.clusters:
            cuts[best, chosen.clusters] = combine(fits[best].predict_proba(z[train]), chosen.clusters)
        for (components, count), cluster in cuts.items():
            found = cluster[fits[components].predict(z[test])]
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
        names = [str(n) for n in latents.coords if str(n).startswith("factor_")]
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

    rows, thresholds = [], []
    for name, variant in run.variants.items():
        digit = variant.settings.prepare.anomaly
        if digit is None:
            continue
        model = variant.model()
        test, valid = first_images(variant, "test"), first_images(variant, "valid")
        abnormal = variant.data["anomaly"].values[variant.data["split"].values == SPLITS["test"]]
        draws = {"elbo": 16, "reconstruction": 16, "evidence": run.settings.analyse.evidence_samples}
        scores = {kind: _scores(model, test, kind, n) for kind, n in draws.items()}
        scores |= _baselines(first_images(variant, "train"), test)
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
        ),
        TITLES,
    )


def _scores(model: VAE, batch: Batch, kind: str, draws: int) -> np.ndarray:
    from sciencevae.latents.score import anomaly_score

    # evidence goes draw by draw through all images, and says once which are not to be trusted
    parts = [batch] if kind == "evidence" else _parts(batch)
    return torch.cat([anomaly_score(model, part, kind, draws) for part in parts]).double().numpy()


def _baselines(train: Batch, test: Batch) -> dict[str, np.ndarray]:
    """Scores of the usual detectors, with the settings of their authors."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import NearestNeighbors

    a, b = (_pixels(batch) for batch in (train, test))
    pca = PCA(0.9, svd_solver="full", random_state=0).fit(a)
    left = b - pca.inverse_transform(pca.transform(b))
    forest = IsolationForest(random_state=0).fit(a)
    near = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(a)
    distance = np.concatenate([near.kneighbors(b[i : i + _ROWS])[0][:, -1] for i in range(0, len(b), _ROWS)])
    return {"PCA": np.square(left).sum(1), "isolation forest": -forest.score_samples(b), "kNN": distance}


def completion(run: Run) -> Findings:
    """−log p(x | c) of the pixels that were not told, beside a deterministic network and nearest neighbours.

    The experiment of Sohn, Lee & Yan 2015, §5.1. Nearest neighbours: p of each pixel is its mean over the k
    training images with the nearest told pixels, moved towards one half by a share λ; k and λ are those of the
    lowest cost on validation images.
    """
    rows = []
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
        cost = _nearest_images(variant, run.settings.analyse.evidence_rows)
        rows.append(_completed(count, "", "nearest neighbours", cost))
    if not rows:
        return Findings()
    table = pd.DataFrame(rows).sort_values(["quadrants", "minus_log_p"])
    return Findings({"rows": table.to_dict("records")}, {"completion": table}, titles=COMPLETION_TITLES)


def _completed(quadrants: int, model: str, method: str, cost: np.ndarray) -> dict[str, Any]:
    return {
        "quadrants": quadrants,
        "method": method,
        "model": model,
        "minus_log_p": float(cost.mean()),
        "error": sem(cost),
        "images": len(cost),
    }


def _nearest_images(variant: Variant, rows: int) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    train, valid, test = (
        first_images(variant, "train"),
        first_images(variant, "valid", 1000),
        first_images(variant, "test", rows),
    )
    near = NearestNeighbors(n_neighbors=50, algorithm="brute").fit(train.context["condition"].numpy())
    pixels = _pixels(train)

    def costs(batch: Batch, index: np.ndarray, k: int, share: float) -> np.ndarray:
        p = (1 - share) * pixels[index[:, :k]].mean(1) + share * 0.5
        x = _pixels(batch)
        return -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum(1)

    found = {id(b): near.kneighbors(b.context["condition"].numpy())[1] for b in (valid, test)}
    choices = [(k, share) for k in (1, 5, 10, 20, 50) for share in (0.02, 0.05, 0.1, 0.2)]
    best = min(choices, key=lambda choice: costs(valid, found[id(valid)], *choice).mean())
    return costs(test, found[id(test)], *best)


def first_images(variant: Variant, split: str, rows: int | None = None) -> Batch:
    """Images of one split as one batch; the first rows, of a store that is shuffled."""
    data: xr.Dataset = variant.data
    index = np.flatnonzero(data["split"].values == SPLITS[split])[:rows]
    if not len(index):
        raise InputError(f"no image is in {split}: raise its fraction")
    part = variant.run.domain.seen(as_batches(data.isel(sample=index)), variant.settings)
    return next(part.blocks(len(index)))


def _parts(batch: Batch, rows: int = _ROWS) -> Iterator[Batch]:
    return (batch[start : start + rows] for start in range(0, len(batch), rows))


def _pixels(batch: Batch) -> np.ndarray:
    assert isinstance(batch.x, torch.Tensor)
    return batch.x.flatten(1).numpy()
