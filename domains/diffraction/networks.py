"""Networks of this domain, so that a saved model's classes are known: those of both kinds of source."""

from __future__ import annotations

from .optical_networks import Intensity, Leading, PointSources, Stabilised

__all__ = ["Intensity", "Leading", "PointSources", "Stabilised"]
