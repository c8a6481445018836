"""What can be set about a run of this domain."""

from __future__ import annotations

from pydantic import Field, model_validator

from sciencevae.config import PrepareSettings, RunSettings, Section

__all__ = ["XY", "Analyse", "Grid", "Model", "Objective", "Prepare", "Source"]


class Grid(Section):
    """Equally spaced temperatures, both ends included, in J/k_B."""

    start: float = Field(gt=0)
    stop: float = Field(gt=0)
    number: int = Field(ge=1)


class Source(Section):
    """The Monte Carlo simulation."""

    lattice: int = Field(default=16, ge=2, description="side L of the square lattice")
    temperatures: Grid | list[float] = Field(
        default=Grid(start=0.3, stop=1.5, number=25),
        description="in J/k_B: a list, or {start, stop, number}",
    )
    samples: int = Field(
        default=500, ge=1, description="configurations for each temperature, over its chains"
    )
    chains: int = Field(default=10, ge=1, description="independent chains for each temperature")


class Prepare(PrepareSettings):
    """Chains into train, valid and test."""

    held_out: list[float] = Field(
        default_factory=list, description="temperatures (J/k_B) of which every chain is in test"
    )


class Model(Section):
    """The three distributions."""

    latent: int = Field(default=8, ge=3, description="dimensions of z; the first two turn with the spins")
    channels: int = Field(default=16, ge=1, description="of the first convolution")
    hidden: int = Field(default=128, ge=1, description="width of the dense layer beside the latents")
    canting: bool = Field(
        default=False,
        description="let the decoder turn the two sublattices against each other (for the energy)",
    )
    conditional: bool = Field(default=False, description="tell encoder and decoder the temperature")


class Objective(Section):
    """−ELBO, and a term for the energy of the decoded mean angles."""

    beta: float = Field(default=1.0, ge=0, description="weight of KL(q(z|x) ‖ p(z))")
    beta_rise: float = Field(
        default=0.4, ge=0, le=1, description="share of the steps over which β rises from 0"
    )
    energy_weight: float = Field(
        default=0.0, ge=0, description="w in w·L²·(E(μ(z)) − E(x))², E per site; 0: the plain ELBO"
    )
    energy_rise: float = Field(default=0.8, ge=0, le=1, description="share of the steps over which w rises")


class Analyse(Section):
    """What is measured on the trained models."""

    draws: int = Field(default=250, ge=50, description="new configurations for each temperature")
    seed: int = Field(default=0, ge=0)


class XY(RunSettings):
    """A run of the domain ``xy``."""

    dataset: str = "xy"
    source: Source = Field(default_factory=Source)
    prepare: Prepare = Field(default_factory=Prepare)
    model: Model = Field(default_factory=Model)
    objective: Objective = Field(default_factory=Objective)
    analyse: Analyse = Field(default_factory=Analyse)

    @model_validator(mode="after")
    def _lattice_fits_the_networks(self) -> XY:
        """Said before anything is simulated."""
        side = self.source.lattice
        if side < 6 or side % 2:
            raise ValueError(
                f"source.lattice: the networks halve the lattice: even and at least 6, not {side}"
            )
        return self
