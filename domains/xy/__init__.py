"""The XY model: planar spins on a square lattice, and what a VAE sees of the Kosterlitz–Thouless transition."""

from sciencevae.registry import Domain, lazy

from .settings import XY

__all__ = ["DOMAIN"]

own = lazy(__name__)

DOMAIN = Domain(
    name="xy",
    title="XY model",
    summary="Monte Carlo of planar spins; the Kosterlitz–Thouless transition in the latents",
    settings=XY,
    prepare=own("dataset.prepare"),
    read=own("dataset.read"),
    write=own("dataset.write"),
    formats=(".npz", ".npy"),
    build=own("model.build"),
    objective=own("model.objective"),
    analyses={name: own(f"analysis.{name}") for name in ("decoding", "latents", "clusters", "transition")},
    figures={
        name: own(f"figures.{name}")
        for name in ("spins", "latents", "observables", "correlation", "transition", "clusters")
    },
    about=own("about.about"),
)
