"""A simulated Gaia field with its truth: clusters in front of and behind the stars of the Galactic disc.

    python -m sciencevae.builtin.stars.simulate field.parquet --seed 1 [--settings field.yaml]

Columns are those of the Gaia archive, and beside them ``true_cluster`` (0: field), ``true_binary`` and the
undisturbed ``true_ra``, ``true_dec`` (deg), ``true_parallax`` (mas), ``true_pmra``, ``true_pmdec`` (mas/yr).
Nothing in it is a Gaussian mixture, so a mixture that finds the cluster has not been shown its own model:

- a **cluster** is King's (1962) in three dimensions, moves with one space velocity (perspective included) and an
  isotropic dispersion, and lies on an isochrone-like sequence with unresolved binaries, whose photocentres move;
- the **field** are a thin and a thick disc, exponential in R and |z|, that rotate, with dust along the way;
- **errors** depend on the magnitude and are correlated; what is added to the truth may be more than they say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from sciencevae.config import Section
from sciencevae.errors import InputError

from . import kinematics
from .columns import CORRELATIONS
from .measurement import (
    ERRORS,
    PARAMETERS,
    Errors,
    correlations,
    disturbed,
    parallax_uncertainty,
)
from .population import DRAW, Disc, OpenCluster, disc_stars, members

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "VERSION", "Simulation", "generate", "new_identifiers", "simulate", "until"]

VERSION: int = 1
"""Raised whenever the same parameters and seed would give other stars."""

#: column of the Gaia archive: its unit
COLUMNS = {
    "source_id": "",
    "ra": "deg",
    "dec": "deg",
    "parallax": "mas",
    "parallax_error": "mas",
    "pmra": "mas / yr",
    "pmra_error": "mas / yr",
    "pmdec": "mas / yr",
    "pmdec_error": "mas / yr",
    "phot_g_mean_mag": "mag",
    "bp_rp": "mag",
    "ra_error": "mas",
    "dec_error": "mas",
    **dict.fromkeys(CORRELATIONS.values(), ""),
    "ruwe": "",
    "radial_velocity": "km / s",
    "radial_velocity_error": "km / s",
}
_ONE_TRANSIT = 9.0  # error of one observation along the scan, in errors of the parallax
_DRAWS = 200  # tables of stars, before it is said that too few are bright enough


class Simulation(Section):
    """A field of the sky: what is in it and how it is measured."""

    ra: float = Field(default=114.3, ge=0, lt=360, description="of the field's centre, deg")
    dec: float = Field(default=-13.9, ge=-90, le=90, description="of the field's centre, deg")
    radius_deg: float = Field(default=0.5, gt=0, le=30, description="of the field")
    limit_mag: float = Field(default=18.0, description="G at which half of the stars are in the catalogue")
    limit_width_mag: float = Field(default=0.05, gt=0, description="over which the catalogue ends")
    differential: float = Field(
        default=0.1, ge=0, lt=1, description="amplitude of the extinction's wave over the field"
    )
    field: Disc = Disc()
    clusters: tuple[OpenCluster, ...] = (OpenCluster(),)
    errors: Errors = Errors()


def simulate(settings: Simulation, seed: int) -> pd.DataFrame:
    """The catalogue of a field with its truth, in random order; the same seed gives the same stars.

    The k-th of ``settings.clusters`` is ``true_cluster`` k, from 1. InputError: too few stars would be bright
    enough.
    """
    import pandas as pd

    random = np.random.default_rng(seed)
    centre = kinematics.directions(np.array(settings.ra), np.array(settings.dec))
    wave = random.uniform(0, 2 * np.pi, 2)  # direction and phase of the differential extinction

    def dimming(direction: np.ndarray) -> np.ndarray:
        x, y = kinematics.azimuthal(direction, centre).T / settings.radius_deg
        phase = 2 * np.pi * (x * np.cos(wave[0]) + y * np.sin(wave[0])) + wave[1]
        return 1 + settings.differential * np.sin(phase)

    def catalogued(stars: pd.DataFrame) -> np.ndarray:
        direction = kinematics.directions(stars["ra"].to_numpy(), stars["dec"].to_numpy())
        inside = kinematics.separation(direction, centre) < settings.radius_deg
        faint = (stars["magnitude"].to_numpy() - settings.limit_mag) / settings.limit_width_mag
        return inside & (random.uniform(size=len(stars)) * (1 + np.exp(np.minimum(faint, 50.0))) < 1)

    if not (settings.field.stars or settings.clusters):
        raise InputError("a simulated field needs stars: field.stars or clusters")
    parts = []
    if settings.field.stars:
        draw = partial(disc_stars, random, settings.field, centre, settings.radius_deg, dimming)
        parts.append(until(settings.field.stars, draw, catalogued, "field"))
    for number, given in enumerate(settings.clusters, start=1):
        at_centre = {name: getattr(settings, name) for name in ("ra", "dec") if getattr(given, name) is None}
        draw = partial(members, random, given.model_copy(update=at_centre), dimming)
        stars = until(given.members, draw, catalogued, f"clusters.{number - 1}")
        parts.append(stars.assign(cluster=number))
    truth = pd.concat(parts, ignore_index=True)
    truth = truth.iloc[random.permutation(len(truth))].reset_index(drop=True)
    return _measured(random, truth, settings.errors)


def until(
    count: int, draw: Callable[[], pd.DataFrame], keep: Callable[[pd.DataFrame], np.ndarray], what: str
) -> pd.DataFrame:
    """The first ``count`` rows of repeated draws that ``keep`` keeps. InputError: hardly any is kept."""
    import pandas as pd

    kept: list[pd.DataFrame] = []
    while (have := sum(map(len, kept))) < count:
        if len(kept) == _DRAWS or (len(kept) == _DRAWS // 10 and not have):
            raise InputError(
                f"{what}: of {len(kept) * DRAW:,} stars drawn only {have} are in the field and bright enough, "
                f"not the {count} asked for: ask for fewer, a fainter limit, a smaller distance or a wider field"
            )
        stars = draw()
        kept.append(stars[keep(stars)])
    return pd.concat(kept, ignore_index=True).head(count)


def _measured(random: np.random.Generator, truth: pd.DataFrame, errors: Errors) -> pd.DataFrame:
    """The catalogue of true stars, in Gaia's columns and types, and the truth."""
    import pandas as pd

    count = len(truth)
    magnitude = truth["magnitude"].to_numpy()
    sigma = parallax_uncertainty(magnitude) * np.exp(errors.scatter * random.normal(size=count))
    # an orbit that no straight line fits raises RUWE, and with it the errors
    ruwe = np.exp(0.05 * random.normal(size=count)) * np.hypot(1, truth["wobble"] / (_ONE_TRANSIT * sigma))
    data: dict[str, Any] = {name: sigma * factor * np.maximum(ruwe, 1) for name, factor in ERRORS.items()}
    rho = correlations(random, count)
    data |= {name: rho[:, i, j] for (i, j), name in CORRELATIONS.items()}
    scale = np.stack([data[name] for name in ERRORS], axis=1)
    stated = rho * scale[:, :, None] * scale[:, None, :]
    data |= disturbed(random, {name: truth[name].to_numpy() for name in PARAMETERS}, stated, errors)
    # BP and RP: 13 mmag at G = 17, 0.1 mag at 20 (Gaia EDR3 documentation)
    blur = 0.001 * 10 ** (0.29 * np.maximum(magnitude - 13, 0))
    data |= {
        "source_id": new_identifiers(random, count),
        "phot_g_mean_mag": magnitude,
        "bp_rp": truth["colour"] + blur * random.normal(size=count),
        "ruwe": ruwe,
    }
    speed_error = 0.3 * 10 ** (0.18 * np.maximum(magnitude - 8, 0))
    seen = magnitude < 13  # stars with a radial velocity, roughly
    data["radial_velocity"] = np.where(
        seen, truth["radial_velocity"] + speed_error * random.normal(size=count), np.nan
    )
    data["radial_velocity_error"] = np.where(seen, speed_error, np.nan)
    stars = pd.DataFrame(data)[list(COLUMNS)]
    unsolved = random.uniform(size=count) < errors.unsolved
    position = {"source_id", "ra", "dec", "ra_error", "dec_error", "ra_dec_corr", "phot_g_mean_mag", "bp_rp"}
    stars.loc[unsolved, [name for name in COLUMNS if name not in position]] = np.nan
    single = {name: np.float32 for name in COLUMNS if name not in ("source_id", "ra", "dec")}
    return stars.astype(single).assign(
        true_cluster=truth["cluster"].fillna(0).astype(np.int64) if "cluster" in truth else 0,
        true_binary=truth["binary"].to_numpy(bool),
        **{f"true_{name}": truth[name] for name in PARAMETERS},
    )


def new_identifiers(random: np.random.Generator, count: int, taken: np.ndarray | None = None) -> np.ndarray:
    """Distinct int64 identifiers (N,) of 18 or 19 digits, none of those in ``taken``."""
    found = np.setdiff1d(random.integers(10**17, 7 * 10**18, 2 * count + 8), [] if taken is None else taken)
    return random.permutation(found.astype(np.int64))[:count]


def generate(
    path: Path, parameters: Mapping[str, Any], seed: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write a simulated field to ``path`` (Parquet); ``parameters`` are those of ``Simulation``."""
    import pyarrow as pa
    import pyarrow.parquet
    from pydantic import ValidationError

    try:
        settings = Simulation.model_validate(dict(parameters))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"the simulated field: {where}: {first['msg']}, found {first['input']!r}") from error
    stars = simulate(settings, seed)
    table = pa.Table.from_pandas(stars, preserve_index=False)
    told = {"simulation": settings.model_dump_json(), "seed": str(seed), "version": str(VERSION)}
    pyarrow.parquet.write_table(table.replace_schema_metadata(told), path)
    if progress is not None:
        progress(len(stars), len(stars))


def main(arguments: list[str] | None = None) -> None:
    """Write a simulated field from the command line."""
    import argparse

    from sciencevae.data.atomic import atomic_path

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("path", type=Path, help="Parquet file to write")
    parser.add_argument("--settings", type=Path, help="YAML file with settings of Simulation")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    parameters: dict[str, Any] = {}
    if given.settings is not None:
        import yaml

        parameters = yaml.safe_load(given.settings.read_text()) or {}
    with atomic_path(given.path) as temporary:
        generate(temporary, parameters, given.seed)


if __name__ == "__main__":
    main()
