"""Our way from a field to members, in one process and without a run folder: prepare, train, encode, find clusters.

python -m benchmarks.stars_ours FIELD.parquet OUT.parquet SEED
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sciencevae.builtin.stars import DOMAIN
from sciencevae.builtin.stars.analysis import active_latents, star_field
from sciencevae.builtin.stars.clusters import candidate_rows, find_clusters, gaussian_mixture
from sciencevae.builtin.stars.dataset import prepare
from threadpoolctl import threadpool_limits

from sciencevae.config import load
from sciencevae.data.batches import as_batches
from sciencevae.data.scaling import Scaling
from sciencevae.data.splits import with_splits
from sciencevae.training.loop import fit

__all__ = ["find"]


def find(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """``source_id, cluster, probability`` with the settings of ``own.yaml``; clusters by decreasing gain."""
    settings = load(DOMAIN, "own", [f"training.seed={seed}", f"analyse.seed={seed}"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "field.parquet"
        frame.to_parquet(path, index=False)
        data = with_splits(
            prepare(settings, {}, path), settings.prepare.fractions, settings.prepare.split_seed
        )
    data.attrs["scaling"] = Scaling.fit(data).to_json()

    torch.manual_seed(seed)
    model = DOMAIN.build(settings, data)
    fit(
        model,
        as_batches(data, split="train"),
        objective=DOMAIN.objective(settings, data) if DOMAIN.objective else None,
        valid=as_batches(data, split="valid"),
        settings=settings.training,
        progress=False,
    )
    (batch,) = as_batches(data).blocks(data.sizes["sample"])
    with torch.no_grad():
        posterior = model.encode(batch.x, batch.context)
        z, z_std = posterior.mean.double().numpy(), posterior.stddev.double().numpy()
    used = active_latents(z, z_std)
    features = z[:, used] if used.any() else z

    stars, _, radius = star_field(data)
    with threadpool_limits(1):
        latent = gaussian_mixture(features, settings.analyse)
        found = find_clusters(
            stars, candidate_rows(features, latent, settings.analyse), radius, settings.analyse
        )
    cluster, star = np.nonzero(found.membership.T)  # of the largest gain first
    return pd.DataFrame(
        {
            "source_id": data["source_id"].values[star],
            "cluster": [f"cluster {number + 1}" for number in cluster],
            "probability": found.membership[star, cluster],
        }
    )


if __name__ == "__main__":
    field, out, seed = sys.argv[1:]
    find(pd.read_parquet(field), int(seed)).to_parquet(out, index=False)
