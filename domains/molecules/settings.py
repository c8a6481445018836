"""What can be set about a run of this domain."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from sciencevae.config import PrepareSettings, RefitSettings, RunSettings, Section

__all__ = ["Analyse", "Model", "Molecules", "Objective", "Prepare", "Refit"]

#: of any molecule, by RDKit: property -> unit
COMPUTED = {"logP": "1", "QED": "1", "SAS": "1", "weight": "g/mol"}
#: of QM9: property -> (column of the file, factor to the unit, unit)
HARTREE_EV = 27.211386245988
QUANTUM = {
    "HOMO": ("HOMO_au", HARTREE_EV, "eV"),
    "LUMO": ("LUMO_au", HARTREE_EV, "eV"),
    "gap": ("HOMO_LUMO_gap_au", HARTREE_EV, "eV"),
    "dipole": ("Dipole_debye", 1.0, "debye"),
    "polarizability": ("Polarizability_bohr3", 1.0, "bohr3"),
    "R2": ("R2_bohr2", 1.0, "bohr2"),
    "ZPVE": ("ZPVE_au", HARTREE_EV, "eV"),
    "Cv": ("Heatcapacity_Cv_cal_mol_K", 1.0, "cal/(mol K)"),
}


class Prepare(PrepareSettings):
    """Which molecules, how they are made alike, and how they are written."""

    rows: int | None = Field(default=None, ge=100, description="molecules to take, by their hash; none: all")
    notation: Literal["selfies", "smiles"] = Field(
        default="selfies", description="selfies: every sequence with an atom is a molecule"
    )
    stereo: Literal["keep", "drop"] = Field(default="keep", description="stereochemistry")
    salts: Literal["keep", "largest", "refuse"] = Field(
        default="largest", description="of several fragments: all, the largest, or the row is refused"
    )
    charges: Literal["keep", "neutralise"] = Field(
        default="keep", description="charges that can be taken off"
    )
    length: int | None = Field(
        default=None,
        ge=2,
        description="tokens of a molecule at most, with the stop; none: as the longest has",
    )
    properties: tuple[str, ...] = Field(
        default=(), description=f"to predict: {', '.join(COMPUTED)}; of QM9 also {', '.join(QUANTUM)}"
    )
    measured: dict[str, str] = Field(
        default_factory=dict,
        description="columns of numbers in a table of your own, to predict, and their units: {solubility: mol/l}",
    )
    column: str = Field(default="smiles", description="of the SMILES, in a table of your own (any case)")
    identifier: str = Field(default="id", description="of the names, in a table of your own (any case)")

    @field_validator("properties")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in (*COMPUTED, *QUANTUM):
                raise ValueError(f"unknown property {name!r}; known: {', '.join((*COMPUTED, *QUANTUM))}")
        if len(set(names)) < len(names):
            raise ValueError("a property is named twice")
        return names

    @field_validator("measured")
    @classmethod
    def _told_apart(cls, measured: dict[str, str]) -> dict[str, str]:
        taken = {name.lower() for name in (*COMPUTED, *QUANTUM, "smiles", "id", "row", "status")}
        if len({name.lower() for name in measured}) < len(measured):
            raise ValueError("two columns have one name but for upper and lower case: rename one of them")
        for name, unit in measured.items():
            if name.lower() in taken:
                raise ValueError(
                    f"{name!r} is the name of a property that is computed, or of another column: rename yours"
                )
            if "," in unit:
                raise ValueError(f"the unit {unit!r} of {name!r} has a comma; write it without")
        return measured


class Model(Section):
    """q(z | x) by gated recurrent units in both directions, p(x | z) by ones that write token by token."""

    latent: int = Field(default=64, ge=1, description="dimensions of z")
    encoder_width: int = Field(default=256, ge=1, description="of each direction")
    decoder_width: int = Field(default=512, ge=1)
    layers: int = Field(default=1, ge=1, description="of each")
    embedding: int = Field(default=64, ge=1, description="of a token")
    encoder_sums: bool = Field(
        default=True, description="z is told the sum of the encoder's states beside the last ones"
    )
    token_dropout: float = Field(
        default=0.1, ge=0, le=1, description="share of the tokens that the decoder is not told in training"
    )
    head: tuple[int, ...] = Field(default=(64,), description="widths of the layers that predict properties")


class Objective(Section):
    """−ELBO, and the properties."""

    beta: float = Field(default=0.05, gt=0, description="weight of the KL")
    beta_rise: float = Field(
        default=0.2, ge=0, le=1, description="share of the steps over which it rises from 0"
    )
    property_weight: float = Field(
        default=1.0, ge=0, description="of log p(properties | z); 1: the ELBO's own"
    )


class Refit(RefitSettings):
    """A prior fitted to the latents after training, everything else as it is."""

    prior: Literal["none", "mixture", "flow"] = "mixture"
    covariance: Literal["diagonal", "full"] = "full"


class Analyse(Section):
    """What is measured on the trained models."""

    rows: int = Field(default=2000, ge=10, description="test molecules that are reconstructed")
    draws: int = Field(default=10, ge=1, description="encodings of each, and decodings of each encoding")
    samples: int = Field(default=10_000, ge=100, description="molecules drawn")
    known: int | None = Field(
        default=None, ge=100, description="known molecules they are compared with; none: as many as are drawn"
    )
    transfer: tuple[Literal["esol", "freesolv", "lipophilicity"], ...] = Field(
        default=(), description="sets of measured properties to be predicted from the latents"
    )
    optimise_calls: int | None = Field(
        default=None,
        gt=100,
        description="molecules whose 5 QED − SAS each way of optimisation may ask for; none: none",
    )
    optimise_seeds: int = Field(default=3, ge=1, description="repetitions of each way")
    seed: int = Field(default=0, ge=0)


class Molecules(RunSettings):
    """A run of the domain ``molecules``."""

    dataset: Literal["qm9", "zinc250k", "moses"] = "qm9"
    prepare: Prepare = Field(default_factory=Prepare)
    model: Model = Field(default_factory=Model)
    objective: Objective = Field(default_factory=Objective)
    refit: Refit = Field(default_factory=Refit)
    analyse: Analyse = Field(default_factory=Analyse)

    @model_validator(mode="after")
    def _parts_fit(self) -> Molecules:
        """Said before anything is fetched."""
        quantum = [name for name in self.prepare.properties if name in QUANTUM]
        if quantum and self.dataset != "qm9":
            raise ValueError(f"prepare.properties: {quantum[0]} is known of qm9 alone, not of {self.dataset}")
        return self
