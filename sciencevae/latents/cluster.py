"""Clusters of latents: Gaussian mixtures chosen by BIC, beside their held-out likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sciencevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.mixture import GaussianMixture

__all__ = ["Mixture", "combine", "fit_gaussians", "gaussian_mixture"]

Covariance = Literal["full", "diag", "tied", "spherical"]


@dataclass(frozen=True)
class Mixture:
    """fits: the mixture of each number of components tried · table: their ``components``, ``bic`` and, with
    held-out data, ``held_out``, the mean log likelihood a datum."""

    fits: tuple[GaussianMixture, ...]
    table: pd.DataFrame

    @property
    def chosen(self) -> GaussianMixture:
        """The one with the lowest BIC."""
        return self.fits[int(self.table.bic.argmin())]

    @property
    def components(self) -> int:
        return self.chosen.n_components

    def labels(self, z: np.ndarray) -> np.ndarray:
        """The most probable component of each latent, (N,)."""
        return self.chosen.predict(z)

    def probabilities(self, z: np.ndarray) -> np.ndarray:
        """p(k | z), (N, K)."""
        return self.chosen.predict_proba(z)


def fit_gaussians(
    z: np.ndarray,
    components: int,
    covariance: Covariance = "full",
    seed: int = 0,
    restarts: int = 1,
    floor: float = 1e-6,
) -> GaussianMixture:
    """A mixture of Gaussians fitted to z (N, D) by EM (scikit-learn); floor is added to each variance."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    mixture = GaussianMixture(
        components, covariance_type=covariance, n_init=restarts, random_state=seed, reg_covar=floor
    )
    # On matrices this small a second thread mostly waits: two took five times as long as one (4,000 × 5).
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(z)


def gaussian_mixture(
    z: np.ndarray,
    components: Sequence[int] = (1, 2, 3, 4, 5, 6),
    held_out: np.ndarray | None = None,
    covariance: Covariance = "full",
    seed: int = 0,
    restarts: int = 3,
    floor: float = 1e-6,
    patience: int | None = None,
) -> Mixture:
    """Fit mixtures of Gaussians to latents z (N, D), and choose their number by BIC, never by a label.

    BIC = −2 log L + p log N with p free parameters (Schwarz 1978). patience: stop after so many numbers of
    components in a row that do not lower it: the minimum is behind. Raises InputError for fewer latents than
    components, and for latents that are not finite.
    """
    import pandas as pd

    if not np.isfinite(z).all():
        raise InputError("some latents are not finite: drop them (their status says why) before clustering")
    if len(z) <= max(components):
        raise InputError(f"{len(z)} latents are too few for {max(components)} components")
    rows, fits = [], []
    for count in components:
        fit = fit_gaussians(z, count, covariance, seed, restarts, floor)
        row = {"components": count, "bic": fit.bic(z)}
        if held_out is not None:
            row["held_out"] = fit.score(held_out)
        rows.append(row)
        fits.append(fit)
        best = min(range(len(rows)), key=lambda i: rows[i]["bic"])
        if patience is not None and len(rows) - 1 - best >= patience:
            break
    return Mixture(tuple(fits), pd.DataFrame(rows))


def combine(probabilities: np.ndarray, clusters: int) -> np.ndarray:
    """The cluster of each component of a mixture, (K,): components that overlap are one cluster.

    A cluster that is no ellipsoid takes several Gaussians. Of K clusters, one a component, those two are joined,
    p_i,a∪b = p_ia + p_ib, whose overlap Σ_i p_ia p_ib / √(Σ_i p_ia · Σ_i p_ib) is largest, until ``clusters`` are
    left. No label is seen.

    probabilities: p(k | z), (N, K), rows that sum to 1. The joining of Baudry et al. 2010 (J. Comput. Graph. Stat.
    19, 332), with an overlap that does not favour large clusters, as their entropy does. InputError for more
    clusters than components.
    """
    count = probabilities.shape[1]
    if not 1 <= clusters <= count:
        raise InputError(f"{count} components can make 1 to {count} clusters, not {clusters}")
    shared, mass = probabilities.T @ probabilities, probabilities.sum(0)
    cluster = np.arange(count)
    for left in range(count, clusters, -1):
        overlap = shared / np.sqrt(np.outer(mass, mass).clip(min=1e-300))
        np.fill_diagonal(overlap, -1)
        a, b = sorted(divmod(int(overlap.argmax()), left))
        shared[a] += shared[b]
        shared[:, a] += shared[:, b]
        mass[a] += mass[b]
        shared, mass = np.delete(np.delete(shared, b, 0), b, 1), np.delete(mass, b)
        cluster[cluster == b] = a
        cluster[cluster > b] -= 1
    return cluster
