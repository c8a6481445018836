"""From a trained model to the phases of patterns, phases nobody expected, and patterns of short exposures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sciencevae.batch import Batch
from sciencevae.latents.score import auc
from sciencevae.registry import Findings

from .crystals import Crystal, formula
from .powder_data import structures
from .references import decompose, nearest, references, smoothed, strip_background

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.runs import Run
    from sciencevae.vae.model import VAE

__all__ = ["groups", "lattice", "phases", "probabilities", "short_exposures", "unknown"]

_ROWS = 256
_DRAWS = 16
_VALID = 120  # patterns that baselines choose their preparation by
_REACH = 40  # bins, of the background's removal
_WIDTHS = (0.0, 2.0, 4.0)  # σ in bins
_VARIANTS = (1, 10)
_SMOOTH = 2.0  # σ in bins of what is compared in search of unknown phases
_WIDTHS_TRIED = (0.0, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)  # σ in bins, of patterns that are denoised
_THRESHOLDS = np.linspace(0.02, 0.98, 97)
TITLES = {
    "method": "method",
    "patterns": "patterns",
    "top1": "best guess is in it (share)",
    "recall": "phases among the first k guesses, k as many as there are (share)",
    "f1": "F₁ of phases, threshold from validation",
    "prepared": "preparation, chosen on validation",
    "guesses": "guesses",
    "auc": "area under the ROC curve",
    "error": "standard error",
    "exposure": "share of the counts",
    "relative": "error of the rate over its norm",
    "held_out": "misfit of the counts left out (nats a bin)",
    "spearman": "|Spearman|",
    "rand": "adjusted Rand index",
    "score": "score",
}


def phases(run: Run) -> Findings:
    """How well the phases of simulated test patterns and of measured scans are found, beside comparison.

    Every method gives each phase a score; what it is prepared with, and the threshold above which a phase is called
    present, are chosen on simulated validation patterns.
    """
    if not _powder(run):
        return Findings()
    data = run.main.data
    names = data["phase"].values.tolist()
    origin, split = data["origin"].values, data["split"].values
    valid = np.flatnonzero(split == 1)[:_VALID]
    test = np.flatnonzero((split == 2) & (origin == "simulated"))[: 2 * _VALID]
    scans = np.flatnonzero(origin == "measured")
    methods = scorers(run)
    rows, guesses = [], []
    measured_truth, formulas = of_formulas(data["label"].values[scans], names) if len(scans) else (None, None)
    for method, (score, prepared) in methods.items():
        known = score(valid)
        threshold = best_threshold(known, data["phases"].values[valid] > 0)
        kinds = [("simulated test", test, lambda s: s, data["phases"].values[test] > 0)]
        if measured_truth is not None and measured_truth.any():
            kinds.append(("measured", scans, lambda s: by_formula(s, names)[0], measured_truth))
        for kind, chosen, collect, truth in kinds:
            scores = collect(score(chosen))
            rows.append(
                {
                    "method": method,
                    "patterns": kind,
                    **quality(scores, truth, threshold),
                    "prepared": prepared,
                }
            )
            if kind == "measured":
                assert formulas is not None
                for label, row in zip(data["label"].values[scans], scores, strict=True):
                    first = np.argsort(-row)[:4]
                    text = ", ".join(f"{formulas[k]} {row[k]:.2f}" for k in first)
                    guesses.append({"scan": label, "method": method, "guesses": text})
    table = pd.DataFrame(rows)
    metrics = {
        f"{row['patterns']}, {row['method']}": {key: row[key] for key in ("top1", "recall", "f1")}
        for row in rows
    }
    tables = {"phases": table}
    if guesses:
        tables["guesses"] = pd.DataFrame(guesses)
    note = (
        "Scans count by formula: of several structures with one formula the best score counts. Comparison is with "
        "patterns of each structure alone, after the background is taken off (SNIP)."
    )
    return Findings(metrics, tables, (note,), TITLES)


def scorers(run: Run) -> dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]]:
    """Each method's scores of rows of the data, and how it prepares them."""
    data, model = run.main.data, run.main.model()
    crystals = known_crystals(run)
    source = run.main.settings.source
    counts = data["pattern"].values[:, 0]
    truth = data["phases"].values > 0
    valid = np.flatnonzero(data["split"].values == 1)[:_VALID]
    against = references(source, crystals, max(_VARIANTS), source.seed + 2)
    found: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
        "VAE": (lambda rows: probabilities(model, _batch(data, rows), run.settings.analyse.seed), "")
    }
    stripped = strip_background(counts, _REACH)
    for method in ("cosine", "correlation", "decomposition"):
        best: tuple[float, Any] = (-1.0, None)
        for width in _WIDTHS:
            for variants in _VARIANTS:
                score = _comparison(method, stripped, against[:, :variants], width)
                recall = quality(score(valid), truth[valid], 0.5)["recall"]
                if recall > best[0]:
                    best = recall, (score, f"σ = {width:g} bins, {variants} reference(s) a phase")
        name = {"decomposition": "sum of references (NNLS)"}.get(method, f"nearest reference ({method})")
        found[name] = best[1]
    return found


def _comparison(
    method: Any, counts: np.ndarray, against: np.ndarray, width: float
) -> Callable[[np.ndarray], np.ndarray]:
    reference = smoothed(against, width)

    def score(rows: np.ndarray) -> np.ndarray:
        patterns = smoothed(counts[rows], width)
        if method == "decomposition":
            return decompose(patterns, reference)[0]
        return nearest(patterns, reference, method)

    return score


def probabilities(model: VAE, batch: Batch, seed: int = 0) -> np.ndarray:
    """p(phase present | pattern), (n, K): p(phases | z), the mean over draws of q(z | pattern)."""
    return _expected(model, batch, ("phases",), seed)[0]


def _expected(model: VAE, batch: Batch, fields: Sequence[str], seed: int = 0) -> list[np.ndarray]:
    """E_q[E[field | z]] of each of these fields, (n, *E), over the same draws of q(z | pattern)."""
    parts: list[list[torch.Tensor]] = [[] for _ in fields]
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for rows in _parts(batch):
            z = model.encode(rows.x, rows.context).rsample((_DRAWS,))
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


def unknown(run: Run) -> Findings:
    """How well mixtures with a phase that training never saw are told from others: areas under the ROC curve.

    The model is in doubt in two ways: which phases there are, H[p(phases | x)] in nats, and the pattern, 1 − the
    cosine of what it decodes with what was counted. Each has its logarithm standardised on validation patterns;
    "doubt" is their sum. Beside it the likelihood's own scores, and comparison with references; all patterns that
    are compared are smoothed alike, after the background is taken off.
    """
    data = run.main.data if _powder(run) else None
    if data is None or not (data["origin"].values == "unknown").any():
        return Findings()
    origin, split = data["origin"].values, data["split"].values
    valid = np.flatnonzero(split == 1)[: 2 * _VALID]
    normal = np.flatnonzero((split == 2) & (origin == "simulated"))[: 2 * _VALID]
    strange = np.flatnonzero(origin == "unknown")[: 2 * _VALID]
    rows = np.concatenate([valid, normal, strange])
    batch = _batch(data, rows)
    model, source = run.main.model(), run.main.settings.source
    stripped = smoothed(strip_background(data["pattern"].values[rows, 0], _REACH), _SMOOTH)
    scores = doubts(model, batch, stripped, len(valid), run.settings.analyse.seed)
    scores |= surprises(model, batch, run.settings.analyse.seed)
    against = smoothed(references(source, known_crystals(run), max(_VARIANTS), source.seed + 2), _SMOOTH)
    for match in ("cosine", "correlation"):
        scores[f"1 − likeness of the nearest reference ({match})"] = 1 - nearest(
            stripped, against, match
        ).max(1)
    scores["left over by a sum of references (NNLS)"] = decompose(stripped, against)[1]
    found = []
    for name, values in scores.items():
        first, second = np.split(values[len(valid) :], [len(normal)])
        area = auc(first, second)
        found.append({"score": name, "auc": area.value, "error": area.stderr})
    table = pd.DataFrame(found)
    metrics: dict[Any, Any] = table.set_index("score").to_dict("index")
    return Findings(metrics, {"unknown": table}, titles=TITLES)


def doubts(
    model: VAE, batch: Batch, stripped: np.ndarray, valid: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """The model's doubt about phases, about the pattern, and both, (n,); the first ``valid`` rows set their scales.

    stripped (n, N): the patterns without background, smoothed, as what is decoded will be.
    """
    p, decoded = _expected(model, batch, ("phases", "pattern"), seed)
    p = p.clip(1e-7, 1 - 1e-7)
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p)).sum(1)
    counts = batch.x["pattern"].numpy()[:, 0]  # type: ignore[index]  # a mapping in this domain
    rate = np.where(np.isnan(counts), np.nan, decoded[:, 0])
    other = np.nan_to_num(smoothed(strip_background(rate, _REACH), _SMOOTH))
    own = np.nan_to_num(stripped)
    cosine = (own * other).sum(1) / (np.linalg.norm(own, axis=1) * np.linalg.norm(other, axis=1)).clip(1e-30)
    parts = {"doubt about phases": entropy, "doubt about the pattern": 1 - cosine}
    logs = {name: np.log(values.clip(1e-6)) for name, values in parts.items()}
    both = [(v - v[:valid].mean()) / v[:valid].std() for v in logs.values()]
    return {"doubt": both[0] + both[1], **logs}


def surprises(model: VAE, batch: Batch, seed: int = 0) -> dict[str, np.ndarray]:
    """Scores of patterns by a model, nats, (n,) each: surprise, reconstruction, −ELBO."""
    parts: dict[str, list[torch.Tensor]] = {"surprise": [], "reconstruction": [], "−ELBO": []}
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for rows in _parts(batch):
            terms = model.terms(rows, _DRAWS)
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


def short_exposures(run: Run) -> Findings:
    """Patterns of a hundredth and a tenth of the counts, denoised: how near they come to the rate.

    Counts are thinned binomially, which is exactly a shorter exposure of Poisson counts. Simulated patterns are
    compared with the rate they were drawn from, all with the counts that were left out, by Poisson's likelihood.
    """
    if not _powder(run):
        return Findings()
    data, model = run.main.data, run.main.model()
    origin, split = data["origin"].values, data["split"].values
    seed = run.settings.analyse.seed
    kinds = {
        "simulated test": np.flatnonzero((split == 2) & (origin == "simulated"))[:_VALID],
        "measured": np.flatnonzero(origin == "measured"),
    }
    rows = []
    for share in (0.01, 0.1):
        for kind, chosen in kinds.items():
            if not len(chosen):
                continue
            thin, rest = thinned(data["pattern"].values[chosen], share, seed)
            rates = {
                "VAE": denoised(model, thin),
                "Gaussian smoothing": _best(_smoothings, thin),
                "as counted": thin,
            }
            for method, rate in rates.items():
                row: dict[str, Any] = {"patterns": kind, "exposure": share, "method": method}
                if kind == "simulated test":
                    row["relative"] = relative_error(rate / share, data["expected"].values[chosen])
                row["held_out"] = float(np.mean(_misfit(rate * ((1 - share) / share), rest)))
                rows.append(row)
    table = pd.DataFrame(rows)
    metrics = {
        f"{r['patterns']}, {r['exposure']:g} of the counts, {r['method']}": {"held_out": r["held_out"]}
        for r in rows
    }
    note = "Widths are chosen for each pattern, by how well one half of its own counts foretells the other."
    return Findings(metrics, {"short_exposures": table}, (note,), TITLES)


def thinned(counts: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of a share of the exposure, and those of the rest; NaN stays in both."""
    known = np.isfinite(counts)
    kept = np.random.default_rng(seed).binomial(np.where(known, counts, 0).astype(np.int64), share)
    thin = np.where(known, kept, np.nan)
    return thin, counts - thin


def denoised(model: VAE, counts: np.ndarray) -> np.ndarray:
    """The rate of counts (n, 1, N) at their own exposure, from what the model decodes and the counts themselves.

    A negative binomial count is Poisson's of a rate g λ, g ~ Gamma(r, r): its posterior mean is λ (r + x)/(r + λ).
    Errors of λ (a line a little beside its place) are alike in neighbouring bins, so x and λ are summed over
    neighbours, weighted by a Gaussian that is 1 at the bin itself. Its width is chosen for each pattern, and
    whether the decoded rate helps at all: else the counts are smoothed without it.
    """
    decoder: Any = model.decoder
    r = float(decoder.fields["pattern"].log_size.detach().exp())

    def estimates(counts: np.ndarray) -> list[np.ndarray]:
        x = torch.as_tensor(counts, dtype=torch.float32)
        batch = Batch({"pattern": x}, {"exposure": x.nanmean((1, 2)).clamp(min=1e-3)})
        (rate,) = _expected(model, batch, ("pattern",))
        known = np.where(np.isfinite(counts), rate, np.nan)
        found = []
        for width in _WIDTHS_TRIED:
            weight = max(width * np.sqrt(2 * np.pi), 1.0)
            found.append(
                rate * (r + weight * smoothed(counts, width)) / (r + weight * smoothed(known, width))
            )
        return found + _smoothings(counts)

    return _best(estimates, counts)


def _smoothings(counts: np.ndarray) -> list[np.ndarray]:
    return [smoothed(counts, width) for width in _WIDTHS_TRIED]


def _best(estimates: Callable[[np.ndarray], list[np.ndarray]], counts: np.ndarray) -> np.ndarray:
    """Of estimates of the rate, each (n, 1, N), for each pattern the one that foretells one half of its counts best
    from the other."""
    first, second = thinned(counts, 0.5, 0)
    misfit = np.stack([_misfit(rate, second) for rate in estimates(first)])
    return np.stack(estimates(counts))[misfit.argmin(0), np.arange(len(counts))]


def relative_error(rate: np.ndarray, truth: np.ndarray) -> float:
    """The median over patterns of ‖rate − truth‖ / ‖truth‖, over known bins."""
    rate = np.where(np.isfinite(rate), rate, truth)
    return float(
        np.median(np.linalg.norm((rate - truth)[:, 0], axis=1) / np.linalg.norm(truth[:, 0], axis=1))
    )


def _misfit(rate: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Poisson's −log p of counts at a rate over that at their own, nats a known bin, (n,); no rate below 0.01."""
    known = np.isfinite(counts)
    k, r = np.where(known, counts, 0.0), np.maximum(np.nan_to_num(rate), 0.01)
    each = np.where(known, r - k - k * np.log(r / np.maximum(k, 1e-12)), 0.0)
    return each.sum((1, 2)) / np.maximum(known.sum((1, 2)), 1)


def groups(run: Run) -> Findings:
    """Clusters of the latents of held-out single-phase patterns, beside their phases: the adjusted Rand index.

    As many clusters as there are phases (k-means), of the latents, in which the phases of training patterns had a
    part, and of as many principal components of the patterns, in which they had none.
    """
    if not _powder(run):
        return Findings()
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.metrics import adjusted_rand_score

    data = run.main.data
    truth = data["phases"].values
    held_out = (data["origin"].values == "simulated") & (data["split"].values > 0)
    rows = np.flatnonzero(held_out & (truth.sum(1) == 1))
    number = len(np.unique(truth[rows].argmax(1)))
    if number < 2:
        return Findings()
    z = run.main.latents["z"].values[rows]
    root = np.sqrt(np.nan_to_num(data["pattern"].values[rows, 0]))
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    spaces = {
        "latents": z,
        "principal components of √counts": PCA(z.shape[1], random_state=0).fit_transform(root),
    }
    found = []
    for name, space in spaces.items():
        labels = KMeans(number, n_init=4, random_state=run.settings.analyse.seed).fit_predict(space)
        found.append({"method": name, "rand": adjusted_rand_score(truth[rows].argmax(1), labels)})
    table = pd.DataFrame(found)
    metrics: dict[Any, Any] = table.set_index("method").to_dict("index")
    return Findings(metrics, {"groups": table}, titles=TITLES)


def lattice(run: Run) -> Findings:
    """Of variants of one phase: how the strain of its cell orders along one latent, |Spearman| on test patterns.

    The latent is the one with the largest |Spearman| on validation patterns.
    """
    from scipy.stats import spearmanr

    found: dict[str, Any] = {}
    for name, variant in run.variants.items():
        if variant.settings.source.kind != "powder" or variant.data.sizes["phase"] != 1:
            continue
        z, strain = variant.latents["z"].values, variant.data["strain"].values
        parts = [(variant.data["split"].values == part) & np.isfinite(strain) for part in (1, 2)]
        valid, test = (
            [abs(float(spearmanr(axis[rows], strain[rows]).statistic)) for axis in z.T] for rows in parts
        )
        best = int(np.argmax(valid))
        found[name] = {"axis": best, "spearman": test[best]}
    return Findings(found, titles=TITLES)


def known_crystals(run: Run) -> list[Crystal]:
    """The structures that the model was trained on, in the order of its phases."""
    from sciencevae.data.fetch import fetch

    if run.input is not None:
        paths = [path for path in sorted(Path(run.input).iterdir()) if path.suffix.lower() == ".cif"]
    elif run.main.settings.dataset:
        paths = [path for path in fetch(run.main.settings.dataset).values() if path.suffix == ".cif"]
    else:
        paths = []
    return structures(run.main.settings.source, paths)[0]


def _powder(run: Run) -> bool:
    return run.main.settings.source.kind == "powder"


def _batch(data: xr.Dataset, rows: np.ndarray) -> Batch:
    """Patterns of rows without their phases, which are to be found."""
    part = data.isel(sample=rows)
    tensors = {
        name: torch.as_tensor(part[name].values, dtype=torch.float32) for name in ("pattern", "exposure")
    }
    return Batch({"pattern": tensors["pattern"]}, {"exposure": tensors["exposure"]})


def _parts(batch: Batch) -> Iterator[Batch]:
    return (batch[start : start + _ROWS] for start in range(0, len(batch), _ROWS))
