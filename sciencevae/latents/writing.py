"""Where results are written, and how: whole or not at all, by the ending of the file's name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciencevae.data.atomic import atomic_path
from sciencevae.data.parallel import blocks_of
from sciencevae.data.tables import write_table
from sciencevae.errors import InputError
from sciencevae.latents.columns import columns
from sciencevae.latents.trained import Trained

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["free_target", "target", "write_data", "write_parquet"]

#: tables in a row group of a Parquet file: small groups make it large, and slow to read
_GROUP = 8


def free_target(out: str | Path, endings: Sequence[str], *sources: str | Path) -> Path:
    """Where to write; InputError, before anything is computed, where that would destroy something."""
    path = Path(out)
    if not path.name:
        raise InputError(f"cannot write {str(out)!r}: it names no file")
    if path.suffix not in endings:
        raise InputError(
            f"cannot write {str(out)!r}: give a file's name that ends with {' or '.join(dict.fromkeys(endings))}"
        )
    if path.is_dir():
        store = path.suffix == ".zarr" and ((path / "zarr.json").is_file() or not any(path.iterdir()))
        if not store:
            raise InputError(f"{path} is a folder that would be lost: choose another name")
    if path.resolve() in [Path(source).resolve() for source in sources]:
        raise InputError(f"{path} is the input itself: choose another name to write to")
    return path


def target(out: str | Path, trained: Trained, *sources: str | Path) -> Path:
    """Where to write data; InputError as above, and for an ending that neither we nor the domain write."""
    return free_target(out, [*trained.domain.formats, *_WRITERS], *sources)


def write_data(data: xr.Dataset, path: Path, trained: Trained) -> None:
    """By the ending: the domain's own formats; otherwise .h5, .zarr, .csv or .parquet."""
    if trained.domain.write is not None and path.suffix in trained.domain.formats:
        trained.domain.write(data, path)
    else:
        _WRITERS[path.suffix](data, path)


def _write_h5(data: xr.Dataset, path: Path) -> None:
    from sciencevae.data.hdf5 import write_hdf5

    write_hdf5(data, path)


def _write_zarr(data: xr.Dataset, path: Path) -> None:
    from sciencevae.data.store import quiet

    with atomic_path(path) as temporary, quiet():
        data.to_zarr(temporary, mode="w", consolidated=True)


def _flat(data: xr.Dataset) -> pd.DataFrame:
    """A column for each entry; ``attrs`` tell model, domain, units and long names, which Parquet keeps."""
    import pandas as pd

    found = {str(name): data[name].values for name in data.coords if data[name].dims == ("sample",)}
    told: dict[str, dict[str, str]] = {"units": {}, "long_name": {}}
    for name in data.data_vars:
        entries = columns(str(name), data[name].values)
        found |= entries
        for key, kept in told.items():
            if key in data[name].attrs:
                kept |= dict.fromkeys(entries, str(data[name].attrs[key]))
    table = pd.DataFrame(found)
    table.attrs.update({key: data.attrs[key] for key in ("model", "domain") if key in data.attrs} | told)
    return table


def _write_flat(data: xr.Dataset, path: Path) -> None:
    write_table(_flat(data), path)


_WRITERS: dict[str, Callable[[xr.Dataset, Path], None]] = {
    ".h5": _write_h5, ".hdf5": _write_h5, ".zarr": _write_zarr, ".csv": _write_flat, ".parquet": _write_flat,
}  # fmt: skip


def write_parquet(tables: Iterator[pd.DataFrame], path: Path, header: dict[str, Any]) -> None:
    """The rows as they come, ``_GROUP`` tables together; the file appears whole or not at all.

    The header stands in the file's metadata, and once more among what pandas keeps of a table that it reads,
    changes and writes again.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary:
        writer = None
        try:
            for frames in blocks_of(tables, _GROUP):
                table = pa.Table.from_pandas(pd.concat(frames, ignore_index=True), preserve_index=False)
                if writer is None:
                    kept = {"sciencevae": header}
                    said = {"sciencevae": json.dumps(header), "PANDAS_ATTRS": json.dumps(kept)}
                    writer = pq.ParquetWriter(temporary, table.schema.with_metadata(said))
                writer.write_table(table.cast(writer.schema))
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise InputError("the file has no rows: nothing to do")
