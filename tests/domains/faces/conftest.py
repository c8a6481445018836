"""Drawn faces, small, and one run of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sciencevae.config import load
from sciencevae.registry import domain
from sciencevae.runs import Run, configure

SMALL = [
    "source={people: 50, size: 128}",
    "prepare={size: 48, fractions: {train: 0.7, valid: 0.1, test: 0.2}}",
    "model={latent: 4, channels: [8, 16, 32], hidden: 32, grid: 16, modes: 4, scale: 0.05}",
    "training.epochs=50",
    "analyse={oracle_steps: 60, draws: 500}",
    "variants={anew: {model: {kind: plain}, training: {epochs: 10}}}",
]


@pytest.fixture(scope="session")
def faces_run(tmp_path_factory: pytest.TempPathFactory, do_all_stages: Callable[[Run], Run]) -> Run:
    """All stages on forty drawn people. Look, don't change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIENCEVAE_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder: Path = tmp_path_factory.mktemp("faces") / "run"
        faces = domain("faces")
        return do_all_stages(configure(folder, faces, load(faces, overrides=SMALL)))
