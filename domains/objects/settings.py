"""What can be set about a run of this domain."""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from sciencevae.config import PrepareSettings, RefitSettings, RunSettings, Section
from sciencevae.training.settings import TrainingSettings

__all__ = ["Analyse", "Model", "Objective", "Objects", "Prepare", "Refit", "Source", "Views"]


class CameraSettings(Section):
    """A pinhole camera that looks at the table, z = 0; lengths in millimetres, angles in degrees."""

    place: tuple[float, float, float] = Field(default=(0.0, -260.0, 520.0), description="where it stands")
    target: tuple[float, float, float] = Field(default=(0.0, 0.0, 0.0), description="what it looks at")
    view: float = Field(
        default=16.0, gt=0, lt=170, description="the angle that a side of the middle square spans"
    )
    roll: float = Field(default=0.0, description="about the line of sight")

    @model_validator(mode="after")
    def _above(self) -> CameraSettings:
        if not self.place[2] > max(0.0, self.target[2]):
            raise ValueError(
                "the camera looks down on the table: the last number of place is above 0 and target's"
            )
        return self


class Solid(Section):
    """A mesh in millimetres that stands on z = 0, its position at the origin, and points along x."""

    file: str = Field(description="STL, OBJ or PLY")
    sha256: str = Field(default="", description="of the file, as it is when this is configured")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        """A file's name alone will do; with the hash of its content it is known wherever it lies."""
        return _known_solid(given)


def _known_solid(given: Any) -> Any:
    found = {"file": given} if isinstance(given, str) else given
    if not isinstance(found, dict) or found.get("sha256") or not isinstance(found.get("file"), str):
        return found
    from sciencevae.data.download import sha256_of

    path = Path(found["file"]).expanduser().absolute()
    if path.suffix.lower() not in (".stl", ".obj", ".ply"):
        raise ValueError(f"{path}: a solid is STL, OBJ or PLY: convert it")
    try:
        return {"file": str(path), "sha256": sha256_of(path)}
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


class Setup(Section):
    """Solids and a camera of one's own, in place of the built-in ones."""

    solids: dict[str, Solid] | None = Field(
        default=None, min_length=1, description="by the name of their kind: a mesh each"
    )
    camera: CameraSettings | None = Field(default=None, description="as the simulation believes it to be")
    reach: float | None = Field(
        default=None, gt=0, description="positions lie within ± so many millimetres along x and y; none: 45"
    )

    @model_validator(mode="after")
    def _kinds_are_known(self) -> Setup:
        from .scenes import UNSEEN

        if UNSEEN in (self.solids or {}):
            raise ValueError(f"{UNSEEN!r} is what is never simulated: give the solid another name")
        return self

    def content(self) -> dict[str, Any]:
        """What the pictures depend on: of files what they hold, not where they lie."""
        found = self.model_dump(mode="json", exclude_none=True)
        return found | {"solids": {name: solid.sha256 for name, solid in (self.solids or {}).items()}}


class Source(Section):
    """How many pictures are drawn, and how."""

    plain: int | None = Field(default=None, ge=0, description="simulated ones that look alike")
    randomised: int | None = Field(default=None, ge=0, description="simulated ones with everything drawn")
    realistic: int | None = Field(default=None, ge=0, description="by the other renderer")
    unseen: int | None = Field(
        default=None, ge=0, description="more of those, of an object that is never simulated"
    )
    samples: int | None = Field(
        default=None, ge=1, description="paths of light for each pixel of a realistic one"
    )
    setup: Setup | None = Field(default=None, description="solids and a camera of your own")

    @model_validator(mode="after")
    def _own_setup_own_pictures(self) -> Source:
        if self.setup and (self.realistic, self.unseen) != (0, 0):
            raise ValueError(
                "of a setup of your own the realistic pictures are your own, too: set source.realistic=0 and "
                "source.unseen=0, and give them by --input"
            )
        return self


class Prepare(PrepareSettings):
    """Which pictures are trained and tested on.

    fractions: of the simulated ones. split_seed: also of which realistic ones have labels.
    """

    fractions: dict[str, float] = Field(
        default_factory=lambda: {"train": 0.95, "valid": 0.05, "test": 0.0},
        description="share of the simulated pictures in each part",
    )
    plain: int | None = Field(default=None, ge=0, description="simulated pictures that look alike; none: all")
    randomised: int | None = Field(default=None, ge=0, description="randomised ones; none: all")
    labelled: int = Field(default=30, ge=0, description="realistic pictures whose pose is told")
    unlabelled: int = Field(default=0, ge=0, description="realistic pictures whose pose is not told")
    labelled_share: float = Field(
        default=0.15,
        ge=0,
        lt=1,
        description="of the training rows: labelled pictures are repeated up to it",
    )
    targets: Literal["twins", "poses"] = Field(
        default="twins",
        description="what labelled realistic pictures teach: how the simulation shows them, their pose being read "
        "by what has learnt in simulation alone; or the pose itself, for comparison",
    )
    valid: int = Field(default=200, ge=0, description="realistic pictures to choose settings by")
    test: int = Field(default=400, ge=1, description="realistic pictures that are tested on")


class Views(Section):
    """How else pictures are seen in training."""

    randomised: bool = Field(
        default=True,
        description="patches printed on tables, other contrast and colours, noise; without, simulated pictures are "
        "mirrored, realistic ones turned and shifted, and the light varies",
    )


class Model(Section):
    """The three distributions."""

    kind: Literal["translate", "regress"] = Field(
        default="translate",
        description="pictures decoded as the simulation shows them, and their pose read from that; or read from "
        "the pictures themselves, for comparison",
    )
    latents: int = Field(default=6, ge=1, description="of each of the 8 × 8 cells of a picture")
    channels: tuple[int, int, int] = Field(default=(24, 48, 64), description="of the convolutions")
    points: tuple[int, int, int] = Field(default=(24, 32, 48), description="of the regressor's convolutions")
    hidden: int = Field(default=128, ge=1, description="width of the regressor's dense layer")
    scale: float = Field(default=0.1, gt=0, description="σ of a twin's pixel; white is 1")


class Objective(Section):
    """What is minimised."""

    beta: float = Field(default=1.0, ge=0, description="weight of the KL")
    realistic: float = Field(
        default=1.0, ge=0, description="weight of the realistic pictures against simulated ones"
    )


class Refit(RefitSettings):
    """What follows the training: lessons from pictures without labels, and the regressor alone."""

    prior: Literal["none"] = "none"
    tune: bool = Field(
        default=False, description="whether a regressor of pictures goes on with the labelled ones alone"
    )
    rounds: int = Field(
        default=2,
        ge=0,
        description="of self-training: finding poses of the unlabelled pictures (pseudo-labels), and learning them",
    )
    believed: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="share of the unlabelled pictures that teach: those whose pose depends least on the view",
    )
    views: int = Field(default=10, ge=2, description="of each unlabelled picture, augmented as in training")
    lesson: TrainingSettings = Field(
        default=TrainingSettings(epochs=4, batch_size=32, learning_rate=1e-3, schedule="cosine"),
        description="of each round",
    )
    training: TrainingSettings = Field(
        default=TrainingSettings(epochs=6, batch_size=64, learning_rate=2e-3, schedule="cosine"),
        description="of the regressor of twins, or of that",
    )


class Analyse(Section):
    """What is measured on the trained models."""

    samples: int = Field(default=16, ge=2, description="draws of the latents, for the uncertainty of a pose")
    draws: int = Field(default=10_000, ge=100, description="of the bootstrap over pictures")
    seed: int = Field(default=0, ge=0)


class Objects(RunSettings):
    """A run of the domain ``objects``."""

    dataset: Literal["objects"] = "objects"
    source: Source = Field(default_factory=Source)
    prepare: Prepare = Field(default_factory=Prepare)
    views: Views = Field(default_factory=Views)
    model: Model = Field(default_factory=Model)
    objective: Objective = Field(default_factory=Objective)
    refit: Refit = Field(default_factory=Refit)
    analyse: Analyse = Field(default_factory=Analyse)

    @model_validator(mode="before")
    @classmethod
    def _variants_know_their_solids(cls, given: Any) -> Any:
        """Of variants, too, a file is what it is when this is configured, wherever stages run."""
        found = copy.deepcopy(given)
        variants = found.get("variants") if isinstance(found, dict) else None
        for variant in variants.values() if isinstance(variants, dict) else ():
            with suppress(AttributeError, KeyError, TypeError):  # what is no mapping is said by what reads it
                solids = variant["source"]["setup"]["solids"]
                solids |= {name: _known_solid(solid) for name, solid in solids.items()}
        return found

    @model_validator(mode="after")
    def _all_settings_count(self) -> Objects:
        if self.prepare.fractions.get("test"):
            raise ValueError("prepare.fractions.test: no simulated picture is tested on: set it to 0")
        if self.refit.tune and self.model.kind != "regress":
            raise ValueError("refit.tune: what is tuned is a regressor of pictures: set model.kind=regress")
        return self

    @model_validator(mode="after")
    def _targets_fit(self) -> Objects:
        wanted = {"translate": "twins", "regress": "poses"}[self.model.kind]
        if self.prepare.targets != wanted:
            raise ValueError(
                f"model.kind={self.model.kind} learns from {wanted}: set prepare.targets={wanted}"
            )
        return self
