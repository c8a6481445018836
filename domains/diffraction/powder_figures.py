"""Figures of powder patterns: scans with their phases, doubts, the map of latents, confusion, a path, denoising."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sciencevae.data.rows import evenly
from sciencevae.report.figures import COLOURS, DOUBLE_COLUMN, SEQUENTIAL, SINGLE_COLUMN

from .axes import anode, two_theta_from_d
from .crystals import reflections
from .powder_analysis import batch_of, crystals_of, is_powder, patterns_of, pieces, probabilities
from .powder_exposures import denoised, thinned
from .powder_groups import PATTERNS, SCANS, unit
from .powder_unknown import KINDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciencevae.runs import Run

__all__ = ["confusion", "doubts", "path", "phase_map", "scans", "thinned_patterns"]

_SCANS = 40  # that are drawn one by one
_PHASES = 20  # in one figure with every name


def scans(run: Run) -> tuple[Figure, str] | None:
    """Four patterns, measured where there are some, with what the model decodes and the lines of its phases."""
    if not is_powder(run):
        return None
    import matplotlib.pyplot as plt

    data, model = run.main.data, run.main.model()
    origin, split = data["origin"].values, data["split"].values
    rows = np.flatnonzero(origin == "measured")
    if not len(rows):
        rows = np.flatnonzero((origin == "simulated") & (split == 2))
    rows = rows[np.linspace(0, len(rows) - 1, 4).astype(int)]
    batch = batch_of(data, rows)
    found = probabilities(model, batch)
    with torch.no_grad():
        likelihood: Any = model.decode(model.encode(batch.x, batch.context).mean, batch.context)
        rate = likelihood.fields["pattern"].mean.numpy()[:, 0]
    crystals, angle = crystals_of(run)[0], data["bin"].values
    tube = anode(data.attrs["anode"])
    figure, panels = plt.subplots(4, 1, figsize=(DOUBLE_COLUMN, 6.0), sharex=True)
    for axes, row, decoded, probability in zip(panels, rows, rate, found, strict=True):
        counts = patterns_of(data, row[None])[0]
        axes.plot(angle, np.sqrt(counts), color="0.6", lw=0.7, label="counts")
        axes.plot(angle, np.sqrt(decoded), color=COLOURS[0], lw=0.9, label="decoded rate")
        first = np.argsort(-probability)[:3].tolist()
        likely = [k for k in first if probability[k] > 0.2] or first[:1]
        for place, k in enumerate(likely):
            lines = reflections(crystals[k], tube.alpha1, float(angle[-1]))
            at = two_theta_from_d(lines.d, tube.mean)
            level = -0.09 * (place + 1) * np.sqrt(np.nanmax(counts))
            shown = at > angle[0]
            label = f"{crystals[k].name} ({probability[k]:.2f})"
            axes.plot(
                at[shown], np.full(shown.sum(), level), "|", ms=5, color=COLOURS[1 + place], label=label
            )
        axes.set_ylabel(r"$\sqrt{\mathrm{counts\ a\ bin}}$")
        axes.set_yticks([tick for tick in axes.get_yticks() if tick >= 0])
        axes.set_title(str(data["label"].values[row]), loc="left")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    panels[-1].set_xlabel(_two_theta(run))
    return figure, (
        "Patterns that training did not see, the rate decoded from their latents, and the lines of the phases that "
        "the model finds most probable (in brackets), at the cell of their structure; strain, zero shift and "
        "displacement move those of the scan. Above each panel, its label. Square roots, so that weak lines show."
    )


def _two_theta(run: Run) -> str:
    return rf"$2\theta$ (°, {run.main.data.attrs['anode']} K$\alpha$)"


def doubts(run: Run) -> tuple[Figure, str] | None:
    """How much in doubt the model is about each kind of pattern, and about each scan; dashed: the threshold."""
    if not is_powder(run) or "unknown" not in run.metrics:
        return None
    import matplotlib.pyplot as plt

    table, limit = run.table("doubts"), run.metrics["unknown"]["threshold"]
    scans = table[table["patterns"] == KINDS[0]].head(_SCANS)[::-1]
    rows = len(scans)
    figure, panels = plt.subplots(
        2 if rows else 1,
        1,
        figsize=(SINGLE_COLUMN * 1.5, 1.6 + 0.17 * rows),
        height_ratios=[1.4, 0.17 * rows] if rows else None,
        sharex=True,
        squeeze=False,
    )
    top = panels[0, 0]
    bins = np.linspace(table["doubt"].quantile(0.005), table["doubt"].max(), 40)
    for colour, kind in zip((COLOURS[0], COLOURS[5]), ("simulated", KINDS[1]), strict=True):
        values = table.loc[table["patterns"] == kind, "doubt"]
        if len(values):
            top.hist(
                values, bins, density=True, histtype="step", color=colour, label=f"{kind} ({len(values)})"
            )
    top.set_ylabel("density")
    top.legend(loc="upper left")
    if rows:
        below = panels[1, 0]
        colours = {"candidates alone": COLOURS[0], "another phase": COLOURS[5], "not told": "0.5"}
        for holds, colour in colours.items():
            own = (scans["holds"] == holds).to_numpy()
            if own.any():
                below.plot(
                    scans["doubt"][own], np.flatnonzero(own), "o", ms=4, color=colour, label=f"label: {holds}"
                )
        below.set_yticks(range(rows), scans["label"])
        below.grid(axis="y", lw=0.3)
        below.legend(loc="lower right")
    for axes in panels[:, 0]:
        axes.axvline(limit, color="0.4", ls="--", lw=0.8)
    panels[-1, 0].set_xlabel("doubt (standard scores, added)")
    return figure, (
        "How far patterns are from what the candidates explain. Dashed: the threshold, which "
        f"{run.metrics['unknown']['rate']:.0%} of simulated patterns of candidates alone exceed. Below: measured "
        "scans, those in most doubt first; colours: what their labels say."
    )


def phase_map(run: Run) -> tuple[Figure, str] | None:
    """Latents of single-phase patterns in a plane: of few phases the one that parts them best, of many t-SNE's."""
    if not is_powder(run) or run.main.data.sizes["phase"] < 2:
        return None
    import matplotlib.pyplot as plt

    data = run.main.data
    truth, z = data["phases"].values, unit(run.main.latents["z"].values)
    origin, phase, names = data["origin"].values, data["phases"].values.argmax(1), data["phase"].values
    single = (origin == "simulated") & (truth.sum(1) == 1)
    held = np.flatnonzero(single & (data["split"].values > 0))
    held = held[evenly(len(held), PATTERNS)]
    scans = np.flatnonzero(origin == "measured")
    scans = scans[evenly(len(scans), SCANS)]
    few = len(names) <= len(COLOURS)
    figure, axes = plt.subplots(figsize=(DOUBLE_COLUMN * (0.75 if few else 1.0), 3.4 if few else 5.6))
    if few:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        train = single & (data["split"].values == 0)
        plane = LinearDiscriminantAnalysis(n_components=2).fit(z[train], phase[train])
        places = plane.transform(z[np.concatenate([held, scans])])
        for k, name in enumerate(names):
            axes.plot(*places[: len(held)][phase[held] == k].T, ".", color=COLOURS[k], label=name, ms=4)
        axes.set(xlabel="first discriminant of the latents", ylabel="second discriminant")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        plane_is = "in the plane that parts the phases of training patterns best (linear discriminants)"
    else:
        from sklearn.manifold import TSNE

        places = TSNE(perplexity=15, init="pca", random_state=0).fit_transform(
            z[np.concatenate([held, scans])]
        )
        colours = plt.get_cmap("tab20")(phase[held] % 20)
        axes.scatter(places[: len(held), 0], places[: len(held), 1], c=colours, s=6)
        for k in np.unique(phase[held]):
            middle = np.median(places[: len(held)][phase[held] == k], 0)
            axes.annotate(str(names[k]), middle, fontsize=4, color="0.35", ha="center", va="center")
        axes.set(xticks=[], yticks=[])
        plane_is = (
            "in t-SNE's plane, where near is alike and far says little; names stand in the middle of a phase"
        )
    for place, row in zip(places[len(held) :], scans, strict=True):
        axes.plot(*place, "k*", ms=5)
        axes.annotate(str(data["label"].values[row]), place, (3, 3), textcoords="offset points", fontsize=6)
    return figure, (
        f"Directions of the latents of {len(held):,} single-phase patterns that training did not see, {plane_is}. "
        "One colour a phase; stars: measured scans, with their labels."
    )


def confusion(run: Run) -> tuple[Figure, str] | None:
    """Which phase single-phase test patterns are taken for."""
    if not is_powder(run) or run.main.data.sizes["phase"] < 2:
        return None
    import matplotlib.pyplot as plt

    data = run.main.data
    truth = data["phases"].values
    rows = np.flatnonzero(
        (data["origin"].values == "simulated") & (data["split"].values > 0) & (truth.sum(1) == 1)
    )
    model = run.main.model()
    guess = np.concatenate([probabilities(model, batch_of(data, part)).argmax(1) for part in pieces(rows)])
    number = len(data["phase"])
    table = np.zeros((number, number))
    np.add.at(table, (truth[rows].argmax(1), guess), 1)
    table /= np.maximum(table.sum(1, keepdims=True), 1)
    shown, left_out = np.arange(number), ""
    if number > _PHASES:
        others = table * (1 - np.eye(number))
        mistaken = np.flatnonzero((others.sum(0) > 0) | (others.sum(1) > 0))
        left_out = f" The other {number - len(mistaken)} of {number} phases are always right, and left out."
        shown = mistaken if len(mistaken) else shown[:_PHASES]
    names = data["phase"].values[shown]
    size = DOUBLE_COLUMN if len(shown) > _PHASES else SINGLE_COLUMN
    figure, axes = plt.subplots(figsize=(size, size * 0.9))
    image = axes.imshow(table[np.ix_(shown, shown)], cmap=SEQUENTIAL, vmin=0, vmax=1)
    font = 7 if len(shown) <= _PHASES else 4
    axes.set_xticks(range(len(shown)), names, rotation=90, fontsize=font)
    axes.set_yticks(range(len(shown)), names, fontsize=font)
    axes.set(xlabel="most probable phase", ylabel="phase")
    figure.colorbar(image, ax=axes, label="share of patterns")
    return figure, (
        "Which phase the model finds most probable in simulated patterns of one phase, held out. "
        f"{len(rows)} patterns.{left_out}"
    )


def path(run: Run) -> tuple[Figure, str] | None:
    """Patterns decoded on the straight line between the latents of two held-out patterns."""
    if not is_powder(run):
        return None
    import matplotlib.pyplot as plt

    data, model = run.main.data, run.main.model()
    rows = np.flatnonzero((data["origin"].values == "simulated") & (data["split"].values == 2))
    single = rows[data["phases"].values[rows].sum(1) == 1]
    first = single[0]
    other = next((r for r in single if data["label"].values[r] != data["label"].values[first]), single[-1])
    z = torch.as_tensor(run.main.latents["z"].values[[first, other]])
    steps = torch.linspace(0, 1, 6)[:, None]
    along = (1 - steps) * z[0] + steps * z[1]
    with torch.no_grad():
        likelihood: Any = model.decode(along, {"exposure": torch.ones(len(along))})
        rate = likelihood.fields["pattern"].mean.numpy()[:, 0]
    figure, axes = plt.subplots(figsize=(DOUBLE_COLUMN, 3.0))
    gap = 0.7 * float(rate.max())
    for number, pattern in enumerate(rate):
        colour = plt.get_cmap(SEQUENTIAL)(number / (len(rate) - 1) * 0.85)
        axes.plot(data["bin"].values, pattern + number * gap, color=colour, lw=0.9)
    axes.set(xlabel=_two_theta(run), ylabel="decoded rate over its mean, shifted", yticks=[])
    ends = [str(data["label"].values[r]) for r in (first, other)]
    return figure, (
        f"Decoded on the straight line between the latents of a pattern of {ends[0]} (below) and one of {ends[1]} "
        "(above): between them patterns of mixtures."
    )


def thinned_patterns(run: Run) -> tuple[Figure, str] | None:
    """A pattern of a hundredth of its counts, what the model makes of it, and the long exposure."""
    if not is_powder(run):
        return None
    import matplotlib.pyplot as plt

    data, model = run.main.data, run.main.model()
    origin = data["origin"].values
    rows = np.flatnonzero(origin == "measured")
    rows = rows if len(rows) else np.flatnonzero((origin == "simulated") & (data["split"].values == 2))
    mean = data["exposure"].values[rows]
    row = rows[np.argsort(mean)[len(mean) // 2]]
    counts = patterns_of(data, row[None])[:, None]
    thin, _ = thinned(counts, 0.01, 0)
    rate = denoised(model, thin)
    figure, panels = plt.subplots(3, 1, figsize=(DOUBLE_COLUMN, 4.2), sharex=True)
    shown = {"1 % of the counts": thin, "denoised": rate, "all counts": counts}
    for axes, (name, values) in zip(panels, shown.items(), strict=True):
        axes.plot(data["bin"].values, values[0, 0], lw=0.8, color=COLOURS[0])
        axes.set_title(name, loc="left")
        axes.set_ylabel("counts a bin")
        axes.set_ylim(bottom=0)
    panels[-1].set_xlabel(_two_theta(run))
    return figure, (
        f"A pattern of {data['label'].values[row]}: a hundredth of its counts, the rate that the model and its "
        "smoothed counts give, and all counts."
    )
