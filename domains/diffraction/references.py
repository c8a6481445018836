"""Phases by comparison with reference patterns: the nearest one, and the sum of several that fits best.

What a model has to beat: both see the same bins, after the same background is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from .crystals import Crystal
from .mixtures import draw
from .powder_settings import Powder

__all__ = ["Match", "decompose", "nearest", "references", "smoothed", "strip_background"]

Match = Literal["cosine", "correlation"]


def references(source: Powder, crystals: Sequence[Crystal], variants: int, seed: int = 0) -> np.ndarray:
    """Noise-free patterns of each crystal alone, (K, V, N): the ideal one, and ``variants`` − 1 random ones.

    The ideal one is of the crystal as its structure says, without texture, with the mean size and strain of the
    settings' ranges; the others are drawn from these ranges, as training patterns are.
    """
    middle = {
        name: (float(np.mean(getattr(source, name))),) * 2 for name in ("size_nm", "microstrain", "fwhm")
    }
    still = {name: (0.0, 0.0) for name in ("strain", "zero", "displacement_mm")}
    plain = {"march": (1.0, 1.0), "peak_counts": (1.0, 1.0), "background": (1e-9, 1e-9)}
    parts = []
    for number, changed in ((1, middle | still | plain), (variants - 1, plain | {"march": source.march})):
        if number:
            chosen = source.model_copy(update=changed)
            rows = [[k] for k in range(len(crystals)) for _ in range(number)]
            rate = draw(chosen, crystals, len(rows), seed, rows).rate
            parts.append(rate.reshape(len(crystals), number, -1))
    return np.concatenate(parts, 1)


def strip_background(counts: np.ndarray, reach: int) -> np.ndarray:
    """Counts (n, N) less a background under their peaks, by SNIP (Ryan et al. 1988); NaN stays.

    log log √ of the counts is clipped to the mean of its neighbours p bins away, for p = reach … 1; ``reach`` is
    the half width of the widest peak, in bins.
    """
    known = np.isfinite(counts)
    filled = _filled(counts)
    v = np.log(np.log(np.sqrt(np.maximum(filled, 0) + 1) + 1) + 1)
    for p in range(reach, 0, -1):
        padded = np.pad(v, ((0, 0), (p, p)), "edge")
        v = np.minimum(v, (padded[:, : -2 * p] + padded[:, 2 * p :]) / 2)
    below = (np.exp(np.exp(v) - 1) - 1) ** 2 - 1
    return np.where(known, filled - below, np.nan)


def smoothed(patterns: np.ndarray, sigma: float) -> np.ndarray:
    """Patterns (…, N) smoothed by a Gaussian of σ bins, over what is known; NaN stays."""
    from scipy.ndimage import gaussian_filter1d

    if sigma == 0:
        return patterns
    known = np.isfinite(patterns)
    weight = gaussian_filter1d(known.astype(float), sigma, axis=-1)
    total = gaussian_filter1d(np.where(known, patterns, 0.0), sigma, axis=-1)
    return np.where(known, total / np.maximum(weight, 1e-9), np.nan)


def nearest(patterns: np.ndarray, against: np.ndarray, match: Match) -> np.ndarray:
    """How like patterns (n, N) are to the best reference (K, V, N) of each phase, (n, K), in known bins."""
    out = np.empty((len(patterns), len(against)))
    flat = against.reshape(-1, against.shape[-1])
    for row, pattern in enumerate(patterns):
        known = np.isfinite(pattern)
        x, r = pattern[known], flat[:, known]
        if match == "correlation":
            x, r = x - x.mean(), r - r.mean(1, keepdims=True)
        norm = np.linalg.norm(x) * np.linalg.norm(r, axis=1)
        like = (r @ x) / np.maximum(norm, 1e-30)
        out[row] = like.reshape(against.shape[:2]).max(1)
    return out


def decompose(patterns: np.ndarray, against: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares (n, K) of phases in patterns (n, N), and what is left over, (n,), by non-negative least squares.

    A pattern is fitted by a sum of all references (K, V, N), of one brightness each; a phase's share is the sum of
    its references' weights over all weights. Left over: the residual's norm over the pattern's.
    """
    from scipy.optimize import nnls

    flat = against.reshape(-1, against.shape[-1])
    share, left = np.zeros((len(patterns), len(against))), np.ones(len(patterns))
    for row, pattern in enumerate(patterns):
        known = np.isfinite(pattern)
        basis = flat[:, known]
        basis = basis / np.maximum(np.linalg.norm(basis, axis=1, keepdims=True), 1e-30)
        x = pattern[known]
        weights, residual = nnls(basis.T, x, maxiter=10 * len(flat))
        by_phase = weights.reshape(against.shape[:2]).sum(1)
        share[row] = by_phase / max(by_phase.sum(), 1e-30)
        left[row] = residual / max(float(np.linalg.norm(x)), 1e-30)
    return share, left


def _filled(counts: np.ndarray) -> np.ndarray:
    """Missing bins as the nearest known one, so that nothing is clipped towards them."""
    out = counts.copy()
    for row in out:
        known = np.flatnonzero(np.isfinite(row))
        if len(known) < len(row):
            row[:] = np.interp(np.arange(len(row)), known, row[known])
    return out
