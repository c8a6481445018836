"""Objects on a table: poses learnt in simulation, read from realistic pictures with few labels."""

from sciencevae.registry import Domain, lazy

from .settings import Objects

__all__ = ["DOMAIN"]

own = lazy(__name__)

DOMAIN = Domain(
    name="objects",
    title="Objects",
    summary="where an object lies, learnt in simulation and read from realistic pictures",
    settings=Objects,
    prepare=own("dataset.prepare"),
    keeps_data=True,
    input_files=own("own.own_files"),
    build=own("model.build"),
    objective=own("model.objective"),
    augment=own("views.augment"),
    refit=own("model.refit"),
    read=own("dataset.read"),
    write=own("dataset.write"),
    formats=(".csv",),
    spreads=True,
    analyses={name: own(f"analysis.{name}") for name in ("poses",)},
    figures={name: own(f"figures.{name}") for name in ("twins", "errors")},
)
