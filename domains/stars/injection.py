"""Real fields with a known truth: a simulated cluster put in, or every cluster taken out.

``inject`` answers how many clusters are found, ``null_field`` how many are found where there is none. Both
keep what a simulated field can only imitate: the real stars' distribution, and their errors and correlations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sciencevae.errors import InputError

from . import kinematics
from .columns import CORRELATIONS
from .measurement import ERRORS, PARAMETERS, Errors, covariance, disturbed
from .population import OpenCluster, members
from .simulate import new_identifiers, until

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["inject", "null_field", "random_cluster"]

_MEASURES = [*ERRORS, *CORRELATIONS.values()]
#: what null_field moves together
_RESAMPLED = ["parallax", "pmra", "pmdec", "phot_g_mean_mag", "bp_rp"]


def inject(
    background: pd.DataFrame,
    stars: int = 30,
    seed: int = 0,
    *,
    cluster: OpenCluster | None = None,
    errors: Errors | None = None,
) -> pd.DataFrame:
    """A background of real stars with a simulated cluster of ``stars`` members among them, in random order.

    Each member takes the errors, correlations and RUWE of the background star nearest in G, and its true
    values are disturbed by them as ``errors`` says. Members lie in the background's outline on the sky and in
    its ranges of G and parallax, as if cut from the sky with it. cluster: default ``random_cluster``. The
    result has the background's columns, ``true_cluster`` (1: injected) and ``true_binary``;
    ``attrs["cluster"]`` holds the cluster's parameters.
    """
    import pandas as pd
    from scipy.spatial import ConvexHull

    random = np.random.default_rng(seed)
    chosen = cluster if cluster is not None else random_cluster(background, stars, random)
    disturbance = errors if errors is not None else Errors()
    centre, offsets = _on_sky(background)
    outline = ConvexHull(offsets).equations
    donors = background.dropna(subset=[*PARAMETERS, *_MEASURES, "phot_g_mean_mag"]).sort_values(
        "phot_g_mean_mag"
    )
    brightness = donors["phot_g_mean_mag"].to_numpy(float)
    parallax = background["parallax"].to_numpy(float)
    shallow, deep = np.nanmin(parallax), np.nanmax(parallax)

    def draw() -> pd.DataFrame:
        truth = members(random, chosen)
        magnitude = truth["magnitude"].to_numpy()
        truth = truth[(magnitude > brightness[0]) & (magnitude < brightness[-1])].reset_index(drop=True)
        magnitude = truth["magnitude"].to_numpy()
        above = np.searchsorted(brightness, magnitude).clip(1, len(brightness) - 1)
        nearer_below = magnitude - brightness[above - 1] < brightness[above] - magnitude
        like = donors.iloc[above - nearer_below].reset_index(drop=True)
        true = {name: truth[name].to_numpy() for name in PARAMETERS}
        return like.assign(
            **disturbed(random, true, covariance(like), disturbance),
            phot_g_mean_mag=magnitude,
            bp_rp=truth["colour"],
            true_binary=truth["binary"],
        )

    def catalogued(found: pd.DataFrame) -> np.ndarray:
        place = kinematics.azimuthal(_directions(found), centre)
        inside = (place @ outline[:, :2].T + outline[:, 2] <= 0).all(axis=1)
        return inside & found["parallax"].between(shallow, deep).to_numpy()

    added = until(stars, draw, catalogued, "the injected cluster")
    added["source_id"] = new_identifiers(random, stars, background["source_id"].to_numpy())
    for name in background.columns.intersection(["radial_velocity", "radial_velocity_error"]):
        added[name] = np.nan  # that of the donor is not the cluster's
    both = pd.concat(
        [background.assign(true_cluster=0, true_binary=False), added.assign(true_cluster=1)],
        ignore_index=True,
    )
    both = both.astype(background.dtypes.to_dict() | {"true_binary": bool})
    both = both.iloc[random.permutation(len(both))].reset_index(drop=True)
    both.attrs["cluster"] = chosen.model_dump()
    return both


def random_cluster(background: pd.DataFrame, stars: int, random: np.random.Generator) -> OpenCluster:
    """An open cluster that is not easy to see in this field.

    Parallax log-uniform in 0.2 to 3 mas (where the field has stars); proper motion that of a field star of
    the inner 80 %; centre in the inner half of the field; tidal radius 5 to 15 pc, 3 to 10 core radii (a near
    one fills the field); dispersion 0.2 to 1 km/s, age 0.05 to 5 Gyr (all log-uniform), A_G 0.3 to 1 mag/kpc.
    """
    centre, offsets = _on_sky(background)
    radius = float(np.sqrt(np.mean((offsets**2).sum(1)) * 2))  # of the disc with this spread
    motions = background[["pmra", "pmdec"]].dropna().to_numpy(float)
    away = np.linalg.norm((motions - np.median(motions, axis=0)) / _spread(motions), axis=1)
    pmra, pmdec = motions[random.choice(np.flatnonzero(away <= np.quantile(away, 0.8)))]
    nearest, farthest = np.nanquantile(background["parallax"], [0.99, 0.01])
    distance = 1000 / _log_uniform(random, max(farthest, 0.2), min(nearest, 3.0))
    tidal = _log_uniform(random, 5.0, 15.0)
    angle, away_from_centre = random.uniform(0, 2 * np.pi), 0.5 * radius * np.sqrt(random.uniform())
    place = kinematics.from_azimuthal(away_from_centre * np.array([np.sin(angle), np.cos(angle)]), centre)
    ra, dec = kinematics.sky_position(place)
    return OpenCluster(
        members=stars,
        ra=float(ra),
        dec=float(dec),
        distance_pc=distance,
        core_pc=tidal / _log_uniform(random, 3.0, 10.0),
        tidal_pc=tidal,
        pmra=pmra,
        pmdec=pmdec,
        radial_velocity=30 * random.normal(),
        dispersion_kms=_log_uniform(random, 0.2, 1.0),
        age_gyr=_log_uniform(random, 0.05, 5.0),
        metallicity=0.15 * random.normal(),
        extinction_mag=random.uniform(0.3, 1.0) * distance / 1000,
    )


def null_field(
    background: pd.DataFrame,
    members: np.ndarray | None = None,
    seed: int = 0,
    *,
    size: int | None = None,
    neighbours: int = 40,
    cells: int = 3,
) -> pd.DataFrame:
    """A field without a cluster, of stars resampled from a real one whose ``members`` (N,) bool are taken out.

    Stars are drawn with replacement. Parallax, proper motion, G and BP − RP of each move together a random
    part of the way to one of its ``neighbours`` nearest stars in these five (smoothed bootstrap on a scale
    that adapts to the density), while the errors, which go with G, stay its own. Positions are exchanged
    among the stars of each of cells² compartments of equal number, cut at a random angle, and moved likewise
    towards a neighbour on the sky.

    So the densities on the sky and in parallax, motion and colour stay, and gradients of one with the other
    over more than a third of the field; a clump of fewer than ``neighbours`` stars in motion, or one smaller
    than a compartment on the sky *and* in motion, what is left of a cluster by its catalogue, does not. No
    star leaves the outline of the data, which draws them together: in Gaia fields the distance to the 10th
    neighbour in (x, y, ϖ, μ) becomes 4 to 11 % smaller, so the null is a little denser than the field, not
    smoother. size: default the number left.
    """
    from scipy.spatial import cKDTree

    left = background if members is None else background[~np.asarray(members, bool)]
    if len(left) <= neighbours:
        raise InputError(f"a null field is resampled from more than {neighbours} stars, found {len(left)}")
    random = np.random.default_rng(seed)
    rows = random.integers(len(left), size=len(left) if size is None else size)
    stars = left.iloc[rows].reset_index(drop=True)

    values = left[_RESAMPLED].to_numpy(float)
    missing = np.isnan(values)
    centre, spread = np.nanmedian(values, axis=0), _spread(values)
    scaled = np.arcsinh((values - centre) / spread)  # tails drawn in: neighbours there are near too
    known = np.concatenate(
        [np.where(missing, 0.0, scaled), 10.0 * missing], axis=1
    )  # alike in what is missing
    moved = _towards_neighbours(random, scaled, cKDTree(known), known, rows, neighbours)
    resampled = dict(zip(_RESAMPLED, (centre + spread * np.sinh(moved)).T, strict=True))
    stars = stars.assign(**resampled).astype(left.dtypes[_RESAMPLED].to_dict())

    axis, offsets = _on_sky(left)
    exchanged = _exchanged(random, offsets[rows], rows, cells)
    places = _towards_neighbours(random, offsets, cKDTree(offsets), offsets, exchanged, neighbours)
    stars["ra"], stars["dec"] = kinematics.sky_position(kinematics.from_azimuthal(places, axis))
    stars["source_id"] = new_identifiers(random, len(stars))
    return stars


def _towards_neighbours(
    random: np.random.Generator,
    values: np.ndarray,
    tree: object,
    known: np.ndarray,
    rows: np.ndarray,
    count: int,
) -> np.ndarray:
    """``values`` of ``rows``, each a random part of the way to one of its nearest; NaN where its own is."""
    _, near = tree.query(known[rows], k=count + 1)  # type: ignore[attr-defined]
    other = values[near[np.arange(len(rows)), random.integers(1, count + 1, len(rows))]]
    own = values[rows]
    return own + random.uniform(size=(len(rows), 1)) * np.where(np.isnan(other), 0.0, other - own)


def _exchanged(random: np.random.Generator, offsets: np.ndarray, rows: np.ndarray, cells: int) -> np.ndarray:
    """``rows`` permuted within compartments: ``cells`` strips of equal number, each cut into ``cells``."""
    angle = random.uniform(0, 2 * np.pi)
    x, y = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) @ offsets.T
    changed = rows.copy()
    for strip in np.array_split(np.argsort(x), cells):
        for cell in np.array_split(strip[np.argsort(y[strip])], cells):
            changed[cell] = rows[random.permutation(cell)]
    return changed


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _spread(values: np.ndarray) -> np.ndarray:
    """Half the distance from the 16th to the 84th percentile of each column, robust and never zero."""
    low, high = np.nanquantile(values, [0.16, 0.84], axis=0)
    return np.maximum((high - low) / 2, 1e-9)


def _directions(stars: pd.DataFrame) -> np.ndarray:
    return kinematics.directions(stars["ra"].to_numpy(), stars["dec"].to_numpy())


def _on_sky(stars: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The mean direction (3,), and offsets (N, 2) from it in degrees."""
    direction = _directions(stars)
    centre = direction.mean(axis=0)
    centre = centre / np.linalg.norm(centre)
    return centre, kinematics.azimuthal(direction, centre)
