"""What can be set about a run of this domain."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sciencevae.config import PrepareSettings, RunSettings, Section
from sciencevae.errors import did_you_mean

from .optical_settings import Optical
from .parameters import MEANINGS
from .powder_settings import Powder

__all__ = ["Analyse", "Diffraction", "Model", "Objective", "Prepare"]

Source = Annotated[Optical | Powder, Field(discriminator="kind")]


class Prepare(PrepareSettings):
    """Patterns into train, valid and test, and what a model is told of them."""

    told: list[str] = Field(
        default_factory=list, description="parameters that encoder and decoder are told (the condition)"
    )
    supervised: list[str] = Field(
        default_factory=list, description="parameters that the first latents are trained to be"
    )
    exposure: Literal["total", "latent"] = Field(
        default="total",
        description="total: rates are relative to all counts of a pattern; latent: the model learns the brightness",
    )


class Model(Section):
    """The three distributions."""

    latent: int = Field(default=6, ge=1, description="dimensions of z")
    hidden: tuple[int, ...] = Field(default=(256, 256), description="widths of the layers of perceptrons")
    sources: int = Field(
        default=48,
        ge=1,
        description="points whose light makes up a decoded line profile (Huygens); of images, cells in a row",
    )
    even: float = Field(
        default=0.7,
        gt=0,
        description="even light in what an untrained model decodes, over the mean rate; of line profiles",
    )
    channels: tuple[int, ...] = Field(default=(16, 32, 64), description="of the convolutions, of images")


class Objective(Section):
    """What is minimised."""

    kind: Literal["elbo", "tc", "factor"] = Field(default="elbo", description="ELBO, β-TCVAE, FactorVAE")
    beta: float = Field(
        default=1.0, ge=0, description="weight of the KL; of the total correlation for tc (β) and factor (γ)"
    )
    beta_start: float = Field(
        default=0.0, ge=0, description="β at the first step; far above beta, coarse order is learned first"
    )
    beta_share: float = Field(
        default=0.3, ge=0, le=1, description="share of the steps over which β goes from beta_start to beta"
    )
    supervised_weight: float = Field(
        default=100.0,
        gt=0,
        description="of ½ Σ (parameter − z)², the parameters of prepare.supervised scaled",
    )
    phases_weight: float = Field(
        default=100.0, ge=0, description="of −log p(phases | z) beyond its part of the ELBO; powders"
    )


class Analyse(Section):
    """What is measured on the trained models."""

    seed: int = Field(default=0, ge=0)
    false_positive_rate: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="share of patterns of known phases that may be called unknown; powders",
    )


class Diffraction(RunSettings):
    """A run of the domain ``diffraction``."""

    dataset: str = "diffraction"
    source: Source = Field(default_factory=Optical)
    prepare: Prepare = Field(default_factory=Prepare)
    model: Model = Field(default_factory=Model)
    objective: Objective = Field(default_factory=Objective)
    analyse: Analyse = Field(default_factory=Analyse)

    @model_validator(mode="after")
    def _parameters_are_known(self) -> Diffraction:
        """Said before anything is simulated."""
        if isinstance(self.source, Optical):
            for key in ("told", "supervised"):
                for name in getattr(self.prepare, key):
                    if name not in MEANINGS:
                        raise ValueError(
                            f"prepare.{key}: unknown parameter {name!r}{did_you_mean(name, MEANINGS)}"
                        )
        return self

    @model_validator(mode="after")
    def _axes_for_what_is_supervised(self) -> Diffraction:
        """Said before anything is simulated."""
        if (wanted := len(self.prepare.supervised)) > self.model.latent:
            raise ValueError(
                f"model.latent: {wanted} supervised parameters need as many latents, found {self.model.latent}"
            )
        return self
