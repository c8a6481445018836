"""Clusters found where there is one, and where there is none: false alarms, recovery, calibration.

    python -m benchmarks.stars_recovery OUT --method ours --fields FOLDER      # run, or go on with, all of it
    python -m benchmarks.stars_recovery --table                                # the kept results, as Markdown
    python -m benchmarks.stars_recovery --figure FILE.png                      # and drawn

FOLDER (default: ``stars`` in $SCIENCEVAE_MIRROR) holds the Gaia fields NAME.parquet and published members; those of
every file ``*members*.parquet`` there are taken out of all fields, once for all methods: the fields without their
clusters lie in OUT/fields. Three kinds of field:

- **null**: resampled from the stars of each real field without its cluster (``without_cluster``;
  ``sciencevae.builtin.stars.injection.null_field``);
- **simulated**: of ``sciencevae.builtin.stars.simulate``, no cluster, 500 to 4,000 stars at any longitude,
  |b| < 20°;
- **injection**: 30 simulated members in a real field without its cluster, at G < 18. Three
  densities: 500, 1,500 and 4,000 stars. Where one field has fewer, they are drawn from its inner circle
  (0.165° at most) and those of others of its half of the split laid over it, moved to its centre: all stars
  are real. Over the usual field of 0.11 deg² that is 5,000 and 14,000, over the circle 47,000 stars a square
  degree. Fields cut in parallax take none.

A **false alarm** is any cluster in a null or simulated field. An injection is **recovered** when a reported
cluster (its stars of p ≥ 0.5) has F1 ≥ 0.5 with the injected stars; other clusters reported there count
neither way, since real ones may be left. The probabilities are those of the reported cluster with the best
F1; below F1 = 0.1 it is another cluster and the injected one has p = 0 throughout. A method that fails on a
field has alarmed, or missed.

A method is ``find(frame, seed) -> DataFrame(source_id, cluster, probability)``; it never sees the truth. Its
``attrs["score"]`` may hold {cluster: significance}: then a cluster counts from that score on at which at most
1 % of the chosen-on half's null and simulated fields have one (without those of ``MORE_THAN_ONE``), or from that
which the method itself asks for, ``LEAST``, if it is higher. Its ``attrs["clusters"]`` may hold rows (a
table) with cluster, ra, dec, parallax, pmra, pmdec and each one's NAME_error (deg for the places, mas,
mas/yr): their pulls are told.

Each finished field is a line of OUT/METHOD.jsonl, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sciencevae.builtin.stars import kinematics
from sciencevae.builtin.stars.injection import inject, null_field
from sciencevae.builtin.stars.population import TO_GALACTIC, Disc
from sciencevae.builtin.stars.settings import Analyse
from sciencevae.builtin.stars.simulate import Simulation, simulate

from sciencevae.data.atomic import atomic_path
from sciencevae.data.tables import write_table

from .stars_split import CHOSEN_ON, FIELDS, SCORED_ONLY, half_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHODS = {
    "ours": "benchmarks.stars_ours:find",
    "ours-without-latents": "benchmarks.stars_ours:find_without_latents",
    "hdbscan": "benchmarks.stars_recovery:hdbscan",
}
RESULTS = Path(__file__).parent / "results" / "stars_recovery.json"
DENSITIES = (500, 1500, 4000)
INJECTED = 30
FAINTEST = 18.0
WIDEST_DEG = 0.165  # the usual field is a box of 2 × 0.165°
#: fields in which another group of one motion is left that no catalogue here lists: we find it in the real field
#: too, at 2.55 mas with 236 nats and at 0.76 mas with 90. Null fields are counted with and without them
MORE_THAN_ONE = ("NGC1980", "M36")
#: the score from which on a method reports a cluster where it is used, whatever the threshold chosen here
LEAST = {"ours": Analyse().gain_min, "ours-without-latents": Analyse().gain_min}
HALVES = {"chosen-on": CHOSEN_ON, "scored-only": SCORED_ONLY}
BINS = np.linspace(0, 1, 11)
MAGNITUDES = (0, 13, 14, 15, 16, 17, 18)
PULLED = ("ra", "dec", "parallax", "pmra", "pmdec")
TRUTH = ["true_cluster", "true_binary", *(f"true_{name}" for name in PULLED)]


# fields


def clean(folder: Path, into: Path, processes: int) -> None:
    """The fields without their clusters, as ``into/NAME.parquet``; those that are there stay."""
    todo = [name for name in FIELDS if not (into / f"{name}.parquet").exists()]
    for told in _each(partial(_clean, folder, into), todo, processes):
        print(told, flush=True)


def _clean(folder: Path, into: Path, name: str) -> str:
    stars = without_cluster(folder, name)
    write_table(stars, into / f"{name}.parquet")
    return f"{name}: {len(stars)} stars without its cluster"


def without_cluster(folder: Path, name: str) -> pd.DataFrame:
    """A real field without its cluster: without the members of any published catalogue that is beside it, and
    without what is left of them, which is a cluster to any method: the stars with p ≥ 0.05 in our own cluster that
    holds most of the published members. Other clusters that we find there stay."""
    from .stars_ours import find_without_latents

    stars = pd.read_parquet(folder / f"{name}.parquet")
    known = pd.Index(
        np.concatenate([_identifiers(path) for path in sorted(folder.glob("*members*.parquet"))])
    )
    if stars["source_id"].isin(known).any():
        own = find_without_latents(stars, 0)
        likely = own[own["probability"] > 0.5]
        shared = likely["source_id"].isin(known).groupby(likely["cluster"]).sum()
        if len(shared):
            mine = own[(own["cluster"] == shared.idxmax()) & (own["probability"] >= 0.05)]
            known = known.union(pd.Index(mine["source_id"]))
    return stars[~stars["source_id"].isin(known)].reset_index(drop=True)


@cache
def _identifiers(path: Path) -> pd.Index:
    return pd.Index(pd.read_parquet(path, columns=["source_id"])["source_id"])


@cache
def cleaned(folder: Path, name: str) -> pd.DataFrame:
    """A field that ``clean`` wrote."""
    return pd.read_parquet(folder / f"{name}.parquet")


def bright(folder: Path, name: str) -> pd.DataFrame:
    """The cleaned field to G = 18, as most of them were cut."""
    stars = cleaned(folder, name)
    return stars[stars["phot_g_mean_mag"] < FAINTEST].reset_index(drop=True)


@cache
def bases(folder: Path, half: str, density: int) -> tuple[str, ...]:
    """Fields of the half that injections start from: of 500 or (density above) 1,000 stars, not cut in parallax."""
    least = min(density, 1000)
    found = {name: bright(folder, name) for name in HALVES[half]}
    return tuple(n for n, stars in found.items() if len(stars) >= least and stars["parallax"].min() < 0)


def background(folder: Path, half: str, name: str, density: int, random: np.random.Generator) -> pd.DataFrame:
    """``density`` stars of the field, or of its inner circle with others of its half laid over it."""
    stars = bright(folder, name)
    if len(stars) < density:
        centre, offsets = _on_sky(stars)
        radius = min(_inner_radius(offsets), WIDEST_DEG)
        stars = stars[np.linalg.norm(offsets, axis=1) < radius]
        for other in random.permutation([other for other in bases(folder, half, 500) if other != name]):
            added = bright(folder, other)
            _, places = _on_sky(added)
            if len(stars) >= density or _inner_radius(places) < 0.97 * radius:
                continue  # enough, or it would end within the circle
            inside = np.linalg.norm(places, axis=1) < radius
            ra, dec = kinematics.sky_position(kinematics.from_azimuthal(places[inside], centre))
            stars = pd.concat([stars, added[inside].assign(ra=ra, dec=dec)], ignore_index=True)
    if len(stars) < density:
        raise ValueError(
            f"{name}: {len(stars)} stars with all that can be laid over it, fewer than {density}"
        )
    return stars.iloc[random.permutation(len(stars))[:density]].reset_index(drop=True)


def _inner_radius(offsets: np.ndarray) -> float:
    """Of the circle about the centre that the outline of the points holds."""
    from scipy.spatial import ConvexHull

    return float(-ConvexHull(offsets).equations[:, 2].max())


def _on_sky(stars: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    direction = kinematics.directions(stars["ra"].to_numpy(), stars["dec"].to_numpy())
    centre = direction.mean(axis=0) / np.linalg.norm(direction.mean(axis=0))
    return centre, kinematics.azimuthal(direction, centre)


def empty(random: np.random.Generator, seed: int) -> pd.DataFrame:
    """A simulated field of the disc without a cluster."""
    b, l = np.radians(random.uniform(-20, 20)), random.uniform(0, 2 * np.pi)
    ra, dec = kinematics.sky_position(
        TO_GALACTIC.T @ [np.cos(b) * np.cos(l), np.cos(b) * np.sin(l), np.sin(b)]
    )
    disc = Disc(
        stars=int(np.exp(random.uniform(np.log(500), np.log(4000)))),
        gradient=random.uniform(0, 0.5),
        gradient_angle_deg=random.uniform(0, 360),
        extinction_mag_kpc=random.uniform(0.4, 1.0),
    )
    radius = random.choice([0.17, 0.5])
    return simulate(
        Simulation(ra=float(ra), dec=float(dec), radius_deg=radius, field=disc, clusters=()), seed
    )


# jobs


def jobs(folder: Path, nulls: int, simulated: int, injections: int) -> list[dict[str, Any]]:
    """What is to be done, in an order in which any beginning is a fair sample of the whole."""
    halves = tuple(HALVES)
    todo: list[dict[str, Any]] = []
    for number in range(nulls):
        field = FIELDS[number % len(FIELDS)]
        todo.append({"kind": "null", "field": field, "half": half_of(field), "number": number // len(FIELDS)})
    todo += [
        {"kind": "simulated", "half": halves[number % 2], "number": number} for number in range(simulated)
    ]
    for density in DENSITIES:
        for number in range(injections):
            half = halves[number % 2]
            names = bases(folder, half, density)
            field = names[number // 2 % len(names)]
            todo.append(
                {"kind": "injection", "density": density, "half": half, "field": field, "number": number}
            )
    for job in todo:
        job["key"] = "/".join(str(value) for value in job.values())
    return [todo[i] for i in np.random.default_rng(0).permutation(len(todo))]


def done(job: dict[str, Any], folder: Path, method: str) -> dict[str, Any]:
    """One field: made, searched and judged."""
    module, name = METHODS[method].split(":")
    find: Callable[[pd.DataFrame, int], pd.DataFrame] = getattr(importlib.import_module(module), name)
    seed = zlib.crc32(job["key"].encode()) % 2**30
    random = np.random.default_rng(seed)
    if job["kind"] == "null":
        frame = null_field(cleaned(folder, job["field"]), seed=seed)
    elif job["kind"] == "simulated":
        frame = empty(random, seed)
    else:
        stars = background(folder, job["half"], job["field"], job["density"], random)
        frame = inject(stars, INJECTED, seed)
    begin = time.perf_counter()
    record = job | {"stars": len(frame)}
    try:
        found = find(frame.drop(columns=TRUTH, errors="ignore"), seed % 2**31)
    except Exception as error:  # a failure of the method is a result
        return record | {"error": f"{type(error).__name__}: {error}"[:300]}
    record["seconds"] = round(time.perf_counter() - begin, 2)
    scores = {int(key): float(value) for key, value in found.attrs.get("score", {}).items()}
    clusters = [int(cluster) for cluster in found["cluster"].unique()]
    record["clusters"] = [{"cluster": cluster, "score": scores.get(cluster)} for cluster in clusters]
    if job["kind"] == "injection":
        record |= judged(frame, found)
    return record


def judged(frame: pd.DataFrame, found: pd.DataFrame) -> dict[str, Any]:
    """How well the reported cluster that fits best fits the injected stars, and how its probabilities do."""
    truth = frame["true_cluster"].to_numpy() == 1
    best: dict[str, Any] = {"f1": 0.0, "best": None}
    probability = np.zeros(len(frame))
    for cluster, rows in found.groupby("cluster"):
        p = frame["source_id"].map(rows.set_index("source_id")["probability"]).fillna(0.0).to_numpy(float)
        chosen = p >= 0.5
        hits = int((chosen & truth).sum())
        f1 = 2 * hits / max(int(chosen.sum()) + int(truth.sum()), 1)
        if f1 > best["f1"]:
            best = {
                "f1": f1,
                "best": int(cluster),
                "purity": hits / int(chosen.sum()),
                "complete": hits / int(truth.sum()),
            }
            probability = p
    if best["f1"] < 0.1:
        best["best"], probability = None, np.zeros(len(frame))
    place = np.digitize(probability, BINS[1:-1])
    magnitude = np.digitize(frame["phot_g_mean_mag"].to_numpy(), MAGNITUDES[1:-1])
    chosen = probability >= 0.5
    counted = partial(np.bincount, minlength=10)
    by_magnitude = partial(np.bincount, minlength=len(MAGNITUDES) - 1)
    best |= {
        "brier": float(((probability - truth) ** 2).mean()),
        "reliability": [
            counted(place).tolist(),
            counted(place, probability).round(4).tolist(),
            counted(place, truth).astype(int).tolist(),
        ],
        "magnitudes": [
            by_magnitude(magnitude[rows]).tolist() for rows in (truth, truth & chosen, chosen & ~truth)
        ],
    }
    table = found.attrs.get("clusters")
    if table is not None and best["best"] is not None:
        best["pulls"] = pulls(pd.DataFrame(table), best["best"], frame.attrs["cluster"])
    return best


def pulls(table: pd.DataFrame, cluster: int, truth: dict[str, Any]) -> dict[str, float]:
    """(estimate − truth)/error of those of ``PULLED`` that the table has."""
    (row,) = table[table["cluster"] == cluster].to_dict("records")
    true = truth | {"parallax": 1000 / truth["distance_pc"]}
    found = {}
    for name in PULLED:
        if {name, f"{name}_error"} <= row.keys():
            difference = row[name] - true[name]
            if name == "ra":  # the error is that of α cos δ
                difference = ((difference + 180) % 360 - 180) * np.cos(np.radians(true["dec"]))
            found[name] = float(difference / row[f"{name}_error"])
    return found


# a peer


def hdbscan(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """scikit-learn's HDBSCAN on (x, y, ϖ, μα*, μδ) over their percentiles 16 to 84; leaves of 10 stars or more.

    Probabilities are its own. It finds clusters in any field; the score is the contrast that tells real ones:
    the median distance to the 10th neighbour of the 50 nearest strangers, over that of the cluster's own
    stars. Both choices were made on the chosen-on half (leaves or excess of mass; 10, 15 or 20 stars; this or
    a Mann–Whitney test).
    """
    from scipy.spatial import cKDTree
    from sklearn.cluster import HDBSCAN

    stars = frame.dropna(subset=["parallax", "pmra", "pmdec"])
    values = np.concatenate([_on_sky(stars)[1], stars[["parallax", "pmra", "pmdec"]].to_numpy(float)], axis=1)
    low, high = np.quantile(values, [0.16, 0.84], axis=0)
    scaled = (values - np.median(values, axis=0)) / (high - low)
    fitted = HDBSCAN(min_cluster_size=10, min_samples=10, cluster_selection_method="leaf", copy=True).fit(
        scaled
    )
    labels = fitted.labels_
    kept = labels >= 0
    found = pd.DataFrame(
        {
            "source_id": stars["source_id"].to_numpy()[kept],
            "cluster": labels[kept],
            "probability": fitted.probabilities_[kept],
        }
    )
    tenth = cKDTree(scaled).query(scaled, k=11)[0][:, -1]
    found.attrs["score"] = {}
    for label in np.unique(labels[kept]):
        inside = labels == label
        away = np.linalg.norm(scaled - np.median(scaled[inside], axis=0), axis=1)
        strangers = np.argsort(np.where(kept, np.inf, away))[:50]
        found.attrs["score"][label] = float(np.median(tenth[strangers]) / np.median(tenth[inside]))
    return found


# results


def interval(hits: int, count: int) -> list[float]:
    """Clopper and Pearson's 95 % interval of a share."""
    from scipy.stats import binomtest

    found = binomtest(hits, count).proportion_ci(method="exact")
    return [round(float(found.low), 4), round(float(found.high), 4)]


def share(hits: int, count: int) -> dict[str, Any]:
    return {"hits": hits, "of": count, "interval": interval(hits, count) if count else None}


def summary(records: list[dict[str, Any]], least: float = -np.inf) -> dict[str, Any]:
    """Shares with their intervals for both halves and together, calibration, magnitudes and pulls."""
    blank = [r for r in records if r["kind"] != "injection" and r.get("field") not in MORE_THAN_ONE]
    threshold = max(_threshold([record for record in blank if record["half"] == "chosen-on"]), least)

    def counts(cluster: dict[str, Any]) -> bool:
        return cluster["score"] is None or cluster["score"] >= threshold

    def alarmed(record: dict[str, Any]) -> bool:
        return "error" in record or any(map(counts, record["clusters"]))

    def reported(record: dict[str, Any]) -> bool:
        return "error" not in record and any(
            cluster["cluster"] == record["best"] and counts(cluster) for cluster in record["clusters"]
        )

    def recovered(record: dict[str, Any]) -> bool:
        return reported(record) and record["f1"] >= 0.5

    found: dict[str, Any] = {
        "threshold": None if threshold == -np.inf else threshold,
        "failed": sum("error" in record for record in records),
        "seconds, median": float(np.median([record.get("seconds", np.nan) for record in records])),
        "false alarms": {},
        "recovery": {},
        "calibration": {},
    }
    for half in (*HALVES, "both"):
        mine = [record for record in records if half in (record["half"], "both")]
        for kind in ("null", "simulated"):
            those = [record for record in mine if record["kind"] == kind]
            found["false alarms"].setdefault(kind, {})[half] = share(sum(map(alarmed, those)), len(those))
        those = [r for r in mine if r["kind"] == "null" and r["field"] not in MORE_THAN_ONE]
        name = f"null, without {' and '.join(MORE_THAN_ONE)}"
        found["false alarms"].setdefault(name, {})[half] = share(sum(map(alarmed, those)), len(those))
        for density in DENSITIES:
            those = [record for record in mine if record.get("density") == density]
            found["recovery"].setdefault(str(density), {})[half] = share(
                sum(map(recovered, those)), len(those)
            )
        those = [record for record in mine if record["kind"] == "injection"]
        found["calibration"][half] = _calibration([r for r in those if reported(r)], those)
    return found


def _threshold(blank: list[dict[str, Any]]) -> float:
    """The score that at most 1 % of the fields without a cluster reach; −∞ for a method without scores."""
    scores = [[c["score"] for c in record.get("clusters", ())] for record in blank]
    if not any(value is not None for found in scores for value in found):
        return -np.inf
    highest = np.sort([max(found, default=-np.inf) for found in scores])[::-1]
    return float(np.nextafter(highest[int(0.01 * len(highest))], np.inf))


def _calibration(reported: list[dict[str, Any]], all_of_them: list[dict[str, Any]]) -> dict[str, Any]:
    if not all_of_them:
        return {}
    none = [INJECTED / record["stars"] for record in all_of_them]
    keys = {record["key"] for record in reported}
    brier = [
        record["brier"] if record["key"] in keys else blank
        for record, blank in zip(all_of_them, none, strict=True)
    ]
    found: dict[str, Any] = {"brier": float(np.mean(brier)), "brier of p = 0": float(np.mean(none))}
    if not reported:
        return found
    count, total, true = np.sum([record["reliability"] for record in reported], axis=0)
    found["reliability"] = [
        {
            "from": round(BINS[i], 1),
            "mean p": total[i] / max(count[i], 1),
            **share(int(true[i]), int(count[i])),
        }
        for i in range(10)
    ]
    members, hits, strangers = np.sum([record["magnitudes"] for record in reported], axis=0)
    found["magnitudes"] = [
        {
            "G": f"{low} to {high}" if low else f"below {high}",
            "completeness": share(int(hits[i]), int(members[i])),
            "contamination": share(int(strangers[i]), int(hits[i] + strangers[i])),
        }
        for i, (low, high) in enumerate(pairwise(MAGNITUDES))
    ]
    for name in PULLED:
        values = np.array([record["pulls"][name] for record in reported if name in record.get("pulls", {})])
        values = values[np.isfinite(values)]  # a parameter may have no error
        if len(values):
            found.setdefault("pulls", {})[name] = {
                "of": len(values),
                "median": float(np.median(values)),
                "within 1": float((np.abs(values) < 1).mean()),
                "within 2": float((np.abs(values) < 2).mean()),
            }
    return found


def table(results: dict[str, Any]) -> str:
    """Markdown: alarms and recovery, then of each method calibration, magnitudes and pulls, of both halves."""
    lines = ["| | half | " + " | ".join(results) + " |", "|---|---|" + "---|" * len(results)]
    for group, label in (
        ("false alarms", "false alarms, {} fields"),
        ("recovery", "recovered of 30 among {}"),
    ):
        for part in next(iter(results.values()))[group]:
            for half in (*HALVES, "both"):
                cells = " | ".join(_shown(found[group][part][half]) for found in results.values())
                lines.append(f"| {label.format(part)} | {half} | {cells} |")
    for half in (*HALVES, "both"):
        cells = " | ".join(
            "{brier:.4f} ({brier of p = 0:.4f})".format(**found["calibration"][half])
            if found["calibration"][half]
            else "–"
            for found in results.values()
        )
        lines.append(f"| Brier score (of p = 0) | {half} | {cells} |")
    for name, found in results.items():
        whole = found["calibration"]["both"]
        if "reliability" not in whole:
            continue
        lines += ["", f"{name}: stars of reported clusters by probability, and by magnitude at p ≥ 0.5", ""]
        lines += ["| p | mean p | injected |", "|---|---|---|"]
        lines += [
            f"| {row['from']:.1f} to {row['from'] + 0.1:.1f} | {row['mean p']:.3f} | {_shown(row)} |"
            for row in whole["reliability"]
        ]
        lines += ["", "| G | completeness | contamination |", "|---|---|---|"]
        lines += [
            f"| {row['G']} | {_shown(row['completeness'])} | {_shown(row['contamination'])} |"
            for row in whole["magnitudes"]
        ]
        if "pulls" in whole:
            lines += [
                "",
                "| (estimate − truth)/error | clusters | median | within 1 | within 2 |",
                "|---|---|---|---|---|",
            ]
            lines += [
                f"| {key} | {row['of']} | {row['median']:+.2f} | {row['within 1']:.0%} | {row['within 2']:.0%} |"
                for key, row in whole["pulls"].items()
            ]
    return "\n".join(lines)


def figure(results: dict[str, Any], path: Path) -> None:
    """The reliability diagram of ours and of HDBSCAN, and completeness and contamination by magnitude, of the
    scored-only half; bars are 95 % intervals."""
    import matplotlib.pyplot as plt

    from sciencevae.report.figures import COLOURS, DOUBLE_COLUMN, style

    def bars(axes: Axes, x: Sequence[float], rows: Sequence[dict[str, Any]], **how: Any) -> None:
        y = np.array([row["hits"] / row["of"] for row in rows])
        low, high = np.array([row["interval"] for row in rows]).T
        axes.errorbar(x, y, np.maximum([y - low, high - y], 0), marker="o", markersize=4, capsize=2, **how)

    with style():
        shown, (left, right) = plt.subplots(1, 2, figsize=(DOUBLE_COLUMN, 3.0))
        left.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        names = {"ours-without-latents": "sciencevae", "hdbscan": "HDBSCAN"}
        for colour, (method, name) in zip(COLOURS, names.items(), strict=False):
            reliability = results[method]["calibration"]["scored-only"]["reliability"]
            rows = [row for row in reliability if row["of"] >= 20]
            bars(left, [row["mean p"] for row in rows], rows, color=colour, label=name)
        left.set(xlabel="membership probability, mean", ylabel="share of true members", aspect="equal")
        magnitudes = results["ours-without-latents"]["calibration"]["scored-only"]["magnitudes"]
        for colour, kind in zip(COLOURS[2:], ("completeness", "contamination"), strict=False):
            bars(right, range(len(magnitudes)), [row[kind] for row in magnitudes], color=colour, label=kind)
        right.set(xlabel="G (mag)", ylim=(0, 1))
        right.set_xticks(range(len(magnitudes)), [row["G"].replace(" to ", "–") for row in magnitudes])
        for axes in (left, right):
            axes.legend(frameon=False)
        with atomic_path(path) as temporary:
            shown.savefig(temporary, format="png", dpi=200)


def _shown(row: dict[str, Any]) -> str:
    if not row["of"]:
        return "–"
    low, high = row["interval"]
    return f"{100 * row['hits'] / row['of']:.1f} % ({100 * low:.1f}–{100 * high:.1f}; {row['hits']} of {row['of']})"


# the run


def finished(path: Path) -> list[dict[str, Any]]:
    """The records of an earlier run; a last line that was being written when it was killed is taken away."""
    if not path.exists():
        return []
    whole = path.read_bytes()
    if kept := whole[: whole.rfind(b"\n") + 1]:
        records = [json.loads(line) for line in kept.splitlines()]
    else:
        records = []
    if len(kept) < len(whole):
        os.truncate(path, len(kept))
    return records


def run(
    out: Path, method: str, folder: Path, plan: list[dict[str, Any]], processes: int
) -> list[dict[str, Any]]:
    """The records of the plan, those of an earlier run among them."""
    path = out / f"{method}.jsonl"
    known = {record["key"]: record for record in finished(path)}
    todo = [job for job in plan if job["key"] not in known]
    print(f"{method}: {len(plan) - len(todo)} of {len(plan)} fields done before", flush=True)
    begin = time.monotonic()
    with path.open("ab") as file:
        for number, record in enumerate(
            _each(partial(done, folder=folder, method=method), todo, processes), 1
        ):
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            known[record["key"]] = record
            rest = (time.monotonic() - begin) / number * (len(todo) - number) / 60
            told = record.get("error") or f"{len(record['clusters'])} clusters"
            if "f1" in record:
                told += f", F1 {record['f1']:.2f}"
            print(f"{number}/{len(todo)} {record['key']}: {told}; {rest:.0f} min to go", flush=True)
    return [known[job["key"]] for job in plan]


def _each(function: Callable[[Any], Any], todo: list[Any], processes: int) -> Iterator[Any]:
    if processes < 2:
        yield from map(function, todo)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _end_with_parent) as pool:
        yield from pool.imap_unordered(function, todo)


def _end_with_parent() -> None:
    """Let no worker outlive a run that was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Run what is left to do, keep the summary, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", help="folder of the records")
    parser.add_argument("--method", choices=METHODS, default="ours")
    mirror = os.environ.get("SCIENCEVAE_MIRROR")
    parser.add_argument("--fields", type=Path, default=Path(mirror) / "stars" if mirror else None)
    parser.add_argument("--nulls", type=int, default=17 * len(FIELDS), help="over all fields")
    parser.add_argument("--simulated", type=int, default=200)
    parser.add_argument(
        "--injections", type=int, default=200, help="of each density, half of them in each half"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only print the table of the last result")
    parser.add_argument("--figure", type=Path, help="only draw the last result, to this PNG file")
    given = parser.parse_args()
    if given.figure:
        figure(json.loads(RESULTS.read_text()), given.figure)
        return
    if given.table:
        print(table(json.loads(RESULTS.read_text())))
        return
    if given.out is None or given.fields is None:
        parser.error("name a folder for the records, and --fields FOLDER or SCIENCEVAE_MIRROR")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes; there is one for each core
    fields = given.out / "fields"
    clean(given.fields, fields, given.processes)
    plan = jobs(fields, given.nulls, given.simulated, given.injections)
    records = run(given.out, given.method, fields, plan, given.processes)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[given.method] = summary(records, LEAST.get(given.method, -np.inf))
    RESULTS.parent.mkdir(exist_ok=True)
    with atomic_path(RESULTS) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
