"""What a user brings may be larger than memory: preparing more rows takes hardly more of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

#: bytes of memory that a row more may take, of what is known of all rows at once
EACH_ROW = 100
#: bytes that pools and caches may take more, whatever the rows
SLACK = 24 << 20

PREPARE = """
import resource, sys
from pathlib import Path
from sciencevae import stages
from sciencevae.config import load
from sciencevae.data import scaling, store, tables
from sciencevae.registry import domain

tables._BLOCK_ROWS, tables._BLOCK_BYTES = 10_000, 1 << 20
store._SHARD_BYTES, store._CHUNK_BYTES, scaling._BLOCK_BYTES = 4 << 20, 1 << 18, 4 << 20
name, options, out, *paths = sys.argv[1:]
for path in paths:
    settings = load(domain(name), "own", options.split())
    data = stages._prepared(domain(name), settings, {}, Path(path))
    store.write(data, out, seed=1, memory_bytes=8 << 20)
    print(data.sizes["sample"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
"""


def table(path: Path, rows: int) -> None:
    random = np.random.default_rng(rows)
    frame = pd.DataFrame(random.normal(size=(rows, 60)), columns=[f"c{i}" for i in range(60)])
    frame.assign(kind=random.choice(["dwarf", "giant"], rows)).to_parquet(path, row_group_size=10_000)


@pytest.mark.parametrize(
    ("name", "options", "make", "ending", "rows"),
    [("tables", "", table, ".parquet", (20_000, 200_000))],
)
def test_preparing_more_rows_takes_hardly_more_memory(
    name: str,
    options: str,
    make: Callable[[Path, int], None],
    ending: str,
    rows: tuple[int, int],
    tmp_path: Path,
) -> None:
    paths = [tmp_path / f"{count}{ending}" for count in rows]
    for path, count in zip(paths, rows, strict=True):
        make(path, count)
    done = subprocess.run(
        [sys.executable, "-P", "-c", PREPARE, name, options, tmp_path / "store.zarr", *paths],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (few, before), (many, after) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert (few, many) == rows
    print(few, before >> 20, many, after >> 20)
    assert after - before < EACH_ROW * (many - few) + SLACK, (
        f"{(after - before) / (many - few):.0f} bytes a row"
    )
