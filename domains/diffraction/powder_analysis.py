"""From a trained model to the phases of patterns, beside comparison with reference patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sciencevae.batch import Batch
from sciencevae.data.rows import rows_of
from sciencevae.registry import Findings

from .crystals import Crystal, formula
from .powder_data import structures
from .references import decompose, nearest, references, smoothed, strip_background

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.runs import Run
    from sciencevae.vae.model import VAE

__all__ = [
    "DRAWS",
    "REACH",
    "VARIANTS",
    "batch_of",
    "crystals_of",
    "expected",
    "is_powder",
    "of_formulas",
    "parts_of",
    "patterns_of",
    "phases",
    "pieces",
    "probabilities",
]

_ROWS = 256
_PIECE = 8 * _ROWS  # patterns in memory
DRAWS = 16
"""Of each posterior."""
_VALID = 120  # patterns that baselines choose their preparation by
REACH = 40
"""Half width, in bins, of the widest peak that is not taken for background."""
_WIDTHS = (0.0, 2.0, 4.0)  # σ in bins
VARIANTS = (1, 10)
"""References of each structure: the ideal one, or more."""
_THRESHOLDS = np.linspace(0.02, 0.98, 97)
TITLES = {
    "number": "how many",
    "top1": "best guess is in it (share)",
    "recall": "phases among the first k guesses, k as many as there are (share)",
    "f1": "F₁ of phases, threshold from validation",
    "prepared": "preparation, chosen on validation",
    "scan": "scan, by its label",
}


def phases(run: Run) -> Findings:
    """How well the phases of simulated test patterns and of measured scans are found, beside comparison.

    Every method gives each phase a score; what it is prepared with, and the threshold above which a phase is called
    present, are chosen on simulated validation patterns.
    """
    if not is_powder(run):
        return Findings()
    data = run.main.data
    names = data["phase"].values.tolist()
    origin, split = data["origin"].values, data["split"].values
    valid = np.flatnonzero(split == 1)[:_VALID]
    test = np.flatnonzero((split == 2) & (origin == "simulated"))[: 2 * _VALID]
    scans = np.flatnonzero(origin == "measured")
    scans = scans[np.argsort(data["label"].values[scans], kind="stable")]
    labels = data["label"].values[scans]
    told, formulas = of_formulas(labels, names)
    # of scans that hold something else, or whose label is no formula, there is nothing to compare with
    whole = told.sum(1) == [len({*str(label).split("+")}) for label in labels]
    rows: list[dict[str, Any]] = []
    guesses: dict[str, Any] = {"scan": labels}
    for method, (score, prepared) in scorers(run).items():
        threshold = best_threshold(score(valid), data["phases"].values[valid] > 0)
        kinds = {"simulated test": (score(test), data["phases"].values[test] > 0)}
        if len(scans):
            by = by_formula(np.concatenate([score(part) for part in pieces(scans)]), names)[0]
            guesses[method] = [_first(row, formulas) for row in by]
            if whole.any():
                kinds["measured"] = by[whole], told[whole]
        for kind, (scores, truth) in kinds.items():
            found = {"method": method, "patterns": kind, "number": len(truth)}
            rows.append(found | quality(scores, truth, threshold) | {"prepared": prepared})
    table = pd.DataFrame(rows)
    metrics = {
        f"{row['patterns']}, {row['method']}": {key: row[key] for key in ("top1", "recall", "f1")}
        for row in rows
    }
    tables = {"phases": table}
    if len(scans):
        tables["guesses"] = pd.DataFrame(guesses)
    note = (
        "Scans count by formula: of several structures with one formula the best score counts. Scores are "
        "probabilities, those of the sum of references shares. Comparison is with patterns of each structure, "
        "after the background is taken off (SNIP)."
    )
    return Findings(metrics, tables, (note,), TITLES)


def _first(scores: np.ndarray, names: Sequence[str]) -> str:
    """The three highest scores, in words."""
    return ", ".join(f"{names[k]} {scores[k]:.2f}" for k in np.argsort(-scores)[:3])


def scorers(run: Run) -> dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]]:
    """Each method's scores of rows of the data, and how it prepares them."""
    data, model = run.main.data, run.main.model()
    crystals = crystals_of(run)[0]
    source = run.main.settings.source
    valid = np.flatnonzero(data["split"].values == 1)[:_VALID]
    truth = data["phases"].values[valid] > 0
    against = references(source, crystals, max(VARIANTS), source.seed + 2)
    found: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
        "VAE": (lambda rows: probabilities(model, batch_of(data, rows), run.settings.analyse.seed), "")
    }
    for method in ("cosine", "correlation", "decomposition"):
        best: tuple[float, Any] = (-1.0, None)
        for width in _WIDTHS:
            for variants in VARIANTS:
                score = _comparison(method, data, against[:, :variants], width)
                recall = quality(score(valid), truth, 0.5)["recall"]
                if recall > best[0]:
                    best = recall, (score, f"σ = {width:g} bins, {variants} reference(s) a phase")
        name = {"decomposition": "sum of references (NNLS)"}.get(method, f"nearest reference ({method})")
        found[name] = best[1]
    return found


def _comparison(
    method: Any, data: xr.Dataset, against: np.ndarray, width: float
) -> Callable[[np.ndarray], np.ndarray]:
    reference = smoothed(against, width)

    def score(rows: np.ndarray) -> np.ndarray:
        patterns = smoothed(strip_background(patterns_of(data, rows), REACH), width)
        if method == "decomposition":
            return decompose(patterns, reference)[0]
        return nearest(patterns, reference, method)

    return score


def probabilities(model: VAE, batch: Batch, seed: int = 0) -> np.ndarray:
    """p(phase present | pattern), (n, K): p(phases | z), the mean over draws of q(z | pattern)."""
    return expected(model, batch, ("phases",), seed)[0]


def expected(model: VAE, batch: Batch, fields: Sequence[str], seed: int = 0) -> list[np.ndarray]:
    """E_q[E[field | z]] of each of these fields, (n, *E), over the same draws of q(z | pattern)."""
    parts: list[list[torch.Tensor]] = [[] for _ in fields]
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for rows in parts_of(batch):
            z = model.encode(rows.x, rows.context).rsample((DRAWS,))
            likelihood: Any = model.decode(z, rows.context)
            for part, field in zip(parts, fields, strict=True):
                part.append(likelihood.fields[field].mean.mean(0))
    return [torch.cat(part).numpy() for part in parts]


def quality(scores: np.ndarray, truth: np.ndarray, threshold: float) -> dict[str, float]:
    """top1, recall and F₁ of scores (n, K) against what is there (n, K): of each pattern, and of all decisions."""
    number = truth.sum(1)
    order = np.argsort(-scores, 1)
    ranked = np.take_along_axis(truth, order, 1)
    among = np.arange(scores.shape[1]) < number[:, None]
    called = scores > threshold
    return {
        "top1": float(ranked[:, 0].mean()),
        "recall": float(((ranked & among).sum(1) / np.maximum(number, 1)).mean()),
        "f1": float(2 * (called & truth).sum() / max(called.sum() + truth.sum(), 1)),
    }


def best_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """The threshold with the highest F₁."""
    values = [quality(scores, truth, t)["f1"] for t in _THRESHOLDS]
    return float(_THRESHOLDS[int(np.argmax(values))])


def by_formula(scores: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Scores of structures (n, K) as those of formulas (n, F), of each the best; a name is FORMULA_SPACEGROUP."""
    own = np.array([formula(name) for name in names])
    formulas = list(dict.fromkeys(own.tolist()))
    return np.stack([scores[:, own == f].max(1) for f in formulas], 1), formulas


def of_formulas(labels: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Which formulas labels "A+B" name, (n, F), and the formulas."""
    _, formulas = by_formula(np.zeros((1, len(names))), names)
    truth = np.array([[f in str(label).split("+") for f in formulas] for label in labels])
    return truth, formulas


def crystals_of(run: Run) -> tuple[list[Crystal], list[Crystal]]:
    """The structures that the model was trained on, in the order of its phases, and those left out."""
    from sciencevae.data.fetch import fetch

    if run.input is not None:
        paths = [path for path in sorted(Path(run.input).iterdir()) if path.suffix.lower() == ".cif"]
    elif run.main.settings.dataset:
        paths = [path for path in fetch(run.main.settings.dataset).values() if path.suffix == ".cif"]
    else:
        paths = []
    return structures(run.main.settings.source, paths)


def is_powder(run: Run) -> bool:
    return run.main.settings.source.kind == "powder"


def pieces(rows: np.ndarray) -> list[np.ndarray]:
    """Rows of which there may be many, as many at a time as all methods have memory for."""
    return [rows[start : start + _PIECE] for start in range(0, len(rows), _PIECE)]


def patterns_of(data: xr.Dataset, rows: np.ndarray) -> np.ndarray:
    """The counts of rows, (n, N)."""
    return np.asarray(rows_of(data[["pattern"]].reset_coords(drop=True), rows)["pattern"].values[:, 0])


def batch_of(data: xr.Dataset, rows: np.ndarray) -> Batch:
    """Patterns of rows without their phases, which are to be found."""
    part = rows_of(data[["pattern", "exposure"]].reset_coords(drop=True), rows)
    tensors = {
        name: torch.as_tensor(part[name].values, dtype=torch.float32) for name in ("pattern", "exposure")
    }
    return Batch({"pattern": tensors["pattern"]}, {"exposure": tensors["exposure"]})


def parts_of(batch: Batch) -> Iterator[Batch]:
    return (batch[start : start + _ROWS] for start in range(0, len(batch), _ROWS))
