"""Our way from a field to members, in one process and without a run folder: prepare, train, encode, find clusters.

python -m benchmarks.stars_ours FIELD.parquet OUT.parquet SEED
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
import xarray as xr
from sciencevae.builtin.stars import DOMAIN
from sciencevae.builtin.stars.analysis import informative, quantities, star_field
from sciencevae.builtin.stars.clusters import candidates, find_clusters
from sciencevae.builtin.stars.dataset import prepare
from sciencevae.builtin.stars.settings import Stars
from threadpoolctl import threadpool_limits

from sciencevae.config import load
from sciencevae.data.batches import as_batches
from sciencevae.data.scaling import Scaling
from sciencevae.data.splits import with_splits
from sciencevae.training.loop import fit
from sciencevae.vae.model import VAE

__all__ = ["find", "find_without_latents", "latents_of", "prepared", "trained"]

#: name in the benchmarks -> quantity of the analysis
QUANTITIES = {
    "ra": "centre, RA",
    "dec": "centre, Dec",
    "parallax": "parallax",
    "pmra": "proper motion at the centre, RA",
    "pmdec": "proper motion at the centre, Dec",
}


def find(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """``source_id, cluster, probability`` with the settings of ``own.yaml``; clusters by decreasing gain."""
    return _found(frame, seed, latents=True)


def find_without_latents(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The same with candidates of the data alone, no model trained; and from a gain of 10 nats on, which is the
    score of each cluster, so that a threshold can be chosen."""
    return _found(frame, seed, latents=False, changes=("analyse.gain_min=10",))


def _found(frame: pd.DataFrame, seed: int, latents: bool, changes: Sequence[str] = ()) -> pd.DataFrame:
    settings = load(DOMAIN, "own", [f"seed={seed}", f"analyse.seed={seed}", *changes])
    assert isinstance(settings, Stars)
    data = prepared(settings, frame)
    features = latents_of(*trained(settings, data, seed), data) if latents else None
    stars, centre, _ = star_field(data)
    with threadpool_limits(1):
        found = find_clusters(stars, candidates(stars, features, settings.analyse), settings.analyse)
        known = [quantities(stars, centre, found, number) for number in range(len(found.gains))]
    cluster, star = np.nonzero(found.membership.T)  # of the largest gain first
    members = pd.DataFrame(
        {
            "source_id": data["source_id"].values[star],
            "cluster": cluster + 1,
            "probability": found.membership[star, cluster],
        }
    )
    members.attrs["score"] = {number: gain for number, (gain, _) in enumerate(found.gains, start=1)}
    members.attrs["clusters"] = [
        {"cluster": number, **_measured(quantity)} for number, quantity in enumerate(known, start=1)
    ]
    return members


def _measured(quantity: Mapping[str, tuple[float, float, str]]) -> dict[str, float]:
    """The parameters of a cluster and their errors; that of the right ascension along the sky, as those of Gaia."""
    found = {name: quantity[long][0] for name, long in QUANTITIES.items()}
    errors = {f"{name}_error": quantity[long][1] for name, long in QUANTITIES.items()}
    errors["ra_error"] *= math.cos(math.radians(found["dec"]))
    return found | errors


def prepared(settings: Stars, frame: pd.DataFrame) -> xr.Dataset:
    """A field as ``sciencevae prepare`` makes it."""
    data = prepare(settings, {}, frame)
    return with_splits(data, settings.prepare.fractions, settings.prepare.split_seed)


def trained(settings: Stars, data: xr.Dataset, seed: int) -> tuple[VAE, str]:
    """A model trained on prepared data, and the scaling it was trained with."""
    scaling = Scaling.fit(data).to_json()
    data = with_splits(data).assign_attrs(scaling=scaling)
    torch.manual_seed(seed)
    model = DOMAIN.build(settings, data)
    train = as_batches(data, split="train")
    fit(
        model,
        train,
        objective=DOMAIN.objective(settings, data) if DOMAIN.objective else None,
        valid=as_batches(data, split="valid"),
        settings=settings.training.model_copy(update={"seed": seed}).for_rows(len(train)),
        progress=False,
    )
    return model, scaling


def latents_of(model: VAE, scaling: str, data: xr.Dataset) -> np.ndarray:
    """The active posterior means of the stars, (N, D)."""
    means, deviations = [], []
    with torch.no_grad():
        for batch in as_batches(data.assign_attrs(scaling=scaling)).blocks(4096):
            posterior = model.encode(batch.x, batch.context)
            means.append(posterior.mean.double().numpy())
            deviations.append(posterior.stddev.double().numpy())
    return informative(np.concatenate(means), np.concatenate(deviations))


if __name__ == "__main__":
    field, out, seed = sys.argv[1:]
    find(pd.read_parquet(field), int(seed)).to_parquet(out, index=False)
