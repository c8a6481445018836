"""Filters that take shot noise from counts, for comparison: their settings are chosen on validation data.

Filters of Gaussian noise act on Anscombe's 2√(x + 3/8), which has variance 1, and are brought back by an inverse
without the bias of squaring (Mäkitalo & Foi 2011, IEEE Trans. Image Process. 20, 99, closed form).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["anscombe", "inverse_anscombe", "tuned"]

Filter = Callable[[np.ndarray], np.ndarray]


def anscombe(counts: np.ndarray) -> np.ndarray:
    """2√(x + 3/8)."""
    return 2 * np.sqrt(np.maximum(counts, 0) + 0.375)


def inverse_anscombe(values: np.ndarray) -> np.ndarray:
    """The mean whose Anscombe transform has this mean: y²/4 + √(3/2)/(4y) − 11/(8y²) + 5√(3/2)/(8y³) − 1/8."""
    y = np.maximum(values, anscombe(np.zeros(())))
    root = np.sqrt(1.5)
    mean = np.square(y) / 4 + root / (4 * y) - 11 / (8 * y**2) + 5 * root / (8 * y**3) - 1 / 8
    return np.maximum(mean, 0)


def tuned(
    train: np.ndarray, valid: tuple[np.ndarray, np.ndarray], noisy: np.ndarray
) -> dict[str, tuple[np.ndarray, str]]:
    """Each filter with its best setting on valid (counts, truth): the estimate of ``noisy`` (n, …) and the setting.

    Missing pixels get the mean of their pattern first. A setting is judged by the mean of (x̂ − truth)²/truth.
    """
    counts, truth = _filled(valid[0]), valid[1]
    found = {}
    for method, settings in _filters(_filled(train)).items():
        scores = [
            (float((np.square(apply(counts) - truth) / truth).mean()), name)
            for name, apply in settings.items()
        ]
        best = min(scores)[1]
        found[method] = settings[best](_filled(noisy)), best
    return found


def _filters(train: np.ndarray) -> dict[str, dict[str, Filter]]:
    from scipy.ndimage import gaussian_filter
    from scipy.signal import wiener

    space = tuple(range(1, train.ndim))
    axes = len(space)

    def stabilised(apply: Filter) -> Filter:
        def whole(counts: np.ndarray) -> np.ndarray:
            return inverse_anscombe(apply(anscombe(counts)))

        return whole

    def gaussian(width: float) -> Filter:
        return stabilised(lambda y: gaussian_filter(y, width, axes=space))

    def local(size: int) -> Filter:
        def apply(y: np.ndarray) -> np.ndarray:
            with np.errstate(divide="ignore", invalid="ignore"):  # where all pixels around are equal
                return np.stack([np.nan_to_num(wiener(one, (size,) * axes, noise=1.0)) for one in y])

        return stabilised(apply)

    stable = anscombe(train).reshape(len(train), -1)
    centre = stable.mean(0)
    _, _, basis = np.linalg.svd(stable - centre, full_matrices=False)

    def projected(count: int) -> Filter:
        def apply(y: np.ndarray) -> np.ndarray:
            flat = y.reshape(len(y), -1) - centre
            return (flat @ basis[:count].T @ basis[:count] + centre).reshape(y.shape)

        return stabilised(apply)

    counts = [n for n in (2, 4, 8, 12, 16, 24, 32, 48, 64, 96) if n <= len(basis)]
    return {
        "Gaussian filter": {f"σ = {s} pixels": gaussian(s) for s in (0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)},
        "Wiener filter": {f"{n} pixels": local(n) for n in (3, 5, 7, 9)},
        "principal components": {f"{n} of them": projected(n) for n in counts},
    }


def _filled(counts: np.ndarray) -> np.ndarray:
    axes = tuple(range(1, counts.ndim))
    return np.where(np.isnan(counts), np.nanmean(counts, axes, keepdims=True), counts).astype(float)
