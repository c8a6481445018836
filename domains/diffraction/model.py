"""The three distributions of patterns, and what they are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import Objective

from .settings import Diffraction

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["build", "objective"]


def build(settings: Diffraction, data: xr.Dataset) -> VAE:
    """The model of one kind of source."""
    if settings.source.kind == "powder":
        from . import powder_model

        return powder_model.build(settings, data)
    from . import optical_model

    return optical_model.build(settings, data)


def objective(settings: Diffraction, data: xr.Dataset) -> Objective:
    """What the model of one kind of source is trained on."""
    if settings.source.kind == "powder":
        from . import powder_model

        return powder_model.objective(settings, data)
    from . import optical_model

    return optical_model.objective(settings, data)
