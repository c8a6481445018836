"""Several seeds of one small model, trained in one vectorised step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from sciencevae.errors import InputError
from sciencevae.training.history import History
from sciencevae.training.loop import Loop
from sciencevae.training.progress import Report
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import Objective

__all__ = ["fit_ensemble"]


def fit_ensemble(
    build: Callable[[], VAE],
    train: Any,
    seeds: Sequence[int],
    objective: Objective | None = None,
    valid: Any = None,
    settings: TrainingSettings | None = None,
    run: str | Path | None = None,
    resume: bool = True,
    progress: bool | Report | None = None,
) -> tuple[list[VAE], list[History]]:
    """Train one model a seed in one vectorised step, and return them with their histories.

    ``build()`` is called once for each seed under ``torch.manual_seed(seed)``. The member of a seed sees the
    data in the order, and the noise, of ``fit`` with ``settings.seed`` equal to it, and stops by its own
    validation: it is the model that ``fit`` would give, up to rounding. The other arguments are those of ``fit``.

    Raises InputError for repeated seeds and for an objective with parameters of its own.
    """
    seeds = list(seeds)
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"an ensemble needs different seeds, at least one; found {seeds}")
    if objective is not None and any(True for _ in objective.parameters()):
        raise InputError("an ensemble can't share an objective that has parameters: fit its members singly")
    models = []
    with torch.random.fork_rng():
        for seed in seeds:
            torch.manual_seed(seed)
            models.append(build())
    loop = Loop(models, train, objective, valid, settings, seeds)
    return models, loop.run(run, resume, progress)
