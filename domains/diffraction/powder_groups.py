"""Whether patterns of one phase lie together: clusters of latents and patterns; the latent of a strained cell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sciencevae.data.rows import evenly
from sciencevae.latents.score import auc
from sciencevae.registry import Findings

from .crystals import formula
from .powder_analysis import REACH, is_powder, patterns_of
from .references import smoothed, strip_background

if TYPE_CHECKING:
    from sciencevae.runs import Run
    from sciencevae.vae.model import VAE

__all__ = ["agreement", "clustered", "groups", "in_common", "lattice", "log_odds", "spaces", "unit"]

PATTERNS, SCANS = 5000, 1000
"""Held-out patterns and scans that are clustered, at most."""
_SMOOTH = 2.0  # σ in bins of patterns without background
TITLES = {
    "method": "in",
    "by": "clustered by",
    "rand": "adjusted Rand index",
    "nmi": "normalised mutual information",
    "purity": "purity",
    "scans": "scans in a cluster of a phase they hold (share)",
    "pairs": "scans with a phase in common told from those with none, by distance (area under the ROC curve)",
    "spearman": "|Spearman|",
}


def groups(run: Run) -> Findings:
    """Clusters of held-out patterns of one phase, beside their phases, and where measured scans lie among them.

    As many clusters as there are phases: of latents and of the log-odds of phases that they decode to, in which the
    phases of training patterns had a part, and of patterns, in which they had none; all of unit length. Purity: the
    share of patterns that are of their cluster's commonest phase. Scans are clustered with them, and should lie in
    a cluster of a phase they hold, by formula and as their label says.
    """
    if not is_powder(run):
        return Findings()
    data = run.main.data
    truth, names = data["phases"].values, data["phase"].values
    held_out = (data["origin"].values == "simulated") & (data["split"].values > 0)
    found_single = np.flatnonzero(held_out & (truth.sum(1) == 1))
    single = found_single[evenly(len(found_single), PATTERNS)]
    phase = truth[single].argmax(1)
    number = len(np.unique(phase))
    if number < 2:
        return Findings()
    formulas = np.array([formula(str(name)) for name in names])
    scans = np.flatnonzero(data["origin"].values == "measured")
    labels = [{*str(label).split("+")} for label in data["label"].values[scans]]
    told = np.array([bool(label & {*formulas}) for label in labels], bool)
    chosen = np.flatnonzero(told)
    chosen = chosen[evenly(len(chosen), SCANS)]
    rows = np.concatenate([single, scans[chosen]])
    labels = [labels[one] for one in chosen]
    found: list[dict[str, Any]] = []
    latents = run.main.latents["z"].values[rows]
    learned = {"latents": unit(latents), "log-odds of the phases": unit(log_odds(run.main.model(), latents))}
    compared = spaces(patterns_of(data, rows), latents.shape[1])
    for (name, by), space in ({(name, "k-means"): one for name, one in learned.items()} | compared).items():
        cluster = clustered(space, number, by, run.settings.analyse.seed)
        row = {"method": name, "by": by, **agreement(cluster[: len(single)], phase)}
        if labels:
            own = {
                c: np.bincount(phase[cluster[: len(single)] == c]) for c in np.unique(cluster[: len(single)])
            }
            main = [formulas[own[c].argmax()] if c in own else "" for c in cluster[len(single) :]]
            row["scans"] = float(np.mean([one in label for one, label in zip(main, labels, strict=True)]))
            row["pairs"] = in_common(space[len(single) :], labels)
        found.append(row)
    table = pd.DataFrame(found)
    metrics: dict[str, Any] = {
        row["method"]: {k: v for k, v in row.items() if k not in ("method", "by")} for row in found
    }
    notes = tuple(
        f"Of {several:,} {kind}, which are clustered in memory, {taken:,} were taken, evenly."
        for kind, several, taken in (
            ("held-out patterns of one phase", len(found_single), len(single)),
            ("scans", int(told.sum()), len(chosen)),
        )
        if taken < several
    )
    return Findings(metrics, {"groups": table}, notes, TITLES)


def log_odds(model: VAE, latents: np.ndarray) -> np.ndarray:
    """log p/(1 − p) of each phase given z, (n, K): how like a pattern is to each of the candidates, or unlike."""
    with torch.no_grad():
        z = torch.as_tensor(latents, dtype=torch.float32)
        likelihood: Any = model.decode(z, {"exposure": torch.ones(len(z))})
    return np.asarray(likelihood.fields["phases"].base_dist.logits.numpy())


def spaces(counts: np.ndarray, number: int) -> dict[tuple[str, str], np.ndarray]:
    """Spaces of patterns (n, N), each of unit length, (n, D), with how they are clustered: {(name, clustering): …}.

    Principal components, ``number`` of them, of square roots (their noise is alike), and of those of the peaks: the
    counts without background, smoothed.
    """
    from sklearn.decomposition import PCA

    number = min(number, *counts.shape)
    plain = unit(np.sqrt(np.nan_to_num(counts)))
    peaks = np.nan_to_num(smoothed(strip_background(counts, REACH), _SMOOTH)).clip(min=0)
    roots = {"√counts": plain, "√peaks": unit(np.sqrt(peaks))}
    parts = {
        (f"principal components of {name}", "k-means"): PCA(number, random_state=0).fit_transform(root)
        for name, root in roots.items()
    }
    return parts | {("peaks", "average linkage"): unit(peaks - peaks.mean(1, keepdims=True))}


def clustered(space: np.ndarray, number: int, by: str, seed: int) -> np.ndarray:
    """The cluster of each row, (n,), by k-means or average linkage."""
    from sklearn.cluster import AgglomerativeClustering, KMeans

    if by == "k-means":
        return KMeans(number, n_init=4, random_state=seed).fit_predict(space)
    return AgglomerativeClustering(number, linkage="average").fit_predict(space)


def agreement(cluster: np.ndarray, phase: np.ndarray) -> dict[str, float]:
    """How far clusters are phases: the adjusted Rand index, the normalised mutual information, the purity."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    return {
        "rand": float(adjusted_rand_score(phase, cluster)),
        "nmi": float(normalized_mutual_info_score(phase, cluster)),
        "purity": float(contingency_matrix(phase, cluster).max(0).sum() / len(phase)),
    }


def in_common(space: np.ndarray, labels: Sequence[set[str]]) -> float:
    """P(two rows with a phase in common are nearer than two with none); NaN where pairs are all of one kind."""
    from scipy.spatial.distance import pdist

    shared = np.array([bool(a & b) for a, b in combinations(labels, 2)])  # in the order of pdist
    if min(shared.sum(), (~shared).sum()) < 2:
        return float("nan")
    apart = pdist(space)
    return auc(apart[shared], apart[~shared]).value


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows (n, D) of length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-30))


def lattice(run: Run) -> Findings:
    """Of variants of one phase: how the strain of its cell orders along one latent, |Spearman| on test patterns.

    The latent is the one with the largest |Spearman| on validation patterns.
    """
    from scipy.stats import spearmanr

    found: dict[str, Any] = {}
    for name, variant in run.variants.items():
        if variant.settings.source.kind != "powder" or variant.data.sizes["phase"] != 1:
            continue
        z, strain = variant.latents["z"].values, variant.data["strain"].values
        parts = [(variant.data["split"].values == part) & np.isfinite(strain) for part in (1, 2)]
        valid, test = (
            [abs(float(spearmanr(axis[rows], strain[rows]).statistic)) for axis in z.T] for rows in parts
        )
        best = int(np.argmax(valid))
        found[name] = {"axis": best, "spearman": test[best]}
    return Findings(found, titles=TITLES)
