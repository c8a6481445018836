"""Where candidates come from: the data, latents of a model trained on each field, or of one trained once for all.

    python -m benchmarks.stars_latents --fields FOLDER [--names NAME …]
    python -m benchmarks.stars_latents --table

Each field (as in ``benchmarks.stars_fields``) is searched four times by the same error-aware mixture: with the
candidates of the data alone, of the latents of its own model alone, of the latents of one model for all fields
alone, and with those of data and own latents together, as ``sciencevae run stars`` does. The model for all is
trained once, on the fields of the chosen-on half laid over each other: each about one centre, in radii of its own,
its parallaxes, motions and photometry in units of its own spread; so it knows no space velocities. F1 at p ≥ 0.5
and average precision against the published members, of the first cluster; seconds of training and encoding, and of
candidates and search. The last result is kept in benchmarks/results/stars_latents.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from sciencevae.builtin.stars import DOMAIN, kinematics
from sciencevae.builtin.stars.analysis import star_field
from sciencevae.builtin.stars.clusters import by_mixture, candidates, find_clusters
from sciencevae.builtin.stars.settings import Stars
from threadpoolctl import threadpool_limits

from benchmarks.stars_fields import EMPTY, measured, published, read_field
from benchmarks.stars_ours import latents_of, prepared, trained
from benchmarks.stars_split import CHOSEN_ON, FIELDS, half_of
from benchmarks.turns import HERE, keep
from sciencevae.config import load
from sciencevae.data.scaling import Scaling
from sciencevae.vae.model import VAE

RESULT = HERE / "results" / "stars_latents.json"
WAYS = ("data", "latents, a model each", "latents, one model for all", "data and latents, a model each")


def common(data: xr.Dataset) -> xr.Dataset:
    """A field about one centre (RA 0, Dec 0), 1° its radius, what it measures in units of its own spread."""
    _, centre, radius = star_field(data)
    scaling = Scaling.fit(data).fields["x"]
    x, noise = data["x"].values.copy(), data["noise"].values.copy()
    offsets = kinematics.azimuthal(data["condition"].values, centre) / radius
    direction = kinematics.from_azimuthal(offsets, kinematics.directions(np.array(0.0), np.array(0.0)))
    factor = np.concatenate([np.full(3, radius), scaling.scale[3:]])
    x[:, :3], x[:, 3:] = direction, (x[:, 3:] - scaling.loc[3:]) / scaling.scale[3:]
    noise /= factor[:, None] * factor
    provenance = json.loads(data.attrs["provenance"]) | {"centre_deg": [0.0, 0.0], "radius_deg": 1.0}
    found = data.copy()
    found["x"], found["noise"] = (
        (data["x"].dims, x, data["x"].attrs),
        (data["noise"].dims, noise, data["noise"].attrs),
    )
    found["condition"] = (data["condition"].dims, direction, data["condition"].attrs)
    return found.assign_attrs(provenance=json.dumps(provenance))


def for_all(folder: Path, settings: Stars) -> tuple[VAE, str, float]:
    """The model of all fields of the chosen-on half, its scaling, and the seconds it took."""
    begin = time.perf_counter()
    fields = [common(prepared(settings, read_field(folder, name))) for name in CHOSEN_ON if name != EMPTY]
    kept = ["x", "noise", "condition"]
    together = xr.concat(
        [field[kept] for field in fields], "sample", coords="minimal", compat="override", join="override"
    )
    together = together.assign_attrs(fields[0].attrs)
    model, scaling = trained(settings, together, seed=0)
    return model, scaling, time.perf_counter() - begin


def one(folder: Path, name: str, settings: Stars, shared: tuple[VAE, str, float]) -> list[dict[str, Any]]:
    frame = read_field(folder, name)
    data = prepared(settings, frame)
    stars, _, _ = star_field(data)
    begin = time.perf_counter()
    model, scaling = trained(settings, data, seed=0)
    own = latents_of(model, scaling, data)
    training = time.perf_counter() - begin
    begin = time.perf_counter()
    theirs = latents_of(shared[0], shared[1], common(data))
    encoding = time.perf_counter() - begin
    chosen = settings.analyse
    truth = frame["source_id"].isin(published(folder, name)).to_numpy()
    rows = []
    for way, seconds in zip(WAYS, (0.0, training, encoding, training), strict=True):
        begin = time.perf_counter()
        with threadpool_limits(1):
            if way == "data":
                groups = candidates(stars, None, chosen)
            elif way.startswith("data and"):
                groups = candidates(stars, own, chosen)
            else:
                groups = by_mixture(own if "each" in way else theirs, chosen.components, chosen.seed)
            found = find_clusters(stars, groups, chosen)
        first = found.membership[:, 0] if found.gains else np.zeros(len(stars))
        members = pd.Series(first, data["source_id"].values)
        probability = frame["source_id"].map(members).fillna(0.0).to_numpy()
        rows.append(
            {
                "field": name,
                "half": half_of(name),
                "way": way,
                **measured(truth, probability),
                "clusters": len(found.gains),
                "train_s": seconds,
                "search_s": time.perf_counter() - begin,
            }
        )
    return rows


def table(results: dict[str, Any]) -> str:
    heads = (
        "candidates from",
        "found",
        "AP",
        "F1, mean",
        "median",
        "worst",
        "training, encoding (s)",
        "search (s)",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for way in WAYS:
        rows = pd.DataFrame([row for row in results["rows"] if row["way"] == way])
        cells = [way, f"{(rows['clusters'] > 0).sum()} of {len(rows)}", f"{rows['AP'].mean():.3f}"]
        cells += [f"{value:.3f}" for value in (rows["F1"].mean(), rows["F1"].median(), rows["F1"].min())]
        cells += [f"{rows[name].median():.1f}" for name in ("train_s", "search_s")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mirror = os.environ.get("SCIENCEVAE_MIRROR")
    parser.add_argument("--fields", type=Path, default=Path(mirror) / "stars" if mirror else None)
    parser.add_argument("--names", nargs="+", default=[name for name in FIELDS if name != EMPTY])
    parser.add_argument("--table", action="store_true", help="only print the table of the last result")
    given = parser.parse_args()
    if given.table:
        print(table(json.loads(RESULT.read_text())))
        return
    if given.fields is None:
        parser.error("--fields FOLDER: where NAME.parquet and NAME.members.parquet are")
    settings = load(DOMAIN, "own")
    assert isinstance(settings, Stars)
    plain = settings.model_copy(update={"model": settings.model.model_copy(update={"perspective": False})})
    model, scaling, seconds = for_all(given.fields, plain)
    print(f"one model for all: {seconds:.0f} s", flush=True)
    rows: list[dict[str, Any]] = []
    for name in given.names:
        rows += one(given.fields, name, settings, (model, scaling, seconds))
        print(
            *(f"{r['way']}: F1 {r['F1']:.3f} AP {r['AP']:.3f}" for r in rows[-4:]),
            name,
            sep=" · ",
            flush=True,
        )
    keep(RESULT.stem, {"one model for all, s": seconds, "rows": rows})
    print(table({"rows": rows}))


if __name__ == "__main__":
    main()
