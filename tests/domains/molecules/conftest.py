"""Small molecules, made of pieces."""

from itertools import product
from pathlib import Path

import pytest

_LEFT = (
    "C",
    "CC",
    "CCC",
    "C(C)(C)C",
    "c1ccccc1",
    "C1CCCC1",
    "c1ccncc1",
    "C1CC1",
    "OC",
    "NC",
    "FC",
    "ClC",
    "N#CC",
)
_RIGHT = (
    "O",
    "N",
    "F",
    "C=O",
    "C(=O)O",
    "C#N",
    "C=C",
    "N(C)C",
    "OC",
    "S",
    "C(F)(F)F",
    "c1ccco1",
    "C(=O)N",
    "C#C",
)


@pytest.fixture(scope="session")
def smiles() -> list[str]:
    """182 SMILES, not canonical."""
    return [left + right for left, right in product(_LEFT, _RIGHT)]


@pytest.fixture
def file(tmp_path, smiles) -> Path:
    path = tmp_path / "mine.smi"
    path.write_text("".join(f"{text} m{number}\n" for number, text in enumerate(smiles)))
    return path
