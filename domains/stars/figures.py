"""Figures of a field with its clusters: sky, motion, parallax, colour and magnitude, latents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.report.figures import COLOURS, DOUBLE_COLUMN

from . import kinematics
from .analysis import LITERATURE, PLEIADES_NOTE, active_latents, star_field

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sciencevae.runs import Run, Variant

__all__ = ["colour_magnitude", "convergent_point", "latent_map", "parallax", "proper_motion", "sky"]

_GREY = "#c8c8c8"
_CMAP, _CERTAIN = "viridis_r", "#440154"  # the colour of p = 1
_MARKERS = "o^sDv"
_SHOWN = 0.1  # lower membership probabilities are not drawn


def sky(run: Run) -> tuple[Figure, str]:
    """Where the members stand, and where they go."""
    figure, panels = _panels(run, 3.2, min(4.2 * len(run.variants), DOUBLE_COLUMN))  # a field is about square
    for axes, variant in zip(panels, run.variants.values(), strict=True):
        data, members = variant.data, _members(run, variant)
        _, centre, _ = star_field(data)
        middle, height = (float(v) for v in kinematics.sky_position(centre))
        axes.scatter(_near(data["ra"].values, middle), data["dec"].values, s=1.5, c=_GREY, linewidths=0)
        for name, marker, chosen in _clusters(members):
            ra = _near(chosen["ra_deg"].to_numpy(), middle)
            _coloured(axes, ra, chosen["dec_deg"], chosen, marker, f"{name} ({_likely(chosen)})")
        axes.set_aspect(1 / np.cos(np.radians(height)))
        axes.invert_xaxis()
        axes.set(xlabel="right ascension (deg)", ylabel="declination (deg)")
        _legend(axes, loc="upper right", framealpha=0.8, frameon=True)
    _probability_bar(figure, panels)
    return figure, (
        "The field on the sky: all stars (grey) and those that may belong to a cluster, by probability (in "
        "brackets: stars with p > 0.5)."
    )


def proper_motion(run: Run) -> tuple[Figure, str]:
    """Proper motions as measured, and what of the members' is left without the shared motion."""
    import matplotlib.pyplot as plt

    rows = len(run.variants)
    figure, grid = plt.subplots(rows, 2, figsize=(DOUBLE_COLUMN, 3.0 * rows), squeeze=False)
    for (left, right), variant in zip(grid, run.variants.values(), strict=True):
        data, members = variant.data, _members(run, variant)
        stars, _, _ = star_field(data)
        motion = stars.y[:, 1:]
        left.scatter(*motion.T, s=1.5, c=_GREY, linewidths=0)
        low, high = np.percentile(motion, [2, 98], axis=0)
        reach = 1.0
        for name, marker, chosen in _clusters(members):
            own = chosen[["pmra_mas_yr", "pmdec_mas_yr"]].to_numpy()
            _coloured(left, own[:, 0], own[:, 1], chosen, marker, name)
            low, high = np.minimum(low, own.min(0)), np.maximum(high, own.max(0))
            rest = chosen[["residual_pmra_mas_yr", "residual_pmdec_mas_yr"]].to_numpy()
            _coloured(right, rest[:, 0], rest[:, 1], chosen, marker, name)
            reach = max(reach, 1.2 * float(np.abs(rest).max()))
        middle, half = (low + high) / 2, 0.55 * float((high - low).max())
        left.set(
            xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half),
            xlabel=r"$\mu_{\alpha*}$ (mas/yr)", ylabel=r"$\mu_\delta$ (mas/yr)", title="as measured",
        )  # fmt: skip
        right.set(
            xlim=(-reach, reach), ylim=(-reach, reach), xlabel="east (mas/yr)", ylabel="north (mas/yr)",
            title="less the cluster's motion, seen from here",
        )  # fmt: skip
        for axes in (left, right):
            axes.set_aspect("equal")
            axes.locator_params(nbins=5)
        _legend(left, loc="upper right")
    _probability_bar(figure, grid)
    return figure, (
        "Left: proper motions of all stars (grey) and of those that may be members, by probability. Right: theirs "
        "less the projection of the cluster's one space velocity at each star's place and parallax (its own and "
        "the cluster's together). Where a cluster is wide on the sky its motions fan out on the left; on the right "
        "measurement errors and internal motions are left."
    )


def convergent_point(run: Run) -> tuple[Figure, str] | None:
    """The members' proper motions continued along great circles, for the largest cluster of the main field; none
    where the field is too small to tell where they meet."""
    import matplotlib.pyplot as plt

    found = list(_clusters(_members(run, run.main)))
    if not found or "convergent point, RA" not in _quantities(run, run.main, found[0][0]):
        return None
    name, _, chosen = found[0]
    chosen = chosen[chosen["probability"] > 0.5]
    figure, axes = plt.subplots(figsize=(DOUBLE_COLUMN, 3.4))
    start = kinematics.directions(chosen["ra_deg"].to_numpy(), chosen["dec_deg"].to_numpy())
    motion = kinematics.space_tangential(start, chosen[["pmra_mas_yr", "pmdec_mas_yr"]].to_numpy())
    motion /= np.linalg.norm(motion, axis=1, keepdims=True)
    steps = np.radians(np.arange(0, 61))[:, None]
    middle = float(chosen["ra_deg"].median())
    for here, there in zip(start, motion, strict=True):
        ra, dec = kinematics.sky_position(np.cos(steps) * here + np.sin(steps) * there)
        axes.plot(_near(ra, middle), dec, color=COLOURS[0], linewidth=0.3, alpha=0.4)
    axes.scatter(_near(chosen["ra_deg"], middle), chosen["dec_deg"], s=6, color=COLOURS[0], linewidths=0)
    axes.plot([], [], color=COLOURS[0], linewidth=1, label=f"{name}, members and their motions")
    quantity = _quantities(run, run.main, name)
    points = [quantity[f"convergent point, {axis}"] for axis in ("RA", "Dec")]
    axes.errorbar(
        _near(points[0]["value"], middle), points[1]["value"], points[1]["error"], points[0]["error"],
        fmt="o", color="black", markersize=3, capsize=2, zorder=5, label="found",
    )  # fmt: skip
    literature = ""
    if "convergent point, RA" in LITERATURE.get(name, {}):
        literature = f", and the literature's ({name.capitalize()}: {_literature_point(name)})"
        known = [LITERATURE[name][f"convergent point, {axis}"][0] for axis in ("RA", "Dec")]
        axes.plot(*known, "+", color=COLOURS[5], markersize=9, zorder=6, label="literature")
    low, high = sorted((middle, float(_near(points[0]["value"], middle))))
    axes.set_xlim(high + 20, low - 20)
    axes.set(xlabel="right ascension (deg)", ylabel="declination (deg)")
    _legend(axes, loc="upper left")
    return figure, (
        "The convergent point: the proper motions of the members of the largest cluster continued along great "
        f"circles, the direction of the space velocity that was found (with its error){literature}."
    )


def parallax(run: Run) -> tuple[Figure, str]:
    """Parallaxes of members beside the literature's, and parallax against magnitude."""
    import matplotlib.pyplot as plt

    rows = len(run.variants)
    figure, grid = plt.subplots(rows, 2, figsize=(DOUBLE_COLUMN, 2.6 * rows), squeeze=False)
    for (left, right), variant in zip(grid, run.variants.values(), strict=True):
        members, data = _members(run, variant), variant.data
        found = list(_clusters(members))
        values = star_field(data)[0].y[:, 0]
        low, high = np.percentile(values, [1, 99])
        for _, _, chosen in found:
            low = min(low, float(chosen["parallax_mas"].quantile(0.01)))
            high = max(high, float(chosen["parallax_mas"].quantile(0.99)))
        low, high = low - 0.1 * (high - low), high + 0.1 * (high - low)
        bins = np.linspace(low, high, 60)
        left.hist(values, bins, color=_GREY, histtype="stepfilled", label="all stars")
        right.scatter(data["magnitude"].values, values, s=1.5, c=_GREY, linewidths=0)
        for number, (name, marker, chosen) in enumerate(found):
            colour = COLOURS[number % len(COLOURS)]
            left.hist(
                chosen["parallax_mas"],
                bins,
                weights=chosen["probability"],
                color=colour,
                alpha=0.8,
                label=name,
            )
            if known := LITERATURE.get(name, {}).get("parallax"):
                left.axvline(known[0], color=colour, linestyle="--", linewidth=0.9)
            if name == "pleiades":
                left.axvline(7.36, color=colour, linestyle=":", linewidth=0.9)
            _coloured(right, chosen["magnitude"], chosen["parallax_mas"], chosen, marker, name)
        left.set(xlabel="parallax (mas)", ylabel="stars", yscale="log", ylim=(0.7, None))
        right.set(xlabel=f"{_magnitude(run)} (mag)", ylabel="parallax (mas)", ylim=(low, high))
        _legend(left)
    _probability_bar(figure, grid)
    note = f" Dotted: Gaia's. {PLEIADES_NOTE}" if "pleiades" in _names(run) else ""
    return figure, (
        "Parallaxes as measured. Left: all stars, and members weighted by probability; dashed: literature "
        f"(Hipparcos). Right: against magnitude, members by probability.{note}"
    )


def colour_magnitude(run: Run) -> tuple[Figure, str]:
    """An independent check: neither colour nor magnitude decides who is a member."""
    figure, panels = _panels(run, 3.4)
    for axes, variant in zip(panels, run.variants.values(), strict=True):
        data = variant.data
        axes.scatter(data["colour"].values, data["magnitude"].values, s=1.5, c=_GREY, linewidths=0)
        for name, marker, chosen in _clusters(_members(run, variant)):
            _coloured(axes, chosen["colour"], chosen["magnitude"], chosen, marker, name)
        axes.invert_yaxis()
        colour = "colour" if run.input else "B − V"
        axes.set(xlabel=f"{colour} (mag)", ylabel=f"{_magnitude(run)} (mag)")
        _legend(axes)
    _probability_bar(figure, panels)
    return figure, (
        "Colour and magnitude of all stars (grey) and of those that may be members, by probability. The latents, "
        "where candidates come from, know photometry; the probability does not, so that the members make one "
        "narrow sequence checks them independently."
    )


def latent_map(run: Run) -> tuple[Figure, str]:
    """The two latents that show the members best."""
    figure, panels = _panels(run, 3.0)
    for axes, variant in zip(panels, run.variants.values(), strict=True):
        latents = variant.latents
        z, z_std = latents["z"].values.astype(float), latents["z_std"].values.astype(float)
        found = list(_clusters(_members(run, variant)))
        identifiers = latents["source_id"].values
        order = np.argsort(identifiers)
        rows = [order[np.searchsorted(identifiers[order], c["source_id"])] for _, _, c in found]
        first, second = _best_pair(
            z, z_std, [r[c["probability"] > 0.5] for r, (_, _, c) in zip(rows, found, strict=True)]
        )
        axes.scatter(z[:, first], z[:, second], s=1.5, c=_GREY, linewidths=0)
        for (name, marker, chosen), mine in zip(found, rows, strict=True):
            _coloured(axes, z[mine, first], z[mine, second], chosen, marker, name)
        axes.set(xlabel=f"$z_{{{first}}}$", ylabel=f"$z_{{{second}}}$")
        _legend(axes)
    _probability_bar(figure, panels)
    return figure, (
        "Posterior means of the stars in the two latents in which the members are most compact against the field. "
        "The decoder turns one latent point into one motion in space, so members that stand far apart on the sky "
        "are neighbours here."
    )


def _panels(run: Run, height: float, width: float = DOUBLE_COLUMN) -> tuple[Figure, Any]:
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(run.variants), figsize=(width, height), squeeze=False)
    return figure, panels[0]


def _legend(axes: Axes, **options: Any) -> None:
    """A legend where there is something to name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**options)


def _coloured(axes: Axes, x: Any, y: Any, chosen: pd.DataFrame, marker: str, label: str) -> None:
    """Points by membership probability, the most probable on top."""
    axes.scatter(
        x, y, s=9, c=chosen["probability"], cmap=_CMAP, vmin=0, vmax=1, marker=marker, linewidths=0
    )  # fmt: skip
    axes.scatter([], [], s=9, color=_CERTAIN, marker=marker, linewidths=0, label=label)


def _probability_bar(figure: Figure, panels: Any) -> None:
    import matplotlib.pyplot as plt

    bar = plt.cm.ScalarMappable(plt.Normalize(0, 1), _CMAP)
    figure.colorbar(bar, ax=panels, label="membership probability", shrink=0.8, pad=0.02)


def _magnitude(run: Run) -> str:
    return "magnitude" if run.input else "Hp"


def _likely(chosen: pd.DataFrame) -> int:
    return int((chosen["probability"] > 0.5).sum())


def _members(run: Run, variant: Variant) -> pd.DataFrame:
    """The possible members (p ≥ 0.1) of one variant, from the table of the analysis; empty where there are none."""
    import pandas as pd

    if not (run.tables / "members.csv").is_file():
        return pd.DataFrame({"cluster": []})
    table = run.table("members")
    chosen = (table["variant"] == variant.name) & (table["probability"] >= _SHOWN)
    return table[chosen].sort_values("probability")


def _names(run: Run) -> set[str]:
    return {name for variant in run.variants.values() for name in _members(run, variant)["cluster"]}


def _clusters(members: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Name, marker and possible members of each cluster, the largest first."""
    for number, name in enumerate(members["cluster"].value_counts().index):
        yield name, _MARKERS[number % len(_MARKERS)], members[members["cluster"] == name]


def _quantities(run: Run, variant: Variant, name: str) -> pd.DataFrame:
    """Parameters of a found cluster by quantity: columns value, error …; from the table of the analysis."""
    table = run.table("clusters")
    mine = table[(table["variant"] == variant.name) & (table["cluster"] == name)]
    return mine.set_index("quantity").T


def _literature_point(name: str) -> str:
    known = LITERATURE[name]
    ra, dec = known["convergent point, RA"], known["convergent point, Dec"]
    return f"{ra[0]:.2f}°, {dec[0]:+.2f}°, {ra[1]}"


def _best_pair(z: np.ndarray, z_std: np.ndarray, groups: list[np.ndarray]) -> tuple[int, int]:
    """The two active latents in which the members' spread is smallest against everybody's."""
    used = np.flatnonzero(active_latents(z, z_std))
    order = used if len(used) >= 2 else np.arange(z.shape[1])
    if not groups or not groups[0].any():
        return int(order[0]), int(order[-1])
    ratio = np.mean([z[rows].std(0) / np.maximum(z.std(0), 1e-9) for rows in groups if rows.any()], axis=0)
    best = order[np.argsort(ratio[order])]
    return int(best[0]), int(best[min(1, len(best) - 1)])


def _near(ra: Any, middle: float) -> np.ndarray:
    """Right ascension without the jump at 360°, around ``middle``."""
    return (np.asarray(ra) - middle + 180) % 360 - 180 + middle
