"""A prepared store through the encoder, block by block: memory does not grow with the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sciencevae.vae.model import VAE

__all__ = ["encode_store"]

#: rows that go through the encoder at once; fixed, so that a latent does not depend on the number of threads
BLOCK_ROWS = 4096


def encode_store(model: VAE, store: str | Path, out: str | Path, *, threads: int = 1) -> None:
    """Write the latents of every row of a prepared store to ``out``, in the store's order.

    out: a store with ``z`` (sample, latent), the posterior mean, ``z_std`` (sample, latent), its standard
    deviation, every coordinate of the samples, and ``condition`` where there is one. Whole or not at all.
    """
    import dask
    import dask.array as da
    import xarray as xr

    from sciencevae.data.scaling import Scaling
    from sciencevae.data.store import open_store, write

    model.eval()
    data = open_store(store)
    scaling = Scaling.of(data)
    fields = data.drop_vars([name for name in ("split", "group") if name in data.coords])
    rows, dim = data.sizes["sample"], model.dim
    starts = range(0, rows, BLOCK_ROWS)
    encode = dask.delayed(_encode, pure=False)
    blocks = [
        da.from_delayed(
            encode(model, fields, scaling, start, min(start + BLOCK_ROWS, rows)),
            shape=(min(start + BLOCK_ROWS, rows) - start, 2, dim),
            dtype=np.float32,
        )
        for start in starts
    ]
    posterior = da.concatenate(blocks)  # (N, 2, D)
    unit = {"units": "1"}
    variables: dict[str, Any] = {
        "z": (("sample", "latent"), posterior[:, 0], unit | {"long_name": "posterior mean"}),
        "z_std": (
            ("sample", "latent"),
            posterior[:, 1],
            unit | {"long_name": "posterior standard deviation"},
        ),
    }
    if "condition" in data:
        variables["condition"] = data["condition"].variable
    attributes = {"fields": ["z"], "scaling": "{}", "data": data.attrs.get("fingerprint", "")}
    coordinates = {name: coord for name, coord in data.coords.items() if coord.dims == ("sample",)}
    latents = xr.Dataset(variables, coords=coordinates, attrs=attributes)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the blocks are what runs side by side
    try:
        with dask.config.set(scheduler="threads", num_workers=threads):
            write(latents, out, shuffle=False)
    finally:
        torch.set_num_threads(before)


def _encode(model: VAE, fields: Any, scaling: Any, start: int, stop: int) -> np.ndarray:
    """Mean and standard deviation of q(z | x, c) of some rows, (B, 2, D)."""
    from sciencevae.data.batches import as_batches

    (batch,) = as_batches(fields.isel(sample=slice(start, stop)), scaling=scaling).blocks(stop - start)
    with torch.no_grad():
        posterior = model.encode(batch.x, batch.context)
        return torch.stack([posterior.mean, posterior.stddev], dim=1).float().numpy()
