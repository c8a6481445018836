"""Where the reference data lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def reference_wake() -> Path:
    """The cylinder wake's development copy, of $SCIENCEVAE_MIRROR."""
    path = Path(os.environ.get("SCIENCEVAE_MIRROR", "")) / "cylinder_wake_re100" / "cylinder_pod.npz"
    if not path.is_file():
        pytest.skip("no mirror with the cylinder wake")
    return path
