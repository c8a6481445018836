"""Errors of a cluster's parameters: curvature of the likelihood and scatter of its slope, memberships left free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .kinematics import KAPPA
from .mixture import EXCESS_MIN, Cluster, Field, Mixture, logsumexp, scatter_min, velocity_prior

__all__ = ["Errors", "errors_of"]

_STEP = 0.3  # of a parameter, in units of its error as guessed, for second differences


@dataclass(frozen=True)
class Errors:
    """Covariance (4, 4) of (ϖ/mas, V/(km/s)) and (2, 2) of the centre in degrees; standard errors of the excess
    (mas), the scatter (mas/yr) and the share of the stars; NaN where the likelihood has no maximum there."""

    motion: np.ndarray
    centre: np.ndarray
    excess: float
    scatter: float
    weight: float


def errors_of(stars: Field, mixture: Mixture, number: int) -> Errors:
    """Errors of cluster ``number``: F⁻¹ G F⁻¹, with F = −∂²/∂θ² Σ_n log p(y_n | θ) and G = Σ_n g_n g_nᵀ of the
    stars' own g_n = ∂/∂θ log p(y_n | θ), by differences (White 1982, Econometrica 50, 1).

    Where the model is right both are the information, and this its inverse; a cluster whose profile is not the
    model's has its centre less well known than F says. θ = (ϖ, u = ϖV/κ, centre, log excess, log scatter, log odds
    of the share); the rest of the mixture is fixed. The prior of u counts as a datum. A scale at its floor, where
    the likelihood still rises, is left out and has no error. Stars far from the cluster feel only the share.
    """
    cluster, weight = mixture.clusters[number], mixture.weights[1 + number]
    wide = replace(
        cluster, excess=1.5 * cluster.excess, scatter=1.5 * cluster.scatter, shape=2 * cluster.shape
    )
    near = np.flatnonzero(wide.near(stars))
    some = stars[near]
    joint = mixture.log_joint(some)
    others = logsumexp(np.delete(joint, 1 + number, axis=0)) - np.log1p(-weight)
    elsewhere = len(stars) - len(near)

    def each(theta: np.ndarray) -> np.ndarray:
        """log p of the stars near, and of all others in one, which are the background's."""
        changed, share = _changed(cluster, weight, theta)
        own = logsumexp(changed.parts(some).log)
        here = np.logaddexp(others + np.log1p(-share), own + np.log(share))
        return np.append(here, elsewhere * np.log1p(-share))

    steps = _STEP * _guesses(cluster, some, weight * len(stars))
    prior = np.zeros((9, 9))
    prior[1:4, 1:4] = np.eye(3) * velocity_prior(cluster.parallax)
    fisher = prior - _second_differences(lambda theta: float(each(theta).sum()), steps)
    scores = np.stack([(each(step) - each(-step))[:-1] for step in np.diag(steps)]) / (2 * steps[:, None])
    spread = prior + scores @ scores.T
    spread[8, 8] += elsewhere * weight**2
    floors = {
        6: cluster.excess <= EXCESS_MIN,
        7: cluster.scatter <= scatter_min(cluster.parallax) * (1 + 1e-9),
    }
    used = [i for i in range(9) if fisher[i, i] > 0 and not floors.get(i, False)]
    while len(used) > 1 and np.linalg.eigvalsh(fisher[np.ix_(used, used)])[0] <= 0:
        used.remove(
            min((i for i in used if i >= 6), key=lambda i: fisher[i, i] * steps[i] ** 2, default=used[-1])
        )
    covariance = np.full((9, 9), np.nan)
    inverse = np.linalg.inv(fisher[np.ix_(used, used)])
    covariance[np.ix_(used, used)] = inverse @ spread[np.ix_(used, used)] @ inverse
    # (ϖ, u) -> (ϖ, V = κ u/ϖ)
    turn = np.eye(4)
    turn[1:, 1:] *= KAPPA / cluster.parallax
    turn[1:, 0] = -cluster.velocity / cluster.parallax
    sigma = np.sqrt(np.diag(covariance))
    return Errors(
        turn @ covariance[:4, :4] @ turn.T,
        covariance[4:6, 4:6],
        float(cluster.excess * sigma[6]),
        float(cluster.scatter * sigma[7]),
        float(weight * (1 - weight) * sigma[8]),
    )


def _changed(cluster: Cluster, weight: float, theta: np.ndarray) -> tuple[Cluster, float]:
    """The cluster and its share with θ added."""
    parallax = max(cluster.parallax + theta[0], 1e-4)
    motion = cluster.parallax * cluster.velocity / KAPPA + theta[1:4]
    odds = np.log(weight) - np.log1p(-weight) + theta[8]
    changed = replace(
        cluster,
        parallax=parallax,
        velocity=KAPPA * motion / parallax,
        centre=cluster.centre + theta[4:6],
        excess=cluster.excess * np.exp(theta[6]),
        scatter=cluster.scatter * np.exp(theta[7]),
    )
    return changed, float(1 / (1 + np.exp(-odds)))


def _guesses(cluster: Cluster, stars: Field, members: float) -> np.ndarray:
    """Rough errors of θ (9,), from the widths of the cluster and the number of its members."""
    count = np.sqrt(max(members, 2.0))
    noise = np.sqrt(np.median(np.diagonal(stars.covariance, axis1=1, axis2=2), axis=0))
    parallax = np.hypot(noise[0], cluster.excess)
    motion = np.hypot(noise[1:].mean(), cluster.scatter)
    sky = np.sqrt(np.trace(cluster.shape) / 2)
    return np.array([parallax, motion, motion, motion, sky, sky, 1.0, 1.0, 1.5]) / count


def _second_differences(value: Callable[[np.ndarray], float], steps: np.ndarray) -> np.ndarray:
    """∂² value/∂θ_i∂θ_j at 0, central, (K, K)."""
    count = len(steps)
    unit = np.diag(steps)
    middle = value(np.zeros(count))
    found = np.empty((count, count))
    for i in range(count):
        found[i, i] = (value(unit[i]) - 2 * middle + value(-unit[i])) / steps[i] ** 2
        for j in range(i):
            corners = value(unit[i] + unit[j]) - value(unit[i] - unit[j]) - value(unit[j] - unit[i])
            found[i, j] = found[j, i] = (corners + value(-unit[i] - unit[j])) / (4 * steps[i] * steps[j])
    return found
