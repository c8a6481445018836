"""Symmetric 3×3 matrices of many stars by their entries 00, 01, 02, 11, 12, 22, in arrays (6, ...).

One operation of NumPy on an entry of all stars takes the place of products of 3×3 matrices, whose cost is not
arithmetic. Vectors are (3, ...) beside them.
"""

from __future__ import annotations

import numpy as np

__all__ = ["inverse", "outer", "packed", "times", "unpacked"]

_ROWS, _COLUMNS = np.triu_indices(3)
_PLACE = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])


def packed(matrix: np.ndarray) -> np.ndarray:
    """Entries (6, ...) of matrices (..., 3, 3)."""
    return np.ascontiguousarray(np.moveaxis(matrix[..., _ROWS, _COLUMNS], -1, 0))


def unpacked(entries: np.ndarray) -> np.ndarray:
    """Matrices (..., 3, 3) of entries (6, ...)."""
    return np.moveaxis(entries[_PLACE], (0, 1), (-2, -1))


def outer(vector: np.ndarray) -> np.ndarray:
    """v vᵀ of vectors (3, ...)."""
    return vector[_ROWS] * vector[_COLUMNS]


def times(entries: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """S v, (3, ...)."""
    a, b, c, d, e, f = entries
    x, y, z = vector
    return np.stack([a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z])


def inverse(entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries of the inverse (6, ...) and log determinant (...) of positive definite matrices, by cofactors."""
    a, b, c, d, e, f = entries
    found = np.stack(
        [d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b]
    )
    determinant = a * found[0] + b * found[1] + c * found[2]
    found /= determinant
    return found, np.log(determinant)
