"""Figures of powder patterns: scans with the lines of the phases found, the map of latents, confusion, a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sciencevae.report.figures import COLOURS, DOUBLE_COLUMN, SEQUENTIAL, SINGLE_COLUMN

from .axes import anode, two_theta_from_d
from .crystals import reflections
from .powder_analysis import _batch, _powder, denoised, known_crystals, probabilities, thinned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciencevae.runs import Run

__all__ = ["confusion", "path", "phase_map", "scans", "thinned_patterns"]

_X = r"$2\theta$ (°)"


def scans(run: Run) -> tuple[Figure, str] | None:
    """Four patterns, measured where there are some, with what the model decodes and the lines of its phases."""
    if not _powder(run):
        return None
    import matplotlib.pyplot as plt

    data, model = run.main.data, run.main.model()
    origin, split = data["origin"].values, data["split"].values
    rows = np.flatnonzero(origin == "measured")
    if not len(rows):
        rows = np.flatnonzero((origin == "simulated") & (split == 2))
    rows = rows[np.linspace(0, len(rows) - 1, 4).astype(int)]
    batch = _batch(data, rows)
    found = probabilities(model, batch)
    with torch.no_grad():
        likelihood: Any = model.decode(model.encode(batch.x, batch.context).mean, batch.context)
        rate = likelihood.fields["pattern"].mean.numpy()[:, 0]
    crystals, angle = known_crystals(run), data["bin"].values
    tube = anode(data.attrs["anode"])
    figure, panels = plt.subplots(4, 1, figsize=(DOUBLE_COLUMN, 6.0), sharex=True)
    for axes, row, decoded, probability in zip(panels, rows, rate, found, strict=True):
        counts = data["pattern"].values[row, 0]
        axes.plot(angle, counts, color="0.6", lw=0.7, label="counts")
        axes.plot(angle, decoded, color=COLOURS[0], lw=0.9, label="decoded rate")
        first = np.argsort(-probability)[:3].tolist()
        likely = [k for k in first if probability[k] > 0.2] or first[:1]
        for place, k in enumerate(likely):
            lines = reflections(crystals[k], tube.alpha1, float(angle[-1]))
            at = two_theta_from_d(lines.d, tube.mean)
            level = -0.08 * (place + 1) * np.nanmax(counts)
            shown = at > angle[0]
            label = f"{crystals[k].name} ({probability[k]:.2f})"
            axes.plot(
                at[shown], np.full(shown.sum(), level), "|", ms=5, color=COLOURS[1 + place], label=label
            )
        axes.set_ylabel("counts a bin")
        axes.set_title(str(data["label"].values[row]), loc="left")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    panels[-1].set_xlabel(_X)
    return figure, (
        "Patterns that training did not see, the rate decoded from their latents, and the lines of the phases that "
        "the model finds most probable (in brackets); above each panel, what the sample is known to hold."
    )


def phase_map(run: Run) -> tuple[Figure, str] | None:
    """Latents of single-phase patterns in the plane that parts the phases best."""
    if not _powder(run) or run.main.data.sizes["phase"] < 2:
        return None
    import matplotlib.pyplot as plt
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    data = run.main.data
    truth, z = data["phases"].values, run.main.latents["z"].values
    single = (data["origin"].values == "simulated") & (truth.sum(1) == 1)
    phase = truth.argmax(1)
    train = single & (data["split"].values == 0)
    held = single & (data["split"].values > 0)
    plane = LinearDiscriminantAnalysis(n_components=2).fit(z[train], phase[train])
    names = data["phase"].values
    figure, axes = plt.subplots(figsize=(DOUBLE_COLUMN * 0.75, 3.4))
    places = plane.transform(z[held])
    if len(names) <= len(COLOURS):
        for k, name in enumerate(names):
            own = places[phase[held] == k]
            axes.plot(*own.T, ".", color=COLOURS[k], label=name, ms=4)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        axes.scatter(places[:, 0], places[:, 1], c=phase[held], cmap=SEQUENTIAL, s=5)
    measured = data["origin"].values == "measured"
    if measured.any():
        axes.plot(*plane.transform(z[measured]).T, "k*", ms=5, label="measured")
    axes.set(xlabel="first discriminant of the latents", ylabel="second discriminant")
    return figure, (
        "Latents of single-phase patterns that training did not see, in the plane that parts the phases of "
        "training patterns best (linear discriminants); one colour a phase, stars: measured scans."
    )


def confusion(run: Run) -> tuple[Figure, str] | None:
    """Which phase single-phase test patterns are taken for."""
    if not _powder(run) or run.main.data.sizes["phase"] < 2:
        return None
    import matplotlib.pyplot as plt

    data = run.main.data
    truth = data["phases"].values
    rows = np.flatnonzero(
        (data["origin"].values == "simulated") & (data["split"].values > 0) & (truth.sum(1) == 1)
    )
    guess = probabilities(run.main.model(), _batch(data, rows)).argmax(1)
    number = len(data["phase"])
    table = np.zeros((number, number))
    np.add.at(table, (truth[rows].argmax(1), guess), 1)
    table /= np.maximum(table.sum(1, keepdims=True), 1)
    names = data["phase"].values
    size = DOUBLE_COLUMN if number > 20 else SINGLE_COLUMN
    figure, axes = plt.subplots(figsize=(size, size * 0.9))
    image = axes.imshow(table, cmap=SEQUENTIAL, vmin=0, vmax=1)
    font = 7 if number <= 20 else 3.5
    axes.set_xticks(range(number), names, rotation=90, fontsize=font)
    axes.set_yticks(range(number), names, fontsize=font)
    axes.set(xlabel="most probable phase", ylabel="phase")
    figure.colorbar(image, ax=axes, label="share of patterns")
    return figure, "Which phase the model finds most probable in simulated patterns of one phase, held out."


def path(run: Run) -> tuple[Figure, str] | None:
    """Patterns decoded on the straight line between the latents of two held-out patterns."""
    if not _powder(run):
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
    axes.set(xlabel=_X, ylabel="decoded rate over its mean, shifted", yticks=[])
    ends = [str(data["label"].values[r]) for r in (first, other)]
    return figure, (
        f"Decoded on the straight line between the latents of a pattern of {ends[0]} (below) and one of {ends[1]} "
        "(above): between them patterns of mixtures."
    )


def thinned_patterns(run: Run) -> tuple[Figure, str] | None:
    """A pattern of a hundredth of its counts, what the model makes of it, and the long exposure."""
    if not _powder(run):
        return None
    import matplotlib.pyplot as plt

    data, model = run.main.data, run.main.model()
    origin = data["origin"].values
    rows = np.flatnonzero(origin == "measured")
    rows = rows if len(rows) else np.flatnonzero((origin == "simulated") & (data["split"].values == 2))
    mean = data["exposure"].values[rows]
    row = rows[np.argsort(mean)[len(mean) // 2]]
    counts = data["pattern"].values[[row]]
    thin, _ = thinned(counts, 0.01, 0)
    rate = denoised(model, thin)
    figure, panels = plt.subplots(3, 1, figsize=(DOUBLE_COLUMN, 4.2), sharex=True)
    shown = {"1 % of the counts": thin, "denoised": rate, "all counts": counts}
    for axes, (name, values) in zip(panels, shown.items(), strict=True):
        axes.plot(data["bin"].values, values[0, 0], lw=0.8, color=COLOURS[0])
        axes.set_title(name, loc="left")
        axes.set_ylabel("counts a bin")
    panels[-1].set_xlabel(_X)
    return figure, (
        f"A pattern of {data['label'].values[row]}: a hundredth of its counts, the rate that the model decodes "
        "from them, and all of them."
    )
