"""What can be set about a run of this domain."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sciencevae.config import PrepareSettings, RunSettings, Section

__all__ = ["KINDS", "Analyse", "Kind", "Model", "Objective", "Prepare", "Tables"]

#: the likelihoods of a column
Kind = Literal["gaussian", "student", "counts", "categorical"]
KINDS: tuple[Kind, ...] = ("gaussian", "student", "counts", "categorical")


class Prepare(PrepareSettings):
    """Which columns, of which kind, and which rows are trained on."""

    columns: dict[str, Kind | Literal["ignore"]] = Field(
        default_factory=dict, description="column: its likelihood, or 'ignore'; the others' are inferred"
    )
    continuous: Literal["gaussian", "student"] = Field(
        default="gaussian", description="likelihood of real numbers whose column is not set"
    )
    categories_max: int = Field(
        default=5, ge=2, description="whole numbers of at most so many values are categories, of more counts"
    )
    identifier: str = Field(default="", description="column that names the rows; none: their numbers")
    label: str = Field(default="", description="column that says which rows are normal; never trained on")
    normal: list[str] = Field(
        default_factory=list, description="values of the label that are normal; none: 0, false or normal"
    )
    train_on: Literal["normal", "all"] | None = Field(
        default=None, description="rows to train on; none: normal ones where there is a label, else all"
    )
    minimum_rows: int = Field(default=50, ge=10, description="refuse tables with fewer usable rows")

    @model_validator(mode="after")
    def _says_what_is_normal(self) -> Prepare:
        if not self.label and (self.normal or self.train_on == "normal"):
            raise ValueError("label: which column says what is normal? or prepare.train_on=all")
        return self


class Model(Section):
    """The three distributions."""

    latent: int = Field(
        default=4, ge=1, description="dimensions of z, at most; half as many as columns where that is less"
    )
    hidden: tuple[int, ...] = Field(
        default=(64, 64), description="widths of the hidden layers of both networks"
    )
    prior: Literal["standard", "mixture"] = Field(
        default="standard", description="N(0, 1), or a learned mixture"
    )
    components: int = Field(default=8, ge=1, description="of the mixture prior")


class Objective(Section):
    """The evidence lower bound."""

    beta: float = Field(
        default=1.0, gt=0, description="weight of the KL term; 1: the evidence lower bound itself"
    )


class Analyse(Section):
    """How rows are scored."""

    score: Literal["neighbours", "elbo", "reconstruction", "evidence"] = Field(
        default="neighbours",
        description="distance to training rows, in latents and residuals and by itself; −ELBO; the reconstruction "
        "probability; or −log p(x)",
    )
    neighbours: int | None = Field(
        default=None,
        ge=1,
        description="training rows that a row is compared with; none: 3 where the rows that train are normal by "
        "their label, else 5",
    )
    trim: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="share of the training rows, those farthest from the others, that is nobody's neighbour; none: "
        "0 where the rows that train are normal by their label, else 0.3",
    )
    reference_max: int = Field(
        default=5000, ge=20, description="training rows that neighbours are looked for among, at most"
    )
    samples: int = Field(
        default=64, ge=2, description="draws of the posterior of each row, of the other scores"
    )
    false_positive_rate: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="share of rows like the training rows that may be called anomalous",
    )
    listed: int = Field(default=20, ge=1, description="most anomalous rows in the table and the figure")
    seed: int = Field(default=0, ge=0, description="of the draws and the peers")


class Tables(RunSettings):
    """Settings of the domain ``tables``."""

    dataset: str = "breast_cancer"
    prepare: Prepare = Field(default_factory=Prepare)
    model: Model = Field(default_factory=Model)
    objective: Objective = Field(default_factory=Objective)
    analyse: Analyse = Field(default_factory=Analyse)
