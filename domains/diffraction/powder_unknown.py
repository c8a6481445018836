"""Patterns that hold a phase which is none of the candidates: one-class detection, of a model and by comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sciencevae.batch import Batch
from sciencevae.latents.score import auc, threshold
from sciencevae.registry import Findings

from .crystals import formula
from .powder_analysis import (
    DRAWS,
    REACH,
    VARIANTS,
    batch_of,
    crystals_of,
    expected,
    is_powder,
    parts_of,
    patterns_of,
    pieces,
    probabilities,
)
from .references import decompose, nearest, references, smoothed, strip_background

if TYPE_CHECKING:
    from sciencevae.runs import Run
    from sciencevae.vae.model import VAE

__all__ = ["KINDS", "combined", "doubts", "holds_unknown", "scored", "surprises", "unknown"]

KINDS = ("measured", "simulated, another phase", "simulated", "validation")
"""Of patterns, in the order of the table ``doubts``."""
_ABOUT = ["label", "patterns", "holds", "likeliest"]
_PATTERNS = 200  # of each kind that is simulated, at most
_SMOOTH = 0.2  # σ in degrees of what is compared
_NAMED = 0.1  # probability of a phase that is worth naming
TITLES = {
    "known": "of candidates alone",
    "strange": "with another phase",
    "auc": "area under the ROC curve",
    "error": "standard error",
    "false": "of candidates alone, called unknown (share)",
    "found": "with another phase, called unknown (share)",
    "doubt": "doubt (standard scores, added)",
    "beyond": "validation patterns in less doubt (share)",
    "above": "verdict",
    "holds": "by its label",
    "likeliest": "likeliest candidates",
    "threshold": "threshold of the doubt",
    "rate": "known patterns above it, expected (share)",
}
_VERDICTS = {False: "explained by candidates", True: "not explained by candidates"}
_HOLDS = {-1: "not told", 0: "candidates alone", 1: "another phase"}


def unknown(run: Run) -> Findings:
    """Which measured scans hold a phase that is none of the candidates, and how well such patterns are told.

    The model is in doubt in two ways: which phases there are, H[p(phases | x)] in nats, and the pattern, 1 − the
    cosine of what it decodes with what was counted. A sum of references leaves a part of the pattern over. "doubt"
    is the sum of the three's logarithms, each standardised on validation patterns. Beside it the likelihood's own
    scores, and comparison with references; all patterns that are compared are smoothed alike, after the background
    is taken off. Every score's threshold is exceeded by ``analyse.false_positive_rate`` of simulated validation
    patterns, whose phases are all candidates (of few patterns, by none).

    What is to be told: simulated mixtures with a phase of ``source.unknown``, and scans whose label names one.
    """
    data = run.main.data if is_powder(run) else None
    if data is None or (data["origin"].values == "simulated").all():
        return Findings()
    table = scored(run)
    valid = table["patterns"] == "validation"
    rate = max(run.settings.analyse.false_positive_rate, 1 / (valid.sum() + 1))
    found = []
    for name in table.columns[len(_ABOUT) :]:
        limit = threshold(table.loc[valid, name], rate)
        for kind in ("simulated", "measured"):
            own = table[table["patterns"].str.startswith(kind)]
            normal, strange = (own.loc[own["holds"] == k, name].to_numpy() for k in (0, 1))
            row: dict[str, Any] = {"score": name, "patterns": kind}
            row |= {"known": len(normal), "strange": len(strange)}
            if min(len(normal), len(strange)) > 1:
                row["auc"], row["error"] = auc(normal, strange)
            for key, part in (("false", normal), ("found", strange)):
                row[key] = float(limit.is_anomalous(part).mean()) if len(part) else np.nan
            if len(normal) + len(strange):
                found.append(row)
    limit = threshold(table.loc[valid, "doubt"], rate)
    held_out = np.sort(table.loc[valid, "doubt"])
    shown = table[[*_ABOUT, "doubt"]].assign(
        beyond=np.searchsorted(held_out, table["doubt"]) / len(held_out),
        above=[_VERDICTS[bool(one)] for one in limit.is_anomalous(table["doubt"])],
        holds=table["holds"].map(_HOLDS),
    )
    order = np.lexsort((-shown["doubt"], shown["patterns"].map(KINDS.index)))
    columns = ["label", "patterns", "doubt", "beyond", "above", "holds", "likeliest"]
    note = (
        "Doubt above the threshold: the candidates do not explain what was counted. Another phase is in it, "
        "or a candidate is far from what was simulated (its cell, its texture, the instrument)."
    )
    return Findings(
        {"threshold": limit.value, "rate": limit.rate},
        {"doubts": shown.iloc[order][columns], "unknown": pd.DataFrame(found)},
        (note,),
        TITLES,
    )


def scored(run: Run) -> pd.DataFrame:
    """Every score of measured scans and of some simulated patterns, a column each, behind four about the pattern.

    patterns: one of ``KINDS``; holds: 0 candidates alone, 1 another phase, −1 not told
    """
    data, source, model = run.main.data, run.main.settings.source, run.main.model()
    origin, split, seed = data["origin"].values, data["split"].values, run.settings.analyse.seed
    of_kind = {
        "measured": np.flatnonzero(origin == "measured"),
        "simulated, another phase": np.flatnonzero(origin == "unknown")[:_PATTERNS],
        "simulated": np.flatnonzero((split == 2) & (origin == "simulated"))[:_PATTERNS],
        "validation": np.flatnonzero(split == 1)[:_PATTERNS],
    }
    rows = np.concatenate(list(of_kind.values()))
    kinds = np.repeat(list(of_kind), [len(own) for own in of_kind.values()])
    valid, labels = kinds == "validation", data["label"].values[rows]
    candidates, strangers = crystals_of(run)
    names = [crystal.name for crystal in candidates]
    width = _SMOOTH * source.scan.bins / (source.scan.stop - source.scan.start)
    against = smoothed(references(source, candidates, max(VARIANTS), source.seed + 2), width)
    own, others, left, likeliest = [], [], [], list[str]()
    for part in pieces(rows):
        batch = batch_of(data, part)
        stripped = smoothed(strip_background(patterns_of(data, part), REACH), width)
        own.append(doubts(model, batch, stripped, width, seed))
        others.append(surprises(model, batch, seed))
        compared = {"left over by a sum of references (NNLS)": decompose(stripped, against)[1]}
        for match in ("cosine", "correlation"):
            likeness = nearest(stripped, against, match).max(1)
            compared[f"1 − likeness of the nearest reference ({match})"] = 1 - likeness
        left.append(compared)
        likeliest += [_likeliest(one, names) for one in probabilities(model, batch, seed)]
    of_model, of_all, beside = (
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in (own, others, left)
    )
    over = next(iter(beside))
    about = {
        "label": labels,
        "patterns": kinds,
        "holds": holds_unknown(labels, names, [crystal.name for crystal in strangers]),
        "likeliest": likeliest,
        "doubt": combined(of_model | {over: beside[over]}, valid),
        "doubt of the model alone": combined(of_model, valid),
    }
    return pd.DataFrame(about | of_model | of_all | beside)


def combined(scores: Mapping[str, np.ndarray], valid: np.ndarray) -> np.ndarray:
    """The sum of the logarithms of scores (n,), each standardised on rows where ``valid``."""
    logs = [np.log(np.maximum(values, 1e-6)) for values in scores.values()]
    return np.asarray(sum((log - log[valid].mean()) / max(log[valid].std(), 1e-9) for log in logs))


def holds_unknown(labels: Sequence[str], candidates: Sequence[str], strangers: Sequence[str]) -> np.ndarray:
    """Of labels "A+B", (n,): 0 where all formulas are candidates', 1 where one is a stranger's, else −1."""
    known = {*candidates, *map(formula, candidates)}
    all_named = known | {*strangers, *map(formula, strangers)}
    parts = [{*str(label).split("+")} for label in labels]
    return np.array([0 if part <= known else 1 if part <= all_named else -1 for part in parts])


def _likeliest(p: np.ndarray, names: Sequence[str]) -> str:
    first = [k for k in np.argsort(-p)[:3] if p[k] > _NAMED] or [int(p.argmax())]
    return ", ".join(f"{names[k]} {p[k]:.2f}" for k in first)


def doubts(
    model: VAE, batch: Batch, stripped: np.ndarray, width: float, seed: int = 0
) -> dict[str, np.ndarray]:
    """The model's doubt about phases, nats, and about the pattern, 1 − cosine, (n,) each.

    stripped (n, N): the patterns without background, smoothed by ``width`` bins, as what is decoded will be.
    """
    p, decoded = expected(model, batch, ("phases", "pattern"), seed)
    p = p.clip(1e-7, 1 - 1e-7)
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p)).sum(1)
    counts = batch.x["pattern"].numpy()[:, 0]  # type: ignore[index]  # a mapping in this domain
    rate = np.where(np.isnan(counts), np.nan, decoded[:, 0])
    other = np.nan_to_num(smoothed(strip_background(rate, REACH), width))
    own = np.nan_to_num(stripped)
    cosine = (own * other).sum(1) / (np.linalg.norm(own, axis=1) * np.linalg.norm(other, axis=1)).clip(1e-30)
    return {"doubt about phases": entropy, "doubt about the pattern": 1 - cosine}


def surprises(model: VAE, batch: Batch, seed: int = 0) -> dict[str, np.ndarray]:
    """Scores of patterns by a model, nats, (n,) each: surprise, reconstruction, −ELBO."""
    parts: dict[str, list[torch.Tensor]] = {"surprise": [], "reconstruction": [], "−ELBO": []}
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for rows in parts_of(batch):
            terms = model.terms(rows, DRAWS)
            likelihood: Any = terms.likelihood
            pattern = likelihood.fields["pattern"]
            counts = rows.x["pattern"]  # type: ignore[index]  # a mapping in this domain
            filled = counts.nan_to_num(0.0)
            base = pattern.base_dist
            ideal = type(base)(filled.clamp(min=1e-6).log()[None], base.size[:1])
            top = torch.where(counts.isnan(), 0.0, ideal.log_prob(filled[None])[0]).sum((1, 2))
            own = terms.log_px_by_field["pattern"].mean(0)
            parts["surprise"].append(top - own)
            parts["reconstruction"].append(-own)
            parts["−ELBO"].append(-own + terms.divergence)
    return {name: torch.cat(found).numpy() for name, found in parts.items()}
