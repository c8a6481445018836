"""Writes the table of breast tumours that scikit-learn brings along, so that a run needs no network.

Called by ``fetch`` for a manifest whose source is ``generate: {command: sciencevae.builtin.tables.breast_cancer}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["VERSION", "generate"]

VERSION: int = 1
"""Raised whenever another table would be written."""


def generate(path: Path, parameters: Mapping[str, Any], seed: int, progress: Callable[..., None]) -> None:
    """569 rows as CSV: sample, 30 features of the nuclei, and the diagnosis; nothing in it is random."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer(as_frame=True)
    table = found.data.rename(columns=lambda name: name.replace(" ", "_"))
    table.insert(0, "sample", [f"tumour-{number}" for number in range(len(table))])
    table["diagnosis"] = [found.target_names[code] for code in found.target]
    table.to_csv(path, index=False)
