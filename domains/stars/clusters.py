"""Clusters found without being told where: candidates, each refined with every star's errors, then chosen.

1. Candidates are the components of a Gaussian mixture, on the latents or on the data; the number by BIC, and
   where BIC takes few, those of a finer mixture too.
2. Each is refined by the error-aware mixture, as one more part in front of the background.
3. The rule: a candidate is a cluster when it is compact (velocity dispersion, extent on the sky, expected
   members within the settings' limits) and raises the likelihood of *held-out* stars over the mixture without
   it, by at least ``gain_min`` nats and ``significance`` standard errors. The best goes in first; the others
   have to gain over what is already there. No labels, no place in parallax or proper motion, no colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sciencevae.latents.cluster import gaussian_mixture as mixture_by_bic

from .kinematics import separation
from .mixture import (
    Background,
    Cluster,
    Field,
    Mixture,
    choose_background,
    fit_mixture,
    start_cluster,
)
from .settings import Analyse

__all__ = ["Candidates", "Found", "candidate_rows", "find_clusters", "gaussian_mixture"]

_MOST_OF_FIELD = 0.5  # a component with more of the stars is the field itself


@dataclass(frozen=True)
class Candidates:
    """A Gaussian mixture on some features: number of components by BIC, and p(component | star) (N, K)."""

    components: int
    probability: np.ndarray

    def rows(self) -> list[np.ndarray]:
        """The stars of each component, p > 0.5, of those that may be a cluster."""
        chosen = [np.flatnonzero(column > 0.5) for column in self.probability.T]
        return [rows for rows in chosen if 5 <= len(rows) < _MOST_OF_FIELD * len(self.probability)]


@dataclass(frozen=True)
class Found:
    """Clusters by decreasing gain, ``gains`` and their standard errors in nats of held-out likelihood."""

    mixture: Mixture
    membership: np.ndarray
    gains: tuple[tuple[float, float], ...] = ()
    background: int = 0
    #: why each candidate that was refined is not a cluster of its own
    refused: tuple[str, ...] = ()


def gaussian_mixture(features: np.ndarray, settings: Analyse) -> Candidates:
    """Mixtures of 1 … ``components_max`` full Gaussians on standardised features (N, F); lowest BIC."""
    return _mixtures(features, range(1, min(settings.components_max, len(features) // 10) + 1), settings)


def candidate_rows(features: np.ndarray, chosen: Candidates, settings: Analyse) -> list[np.ndarray]:
    """The stars of each candidate: of the mixture that BIC chose, and of a finer one where it is coarse."""
    rows = chosen.rows()
    if chosen.components < settings.components_fine <= len(features) // 10:
        rows += _mixtures(features, [settings.components_fine], settings).rows()
    return rows


def _mixtures(features: np.ndarray, counts: Sequence[int], settings: Analyse) -> Candidates:
    scaled = (features - features.mean(0)) / np.maximum(features.std(0), 1e-12)
    fitted = mixture_by_bic(scaled, counts, seed=settings.seed, restarts=settings.restarts, patience=4)
    return Candidates(fitted.components, fitted.probabilities(scaled))


def find_clusters(stars: Field, candidates: Sequence[np.ndarray], radius: float, settings: Analyse) -> Found:
    """The clusters among ``candidates`` (rows of stars each), by the rule above; radius of the field in deg."""
    count = choose_background(stars.y, settings.background_max, settings.seed)
    accepted: tuple[Cluster, ...] = ()
    gains: list[tuple[float, float]] = []
    refused: list[str] = []
    current, value = fit_mixture(stars, Mixture(Background.fit(stars.y, count, settings.seed)), iterations=50)
    waiting = _refined(stars, candidates, count, value, radius, settings, refused)
    while waiting and len(accepted) < settings.clusters_max:
        _, cluster, members = waiting.pop(0)
        if any(_same(cluster, other) for other in accepted):
            refused.append(f"{_named(cluster)}: found already")
            continue
        gain, error = _held_out_gain(stars, current, cluster, members, settings)
        if gain < settings.gain_min or gain < settings.significance * error:
            refused.append(f"{_named(cluster)}: gains {gain:.1f} ± {error:.1f} nats on held-out stars")
            continue
        accepted = (*accepted, cluster)
        gains.append((gain, error))
        current, _ = fit_mixture(stars, _with(current, cluster, members, stars))
    return Found(current, current.membership(stars), tuple(gains), count, tuple(refused))


def _refined(
    stars: Field,
    candidates: Sequence[np.ndarray],
    count: int,
    null: float,
    radius: float,
    settings: Analyse,
    refused: list[str],
) -> list[tuple[float, Cluster, np.ndarray]]:
    """The compact candidates after refinement, with p(member) (N,), best gain (on all stars) first."""
    found: list[tuple[float, Cluster, np.ndarray]] = []
    for rows in candidates:
        first = start_cluster(stars, rows)
        if first is None:
            refused.append(f"{len(rows)} stars: no common motion")
            continue
        reason = _not_compact(first, np.inf, radius, settings, slack=2.0)
        if reason is not None:
            refused.append(f"{_named(first)}: {reason}")
            continue
        outside = np.ones(len(stars), dtype=bool)
        outside[rows] = False
        start = Mixture(
            Background.fit(stars.y[outside], count, settings.seed),
            (first,),
            np.array([1 - len(rows) / len(stars), len(rows) / len(stars)]),
        )
        mixture, value = fit_mixture(stars, start, iterations=40)
        cluster = mixture.clusters[0]
        reason = _not_compact(cluster, float(mixture.weights[1]) * len(stars), radius, settings)
        if reason is None and value - null < settings.gain_min:
            reason = f"gains {value - null:.1f} nats"
        if reason is not None:
            refused.append(f"{_named(cluster)}: {reason}")
        elif not any(_same(cluster, other) for _, other, _ in found):
            found.append((value - null, cluster, mixture.membership(stars)[:, 0]))
    return sorted(found, key=lambda item: -item[0])


def _not_compact(
    cluster: Cluster, members: float, radius: float, settings: Analyse, slack: float = 1.0
) -> str | None:
    """Why this is no cluster; ``slack`` widens the limits for a first guess."""
    extent = float(np.sqrt(np.linalg.eigvalsh(cluster.shape)[-1])) / radius
    if members < settings.members_min:
        return f"{members:.1f} expected members"
    if cluster.dispersion > slack * settings.dispersion_max_kms:
        return f"velocity dispersion {cluster.dispersion:.1f} km/s"
    if extent > slack * settings.extent_max:
        return f"extent {extent:.2f} of the field's radius"
    if np.linalg.norm(cluster.centre) > radius:
        return "its centre lies outside the field"
    return None


def _held_out_gain(
    stars: Field, current: Mixture, cluster: Cluster, members: np.ndarray, settings: Analyse
) -> tuple[float, float]:
    """Σ over held-out stars of log p(with the cluster) − log p(without), and its standard error.

    Both are fitted to the other folds. With the cluster the background stays as it is without, so a star loses
    at most −log(1 − w), and one star that the two backgrounds disagree on can't decide.
    """
    fold = np.random.default_rng(settings.seed).permutation(len(stars)) % settings.folds
    difference = np.zeros(len(stars))
    for number in range(settings.folds):
        seen, held = stars[fold != number], stars[fold == number]
        without, _ = fit_mixture(seen, current, iterations=30)
        share = max(float(members[fold != number].mean()), 1e-3)
        start = replace(
            without,
            clusters=(*without.clusters, cluster),
            weights=np.append(without.weights * (1 - share), share),
        )
        with_it, _ = fit_mixture(seen, start, iterations=30, fixed_background=True)
        difference[fold == number] = with_it.log_density(held) - without.log_density(held)
    return float(difference.sum()), float(np.sqrt(len(stars)) * difference.std())


def _with(mixture: Mixture, cluster: Cluster, members: np.ndarray, stars: Field) -> Mixture:
    """``mixture`` with one more cluster, and a background that starts without its stars."""
    known = mixture.membership(stars).sum(1) if mixture.clusters else np.zeros(len(stars))
    rest = stars[(members < 0.1) & (known < 0.5)]
    background = Background.fit(rest.y, len(mixture.background.weights))
    share = max(float(members.mean()), 1e-3)
    weights = np.append(mixture.weights * (1 - share), share)
    return Mixture(background, (*mixture.clusters, cluster), weights)


def _same(first: Cluster, second: Cluster) -> bool:
    """Two refinements of one cluster: same place on the sky, parallax and motion within their widths."""
    scale = np.sqrt(np.linalg.eigvalsh(first.shape)[-1] + np.linalg.eigvalsh(second.shape)[-1])
    near = np.linalg.norm(first.centre - second.centre) < 1.5 * scale
    depth = abs(first.parallax - second.parallax) < 2 * (first.depth + second.depth) + 0.05 * first.parallax
    speed = np.linalg.norm(first.velocity)
    angle = separation(first.velocity / speed, second.velocity / np.linalg.norm(second.velocity))
    return bool(near and depth and angle < 30)


def _named(cluster: Cluster) -> str:
    return f"candidate at {cluster.parallax:.2f} mas"
