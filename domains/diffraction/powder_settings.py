"""What can be set about X-ray powder patterns: the scan's axis, the phases, and the ranges that are drawn from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from sciencevae.config import Section
from sciencevae.errors import InputError

from .axes import anode

__all__ = ["Powder", "Range", "Scan"]


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"a range is [least, greatest], found {list(value)}")
    return value


def _anode(name: str) -> str:
    try:
        anode(name)
    except InputError as error:
        raise ValueError(str(error)) from None
    return name


Range = Annotated[tuple[float, float], AfterValidator(_rising)]


class Scan(Section):
    """The bins that every pattern is brought to: equally wide in 2θ at the wavelength of the anode."""

    anode: str = Field(default="Cu", description="Cu, Co, Mo, Cr, Fe or Ag")
    start: float = Field(default=10.0, gt=0, description="2θ of the first edge, degrees")
    stop: float = Field(default=80.0, lt=180, description="2θ of the last edge, degrees")
    bins: int = Field(default=1400, ge=64)

    @field_validator("anode")
    @classmethod
    def _known(cls, name: str) -> str:
        return _anode(name)

    @model_validator(mode="after")
    def _rises(self) -> Scan:
        if self.stop - self.start < 1:
            raise ValueError(f"scan: start {self.start:g}° to stop {self.stop:g}° is no scan")
        return self


class Powder(Section):
    """Patterns of powders, simulated from crystal structures; lengths in nm and mm, angles in degrees."""

    kind: Literal["powder"] = "powder"
    scan: Scan = Field(default_factory=Scan)
    phases: list[str] | None = Field(
        default=None,
        description="structures: of the package, or .cif files of the input, by name or formula; none: all of them",
    )
    axis: Literal["2theta", "d", "q"] = Field(
        default="2theta", description="the first column of measured scans: 2θ in degrees, d in Å, Q in Å⁻¹"
    )
    measured_with: str | None = Field(
        default=None, description="anode of measured scans where their files do not tell; none: that of scan"
    )
    brightest: float | None = Field(
        default=None,
        gt=0,
        description="counts given to the brightest point of scans of no counts; none: these are refused",
    )
    unknown: list[str] = Field(
        default_factory=list,
        description="structures, or formulas, left out of training, as phases nobody expected",
    )
    patterns: int = Field(default=6000, ge=20, description="simulated patterns, over train, valid and test")
    most_phases: int = Field(default=3, ge=1, description="in one mixture")
    least_fraction: float = Field(
        default=0.1, gt=0, lt=1, description="weight fraction of a phase in a mixture"
    )
    strain: Range = Field(
        default=(-0.01, 0.01), description="relative change of each free length of the cell"
    )
    size_nm: Range = Field(default=(15.0, 150.0), description="of the crystallites")
    microstrain: Range = Field(default=(0.0, 0.002), description="ε in the broadening 4ε tan θ")
    march: Range = Field(default=(0.5, 1.0), description="March–Dollase r of the texture; 1: none")
    zero: Range = Field(default=(-0.05, 0.05), description="zero shift of 2θ")
    displacement_mm: Range = Field(default=(-0.15, 0.15), description="of the specimen, Bragg–Brentano")
    radius_mm: float = Field(default=240.0, gt=0, description="of the goniometer")
    fwhm: Range = Field(default=(0.05, 0.15), description="of the instrument, √W of Caglioti's formula")
    alpha2: float = Field(default=0.5, ge=0, le=1, description="brightness of Kα₂ over Kα₁")
    peak_counts: Range = Field(
        default=(300.0, 30000.0), description="in the brightest bin, above the background"
    )
    background: Range = Field(default=(0.01, 0.5), description="its mean over the brightest bin")
    cut: float = Field(
        default=0.2, ge=0, le=1, description="share of patterns that cover a part of the bins only"
    )
    seed: int = Field(default=0, ge=0)
