"""Space groups of thin films (data set ``xrd_pvlab``): latents of models that saw none of them, beside patterns.

    python -m benchmarks.powder_films runs/scans-*

The models are of scans.yaml, trained on simulated powders of other compounds. Each film takes the space group
of its nearest neighbour among films of other series (names that differ in numbers alone are one series): in
latents, in the log-odds of the 82 phases that they decode to (how like a film is to each of these structures),
or in patterns without their background, smoothed by σ bins, by cosine and correlation over bins both have. The
σ of patterns is the best one for this very table: there are too few films to choose it on others. Scans that
cover less than a third of the bins are left out.

Balanced accuracy is the mean over space groups of the share that is right: over all seven (one has a single
film, which no neighbour can tell), and over those of several series. Same group: P(two films of one space
group, but of two series, are nearer than two of different groups). Rand: the adjusted Rand index of as many
clusters as space groups, by average linkage. Of several models the mean and the range. The difference of log-
odds and the best patterns in balanced accuracy of several series has an interval from series drawn anew. The
last result is kept in the README and in benchmarks/results/powder_films.json.
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
from sciencevae.builtin.diffraction.powder_groups import log_odds, unit
from sciencevae.builtin.diffraction.references import smoothed, strip_background
from sciencevae.builtin.diffraction.scans import bin_counts, read_scan

from benchmarks.powder_phases import area, cell, lines, rewrite
from benchmarks.turns import keep
from sciencevae.data.fetch import fetch
from sciencevae.data.manifest import load_manifest
from sciencevae.errors import InputError
from sciencevae.runs import Run

WIDTHS = (0.0, 2.0, 4.0, 8.0)
COLUMNS = {
    "accuracy": "accuracy",
    "balanced": "balanced",
    "several": "balanced, of several series",
    "same": "same group told by distance (area)",
    "rand": "clusters: adjusted Rand index",
}


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


def right(distance: np.ndarray, groups: np.ndarray, series: np.ndarray) -> np.ndarray:
    """Whether the nearest film of another series is of the same space group, (n,)."""
    apart = np.where(series[:, None] == series, np.inf, distance)
    return np.asarray(groups[apart.argmin(1)] == groups)


def of_several(groups: np.ndarray, series: np.ndarray) -> list[str]:
    """The space groups that films of more than one series have."""
    return [g for g in np.unique(groups) if len(np.unique(series[groups == g])) > 1]


def scored(distance: np.ndarray, groups: np.ndarray, series: np.ndarray) -> dict[str, float]:
    """What the table says of distances, (n, n)."""
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.metrics import adjusted_rand_score

    told, kinds = right(distance, groups, series), np.unique(groups)
    i, j = np.triu_indices(len(groups), 1)
    i, j = i[series[i] != series[j]], j[series[i] != series[j]]
    linked = AgglomerativeClustering(len(kinds), metric="precomputed", linkage="average").fit_predict(
        distance
    )
    return {
        "accuracy": float(told.mean()),
        "balanced": balanced(told, groups, kinds),
        "several": balanced(told, groups, of_several(groups, series)),
        "same": area(-distance[i, j], groups[i] == groups[j]),
        "rand": float(adjusted_rand_score(groups, linked)),
    }


def balanced(told: np.ndarray, groups: np.ndarray, kinds: Any) -> float:
    """The mean over space groups of the share that is right, of those that there are."""
    return float(np.mean([told[groups == g].mean() for g in kinds if (groups == g).any()]))


def difference(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray, series: np.ndarray, draws: int = 2000
) -> list[float]:
    """first − second (n,), right or not, in balanced accuracy: itself, and 2.5 and 97.5 % of series drawn anew."""
    random, kinds = np.random.default_rng(0), of_several(groups, series)
    rows = {name: np.flatnonzero(series == name) for name in np.unique(series)}
    names = list(rows)
    found = []
    for _ in range(draws):
        own = np.concatenate([rows[names[k]] for k in random.integers(len(names), size=len(names))])
        found.append(balanced(first[own] * 1.0 - second[own], groups[own], kinds))
    return [balanced(first * 1.0 - second, groups, kinds), *np.percentile(found, [2.5, 97.5]).tolist()]


def cosines(rows: np.ndarray) -> np.ndarray:
    """1 − cosine of each two rows, (n, n)."""
    return np.asarray(1 - unit(rows) @ unit(rows).T)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="finished runs of scans.yaml")
    runs = [Run(folder) for folder in parser.parse_args().runs]
    counts, groups, series = films(edges_of(runs[0].main.settings.source))
    x = torch.as_tensor(counts, dtype=torch.float32)[:, None]
    by_run: dict[str, list[dict[str, float]]] = {}
    told = []
    for run in runs:
        model = run.main.model()
        with torch.no_grad():
            posterior: Any = model.encode({"pattern": x}, {"exposure": x.nanmean((1, 2))})
        z = posterior.mean.numpy()
        odds = cosines(log_odds(model, z))
        told.append(right(odds, groups, series))
        for name, distance in (("latents (cosine)", cosines(z)), ("log-odds of phases (cosine)", odds)):
            by_run.setdefault(name, []).append(scored(distance, groups, series))
    stripped = strip_background(counts, 40)
    best, most = None, -1.0
    for name, centred in (("cosine", False), ("correlation", True)):
        tried = [distances(smoothed(stripped, width), centred) for width in WIDTHS]
        found = [scored(distance, groups, series) for distance in tried]
        k = max(range(len(tried)), key=lambda k: found[k]["balanced"])
        by_run[f"patterns ({name})"] = [found[k]]
        if found[k]["several"] > most:
            best, most = right(tried[k], groups, series), found[k]["several"]
    assert best is not None
    rows = {
        name: {key: [float(f([one[key] for one in found])) for f in (np.mean, min, max)] for key in COLUMNS}
        for name, found in by_run.items()
    }
    many = len(runs)
    gap = difference(np.mean(told, 0), best, groups, series)
    head = f"{len(counts)} films, {len(np.unique(series))} series, {many} model(s): nearest neighbour in"
    text = lines(
        (head, *COLUMNS.values()),
        ((name, *(cell(row, key) for key in COLUMNS)) for name, row in rows.items()),
    )
    text += (
        f"\n\nLog-odds less patterns, balanced accuracy of several series: {gap[0]:+.3f} (95 %: {gap[1]:+.3f} to "
        f"{gap[2]:+.3f}, series drawn anew)."
    )
    print(text)
    rewrite("powder_films", text)
    keep(
        "powder_films",
        {
            "films": len(counts),
            "series": len(np.unique(series)),
            "runs": many,
            "table": rows,
            "difference": gap,
        },
    )


if __name__ == "__main__":
    main()
