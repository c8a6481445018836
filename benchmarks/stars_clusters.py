"""The Hyades and the Pleiades by a mixture on the data, on the latents, and refined; several seeds.

    python benchmarks/stars_clusters.py [--seeds 3] [--quick] [--empty 20] [--table]

Of the mixtures, of as many components as give candidates, that component is reported that shares most stars with
the refined cluster: stars with p > 0.5, their median parallax and proper motion. For the Hyades also against the
literature's motion, which no method was told: the stars within 30 pc of the centre (Perryman et al. 1998:
46.34 pc) whose proper motion at their own parallax points at the literature's convergent point (97.91°,
+6.66°) with one speed, within 3σ of their own errors and 0.7 km/s. The speed is the one number fitted. With
the velocity turned around, the same cut keeps the stars counted as ``chance``. The last result is kept in
benchmarks/results/stars_clusters.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sciencevae.builtin.stars import DOMAIN, kinematics
from sciencevae.builtin.stars.analysis import active_latents, motion_distance, star_field
from sciencevae.builtin.stars.clusters import by_mixture, candidates, find_clusters
from sciencevae.builtin.stars.dataset import prepare
from sciencevae.builtin.stars.mixture import KAPPA, Cluster, Field
from sciencevae.builtin.stars.uncertainty import errors_of

from sciencevae.config import load
from sciencevae.data.batches import as_batches
from sciencevae.data.fetch import fetch
from sciencevae.data.scaling import Scaling
from sciencevae.data.splits import with_splits
from sciencevae.training.loop import fit

CONVERGENT_POINT = (97.91, 6.66)  # degrees, Perryman et al. 1998
CENTRE = (66.73, 15.87, 46.34)  # RA, Dec in degrees, pc; the same
REACH_PC, DISPERSION_KMS = 30.0, 0.7
VARIANTS: dict[str, dict[str, Any]] = {
    "VAE": {},
    "VAE, proper motions decoded directly": {"model": {"perspective": False}},
    "VAE, standard prior": {"model": {"prior": "standard"}},
}


def literature_members(stars: Field) -> tuple[np.ndarray, int, float]:
    """Stars that move with the literature's Hyades; how many by chance; the speed that was fitted."""
    point = kinematics.directions(*map(np.array, CONVERGENT_POINT))
    centre = kinematics.directions(*map(np.array, CENTRE[:2]))
    parallax = np.maximum(stars.y[:, 0], 1e-3)
    near = np.linalg.norm(stars.direction * 1000 / parallax[:, None] - CENTRE[2] * centre, axis=1) < REACH_PC
    along, across, angle = kinematics.transverse(stars.direction, stars.y[:, 1:], *CONVERGENT_POINT)
    moving = near & (np.abs(across) < 0.1 * np.abs(along)) & (along > 50)
    speed = float(np.median(kinematics.speed_along(parallax, along, angle)[moving]))

    def within(velocity: np.ndarray) -> np.ndarray:
        scatter = 1000 / CENTRE[2] * DISPERSION_KMS / KAPPA
        model = Cluster(1000 / CENTRE[2], velocity, 0.0, scatter, np.zeros(2), np.eye(2))
        return near & (motion_distance(model, stars) < 3.44)

    return within(speed * point), int(within(-speed * point).sum()), speed


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """F1 of two sets of stars."""
    return float(2 * (first & second).sum() / max(first.sum() + second.sum(), 1))


def measured(method: str, members: np.ndarray, stars: Field, known: np.ndarray | None) -> dict[str, Any]:
    row: dict[str, Any] = {"method": method, "stars": int(members.sum())}
    if members.any():
        row["median"] = np.median(stars.y[members], axis=0).round(2).tolist()
    if known is not None:
        row["F1"] = round(overlap(members, known), 3)
        row["missed"], row["strangers"] = int((known & ~members).sum()), int((members & ~known).sum())
    return row


def one(variant: str, method: str, seed: int, hip2: Path) -> list[dict[str, Any]]:
    """All methods on one field with one seed."""
    changes: dict[str, Any] = {
        "seed": seed,
        "prepare": {"position": variant},
        "analyse": {"seed": seed},
        **VARIANTS[method],
    }
    base = load(DOMAIN)
    base = base.variant(variant) if variant in base.variants else base.variant("main")
    plain = base.dump()
    for section, values in changes.items():
        plain[section] = {**plain[section], **values} if isinstance(values, dict) else values
    settings = DOMAIN.settings.model_validate(plain)
    data = with_splits(prepare(settings, {"hip2.dat": hip2}, None), settings.prepare.fractions, 0)
    data.attrs["scaling"] = Scaling.fit(data).to_json()
    stars, _, _ = star_field(data)
    known = literature_members(stars)[0] if variant == "hyades" else None

    torch.manual_seed(seed)
    model = DOMAIN.build(settings, data)
    begin = time.process_time()
    fit(
        model,
        as_batches(data, split="train"),
        objective=DOMAIN.objective(settings, data) if DOMAIN.objective else None,
        valid=as_batches(data, split="valid"),
        settings=settings.training.model_copy(update={"seed": seed, "threads": 1}),
        progress=False,
    )
    trained = time.process_time() - begin
    (batch,) = as_batches(data).blocks(data.sizes["sample"])
    with torch.no_grad():
        posterior = model.encode(batch.x, batch.context)
        z, z_std = posterior.mean.double().numpy(), posterior.stddev.double().numpy()
    used = active_latents(z, z_std)

    chosen = settings.analyse
    latent = by_mixture(z[:, used], chosen.components, chosen.seed)
    on_data = by_mixture(np.concatenate([stars.offsets, stars.y], axis=1), chosen.components, chosen.seed)
    found = find_clusters(stars, candidates(stars, z[:, used], chosen), chosen)
    rows = []
    for number, cluster in enumerate(found.mixture.clusters):
        final = found.membership[:, number] > 0.5
        # the Hyades' field holds the Pleiades too
        is_hyades = variant == "hyades" and abs(cluster.parallax - 21.5) < 3
        truth = known if is_hyades else None
        name = (
            "hyades" if is_hyades else "pleiades" if abs(cluster.parallax - 8) < 1.5 else f"cluster {number}"
        )
        for label, groups in (
            ("mixture on the data", on_data),
            (f"{method}: mixture on the latents", latent),
        ):
            columns = [np.isin(np.arange(len(stars)), rows_of) for rows_of in groups]
            best = max(columns, key=lambda column: overlap(column, final))
            if overlap(best, final) < 0.3:
                best = np.zeros_like(final)
            rows.append({"cluster": name, **measured(label, best, stars, truth)})
        refined = measured(f"{method}: error-aware mixture", final, stars, truth)
        rows.append(
            {
                "cluster": name,
                **refined,
                "parallax": [
                    round(cluster.parallax, 3),
                    round(float(np.sqrt(errors_of(stars, found.mixture, number).motion[0, 0])), 3),
                ],
                "gain": [round(value, 1) for value in found.gains[number]],
            }
        )
    return [{"field": variant, "seed": seed, "train_cpu_s": round(trained, 1), **row} for row in rows]


def empty_fields(hip2: Path, count: int) -> int:
    """In how many fields without a cluster one is found: stars of the Hyades' cone without the members of both
    clusters, resampled, with places on the sky permuted against parallax and motion; candidates from the data."""
    settings = DOMAIN.settings()
    stars, _, _ = star_field(prepare(settings, {"hip2.dat": hip2}, None))
    rows = candidates(stars, None, settings.analyse)
    stars = stars[find_clusters(stars, rows, settings.analyse).membership.sum(1) < 0.3]
    alarms = 0
    for seed in range(count):
        random = np.random.default_rng(seed)
        rows = random.integers(0, len(stars), 1200)
        places = random.permutation(rows)
        field = Field(
            stars.y[rows],
            stars.covariance[rows],
            stars.offsets[places],
            stars.direction[places],
            stars.footprint,
        )
        found = find_clusters(field, candidates(field, None, settings.analyse), settings.analyse)
        alarms += bool(found.mixture.clusters)
    return alarms


def summary(rows: list[dict[str, Any]]) -> str:
    """A Markdown table: one row a field, cluster and method; the range over the seeds."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        label = row["method"].removeprefix("VAE: ")
        groups.setdefault((row["field"], row["cluster"], label), []).append(row)
    lines = [
        "| field, cluster | method | seeds | stars | ϖ (mas) | μα*, μδ (mas/yr) | F1 | missed | strangers |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (field, cluster, method), found in groups.items():
        seeds = len({row["seed"] for row in found})
        medians = [row["median"] for row in found if "median" in row]
        columns = list(zip(*medians, strict=True)) or [(), (), ()]
        lines.append(
            f"| {field}, {cluster} | {method} | {seeds} | {_range([row['stars'] for row in found])} | "
            f"{_range(columns[0])} | {_range(columns[1])}, {_range(columns[2])} | "
            + " | ".join(
                _range([row[name] for row in found if name in row]) for name in ("F1", "missed", "strangers")
            )
            + " |"
        )
    return "\n".join(lines)


def _range(values: Any) -> str:
    values = sorted(set(values))
    return "–" if not values else f"{values[0]}" if len(values) == 1 else f"{values[0]} to {values[-1]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, the Pleiades alone")
    parser.add_argument("--table", action="store_true", help="only print the table of the last result")
    parser.add_argument(
        "--empty", type=int, metavar="N", help="only: false alarms in N fields without a cluster"
    )
    arguments = parser.parse_args()
    path = Path(__file__).parent / "results" / "stars_clusters.json"
    if arguments.table:
        print(summary(json.loads(path.read_text())["rows"]))
        return
    torch.set_num_threads(1)
    hip2 = fetch("hipparcos", progress=False)["hip2.dat"]
    if arguments.empty:
        found = {"fields": arguments.empty, "false alarms": empty_fields(hip2, arguments.empty)}
        print(found)
        last = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(last | {"empty": found}, indent=1) + "\n")
        return
    settings = DOMAIN.settings()
    stars, _, _ = star_field(prepare(settings, {"hip2.dat": hip2}, None))
    known, chance, speed = literature_members(stars)
    print(f"literature's motion of the Hyades: {known.sum()} stars, {chance} by chance, {speed:.2f} km/s")
    plan = [("pleiades", "VAE", seed) for seed in range(1 if arguments.quick else arguments.seeds)]
    if not arguments.quick:
        plan += [("hyades", "VAE", seed) for seed in range(arguments.seeds)]
        plan += [("hyades", method, 0) for method in list(VARIANTS)[1:]]
    rows: list[dict[str, Any]] = []
    path.parent.mkdir(exist_ok=True)
    for field, method, seed in plan:
        for row in one(field, method, seed, hip2):
            rows.append(row)
            print(*(f"{key}={value}" for key, value in row.items()), sep="  ", flush=True)
        if not arguments.quick:
            found = {"literature members": int(known.sum()), "chance": chance, "speed_kms": round(speed, 2)}
            host = {
                "machine": platform.machine(),
                "python": platform.python_version(),
                "torch": torch.__version__,
            }
            path.write_text(json.dumps({"hyades": found, **host, "rows": rows}, indent=1) + "\n")
    print(summary(rows))


if __name__ == "__main__":
    main()
