"""How Gaia measures: errors by magnitude, correlated astrometry, and what the stated errors leave out.

Errors are those of ESA's science performance page for DR3, as functions of G, with a log-normal scatter from star
to star. The five parameters (α*, δ, ϖ, μα*, μδ) are correlated, alike over a field. What is added to the truth
need not be what the errors say: it may be larger, and have a tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from sciencevae.config import Section

from .columns import correlation_matrix

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ERRORS",
    "PARAMETERS",
    "Errors",
    "correlations",
    "covariance",
    "disturbed",
    "parallax_uncertainty",
]

PARAMETERS = ("ra", "dec", "parallax", "pmra", "pmdec")
#: column of the error: its median in units of the parallax error, averaged over the sky
ERRORS = {"ra_error": 0.80, "dec_error": 0.70, "parallax_error": 1.0, "pmra_error": 1.03, "pmdec_error": 0.89}
_MAS_PER_DEGREE = 3.6e6
_TAIL_FREEDOM = 3.0


class Errors(Section):
    """What the stated errors are, and how far the measurements keep to them."""

    scatter: float = Field(default=0.09, ge=0, description="of ln error from star to star")
    underestimate: float = Field(
        default=1.1, gt=0, description="true errors are this many times the stated ones"
    )
    tail: float = Field(
        default=0.03,
        ge=0,
        le=1,
        description="share of stars disturbed by Student's t with 3 degrees of freedom",
    )
    unsolved: float = Field(
        default=0.01, ge=0, lt=1, description="share of stars with a position alone (two-parameter solutions)"
    )


def parallax_uncertainty(magnitude: np.ndarray) -> np.ndarray:
    """Median error of the parallax in mas at G in mag: σ = √(40 + 800 z + 30 z²) µas, z = 10^0.4 (max(G, 13) − 15).

    Source: ESA, Gaia science performance, astrometric performance of DR3 (cosmos.esa.int/web/gaia).
    """
    z = 10 ** (0.4 * (np.maximum(magnitude, 13.0) - 15.0))
    return np.sqrt(40 + 800 * z + 30 * z**2) / 1000


def correlations(random: np.random.Generator, count: int) -> np.ndarray:
    """Correlation matrices (N, 5, 5) of one field: a common one, drawn anew for each field, and small differences.

    The size of both (0.2 to 0.3 and 0.1) is that of Gaia EDR3.
    """
    common = np.eye(5) + 0.2 * random.normal(size=(5, 5))
    factor = common + 0.08 * random.normal(size=(count, 5, 5))
    matrix = factor @ factor.transpose(0, 2, 1)
    scale = np.sqrt(np.diagonal(matrix, axis1=1, axis2=2))
    return matrix / (scale[:, :, None] * scale[:, None, :])


def covariance(stars: pd.DataFrame) -> np.ndarray:
    """The covariance (N, 5, 5) of a table's errors and correlations, mas and mas/yr."""
    sigma = stars[list(ERRORS)].to_numpy(float)
    return correlation_matrix(stars) * sigma[:, :, None] * sigma[:, None, :]


def disturbed(
    random: np.random.Generator, truth: Mapping[str, np.ndarray], stated: np.ndarray, errors: Errors
) -> dict[str, np.ndarray]:
    """The five parameters as measured: truth + underestimate · C^½ ε, C (N, 5, 5) the stated covariance.

    ε is normal; for a share ``tail`` of the stars it is √(3/χ²₃) times that (multivariate t).
    """
    count = len(stated)
    deviation = np.einsum("nij,nj->ni", np.linalg.cholesky(stated), random.normal(size=(count, 5)))
    heavy = np.sqrt(_TAIL_FREEDOM / random.chisquare(_TAIL_FREEDOM, count))
    size = errors.underestimate * np.where(random.uniform(size=count) < errors.tail, heavy, 1.0)
    deviation *= size[:, None]
    measured = {name: truth[name] + deviation[:, i] for i, name in enumerate(PARAMETERS) if i >= 2}
    dec = truth["dec"] + deviation[:, 1] / _MAS_PER_DEGREE
    ra = truth["ra"] + deviation[:, 0] / _MAS_PER_DEGREE / np.cos(np.radians(dec))
    return {"ra": ra % 360.0, "dec": dec, **measured}
