"""The figures of a run, drawn from its tables, latents and models on disk, and a film of its fields."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.report.figures import COLOURS, DIVERGING, DOUBLE_COLUMN, SEQUENTIAL, Moving

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciencevae.runs import Run, Variant

__all__ = ["film", "forecast", "reconstruction", "rollout", "snapshots", "spectra", "trajectories"]

_PICTURES = (64, 128)  # rows and columns that data on points are drawn with
_TITLES = ("truth", "decoded", "decoded − truth")
_FILM_FRAMES, _FILM_RATE = 32, 8  # at most; a second


def snapshots(run: Run) -> tuple[Figure, str]:
    """Test frames at three times, decoded, and what is missed."""
    import matplotlib.pyplot as plt

    variant = run.main
    rows = _test_run(variant)
    some = rows[np.linspace(0, len(rows) - 1, 5).astype(int)[1:-1]]
    truth, found, label, note = _pictures(variant, some)
    limit = _limits(truth)
    missed = _about_zero(found - truth)
    figure, panels = plt.subplots(3, 3, figsize=(DOUBLE_COLUMN, _height(truth) * 3 + 0.3), squeeze=False)
    for row, row_of in enumerate(some):
        shown = ((truth[row], limit), (found[row], limit), (found[row] - truth[row], missed))
        for column, (values, scale) in enumerate(shown):
            image = panels[row, column].imshow(values, origin="lower", **scale)
            panels[row, column].set(xticks=[], yticks=[])
            if row == 0:
                panels[row, column].set_title(_TITLES[column])
                if column:
                    below = panels[:, :2] if column == 1 else panels[:, 2]
                    bar = figure.colorbar(image, ax=below, label=label, location="bottom", shrink=0.7)
                    bar.ax.locator_params(nbins=4)
        panels[row, 0].set_ylabel(_clock(variant, row_of), rotation=0, ha="right", va="center")
    return figure, f"Test frames, decoded from {run.settings.model.latent} latents. {note}".strip()


def film(run: Run) -> tuple[Moving, str]:
    """Truth, decoded and error over a stretch of test frames, as a film."""
    import matplotlib.pyplot as plt
    from matplotlib.animation import FFMpegWriter, PillowWriter

    variant = run.main
    rows = _test_run(variant)
    rows = rows[: _FILM_FRAMES * max(len(rows) // _FILM_FRAMES, 1) : max(len(rows) // _FILM_FRAMES, 1)]
    truth, found, label, note = _pictures(variant, rows[:_FILM_FRAMES])
    limit, missed = _limits(truth), _about_zero(found - truth)
    figure, panels = plt.subplots(1, 3, figsize=(DOUBLE_COLUMN, _height(truth) + 0.9))
    images = []
    for panel, title, scale in zip(panels, _TITLES, (limit, limit, missed), strict=True):
        images.append(panel.imshow(truth[0], origin="lower", **scale))
        panel.set(xticks=[], yticks=[], title=title)
    for image, under in ((images[0], panels[:2]), (images[2], panels[2])):
        bar = figure.colorbar(image, ax=under, label=label, location="bottom", shrink=0.7)
        bar.ax.locator_params(nbins=4)
    clock = panels[0].set_xlabel(" ")
    figure.canvas.draw()
    figure.set_layout_engine("none")  # laid out once: frame by frame takes most of the time

    def show(k: int) -> None:
        for image, values in zip(images, (truth[k], found[k], found[k] - truth[k]), strict=True):
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
    return Moving(figure, films), f"A test run as it is, as decoded, and the difference. {note}".strip()


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
    shown = shown[np.linspace(0, len(shown) - 1, min(len(shown), 8)).astype(int)]
    for k, number in enumerate(shown):
        own = np.flatnonzero((frames.run == number) & frames.original)
        panels[0].plot(*plane[own].T, lw=0.6, color=COLOURS[k % len(COLOURS)])
    test = _test_run(variant)
    own = np.flatnonzero((frames.run == frames.run[test[0]]) & frames.original)
    for k in range(min(z.shape[1], 3)):
        panels[1].plot(frames.time[own], centred[own] @ axes[k], lw=0.8, label=f"component {k + 1}")
    unit = variant.data.attrs["time_unit"]
    panels[0].set(xlabel="component 1", ylabel="component 2", aspect="equal")
    panels[1].set(xlabel=f"time ({unit})" if unit else "time", ylabel="latent component")
    panels[1].legend(loc="upper left")
    return figure, (
        "Left: latents of runs in the plane of their two leading components; a periodic flow is a closed curve. "
        "Right: the leading components of a test run in time."
    )


def forecast(run: Run) -> tuple[Figure, str]:
    """The error of forecasts against the lead time, for the model and its baselines."""
    import matplotlib.pyplot as plt

    table = run.table("forecast")
    phases = list(table.phase.unique())
    figure, panels = plt.subplots(1, len(phases), figsize=(DOUBLE_COLUMN, 2.6), squeeze=False, sharey=True)
    for panel, phase in zip(panels[0], phases, strict=True):
        for k, (name, part) in enumerate(table[table.phase == phase].groupby("model", sort=False)):
            line = "-" if str(name).split(":")[0] in run.variants else "--"
            panel.plot(
                part.lead_time, part.error, line, marker=".", color=COLOURS[k % len(COLOURS)], label=name
            )
        panel.axhline(1, color="0.6", lw=0.6)
        unit = run.main.data.attrs["time_unit"]
        label = f"lead time ({unit})" if unit else "lead time"
        panel.set(xlabel=label, title=phase if len(phases) > 1 else None, yscale="log")
    panels[0, 0].set_ylabel("relative error")
    panels[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, (
        "Error of forecasts of test frames by lead time; 1 is the training mean as the forecast. Solid: in the "
        "model's latents; dashed: POD with the same choice of forecasters, DMD, the last frame."
    )


def rollout(run: Run) -> tuple[Figure, str]:
    """The energy of a long forecast, beside the truth where there is one."""
    import matplotlib.pyplot as plt

    table = run.table("rollout")
    figure, panel = plt.subplots(figsize=(DOUBLE_COLUMN / 2, 2.2))
    for k, (name, part) in enumerate(table.groupby("model", sort=False)):
        panel.plot(part.frame, part.of_training, color=COLOURS[k % len(COLOURS)], label=name)
    first = table[table.model == table.model.iloc[0]]
    truth = first.truth * first.of_training / first.energy
    panel.plot(first.frame, truth, color="black", lw=0.8, label="truth")
    panel.axhline(1, color="0.6", lw=0.6)
    panel.set(xlabel="frames ahead", ylabel="energy / largest in training", ylim=(0, None))
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


def _pictures(variant: Variant, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, str, str]:
    """One field of frames, true and decoded, (n, H, W), its label, and what is to be said of it."""
    from .frames import Frames, decoded
    from .writing import physical

    frames = Frames(variant)
    z = variant.latents["z"].values[rows]
    made = decoded(variant.model(), z, frames.condition(rows))
    truth = physical(frames.data, frames.data["x"].isel(sample=rows).values)
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
    if k is None:
        u, v = names.index("u"), names.index("v")
        curl = [
            np.gradient(f[:, v], places[1], axis=2) - np.gradient(f[:, u], places[0], axis=1)
            for f in (truth, found)
        ]
        unit = f"{units[u]}/{axes[0].attrs.get('units') or '1'}".replace("m/s/m", "1/s")
        return curl[0], curl[1], f"vorticity ({unit})", note
    found[:, k][np.isnan(truth[:, k])] = np.nan
    return truth[:, k], found[:, k], f"{label} ({units[k]})", note


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


def _height(values: np.ndarray) -> float:
    return min(DOUBLE_COLUMN / 3.6 * values.shape[1] / values.shape[2], 2.4)
