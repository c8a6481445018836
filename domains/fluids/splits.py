"""Runs, or stretches of one run, as train, valid and test: no run is cut, and stretches have gaps between them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sciencevae.data.splits import UNUSED, assign, time_blocks
from sciencevae.errors import InputError, did_you_mean

from .settings import Prepare

__all__ = ["split_of"]


def split_of(
    runs: int, steps: int, parameters: Mapping[str, np.ndarray], settings: Prepare
) -> tuple[np.ndarray, np.ndarray]:
    """The split and the group of each frame, (runs, steps) each.

    Several runs: a run is a group; those with a held-out value of a parameter are test, the others are dealt out by
    ``fractions``. A single run: ``blocks`` times train, valid, test follow each other in time, more than window +
    horizon frames of no split between any two; a stretch is a group.
    """
    if runs > 1:
        split = _by_run(runs, parameters, settings)
        return np.repeat(split[:, None], steps, 1), np.repeat(np.arange(runs)[:, None], steps, 1)
    if settings.held_out:
        raise InputError("prepare.held_out holds out whole runs, and there is one: use prepare.blocks")
    gap = settings.window + settings.horizon + 1
    split = np.full((1, steps), UNUSED, np.int8)
    group = np.zeros((1, steps), np.int64)
    edges = np.linspace(0, steps + gap, settings.blocks + 1).astype(int)
    for k, (start, stop) in enumerate(zip(edges[:-1], edges[1:] - gap, strict=True)):
        try:
            part = time_blocks(
                stop - start, settings.fractions, window=settings.window, horizon=settings.horizon + 1
            )
        except InputError as error:
            raise InputError(
                f"prepare.blocks={settings.blocks} of {steps} frames, window + horizon = {gap - 1}: {error}"
            ) from error
        split[0, start:stop] = part
        group[0, start:stop] = 3 * k + part
    group[split == UNUSED] = UNUSED
    return split, group


def _by_run(runs: int, parameters: Mapping[str, np.ndarray], settings: Prepare) -> np.ndarray:
    fractions = settings.fractions
    if not settings.held_out:
        return assign(np.arange(runs), fractions, settings.split_seed)
    held = np.zeros(runs, bool)
    for name, values in settings.held_out.items():
        if name not in parameters:
            raise InputError(f"prepare.held_out: no parameter {name!r}{did_you_mean(name, parameters)}")
        for value in values:
            found = np.isclose(parameters[name], value)
            if not found.any():
                known = np.unique(parameters[name]).tolist()
                raise InputError(f"prepare.held_out: no run has {name}={value:g}; there are {known}")
            held |= found
    split = np.full(runs, 2, np.int8)
    rest = {name: fractions.get(name, 0.0) for name in ("train", "valid")}
    total = sum(rest.values())
    shares = {name: share / total for name, share in rest.items()}
    split[~held] = assign(np.flatnonzero(~held), shares, settings.split_seed)
    return split
