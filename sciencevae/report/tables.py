"""Tables of a report: numbers with as many digits as one reads, everything escaped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["cell", "grid", "table_html", "title", "training_parts"]


#: what training measures, in words; the parts of a loss have their own names
_MEASURES = {
    "epochs": "epochs",
    "steps": "steps",
    "seconds": "time (s)",
    "stopped": "ended by",
    "best_epoch": "epoch whose weights are kept",
    "compiled": "compiled as one graph",
    "kept": "prior that the model has",
    "kl": "KL (nats)",
    "active_units": "active dimensions",
    "dimensions": "dimensions",
    "perplexity": "perplexity of the codes",
    "used_codes": "codes that occur",
    "codes": "codes",
    "own_over_shuffled": "own latents over shuffled ones (nats)",
    "collapsed": "collapsed",
}
_UNITLESS = ("perplexity", "commitment", "codebook")
_DATA = {"train": "training data", "valid": "validation data"}


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


def title(name: str, titles: Mapping[str, str]) -> str:
    """What a metric or a column is called on the page; of joined keys, each in its turn.

    >>> title("a · minus_elbo", {"minus_elbo": "−ELBO (nats)"}), title("some_name", {})
    ('a · −ELBO (nats)', 'some name')
    """
    return " · ".join(titles.get(key, key.replace("_", " ")) for key in name.split(" · "))


def grid(
    metrics: Mapping[str, Any], tables: Sequence[pd.DataFrame] = ()
) -> list[tuple[list[str], dict[str, list[Any]]]]:
    """Nested metrics as tables, (columns, {row: values}): what lies deepest side by side where it repeats.

    tables: of which no metrics that read as one of their rows are shown again.

    >>> grid({"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 4}})
    [(['x', 'y'], {'a': [1, 2], 'b': [3, 4]})]
    """
    by_columns: dict[tuple[str, ...], dict[str, list[Any]]] = {}
    single: dict[str, list[Any]] = {}
    for row, leaves in _branches(metrics):
        if any(_is_a_row(leaves, table) for table in tables):
            continue
        if row and len(leaves) > 1:
            by_columns.setdefault(tuple(leaves), {})[row] = list(leaves.values())
        else:
            single |= {(f"{row} · {name}" if row else name): [value] for name, value in leaves.items()}
    found = [(list(columns), rows) for columns, rows in by_columns.items()]
    return [([], single), *found] if single else found


def _is_a_row(leaves: Mapping[str, Any], table: pd.DataFrame) -> bool:
    if len(leaves) < 2 or not {*leaves} <= {*table.columns}:
        return False
    same = [table[name].map(cell) == cell(value) for name, value in leaves.items()]
    return any(map(all, zip(*same, strict=True)))


def training_parts(training: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    """(title, {measure in words: {variant: value}}): the training, the prior fitted afterwards, the final latents.

    What training measured is of the prior it had; the latents are of the final model.
    """
    afterwards = any("refit" in found for found in training.values())
    own = {
        name: {k: v for k, v in found.items() if k not in ("latents", "refit")}
        for name, found in training.items()
    }
    refit = {name: found["refit"] for name, found in training.items() if "refit" in found}
    latents = {
        name: {k: v for k, v in found["latents"].items() if k in _MEASURES}
        for name, found in training.items()
    }
    before, after = (" before the prior was fitted anew", " of the final model") if afterwards else ("", "")
    return [
        (f"Training{before}: means of an epoch", _by_measure(own, "loss")),
        *(
            [("The prior fitted to the latents afterwards", _by_measure(refit, _CROSS_ENTROPY))]
            if refit
            else []
        ),
        (f"Latents{after}: validation data, 2,048 of them at most", _by_measure(latents, "")),
    ]


_CROSS_ENTROPY = "cross-entropy −E_q[log p(z)]"


def _by_measure(found: Mapping[str, Mapping[str, Any]], loss: str) -> dict[str, dict[str, Any]]:
    """One row a measure, in words, of which only the variants that have it have a value."""
    rows: dict[str, dict[str, Any]] = {}
    for variant, values in found.items():
        for name, value in values.items():
            data, _, part = name.partition("_")
            if data in _DATA:
                names = {"loss": loss, "before": f"{loss} of the prior of training", "kl": "KL"}
                words = names.get(part, part.replace("_", " "))
                unit = "" if part in _UNITLESS else " (nats)"
                title = f"{words}, {_DATA[data]}{unit}"
            else:
                title = _MEASURES[name]
            rows.setdefault(title, {})[variant] = value
    return rows


def _branches(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(joined keys, {name: value}) of every mapping that holds values."""
    # a list of rows is a mapping of them by number
    metrics = {name: dict(enumerate(v, 1)) if _is_rows(v) else v for name, v in metrics.items()}
    leaves = {str(name): value for name, value in metrics.items() if not isinstance(value, Mapping)}
    if leaves:
        yield prefix, leaves
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _branches(value, f"{prefix} · {name}" if prefix else str(name))


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def table_html(
    frame: pd.DataFrame, rows: int = 30, titles: Mapping[str, str] = MappingProxyType({})
) -> Markup:
    """An HTML table of the first ``rows`` rows; says how many there are when some are left out.

    titles: of its columns, as of ``title``.
    """
    if frame.index.name is not None:
        frame = frame.reset_index()
    numeric = [frame[column].dtype.kind in "iuf" for column in frame.columns]
    head = Markup("").join(
        Markup("<th>{}</th>").format(title(str(column), titles)) for column in frame.columns
    )
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
