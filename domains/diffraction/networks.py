"""Networks of this domain, so that a saved model's classes are known: those of both kinds of source."""

from __future__ import annotations

from .optical_networks import Aperture, Leading, PointSources, Stabilised

__all__ = ["Aperture", "Leading", "PointSources", "Stabilised"]
