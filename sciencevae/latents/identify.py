"""Which parameters latents determine, how finely, and which products of their powers, where not themselves.

A parameter is determined by latents (and by what the model is told beside) as far as data that share them share
its value. Held-out data are compared with what their nearest neighbours among the reference data say of it: a
polynomial through these, weighted by distance (local regression, Cleveland & Devlin 1988, J. Am. Stat. Assoc. 83,
596), of the degree and number of neighbours that predict best within the reference data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.errors import InputError
from sciencevae.latents.collapse import ACTIVE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LEAST", "Identified", "Power", "identify"]

#: R² from which a parameter counts as identifiable (what is left of its spread is below 22 %), up to which as not
#: (above 71 %), and from which a product of powers is listed as determined (below 10 %)
IDENTIFIABLE, NOT_IDENTIFIABLE, DETERMINED = 0.95, 0.5, 0.99
#: data that there have to be on each side
LEAST = 50
_NEIGHBOURS = (1.5, 3.0, 6.0, 12.0)  # in coefficients of the polynomial
_TERMS = 80  # of a polynomial: from 12 latents on there are straight ones alone
_ROWS = 4000  # reference data at most that neighbours are looked for among, and held-out data
_RIDGE = 1e-6
_VALUES = 2 << 20  # of neighbours' polynomials at once


@dataclass(frozen=True)
class Power:
    """A product Π_p θ_p^{n_p}: its exponents {name: n ≠ 0}, R² of its logarithm, and the scatter of that, the
    relative error of the product where it is small."""

    exponents: Mapping[str, float]
    r2: float
    scatter: float

    def __str__(self) -> str:
        return " ".join(name + _superscript(n) for name, n in self.exponents.items())


@dataclass(frozen=True)
class Identified:
    """table: a row a parameter, with ``parameter``, ``r2``, ``r2_low``, ``r2_high`` (95 %, over held-out data),
    ``resolution`` (standard deviation of the values that share a latent, in the parameter's unit) and its
    ``resolution_error``, ``spread`` (standard deviation of all values) and ``verdict``: identifiable, partly,
    not identifiable
    · powers: independent products of powers that are determined, the simplest first
    · dimensions: in how many directions of the logarithms all positive parameters are determined
    """

    table: pd.DataFrame
    powers: tuple[Power, ...]
    dimensions: int

    def verdict(self, parameter: str) -> str:
        return str(self.table.set_index("parameter").loc[parameter, "verdict"])

    def sentences(self, units: Mapping[str, str] | None = None) -> list[str]:
        """What a report says of each parameter, and of what is determined in its place."""
        told = []
        for row in self.table.to_dict("records"):
            name, verdict = row["parameter"], row["verdict"]
            unit = f" {units[name]}" if units and units.get(name, "1") != "1" else ""
            verdict = "determined in part" if verdict == "partly" else verdict
            told.append(
                f"{name} is {verdict} from these data: R² = {row['r2']:.3f} ({row['r2_low']:.3f} to "
                f"{row['r2_high']:.3f}); data that share their latents differ by ±{row['resolution']:.3g}{unit}, "
                f"all data by ±{row['spread']:.3g}{unit}."
            )
        if self.powers and any(len(power.exponents) > 1 for power in self.powers):
            listed = "; ".join(
                f"{power} (R² = {power.r2:.4f}, ±{100 * power.scatter:.2g} %)" for power in self.powers
            )
            told.append(f"Determined, in {self.dimensions} independent direction(s): {listed}.")
        return told


def identify(
    latents: Any,
    parameters: Mapping[str, Any],
    held_out: Any,
    condition: Any = None,
    powers: Sequence[str] | None = None,
    bootstrap: int = 200,
    seed: int = 0,
) -> Identified:
    """How far latents (N, D) determine parameters {name: (N,)}.

    With residuals e of held-out data, R² = 1 − ⟨e²⟩/var θ, the resolution is √⟨e²⟩. Of the logarithms of positive
    parameters it is R²(n) = 1 − nᵀ⟨e eᵀ⟩n / nᵀ cov(ln θ) n for any exponents n: the n with small whole entries
    whose product is determined (R² ≥ 0.99) are listed, an independent set of them, simplest first.

    held_out: (N,) booleans, what the model was not trained on; all others are the reference data. condition:
    (N, c), what the model is told beside. Both are scaled to unit variance; latents of variance below 0.01 are
    inactive and left out. powers: the parameters whose products are looked at; default all that are positive, at
    most five. bootstrap: drawn sets of held-out data, for the errors.

    InputError for fewer than ``LEAST`` data on a side, values that are not finite, and a constant parameter.
    """
    import pandas as pd

    z, theta, held = _checked(latents, parameters, held_out)
    names, rng = list(theta), np.random.default_rng(seed)
    z = z[:, z[~held].var(0) > ACTIVE]
    if condition is not None:
        z = np.concatenate([z, np.asarray(condition, np.float64).reshape(len(z), -1)], 1)
    scale = z[~held].std(0)
    u = z[:, scale > 0] / scale[scale > 0]
    reference, tested = (rng.permutation(np.flatnonzero(part))[:_ROWS] for part in (~held, held))
    chosen, check = reference[len(reference) // 5 :], reference[: len(reference) // 5]
    positive = [name for name in names if (theta[name] > 0).all()]
    logs = list(powers if powers is not None else positive)[:5]
    if missing := next((name for name in logs if name not in positive), None):
        raise InputError(f"powers: {missing!r} is no parameter that is positive throughout")
    values = np.stack([*theta.values(), *(np.log(theta[name]) for name in logs)], 1)  # (N, P + Q)
    # one row of residuals a smoother: on data to choose it by, and on those held out
    within = [e for e in _residuals(u, values, chosen, check)]
    beyond = [e for e in _residuals(u, values, reference, tested)]
    best = np.argmin([np.square(e).mean(0) for e in within], axis=0)
    draws = rng.integers(len(tested), size=(bootstrap, len(tested)))
    rows = []
    for p, name in enumerate(names):
        squares = np.square(beyond[best[p]][:, p])
        value = theta[name][tested]
        r2 = 1 - squares.mean() / value.var()
        drawn = squares[draws].mean(1)
        low, high = np.quantile(1 - drawn / value[draws].var(1), [0.025, 0.975])
        verdict = "identifiable" if low >= IDENTIFIABLE else "partly"
        verdict = "not identifiable" if high <= NOT_IDENTIFIABLE else verdict
        rows.append(
            {
                "parameter": name,
                "r2": r2,
                "r2_low": low,
                "r2_high": high,
                "resolution": np.sqrt(squares.mean()),
                "resolution_error": np.sqrt(drawn).std(),
                "spread": value.std(),
                "verdict": verdict,
            }
        )
    logarithms = slice(len(names), None)
    found, dimensions = _powers(
        logs,
        np.cov(values[tested, logarithms], rowvar=False).reshape(len(logs), len(logs)),
        [_second_moment(e[:, logarithms]) for e in within],
        [_second_moment(e[:, logarithms]) for e in beyond],
    )
    return Identified(pd.DataFrame(rows), tuple(found), dimensions)


def _residuals(
    u: np.ndarray, values: np.ndarray, reference: np.ndarray, tested: np.ndarray
) -> Iterator[np.ndarray]:
    """True less predicted values (n, P) of tested rows, from each smoother; the last one is their mean."""
    from sklearn.neighbors import NearestNeighbors

    d = u.shape[1]
    centre = values[reference].mean(0)
    if d:
        sizes = {degree: len(_exponents(d, degree)) for degree in (1, 2)}
        if sizes[2] > _TERMS:
            del sizes[2]
        counts = {
            (degree, times): min(int(times * size) + 2, len(reference) - 1)
            for degree, size in sizes.items()
            for times in _NEIGHBOURS
        }
        search = NearestNeighbors(n_neighbors=max(counts.values()) + 1).fit(u[reference])
        distance, near = search.kneighbors(u[tested])
        for (degree, _), k in counts.items():
            yield (
                values[tested]
                - _local(
                    u[reference],
                    values[reference] - centre,
                    u[tested],
                    near[:, :k],
                    distance[:, : k + 1],
                    degree,
                )
                - centre
            )
    yield values[tested] - centre


def _local(
    known: np.ndarray, values: np.ndarray, at: np.ndarray, near: np.ndarray, distance: np.ndarray, degree: int
) -> np.ndarray:
    """The value at each ``at`` of the polynomial through its neighbours, with tricube weights, (n, P)."""
    exponents = _exponents(known.shape[1], degree)
    step = max(1, _VALUES // (near.shape[1] * len(exponents)))
    found = np.empty((len(at), values.shape[1]))
    for start in range(0, len(at), step):
        rows = slice(start, start + step)
        width = np.maximum(distance[rows, -1:], 1e-300)  # the first that is left out has weight 0
        weight = (1 - np.clip(distance[rows, :-1] / width, 0, 1) ** 3) ** 3 + 1e-9
        offset = (known[near[rows]] - at[rows, None]) / width[:, :, None]  # (n, k, d)
        columns = [
            np.prod([offset[..., i] for i in term], axis=0) * np.ones(weight.shape) for term in exponents
        ]
        design = np.stack(columns, -1)  # (n, k, terms); the first is 1
        weighted = (design * weight[..., None]).swapaxes(1, 2)  # (n, terms, k)
        normal = weighted @ design
        ridge = _RIDGE * weight.sum(1)[:, None, None] * np.eye(len(exponents))
        right = weighted @ values[near[rows]]
        found[rows] = np.linalg.solve(normal + ridge, right)[:, 0]
    return found


def _exponents(d: int, degree: int) -> list[tuple[int, ...]]:
    """The terms of a polynomial as the variables they multiply, the constant first."""
    return [term for n in range(degree + 1) for term in combinations_with_replacement(range(d), n)]


def _powers(
    names: Sequence[str], prior: np.ndarray, within: Sequence[np.ndarray], beyond: Sequence[np.ndarray]
) -> tuple[list[Power], int]:
    """Determined products, and in how many directions the logarithms are determined."""
    if not names:
        return [], 0
    grid = np.array([n for n in product(range(-2, 3), repeat=len(names)) if any(n)])
    grid = grid[[next(one for one in n if one) > 0 for n in grid]]  # n and −n are one product
    grid = grid[np.gcd.reduce(grid, axis=1) == 1]
    forms = np.array([np.einsum("ni,ij,nj->n", grid, moment, grid) for moment in within])
    left = np.array([np.einsum("ni,ij,nj->n", grid, moment, grid) for moment in beyond])
    best = np.take_along_axis(left, forms.argmin(0)[None], 0)[0]
    r2 = 1 - best / np.einsum("ni,ij,nj->n", grid, prior, grid)
    dimensions = max(_rank(prior, moment) for moment in beyond)
    order = np.lexsort([-r2, (grid < 0).sum(1), np.abs(grid).sum(1)])
    taken: list[int] = []
    for n in order[r2[order] >= DETERMINED]:
        if len(taken) < dimensions and np.linalg.matrix_rank(grid[[*taken, n]]) > len(taken):
            taken.append(n)
    found = []
    for n in taken:
        exponents = {name: int(power) for name, power in zip(names, grid[n], strict=True) if power}
        found.append(Power(exponents, float(r2[n]), float(np.sqrt(best[n]))))
    return found, dimensions


def _rank(prior: np.ndarray, left: np.ndarray) -> int:
    """Directions n of nᵀ left n ≤ 0.01 nᵀ prior n."""
    from scipy.linalg import eigvalsh

    return int((eigvalsh(left, prior) <= 1 - DETERMINED).sum())


def _second_moment(residuals: np.ndarray) -> np.ndarray:
    return residuals.T @ residuals / len(residuals)


def _checked(
    latents: Any, parameters: Mapping[str, Any], held_out: Any
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    z = np.asarray(latents, np.float64)
    held = np.asarray(held_out, bool)
    theta = {str(name): np.asarray(values, np.float64) for name, values in parameters.items()}
    if z.ndim != 2:
        raise InputError(f"the latents have shape {z.shape}; expected a row a datum, (N, D)")
    for name, values in {"held_out": held, **theta}.items():
        if values.shape != (len(z),):
            raise InputError(
                f"{name} has shape {values.shape}; there are {len(z)} latents: expected ({len(z)},)"
            )
        if not np.isfinite(values).all():
            raise InputError(
                f"{int((~np.isfinite(values)).sum())} values of {name} are not finite: drop those rows"
            )
        if name in theta and np.ptp(values) == 0:
            raise InputError(f"{name} has one value in these data: leave it out")
    if not np.isfinite(z).all():
        raise InputError("some latents are not finite: drop them (their status says why)")
    if min(held.sum(), (~held).sum()) < 50:
        raise InputError(
            f"{held.sum()} data held out and {(~held).sum()} others: at least 50 of each are needed"
        )
    return z, theta, held


def _superscript(n: float) -> str:
    return "" if n == 1 else str(n).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
