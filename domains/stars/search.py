"""Members of clusters from a table of stars in one call, without a model trained or a run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sciencevae.errors import InputError

from .analysis import LISTED, star_field
from .clusters import candidates, find_clusters
from .dataset import prepare
from .settings import Prepare, Stars

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MOTION_ERROR_MAX", "find_members"]

#: mas/yr; as in ``own.yaml``
MOTION_ERROR_MAX = 0.4


def find_members(
    stars: pd.DataFrame, settings: Stars | None = None, latents: np.ndarray | None = None
) -> pd.DataFrame:
    """Stars and the clusters that they may belong to: ``source_id``, ``cluster`` (1 is that of the largest gain),
    ``probability`` from 0.001 on; no rows where there is no cluster.

    stars: a field under the names of any catalogue that ``columns.py`` knows, in deg, mas and mas/yr; latents:
    (N, D) of the same stars in the same order, whose mixture gives candidates too. InputError: as ``prepare``.
    """
    import pandas as pd
    from threadpoolctl import threadpool_limits

    settings = settings or Stars(prepare=Prepare(motion_error_max_mas_yr=MOTION_ERROR_MAX))
    data = prepare(settings, {}, stars)
    identifiers = data["source_id"].values
    if latents is not None:
        if len(latents) != len(stars):
            raise InputError(f"{len(latents)} latents of {len(stars)} stars: give one row of latents a star")
        place = pd.Index(stars["source_id"])
        latents = latents[place.get_indexer(identifiers)]
    field, _, _ = star_field(data)
    with threadpool_limits(1):
        found = find_clusters(field, candidates(field, latents, settings.analyse), settings.analyse)
    star, cluster = np.nonzero(found.membership >= LISTED)
    return pd.DataFrame(
        {
            "source_id": identifiers[star],
            "cluster": cluster + 1,
            "probability": found.membership[star, cluster],
        }
    )
