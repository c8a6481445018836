"""What can be set about a run of this domain."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sciencevae.config import PrepareSettings, RefitSettings, RunSettings, Section

#: what each kind of objective reads
_READ = {
    "elbo": {"beta", "beta_rise", "capacity", "free_bits", "samples"},
    "iwae": {"samples"},
    "tc": {"beta", "beta_rise"},
    "factor": {"beta", "beta_rise"},
    "vq": set(),
}

__all__ = ["Analyse", "Digits", "Model", "Objective", "Prepare", "Source"]


class Source(Section):
    """The grid of sprites; for data sets that are fetched nothing can be set."""

    shapes: int | list[str] | None = Field(default=None, description="of 3: how many, or names")
    scales: int | None = Field(default=None, description="of 6")
    orientations: int | None = Field(default=None, description="of 40")
    x: int | None = Field(default=None, description="horizontal positions, of 32")
    y: int | None = Field(default=None, description="vertical positions, of 32")
    size: int | None = Field(default=None, description="pixels in a row, at most 64")


class Prepare(PrepareSettings):
    """Which images, as bits or as grey values, and what a model is told beside them."""

    rows: int | None = Field(
        default=None, ge=100, description="training and validation images to take, drawn at random; none: all"
    )
    test_rows: int | None = Field(default=None, ge=10, description="test images to take; none: all")
    binarise: Literal["dynamic", "static", "threshold", "none"] = Field(
        default="dynamic",
        description="grey values to bits: drawn anew each time an image trains, drawn once, cut at one half; "
        "or none. Validation and test images are always drawn once",
    )
    condition: Literal["none", "label", "quadrants"] = Field(
        default="none", description="told to the model: the class, or the pixels of some quadrants"
    )
    quadrants: Literal[1, 2, 3] = Field(
        default=1, description="told: the lower left; the left half; all but the upper right"
    )
    anomaly: int | None = Field(
        default=None, ge=0, le=9, description="class that is left out of training and is in test only"
    )


class Model(Section):
    """The three distributions."""

    kind: Literal["vae", "vq", "deterministic"] = Field(
        default="vae",
        description="continuous latents; codes (VQ-VAE); or a network from the condition alone, for comparison",
    )
    latent: int = Field(default=40, ge=1, description="dimensions of z, or of a code's embedding")
    network: Literal["perceptron", "convolution"] = "perceptron"
    hidden: tuple[int, ...] = Field(default=(300, 300), description="widths of a perceptron's layers")
    channels: tuple[int, ...] = Field(default=(32, 64), description="of the convolutions")
    activation: Literal["relu", "silu", "gelu", "tanh", "softplus", "elu", "gated"] = Field(
        default="silu", description="gated: of perceptrons"
    )
    prior: Literal["standard", "mixture", "vamp", "flow", "conditional"] = Field(
        default="standard", description="trained with the model"
    )
    components: int = Field(default=10, ge=1, description="of a mixture or VampPrior")
    codes: int = Field(default=64, ge=2, description="size of a VQ-VAE's codebook")


class Objective(Section):
    """What is minimised."""

    kind: Literal["elbo", "iwae", "tc", "factor", "vq"] = Field(
        default="elbo", description="ELBO, importance-weighted bound, β-TCVAE, FactorVAE, VQ"
    )
    beta: float = Field(
        default=1.0, ge=0, description="weight of the KL; of the total correlation for tc (β) and factor (γ)"
    )
    capacity: float | None = Field(
        default=None, gt=0, description="nats at which β |KL − capacity| holds the KL (Burgess et al. 2018)"
    )
    beta_rise: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the steps over which β, or the capacity where there is one, rises from 0",
    )
    free_bits: float = Field(default=0.0, ge=0, description="nats a latent dimension has free")
    samples: int = Field(default=1, ge=1, description="draws of the posterior a datum")

    @model_validator(mode="after")
    def _is_read(self) -> Objective:
        for name, field in type(self).model_fields.items():
            if name not in {"kind", *_READ[self.kind]} and getattr(self, name) != field.default:
                raise ValueError(f"{name} says nothing to {self.kind}: leave it at {field.default}")
        if self.capacity is not None and self.free_bits:
            raise ValueError("capacity and free_bits each change what the KL costs: give one of them")
        return self


class Refit(RefitSettings):
    """A prior fitted to the latents after training, everything else as it is."""

    prior: Literal["none", "mixture", "flow", "pixelcnn"] = "none"


class Analyse(Section):
    """What is measured on the trained models."""

    evidence_rows: int = Field(default=500, ge=10, description="test images whose log p(x) is estimated")
    evidence_samples: int = Field(default=500, ge=2, description="draws for each of them")
    clusters: int | None = Field(
        default=None, ge=2, description="clusters to look for among the latents; none: none"
    )
    seed: int = Field(default=0, ge=0)


class Digits(RunSettings):
    """A run of the domain ``digits``."""

    dataset: Literal["mnist", "fashion_mnist", "dsprites"] = "mnist"
    source: Source = Field(default_factory=Source)
    prepare: Prepare = Field(default_factory=Prepare)
    model: Model = Field(default_factory=Model)
    objective: Objective = Field(default_factory=Objective)
    refit: Refit = Field(default_factory=Refit)
    analyse: Analyse = Field(default_factory=Analyse)

    @model_validator(mode="after")
    def _data_fit(self) -> Digits:
        """Said before anything is fetched."""
        if self.dataset == "dsprites":
            return self
        if given := [name for name, value in self.source if value is not None]:
            raise ValueError(
                f"source.{given[0]}: {self.dataset} is fetched as it is, and only dsprites are drawn: leave it out"
            )
        if self.prepare.binarise == "none":
            raise ValueError(
                f"prepare.binarise: the likelihood is of bits, and {self.dataset} is grey: dynamic, static or "
                "threshold"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Digits:
        """Said before anything is fetched."""
        if self.model.prior == "conditional" and self.prepare.condition == "none":
            raise ValueError("model.prior: a conditional prior needs prepare.condition")
        if self.model.kind == "deterministic" and self.prepare.condition != "quadrants":
            raise ValueError(
                "model.kind: deterministic predicts pixels from others: prepare.condition=quadrants"
            )
        if (self.model.kind == "vq") != (self.objective.kind == "vq"):
            raise ValueError("model.kind and objective.kind are both vq, or neither")
        if self.model.kind == "vq" and self.prepare.condition != "none":
            raise ValueError("model.kind: vq takes no condition here: prepare.condition=none")
        if (self.refit.prior == "pixelcnn") and self.model.kind != "vq":
            raise ValueError("refit.prior: pixelcnn is a prior of codes: model.kind=vq")
        if self.refit.prior in ("mixture", "flow") and self.model.kind == "vq":
            raise ValueError(f"refit.prior: {self.refit.prior} is no prior of codes: pixelcnn, or none")
        if self.model.network == "convolution" and self.model.activation == "gated":
            raise ValueError(
                "model.activation: gated layers are those of a perceptron: model.network=perceptron"
            )
        if self.model.network == "convolution" and self.prepare.condition == "quadrants":
            raise ValueError("model.network: quadrants are no rectangle of pixels to convolve: perceptron")
        return self
