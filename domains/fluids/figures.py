"""The figures of a run, drawn from its tables, latents and models on disk, and a film of its fields."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sciencevae.data.rows import evenly
from sciencevae.report.figures import COLOURS, DIVERGING, DOUBLE_COLUMN, SEQUENTIAL, Moving

from .analysis import parameters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciencevae.runs import Run, Variant

__all__ = ["film", "forecast", "reconstruction", "rollout", "snapshots", "spectra", "trajectories"]

_PICTURES = (64, 128)  # rows and columns that data on points are drawn with
_TITLES = ("truth", "decoded", "decoded − truth")
_FILM_FRAMES, _FILM_RATE = 32, 8  # at most; a second
_CYCLES = 200  # frames of a run that are drawn as a curve, where none grows to its cycle


def snapshots(run: Run) -> tuple[Figure, str]:
    """Test frames at three times, decoded, and what is missed."""
    import matplotlib.pyplot as plt

    variant = run.main
    rows = _test_run(variant)
    some = rows[np.linspace(0, len(rows) - 1, 5).astype(int)[1:-1]]
    seen = _pictures(variant, some)
    limit, missed = _limits(seen.truth), _about_zero(seen.missed)
    figure, panels = plt.subplots(
        3, 3, figsize=(DOUBLE_COLUMN, _height(seen) * 3 + 0.9), squeeze=False, sharex=True, sharey=True
    )
    for row, row_of in enumerate(some):
        shown = ((seen.truth[row], limit), (seen.found[row], limit), (seen.missed[row], missed))
        for column, (values, scale) in enumerate(shown):
            panel = panels[row, column]
            image = panel.imshow(values, origin="lower", extent=seen.extent, **scale)
            panel.spines[:].set_visible(False)
            if row == 0:
                panel.set_title(_TITLES[column])
                if column:
                    below = panels[:, :2] if column == 1 else panels[:, 2]
                    bar = figure.colorbar(
                        image, ax=below, label=seen.label, location="bottom", shrink=0.7, pad=0.02
                    )
                    bar.ax.locator_params(nbins=4)
        beside = {"transform": panels[row, 2].transAxes, "va": "center", "rotation": 270}
        panels[row, 2].text(1.04, 0.5, _clock(variant, row_of), **beside)
    panels[1, 0].set_ylabel(seen.axes[1])
    for panel in panels[-1]:
        panel.set_xlabel(seen.axes[0])
    dim = variant.latents.sizes["latent"]
    told = f"Frames of a test run{_which(variant, some[0])}, decoded from {dim} latents. {seen.note}"
    return figure, told.strip()


def film(run: Run) -> tuple[Moving, str]:
    """Truth, decoded and error over a stretch of test frames, as a film."""
    import matplotlib.pyplot as plt
    from matplotlib.animation import FFMpegWriter, PillowWriter

    variant = run.main
    rows = _test_run(variant)
    rows = rows[: _FILM_FRAMES * max(len(rows) // _FILM_FRAMES, 1) : max(len(rows) // _FILM_FRAMES, 1)]
    seen = _pictures(variant, rows[:_FILM_FRAMES])
    truth, found = seen.truth, seen.found
    limit, missed = _limits(truth), _about_zero(seen.missed)
    figure, panels = plt.subplots(1, 3, figsize=(DOUBLE_COLUMN, _height(seen) + 1.2), sharey=True)
    images = []
    for panel, title, scale in zip(panels, _TITLES, (limit, limit, missed), strict=True):
        images.append(panel.imshow(truth[0], origin="lower", extent=seen.extent, **scale))
        panel.spines[:].set_visible(False)
        panel.set(title=title, xlabel=seen.axes[0])
    panels[0].set_ylabel(seen.axes[1])
    for image, under in ((images[0], panels[:2]), (images[2], panels[2])):
        bar = figure.colorbar(image, ax=under, label=seen.label, location="bottom", shrink=0.7)
        bar.ax.locator_params(nbins=4)
    clock = figure.suptitle(_clock(variant, rows[0]), fontsize="medium")
    figure.canvas.draw()
    figure.set_layout_engine("none")  # laid out once: frame by frame takes most of the time

    def show(k: int) -> None:
        for image, values in zip(images, (truth[k], found[k], seen.missed[k]), strict=True):
            image.set_data(values)
        clock.set_text(_clock(variant, rows[k]))

    films = {}
    for suffix, writer in (("gif", PillowWriter), ("mp4", FFMpegWriter)):
        if not writer.isAvailable():
            continue
        with tempfile.TemporaryDirectory() as folder:
            path, made = Path(folder) / f"film.{suffix}", writer(fps=_FILM_RATE)
            with made.saving(figure, str(path), dpi=110):
                for k in range(len(truth)):
                    show(k)
                    made.grab_frame()
            films[suffix] = path.read_bytes()
    show(len(truth) // 2)
    return Moving(figure, films), (
        f"A test run{_which(variant, rows[0])} as it is, as decoded, and the difference. {seen.note}".strip()
    )


def reconstruction(run: Run) -> tuple[Figure, str]:
    """The error of decoded test frames, beside POD of as many modes."""
    import matplotlib.pyplot as plt

    table = run.table("reconstruction")
    table = table[table.part == "test"]
    labels = [f"{row.model}, {row.phase}" for row in table.itertuples()]
    place = np.arange(len(table))
    figure, panel = plt.subplots(figsize=(DOUBLE_COLUMN / 2, 0.35 * len(table) + 0.8))
    for shift, name, label, colour in ((-0.18, "error", "VAE", 0), (0.18, "pod", "POD", 1)):
        panel.barh(place + shift, 100 * table[name], 0.34, color=COLOURS[colour], label=label)
    panel.set(yticks=place, yticklabels=labels, xlabel="relative error of test frames (%)", xlim=(0, None))
    panel.invert_yaxis()
    panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, (
        "Error of decoded test frames (L2, weighted by mass, over the L2 of the fluctuation about the training "
        "mean), beside POD of as many modes."
    )


def trajectories(run: Run) -> tuple[Figure, str]:
    """The latents of test runs in their leading plane, and one of them in time."""
    import matplotlib.pyplot as plt

    from .frames import Frames

    variant = run.main
    frames, z = Frames(variant), variant.latents["z"].values
    centred = z - z[frames.split == 0].mean(0)
    axes = np.linalg.svd(centred[frames.split == 0], full_matrices=False)[2]
    plane = centred @ axes[:2].T if z.shape[1] > 1 else np.column_stack([z[:, 0], np.zeros(len(z))])
    figure, panels = plt.subplots(1, 2, figsize=(DOUBLE_COLUMN, 2.6), gridspec_kw={"width_ratios": [1, 1.6]})
    shown = np.unique(frames.run[frames.original])
    shown = shown[evenly(len(shown), 8)]
    known = parameters(variant, told=True)
    starts = [np.flatnonzero((frames.run == number) & frames.original)[0] for number in shown]
    colours: Any = [COLOURS[0]] * len(shown)
    if len(known) == 1:  # else no colour says which run it is
        ((name, parameter),) = known.items()
        values = variant.data[name].values[starts]
        scale = plt.Normalize(values.min(), values.max())
        colours = plt.get_cmap(SEQUENTIAL)(scale(values))
        figure.colorbar(plt.cm.ScalarMappable(scale, SEQUENTIAL), ax=panels[0], label=parameter.title)
    most = None if run.settings.analyse.transient else _CYCLES
    for number, colour in zip(shown, colours, strict=True):
        own = np.flatnonzero((frames.run == number) & frames.original)[:most]
        panels[0].plot(*plane[own].T, lw=0.6, color=colour)
    test = _test_run(variant)
    own = np.flatnonzero((frames.run == frames.run[test[0]]) & frames.original)[:most]
    for k in range(min(z.shape[1], 3)):
        panels[1].plot(frames.time[own], centred[own] @ axes[k], lw=0.8, label=f"component {k + 1}")
    panels[0].set(xlabel="component 1", ylabel="component 2", aspect="equal")
    panels[1].set(xlabel=_with_unit("time", run), ylabel="latent component")
    panels[1].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    some = "one run" if len(shown) == 1 else f"{len(shown)} runs"
    if most and len(own) == most:
        some += f" (the first {most} frames)"
    return figure, (
        f"Left: latents of {some} in the plane of their two leading principal components; a periodic flow is a "
        "closed curve. Right: the leading components of a test run in time."
    )


def forecast(run: Run) -> tuple[Figure, str]:
    """The error of forecasts against the lead time, for the model and its baselines."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogFormatter

    table = run.table("forecast")
    phases = list(table.phase.unique())
    figure, panels = plt.subplots(1, len(phases), figsize=(DOUBLE_COLUMN, 2.6), squeeze=False, sharey=True)
    for panel, phase in zip(panels[0], phases, strict=True):
        for k, (name, part) in enumerate(table[table.phase == phase].groupby("model", sort=False)):
            line = "-" if str(name).split(":")[0] in run.variants else "--"
            panel.plot(
                part.lead_time,
                100 * part.error,
                line,
                marker=".",
                color=COLOURS[k % len(COLOURS)],
                label=name,
            )
        panel.axhline(100, color="0.6", lw=0.6, label="training mean")
        label = _with_unit("lead time", run)
        panel.set(xlabel=label, title=phase if len(phases) > 1 else None, yscale="log")
        panel.yaxis.set_major_formatter(LogFormatter())
        panel.yaxis.set_minor_formatter(LogFormatter())
    panels[0, 0].set_ylabel("relative error (%)")
    panels[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, (
        "Error of forecasts of test frames (L2 over the L2 of the fluctuation about the training mean) by lead "
        "time. Solid: in the model's latents; dashed: POD with the same choice of forecasters, DMD, the last frame."
    )


def rollout(run: Run) -> tuple[Figure, str]:
    """The energy of a long forecast, beside the truth where there is one."""
    import matplotlib.pyplot as plt

    table, step = run.table("rollout"), float(run.main.data.attrs["time_step"])
    figure, panel = plt.subplots(figsize=(DOUBLE_COLUMN / 2, 2.2))
    for k, (name, part) in enumerate(table.groupby("model", sort=False)):
        panel.plot(step * part.frame, part.of_training, color=COLOURS[k % len(COLOURS)], label=name)
    first = table[table.model == table.model.iloc[0]]
    truth = first.truth * first.of_training / first.energy
    panel.plot(step * first.frame, truth, color="black", lw=0.8, label="truth")
    panel.axhline(1, color="0.6", lw=0.6)
    panel.set(xlabel=_with_unit("time ahead", run), ylabel="energy / largest in training", ylim=(0, None))
    panel.legend()
    return figure, (
        "A long forecast from the first test window: the energy of its fluctuation about the training mean, in "
        "units of the largest of a training frame, beside the truth for as long as there is one."
    )


def spectra(run: Run) -> tuple[Figure, str] | None:
    """The energy of velocity by wavenumber, of test frames, decoded, and of a long forecast."""
    import matplotlib.pyplot as plt

    if not (run.tables / "spectra.csv").is_file():
        return None
    table = run.table("spectra")
    figure, panel = plt.subplots(figsize=(DOUBLE_COLUMN / 2, 2.2))
    for k, (name, part) in enumerate(table.groupby("frames", sort=False)):
        line = "-" if name == "test frames" else "--"
        panel.loglog(part.wavenumber, part.energy, line, color="black" if k == 0 else COLOURS[k], label=name)
    panel.set(xlabel="wavenumber (cycles in the longer side)", ylabel="energy")
    panel.legend()
    return (
        figure,
        "Energy of the velocity by wavenumber: of test frames, decoded, and in the end of a long forecast.",
    )


def _test_run(variant: Variant) -> np.ndarray:
    """The rows of the longest stretch of test frames of one run."""
    split, run = variant.data["split"].values, variant.data["run"].values
    test = np.flatnonzero(split == 2)
    stretches = np.split(test, np.flatnonzero((np.diff(test) > 1) | (np.diff(run[test]) != 0)) + 1)
    return max(stretches, key=len)


class Pictures(NamedTuple):
    """One field of frames, true and decoded, (n, H, W), its label with unit, the edges of the pictures (left,
    right, bottom, top), the labels of x and y, and what is to be said of them."""

    truth: np.ndarray
    found: np.ndarray
    label: str
    extent: tuple[float, float, float, float]
    axes: tuple[str, str]
    note: str

    @property
    def missed(self) -> np.ndarray:
        return self.found - self.truth


def _pictures(variant: Variant, rows: np.ndarray) -> Pictures:
    from .frames import Frames, decoded
    from .writing import physical

    frames = Frames(variant)
    z = variant.latents["z"].values[rows]
    made = decoded(variant.model(), z, frames.condition(rows))
    truth = physical(frames.data, frames.values(rows))
    found = physical(frames.data, frames.scaling.invert("x", made))
    names = list(variant.data.attrs["channels"])
    note, prefix = "", "basis_{}" if frames.on_modes else "{}_position"
    axes = [variant.data[prefix.format(axis)] for axis in ("y", "x")]
    places = [axis.values for axis in axes]
    if truth.ndim == 3:  # on points
        from .points import interpolation_error, on_grid

        (y, x), mass = places, variant.data["basis_mass"].values
        hole = float(variant.data.attrs.get("hole", 0.0))
        both = np.concatenate([truth, found])
        grid = on_grid(x, y, both, _PICTURES, hole)
        mean = variant.data["basis_mean"].values
        first = (truth[0] - mean)[None]
        error = interpolation_error(x, y, first[0], mass, on_grid(x, y, first[0], _PICTURES, hole))
        note = f"Drawn on {_PICTURES[0]} × {_PICTURES[1]} points by linear interpolation, which loses {error:.1%}."
        truth, found, places = grid[2][: len(rows)], grid[2][len(rows) :], [grid[1], grid[0]]
    if said := variant.data.attrs.get("note"):
        note = f"{note} The data: {said}.".strip()
    k, label = _shown(names)
    units = variant.data.attrs.get("channel_units") or variant.data["unit"].values.tolist()
    length = str(axes[0].attrs.get("units") or "")
    if k is None:
        u, v = names.index("u"), names.index("v")
        curl = [
            np.gradient(f[:, v], places[1], axis=2) - np.gradient(f[:, u], places[0], axis=1)
            for f in (truth, found)
        ]
        unit = f"{units[u]}/{length or '1'}".replace("m/s/m", "1/s")
    else:
        found[:, k][np.isnan(truth[:, k])] = np.nan
        curl, unit = [truth[:, k], found[:, k]], units[k]
    edges = [(p[0] - (p[1] - p[0]) / 2, p[-1] + (p[-1] - p[-2]) / 2) for p in reversed(places)]
    named = [f"{name} ({length})" if length not in ("", "1") else name for name in ("x", "y")]
    label = label if unit in ("", "1") else f"{label} ({unit})"
    return Pictures(curl[0], curl[1], label, (*edges[0], *edges[1]), (named[0], named[1]), note)


def _shown(names: list[str]) -> tuple[int | None, str]:
    """The field that says most in a picture; None: the vorticity, of u and v."""
    for name in ("density", "vorticity"):
        if name in names:
            return names.index(name), name
    if {"u", "v"} <= set(names):
        return None, "vorticity"
    return 0, names[0]


def _limits(values: np.ndarray) -> dict[str, Any]:
    """The colour scale: about zero where a field has both signs."""
    low, high = np.nanquantile(values, [0.005, 0.995])
    if low < -0.05 * high:
        most = max(-low, high)
        return {"cmap": DIVERGING, "vmin": -most, "vmax": most}
    return {"cmap": SEQUENTIAL, "vmin": min(low, 0.0), "vmax": high}


def _about_zero(errors: np.ndarray) -> dict[str, Any]:
    """The colour scale of differences, their own: small ones are to be seen."""
    most = float(np.nanquantile(np.abs(errors), 0.998))
    return {"cmap": DIVERGING, "vmin": -most, "vmax": most}


def _clock(variant: Variant, row: int) -> str:
    return f"t = {variant.data['time'].values[row]:.3g} {variant.data.attrs['time_unit']}".strip()


def _which(variant: Variant, row: int) -> str:
    """The parameters of a frame's run, where they are few."""
    known = parameters(variant, told=True)
    if not 1 <= len(known) <= 3:
        return ""
    return f" ({', '.join(one.told(variant.data[name].values[row]) for name, one in known.items())})"


def _with_unit(words: str, run: Run) -> str:
    unit = run.main.data.attrs["time_unit"]
    return f"{words} ({unit})" if unit else words


def _height(seen: Pictures) -> float:
    left, right, bottom, top = seen.extent
    return min(max(DOUBLE_COLUMN / 3.6 * (top - bottom) / (right - left), 0.8), 2.4)
