"""Phases of powder patterns: the VAE beside comparison with reference patterns, on measured and simulated ones.

    for c in scans powder; do for s in 0 1 2; do
        sciencevae run diffraction --config $c --set seed=$s --set source.seed=$s --out runs/$c-$s
    done; done
    sciencevae run diffraction --config scans --out runs/fold-0 \\
        --set source.unknown=[Li2MnO3,LiF,LiMn2O4,LiMnO2,Mn2O3,MnO2]
    sciencevae run diffraction --config scans --out runs/fold-1 \\
        --set source.unknown=[Li2CO3,Li2O,Li2TiO3,MnF2,MnO,TiO2,ZrO2]
    python -m benchmarks.powder_phases --scans runs/scans-* --demonstration runs/powder-* --folds runs/fold-*

A seed is that of the weights, the training, the simulated patterns and the references. Scans and structures are
the data set ``xrd_autoanalyzer``. Preparations and thresholds are chosen on simulated validation patterns.

Of the 13 formulas that the 22 scans hold, each fold leaves half out of the candidates, all their structures. 18
scans hold phases of one half alone: they are of candidates in one fold, and of none in the other. Four hold
phases of both halves, and another phase in both folds. Areas are means over the folds, their intervals of scans
drawn anew 2,000 times, the same in both folds. What the score "doubt" joins was chosen on the first fold, the
second left alone. The last result is kept in benchmarks/results/powder_phases.json and in the domain's README,
between its markers.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sciencevae.builtin.diffraction.powder_unknown import scored

from benchmarks.turns import HERE, keep
from sciencevae.latents.score import threshold
from sciencevae.runs import Run

README = HERE.parent / "domains" / "diffraction" / "README.md"
Rows = list[dict[str, Any]]
GROUPED = {
    "rand": "adjusted Rand index",
    "purity": "purity",
    "scans": "scans in a cluster of a phase they hold",
    "pairs": "scans with a phase in common told by distance (area)",
}


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


def left_out(runs: Sequence[Run], draws: int = 2000, rate: float = 0.05) -> Rows:
    """How scans, and simulated patterns, with a phase that is left out are told from others, over the folds.

    simulated, measured: the mean area under the ROC curve; by_fold: the measured ones; interval: of their mean, 2.5
    to 97.5 % of scans drawn anew; false, found: scans of candidates alone, and others, [above the threshold that
    ``rate`` of validation patterns exceed, all].
    """
    folds = [scored(run) for run in runs]
    if not folds:
        return []
    scans = [fold[fold["patterns"] == "measured"].sort_values("label") for fold in folds]
    holds = np.stack([fold["holds"] for fold in scans])
    drawn = np.random.default_rng(0).integers(holds.shape[1], size=(draws, holds.shape[1]))
    rows: Rows = []
    for name in folds[0].columns[4:]:
        simulated = [fold[fold["patterns"].str.startswith("simulated")] for fold in folds]
        values = np.stack([fold[name] for fold in scans])
        limits = [threshold(fold.loc[fold["patterns"] == "validation", name], rate).value for fold in folds]
        above = values > np.array(limits)[:, None]
        again = [np.mean([area(v[own], h[own]) for v, h in zip(values, holds, strict=True)]) for own in drawn]
        by_fold = [area(v, h) for v, h in zip(values, holds, strict=True)]
        rows.append(
            {
                "score": name,
                "simulated": float(np.mean([area(fold[name], fold["holds"]) for fold in simulated])),
                "measured": float(np.mean(by_fold)),
                "by_fold": by_fold,
                "interval": np.nanpercentile(again, [2.5, 97.5]).tolist(),
                "false": [int(above[holds == 0].sum()), int((holds == 0).sum())],
                "found": [int(above[holds == 1].sum()), int((holds == 1).sum())],
            }
        )
    return rows


def area(values: Any, holds: Any) -> float:
    """P(a score of the second kind, ``holds`` 1, is above one of the first, 0); NaN where there are not both."""
    values, holds = np.asarray(values, float), np.asarray(holds)
    more = values[holds == 1][:, None] - values[holds == 0]
    return float(np.mean(np.where(more == 0, 0.5, more > 0))) if more.size else float("nan")


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
        if told := [row for row in found["unknown"] if "auc" in row]:
            rows = ((row["score"], cell(row, "auc")) for row in told)
            parts.append(
                lines((f"{title}: mixtures with a phase never seen", "area under the ROC curve"), rows)
            )
        if alone := [row for row in found["unknown"] if row["patterns"] == "measured"]:
            rows = ((row["score"], cell(row, "false")) for row in alone)
            parts.append(lines((f"{title}, all of them candidates: scores", "scans called unknown"), rows))
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
            names = [name for name in GROUPED if name in found["groups"][0]]
            rows = ((row["method"], *(cell(row, name) for name in names)) for row in found["groups"])
            head = (
                f"{title}: clusters of held-out single-phase patterns",
                *(GROUPED[name] for name in names),
            )
            parts.append(lines(head, rows))
    if result["folds"]:
        head = (
            "82 structures, a half left out in each of two folds",
            "area under the ROC curve: simulated",
            "measured (95 %)",
            "each fold",
            "scans of candidates alone called unknown",
            "others called so",
        )
        rows = (
            (
                row["score"],
                f"{row['simulated']:.3f}",
                f"{row['measured']:.3f} ({row['interval'][0]:.2f}–{row['interval'][1]:.2f})",
                ", ".join(f"{value:.3f}" for value in row["by_fold"]),
                *("{} of {}".format(*row[key]) for key in ("false", "found")),
            )
            for row in result["folds"]
        )
        parts.append(lines(head, rows))
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
    parser.add_argument(
        "--folds", nargs="*", default=[], help="finished runs of scans.yaml with phases left out"
    )
    given = parser.parse_args()
    result: dict[str, Any] = {"folds": left_out([Run(Path(folder)) for folder in given.folds])}
    for key in ("scans", "demonstration"):
        runs = [Run(Path(folder)) for folder in getattr(given, key)]
        result[key] = {
            "runs": len(runs),
            "phases": collected(runs, "phases", ("method", "patterns"), ("top1", "recall", "f1")),
            "unknown": collected(runs, "unknown", ("score", "patterns"), ("auc", "false")),
            "short_exposures": collected(
                runs, "short_exposures", ("exposure", "patterns", "method"), ("relative", "held_out")
            ),
            "lattice": [
                {"axis": str(one["axis"]), "spearman": f"{one['spearman']:.4f}"}
                for run in runs
                for one in run.metrics.get("lattice", {}).values()
            ],
            "groups": collected(runs, "groups", ("method",), tuple(GROUPED)),
        }
    text = tables(result)
    print(text)
    keep("powder_phases", result)
    rewrite("powder_phases", text)


if __name__ == "__main__":
    main()
