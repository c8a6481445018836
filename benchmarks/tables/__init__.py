"""The kept results as Markdown tables: what those of all subjects are made of.

``python -m benchmarks.tables`` writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

Result = dict[str, Any]


TIME = {"cpu": "processor time", "wall": "wall time"}


def rows(header: str, lines: Iterable[str]) -> str:
    """A Markdown table."""
    return "\n".join([header, re.sub(r"[^|]+", "---", header), *lines])


def line(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def rate(value: float) -> str:
    """Small ones with a decimal."""
    return f"{value:,.{1 if value < 20 else 0}f}"


def over_seeds(values: list[float], digits: int) -> str:
    """The mean, and where there is one the spread."""
    from statistics import mean, stdev

    spread = f" ± {stdev(values):.{digits}f}" if len({*values}) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"
