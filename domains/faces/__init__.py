"""Faces: expressions edited by flow, so that a picture keeps its own pixels."""

from sciencevae.registry import Domain, lazy

from .settings import Faces

__all__ = ["DOMAIN"]

own = lazy(__name__)

DOMAIN = Domain(
    name="faces",
    title="Faces",
    summary="neutral to smiling and back, as smooth deformations of a person's own picture",
    settings=Faces,
    prepare=own("dataset.prepare"),
    input_files=own("own.own_files"),
    build=own("model.build"),
    objective=own("model.objective"),
    augment=own("model.augment"),
    refit=own("model.refit"),
    read=own("dataset.read"),
    about=own("about.about"),
    edit=own("editing.edit"),
    analyses={name: own(f"analysis.{name}") for name in ("editing", "expression")},
    figures={name: own(f"figures.{name}") for name in ("strip", "back", "fields", "latents")},
)
