"""Clusters found without being told where: candidates, each refined with every star's errors, then chosen.

1. Candidates are the components of a Gaussian mixture on the latents, those of one on the data, the groups of
   HDBSCAN (Campello, Moulavi & Sander 2013), and the neighbourhoods of single stars that stand out most against
   what surrounds them in proper motion, by their errors; tile by tile where a field has many stars.
2. Each is refined by the error-aware mixture, as one more part in front of the background.
3. The rule: a candidate is a cluster when it is compact (velocity dispersion, scatter of the parallaxes, width in
   parsec, expected members within the settings' limits) and raises the likelihood of *held-out* stars over the
   mixture without it, by at least ``gain_min`` nats and ``significance`` standard errors. The best goes in first;
   the others have to gain over what is already there. No labels, no place in parallax or proper motion, no colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sciencevae.latents.cluster import fit_gaussians

from .kinematics import KAPPA
from .mixture import (
    EXCESS_MIN,
    MOTION_MIN,
    Background,
    Cluster,
    Field,
    Mixture,
    fit_background,
    fit_clusters,
    start_cluster,
)
from .settings import Analyse

__all__ = [
    "METHODS",
    "Found",
    "by_contrast",
    "by_density",
    "by_mixture",
    "calibrated",
    "candidates",
    "candidates_by_method",
    "find_clusters",
    "tiles",
]

#: where candidates come from, beside neighbourhoods
METHODS = ("mixture on the latents", "mixture on the data", "HDBSCAN on the data")
_FEWEST = 5  # stars of a candidate
_CALIBRATION = (0.69, -0.10)
_SOME = 20_000  # stars that a background is fitted to
_MOST_REFINED = 24  # candidates that are fitted to the end, the best of them by gain
#: of neighbourhoods: radii on the sky in sizes of the field; in proper motion the squares, in squared errors, of
#: the inner circle and of the ring around it; parallaxes within so many errors; as many seeds and candidates
_RADII, _INNER, _RING, _PARALLAX, _SEEDS, _STANDING_OUT = (0.1, 0.25, 0.6), 4.0, (9.0, 36.0), 2.0, 1500, 12


@dataclass(frozen=True)
class Found:
    """Clusters by decreasing gain, ``gains`` and their standard errors in nats of held-out likelihood."""

    mixture: Mixture
    membership: np.ndarray
    gains: tuple[tuple[float, float], ...] = ()
    #: why each candidate that was refined is not a cluster of its own
    refused: tuple[str, ...] = ()


def tiles(offsets: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Rows of stars (N, 2) in pieces of the sky of at most ``most`` stars: halves, cut across the longer side."""
    waiting = [np.arange(len(offsets))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= most:
            yield rows
            continue
        place = offsets[rows]
        order = np.argsort(place[:, np.ptp(place, axis=0).argmax()], kind="stable")
        waiting += [rows[order[len(order) // 2 :]], rows[order[: len(order) // 2]]]


def by_mixture(features: np.ndarray, components: int, seed: int = 0) -> list[np.ndarray]:
    """Rows of each component (p > 0.5) of a Gaussian mixture on standardised features (N, F)."""
    count = max(min(components, len(features) // 30), 1)
    scaled = _standardised(features)
    probability = fit_gaussians(scaled, count, seed=seed).predict_proba(scaled)
    return _enough(np.flatnonzero(column > 0.5) for column in probability.T)


def by_density(features: np.ndarray, smallest: int) -> list[np.ndarray]:
    """Rows of each group of HDBSCAN on standardised features (N, F), of at least ``smallest`` stars."""
    from sklearn.cluster import HDBSCAN

    if len(features) <= smallest:
        return []
    model = HDBSCAN(
        min_cluster_size=smallest, min_samples=min(10, smallest), allow_single_cluster=False, copy=True
    )
    labels = model.fit_predict(_standardised(features))
    return _enough(np.flatnonzero(labels == label) for label in range(labels.max() + 1))


def by_contrast(stars: Field, seed: int = 0) -> list[np.ndarray]:
    """Rows of the neighbourhoods that stand out most: around a star, the stars near it on the sky and within the
    errors in parallax and proper motion, against the number expected there from a ring around it in proper motion.

    With O stars in the circle and E expected, (O − E)/√(E + 1) is largest over three radii on the sky; a star
    that lies in a better neighbourhood opens none of its own. The seeds are the better-measured half.
    """
    error = np.sqrt(np.trace(stars.covariance[:, 1:, 1:], axis1=1, axis2=2) / 2)
    parallax_error = np.sqrt(stars.covariance[:, 0, 0])
    scatter = np.hypot(MOTION_MIN, stars.y[:, 0] / KAPPA)  # of 1 km/s
    precise = np.argsort(error)[: len(stars) // 2]
    seeds = np.random.default_rng(seed).permutation(precise)[:_SEEDS]
    radii = (np.array(_RADII) * stars.footprint.size) ** 2
    share = _INNER / (_RING[1] - _RING[0])
    found: list[tuple[float, int, np.ndarray]] = []
    for star in seeds:
        near = np.abs(stars.y[:, 0] - stars.y[star, 0]) < _PARALLAX * np.hypot(
            parallax_error, parallax_error[star]
        )
        rows = np.flatnonzero(near)
        variance = error[rows] ** 2 + error[star] ** 2 + scatter[star] ** 2
        away = ((stars.y[rows, 1:] - stars.y[star, 1:]) ** 2).sum(1) / variance
        apart = ((stars.offsets[rows] - stars.offsets[star]) ** 2).sum(1)
        inner, ring = away < _INNER, (away > _RING[0]) & (away < _RING[1])
        best: tuple[float, np.ndarray] = (0.0, rows)
        for radius in radii:
            here = apart < radius
            expected = share * float((ring & here).sum())
            contrast = (float((inner & here).sum()) - expected) / np.sqrt(expected + 1)
            best = max(best, (contrast, rows[inner & here]), key=lambda item: item[0])
        found.append((best[0], star, best[1]))
    found.sort(key=lambda item: -item[0])
    chosen: list[np.ndarray] = []
    taken = np.zeros(len(stars), dtype=bool)
    for _, star, rows in found:
        if len(chosen) == _STANDING_OUT:
            break
        if not taken[star]:
            chosen.append(rows)
            taken[rows] = True
    return _enough(iter(chosen))


def candidates_by_method(
    stars: Field, latents: np.ndarray | None, settings: Analyse
) -> dict[str, list[np.ndarray]]:
    """Rows of stars of every candidate, by where it comes from: ``METHODS``, the same of the better-measured half
    of the stars, and neighbourhoods; without ``latents`` (N, D) none of theirs.

    HDBSCAN knows no errors, and a mixture is dragged by them: so both see the better half by itself too.
    """
    data = np.concatenate([stars.offsets, stars.y], axis=1)
    error = np.sqrt(np.trace(stars.covariance[:, 1:, 1:], axis1=1, axis2=2))
    found: dict[str, list[np.ndarray]] = {"neighbourhoods": []}
    for rows in tiles(stars.offsets, settings.tile_stars):
        found["neighbourhoods"] += [rows[c] for c in by_contrast(stars[rows], settings.seed)]
        precise = rows[error[rows] <= np.median(error[rows])]
        for some, of in ((rows, ""), (precise, ", better half")):
            groups = [by_mixture(data[some], settings.components, settings.seed)]
            groups.append(by_density(data[some], settings.smallest))
            if latents is not None:
                groups.insert(0, by_mixture(latents[some], settings.components, settings.seed))
            for method, each in zip(METHODS[-len(groups) :], groups, strict=True):
                found.setdefault(method + of, []).extend(some[c] for c in each)
    return found


def candidates(stars: Field, latents: np.ndarray | None, settings: Analyse) -> list[np.ndarray]:
    """Rows of stars of every candidate, of all methods."""
    groups = candidates_by_method(stars, latents, settings)
    return [rows for each in groups.values() for rows in each]


def find_clusters(stars: Field, rows: Sequence[np.ndarray], settings: Analyse) -> Found:
    """The clusters among the candidates ``rows`` (rows of stars each), by the rule above."""
    some = np.random.default_rng(settings.seed).permutation(len(stars))[:_SOME]
    sample = stars[some]
    current = Mixture(fit_background(sample, settings.background_max, seed=settings.seed))
    density = current.background.log_density(stars)
    refused: list[str] = []
    waiting = _refined(stars, rows, current.background, density, settings, refused)
    gains: list[tuple[float, float]] = []
    while waiting and len(gains) < settings.clusters_max:
        _, cluster, members = waiting.pop(0)
        if current.clusters and _shared(members, current.membership(stars).sum(1)) > 0.5:
            refused.append(f"{_named(cluster)}: found already")
            continue
        start = _one(current.background, cluster, float(members.mean()))
        gain, error = _held_out_gain(stars, density, start, settings)
        if gain < settings.gain_min or gain < settings.significance * error:
            refused.append(f"{_named(cluster)}: gains {gain:.1f} ± {error:.1f} nats on held-out stars")
            continue
        weights = np.append(current.weights * start.weights[0], start.weights[1])
        joint = _together(stars, sample, Mixture(current.background, (*current.clusters, cluster), weights))
        expected = joint.weights[1:] * len(stars)
        reasons = [_not_compact(c, m, settings) for c, m in zip(joint.clusters, expected, strict=True)]
        if any(reasons):
            refused.append(f"{_named(cluster)}: with all others, {next(filter(None, reasons))}")
            continue
        current, density = joint, joint.log_density(stars)
        gains.append((gain, error))
    return Found(current, calibrated(current.membership(stars)), tuple(gains), tuple(refused))


def calibrated(probability: np.ndarray) -> np.ndarray:
    """p(member) as shares of true members: logit p' = min(logit p, 0.69 logit p − 0.10).

    The mixture is too sure: it takes stated errors and the background's shape as they are. The two numbers are the
    logistic regression of membership on logit p over 275 clusters of 30 stars injected into the chosen-on half of
    the real fields (``benchmarks/stars_recovery.py``).
    """
    logit = np.log(np.maximum(probability, 1e-300)) - np.log1p(-np.minimum(probability, 1 - 1e-16))
    slope, offset = _CALIBRATION
    return 1 / (1 + np.exp(-np.minimum(logit, slope * logit + offset)))


def _together(stars: Field, sample: Field, mixture: Mixture) -> Mixture:
    """Clusters fitted to all stars and the background to a sample of them, in turn."""
    for _ in range(3):
        mixture = _fitted(stars, mixture)
        field = 1 - mixture.membership(sample).sum(1)
        mixture = replace(
            mixture, background=fit_background(sample, 0, field, mixture.background, iterations=10)
        )
    return mixture


def _refined(
    stars: Field,
    candidates: Sequence[np.ndarray],
    background: Background,
    density: np.ndarray,
    settings: Analyse,
    refused: list[str],
) -> list[tuple[float, Cluster, np.ndarray]]:
    """The compact candidates after refinement, with p(member) (N,), best gain (on all stars) first."""
    from scipy.spatial import KDTree

    begun: list[tuple[float, Mixture]] = []
    seen, reached = _Places(len(candidates)), _Places(len(candidates))
    sky, nearest = KDTree(stars.offsets), min(settings.tile_stars, len(stars))
    elsewhere = len(stars) - nearest
    for rows in candidates:
        first = start_cluster(stars, rows)
        if first is None:
            refused.append(f"{len(rows)} stars: no common motion")
            continue
        if not seen.new(first):
            continue
        first = replace(
            first,
            scatter=min(first.scatter, _scatter_max(first, settings)),
            excess=min(first.excess, _excess_max(first, settings)),
        )
        about = np.sort(sky.query(first.centre, nearest)[1]) if elsewhere else slice(None)
        tile, behind = stars[about], density[about]
        mixture = _one(background, first, len(rows) / len(stars))
        mixture = _fitted(tile, mixture, behind, 2, elsewhere)
        if not reached.new(mixture.clusters[0]):
            continue  # on its way to what another has reached
        mixture = _fitted(tile, mixture, behind, 6, elsewhere)
        reason = _not_compact(mixture.clusters[0], np.inf, settings)
        if reason is None:
            begun.append((_gain(tile, mixture, behind, elsewhere), mixture))
        else:
            refused.append(f"{_named(mixture.clusters[0])}: {reason}")
    begun.sort(key=lambda item: -item[0])
    found: list[tuple[float, Cluster, np.ndarray]] = []
    for gain, mixture in begun[:_MOST_REFINED]:
        if gain < settings.gain_min / 2:
            break
        members = _members(stars, mixture, density)
        if any(_shared(members, other) > 0.5 for _, _, other in found):
            continue
        mixture = _fitted(stars, mixture, density)
        gain = _gain(stars, mixture, density)
        members, cluster = _members(stars, mixture, density), mixture.clusters[0]
        reason = _not_compact(cluster, float(members.sum()), settings)
        if reason is None and gain < settings.gain_min:
            reason = f"gains {gain:.1f} nats"
        if reason is not None:
            refused.append(f"{_named(cluster)}: {reason}")
        elif not any(_shared(members, other) > 0.5 for _, _, other in found):
            found.append((gain, cluster, members))
    return sorted(found, key=lambda item: -item[0])


class _Places:
    """Clusters that have been seen, to tell whether another is new: one whose centre, motion and parallax are not
    within half the widths of one of them."""

    def __init__(self, most: int) -> None:
        self.rows, self.count = np.empty((most, 9)), 0

    def new(self, cluster: Cluster) -> bool:
        """Whether it is new; then it is kept."""
        row = np.array(
            [
                *cluster.centre,
                *(cluster.parallax * cluster.velocity / KAPPA),
                cluster.parallax,
                np.trace(cluster.shape),
                cluster.scatter**2,
                cluster.excess**2,
            ]
        )
        others = self.rows[: self.count]
        away, both = others[:, :6] - row[:6], others[:, 6:] + row[6:]
        alike = (away[:, :2] ** 2).sum(1) < both[:, 0] / 4
        alike &= (away[:, 2:5] ** 2).sum(1) < both[:, 1] / 4
        alike &= np.abs(away[:, 5]) < (np.sqrt(both[:, 2]) + EXCESS_MIN) / 2
        if alike.any():
            return False
        self.rows[self.count] = row
        self.count += 1
        return True


def _fitted(
    stars: Field,
    mixture: Mixture,
    density: np.ndarray | None = None,
    iterations: int = 60,
    elsewhere: int = 0,
) -> Mixture:
    """The mixture after some steps of EM on the stars around its clusters; all others, and so many elsewhere, count
    as background. density: (N,) of what is behind the clusters, if it is not the background alone."""
    near = np.any([_around(stars, cluster) for cluster in mixture.clusters], axis=0)
    some, others = stars[near], elsewhere + float((~near).sum())
    behind = mixture.background.log_density(some) if density is None else density[near]
    return fit_clusters(some, mixture, behind, others, iterations)


def _gain(stars: Field, mixture: Mixture, density: np.ndarray, elsewhere: int = 0) -> float:
    """Σ log p(with the cluster) − log p(without), nats."""
    gain = (mixture.log_density(stars, density) - density).sum()
    return float(gain + elsewhere * np.log(mixture.weights[0]))


def _members(stars: Field, mixture: Mixture, density: np.ndarray) -> np.ndarray:
    """p(member | star), (N,)."""
    joint = mixture.log_joint(stars, density)
    return 1 / (1 + np.exp(np.clip(joint[0] - joint[1], -700, 700)))


def _around(stars: Field, cluster: Cluster) -> np.ndarray:
    """Stars that a cluster may reach while it is fitted, (N,) bool."""
    wide = replace(cluster, excess=2 * cluster.excess, scatter=2 * cluster.scatter, shape=4 * cluster.shape)
    return wide.near(stars)


def _not_compact(cluster: Cluster, members: float, settings: Analyse) -> str | None:
    """Why this is no cluster."""
    if members < settings.members_min:
        return f"{members:.1f} expected members"
    if cluster.scatter > _scatter_max(cluster, settings):
        return f"velocity dispersion {cluster.dispersion:.1f} km/s"
    if cluster.excess > _excess_max(cluster, settings):
        return f"parallaxes scatter by {cluster.excess:.2f} mas"
    if cluster.width_pc > settings.width_max_pc:
        return f"core of {cluster.width_pc:.0f} pc"
    return None


def _scatter_max(cluster: Cluster, settings: Analyse) -> float:
    """mas/yr."""
    return float(
        np.hypot(settings.dispersion_max_kms * cluster.parallax / KAPPA, settings.scatter_max_mas_yr)
    )


def _excess_max(cluster: Cluster, settings: Analyse) -> float:
    """mas."""
    return float(np.hypot(settings.parallax_scatter_max * cluster.parallax, 0.05))


def _one(background: Background, cluster: Cluster, share: float) -> Mixture:
    """A background and one cluster."""
    share = max(share, 1e-6)
    return Mixture(background, (cluster,), np.array([1 - share, share]))


def _held_out_gain(
    stars: Field, density: np.ndarray, start: Mixture, settings: Analyse
) -> tuple[float, float]:
    """Σ over held-out stars of log p(with the cluster) − log p(without), and its standard error.

    The cluster and its share are fitted to the other folds, in front of what is there without it; so a star
    loses at most −log(1 − w), and one star that two backgrounds disagree on can't decide.
    """
    fold = np.random.default_rng(settings.seed).permutation(len(stars)) % settings.folds
    around = _around(stars, start.clusters[0])
    difference = np.zeros(len(stars))
    for number in range(settings.folds):
        seen = np.flatnonzero(around & (fold != number))
        elsewhere = float((fold != number).sum() - len(seen))
        fitted = fit_clusters(stars[seen], start, density[seen], elsewhere, iterations=15)
        held = fold == number
        difference[held] = np.log(fitted.weights[0])
        rows = np.flatnonzero(held & around)
        difference[rows] = fitted.log_density(stars[rows], density[rows]) - density[rows]
    return float(difference.sum()), float(np.sqrt(len(stars)) * difference.std())


def _shared(first: np.ndarray, second: np.ndarray) -> float:
    """The share of the smaller set of members, by probability, that both have."""
    return float(np.minimum(first, second).sum() / max(min(first.sum(), second.sum()), 1e-9))


def _standardised(features: np.ndarray) -> np.ndarray:
    """Columns about their medians, in units of half their central 68 %."""
    low, middle, high = np.percentile(features, [16, 50, 84], axis=0)
    return np.clip((features - middle) / np.maximum((high - low) / 2, 1e-12), -50, 50)


def _enough(groups: Iterator[np.ndarray]) -> list[np.ndarray]:
    return [rows for rows in groups if len(rows) >= _FEWEST]


def _named(cluster: Cluster) -> str:
    return f"candidate at {cluster.parallax:.2f} mas"
