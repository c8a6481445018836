"""Questions to a trained model about a few data: what lies between two, and what lies near, in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from sciencevae.data.tables import write_table
from sciencevae.errors import InputError
from sciencevae.latents.columns import columns, matrix, spread
from sciencevae.latents.trained import Trained, physical, refuse_unusable, warn_left_out
from sciencevae.latents.writing import free_target, target, write_data
from sciencevae.vae.model import centre
from sciencevae.vae.vq import VQVAE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["interpolate_file", "neighbours_file"]

#: endings by which a file is meant that does not exist, and no datum
_FILES = (
    ".smi",
    ".smiles",
    ".txt",
    ".csv",
    ".tsv",
    ".sdf",
    ".gz",
    ".parquet",
    ".h5",
    ".hdf5",
    ".zarr",
    ".fits",
)


def interpolate_file(
    model: str | Path,
    ends: Sequence[str],
    out: str | Path,
    steps: int = 10,
    kind: Literal["linear", "spherical", "geodesic"] = "linear",
    overrides: Sequence[str] = (),
) -> None:
    """The way from one datum to another in the latents, decoded: ``steps`` data, with the share of the way as id.

    ends: two data of a domain whose data fit into a line of text (``Domain.line``), or a file of two rows.
    overrides: of how the file is read, as ``prepare.column=structure``.
    """
    import pandas as pd

    from sciencevae.latents.traverse import interpolate

    trained = Trained.open(model, overrides)
    path = target(out, trained, *ends[:1])
    found = _all_encoded(trained, ends)
    if len(found) != 2:
        raise InputError(f"a way leads from one datum to another; {len(found)} are given")
    a, b = torch.tensor(_means(found))[:, None]
    way = interpolate(a, b, steps, kind, trained.model if kind == "geodesic" else None)[:, 0]
    shares = [f"{share:.3f}" for share in np.linspace(0, 1, steps)]
    _write_decoded(trained, way, pd.DataFrame({"row": np.arange(steps), "id": shares}), path)


def neighbours_file(
    model: str | Path,
    asked: Sequence[str],
    among: str | Path,
    out: str | Path,
    count: int = 10,
    overrides: Sequence[str] = (),
) -> None:
    """For each datum asked for, the ``count`` rows of a file whose posterior means are nearest to its own.

    Writes .csv or .parquet: asked, rank (from 1), row, id, what else the domain tells of a row, and the distance in
    the latents. The file is read block by block. overrides: of how files are read, as ``prepare.column=structure``.
    """
    import pandas as pd

    trained = Trained.open(model, overrides)
    path = free_target(out, [".csv", ".parquet"], among, *asked[:1])
    wanted = _all_encoded(trained, asked)
    centres, nearest = _means(wanted), [pd.DataFrame() for _ in range(len(wanted))]
    statuses: Counter[str] = Counter()
    for block in _encoded(trained, Path(among)):
        statuses.update(map(str, block["status"]))
        block = block[block["status"] == "ok"]
        if not len(block):
            continue
        table = block.drop(columns=["status", *(c for c in block if str(c).startswith("z_"))])
        z = _means(block)
        for number, asked_for in enumerate(centres):
            here = table.assign(distance=np.linalg.norm(z - asked_for, axis=1)).nsmallest(count, "distance")
            nearest[number] = pd.concat([nearest[number], here]).nsmallest(count, "distance")
    refuse_unusable(among, statuses)
    warn_left_out(among, statuses)
    found = [
        part.assign(asked=name, rank=np.arange(1, len(part) + 1))
        for part, name in zip(nearest, wanted["id"], strict=True)
    ]
    table = pd.concat(found, ignore_index=True)
    table = table[["asked", "rank", *(c for c in table if c not in ("asked", "rank"))]]
    write_table(table, path)


def _all_encoded(trained: Trained, given: Sequence[str]) -> pd.DataFrame:
    """The few data that are asked about; InputError for one that cannot be encoded."""
    import pandas as pd

    with _source(trained, given) as source:
        found = pd.concat(list(_encoded(trained, source)), ignore_index=True)
    if len(bad := found[found["status"] != "ok"]):
        raise InputError(f"{bad.iloc[0]['id']}: {bad.iloc[0]['status']}")
    return found


@contextmanager
def _source(trained: Trained, given: Sequence[str]) -> Iterator[Path]:
    """A file of the data: the one that is named, or the lines of text that are given."""
    if len(given) == 1 and Path(given[0]).exists():
        yield Path(given[0])
        return
    if missing := next((text for text in given if Path(text).suffix.lower() in _FILES), None):
        raise InputError(f"no file {missing}")
    if not trained.domain.line:
        raise InputError(f"no file {given[0]}; {trained.domain.name} reads its data from one file")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"given{trained.domain.line}"
        path.write_text("".join(f"{text} {text}\n" for text in given), encoding="utf-8")
        yield path


def _encoded(trained: Trained, source: Path) -> Iterator[pd.DataFrame]:
    """Of each block of a file: row, id, what else is told of each row, status, and z_0 …"""
    import pandas as pd

    if isinstance(trained.model, VQVAE):
        raise InputError("codes have no distances: take a model with continuous latents")
    for block in trained.read(source):
        status = block["status"].values.astype(object)
        batch = trained.batch(block, status, checked=False)
        if batch is not None and batch.context:
            raise InputError(
                f"this model is told {', '.join(batch.context)} beside the data: ask in Python, with "
                "model.encode(x, context)"
            )
        mean = np.zeros((0, trained.model.dim), np.float32)
        if batch is not None:
            with torch.no_grad():
                mean = trained.model.encode(batch.x).mean.numpy()
        told = [
            str(n) for n, c in block.coords.items() if c.dims == ("sample",) and n not in ("split", "status")
        ]
        named = {name: block[name].values for name in told} | {"status": status}
        yield pd.DataFrame(named | columns("z", spread(mean, status == "ok")))


def _means(table: pd.DataFrame) -> np.ndarray:
    z = matrix(table, "z")
    assert z is not None
    return z


@torch.no_grad()
def _write_decoded(trained: Trained, z: torch.Tensor, table: pd.DataFrame, path: Path) -> None:
    """The means of p(x | z) of latents (N, D), in physical units, beside what identifies them."""
    x = centre(trained.model.decode(z))
    write_data(physical(trained, x, np.ones(len(z), bool), table), path, trained)
