"""Tables: rows that are unlike the others, and the columns that say so."""

from sciencevae.registry import Domain, lazy

from .settings import Tables

__all__ = ["DOMAIN"]

own = lazy(__name__)

DOMAIN = Domain(
    name="tables",
    title="Anomalies in a table",
    summary="rows of any table that are unlike the others, and the columns in which they are",
    settings=Tables,
    prepare=own("dataset.prepare"),
    read=own("dataset.read"),
    write=own("dataset.write"),
    formats=(".csv", ".parquet"),
    build=own("model.build"),
    objective=own("model.objective"),
    analyses={name: own(f"analysis.{name}") for name in ("columns", "anomalies", "detection")},
    figures={name: own(f"figures.{name}") for name in ("scores", "top_anomalies", "latent_map")},
    about=own("about.about"),
)
