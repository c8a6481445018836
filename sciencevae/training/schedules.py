"""Scalars that change with the training step: β, a term's weight, the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sciencevae.errors import InputError

__all__ = ["Constant", "Cyclic", "Schedule", "WarmUp", "WarmUpCosine", "as_schedule"]


@dataclass(frozen=True)
class Schedule:
    """Contract: ``schedule(step)`` is the value at that step, ``final`` the one at the end."""

    def __call__(self, step: int) -> float:
        raise NotImplementedError

    @property
    def final(self) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """One value at every step."""

    value: float

    def __call__(self, step: int) -> float:
        return self.value

    @property
    def final(self) -> float:
        return self.value


@dataclass(frozen=True)
class WarmUp(Schedule):
    """From ``start`` to ``end`` in a straight line over ``steps`` steps, then ``end``; Bowman et al. 2016."""

    end: float
    steps: int
    start: float = 0.0

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * min(1.0, step / max(1, self.steps))

    @property
    def final(self) -> float:
        return self.end


@dataclass(frozen=True)
class Cyclic(Schedule):
    """``cycles`` ramps from 0 to ``end`` within ``steps``, each rising over its first half; Fu et al. 2019."""

    end: float
    steps: int
    cycles: int = 4

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.end
        length = self.steps / self.cycles
        return self.end * min(1.0, 2 * (step % length) / length)

    @property
    def final(self) -> float:
        return self.end


@dataclass(frozen=True)
class WarmUpCosine(Schedule):
    """A rise over ``warmup`` steps to ``peak``, then half a cosine down to ``floor`` at step ``total``."""

    peak: float
    total: int
    warmup: int = 0
    floor: float = 0.0

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))
        return self.floor + (self.peak - self.floor) * 0.5 * (1 + math.cos(math.pi * done))

    @property
    def final(self) -> float:
        return self.floor


def as_schedule(value: float | Schedule) -> Schedule:
    """A number as the schedule that never changes."""
    if isinstance(value, Schedule):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(
            f"a schedule is a finite number, or one of schedules.WarmUp, Cyclic …; not {value!r}"
        )
    return Constant(float(value))
