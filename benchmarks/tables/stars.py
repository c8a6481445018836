"""The domain of stars."""

from __future__ import annotations

from benchmarks.tables import Result


def stars_recovery(result: Result) -> str:
    """False alarms, recovery and calibration on fields with a known truth."""
    from benchmarks.stars_recovery import table

    return table(result)


def stars_latents(result: Result) -> str:
    """Where candidates come from."""
    from benchmarks.stars_latents import table

    return table(result)


def stars_fields(result: Result) -> str:
    """Members in Gaia fields by every method."""
    from benchmarks.stars_fields import summary

    return summary(result)
