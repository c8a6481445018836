"""What can be set about X-ray powder patterns."""

from __future__ import annotations

from typing import Literal

from sciencevae.config import Section

__all__ = ["Powder"]


class Powder(Section):
    """Patterns of powders."""

    kind: Literal["powder"] = "powder"
