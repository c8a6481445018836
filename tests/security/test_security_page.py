"""SECURITY.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "SECURITY.md"


@pytest.mark.skipif(not PAGE.is_file(), reason="not in a checkout")
def test_each_test_that_the_page_names_is_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    files = set(re.findall(r"`(?:tests/(?:security/)?)?(test_\w+\.py)`", text))
    there = {path.name: path.read_text(encoding="utf-8") for path in (CHECKOUT / "tests").rglob("test_*.py")}
    assert len(files) >= 8
    assert files <= set(there)
    defined = " ".join(re.findall(r"^def (test_\w+)", "\n".join(there[name] for name in files), re.MULTILINE))
    named = re.findall(r"`…(\w+)…?`", text)
    assert len(named) >= 10
    assert [name for name in named if name not in defined] == []
    assert {path.name for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name} <= files
