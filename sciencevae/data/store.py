"""The prepared store: one xarray Dataset as sharded Zarr v3, whole or absent, in the order a loader wants.

A chunk is what the loader reads at once; a shard is a file of many chunks. The data variables are not
compressed: floats from instruments and simulations hardly shrink, and decoding them would be the slowest part
of the loader. Coordinates are compressed.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.data.atomic import atomic_path
from sciencevae.errors import InputError, RunError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["atomic_path", "check", "fingerprint", "open_store", "quiet", "write"]

_CHUNK_BYTES = 2 << 20
_SHARD_BYTES = 64 << 20
_MEMORY_BYTES = 512 << 20  # rows held at once while writing
_COORDINATE_ROWS = 1 << 18  # in a chunk of a coordinate, which is read whole


def write(
    ds: xr.Dataset,
    path: str | Path,
    *,
    seed: int = 0,
    scaling: Mapping[str, str] | None = None,
    chunk_rows: int | None = None,
    shuffle: bool = True,
    memory_bytes: int = _MEMORY_BYTES,
) -> xr.Dataset:
    """Write a prepared Dataset to ``path`` and open it again, lazily.

    shuffle:    rows are permuted once, by ``seed``, the training rows first, then valid, then test; series
                that must stay in order are written with False
    scaling:    variable -> kind, see ``Scaling.fit``; fitted here on the training rows and kept in
                ``attrs["scaling"]``, unless the data has one already
    chunk_rows: rows in a chunk; default: about 2 MiB

    Also added: ``attrs["fingerprint"]``, the sha256 of the content. Memory stays near ``memory_bytes``, however
    large the data and its coordinates, beside the split, the group and the new place of each row: what does not fit
    is permuted through a scratch folder.

    Raises InputError when the data breaks the shared schema, is NaN everywhere or cuts a group; RunError when
    the disk is full. Either way ``path`` is left as it was.
    """
    import zarr

    from sciencevae.data.scaling import Scaling

    ds = _checked(ds)
    n = ds.sizes["sample"]
    order = _stored_order(ds, seed) if shuffle else None
    streamed = [str(name) for name in ds.variables if _is_streamed(ds, str(name))]
    row_bytes = max(1, sum(ds[name].nbytes for name in ds.data_vars) // n)
    chunk = min(n, chunk_rows or max(1, 2 ** round(math.log2(max(1, _CHUNK_BYTES / row_bytes)))))
    shard = chunk * max(1, min(_SHARD_BYTES // (chunk * row_bytes), -(-n // chunk)))
    held_bytes = max(row_bytes, sum(ds[name].nbytes for name in streamed) // n)
    step = shard * max(1, memory_bytes // (2 * shard * held_bytes))
    # chunks that are all zeros are written too: looking for them takes longer than writing them
    with atomic_path(path) as temporary, quiet(), zarr.config.set({"array.write_empty_chunks": True}):
        _template(ds, streamed, order, chunk, shard).to_zarr(
            temporary, compute=False, consolidated=False, zarr_format=3
        )
        rows = ds.reset_coords()[streamed]
        if order is None:
            parts = _in_order(rows, step)
        elif ds.nbytes <= memory_bytes:
            parts = _permuted(rows, order, step)
        else:
            from sciencevae.data.shuffle import permuted

            parts = permuted(rows, order, step, temporary.with_name(temporary.name + ".scratch"))
        group: Any = zarr.open_group(str(temporary), mode="r+")
        for start, part in parts:
            for name, values in part.items():
                group[name][start : start + len(values)] = values
        stored = open_store(temporary)
        _refuse_nan(stored)
        attrs = {"fingerprint": fingerprint(temporary)}
        if "scaling" not in ds.attrs:
            attrs["scaling"] = Scaling.fit(stored, scaling).to_json()
        group.attrs.update(attrs)
        zarr.consolidate_metadata(str(temporary))  # without it other readers of the store warn, and are slow
    return open_store(path)


def open_store(path: str | Path) -> xr.Dataset:
    """A prepared store as a lazy (Dask) Dataset; InputError if there is none, RunError if it is damaged."""
    import xarray as xr

    path = Path(path)
    if not (path / "zarr.json").is_file():
        raise InputError(f"no prepared data at {path}: run 'sciencevae prepare' first")
    try:
        with quiet():
            ds = xr.open_zarr(path, consolidated=False, chunks=None)
            # zarr lists them in the order in which reading them ended; the choice loses coordinates that none has
            ds = ds[sorted(ds.data_vars, key=str)].assign_coords(ds.coords)
            shards = [v.encoding.get("shards") for v in ds.data_vars.values() if "sample" in v.dims]
            rows = max((shard[0] for shard in shards if shard), default=-1)
            ds = ds.chunk(sample=rows) if "sample" in ds.dims else ds.chunk()
    except (ValueError, KeyError, OSError) as error:
        raise RunError(f"{path} is damaged ({error}): delete it and prepare the data again") from error
    ds.encoding["source"] = str(path)
    return ds


def check(path: str | Path) -> None:
    """RunError where a store does not hold what was written into it; reads all of it once, a block at a time.

    A file that is lost would else be read as zeros, and one that is altered as other data.
    """
    noted = open_store(path).attrs.get("fingerprint")
    try:
        found = fingerprint(path)
    except (ValueError, KeyError, OSError, RuntimeError) as error:  # in a packed file
        found = f"damaged: {error}"
    if noted is not None and found != noted:
        raise RunError(
            f"{path} does not hold what was written into it, a file of it was lost or altered: remove it and run "
            "again"
        )


def fingerprint(path: str | Path) -> str:
    """The sha256 of what a store holds: names, types, shapes and values of its variables, not its layout."""
    from sciencevae.data.chunks import Column, open_group

    group, digest = open_group(path), hashlib.sha256()
    for name in sorted(group.array_keys()):
        array = group[name]
        digest.update(f"{name} {array.dtype.str} {array.shape} {array.metadata.dimension_names}".encode())
        if array.ndim == 0 or array.size == 0:
            digest.update(np.asarray(array[...]).tobytes())
            continue
        column = Column(array, Path(path) / name)
        step = max(column.chunk_rows, _SHARD_BYTES // max(1, column.row_bytes))
        for start in range(0, array.shape[0], step):
            buffer = column.empty(min(step, array.shape[0] - start))
            column.read_into(start, start + len(buffer), buffer)
            digest.update(np.ascontiguousarray(buffer).view(np.uint8).data)
    return digest.hexdigest()


def _checked(ds: xr.Dataset) -> xr.Dataset:
    """``ds`` in the shared schema: rows along ``sample`` first, the fields, splits that cut no group."""
    from sciencevae.data.splits import check_leakage

    if not ds.sizes.get("sample"):
        raise InputError(
            f"prepared data needs rows along a dimension 'sample'; found {dict(ds.sizes) or 'no dimension'}"
        )
    if "sample" in ds.coords:
        raise InputError(
            "the dimension 'sample' must have no coordinate of that name: rename it to what it is"
        )
    fields = ds.attrs.get("fields", ["x"])
    for name in fields:
        if name not in ds.data_vars:
            raise InputError(
                f"prepared data needs the variable {name!r}; found {', '.join(map(str, ds.data_vars))}"
            )
    for name, variable in ds.data_vars.items():
        if "sample" not in variable.dims:
            raise InputError(f"the variable {name!r} has no dimension 'sample': make it a coordinate")
        if variable.dtype.kind not in "biuf":
            raise InputError(
                f"the variable {name!r} is of type {variable.dtype}: numbers only; text is a coordinate"
            )
    check_leakage(ds)
    return ds.transpose("sample", ...)


def _stored_order(ds: xr.Dataset, seed: int) -> np.ndarray:
    """The source row of each stored row: permuted, then by split."""
    order = np.random.default_rng(seed).permutation(ds.sizes["sample"])
    if "split" not in ds.coords:
        return order
    split = ds["split"].values.astype(np.int64)
    return order[np.argsort(np.where(split < 0, 127, split)[order], kind="stable")]


def _is_streamed(ds: xr.Dataset, name: str) -> bool:
    """Whether a variable is written part by part; what is known of the rows as a whole is in memory anyway, and how
    times and objects are stored depends on all of them."""
    variable = ds[name]
    known = name in ("split", "group") or (name in ds.coords and variable.dtype.kind not in "biufU")
    return "sample" in variable.dims and not known


def _template(
    ds: xr.Dataset, streamed: Sequence[str], order: np.ndarray | None, chunk: int, shard: int
) -> xr.Dataset:
    """The store to be: what is not streamed as it will stand in it, the others as lazy zeros."""
    import dask.array as da

    coords = {}
    for name, coord in ds.coords.items():
        if name in streamed:
            continue
        values = coord.variable.load()  # a DataArray would load its own coordinates, too
        if order is not None and "sample" in values.dims:
            values = values.isel(sample=order)
        coords[name] = values.astype(str) if values.dtype.kind == "O" else values
    zeros = {
        name: (v.dims, da.zeros(v.shape, dtype=v.dtype, chunks=(whole, *v.shape[1:])), v.attrs)
        for name, v, whole in (
            (name, ds[name], shard if name in ds.data_vars else ds.sizes["sample"]) for name in streamed
        )
    }
    template = ds.assign({n: v for n, v in zeros.items() if n in ds.data_vars})
    template = template.assign_coords(coords | {n: v for n, v in zeros.items() if n in ds.coords})
    for name, variable in template.variables.items():
        variable.encoding = {}
        if "sample" in variable.dims:
            inner = variable.shape[1:]
            if name in ds.data_vars:
                layout = {"chunks": (chunk, *inner), "shards": (shard, *inner), "compressors": None}
            else:
                layout = {"chunks": (min(variable.shape[0], _COORDINATE_ROWS), *inner)}
            variable.encoding = layout
    return template


def _in_order(ds: xr.Dataset, step: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    for start in range(0, ds.sizes["sample"], step):
        part = ds.isel(sample=slice(start, start + step)).load()
        yield start, {str(name): part[name].values for name in part.data_vars}


def _permuted(ds: xr.Dataset, order: np.ndarray, step: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    values = {str(name): np.asarray(ds[name].values) for name in ds.data_vars}
    for start in range(0, len(order), step):
        rows = order[start : start + step]
        yield start, {name: array[rows] for name, array in values.items()}


def _refuse_nan(ds: xr.Dataset) -> None:
    """InputError when a variable has no value at all; looks only as far as the first value."""
    for name, variable in ds.data_vars.items():
        if variable.dtype.kind != "f":
            continue
        step = max(1, _SHARD_BYTES // max(1, variable.nbytes // variable.shape[0]))
        blocks = (variable.isel(sample=slice(s, s + step)).values for s in range(0, variable.shape[0], step))
        if all(np.isnan(block).all() for block in blocks):
            raise InputError(
                f"the variable {name!r} is NaN everywhere: nothing to learn from; leave it out, or mend it"
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Without zarr's notes that text coordinates have no settled specification yet."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(V3|v3) spec.*")
        warnings.filterwarnings("ignore", message=".*Consolidated metadata.*")
        warnings.filterwarnings("ignore", category=UserWarning, module="zarr.*")
        warnings.filterwarnings("ignore", message=".*separate the stored chunks.*")
        yield
