"""What every network is put through."""

from __future__ import annotations

from collections.abc import Callable

import everywhere
import pytest


@pytest.fixture(scope="session")
def trains_everywhere() -> Callable[..., None]:
    """trains_everywhere(make, inputs) asserts it; compiled=False leaves the compiler out."""
    return everywhere.trains_everywhere
