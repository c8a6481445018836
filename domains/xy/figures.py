"""The figures of a run, drawn from its tables, latents and models on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sciencevae.report.figures import COLOURS, CYCLIC, DOUBLE_COLUMN, SEQUENTIAL

from . import ensembles
from . import observables as xy
from .analysis import MONTE_CARLO
from .transition import HELICITY, LATENT, MAGNETISATION

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sciencevae.runs import Run

__all__ = ["clusters", "correlation", "latents", "observables", "spins", "transition"]

_T = r"temperature $T$ ($J/k_\mathrm{B}$)"
_LINES = {"decoded": "-", "drawn": ":", "new mean": "--", "new draw": "-."}
_PHYSICAL = {
    "energy": r"energy per site ($J$)",
    "vortex_density": "vortices per site",
    "helicity": r"helicity modulus $\Upsilon$ ($J$)",
    "magnetisation": r"magnetisation $\langle|m|\rangle$",
}


def spins(run: Run) -> tuple[Figure, str]:
    """Test configurations at three temperatures beside what each model of the main lattice makes of them."""
    import matplotlib.pyplot as plt

    main = run.variants["main"]
    t, split = main.data["temperature"].values, main.data["split"].values
    shown = [t[np.argmin(np.abs(t - wanted))] for wanted in (t.min(), xy.T_KT, t.max())]
    rows = [int(np.flatnonzero((t == one) & (split == 2))[0]) for one in shown]
    theta = main.data["x"].isel(sample=rows).values[:, 0]
    columns = {"Monte Carlo": theta}
    for name in run.table("observables").model.unique():
        variant = run.variants.get(name)
        if variant is None or variant.settings.model.conditional:
            continue
        decoded = ensembles.decode(variant.model(), variant.latents["z"].isel(sample=rows).values)
        columns[f"{name}: mean angle"] = decoded.mean_angle
        columns[f"{name}: draw"] = decoded.drawn
    figure, panels = plt.subplots(
        len(rows), len(columns), figsize=(DOUBLE_COLUMN, 1.55 * len(rows)), squeeze=False
    )
    image = None
    for j, (title, configurations) in enumerate(columns.items()):
        for i, configuration in enumerate(configurations):
            axes = panels[i, j]
            image = axes.imshow(configuration, cmap=CYCLIC, vmin=-np.pi, vmax=np.pi, interpolation="nearest")
            charge = xy.vortex_charges(configuration[None])[0]
            for sign, marker, colour in ((1, "o", "#56B4E9"), (-1, "s", "#E69F00")):
                y, x = np.nonzero(charge == sign)
                axes.plot(x + 0.5, y + 0.5, marker, color=colour, mec="black", mew=0.4, ms=3)
            axes.set(xticks=[], yticks=[], xlim=(-0.5, len(configuration) - 0.5))
            axes.set_ylim(len(configuration) - 0.5, -0.5)
            if i == 0:
                axes.set_title(title)
            if j == 0:
                axes.set_ylabel(f"$T$ = {shown[i]:.2f}")
    assert image is not None
    bar = figure.colorbar(image, ax=panels, label=r"spin angle $\theta$ (rad)", shrink=0.7)
    bar.set_ticks([-np.pi, 0, np.pi], labels=[r"$-\pi$", "0", r"$\pi$"])
    return figure, (
        "Test configurations below, at and above the transition, and what the models make of them. Circles: "
        "vortices; squares: antivortices. The energy term is met by a staggered texture of μ(z) that Monte Carlo "
        "does not have."
    )


def latents(run: Run) -> tuple[Figure, str]:
    """ρ against T, and the latents' two leading components, coloured by magnetisation."""
    import matplotlib.pyplot as plt

    stored = run.variants["main"].latents
    z, t, m = (stored[name].values for name in ("z", "temperature", "magnetisation"))
    features = ensembles.turned_back(z)
    centred = features - features.mean(0)
    _, _, axes_of = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ axes_of[:2].T
    order = np.random.default_rng(0).permutation(len(t))[:6000]
    figure, panels = plt.subplots(1, 3, figsize=(DOUBLE_COLUMN, 2.4))
    jitter = 0.012 * np.random.default_rng(1).uniform(-1, 1, len(t))
    look = {"s": 2, "cmap": SEQUENTIAL, "vmin": 0, "vmax": 1, "linewidths": 0, "rasterized": True}
    panels[0].scatter((t + jitter)[order], features[order, 0], c=m[order], **look)
    panels[0].axvline(xy.T_KT, color="black", lw=0.6, ls=":")
    panels[0].set(xlabel=_T, ylabel=r"latent length $\rho=|(z_0, z_1)|$")
    panels[1].scatter(z[order, 0], z[order, 1], c=m[order], **look)
    panels[1].set(xlabel=r"$z_0$", ylabel=r"$z_1$", aspect="equal")
    points = panels[2].scatter(plane[order, 0], plane[order, 1], c=m[order], **look)
    panels[2].set(xlabel="first component", ylabel="second component")
    figure.colorbar(points, ax=panels[2], label=r"magnetisation $|m|$")
    return figure, (
        "Latents of a model that was not told T, coloured by magnetisation: the length of the vector that turns "
        f"with the spins against temperature (dotted: T_KT = {xy.T_KT}), that vector, and the two leading "
        "components of the latents that do not turn."
    )


def observables(run: Run) -> tuple[Figure, str]:
    """Energy, vortices, Υ and |m| against T: Monte Carlo, decoded and new configurations."""
    import matplotlib.pyplot as plt

    table = run.table("observables")
    held = sorted(table[table.held_out].temperature.unique())
    figure, panels = plt.subplots(2, 2, figsize=(DOUBLE_COLUMN, 4.6), sharex=True)
    for axes, (name, label) in zip(panels.flat, _PHYSICAL.items(), strict=True):
        colours = dict(zip(table[table.model != MONTE_CARLO].model.unique(), COLOURS, strict=False))
        for (model, source), rows in table.groupby(["model", "source"], sort=False):
            rows = rows.sort_values("temperature")
            if model == MONTE_CARLO:
                axes.errorbar(
                    rows.temperature, rows[name], rows[f"{name}_error"], fmt="o", ms=2.5, color="black",
                    label=MONTE_CARLO, zorder=3, lw=0.6,
                )  # fmt: skip
            elif source in ("decoded", "drawn", "new draw"):
                axes.plot(
                    rows.temperature, rows[name], _LINES[source], color=colours[model],
                    label=f"{model}: {source}", lw=1.0,
                )  # fmt: skip
        if name == "helicity":
            t = np.sort(table.temperature.unique())
            axes.plot(t, 2 * t / np.pi, color="grey", lw=0.6)
            axes.annotate(r"$2T/\pi$", (t[-1], 2 * t[-1] / np.pi), ha="right", va="bottom", fontsize=7)
            axes.set_ylim(-0.5, 1.15)
        for one in held:
            axes.axvline(one, color="grey", lw=0.5, ls=":")
        axes.set_ylabel(label)
    for axes in panels[1]:
        axes.set_xlabel(_T)
    panels[0, 1].legend(loc="upper left")
    return figure, (
        "Decoded test configurations (mean angles; one draw from p(x|z)) and new draws at latents of each "
        "temperature, against Monte Carlo. Dotted vertical lines: temperatures that training never saw."
    )


def correlation(run: Run) -> tuple[Figure, str]:
    """G(r) at temperatures below, near and above the transition."""
    import matplotlib.pyplot as plt

    table = run.table("correlation")
    held = sorted(table[table.held_out].temperature.unique())
    every = np.sort(table[table.source == "decoded"].temperature.unique())
    shown = held[:3] if len(held) >= 3 else [every[0], every[len(every) // 2], every[-1]]
    figure, panels = plt.subplots(1, len(shown), figsize=(DOUBLE_COLUMN, 2.8), sharey=True)
    colours = dict(zip(table[table.model != MONTE_CARLO].model.unique(), COLOURS, strict=False))
    for axes, t in zip(panels, shown, strict=True):
        for (model, source), rows in table[table.temperature == t].groupby(["model", "source"], sort=False):
            if model == MONTE_CARLO:
                axes.plot(rows.r, rows.g, "o", color="black", ms=3, label=MONTE_CARLO, zorder=3)
            else:
                line = _LINES[source]
                axes.plot(rows.r, rows.g, line, color=colours[model], lw=1.0, label=f"{model}: {source}")
        seen = ", never seen" if t in held else ""
        axes.set(xlabel="distance $r$ (sites)", title=f"$T$ = {t:.2f}{seen}")
    panels[0].set_ylabel(r"$G(r)=\langle\cos(\theta_0-\theta_r)\rangle$")
    panels[0].set_ylim(-0.05, 1.05)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure, "Spin–spin correlation along rows and columns, of models and Monte Carlo."


def transition(run: Run) -> tuple[Figure, str]:
    """ρ and |m| against T for each lattice, and T*(L) with its extrapolation."""
    import matplotlib.pyplot as plt

    curves, found = run.table("transition"), run.table("pseudo_transitions")
    figure, panels = plt.subplots(1, 3, figsize=(DOUBLE_COLUMN, 2.5))
    for axes, statistic in zip(panels, (LATENT, MAGNETISATION), strict=False):
        _curves(axes, curves[curves.statistic == statistic], found[found.statistic == statistic])
        axes.set(xlabel=_T, ylabel="mean over that of the lowest $T$", title=statistic)
    panels[0].legend(title="lattice $L$")
    metrics = run.metrics.get("transition", {})
    for statistic, colour, marker in zip((LATENT, MAGNETISATION, HELICITY), COLOURS, "osD", strict=False):
        rows = found[found.statistic == statistic]
        at = 1 / np.log(rows.lattice) ** 2
        panels[2].errorbar(at, rows.temperature, rows.error, fmt=marker, color=colour, label=statistic)
        limit = metrics.get(statistic, {})
        if limit.get("consistent") and limit.get("t_kt") is not None:
            error = np.hypot(limit["statistical"], limit["systematic"])
            panels[2].errorbar([-0.01], [limit["t_kt"]], [error], fmt=marker, mfc="white", color=colour)
    panels[2].axhline(xy.T_KT, color="grey", lw=0.6)
    panels[2].set(xlabel=r"$1/(\ln L)^2$", ylabel=r"$T^*(L)$ ($J/k_\mathrm{B}$)")
    panels[2].legend()
    return figure, (
        "Mean latent length and magnetisation; shaded, and right: the temperatures T*(L) at which they "
        "fall most steeply, and where the helicity modulus crosses 2T/π. Open symbols: "
        "T_KT extrapolated with T_KT + a/(ln bL)², error bars with that of not knowing b; line: "
        f"T_KT = {xy.T_KT}."
    )


def _curves(axes: Axes, curves: pd.DataFrame, found: pd.DataFrame) -> None:
    for (lattice, rows), colour in zip(curves.groupby("lattice"), COLOURS, strict=False):
        axes.plot(
            rows.temperature,
            rows["mean"] / rows["mean"].iloc[0],
            "o-",
            ms=2,
            lw=0.8,
            color=colour,
            label=str(lattice),
        )
        star = found[found.lattice == lattice].iloc[0]
        axes.axvline(star.temperature, color=colour, lw=0.6, ls="--")
        axes.axvspan(
            star.temperature - star.error, star.temperature + star.error, color=colour, alpha=0.25, lw=0
        )


def clusters(run: Run) -> tuple[Figure, str]:
    """Share of each of two unsupervised clusters against temperature."""
    import matplotlib.pyplot as plt

    table = run.table("clusters")
    boundary = run.metrics.get("clusters", {}).get("boundary")
    figure, axes = plt.subplots()
    axes.errorbar(table.temperature, table.ordered, table.error, fmt="o-", ms=3)
    axes.axvline(xy.T_KT, color="black", ls=":", lw=0.8, label=rf"$T_\mathrm{{KT}}$ = {xy.T_KT}")
    if boundary:
        axes.axvline(boundary, color=COLOURS[1], ls="--", lw=0.8, label=f"boundary, {boundary:.2f}")
    axes.set(xlabel=_T, ylabel="probability of the ordered cluster", ylim=(-0.03, 1.03))
    axes.legend()
    return figure, (
        "Two Gaussians fitted to the latents without temperature: mean probability of the cluster of larger ρ. "
        "The change is gradual, as at a transition without a gap on a small lattice."
    )
