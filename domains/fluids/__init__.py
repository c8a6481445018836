"""Fluid fields: snapshots of flows in few latents, and where they go from there."""

from sciencevae.registry import Domain, lazy

from .settings import Fluids

__all__ = ["DOMAIN"]

own = lazy(__name__)

DOMAIN = Domain(
    name="fluids",
    title="Fluid fields",
    summary="snapshots of flows in few latents, and forecasts of them beside their baselines",
    settings=Fluids,
    prepare=own("dataset.prepare"),
    read=own("dataset.read"),
    write=own("dataset.write"),
    formats=(".h5", ".nc", ".zarr"),
    build=own("model.build"),
    objective=own("model.objective"),
    refit=own("model.refit"),
    analyses={name: own(f"analysis.{name}") for name in ("reconstruction", "trajectories", "regimes")}
    | {"forecast": own("outlook.forecast")},
    figures={
        name: own(f"figures.{name}")
        for name in ("film", "snapshots", "reconstruction", "trajectories", "forecast", "rollout", "spectra")
    },
    about=own("about.about"),
)
