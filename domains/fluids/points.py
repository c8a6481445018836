"""Data on scattered points as pictures: linear interpolation to a regular grid, with its error."""

from __future__ import annotations

import numpy as np

__all__ = ["interpolation_error", "on_grid"]


def on_grid(
    x: np.ndarray, y: np.ndarray, values: np.ndarray, shape: tuple[int, int], hole: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (…, P) at points, linearly interpolated to a regular grid: its x (W,), y (H,), values (…, H, W).

    The cells' centres lie inside the points' extremes; those within ``hole`` of the origin (a cylinder), or outside
    the points' hull, are NaN.
    """
    from scipy.interpolate import LinearNDInterpolator

    height, width = shape
    gx = x.min() + (np.arange(width) + 0.5) * np.ptp(x) / width
    gy = y.min() + (np.arange(height) + 0.5) * np.ptp(y) / height
    # nodes on the edges of elements stand twice in x
    _, first = np.unique(np.round(np.stack([x, y], 1), 6), axis=0, return_index=True)
    flat = values.reshape(-1, len(x))[:, first].T
    at = np.stack(np.meshgrid(gx, gy), -1)
    found = LinearNDInterpolator(np.stack([x, y], 1)[first], flat)(at)  # (H, W, n)
    found[np.hypot(at[..., 0], at[..., 1]) < hole] = np.nan
    return gx, gy, np.moveaxis(found, -1, 0).reshape(*values.shape[:-1], height, width)


def interpolation_error(
    x: np.ndarray, y: np.ndarray, values: np.ndarray, mass: np.ndarray, grid: tuple[np.ndarray, ...]
) -> float:
    """What is lost on the way to a grid and back to the points, relative L2 weighted by mass.

    values: (n, P); grid: what ``on_grid`` made of them. Points without a whole cell around them are left out.
    """
    from scipy.interpolate import RegularGridInterpolator

    gx, gy, made = grid
    back = RegularGridInterpolator((gy, gx), np.moveaxis(made, 0, -1), bounds_error=False)
    found = back(np.stack([y, x], 1)).T  # (n, P)
    known = np.isfinite(found)
    miss = np.where(known, found - values, 0.0)
    return float(
        np.sqrt((np.square(miss) * mass).sum() / (np.square(np.where(known, values, 0)) * mass).sum())
    )
