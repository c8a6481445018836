"""What can be set about a run of this domain."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sciencevae.config import PrepareSettings, RefitSettings, RunSettings, Section

__all__ = ["Analyse", "Faces", "Model", "Objective", "Prepare", "Source"]


class Source(Section):
    """The drawn people; for pictures that are fetched nothing can be set."""

    people: int | None = Field(default=None, ge=10, description="how many")
    size: int | None = Field(default=None, ge=64, le=1024, description="of a picture, in pixels")
    noise: float | None = Field(default=None, ge=0, description="of a pixel; white is 1")
    motion: float | None = Field(
        default=None, ge=0, description="of the head between two pictures; 1 is a roll of 1°, a shift of 1 %"
    )


class Prepare(PrepareSettings):
    """Pictures to faces that lie alike."""

    size: int = Field(
        default=96,
        ge=32,
        le=256,
        multiple_of=16,
        description="side of a face, in pixels; 3/8 of it between the eyes",
    )
    test_people: list[str] = Field(
        default_factory=list, description="who is tested on; none: a share, drawn at random"
    )


class Model(Section):
    """The three distributions."""

    kind: Literal["flow", "plain"] = Field(
        default="flow",
        description="a face as a deformation of the other; or from the latents alone, for comparison",
    )
    latent: int = Field(default=8, ge=1, description="dimensions of z")
    channels: tuple[int, ...] = Field(default=(16, 32, 48, 64), description="of the convolutions")
    hidden: int = Field(default=128, ge=1, description="width of the dense layers")
    grid: int = Field(default=32, ge=4, le=64, description="knots of the velocity along each side")
    modes: int = Field(
        default=15,
        ge=0,
        description="ways in which the shapes of faces differ, from landmarks; 0: none are used",
    )
    squarings: int = Field(default=6, ge=1, le=12, description="by which a velocity becomes a displacement")
    scale: float = Field(default=0.07, gt=0, description="σ of a pixel about the deformed face; white is 1")


class Objective(Section):
    """What is minimised."""

    beta: float = Field(default=1.0, ge=0, description="weight of the KL")
    roughness: float = Field(default=1.0, ge=0, description="weight of ½ Σ ‖∇v‖²")


class Refit(RefitSettings):
    """Nothing is fitted anew; what an attribute is among the latents is kept in the model."""

    prior: Literal["none"] = "none"


class Analyse(Section):
    """What is measured on the trained models."""

    amounts: tuple[float, ...] = Field(
        default=(0.5, 1.0, 1.5), min_length=1, description="of the smile, at which folds are looked for"
    )
    draws: int = Field(default=10_000, ge=100, description="of the bootstrap over people")
    oracle_steps: int = Field(
        default=150, ge=0, description="of fitting the best velocity to each test pair; 0: it is left out"
    )
    seed: int = Field(default=0, ge=0)


class Faces(RunSettings):
    """A run of the domain ``faces``."""

    dataset: Literal["faces", "london_faces"] = "faces"
    source: Source = Field(default_factory=Source)
    prepare: Prepare = Field(default_factory=Prepare)
    model: Model = Field(default_factory=Model)
    objective: Objective = Field(default_factory=Objective)
    refit: Refit = Field(default_factory=Refit)
    analyse: Analyse = Field(default_factory=Analyse)

    @model_validator(mode="after")
    def _data_fit(self) -> Faces:
        """Said before anything is fetched."""
        given = [name for name, value in self.source if value is not None]
        if self.dataset != "faces" and given:
            raise ValueError(
                f"source.{given[0]}: {self.dataset} is fetched as it is, only drawn faces are made: leave it out"
            )
        return self
