"""A prepared store through the encoder, block by block: memory does not grow with the data."""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch

from sciencevae.data.parallel import client
from sciencevae.provenance import file_hash
from sciencevae.vae.encoders import Codes
from sciencevae.vae.model import VAE
from sciencevae.vae.vq import VQVAE

__all__ = ["encode_store"]

#: bytes of data and largest number of rows that go through the encoder at once; fixed, so that a latent does not
#: depend on the number of threads
BLOCK_BYTES = 16 << 20
BLOCK_ROWS = 4096
#: bytes of latents that are written at once
WRITE_BYTES = 64 << 20


def encode_store(model: VAE | Path, store: str | Path, out: str | Path, *, threads: int = 1) -> None:
    """Write the latents of every row of a prepared store to ``out``, in the store's order.

    model: or the file of one, which the workers of an open Dask client, where there is one, read by themselves.
    out: a store with ``z`` (sample, latent), the posterior mean, ``z_std`` (sample, latent), its standard
    deviation, every coordinate of the samples, and ``condition`` where there is one; of a VQVAE ``code``
    (sample, *grid), integers, in place of ``z`` and ``z_std``. Whole or not at all.
    """
    import dask
    import dask.array as da
    import xarray as xr

    from sciencevae.data.store import open_store, write

    data, given, cluster = open_store(store), model, client()
    stamp = file_hash(given) if isinstance(given, Path) else uuid4().hex
    model = _loaded(given) if isinstance(given, Path) else given
    rows = data.sizes["sample"]
    shape, dtype = (model.grid, np.int32) if isinstance(model, VQVAE) else ((2, model.dim), np.float32)
    row_bytes = max(1, sum(v.nbytes for v in data.data_vars.values()) // rows)
    block = max(1, min(BLOCK_ROWS, BLOCK_BYTES // row_bytes, rows))
    stamp += data.attrs.get("fingerprint", "")
    encode = dask.delayed(
        partial(_encode, given if cluster else model, str(store), stamp), pure=False, traverse=False
    )
    blocks = [
        da.from_delayed(encode(start, stop), shape=(stop - start, *shape), dtype=dtype)
        for start in range(0, rows, block)
        for stop in [min(start + block, rows)]
    ]
    encoded = da.concatenate(blocks)  # (N, 2, D), or (N, *grid)
    variables: dict[str, Any]
    if isinstance(model, VQVAE):
        dims = ("sample", *(f"grid_{axis}" for axis in range(len(shape))))
        variables = {"code": (dims, encoded, {"units": "1", "long_name": f"code, 0 to {model.codes - 1}"})}
    else:
        dims, unit = ("sample", "latent"), {"units": "1"}
        variables = {
            "z": (dims, encoded[:, 0], unit | {"long_name": "posterior mean"}),
            "z_std": (dims, encoded[:, 1], unit | {"long_name": "posterior standard deviation"}),
        }
    attributes = {"fields": list(variables)[:1], "scaling": "{}", "data": data.attrs.get("fingerprint", "")}
    if "condition" in data:
        variables["condition"] = data["condition"].variable
    coordinates = {name: coord for name, coord in data.coords.items() if coord.dims == ("sample",)}
    latents = xr.Dataset(variables, coords=coordinates, attrs=attributes)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the blocks are what runs side by side
    try:
        with nullcontext() if cluster else dask.config.set(scheduler="threads", num_workers=threads):
            write(latents, out, shuffle=False, memory_bytes=WRITE_BYTES)
    finally:
        torch.set_num_threads(before)
        _opened.cache_clear()


def _loaded(path: Path) -> VAE:
    """The model of a file, with the networks of its domain known."""
    from sciencevae.latents.trained import Trained

    return Trained.open(path).model


@lru_cache(maxsize=1)
def _opened(model: VAE | Path, store: str, stamp: str) -> tuple[VAE, Any, Any]:
    """Model, fields and scaling, opened once in each process; the stamp changes when what the paths hold does."""
    import xarray as xr

    from sciencevae.data.scaling import Scaling

    # Not the Dask arrays of ``open_store``: a delayed call that is handed a Dask collection waits for all of it.
    source = xr.open_zarr(store, consolidated=False, chunks=None).reset_coords(drop=True)
    return (_loaded(model) if isinstance(model, Path) else model).eval(), source, Scaling.of(source)


def _encode(given: VAE | Path, store: str, stamp: str, start: int, stop: int) -> np.ndarray:
    """Mean and standard deviation of q(z | x, c) of some rows, (B, 2, D); of codes the codes, (B, *grid)."""
    from sciencevae.data.batches import as_batches

    model, fields, scaling = _opened(given, store, stamp)
    rows = fields.isel(sample=slice(start, stop)).load()
    dtype = next(model.parameters()).dtype
    (batch,) = as_batches(rows, scaling=scaling, dtype=dtype, some=True).blocks(stop - start)
    with torch.no_grad():
        posterior = model.encode(batch.x, batch.context)
        if isinstance(posterior, Codes):
            return posterior.codes.int().numpy()
        return torch.stack([posterior.mean, posterior.stddev], dim=1).float().numpy()
