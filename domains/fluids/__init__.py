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
    citations=(
        """@article{WiewelEtAl2019,
  author = {Wiewel, Steffen and Becher, Moritz and Thuerey, Nils},
  title = {Latent space physics: towards learning the temporal evolution of fluid flow},
  journal = {Computer Graphics Forum}, volume = {38}, number = {2}, pages = {71--82}, year = {2019},
  doi = {10.1111/cgf.13620}
}""",
    ),
)
