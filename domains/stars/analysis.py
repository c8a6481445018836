"""From latents to clusters: candidates, refinement, parameters beside the literature's, and the members."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.registry import Findings

from . import kinematics
from .clusters import METHODS, Found, candidates_by_method, find_clusters
from .footprint import Footprint
from .member_files import COLUMNS, Origin, write_members
from .mixture import MOTION_MIN, Cluster, Field
from .settings import POSITIONS
from .uncertainty import errors_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from sciencevae.runs import Run, Variant

__all__ = [
    "LISTED",
    "LITERATURE",
    "PLEIADES_NOTE",
    "active_latents",
    "cluster_name",
    "clusters",
    "informative",
    "motion_distance",
    "quantities",
    "star_field",
]

P98 = "Perryman et al. 1998, A&A 331, 81"
VL09 = "van Leeuwen 2009, A&A 497, 209"
#: what is known of two clusters, only ever set beside what is found: quantity -> (value, source)
LITERATURE: dict[str, dict[str, tuple[float, str]]] = {
    "hyades": {
        "members": (200, f"about, {P98}"),
        "parallax": (21.53, VL09),
        "distance": (46.34, P98),
        "convergent point, RA": (97.91, P98),
        "convergent point, Dec": (6.66, P98),
    },
    "pleiades": {
        "parallax": (8.18, f"Hipparcos, {VL09}; Gaia: 7.36"),
        "distance": (120.2, f"Hipparcos, {VL09}; Gaia: 136"),
    },
}
PLEIADES_NOTE = (
    "The Pleiades' parallax in Hipparcos, 8.18 mas or 120 pc, is known to disagree with Gaia's 7.36 mas or 136 pc; "
    "every distance to them here is made of Hipparcos' parallaxes and inherits that."
)
#: what the columns are, on the page
TITLES = {
    "parallax_mas": "parallax (mas)",
    "member_parallax_mas": "parallax, the cluster's used (mas)",
    "pmra_mas_yr": "proper motion, RA (mas/yr)",
    "pmdec_mas_yr": "proper motion, Dec (mas/yr)",
    "beyond_3_sigma_of_the_motion": "beyond 3σ of the cluster's motion",
    "overlap_with_the_last": "overlap with the last method's (share)",
    "source_id": "star",
    "ra_deg": "RA (deg)",
    "dec_deg": "Dec (deg)",
    "residual_pmra_mas_yr": "less the cluster's motion, RA (mas/yr)",
    "residual_pmdec_mas_yr": "less the cluster's motion, Dec (mas/yr)",
    "magnitude": "magnitude (mag)",
    "colour": "colour (mag)",
    "absolute_magnitude": "absolute magnitude (mag)",
    "magnitude_from": "from (mag)",
    "magnitude_to": "to (mag)",
    "expected_members": "expected members",
    "listed": "stars with p > 0.5",
    "contamination": "expected contamination (share)",
    "completeness": "expected completeness (share)",
}
_ACTIVE = 0.1  # share of a latent's variance that is between stars; below, it says nothing of a star
_PLAUSIBLE = 0.3  # overlap from which a candidate is called the cluster
_WIDE = 0.2  # error of the radial velocity, as a share of the speed, below which motions are seen to converge
LISTED = 0.001  # members of lower probability are not listed


@dataclass(frozen=True)
class Result:
    """What was found in one variant's field."""

    variant: str
    stars: Field
    centre: np.ndarray
    found: Found
    names: tuple[str, ...]
    #: the candidates that look most like each cluster: method -> rows of each candidate
    methods: dict[str, list[np.ndarray]]
    dataset: xr.Dataset


def clusters(run: Run) -> Findings:
    """Find the clusters of every variant's field; writes ``members.parquet`` beside each variant's model."""
    import pandas as pd
    from threadpoolctl import threadpool_limits

    # thousands of small products: a second thread only makes the first one wait
    with threadpool_limits(1):
        results = [_result(variant) for variant in run.variants.values()]
    tables = {
        "clusters": pd.concat([_parameters(result) for result in results], ignore_index=True),
        "methods": pd.concat([_methods(result) for result in results], ignore_index=True),
        "magnitudes": pd.concat([_magnitudes(result) for result in results], ignore_index=True),
        "members": pd.concat([_members(result) for result in results], ignore_index=True),
    }
    metrics = {result.variant: _metrics(result) for result in results}
    for result in results:
        _write_members(tables["members"], result, run.variants[result.variant])
    notes = [
        "A cluster is a compact part of an error-aware mixture that raises the likelihood of held-out stars; its "
        "place in parallax and proper motion was not given, and colours have no say in a probability. Names are "
        "given afterwards. Errors are of the curvature of the likelihood and the scatter of its slope, "
        "memberships left free; Gaia's systematic errors (0.01 to 0.03 mas in parallax, 0.02 mas/yr in proper "
        "motion; Lindegren et al. 2021) are in none but that of a velocity along the line of sight."
    ]
    for result in results:
        notes += _stated(result)
    if any("pleiades" in result.names for result in results):
        notes.append(PLEIADES_NOTE)
    found = {name: table for name, table in tables.items() if len(table)}
    return Findings(metrics, found, tuple(notes), TITLES)


def star_field(data: xr.Dataset) -> tuple[Field, np.ndarray, float]:
    """The stars of a prepared data set, the unit vector of the field's centre, and its radius in degrees.

    A star without parallax or proper motion has errors a thousand times the field's: it belongs where it stands.
    """
    provenance = json.loads(data.attrs["provenance"])
    centre = kinematics.directions(*np.array(provenance["centre_deg"]))
    x, direction = data["x"].values, data["condition"].values
    y, covariance = x[:, 3:6].copy(), data["noise"].values[:, 3:6, 3:6].copy()
    unknown = np.isnan(y).any(axis=1)
    if unknown.any():
        y[unknown] = np.median(y[~unknown], axis=0)
        covariance[unknown] = np.diag((1000 * y[~unknown].std(axis=0)) ** 2)
    offsets = kinematics.azimuthal(direction, centre)
    footprint = Footprint.from_list(provenance["footprint"])
    return Field(y, covariance, offsets, direction, footprint), centre, float(provenance["radius_deg"])


def active_latents(z: np.ndarray, z_std: np.ndarray) -> np.ndarray:
    """Which of the D latents carry information: var(mean) / (var(mean) + mean variance) above 0.1, (D,) bool."""
    between = z.var(0)
    return between / (between + (z_std**2).mean(0)) > _ACTIVE


def informative(z: np.ndarray, z_std: np.ndarray) -> np.ndarray:
    """The latents (N, D) that carry information; all of them where none does."""
    used = active_latents(z, z_std)
    return z[:, used] if used.any() else z


def cluster_name(place: np.ndarray, parallax: float, number: int) -> str:
    """The name of a known cluster at this direction and parallax (within 25 %), else ``cluster N``."""
    for name, (ra, dec, radius, known) in POSITIONS.items():
        away = kinematics.separation(place, kinematics.directions(np.array(ra), np.array(dec)))
        if away < 0.35 * radius and abs(parallax / known - 1) < 0.25:
            return name
    return f"cluster {number}"


def motion_distance(cluster: Cluster, stars: Field) -> np.ndarray:
    """How far each star's proper motion is from the cluster's at the star's own parallax, in σ (2 dof), (N,).

    The residual μ − ϖ (ê·V, n̂·V)/κ with the error of μ and ϖ together, what the parallaxes scatter beyond it and
    the dispersion of the cluster.
    """
    along = np.einsum("nki,i->nk", kinematics.tangent_basis(stars.direction), cluster.velocity)
    turn = np.concatenate([-along[:, :, None] / kinematics.KAPPA, np.tile(np.eye(2), (len(stars), 1, 1))], 2)
    residual = np.einsum("nij,nj->ni", turn, stars.y)
    scatter = (cluster.parallax * cluster.dispersion / kinematics.KAPPA) ** 2
    own = stars.covariance.copy()
    own[:, 0, 0] += cluster.excess**2
    covariance = turn @ own @ turn.transpose(0, 2, 1) + scatter * np.eye(2)
    return np.sqrt(np.einsum("ni,nij,nj->n", residual, np.linalg.inv(covariance), residual))


def _result(variant: Variant) -> Result:
    settings, latents, data = variant.run.settings.analyse, variant.latents, variant.data.load()
    # the latents lie in the order of the prepared store
    if not np.array_equal(latents["source_id"].values, data["source_id"].values):
        raise RuntimeError("latents.zarr and the prepared data differ in their stars: encode again")
    stars, centre, _ = star_field(data)
    features = informative(latents["z"].values.astype(float), latents["z_std"].values.astype(float))
    groups = candidates_by_method(stars, features, settings)
    found = find_clusters(stars, [rows for each in groups.values() for rows in each], settings)
    methods = {name: groups[name] for name in METHODS}
    places = [kinematics.from_azimuthal(c.centre, centre) for c in found.mixture.clusters]
    names: list[str] = []
    for number, (cluster, place) in enumerate(zip(found.mixture.clusters, places, strict=True), start=1):
        name = cluster_name(place, cluster.parallax, number)
        names.append(name if name not in names else f"cluster {number}")
    return Result(variant.name, stars, centre, found, tuple(names), methods, data)


def _parameters(result: Result) -> pd.DataFrame:
    """One row a quantity: value, error, unit, literature, source."""
    import pandas as pd

    rows = []
    for number, name in enumerate(result.names):
        known = LITERATURE.get(name, {})
        for quantity, (value, error, unit) in quantities(
            result.stars, result.centre, result.found, number
        ).items():
            literature, source = known.get(quantity, (np.nan, ""))
            rows.append((result.variant, name, quantity, value, error, unit, literature, source))
    columns = ["variant", "cluster", "quantity", "value", "error", "unit", "literature", "source"]
    return pd.DataFrame(rows, columns=columns)


def quantities(
    stars: Field, centre: np.ndarray, found: Found, number: int
) -> Mapping[str, tuple[float, float, str]]:
    """Parameters of cluster ``number`` of a field with this centre (unit vector): name -> value, error, unit."""
    nan, cluster = float("nan"), found.mixture.clusters[number]
    probability = found.membership[:, number]
    errors = errors_of(stars, found.mixture, number)
    sigma, place_error = np.sqrt(np.diag(errors.motion)), np.sqrt(np.diag(errors.centre))
    place = kinematics.from_azimuthal(cluster.centre, centre)
    ra, dec = kinematics.sky_position(place)
    basis = kinematics.tangent_basis(place)
    # (ϖ, V) -> μ at the centre
    turn = (
        np.concatenate([(basis @ cluster.velocity)[:, None], cluster.parallax * basis], 1) / kinematics.KAPPA
    )
    motion, motion_error = turn[:, 0] * cluster.parallax, np.sqrt(np.diag(turn @ errors.motion @ turn.T))
    gain, gain_error = found.gains[number]
    widths = np.sqrt(np.linalg.eigvalsh(cluster.shape))
    speed_unit = kinematics.KAPPA / cluster.parallax
    rows = {
        "members": (float((probability > 0.5).sum()), nan, "p > 0.5"),
        "expected members": (float(probability.sum()), len(stars) * errors.weight, ""),
        "held-out gain": (gain, gain_error, "nats"),
        "centre, RA": (float(ra), float(place_error[0] / np.cos(np.radians(dec))), "deg"),
        "centre, Dec": (float(dec), float(place_error[1]), "deg"),
        "core, longer axis (1σ)": (float(widths[1]), nan, "deg"),
        "core, shorter axis (1σ)": (float(widths[0]), nan, "deg"),
        "parallax": (cluster.parallax, float(sigma[0]), "mas"),
        "distance": (1000 / cluster.parallax, float(1000 * sigma[0] / cluster.parallax**2), "pc"),
        "depth (1σ), as the width": (cluster.depth, cluster.depth / (2 * np.sqrt(probability.sum())), "mas"),
        "parallax scatter beyond errors": (cluster.excess, errors.excess, "mas"),
        "proper motion at the centre, RA": (float(motion[0]), float(motion_error[0]), "mas/yr"),
        "proper motion at the centre, Dec": (float(motion[1]), float(motion_error[1]), "mas/yr"),
        "proper motion dispersion, core": (cluster.scatter, errors.scatter, "mas/yr"),
        "velocity dispersion, core": (speed_unit * cluster.scatter, speed_unit * errors.scatter, "km/s"),
    }
    # motions over the cluster's width change by V_r ϖ/κ times it, and are systematically wrong by MOTION_MIN
    systematic = MOTION_MIN * speed_unit / np.radians(widths[1])
    velocity = kinematics.Velocity(
        cluster.velocity, errors.motion[1:, 1:] + systematic**2 * np.outer(place, place)
    )
    radial = float(np.sqrt(place @ velocity.covariance @ place))
    speed = float(np.linalg.norm(cluster.velocity))
    if not radial < _WIDE * speed:
        return rows
    unit = cluster.velocity / speed
    point = kinematics.convergent_point_of(velocity)
    point_error = np.sqrt(np.diag(point.covariance))
    return rows | {
        "convergent point, RA": (point.ra, float(point_error[0] / np.cos(np.radians(point.dec))), "deg"),
        "convergent point, Dec": (point.dec, float(point_error[1]), "deg"),
        "speed": (speed, float(np.sqrt(unit @ velocity.covariance @ unit)), "km/s"),
        "radial velocity at the centre, from perspective": (float(cluster.velocity @ place), radial, "km/s"),
    }


def _methods(result: Result) -> pd.DataFrame:
    """The same cluster by each kind of candidate, and after refinement."""
    import pandas as pd

    rows = []
    for number, (name, cluster) in enumerate(zip(result.names, result.found.mixture.clusters, strict=True)):
        final = result.found.membership[:, number] > 0.5
        away = motion_distance(cluster, result.stars)
        chosen = {method: _matching(groups, final) for method, groups in result.methods.items()}
        chosen["error-aware mixture"] = final
        for method, members in chosen.items():
            if members is None:
                rows.append((result.variant, name, method, 0, *[np.nan] * 3, pd.NA, np.nan))
                continue
            parallax, pmra, pmdec = np.median(result.stars.y[members], axis=0)
            share = 2 * (members & final).sum() / (members.sum() + final.sum())
            off = int((away[members] > 3.44).sum())  # 99.73 % of two degrees of freedom
            rows.append((result.variant, name, method, int(members.sum()), parallax, pmra, pmdec, off, share))
    columns = ["variant", "cluster", "method", "stars", "parallax_mas", "pmra_mas_yr", "pmdec_mas_yr"]
    table = pd.DataFrame(rows, columns=[*columns, "beyond_3_sigma_of_the_motion", "overlap_with_the_last"])
    return table.astype({"beyond_3_sigma_of_the_motion": "Int64"})


def _matching(groups: list[np.ndarray], final: np.ndarray) -> np.ndarray | None:
    """The candidate that shares most stars with ``final``; None when none is it."""
    best, best_share = None, _PLAUSIBLE
    for rows in groups:
        members = np.zeros_like(final)
        members[rows] = True
        share = (members & final).sum() / max((members | final).sum(), 1)
        if share > best_share:
            best, best_share = members, share
    return best


def _magnitudes(result: Result) -> pd.DataFrame:
    """What the probabilities say of a list cut at p > 0.5, by magnitude.

    Contamination Σ (1 − p)/n over the n stars of the list; completeness Σ p over the list, over Σ p of all stars.
    """
    import pandas as pd

    magnitude = result.dataset["magnitude"].values
    rows: list[tuple[Any, ...]] = []
    for number, name in enumerate(result.names):
        probability = result.found.membership[:, number]
        listed = probability > 0.5
        if not np.isfinite(magnitude[listed]).any():
            continue
        low, high = np.nanmin(magnitude[listed]), np.nanmax(magnitude[listed])
        edges = np.arange(np.floor(low), np.ceil(high) + 1)
        for start, stop in pairwise(edges):
            here = (magnitude >= start) & (magnitude < stop)
            p, mine = probability[here], listed[here]
            expected = p.sum()
            false = (1 - p[mine]).mean() if mine.any() else np.nan
            share = p[mine].sum() / expected if expected > 0.5 else np.nan
            rows.append((result.variant, name, start, stop, int(mine.sum()), expected, false, share))
    columns = ["variant", "cluster", "magnitude_from", "magnitude_to", "listed", "expected_members"]
    return pd.DataFrame(rows, columns=[*columns, "contamination", "completeness"])


def _members(result: Result) -> pd.DataFrame:
    """Stars with their best cluster, from p = 0.1 on, most probable first.

    ``member_parallax_mas`` is what the star's own parallax and its cluster's say together.
    """
    import pandas as pd

    if not result.names:
        return pd.DataFrame()
    data, found = result.dataset, result.found
    best = found.membership.argmax(1)
    probability = found.membership.max(1)
    parallax = _shrunk_parallax(result, best)
    velocity = np.stack([cluster.velocity for cluster in found.mixture.clusters])[best]
    residual = result.stars.y[:, 1:] - kinematics.proper_motion(velocity, result.stars.direction, parallax)
    with np.errstate(invalid="ignore", divide="ignore"):
        absolute = data["magnitude"].values + 5 * np.log10(parallax / 100)
    table = pd.DataFrame(
        {
            "variant": result.variant,
            "source_id": data["source_id"].values,
            "cluster": np.array(result.names)[best],
            "probability": probability,
            "ra_deg": data["ra"].values,
            "dec_deg": data["dec"].values,
            "parallax_mas": result.stars.y[:, 0],
            "member_parallax_mas": parallax,
            "pmra_mas_yr": result.stars.y[:, 1],
            "pmdec_mas_yr": result.stars.y[:, 2],
            "residual_pmra_mas_yr": residual[:, 0],
            "residual_pmdec_mas_yr": residual[:, 1],
            "magnitude": data["magnitude"].values,
            "colour": data["colour"].values,
            "absolute_magnitude": absolute,
        }
    )
    table = table[table["probability"] >= LISTED]
    return table.sort_values(["cluster", "probability"], ascending=[True, False], ignore_index=True)


def _shrunk_parallax(result: Result, best: np.ndarray) -> np.ndarray:
    """A member's parallax from its own and its cluster's, each by its precision, mas (N,)."""
    members = result.found.mixture.clusters
    prior = np.array([c.parallax for c in members])[best]
    depth = np.array([max(c.depth, 0.005 * c.parallax) for c in members])[best]
    noise = result.stars.covariance[:, 0, 0] + np.array([c.excess**2 for c in members])[best]
    return (result.stars.y[:, 0] / noise + prior / depth**2) / (1 / noise + 1 / depth**2)


def _write_members(members: pd.DataFrame, result: Result, variant: Variant) -> None:
    """``members`` as Parquet, FITS and VOTable; without rows where there is no cluster."""
    import pandas as pd

    columns = {"source_id": "int64", "cluster": "str", "probability": "float64"}
    mine = pd.DataFrame(columns=list(columns)).astype(columns)
    if len(members):
        mine = members.loc[members["variant"] == result.variant, [c for c in members if c in COLUMNS]]
    provenance = json.loads(result.dataset.attrs["provenance"])
    year = provenance["epoch"].removeprefix("J")
    epoch = float(year) if year.replace(".", "", 1).isdigit() else None
    write_members(mine.astype(columns), variant.folder / "members", Origin(provenance["catalogue"], epoch))


def _stated(result: Result) -> list[str]:
    """The quality cuts and corrections of the field, and what was noticed as it was read, a sentence each."""
    provenance = json.loads(result.dataset.attrs["provenance"])
    cuts = ", ".join(f"{name} {limit}" for name, limit in provenance["quality cuts"].items())
    out = {**provenance["left out in the whole catalogue"], **provenance["left out in the cone"]}
    left = ", ".join(f"{number} stars: {reason}" for reason, number in out.items() if number)
    corrections = ", ".join(f"{name}: {value}" for name, value in provenance["corrections"].items())
    where = f"{provenance['catalogue']} ({result.variant})"
    return [
        f"{where}: {len(result.stars)} stars over {provenance['area_deg2']:.3g} square degrees, epoch "
        f"{provenance['epoch']}. Quality cuts: {cuts or 'none'}. Left out: {left or 'none'}. "
        f"Corrections: {corrections or 'none'}.",
        *(f"{where}: {note}." for note in provenance["notes"]),
    ]


def _metrics(result: Result) -> dict[str, Any]:
    found = result.found
    return {
        "stars": len(result.stars),
        "candidates": {method: len(groups) for method, groups in result.methods.items()},
        "background components": len(found.mixture.background.weights),
        "clusters": len(result.names),
        "members": {name: int((found.membership[:, n] > 0.5).sum()) for n, name in enumerate(result.names)},
        "refused": sorted({reason for reason in found.refused if reason.startswith("candidate")}),
    }
