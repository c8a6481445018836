"""Space groups of thin films (data set ``xrd_pvlab``): latents of a model that saw none of them, beside patterns.

    python -m benchmarks.powder_films runs/scans-0

The model is one of scans.yaml, trained on simulated powders of other compounds. Each film takes the space group
of its nearest neighbour among films of other series (names that differ in numbers alone are one series): in
latents, by cosine, or in patterns without their background, smoothed by σ bins, by cosine and correlation over
bins both have. Scans that cover less than a third of the bins are left out. Balanced accuracy is the mean over
space groups of the share that is right: over all seven (one has a single film, which no neighbour can tell),
and over those of several series. The σ of patterns is the best one for this very table: there are too few films
to choose it on others. The last result is kept in the README and in benchmarks/results/powder_films.json.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import torch
from sciencevae.builtin.diffraction.mixtures import edges_of
from sciencevae.builtin.diffraction.references import smoothed, strip_background
from sciencevae.builtin.diffraction.scans import bin_counts, read_scan

from benchmarks.powder_phases import lines, rewrite
from benchmarks.turns import keep
from sciencevae.data.fetch import fetch
from sciencevae.data.manifest import load_manifest
from sciencevae.errors import InputError
from sciencevae.runs import Run

WIDTHS = (0.0, 2.0, 4.0, 8.0)


def films(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts (n, N), space group and series of each film."""
    manifest = load_manifest("xrd_pvlab")
    files = fetch(manifest)
    counts, groups, series = [], [], []
    for entry in manifest.files:
        try:
            found = bin_counts(read_scan(files[entry.name]), edges)
        except InputError:
            continue
        if np.isfinite(found).mean() < 1 / 3:
            continue
        counts.append(found)
        groups.append(entry.name.split(".")[0])
        series.append(groups[-1] + re.sub(r"[\d.]+", "#", unquote(entry.urls[0].rpartition("/")[2])))
    return np.array(counts), np.array(groups), np.array(series)


def distances(patterns: np.ndarray, centred: bool) -> np.ndarray:
    """1 − cosine, or correlation, of each two patterns over the bins that both have, (n, n)."""
    out = np.zeros((len(patterns),) * 2)
    for i, first in enumerate(patterns):
        for j, second in enumerate(patterns[:i]):
            both = np.isfinite(first) & np.isfinite(second)
            a, b = first[both], second[both]
            if centred:
                a, b = a - a.mean(), b - b.mean()
            out[i, j] = out[j, i] = 1 - (a @ b) / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-30)
    return out


def scored(distance: np.ndarray, groups: np.ndarray, series: np.ndarray) -> dict[str, float]:
    """Accuracy of the nearest neighbour of another series."""
    distance = np.where(series[:, None] == series, np.inf, distance)
    right = groups[distance.argmin(1)] == groups
    several = [g for g in np.unique(groups) if len(np.unique(series[groups == g])) > 1]
    return {
        "accuracy": float(right.mean()),
        "balanced": float(np.mean([right[groups == g].mean() for g in np.unique(groups)])),
        "several": float(np.mean([right[groups == g].mean() for g in several])),
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a finished run of scans.yaml")
    run = Run(parser.parse_args().run)
    counts, groups, series = films(edges_of(run.main.settings.source))
    x = torch.as_tensor(counts, dtype=torch.float32)[:, None]
    with torch.no_grad():
        posterior: Any = run.main.model().encode({"pattern": x}, {"exposure": x.nanmean((1, 2))})
    z = posterior.mean.numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    rows = {"latents (cosine)": scored(1 - z @ z.T, groups, series)}
    stripped = strip_background(counts, 40)
    for name, centred in (("cosine", False), ("correlation", True)):
        tried = [scored(distances(smoothed(stripped, width), centred), groups, series) for width in WIDTHS]
        rows[f"patterns ({name})"] = max(tried, key=lambda found: found["balanced"])
    head = f"{len(counts)} films, {len(np.unique(series))} series: nearest neighbour in"
    text = lines(
        (head, "accuracy", "balanced", "balanced, of several series"),
        (
            (name, *(f"{row[key]:.3f}" for key in ("accuracy", "balanced", "several")))
            for name, row in rows.items()
        ),
    )
    print(text)
    rewrite("powder_films", text)
    keep("powder_films", {"films": len(counts), "series": len(np.unique(series)), "table": rows})


if __name__ == "__main__":
    main()
