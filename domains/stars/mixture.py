"""An error-aware mixture: clusters that share one space velocity, in front of a free background.

A star of a cluster has y = (ϖ, μα*, μδ) ~ N(ϖ_c J, C + σ_ϖ² J Jᵀ + s² diag(0, 1, 1)), J = (1, ê·V/κ, n̂·V/κ),
with C its own covariance, σ_ϖ the depth of the cluster, s = ϖ_c σ_v/κ its velocity dispersion; on the sky a
Gaussian. The background is a Gaussian mixture in y, uniform over the field. This is extreme deconvolution
(Bovy, Hogg & Roweis 2011, Ann. Appl. Stat. 5, 1657) with the projection of each star in it, fitted by EM.

Note 1: a cluster is the sum of four such parts that share ϖ_c, V and centre, the spatial and the velocity
scale each times 1 or ``WING``: a halo (the Hyades have stars beyond the tidal radius) and unresolved binaries,
whose photocentres move. With one part, 11 of 163 stars that the literature's motion accounts for were missed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from sciencevae.latents.cluster import fit_gaussians, gaussian_mixture

from .kinematics import KAPPA, common_velocity, tangent_basis

__all__ = ["Background", "Cluster", "Field", "Mixture", "choose_background", "fit_mixture", "start_cluster"]

WING = 3.0
_PARTS = np.array([(1.0, 1.0), (WING, 1.0), (1.0, WING), (WING, WING)])  # (spatial, velocity) factors
_VELOCITY_PRIOR_KMS = 50.0  # V ~ N(0, 50²): only the radial part in a small field feels it
_FLOORS = (0.02, 0.1, 0.05)  # of σ_ϖ/mas, σ_v/(km/s), sky scale/deg: EM must not shrink onto a pair of stars
_REACH = 6.0  # standard deviations beyond which a cluster has no density
_FAR = -1e4
_RIDGE = 1e-4  # added to the variances of the background, in units of the field's own
_LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Field:
    """The stars: y (N, 3) = (ϖ, μα*, μδ) · covariance (N, 3, 3) · offsets (N, 2) deg · direction (N, 3)."""

    y: np.ndarray
    covariance: np.ndarray
    offsets: np.ndarray
    direction: np.ndarray
    area: float

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: np.ndarray) -> Field:
        return Field(self.y[rows], self.covariance[rows], self.offsets[rows], self.direction[rows], self.area)


@dataclass(frozen=True)
class Cluster:
    """Parallax mas · velocity (3,) km/s · depth mas · dispersion km/s · centre (2,), shape (2, 2) on the sky."""

    parallax: float
    velocity: np.ndarray
    depth: float
    dispersion: float
    centre: np.ndarray
    shape: np.ndarray
    shares: np.ndarray = field(default_factory=lambda: np.array([0.7, 0.1, 0.1, 0.1]))
    #: covariance (4, 4) of (ϖ, V), from the last weighted least squares
    covariance: np.ndarray = field(default_factory=lambda: np.full((4, 4), np.nan))

    def log_parts(self, stars: Field) -> np.ndarray:
        """log density of the four parts, shares included, (N, 4); −∞ far outside, where it is not computed."""
        error = np.sqrt(stars.covariance[:, 0, 0] + (WING * self.depth) ** 2)
        reach = _REACH * WING * np.sqrt(np.linalg.eigvalsh(self.shape)[-1])
        near = np.abs(stars.y[:, 0] - self.parallax) < _REACH * error
        near &= np.linalg.norm(stars.offsets - self.centre, axis=1) < reach
        log = np.full((len(stars), len(_PARTS)), _FAR)
        log[near] = self.parts(stars[near])[0]
        return log

    def parts(self, stars: Field) -> tuple[np.ndarray, ...]:
        """log density (N, 4), residual (N, 3), precision (N, 4, 3, 3), J (N, 3)."""
        along = np.einsum("nki,i->nk", tangent_basis(stars.direction), self.velocity) / KAPPA
        jacobian = np.concatenate([np.ones((len(stars), 1)), along], axis=1)
        residual = stars.y - self.parallax * jacobian
        outer = jacobian[:, :, None] * jacobian[:, None, :]
        across = np.diag([0.0, 1.0, 1.0]) * (self.parallax * self.dispersion / KAPPA) ** 2
        total = (
            stars.covariance[:, None]
            + _PARTS[:, 0, None, None] ** 2 * self.depth**2 * outer[:, None]
            + _PARTS[:, 1, None, None] ** 2 * across
        )  # (N, 4, 3, 3)
        precision = np.linalg.inv(total)
        distance = np.einsum("ni,njik,nk->nj", residual, precision, residual)
        log_y = -0.5 * (distance + np.linalg.slogdet(total)[1] + 3 * _LOG_2PI)
        away = stars.offsets - self.centre
        rho2 = np.einsum("ni,ik,nk->n", away, np.linalg.inv(self.shape), away)
        scale = _PARTS[:, 0]
        log_sky = -0.5 * rho2[:, None] / scale**2 - 0.5 * np.linalg.slogdet(self.shape)[1]
        log_sky = log_sky - 2 * np.log(scale) - _LOG_2PI
        return log_y + log_sky + np.log(self.shares), residual, precision, jacobian

    def updated(self, stars: Field, share: np.ndarray) -> Cluster:
        """One M-step: ``share`` (N, 4) is the probability that star n belongs to part j."""
        _, residual, precision, jacobian = self.parts(stars)
        mass = share.sum()
        # ϖ and u = ϖV/κ enter linearly: y = (ϖ, ê·u, n̂·u)
        design = np.zeros((len(stars), 3, 4))
        design[:, 0, 0], design[:, 1:, 1:] = 1.0, tangent_basis(stars.direction)
        weighted = np.einsum("nj,njik->nik", share, precision)
        normal = np.einsum("nia,nik,nkb->ab", design, weighted, design)
        normal[1:, 1:] += np.eye(3) * (KAPPA / (self.parallax * _VELOCITY_PRIOR_KMS)) ** 2
        right = np.einsum("nia,nik,nk->a", design, weighted, stars.y)
        inverse = np.linalg.inv(normal)
        solution = inverse @ right
        parallax = max(float(solution[0]), 1e-3)
        velocity = KAPPA * solution[1:] / parallax
        turn = np.eye(4)
        turn[1:, 1:] *= KAPPA / parallax
        turn[1:, 0] = -velocity / parallax
        # posterior moments of the depth δ and of the velocity's scatter e, given y
        depth2 = (_PARTS[:, 0] * self.depth) ** 2
        gain = np.einsum("ni,njik->njk", jacobian, precision)
        delta = depth2 * np.einsum("njk,nk->nj", gain, residual)
        left = depth2 - depth2**2 * np.einsum("njk,nk->nj", gain, jacobian)
        depth = np.sqrt((share * (delta**2 + left) / _PARTS[:, 0] ** 2).sum() / mass)
        speed2 = (_PARTS[:, 1] * self.parallax * self.dispersion / KAPPA) ** 2
        moved = speed2[:, None] * np.einsum("njik,nk->nji", precision[:, :, 1:], residual)  # (N, 4, 2)
        spread = 2 * speed2 - speed2**2 * np.einsum("njii->nj", precision[:, :, 1:, 1:])
        scatter = (share * ((moved**2).sum(-1) + spread) / (2 * _PARTS[:, 1] ** 2)).sum() / mass
        tight = share / _PARTS[:, 0] ** 2
        centre = np.einsum("nj,ni->i", tight, stars.offsets) / tight.sum()
        away = stars.offsets - centre
        shape = np.einsum("nj,ni,nk->ik", tight, away, away) / mass + np.eye(2) * _FLOORS[2] ** 2
        return replace(
            self,
            parallax=parallax,
            velocity=velocity,
            depth=max(float(depth), _FLOORS[0]),
            dispersion=max(float(np.sqrt(scatter)) * KAPPA / parallax, _FLOORS[1]),
            centre=centre,
            shape=shape,
            shares=(share.sum(0) + 0.5) / (mass + 2.0),
            covariance=turn @ inverse @ turn.T,
        )


@dataclass(frozen=True)
class Background:
    """Gaussians in y: weights (K,), means (K, 3), covariances (K, 3, 3); uniform over the field's area."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    @classmethod
    def fit(cls, y: np.ndarray, components: int, seed: int = 0) -> Background:
        """By scikit-learn's EM, on y scaled robustly.

        Note 2: of the observed y, errors included, which for a field far wider than its errors is the density
        that a star is compared with.
        """
        scale = _scale(y)
        em = fit_gaussians(y / scale, components, floor=_RIDGE, seed=seed)
        return cls(em.weights_, em.means_ * scale, em.covariances_ * scale[:, None] * scale)

    def parts(self, stars: Field) -> np.ndarray:
        """log density (N, K), per square degree, weights included."""
        factor = np.linalg.cholesky(self.covariances)
        columns = []
        for mean, root, weight in zip(self.means, factor, self.weights, strict=True):
            white = np.linalg.solve(root, (stars.y - mean).T)
            log = -0.5 * (white**2).sum(0) - np.log(np.diag(root)).sum() - 1.5 * _LOG_2PI
            columns.append(log + np.log(weight))
        return np.stack(columns, axis=1) - np.log(stars.area)

    def updated(self, stars: Field, share: np.ndarray) -> Background:
        mass = share.sum(0) + 1e-9
        means = (share.T @ stars.y) / mass[:, None]
        ridge = _RIDGE * np.diag(_scale(stars.y) ** 2)
        away = stars.y[:, None] - means
        covariances = np.einsum("nk,nki,nkj->kij", share, away, away) / mass[:, None, None] + ridge
        return Background(mass / mass.sum(), means, covariances)


@dataclass(frozen=True)
class Mixture:
    """Background and clusters; ``weights`` (1 + C,) are the shares of the background and of each cluster."""

    background: Background
    clusters: tuple[Cluster, ...] = ()
    weights: np.ndarray = field(default_factory=lambda: np.ones(1))

    def log_joint(self, stars: Field, background: np.ndarray | None = None) -> list[np.ndarray]:
        """log density of every part, weights included: [(N, K)] and (N, 4) for each cluster."""
        parts = [
            self.background.parts(stars) if background is None else background,
            *(c.log_parts(stars) for c in self.clusters),
        ]
        return [part + np.log(w) for part, w in zip(parts, self.weights, strict=True)]

    def log_density(self, stars: Field) -> np.ndarray:
        """(N,), nats; per (mas, (mas/yr)², deg²)."""
        return _logsumexp(np.concatenate(self.log_joint(stars), axis=1))

    def membership(self, stars: Field) -> np.ndarray:
        """p(cluster c | star), (N, C)."""
        joint = self.log_joint(stars)
        total = _logsumexp(np.concatenate(joint, axis=1))
        if not self.clusters:
            return np.zeros((len(stars), 0))
        return np.stack([np.exp(_logsumexp(part) - total) for part in joint[1:]], axis=1)


def fit_mixture(
    stars: Field,
    start: Mixture,
    iterations: int = 100,
    tolerance: float = 1e-5,
    fixed_background: bool = False,
) -> tuple[Mixture, float]:
    """EM from ``start``: the mixture and Σ log density; stops when a star gains less than ``tolerance`` nats.

    fixed_background: only clusters and weights are fitted.
    """
    mixture, previous = start, -np.inf
    fixed = start.background.parts(stars) if fixed_background else None
    for _ in range(iterations):
        joint = mixture.log_joint(stars, fixed)
        total = _logsumexp(np.concatenate(joint, axis=1))
        shares = [np.exp(part - total[:, None]) for part in joint]
        mass = np.array([share.sum() for share in shares])
        clusters = []
        for cluster, share in zip(mixture.clusters, shares[1:], strict=True):
            near = share.sum(1) > 1e-6  # the rest changes nothing and costs most of the time
            clusters.append(cluster.updated(stars[near], share[near]) if share.sum() > 1 else cluster)
        background = mixture.background if fixed_background else mixture.background.updated(stars, shares[0])
        mixture = Mixture(background, tuple(clusters), np.maximum(mass, 1e-6) / mass.sum())
        value = float(total.sum())
        if value - previous < tolerance * len(stars):
            break
        previous = value
    return mixture, float(mixture.log_density(stars).sum())


def start_cluster(stars: Field, rows: np.ndarray) -> Cluster | None:
    """A first guess from candidate stars, robust against strangers among them; None where there is no guess.

    Velocities use each star's parallax together with the candidates' (by precision): κμ/ϖ of a noisy parallax
    alone would spread a distant cluster over tens of km/s.
    """
    chosen = stars[rows]
    parallax, spread = _middle(chosen.y[:, 0])
    error = np.sqrt(chosen.covariance[:, 0, 0])
    depth = max(np.sqrt(max(spread**2 - float(np.median(error)) ** 2, 0.0)), 0.02 * abs(parallax))
    good = np.abs(chosen.y[:, 0] - parallax) < 3 * np.hypot(error, spread)
    if parallax <= 0 or good.sum() < 5:
        return None
    chosen, error = chosen[good], error[good]
    weight = 1 / error**2
    shrunk = (chosen.y[:, 0] * weight + parallax / depth**2) / (weight + 1 / depth**2)
    good = shrunk > 0.3 * parallax
    chosen, shrunk = chosen[good], shrunk[good]
    if len(chosen) < 5:
        return None
    motion_error = np.sqrt(np.median(chosen.covariance[:, [1, 2], [1, 2]]))
    noise = float(motion_error * KAPPA / parallax)
    covariance = chosen.covariance.copy()
    covariance[:, 0, :] = covariance[:, :, 0] = 0.0  # the parallaxes are not the stars' own any more
    keep, velocity = np.ones(len(chosen), dtype=bool), np.zeros(3)
    for _ in range(5):
        used = chosen[keep]
        velocity = common_velocity(
            used.direction, shrunk[keep], used.y[:, 1:], covariance[keep], scatter=2.0
        ).value
        along = np.einsum("nki,i->nk", tangent_basis(chosen.direction), velocity)
        away = np.linalg.norm(KAPPA * chosen.y[:, 1:] / shrunk[:, None] - along, axis=1)
        keep = away <= max(3.0, 2.5 * float(np.median(away)))
        if keep.sum() < 5:
            return None
    used = chosen[keep]
    # the median length of a two-dimensional Gaussian is 1.18 σ
    dispersion = np.sqrt(max(float(np.median(away[keep]) / 1.18) ** 2 - noise**2, 0.3**2))
    centre = np.median(used.offsets, axis=0)
    width = 1.4826 * np.median(np.abs(used.offsets - centre), axis=0)
    return Cluster(
        parallax=float(np.median(shrunk[keep])),
        velocity=velocity,
        depth=max(depth, _FLOORS[0]),
        dispersion=dispersion,
        centre=centre,
        shape=np.diag(np.maximum(width, 2 * _FLOORS[2]) ** 2),
    )


def _middle(values: np.ndarray) -> tuple[float, float]:
    """Median and 1.4826 × median absolute deviation."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))


def choose_background(y: np.ndarray, most: int, seed: int = 0) -> int:
    """The number of background components with the lowest BIC."""
    counts = range(1, most + 1)
    return gaussian_mixture(y / _scale(y), counts, seed=seed, restarts=1, floor=_RIDGE).components


def _scale(y: np.ndarray) -> np.ndarray:
    """Half the central 68 % of each column."""
    low, high = np.percentile(y, [16, 84], axis=0)
    return np.maximum((high - low) / 2, 1e-6)


def _logsumexp(values: np.ndarray) -> np.ndarray:
    top = values.max(1, keepdims=True)
    return (top + np.log(np.exp(values - top).sum(1, keepdims=True)))[:, 0]
