"""Phases of powder patterns: the VAE beside comparison with reference patterns, on measured and simulated ones.

    for c in scans powder; do for s in 0 1 2; do
        sciencevae run diffraction --config $c --set seed=$s --set source.seed=$s --out runs/$c-$s
    done; done
    python -m benchmarks.powder_phases --scans runs/scans-* --demonstration runs/powder-*

A seed is that of the weights, the training, the simulated patterns and the references. Scans and structures are
the data set ``xrd_autoanalyzer``. Preparations and thresholds are chosen on simulated validation patterns. The
last result is kept in benchmarks/results/powder_phases.json and in the domain's README, between its markers.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.turns import HERE, keep
from sciencevae.runs import Run

README = HERE.parent / "domains" / "diffraction" / "README.md"
Rows = list[dict[str, Any]]


def collected(runs: Sequence[Run], table: str, by: Sequence[str], columns: Sequence[str]) -> Rows:
    """Mean, smallest and largest over the runs of columns of a table, a row for each ``by``."""
    parts = [run.table(table) for run in runs if (run.tables / f"{table}.csv").is_file()]
    if not parts:
        return []
    rows: Rows = []
    for key, group in pd.concat(parts).groupby(list(by), sort=False):
        found = {
            name: [float(f(group[name])) for f in (pd.Series.mean, pd.Series.min, pd.Series.max)]
            for name in columns
            if name in group and group[name].notna().all()
        }
        rows.append(dict(zip(by, key, strict=True)) | found)
    return rows


def cell(row: dict[str, Any], name: str, digits: int = 3) -> str:
    """Mean (smallest–largest), or the number alone where they agree."""
    if name not in row:
        return "–"
    mean, low, high = (f"{value:.{digits}f}" for value in row[name])
    return mean if low == high else f"{mean} ({low}–{high})"


def lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    head = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def tables(result: dict[str, Any]) -> str:
    """What is kept, as tables."""
    parts = []
    for title, key in (("82 structures", "scans"), ("8 structures", "demonstration")):
        found = result[key]
        if not found["phases"]:
            continue
        head = (f"{title}, {found['runs']} seed(s)", "patterns", "best guess right", "recall", "F₁")
        parts.append(
            lines(
                head,
                (
                    (row["method"], row["patterns"], *(cell(row, name) for name in ("top1", "recall", "f1")))
                    for row in sorted(found["phases"], key=lambda row: row["patterns"])
                ),
            )
        )
        if found["unknown"]:
            rows = ((row["score"].replace("|", "∣"), cell(row, "auc")) for row in found["unknown"])
            parts.append(
                lines((f"{title}: mixtures with a phase never seen", "area under the ROC curve"), rows)
            )
        if found["short_exposures"]:
            head = (f"{title}: of the counts", "patterns", "method", "error of the rate", "nats a bin")
            named = [
                (f"{row['exposure']:.0%}", row["patterns"], row["method"]) for row in found["short_exposures"]
            ]
            numbers = [(cell(row, "relative"), cell(row, "held_out", 2)) for row in found["short_exposures"]]
            parts.append(lines(head, [(*a, *b) for a, b in zip(named, numbers, strict=True)]))
        if found["lattice"]:
            rows = ((row["axis"], row["spearman"]) for row in found["lattice"])
            parts.append(lines(("strain of the cell of silicon: latent", "∣Spearman∣"), rows))
        if found["groups"]:
            rows = ((row["method"], cell(row, "rand")) for row in found["groups"])
            parts.append(
                lines((f"{title}: k-means of held-out single-phase patterns", "adjusted Rand index"), rows)
            )
    return "\n\n".join(parts)


def rewrite(name: str, text: str) -> None:
    """Between the markers of that name in the domain's README."""
    marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    README.write_text(marked.sub(lambda found: f"{found[1]}{text}\n{found[2]}", README.read_text()))


def main() -> None:
    """Read, print, keep, rewrite."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scans", nargs="*", default=[], help="finished runs of scans.yaml")
    parser.add_argument("--demonstration", nargs="*", default=[], help="finished runs of powder.yaml")
    given = parser.parse_args()
    result: dict[str, Any] = {}
    for key in ("scans", "demonstration"):
        runs = [Run(Path(folder)) for folder in getattr(given, key)]
        result[key] = {
            "runs": len(runs),
            "phases": collected(runs, "phases", ("method", "patterns"), ("top1", "recall", "f1")),
            "unknown": collected(runs, "unknown", ("score",), ("auc",)),
            "short_exposures": collected(
                runs, "short_exposures", ("exposure", "patterns", "method"), ("relative", "held_out")
            ),
            "lattice": [
                {"axis": str(one["axis"]), "spearman": f"{one['spearman']:.4f}"}
                for run in runs
                for one in run.metrics.get("lattice", {}).values()
            ],
            "groups": collected(runs, "groups", ("method",), ("rand",)),
        }
    text = tables(result)
    print(text)
    keep("powder_phases", result)
    rewrite("powder_phases", text)


if __name__ == "__main__":
    main()
