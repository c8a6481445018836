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

_GREY = "#b0b0b0"


def sky(run: Run) -> tuple[Figure, str]:
    """Where the members stand, and where they go."""
    figure, panels = _panels(run, 3.2)
    for axes, variant in zip(panels, run.variants.values(), strict=True):
        data, members = variant.data, _members(run, variant)
        _, centre, radius = star_field(data)
        middle = float(kinematics.sky_position(centre)[0])
        shown = _near(data["ra"].values, middle)
        axes.scatter(shown, data["dec"].values, s=1.5, c=_GREY, linewidths=0)
        for name, colour, chosen in _clusters(members):
            ra = _near(chosen["ra_deg"].to_numpy(), middle)
            axes.scatter(
                ra,
                chosen["dec_deg"],
                s=7,
                color=colour,
                linewidths=0,
                label=f"{name.title()} ({len(chosen)})",
            )
            axes.quiver(
                ra, chosen["dec_deg"], chosen["pmra_mas_yr"] / np.cos(np.radians(chosen["dec_deg"])),
                chosen["pmdec_mas_yr"], color=colour, width=0.002, alpha=0.7, angles="xy",
            )  # fmt: skip
        axes.set_aspect(1 / np.cos(np.radians(float(kinematics.sky_position(centre)[1]))))
        axes.invert_xaxis()
        axes.set(xlabel="right ascension (deg)", ylabel="declination (deg)", title=f"{radius:g}° cone")
        _legend(axes, loc="upper right", framealpha=0.8, frameon=True)
    return figure, (
        "The field on the sky: all stars (grey), members with p > 0.5 (colour; numbers in brackets), and the "
        "direction of each member's proper motion. Over a wide field the motions of a cluster visibly converge."
    )


def proper_motion(run: Run) -> tuple[Figure, str]:
    """Proper motions as measured, and tangential velocities with the shared motion taken out."""
    import matplotlib.pyplot as plt

    rows = len(run.variants)
    figure, grid = plt.subplots(rows, 2, figsize=(DOUBLE_COLUMN, 3.0 * rows), squeeze=False)
    for (left, right), variant in zip(grid, run.variants.values(), strict=True):
        data, members = variant.data, _members(run, variant)
        x = data["x"].values
        left.scatter(x[:, 4], x[:, 5], s=1.5, c=_GREY, linewidths=0)
        reach = 60.0
        for name, colour, chosen in _clusters(members):
            left.scatter(
                chosen["pmra_mas_yr"],
                chosen["pmdec_mas_yr"],
                s=6,
                color=colour,
                linewidths=0,
                label=name.title(),
            )
            reach = max(reach, 1.2 * float(chosen[["pmra_mas_yr", "pmdec_mas_yr"]].abs().to_numpy().max()))
            velocity, point = _motion(run, variant, name)
            direction = kinematics.directions(chosen["ra_deg"].to_numpy(), chosen["dec_deg"].to_numpy())
            motion = chosen[["pmra_mas_yr", "pmdec_mas_yr"]].to_numpy()
            distance = chosen["member_parallax_mas"].to_numpy()
            left_over = kinematics.perspective_residual(direction, distance, motion, velocity)
            right.scatter(*left_over.T, s=6, color=colour, linewidths=0, label=f"{name.title()}: {point}")
        left.set(
            xlim=(-reach, reach), ylim=(-reach, reach),
            xlabel=r"$\mu_{\alpha*}$ (mas/yr)", ylabel=r"$\mu_\delta$ (mas/yr)", title="as measured",
        )  # fmt: skip
        right.set(
            xlim=(-9, 9), ylim=(-9, 9), xlabel="east (km/s)", ylabel="north (km/s)",
            title="tangential velocity less the shared motion",
        )  # fmt: skip
        left.set_aspect("equal")
        right.set_aspect("equal")
        _legend(right, loc="lower left", title="convergent point (RA, Dec)", title_fontsize=7)
    return figure, (
        "Left: proper motions; those of a cluster on the sky's sphere fan out. Right: tangential velocity "
        "4.74047 μ/ϖ of the members (ϖ from the star and its cluster together) less the projection of the "
        "cluster's one space velocity: the fan is gone, and what is left is measurement error and internal motion. "
        "The legend gives the convergent point (literature for the Hyades: "
        f"{_literature_point('hyades')})."
    )


def convergent_point(run: Run) -> tuple[Figure, str]:
    """The members' proper motions continued along great circles, for the largest cluster of the main field."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(DOUBLE_COLUMN, 3.4))
    found = list(_clusters(_members(run, run.main)))
    for name, colour, chosen in found[:1]:
        start = kinematics.directions(chosen["ra_deg"].to_numpy(), chosen["dec_deg"].to_numpy())
        motion = kinematics.space_tangential(start, chosen[["pmra_mas_yr", "pmdec_mas_yr"]].to_numpy())
        motion /= np.linalg.norm(motion, axis=1, keepdims=True)
        steps = np.radians(np.arange(0, 61))[:, None]
        middle = float(chosen["ra_deg"].median())
        for here, there in zip(start, motion, strict=True):
            ra, dec = kinematics.sky_position(np.cos(steps) * here + np.sin(steps) * there)
            axes.plot(_near(ra, middle), dec, color=colour, linewidth=0.3, alpha=0.4)
        axes.scatter(_near(chosen["ra_deg"], middle), chosen["dec_deg"], s=6, color=colour, linewidths=0)
        axes.plot([], [], color=colour, linewidth=1, label=f"{name.title()}, members and their motions")
        quantity = _quantities(run, run.main, name)
        points = [quantity[f"convergent point, {axis}"] for axis in ("RA", "Dec")]
        axes.errorbar(
            _near(points[0]["value"], middle), points[1]["value"], points[1]["error"], points[0]["error"],
            fmt="o", color="black", markersize=3, capsize=2, zorder=5, label="found",
        )  # fmt: skip
        if "convergent point, RA" in LITERATURE.get(name, {}):
            known = [LITERATURE[name][f"convergent point, {axis}"][0] for axis in ("RA", "Dec")]
            axes.plot(*known, "+", color=COLOURS[5], markersize=9, zorder=6, label="literature")
        low, high = sorted((middle, float(_near(points[0]["value"], middle))))
        axes.set_xlim(high + 20, low - 20)
    axes.set(xlabel="right ascension (deg)", ylabel="declination (deg)")
    _legend(axes, loc="upper left")
    return figure, (
        "The convergent point: the proper motions of the members of the largest cluster continued along great "
        "circles, the direction of the space velocity that was found (with its error), and the literature's "
        f"(Hyades: {_literature_point('hyades')})."
    )


def parallax(run: Run) -> tuple[Figure, str]:
    """Parallaxes of members beside the literature's."""
    figure, panels = _panels(run, 2.6)
    for axes, variant in zip(panels, run.variants.values(), strict=True):
        members = _members(run, variant)
        found = list(_clusters(members))
        top = max((float(chosen["parallax_mas"].quantile(0.98)) for _, _, chosen in found), default=20.0)
        bins = np.linspace(0, 1.3 * top, 70)
        values = variant.data["x"].values[:, 3]
        axes.hist(values, bins, color=_GREY, histtype="stepfilled", label="all stars")
        for name, colour, chosen in found:
            axes.hist(chosen["parallax_mas"], bins, color=colour, alpha=0.8, label=name.title())
            if known := LITERATURE.get(name, {}).get("parallax"):
                axes.axvline(known[0], color=colour, linestyle="--", linewidth=0.9)
            if name == "pleiades":
                axes.axvline(7.36, color=colour, linestyle=":", linewidth=0.9)
        axes.set(xlabel="parallax (mas)", ylabel="stars", yscale="log", ylim=(0.7, None))
        _legend(axes)
    note = f" Dotted: Gaia's. {PLEIADES_NOTE}" if "pleiades" in _names(run) else ""
    return figure, f"Parallaxes as measured; dashed: literature (Hipparcos).{note}"


def colour_magnitude(run: Run) -> tuple[Figure, str]:
    """An independent check: neither colour nor magnitude was used to find the members."""
    figure, panels = _panels(run, 3.2)
    for axes, variant in zip(panels, run.variants.values(), strict=True):
        data = variant.data
        measured = data["x"].values[:, 3]
        good = measured > 10 * np.sqrt(data["noise"].values[:, 3, 3])
        absolute = data["magnitude"].values[good] + 5 * np.log10(measured[good] / 100)
        axes.scatter(data["colour"].values[good], absolute, s=1.5, c=_GREY, linewidths=0)
        for name, colour, chosen in _clusters(_members(run, variant)):
            axes.scatter(
                chosen["colour"],
                chosen["absolute_magnitude"],
                s=6,
                color=colour,
                linewidths=0,
                label=name.title(),
            )
        axes.invert_yaxis()
        colour_name, magnitude_name = ("colour", "M") if run.input else ("B − V", "M(Hp)")
        axes.set(xlabel=f"{colour_name} (mag)", ylabel=f"{magnitude_name} (mag)")
        _legend(axes)
    return figure, (
        "Colour and absolute magnitude of the members (colour) and of the field's stars with parallaxes better "
        "than 10 % (grey). Photometry was not used to find the members: that they make one narrow sequence checks "
        "them independently."
    )


def latent_map(run: Run) -> tuple[Figure, str]:
    """The two latents that show the members best."""
    figure, panels = _panels(run, 3.0)
    for axes, variant in zip(panels, run.variants.values(), strict=True):
        latents = variant.latents
        z, z_std = latents["z"].values.astype(float), latents["z_std"].values.astype(float)
        found = list(_clusters(_members(run, variant)))
        identifiers = latents["source_id"].values
        first, second = _best_pair(z, z_std, [np.isin(identifiers, c["source_id"]) for _, _, c in found])
        axes.scatter(z[:, first], z[:, second], s=1.5, c=_GREY, linewidths=0)
        for name, colour, chosen in found:
            rows = np.isin(identifiers, chosen["source_id"])
            axes.scatter(z[rows, first], z[rows, second], s=6, color=colour, linewidths=0, label=name.title())
        axes.set(xlabel=f"$z_{{{first}}}$", ylabel=f"$z_{{{second}}}$")
        _legend(axes)
    return figure, (
        "Posterior means of the stars in the two latents in which the members are most compact against the field. "
        "The decoder turns one latent point into one motion in space, so members that stand far apart on the sky "
        "are neighbours here."
    )


def _panels(run: Run, height: float) -> tuple[Figure, Any]:
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(run.variants), figsize=(DOUBLE_COLUMN, height), squeeze=False)
    return figure, panels[0]


def _legend(axes: Axes, **options: Any) -> None:
    """A legend where there is something to name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**options)


def _members(run: Run, variant: Variant) -> pd.DataFrame:
    """The likely members of one variant, from the table of the analysis; empty where nothing was found."""
    import pandas as pd

    if not (run.tables / "members.csv").is_file():
        return pd.DataFrame({"cluster": []})
    table = run.table("members")
    return table[(table["variant"] == variant.name) & (table["probability"] > 0.5)]


def _names(run: Run) -> set[str]:
    return {name for variant in run.variants.values() for name in _members(run, variant)["cluster"]}


def _clusters(members: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Name, colour and members, the largest first; a name has one colour in every figure."""
    for number, name in enumerate(members["cluster"].value_counts().index):
        fixed = {"hyades": 0, "pleiades": 1}.get(name, 2 + number % (len(COLOURS) - 3))
        yield name, COLOURS[fixed], members[members["cluster"] == name]


def _quantities(run: Run, variant: Variant, name: str) -> pd.DataFrame:
    """Parameters of a found cluster by quantity: columns value, error …; from the table of the analysis."""
    table = run.table("clusters")
    mine = table[(table["variant"] == variant.name) & (table["cluster"] == name)]
    return mine.set_index("quantity").T


def _motion(run: Run, variant: Variant, name: str) -> tuple[np.ndarray, str]:
    """The space velocity of a found cluster, and its convergent point as text."""
    value: Any = _quantities(run, variant, name).loc["value"].to_dict()
    ra, dec = value["convergent point, RA"], value["convergent point, Dec"]
    velocity = value["speed"] * kinematics.directions(np.array(ra), np.array(dec))
    return velocity, f"{ra:.1f}°, {dec:+.1f}°"


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
