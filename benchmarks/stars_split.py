"""The Gaia fields of the benchmarks: every other one, by name, may choose settings; the rest are only scored."""

from __future__ import annotations

__all__ = ["CHOSEN_ON", "FIELDS", "SCORED_ONLY", "half_of"]

FIELDS = (
    "Berkeley_17",
    "Berkeley_29_deep",
    "Berkeley_31",
    "Berkeley_32",
    "Berkeley_73_deep",
    "Haffner_6",
    "IC_1590",
    "King_8",
    "M103",
    "M36",
    "NGC1193",
    "NGC1502",
    "NGC1798",
    "NGC1817",
    "NGC1980",
    "NGC2192",
    "NGC2204",
    "NGC2236",
    "NGC2301",
    "NGC2324",
    "NGC2354",
    "NGC2420",
    "NGC2423",
    "NGC2509",
    "NGC3293",
    "NGC3680",
    "NGC609",
    "NGC6834",
    "Saurer_1_deep",
    "Tombaugh_2",
    "nocluster_ra45_dec0",
)
CHOSEN_ON = FIELDS[::2]
SCORED_ONLY = FIELDS[1::2]


def half_of(field: str) -> str:
    """``chosen-on`` or ``scored-only``."""
    return "chosen-on" if field in CHOSEN_ON else "scored-only"
