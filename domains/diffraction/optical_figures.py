"""The figures of light, drawn from a run's tables, latents and models on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.data.rows import row_blocks
from sciencevae.data.splits import split_rows
from sciencevae.report.figures import COLOURS, DOUBLE_COLUMN, SEQUENTIAL, image_grid

from .optical_analysis import decode_rows, optical_variants, varied
from .optical_settings import Optical
from .parameters import WORDS, units_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sciencevae.registry import Drawn
    from sciencevae.runs import Run, Variant

__all__ = ["denoised", "determined", "interpolated", "patterns", "recovered"]

_SHOWN = 6  # trainings that a figure has room for
_COUNTS, _TRUTH, _DECODED = "0.6", COLOURS[7], COLOURS[5]


def patterns(run: Run) -> Drawn | None:
    """Test patterns of the first training: counts, without noise, and decoded."""
    import matplotlib.pyplot as plt

    variant = next(iter(optical_variants(run).values()), None)
    if variant is None:
        return None
    test = split_rows(variant.data, "test")
    counts = row_blocks(variant.data[["x"]].reset_coords(drop=True), test)
    flat = (block["x"].values.reshape(block.sizes["sample"], -1) for block in counts)
    dark = np.argsort(np.concatenate([np.nansum(part, 1) for part in flat]))
    rows = test[dark[np.linspace(0, len(test) - 1, 6).astype(int)]]
    data, decoded = variant.data.isel(sample=rows).load(), decode_rows(variant, rows)
    kinds = {"counts": data["x"].values, "decoded": decoded}
    if "expected" in data:
        kinds["without noise"] = data["expected"].values
    if decoded.ndim == 4:
        images = np.stack([values[:, 0] for values in kinds.values()], 1)  # (n, kinds, H, W)
        images = images / np.nanmax(images, (1, 2, 3), keepdims=True)
        return image_grid(images.swapaxes(0, 1), row_labels=list(kinds), limits=(0, 1)), (
            f"{variant.name}: test patterns, from few photons (left) to many: counts, decoded from their latents, "
            f"and without noise. Each column has its own scale.{_set_up(variant)}"
        )
    figure, panels = plt.subplots(2, 3, figsize=(DOUBLE_COLUMN, 3.6), sharex=True)
    x = data["pixel"].values
    for i, axes in enumerate(panels.flat):
        axes.plot(x, kinds["counts"][i], ".", color=_COUNTS, ms=2, label="counts")
        if "without noise" in kinds:
            axes.plot(x, kinds["without noise"][i], color=_TRUTH, lw=0.8, label="without noise")
        axes.plot(x, decoded[i], "--", color=_DECODED, lw=0.8, label="decoded")
        axes.set_ylim(0, None)
        if "photons" in data.coords:
            axes.set_title(f"{data['photons'].values[i]:,.0f} photons", fontsize="small")
    for axes in panels[1]:
        axes.set_xlabel("position on the sensor (mm)")
    for axes in panels[:, 0]:
        axes.set_ylabel("counts of a pixel")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(kinds))
    return (
        figure,
        f"{variant.name}: test patterns, from few photons to many, and what their latents decode to."
        f"{_set_up(variant)}",
    )


def recovered(run: Run) -> Drawn | None:
    """Each training's best axis against the parameter it goes with, test data."""
    import matplotlib.pyplot as plt

    if not (run.tables / "recovery.csv").exists():
        return None
    table = run.table("recovery")
    best = table.loc[table.groupby("model", sort=False)["spearman"].idxmax()].to_dict("records")[:_SHOWN]
    figure, panels = plt.subplots(
        1, len(best), figsize=(min(DOUBLE_COLUMN, 2.4 * len(best)), 2.4), squeeze=False
    )
    for axes, row in zip(panels[0], best, strict=True):
        variant = run.variants[row["model"]]
        test = variant.latents["split"].values == 2
        values = varied(variant)[row["parameter"]][test]
        axes.plot(values, variant.latents["z"].values[test, row["axis"]], ".", ms=1.5)
        axes.set(xlabel=_labelled(row["parameter"]), title=f"{row['model']}: |ρ| = {row['spearman']:.4f}")
        axes.set_ylabel(f"$z_{{{row['axis']}}}$")
    return figure, (
        "Of each training the latent (chosen on validation data) and the parameter that go together best; test "
        "data, |ρ|: Spearman's rank correlation."
    )


def determined(run: Run) -> Drawn | None:
    """R² of each parameter and of the products that are determined in its place."""
    import matplotlib.pyplot as plt

    if not (run.tables / "identifiability.csv").exists():
        return None
    table = run.table("identifiability")
    kept = ("model", "parameter", "r2", "r2_low", "r2_high", "verdict")
    rows: list[tuple[Any, ...]] = [tuple(row[key] for key in kept) for row in table.to_dict("records")]
    if (run.tables / "determined.csv").exists():
        products = run.table("determined")
        rows += [
            (row["model"], row["product"], row["r2"], row["r2"], row["r2"], "product")
            for row in products.to_dict("records")
            if row["product"] not in set(table.parameter)
        ]
    order = {name: place for place, name in enumerate(run.variants)}
    rows.sort(key=lambda row: order[row[0]])
    colours = {"identifiable": COLOURS[2], "partly": COLOURS[1], "not identifiable": COLOURS[5]}
    colours["product"] = COLOURS[0]
    figure, axes = plt.subplots(figsize=(DOUBLE_COLUMN, 0.5 + 0.17 * len(rows)))
    seen = set()
    for place, (_, _, r2, low, high, verdict) in enumerate(rows):
        label = {"product": "product of powers"}.get(verdict, verdict) if verdict not in seen else None
        seen.add(verdict)
        axes.barh(place, max(r2, 0), color=colours[verdict], height=0.7, label=label)
        axes.plot([max(low, 0), max(high, 0)], [place, place], color="black", lw=0.8)
        axes.text(1.02, place, f"{r2:.4f}", va="center", fontsize="small")
    axes.set_yticks(range(len(rows)), [f"{model}: {name}" for model, name, *_ in rows])
    axes.set(xlabel="R² from the latents and what the model is told, test data", xlim=(0, 1.01))
    axes.invert_yaxis()
    axes.legend(loc="center left", bbox_to_anchor=(1.1, 0.5))
    return figure, (
        "How far patterns that share their latents (and what the model is told) share a parameter. Where "
        "parameters are not identifiable, the products of powers that are determined in their place are shown; an "
        "R² above 0 is then what the ranges, within which they were drawn, leave of them. Lines: 95 % over test "
        "data."
    )


def denoised(run: Run) -> Drawn | None:
    """What is left of the noise, against the photons of a pattern."""
    import matplotlib.pyplot as plt

    if not (run.tables / "denoising_by_photons.csv").exists():
        return None
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    table = run.table("denoising_by_photons")
    models = list(dict.fromkeys(table.model))[:3]
    figure, panels = plt.subplots(
        1, len(models), figsize=(min(DOUBLE_COLUMN, 3.2 * len(models)), 2.6), squeeze=False, sharey=True
    )
    for axes, model in zip(panels[0], models, strict=True):
        for colour, (method, rows) in zip(
            COLOURS, table[table.model == model].groupby("method", sort=False), strict=False
        ):
            axes.loglog(rows.photons, rows.chi2, "o-", color=colour, label=method, ms=2.5)
        axes.axhline(1, color="0.6", lw=0.6, zorder=0)
        axes.set_title(model)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda photons, _: f"{photons:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
    figure.supxlabel("photons through the aperture", fontsize="medium")
    panels[0][0].set_ylabel("mean (estimate − truth)²/truth")
    panels[0][-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, (
        "What is left of the noise: mean of (estimate − truth)²/truth over the pixels of test patterns. 1, the "
        "grey line, is the shot noise of the counts. VAE: decoded from the encoder's latents; refined: from "
        "latents fitted to each pattern. Filters have the setting that is best on validation data."
    )


def interpolated(run: Run) -> Drawn | None:
    """From one test pattern to another in the latents, and new patterns from the prior."""
    import matplotlib.pyplot as plt
    import torch

    from sciencevae.latents.traverse import interpolate
    from sciencevae.vae.model import centre

    variant = next((v for v in optical_variants(run).values() if not v.settings.prepare.told), None)
    if variant is None:
        return None
    z, model = variant.latents["z"].values, variant.model()
    test = np.flatnonzero(variant.latents["split"].values == 2)
    widest = int(z[test].var(0).argmax())
    ends = test[np.argsort(z[test, widest])[[len(test) // 20, -len(test) // 20]]]
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(run.settings.analyse.seed)
        way = interpolate(torch.from_numpy(z[ends[:1]]), torch.from_numpy(z[ends[1:]]), 6)[:, 0]
        drawn = model.prior().sample((6,))
        found = [centre(model.decode(codes)).numpy() for codes in (way, drawn)]
    labels = ("between two patterns", "from the prior")
    if found[0].ndim == 4:
        images = np.stack([rates[:, 0] / rates.max((1, 2, 3))[:, None, None] for rates in found])
        return image_grid(images, row_labels=labels, limits=(0, 1)), _interpolated_caption(variant)
    figure, panels = plt.subplots(1, 2, figsize=(DOUBLE_COLUMN, 2.6), sharex=True)
    for axes, rates, label in zip(panels, found, labels, strict=True):
        _stack(axes, variant.data["pixel"].values, rates)
        axes.set(xlabel="position on the sensor (mm)", title=label, yticks=[])
    panels[0].set_ylabel("rates, one above the other")
    return figure, _interpolated_caption(variant)


def _interpolated_caption(variant: Variant) -> str:
    return (
        f"{variant.name}: decoded on a straight line from the latents of one test pattern to those of another, and "
        "from latents drawn from the prior. Each pattern has its own scale."
    )


def _set_up(variant: Variant) -> str:
    """What was simulated; nothing of a user's own patterns."""
    source = variant.settings.source
    if variant.run.input is not None or not isinstance(source, Optical):
        return ""
    holes = []
    for hole in source.apertures:
        sizes = hole.model_dump(exclude={"kind"}).items()
        holes.append(f"{hole.kind} ({', '.join(_stated(key, value) for key, value in sizes)})")
    common = {key: getattr(source, key) for key in ("wavelength_nm", "distance_mm", "shift_um", "photons")}
    light = ", ".join(_stated(key, value) for key, value in common.items() if value != 0)
    sensor = f"{source.sensor.pixels} pixels of {source.sensor.pitch_um:g} µm"
    return f" Simulated ({source.propagation}): {' or '.join(holes)}; {light}; {sensor}."


def _stated(key: str, value: Any) -> str:
    """A setting in words: ``width 30–80 µm``."""
    low, high = value if isinstance(value, tuple) else (value, value)
    number = f"{low:,g}" if low == high else f"{low:,g}–{high:,g}"
    unit = units_of(key)
    word = key.removesuffix("_" + key.rpartition("_")[2]) if unit != "1" else key
    return f"{word} {number}" + (f" {unit}" if unit != "1" else "")


def _stack(axes: Axes, x: np.ndarray, rates: np.ndarray) -> None:
    import matplotlib.pyplot as plt

    colours: Any = plt.get_cmap(SEQUENTIAL)
    for i, rate in enumerate(rates):
        axes.plot(x, 0.9 * rate / rate.max() - i, color=colours(i / len(rates)), lw=0.9)


def _labelled(parameter: str) -> str:
    unit = units_of(parameter)
    return WORDS.get(parameter, parameter) + (f" ({unit})" if unit != "1" else "")
