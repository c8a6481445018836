"""Tables of a report: numbers with as many digits as one reads, everything escaped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["cell", "flatten", "grid", "table_html"]


def cell(value: Any) -> str:
    """One value as text: 4 significant digits, a dash where there is none.

    >>> cell(0.123456), cell(float("nan")), cell(1234567), cell("a<b")
    ('0.1235', '–', '1,234,567', 'a<b')
    """
    if value is None or value is math.nan or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**15 else str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "–"
        return f"{value:.4g}" if abs(value) < 1e6 or abs(value) >= 1e15 else f"{value:,.0f}"
    if isinstance(value, list | tuple):
        return ", ".join(cell(v) for v in value)
    return str(value)


def flatten(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with the keys joined: ``{"a": {"b": 1}}`` gives ``{"a · b": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in metrics.items():
        full = f"{prefix} · {name}" if prefix else str(name)
        if isinstance(value, Mapping):
            flat |= flatten(value, full)
        else:
            flat[full] = value
    return flat


def grid(metrics: Mapping[str, Any]) -> list[tuple[list[str], dict[str, list[Any]]]]:
    """Nested metrics as tables, (columns, {row: values}): what lies deepest side by side where it repeats.

    >>> grid({"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 4}})
    [(['x', 'y'], {'a': [1, 2], 'b': [3, 4]})]
    """
    by_columns: dict[tuple[str, ...], dict[str, list[Any]]] = {}
    single: dict[str, list[Any]] = {}
    for row, leaves in _branches(metrics):
        if row and len(leaves) > 1:
            by_columns.setdefault(tuple(leaves), {})[row] = list(leaves.values())
        else:
            single |= {(f"{row} · {name}" if row else name): [value] for name, value in leaves.items()}
    tables = [(list(columns), rows) for columns, rows in by_columns.items()]
    return [([], single), *tables] if single else tables


def _branches(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(joined keys, {name: value}) of every mapping that holds values."""
    leaves = {str(name): value for name, value in metrics.items() if not isinstance(value, Mapping)}
    if leaves:
        yield prefix, leaves
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _branches(value, f"{prefix} · {name}" if prefix else str(name))


def table_html(frame: pd.DataFrame, rows: int = 30) -> Markup:
    """An HTML table of the first ``rows`` rows; says how many there are when some are left out."""
    if frame.index.name is not None:
        frame = frame.reset_index()
    numeric = [frame[column].dtype.kind in "iuf" for column in frame.columns]
    head = Markup("").join(Markup("<th>{}</th>").format(str(column)) for column in frame.columns)
    body = []
    for values in frame.head(rows).itertuples(index=False, name=None):
        cells = Markup("").join(
            Markup('<td class="number">{}</td>' if is_number else "<td>{}</td>").format(cell(value))
            for value, is_number in zip(values, numeric, strict=True)
        )
        body.append(Markup("<tr>{}</tr>").format(cells))
    left = len(frame) - rows
    more = (
        Markup('<p class="more">and {} more rows in the file</p>').format(f"{left:,}")
        if left > 0
        else escape("")
    )
    table = Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>")
    return table.format(head, Markup("").join(body)) + more
