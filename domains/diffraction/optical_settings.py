"""What can be set about light behind apertures: numbers are fixed, [low, high] are drawn from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sciencevae.config import Section

from .sampling import check_sampling

__all__ = ["Aperture", "Circle", "Grating", "Optical", "Polygon", "Quantity", "Rectangle", "Sensor", "Slits"]


def _ascending(value: float | tuple[float, float]) -> float | tuple[float, float]:
    if isinstance(value, tuple) and not value[0] < value[1]:
        raise ValueError(f"[low, high] with low < high, or one number; found {list(value)}")
    return value


def _positive(value: float | tuple[float, float]) -> float | tuple[float, float]:
    if (value[0] if isinstance(value, tuple) else value) <= 0:
        raise ValueError("a number above 0")
    return value


#: a number, or [low, high] that each sample is drawn from uniformly
Quantity = Annotated[float | tuple[float, float], AfterValidator(_ascending)]
Positive = Annotated[Quantity, AfterValidator(_positive)]


class Slits(Section):
    """Slits side by side, long in y."""

    kind: Literal["slits"] = "slits"
    number: int = Field(default=2, ge=1)
    width_um: Positive = (30.0, 80.0)
    separation_um: Positive = Field(default=(150.0, 400.0), description="between the middles of neighbours")


class Grating(Section):
    """A grating of lines, long in y."""

    kind: Literal["grating"] = "grating"
    lines: int = Field(default=10, ge=2)
    period_um: Positive = 100.0
    duty: Positive = Field(default=0.5, description="open share of a period")

    @model_validator(mode="after")
    def _closed_between(self) -> Grating:
        if (self.duty[1] if isinstance(self.duty, tuple) else self.duty) > 1:
            raise ValueError(f"duty: the open share of a period is at most 1, found {self.duty}")
        return self


class Circle(Section):
    """A round hole."""

    kind: Literal["circle"] = "circle"
    diameter_um: Positive = (200.0, 500.0)


class Rectangle(Section):
    """A rectangular hole."""

    kind: Literal["rectangle"] = "rectangle"
    width_um: Positive = (200.0, 500.0)
    height_um: Positive = (200.0, 500.0)


class Polygon(Section):
    """A hole with corners on a circle, turned at random."""

    kind: Literal["polygon"] = "polygon"
    corners: int = Field(default=3, ge=3)
    diameter_um: Positive = Field(default=(200.0, 500.0), description="of the circle through the corners")
    irregular: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="0: regular; else the corners lie between (1 − irregular) R and R",
    )


Aperture = Annotated[Slits | Grating | Circle | Rectangle | Polygon, Field(discriminator="kind")]


class Sensor(Section):
    """The camera, or the line sensor of slits."""

    pixels: int = Field(default=256, ge=8, description="in a row; of an image, in a column too")
    pitch_um: float = Field(default=50.0, gt=0, description="from pixel to pixel")
    background: float = Field(default=1.0, ge=0, description="dark electrons a pixel and exposure")
    read_noise: float = Field(default=0.0, ge=0, description="standard deviation, electrons")
    gain: float = Field(default=1.0, gt=0, description="electrons a count")
    bits: int = Field(default=16, ge=1, le=31, description="of the converter, which saturates at 2^bits − 1")


class Optical(Section):
    """Coherent light of one wavelength through an aperture onto a sensor."""

    kind: Literal["optical"] = "optical"
    samples: int = Field(default=6000, ge=1)
    apertures: list[Aperture] = Field(default=[Slits()], min_length=1, description="each of as many samples")
    wavelength_nm: Positive = 550.0
    distance_mm: Positive = 500.0
    shift_um: Quantity = Field(
        default=0.0, description="of the aperture from the axis; of an image, in x and y"
    )
    photons: Positive = Field(
        default=(3e4, 3e5),
        description="through the aperture in an exposure; drawn uniformly in the logarithm",
    )
    sensor: Sensor = Sensor()
    propagation: Literal["angular-spectrum", "fresnel", "fraunhofer"] = "angular-spectrum"
    oversample: int = Field(default=8, ge=1, description="points of the field's grid in a pixel")
    window: float = Field(default=2.0, ge=1, description="width of the field's grid, in widths of the sensor")

    @model_validator(mode="after")
    def _samples_well(self) -> Optical:
        """Said before anything is simulated."""
        for aperture in self.apertures:
            check_sampling(self, aperture)
        return self
