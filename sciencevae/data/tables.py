"""Tables of results to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sciencevae.data.atomic import atomic_path

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["write_table"]


def write_table(table: pd.DataFrame, path: Path) -> None:
    """A table without its index to .parquet, or else as CSV; the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False)
