"""An error-aware mixture: clusters that share one space velocity, in front of a free background.

A star of a cluster has y = (ϖ, μα*, μδ) ~ N(ϖ_c J, C + σ_d² J Jᵀ + diag(σ_ϖ², s², s²)), J = (1, ê·V/κ, n̂·V/κ),
with C its own covariance; σ_d = ϖ_c σ_sky the depth, as a cluster is as deep as it is wide, and what is in front
moves faster; σ_ϖ what the parallaxes scatter beyond that and their errors; s = ϖ_c σ_v/κ the velocity dispersion.
On the sky it is a Gaussian, normalised over the footprint of the field. A star of the background has
y ~ Σ_k w_k N(m_k, V_k + C) with V_k no narrower than a field population, and on the sky the density
exp(g · offset). This is extreme deconvolution (Bovy, Hogg & Roweis 2011, Ann. Appl. Stat. 5, 1657) with the
projection of each star in it, by EM.

Note 1: a cluster is the sum of four such parts that share ϖ_c, V and centre. The spatial scale is that of the core
or ``_HALO`` times it (the Hyades have stars beyond the tidal radius), as many as fit; the velocity scale is that
of single stars, or ``_BINARY`` times it for the share ``_BINARIES`` of unresolved binaries whose photocentres
move. That share is not fitted: where the background is smoother than the field, it would take up what is missing.

Note 2: the M-step holds J and σ_d, which depend on ϖ_c, V and the width on the sky, at their values of the step
before. The likelihood may fall by as little as that moves it; a test follows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sciencevae.latents.cluster import gaussian_mixture

from .footprint import Footprint
from .kinematics import KAPPA, common_velocity, tangent_basis
from .packed import inverse, outer, packed, times, unpacked

__all__ = ["Background", "Cluster", "Field", "Mixture", "fit_background", "fit_clusters", "start_cluster"]

_HALO, _BINARY, _BINARIES = 3.0, 1.5, 0.05
_PARTS = np.array([(1.0, 1.0), (_HALO, 1.0), (1.0, _BINARY), (_HALO, _BINARY)])  # (spatial, velocity) factors
VELOCITY_PRIOR_KMS = 50.0  # V ~ N(0, 50²): only the radial part in a small field feels it
#: of σ_ϖ/mas, s/(mas/yr), σ_v/(km/s), sky scale in radii: EM must not shrink onto a pair of stars, and Gaia's own
#: systematics of 0.02 mas and mas/yr over a field are no dispersion (Lindegren et al. 2021, A&A 649, A2, sect. 5.6)
EXCESS_MIN, MOTION_MIN, _SPEED_MIN, _SKY_MIN = 0.02, 0.02, 0.1, 0.01
_PARALLAX_MIN = 0.05  # mas, below which κμ/ϖ is no velocity
_REACH = 6.0  # standard deviations beyond which a cluster has no density
_FAR = -1e300  # below any background's: a star that nothing explains is no member
_NARROWEST = 0.4  # standard deviation of a background component, in units of the field's own
_LOG_2PI = float(np.log(2 * np.pi))


def velocity_prior(parallax: float) -> float:
    """The precision of u = ϖV/κ that V ~ N(0, ``VELOCITY_PRIOR_KMS``²) gives, one axis, (mas/yr)⁻²."""
    return float((KAPPA / (max(parallax, _PARALLAX_MIN) * VELOCITY_PRIOR_KMS)) ** 2)


def scatter_min(parallax: float) -> float:
    """The smallest dispersion of proper motions that is fitted, mas/yr."""
    return max(MOTION_MIN, _SPEED_MIN * parallax / KAPPA)


@dataclass(frozen=True)
class Field:
    """The stars: y (N, 3) = (ϖ, μα*, μδ) · covariance (N, 3, 3) · offsets (N, 2) deg · direction (N, 3)."""

    y: np.ndarray
    covariance: np.ndarray
    offsets: np.ndarray
    direction: np.ndarray
    footprint: Footprint

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: np.ndarray | slice) -> Field:
        if isinstance(rows, np.ndarray) and rows.dtype == bool and rows.all():
            return self
        some = Field(
            self.y[rows], self.covariance[rows], self.offsets[rows], self.direction[rows], self.footprint
        )
        for name in ("basis", "columns", "entries"):  # cheaper to carry along than to make again
            some.__dict__[name] = getattr(self, name)[..., rows]
        return some

    @cached_property
    def basis(self) -> np.ndarray:
        """(2, 3, N): unit vectors towards east and north at each star."""
        return np.ascontiguousarray(np.moveaxis(tangent_basis(self.direction), 0, -1))

    @cached_property
    def columns(self) -> np.ndarray:
        """y as (3, N)."""
        return np.ascontiguousarray(self.y.T)

    @cached_property
    def entries(self) -> np.ndarray:
        """The covariances as ``packed``, (6, N)."""
        return packed(self.covariance)


@dataclass(frozen=True)
class Cluster:
    """Parallax mas · velocity (3,) km/s · excess scatter of the parallaxes mas · scatter mas/yr · centre (2,),
    shape (2, 2) on the sky · the share of the halo."""

    parallax: float
    velocity: np.ndarray
    excess: float
    scatter: float
    centre: np.ndarray
    shape: np.ndarray
    halo: float = 0.2

    @property
    def dispersion(self) -> float:
        """Of the velocity, one axis, km/s: κ s/ϖ."""
        return KAPPA * self.scatter / max(self.parallax, _PARALLAX_MIN)

    @property
    def depth(self) -> float:
        """Of the core along the line of sight, 1σ, mas: ϖ times its width on the sky."""
        return float(self.parallax * np.radians(np.linalg.det(self.shape) ** 0.25))

    @property
    def shares(self) -> np.ndarray:
        """Of the four parts, (4,)."""
        return np.outer([1 - _BINARIES, _BINARIES], [1 - self.halo, self.halo]).ravel()

    @property
    def width_pc(self) -> float:
        """Standard deviation of the core along its longer axis on the sky, parsec."""
        widest = np.sqrt(np.linalg.eigvalsh(self.shape)[-1])
        return float(1000 / max(self.parallax, _PARALLAX_MIN / 10) * np.tan(np.radians(widest)))

    def jacobian(self, stars: Field) -> np.ndarray:
        """J (3, N): how y changes with the parallax of a star that moves with the cluster."""
        return np.concatenate([np.ones((1, len(stars))), (self.velocity / KAPPA) @ stars.basis])

    def near(self, stars: Field) -> np.ndarray:
        """Where the cluster has a density at all, (N,) bool: within six standard deviations of its wings."""
        jacobian = self.jacobian(stars)
        variance = stars.entries[[0, 3, 5]] + (_HALO * self.depth * jacobian) ** 2
        variance[0] += self.excess**2
        variance[1:] += (_BINARY * self.scatter) ** 2
        close = ((stars.columns - self.parallax * jacobian) ** 2 < _REACH**2 * variance).all(axis=0)
        reach = _REACH * _HALO * np.sqrt(np.linalg.eigvalsh(self.shape)[-1])
        return close & (((stars.offsets - self.centre) ** 2).sum(1) < reach**2)

    def log_parts(self, stars: Field) -> np.ndarray:
        """log density of the four parts, shares included, (4, N); far outside next to −∞, not computed."""
        log = np.full((len(_PARTS), len(stars)), _FAR)
        near = self.near(stars)
        log[:, near] = self.parts(stars[near]).log
        return log

    def parts(self, stars: Field) -> Parts:
        """The density of each star under each of the four parts, and what the next step of EM needs of it."""
        jacobian = self.jacobian(stars)
        residual = stars.columns - self.parallax * jacobian
        depth = self.depth**2 * outer(jacobian)
        inside = self.inside(stars.footprint)
        sky, shares = self._log_sky(stars.offsets), np.log(self.shares / inside[0])
        logs, precisions, pulls = [], [], []
        # part by part: arrays of all four are beyond the processor's cache
        for number, (spatial, motion) in enumerate(_PARTS):
            total = stars.entries + spatial**2 * depth  # along the depth a part is as wide as on the sky
            total[0] += self.excess**2
            total[[3, 5]] += (motion * self.scatter) ** 2
            precision, log_det = inverse(total)
            pull = times(precision, residual)
            log = -0.5 * ((pull * residual).sum(0) + log_det + 3 * _LOG_2PI)
            logs.append(log + sky[number % 2] + shares[number])
            precisions.append(precision)
            pulls.append(pull)
        return Parts(np.stack(logs), precisions, pulls, inside)

    def _log_sky(self, offsets: np.ndarray) -> np.ndarray:
        """log density on the plane of the Gaussians of the core and the halo, (2, N), per square degree."""
        x, y = np.linalg.inv(np.linalg.cholesky(self.shape)) @ (offsets - self.centre).T
        scale = np.array([[1.0], [_HALO]])
        log = -0.5 * (x**2 + y**2) / scale**2 - 0.5 * np.linalg.slogdet(self.shape)[1]
        return log - 2 * np.log(scale) - _LOG_2PI

    def inside(self, footprint: Footprint) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each part's Gaussian on the plane the share inside the footprint (4,), and over what is inside the
        mean of the offset (4, 2) and of its square from the centre (4, 2, 2)."""
        grid = footprint.grid
        weight = np.exp(self._log_sky(grid)) * footprint.area / len(grid)  # (2, M)
        share = weight.sum(1)
        away = grid - self.centre
        squares = away[:, [0, 0, 1]] * away[:, [0, 1, 1]]
        mean, square = weight @ away, (weight @ squares)[:, [[0, 1], [1, 2]]]
        mean, square = mean / share[:, None].clip(1e-9), square / share[:, None, None].clip(1e-9)
        # what falls between the points of the grid is inside whole
        small = _PARTS[:2, 0] * np.sqrt(np.linalg.eigvalsh(self.shape)[0]) < 2 * footprint.step
        share[small], mean[small] = 1.0, 0.0
        square[small] = self.shape * _PARTS[:2][small, 0, None, None] ** 2
        twice = [0, 1, 0, 1]  # with both velocity scales
        return np.clip(share, 1e-3, 1.0)[twice], mean[twice], square[twice]

    def updated(self, stars: Field, share: np.ndarray, parts: Parts) -> Cluster:
        """One M-step: ``share`` (4, N) is p(part j | star n); parts: those of the cluster as it is."""
        mass = share.sum()
        # posterior moments of the parallax's excess and of the velocity's scatter, given y
        weighted, excess2, scatter2 = np.zeros((6, len(stars))), 0.0, 0.0
        for own, (_, factor), precision, pull in zip(share, _PARTS, parts.precision, parts.pull, strict=True):
            weighted += own * precision
            prior = self.excess**2
            excess2 += own @ ((prior * pull[0]) ** 2 + prior - prior**2 * precision[0]) / mass
            prior = (factor * self.scatter) ** 2
            moved2 = prior**2 * (pull[1] ** 2 + pull[2] ** 2)
            left = 2 * prior - prior**2 * (precision[3] + precision[5])
            scatter2 += own @ (moved2 + left) / (2 * factor**2 * mass)
        # ϖ and u = ϖV/κ enter linearly: y = (ϖ, ê·u, n̂·u)
        (east, north), (a, b, c, d, e, f) = stars.basis, weighted
        turned_east, turned_north = d * east + e * north, e * east + f * north
        normal = np.empty((4, 4))
        normal[0, 0] = a.sum()
        normal[0, 1:] = normal[1:, 0] = east @ b + north @ c
        normal[1:, 1:] = turned_east @ east.T + turned_north @ north.T
        normal[1:, 1:] += np.eye(3) * velocity_prior(self.parallax)
        y = stars.columns
        right = np.append(a @ y[0] + b @ y[1] + c @ y[2], east @ (b * y[0]) + north @ (c * y[0]))
        right[1:] += turned_east @ y[1] + turned_north @ y[2]
        solution = np.linalg.solve(normal, right)
        parallax = max(float(solution[0]), _PARALLAX_MIN / 10)
        velocity = KAPPA * solution[1:] / parallax
        centre, shape = self._updated_sky(stars, share, parts.inside)
        return replace(
            self,
            parallax=parallax,
            velocity=velocity,
            excess=max(float(np.sqrt(excess2)), EXCESS_MIN),
            scatter=max(float(np.sqrt(scatter2)), scatter_min(parallax)),
            centre=centre,
            shape=shape,
            halo=float((share[[1, 3]].sum() + 0.5) / (mass + 2.0)),
        )

    def _updated_sky(
        self, stars: Field, share: np.ndarray, inside: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Centre and shape: of the stars, and of those that the model expects outside the footprint.

        EM for a truncated Gaussian (Dempster, Laird & Rubin 1977, sect. 4.2): to each part's stars come
        n (1 − a)/a unseen ones, a its share inside, with the moments of the part outside.
        """
        seen, mean, square = inside
        count, scale2 = share.sum(1), _PARTS[:, 0] ** 2
        away = stars.offsets - self.centre
        whole = count / seen / scale2  # all the stars of a part, seen and not
        weight = share / scale2[:, None]
        first = weight @ away - (count / scale2)[:, None] * mean
        shift = first.sum(0) / whole.sum()
        second = away.T @ (weight.sum(0)[:, None] * away)
        outside = self.shape * scale2[:, None, None] - seen[:, None, None] * square
        second += (whole[:, None, None] * outside).sum(0)
        shape = (second - np.outer(shift, shift) * whole.sum()) / (count / seen).sum()
        size = stars.footprint.size
        values, vectors = np.linalg.eigh(shape)
        # wider than the field is flat over it
        values = np.clip(values, (_SKY_MIN * size) ** 2, size**2)
        return self.centre + shift, (vectors * values) @ vectors.T


class Parts(NamedTuple):
    """log density with the shares of the parts in it (4, N) · of each part the precision P, ``packed`` (6, N), and
    P (y − ϖJ) (3, N) · what of it lies inside the footprint."""

    log: np.ndarray
    precision: list[np.ndarray]
    pull: list[np.ndarray]
    inside: tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Background:
    """Gaussians in y without its errors: weights (K,), means (K, 3), covariances (K, 3, 3) · scale (3,) of the
    field · gradient (2,) of the logarithm of the density on the sky, per degree."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    scale: np.ndarray
    gradient: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def log_sky(self, offsets: np.ndarray, footprint: Footprint) -> np.ndarray:
        """log density on the sky (N,), per square degree: ∝ exp(g · offset), normalised over the footprint."""
        norm = np.log(np.exp(footprint.grid @ self.gradient).mean() * footprint.area)
        return offsets @ self.gradient - norm

    def parts(self, stars: Field) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each component the log density with its weight (N,), and what the next step of EM needs: the precision
        P, ``packed`` (6, N), and P (y − m) (3, N)."""
        sky = self.log_sky(stars.offsets, stars.footprint)
        for weight, mean, own in zip(self.weights, self.means, self.covariances, strict=True):
            precision, log_det = inverse(packed(own)[:, None] + stars.entries)
            residual = stars.columns - mean[:, None]
            pull = times(precision, residual)
            log = np.log(weight) - 0.5 * ((pull * residual).sum(0) + log_det + 3 * _LOG_2PI)
            yield log + sky, precision, pull

    def log_density(self, stars: Field) -> np.ndarray:
        """(N,), nats; per (mas, (mas/yr)², deg²)."""
        return logsumexp(np.stack([log for log, _, _ in self.parts(stars)]))

    def updated(
        self, stars: Field, share: np.ndarray, precisions: Sequence[np.ndarray], pulls: Sequence[np.ndarray]
    ) -> Background:
        """One M-step of extreme deconvolution: ``share`` (K, N) is p(component | star); the rest: of ``parts``."""
        mass = share.sum(1) + 1e-9
        means, covariances = np.empty_like(self.means), np.empty_like(self.covariances)
        for k, (mean, own) in enumerate(zip(self.means, self.covariances, strict=True)):
            moved = own @ pulls[k]  # of the true y from the mean, expected
            shift = moved @ share[k] / mass[k]
            means[k] = mean + shift
            away = moved - shift[:, None]
            left = own - own @ unpacked(precisions[k] @ share[k]) @ own / mass[k]
            covariances[k] = (share[k] * away) @ away.T / mass[k] + left
        return replace(
            self,
            weights=mass / mass.sum(),
            means=means,
            covariances=_no_narrower(covariances, self.scale),
            gradient=self._gradient(stars, share.sum(0)),
        )

    def _gradient(self, stars: Field, weight: np.ndarray) -> np.ndarray:
        """The exponential family's M-step: that g for which the mean offset is the stars' own; one Newton step."""
        grid = stars.footprint.grid
        density = np.exp(grid @ self.gradient)
        density /= density.sum()
        mean = density @ grid
        spread = np.einsum("m,mi,mk->ik", density, grid - mean, grid - mean)
        step = np.linalg.solve(spread, weight @ stars.offsets / weight.sum() - mean)
        limit = 2.0 / stars.footprint.size  # a factor of 50 across the field is no gradient
        return np.clip(self.gradient + step, -limit, limit)


@dataclass(frozen=True)
class Mixture:
    """Background and clusters; ``weights`` (1 + C,) are the shares of the background and of each cluster."""

    background: Background
    clusters: tuple[Cluster, ...] = ()
    weights: np.ndarray = field(default_factory=lambda: np.ones(1))

    def log_joint(self, stars: Field, background: np.ndarray | None = None) -> np.ndarray:
        """log of weight · density of the background and of each cluster, (1 + C, N)."""
        behind = self.background.log_density(stars) if background is None else background
        rows = [behind, *(logsumexp(cluster.log_parts(stars)) for cluster in self.clusters)]
        return np.stack(rows) + np.log(self.weights)[:, None]

    def log_density(self, stars: Field, background: np.ndarray | None = None) -> np.ndarray:
        """(N,), nats; per (mas, (mas/yr)², deg²)."""
        return logsumexp(self.log_joint(stars, background))

    def membership(self, stars: Field) -> np.ndarray:
        """p(cluster c | star), (N, C)."""
        joint = self.log_joint(stars)
        return np.exp(joint[1:] - logsumexp(joint)).T


def fit_background(
    stars: Field, most: int, weight: np.ndarray | None = None, start: Background | None = None,
    iterations: int = 30, seed: int = 0,
) -> Background:  # fmt: skip
    """The background of ``stars``, each counted ``weight`` (N,) times; from ``start``, or from Gaussians fitted to
    the observed y, as many (up to ``most``) as BIC asks for."""
    weight = np.ones(len(stars)) if weight is None else weight
    background = start
    if background is None:
        scale = _scale(stars.y)
        some = np.random.default_rng(seed).permutation(len(stars))[:5000]
        counts = range(1, max(min(most, len(some) // 50), 1) + 1)
        em = gaussian_mixture(
            stars.y[some] / scale, counts, seed=seed, restarts=1, floor=_NARROWEST**2, patience=2
        ).chosen
        covariances = em.covariances_ * scale[:, None] * scale
        background = Background(em.weights_, em.means_ * scale, covariances, scale)
    previous = -np.inf
    for _ in range(iterations):
        logs, precisions, pulls = zip(*background.parts(stars), strict=True)
        parts = np.stack(logs)
        total = logsumexp(parts)
        background = background.updated(stars, weight * np.exp(parts - total), precisions, pulls)
        value = float(weight @ total)
        if value - previous < 1e-5 * weight.sum():
            break
        previous = value
    return background


def fit_clusters(
    stars: Field, mixture: Mixture, background: np.ndarray, elsewhere: float = 0.0, iterations: int = 60
) -> Mixture:
    """EM over the clusters and the weights of ``mixture`` in front of a background of log density (N,) that stays.

    elsewhere: so many more stars belong to the background alone. Only the stars near a cluster are computed. Stops
    when all stars together gain less than 0.01 nats.
    """
    previous = -np.inf
    for _ in range(iterations):
        near = [cluster.near(stars) for cluster in mixture.clusters]
        some = [stars[rows] for rows in near]
        parts = [c.parts(around) for c, around in zip(mixture.clusters, some, strict=True)]
        joint = np.full((1 + len(parts), len(stars)), _FAR)
        joint[0] = background
        for number, (part, rows) in enumerate(zip(parts, near, strict=True), start=1):
            joint[number, rows] = logsumexp(part.log)
        joint += np.log(mixture.weights)[:, None]
        total = logsumexp(joint)
        mass = np.exp(joint - total).sum(1)
        mass[0] += elsewhere
        clusters = []
        for number, cluster in enumerate(mixture.clusters):
            log = parts[number].log + np.log(mixture.weights[1 + number])
            share = np.exp(log - total[near[number]])
            kept = cluster if share.sum() < 3 else cluster.updated(some[number], share, parts[number])
            clusters.append(kept)
        value = float(total.sum()) + elsewhere * float(np.log(mixture.weights[0]))
        mixture = Mixture(mixture.background, tuple(clusters), np.maximum(mass, 1e-6) / mass.sum())
        if value - previous < 0.01:
            break
        previous = value
    return mixture


def start_cluster(stars: Field, rows: np.ndarray) -> Cluster | None:
    """A first guess from candidate stars, robust against strangers among them; None where there is no guess.

    Velocities use each star's parallax together with the candidates' (by precision): κμ/ϖ of a noisy parallax
    alone would spread a distant cluster over tens of km/s.
    """
    chosen = stars[rows]
    error = np.sqrt(chosen.covariance[:, 0, 0])
    parallax, spread = _middle(chosen.y[:, 0], 1 / error)
    excess2 = max(spread**2 - _middle(error, 1 / error)[0] ** 2, (0.02 * parallax) ** 2, EXCESS_MIN**2)
    parallax = max(parallax, _PARALLAX_MIN)
    chosen = chosen[np.abs(chosen.y[:, 0] - parallax) < 3 * np.hypot(error, spread)]
    if len(chosen) < 5:
        return None
    noise = chosen.covariance[:, 0, 0]
    shrunk = (chosen.y[:, 0] / noise + parallax / excess2) / (1 / noise + 1 / excess2)
    shrunk = np.maximum(shrunk, 0.3 * parallax)
    covariance = chosen.covariance.copy()
    covariance[:, 0, :] = covariance[:, :, 0] = 0.0  # the parallaxes are not the stars' own any more
    error = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)[:, 1:].mean(1))
    keep, floor = np.ones(len(chosen), dtype=bool), np.hypot(3 * MOTION_MIN, 3.0 * parallax / KAPPA)
    for turn in range(6):
        used = chosen[keep]
        velocity = common_velocity(
            used.direction, shrunk[keep], used.y[:, 1:], covariance[keep], scatter=2.0
        ).value
        expected = shrunk[:, None] * (velocity @ chosen.basis).T / KAPPA
        away = np.linalg.norm(chosen.y[:, 1:] - expected, axis=1)
        limit = np.hypot(floor, 3 * error)
        keep = away <= (np.maximum(limit, 2.5 * _middle(away, 1 / error)[0]) if turn < 3 else limit)
        if keep.sum() < 5:
            return None
    used, error, away = chosen[keep], error[keep], away[keep]
    # the median length of a two-dimensional Gaussian is 1.18 σ
    scatter2 = (_middle(away, 1 / error)[0] / 1.18) ** 2 - _middle(error, 1 / error)[0] ** 2
    centre = np.median(used.offsets, axis=0)
    width = 1.4826 * np.median(np.abs(used.offsets - centre), axis=0)
    size = stars.footprint.size
    return Cluster(
        parallax=float(np.average(shrunk[keep], weights=1 / error)),
        velocity=velocity,
        excess=float(np.sqrt(excess2)),
        scatter=float(np.sqrt(max(scatter2, MOTION_MIN**2, (0.3 * parallax / KAPPA) ** 2))),
        centre=centre,
        shape=np.diag(np.clip(width, 2 * _SKY_MIN * size, size) ** 2),
    )


def logsumexp(rows: np.ndarray) -> np.ndarray:
    """log Σ_k exp over the first axis of (K, N)."""
    top = rows.max(0)
    return top + np.log(np.exp(rows - top).sum(0))


def _middle(values: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Weighted median, and 1.4826 × weighted median absolute deviation."""

    def median(numbers: np.ndarray) -> float:
        order = np.argsort(numbers)
        return float(numbers[order][np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)])

    middle = median(values)
    return middle, 1.4826 * median(np.abs(values - middle))


def _no_narrower(covariances: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Covariances (K, 3, 3) with no axis below ``_NARROWEST`` of the field's: field stars are no cluster."""
    outer = scale[:, None] * scale
    values, vectors = np.linalg.eigh(covariances / outer)
    return (vectors * np.maximum(values, _NARROWEST**2)[:, None]) @ vectors.transpose(0, 2, 1) * outer


def _scale(y: np.ndarray) -> np.ndarray:
    """Half the central 68 % of each column."""
    low, high = np.percentile(y, [16, 84], axis=0)
    return np.maximum((high - low) / 2, 1e-6)
