"""Molecules: encode SMILES, decode new ones, predict and improve their properties."""

from sciencevae.registry import Domain, lazy

from .settings import Molecules

__all__ = ["DOMAIN"]

own = lazy(__name__)

DOMAIN = Domain(
    name="molecules",
    title="Molecules",
    summary="SMILES to latents and back: reconstruction, new molecules, properties",
    settings=Molecules,
    prepare=own("dataset.prepare"),
    read=own("dataset.read"),
    write=own("dataset.write"),
    formats=(".smi", ".csv", ".parquet"),
    line=".smi",
    build=own("model.build"),
    objective=own("model.objective"),
    refit=own("model.refit"),
    beside=own("dataset.beside"),
    analyses={
        "reconstruction": own("analysis.reconstruction"),
        "generation": own("analysis.generation"),
        "prediction": own("prediction.prediction"),
        "conditional": own("prediction.conditional"),
        "transfer": own("prediction.transfer"),
        "optimisation": own("analysis.optimisation"),
    },
    figures={
        name: own(f"figures.{name}") for name in ("latent_map", "samples", "interpolation", "neighbourhood")
    },
    about=own("about.about"),
)
