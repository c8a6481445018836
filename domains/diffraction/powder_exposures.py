"""Patterns of short exposures, denoised by a trained model, beside smoothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sciencevae.batch import Batch
from sciencevae.data.rows import evenly, rows_of
from sciencevae.registry import Findings

from .powder_analysis import expected, is_powder
from .references import smoothed

if TYPE_CHECKING:
    from sciencevae.runs import Run
    from sciencevae.vae.model import VAE

__all__ = ["denoised", "short_exposures", "thinned"]

_PATTERNS = 120
_SCANS = 1000
_WIDTHS = (0.0, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)  # σ in bins
TITLES = {
    "exposure": "share of the counts",
    "relative": "error of the rate over its norm",
    "held_out": "misfit of the counts left out (nats a bin)",
}


def short_exposures(run: Run) -> Findings:
    """Patterns of a hundredth and a tenth of the counts, denoised: how near they come to the rate.

    Counts are thinned binomially, which is exactly a shorter exposure of Poisson counts. Simulated patterns are
    compared with the rate they were drawn from, all with the counts that were left out, by Poisson's likelihood.
    """
    if not is_powder(run):
        return Findings()
    data, model = run.main.data, run.main.model()
    origin, split = data["origin"].values, data["split"].values
    seed = run.settings.analyse.seed
    scans = np.flatnonzero(origin == "measured")
    kinds = {
        "simulated test": np.flatnonzero((split == 2) & (origin == "simulated"))[:_PATTERNS],
        "measured": scans[evenly(len(scans), _SCANS)],
    }
    rows = []
    for share in (0.01, 0.1):
        for kind, chosen in kinds.items():
            if not len(chosen):
                continue
            own = rows_of(data, chosen)
            thin, rest = thinned(own["pattern"].values, share, seed)
            rates = {
                "VAE": denoised(model, thin),
                "Gaussian smoothing": _best(_smoothings, thin),
                "as counted": thin,
            }
            for method, rate in rates.items():
                row: dict[str, Any] = {"patterns": kind, "exposure": share, "method": method}
                if kind == "simulated test":
                    row["relative"] = relative_error(rate / share, own["expected"].values)
                row["held_out"] = float(np.mean(_misfit(rate * ((1 - share) / share), rest)))
                rows.append(row)
    table = pd.DataFrame(rows)
    metrics = {
        f"{r['patterns']}, {r['exposure']:g} of the counts, {r['method']}": {
            "exposure": r["exposure"],
            "held_out": r["held_out"],
        }
        for r in rows
    }
    note = "Widths are chosen for each pattern, by how well one half of its own counts foretells the other."
    if len(scans) > _SCANS:
        note += f" Of {len(scans):,} scans {len(kinds['measured']):,} were taken, evenly."
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
        (rate,) = expected(model, batch, ("pattern",))
        known = np.where(np.isfinite(counts), rate, np.nan)
        found = []
        for width in _WIDTHS:
            weight = max(width * np.sqrt(2 * np.pi), 1.0)
            found.append(
                rate * (r + weight * smoothed(counts, width)) / (r + weight * smoothed(known, width))
            )
        return found + _smoothings(counts)

    return _best(estimates, counts)


def _smoothings(counts: np.ndarray) -> list[np.ndarray]:
    return [smoothed(counts, width) for width in _WIDTHS]


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
