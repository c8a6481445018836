"""Files as MNIST has them, of ten random pictures under noise."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest


def write_idx(path: Path, array: np.ndarray) -> None:
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, random = tmp_path_factory.mktemp("idx"), np.random.default_rng(0)
    ink = random.random((10, 7, 7)).repeat(4, 1).repeat(4, 2) > 0.6
    found = {}
    for part, rows in (("train", 600), ("t10k", 200)):
        label = random.integers(0, 10, rows).astype(np.uint8)
        images = (ink[label] * random.integers(150, 256, (rows, 28, 28))).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", label)):
            path = folder / f"{part}-{kind}-ubyte"
            write_idx(path, array)
            found[path.name] = path
    return found
