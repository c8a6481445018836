"""Digits, garments and sprites: small images that everyone knows, for every model of the core."""

from sciencevae.registry import Domain, lazy

from .settings import Digits

__all__ = ["DOMAIN"]

own = lazy(__name__)

DOMAIN = Domain(
    name="digits",
    title="Images of digits, garments and sprites",
    summary="MNIST, Fashion-MNIST and dSprites: likelihoods, clusters, factors, anomalies, completed images",
    settings=Digits,
    prepare=own("dataset.prepare"),
    read=own("dataset.read"),
    write=own("dataset.write"),
    formats=(".npz", ".npy"),
    build=own("model.build"),
    objective=own("model.objective"),
    augment=own("model.augment"),
    refit=own("model.refit"),
    analyses={
        name: own(f"analysis.{name}")
        for name in ("likelihood", "clusters", "disentanglement", "anomalies", "completion")
    },
    figures={
        name: own(f"figures.{name}")
        for name in (
            "reconstructions",
            "samples",
            "manifold",
            "traversal",
            "latent_map",
            "factors",
            "completed",
            "curves",
        )
    },
    about=own("about.about"),
)
