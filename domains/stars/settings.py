"""What can be set about a run of this domain."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sciencevae.config import PrepareSettings, RunSettings, Section

__all__ = ["POSITIONS", "Analyse", "Model", "Objective", "Prepare", "Source", "Stars"]

#: RA, Dec in degrees (J2000, SIMBAD), a radius that holds the cluster in degrees, and its parallax in mas.
#: The parallax, rough, only gives a found cluster its name; nothing searches with it.
POSITIONS: dict[str, tuple[float, float, float, float]] = {
    "hyades": (66.73, 15.87, 20.0, 21.5),
    "pleiades": (56.75, 24.12, 6.0, 7.8),
    "praesepe": (130.10, 19.67, 5.0, 5.4),
    "coma berenices": (186.28, 26.10, 10.0, 11.6),
    "alpha persei": (51.60, 49.00, 8.0, 5.8),
    "ic 2602": (160.74, -64.40, 5.0, 6.7),
    "ic 2391": (130.13, -53.03, 5.0, 6.8),
    "blanco 1": (1.03, -29.83, 4.0, 4.4),
}


class Source(Section):
    """The query of the data set ``gaia``; what is not set is as in its manifest, and other data sets take none."""

    ra_deg: float | None = Field(default=None, ge=0, le=360, description="centre of the cone, ICRS")
    dec_deg: float | None = Field(default=None, ge=-90, le=90, description="centre of the cone, ICRS")
    radius_deg: float | None = Field(default=None, gt=0, le=90, description="of the cone")
    magnitude_max: float | None = Field(default=None, description="faintest G asked for")
    table: str | None = Field(default=None, description="of the archive, with the columns of gaia_source")
    service: str | None = Field(default=None, description="address of the archive's TAP service")
    rows_max: int | None = Field(default=None, ge=1, description="of more stars, nothing is asked for")


class Prepare(PrepareSettings):
    """Which stars, of which columns, and the quality cuts."""

    position: str = Field(
        default="hyades", description=f"centre of the cone: {', '.join(POSITIONS)}, or 'RA DEC' in degrees"
    )
    radius_deg: float | None = Field(
        default=None, gt=0, le=90, description="of the cone; none: the named position's"
    )
    cut_input: bool = Field(
        default=False,
        description="cut the cone from your own file too; without it the whole file is the field",
    )
    parallax_error_max_mas: float = Field(
        default=5.0, gt=0, description="quality cut; no cut on the parallax itself"
    )
    ruwe_max: float | None = Field(
        default=None, gt=0, description="quality cut on RUWE (1.4 is usual; it takes binaries with it)"
    )
    magnitude_max: float | None = Field(default=None, description="only stars as bright as this or brighter")
    motion_error_max_mas_yr: float | None = Field(
        default=None,
        gt=0,
        description="quality cut on the larger error of the proper motion: stars that it says little of",
    )
    minimum_stars: int = Field(default=50, ge=10, description="refuse fields with fewer usable stars")
    maximum_stars: int = Field(default=2_000_000, ge=50, description="refuse fields with more")
    two_parameter: Literal["drop", "keep"] = Field(
        default="drop",
        description="stars without parallax or proper motion: left out and counted, or kept, with what is "
        "missing marginalised",
    )
    parallax_zero_point: Literal["none", "lindegren-2021"] = Field(
        default="none",
        description="subtract Gaia (E)DR3's zero-point by G, colour and ecliptic latitude; not from parallaxes "
        "that have been corrected",
    )
    excess_noise: Literal["ignore", "add"] = Field(
        default="ignore",
        description="add the square of a significant astrometric_excess_noise to every variance: a wide bound, "
        "as Gaia's errors have a part of it already",
    )
    error_inflation: float = Field(
        default=1.0, gt=0, description="factor on all errors of position, parallax and proper motion"
    )
    parallax_error_inflation: Literal["none", "el-badry-2021"] = Field(
        default="none", description="factor on the error of the parallax, by G magnitude"
    )
    epoch: float | None = Field(
        default=None,
        ge=1500,
        le=2500,
        description="Julian year to which positions and motions are propagated; none: as catalogued",
    )
    ref_epoch: float | None = Field(
        default=None, ge=1500, le=2500, description="of the positions in your file, where no column says so"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="canonical column: column of your file, where no alias fits"
    )
    units: dict[str, str] = Field(
        default_factory=dict, description="column of your file: unit, where the file states none"
    )


class Model(Section):
    """The three distributions."""

    latent: int = Field(default=6, ge=1, description="dimensions of z")
    hidden: tuple[int, ...] = Field(
        default=(64, 64), description="widths of the hidden layers of both networks"
    )
    prior: Literal["standard", "mixture"] = Field(
        default="mixture", description="N(0, 1), or a learned mixture"
    )
    components: int = Field(default=8, ge=1, description="of the mixture prior")
    perspective: bool = Field(
        default=True,
        description="decode a space velocity and project it; else proper motions directly",
    )


class Objective(Section):
    """The evidence lower bound."""

    beta: float = Field(
        default=1.0, gt=0, description="weight of the KL term; 1: the evidence lower bound itself"
    )


class Analyse(Section):
    """How clusters are looked for."""

    components: int = Field(default=15, ge=1, description="of the mixtures that give candidates")
    smallest: int = Field(default=15, ge=5, description="fewest stars of a group of HDBSCAN")
    tile_stars: int = Field(
        default=5000,
        ge=200,
        description="candidates are looked for in pieces of the sky of at most so many stars",
    )
    background_max: int = Field(
        default=6, ge=1, description="background mixtures of 1 … this many components, chosen by BIC"
    )
    folds: int = Field(default=5, ge=2, description="of the held-out likelihood")
    gain_min: float = Field(
        default=40.0, gt=0, description="nats of held-out likelihood that a cluster has to gain over none"
    )
    significance: float = Field(
        default=2.0, gt=0, description="the gain has to be this many of its standard errors"
    )
    dispersion_max_kms: float = Field(
        default=3.0, gt=0, description="a wider velocity dispersion is no cluster but a stream"
    )
    scatter_max_mas_yr: float = Field(
        default=0.1,
        gt=0,
        description="added in quadrature to that limit: what of a dispersion can be measured",
    )
    parallax_scatter_max: float = Field(
        default=0.15, gt=0, description="largest scatter beyond errors and depth, as a share of the parallax"
    )
    width_max_pc: float = Field(
        default=15.0, gt=0, description="largest standard deviation of the core on the sky: wider is a stream"
    )
    members_min: float = Field(default=8.0, gt=0, description="fewer expected members are no cluster")
    clusters_max: int = Field(default=3, ge=1, description="clusters looked for in one field")
    seed: int = Field(default=0, ge=0, description="of the mixtures and the folds")


class Stars(RunSettings):
    """Settings of the domain ``stars``."""

    dataset: str = "hipparcos"
    source: Source = Source()
    prepare: Prepare = Prepare()
    model: Model = Model()
    objective: Objective = Objective()
    analyse: Analyse = Analyse()
