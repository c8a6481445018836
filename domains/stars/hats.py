"""Catalogues of any size in HATS, read through LSDB and Dask partition by partition, each with its margin.

HATS cuts the sky into HEALPix pixels that hold about as many stars each; its margin catalogue holds, for each
pixel, the stars of its neighbours within a threshold of its border. A partition is a field for all other functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sciencevae.errors import InputError, did_you_mean

from . import kinematics
from .columns import ALIASES
from .dataset import TooFewStars

if TYPE_CHECKING:
    import pandas as pd
    from dask.delayed import Delayed
    from lsdb import Catalog

__all__ = ["Partition", "open_hats", "over_partitions", "partitions"]


class Partition(NamedTuple):
    """A HEALPix pixel (nested), its stars, and those of its neighbours within the margin."""

    order: int
    pixel: int
    own: pd.DataFrame
    margin: pd.DataFrame


def open_hats(
    path: str | Path, position: tuple[float, float] | None = None, radius_deg: float | None = None
) -> Catalog:
    """A HATS catalogue with its margin, of the columns that ``columns.ALIASES`` knows; no star is read yet.

    path: of a collection, on this machine or an address that LSDB reads. position (RA, Dec), radius_deg: only the
    stars of a cone.

    InputError: no HATS catalogue, no star in the cone, a column missing, several partitions without a margin.
    """
    if (position is None) != (radius_deg is None):
        raise InputError("a cone has a position and a radius_deg: give both, or neither")
    lsdb = _lsdb()
    known = {alias.lower() for aliases in ALIASES.values() for alias in aliases}
    try:
        columns = [name for name in lsdb.open_catalog(path).all_columns if name.lower() in known]
        cone = None
        if position is not None and radius_deg is not None:
            cone = lsdb.ConeSearch(*map(float, position), radius_arcsec=3600 * float(radius_deg))
        catalogue = lsdb.open_catalog(path, columns=columns, search_filter=cone)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; a HATS catalogue is a folder with hats.properties") from error
    _identifier(catalogue)
    if catalogue.margin is None and catalogue.npartitions > 1:
        raise InputError(
            f"{path} has no margin, and clusters do not end where its {catalogue.npartitions} partitions do: give "
            "the collection of catalogue and margin, or make one with hats-import"
        )
    return catalogue


def partitions(catalogue: Catalog) -> Iterator[Partition]:
    """One partition after another, in the order of the sky, read when its turn comes.

    The frames have the catalogue's columns as NumPy's types, ready for ``columns.canonical``.
    """
    for order, pixel, own, margin in _lazy(catalogue):
        stars = _plain(own.compute())
        yield Partition(order, pixel, stars, stars[:0] if margin is None else _plain(margin.compute()))


def over_partitions(catalogue: Catalog, function: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """The members of the clusters that ``function`` finds in each partition with its margin, each cluster once.

    function: the stars of a field -> its members, with ``source_id``, ``cluster`` and ``probability``; none where
    it raises ``TooFewStars``, as at the rim of a cone. It runs in Dask's workers, where there is a
    ``distributed.Client``, or else in threads; a worker holds one field at a time.

    A cluster that crosses a border is seen from both sides, whole if the margin is wider than it is. It belongs to
    the partition in which its centre (of its members, by probability) lies. Note 1: the two sides need not agree on
    a centre near the border, so that both may claim the cluster, or none; and its outskirts may be a cluster of
    their own to a third partition. So of clusters that share more than half of the smaller one's expected members
    one stays: one in its own partition before others, then the larger. ``cluster`` reads ``ORDER/PIXEL NAME``.
    """
    import dask
    import pandas as pd

    names = (_identifier(catalogue), *_position(catalogue))
    tasks = [
        dask.delayed(_found)(function, order, pixel, own, margin, names)
        for order, pixel, own, margin in _lazy(catalogue)
    ]
    clusters = [cluster for found in dask.compute(*tasks) for cluster in found]
    clusters.sort(key=lambda cluster: (not cluster[0], -cluster[1]["probability"].sum()))
    kept: list[pd.DataFrame] = []
    for _, members in clusters:
        if not any(_same(members, other) for other in kept):
            kept.append(members)
    empty = pd.DataFrame({"source_id": np.empty(0, np.int64), "cluster": [], "probability": np.empty(0)})
    return pd.concat(kept, ignore_index=True) if kept else empty.astype({"cluster": "str"})


def _lsdb() -> Any:
    try:
        import lsdb
    except ImportError as error:
        raise InputError(
            f"to read a HATS catalogue, LSDB is needed ({error}): pip install 'sciencevae[hats]'"
        ) from error
    return lsdb


def _lazy(catalogue: Catalog) -> Iterator[tuple[int, int, Delayed, Delayed | None]]:
    """Order, pixel, and the two frames to come; no margin where no star is near."""
    near = catalogue.margin
    beside = set(near.get_healpix_pixels()) if near is not None else set()
    for pixel in catalogue.get_ordered_healpix_pixels():
        (own,) = catalogue.get_partition(pixel.order, pixel.pixel).to_delayed()
        margin = None
        if near is not None and pixel in beside:
            (margin,) = near.get_partition(pixel.order, pixel.pixel).to_delayed()
        yield int(pixel.order), int(pixel.pixel), own, margin


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """NumPy's types in place of Arrow's: int64 as it is, NaN for what is missing, no index of HEALPix."""
    import pandas as pd

    data = {}
    for name, column in frame.items():
        if column.dtype.kind == "f" or (column.dtype.kind in "iu" and column.hasnans):
            data[name] = column.to_numpy(np.float64, na_value=np.nan)
        elif column.dtype.kind in "iu":
            data[name] = column.to_numpy(np.int64)
        else:
            data[name] = column.to_numpy(object)
    return pd.DataFrame(data)


def _identifier(catalogue: Catalog) -> str:
    """The column that ``columns.canonical`` takes for the identifier."""
    lower = {str(name).lower(): str(name) for name in catalogue.columns}
    found = next((lower[alias.lower()] for alias in ALIASES["source_id"] if alias.lower() in lower), None)
    if found is None:
        known = ", ".join(ALIASES["source_id"])
        raise InputError(
            f"{catalogue.name}: no column of identifiers ({known}){did_you_mean('source_id', lower)}"
        )
    return found


def _position(catalogue: Catalog) -> tuple[str, str]:
    about = catalogue.hc_structure.catalog_info
    return str(about.ra_column), str(about.dec_column)


def _found(
    function: Callable[[pd.DataFrame], pd.DataFrame],
    order: int,
    pixel: int,
    own: pd.DataFrame,
    margin: pd.DataFrame | None,
    names: tuple[str, str, str],
) -> list[tuple[bool, pd.DataFrame]]:
    """The clusters of one field: whether the centre lies in its partition, and the members."""
    import pandas as pd
    from hats.pixel_math.healpix_shim import radec2pix

    stars = pd.concat([_plain(frame) for frame in (own, margin) if frame is not None], ignore_index=True)
    try:
        clusters = function(stars).groupby("cluster", sort=False)
    except TooFewStars:
        return []
    identifier, ra, dec = names
    places = stars.drop_duplicates(identifier).set_index(identifier)[[ra, dec]]
    found = []
    for name, members in clusters:
        where = places.loc[members["source_id"]].to_numpy()
        direction = kinematics.directions(where[:, 0], where[:, 1])
        centre = kinematics.sky_position(members["probability"].to_numpy() @ direction)
        inside = bool(radec2pix(order, *np.atleast_1d(*centre))[0] == pixel)
        found.append((inside, members.assign(cluster=f"{order}/{pixel} {name}").reset_index(drop=True)))
    return found


def _same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two clusters share more than half of the expected members of the smaller one."""
    if one["cluster"].iloc[0].split(" ")[0] == other["cluster"].iloc[0].split(" ")[0]:
        return False  # found side by side, so they are two
    both = one.merge(other, on="source_id")
    shared = np.minimum(both["probability_x"], both["probability_y"]).sum()
    return bool(shared > 0.5 * min(one["probability"].sum(), other["probability"].sum()))
