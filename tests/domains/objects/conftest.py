"""Pictures of objects, few, and one run on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sciencevae.config import load
from sciencevae.registry import domain
from sciencevae.runs import Run, configure

SMALL = [
    "source={plain: 60, randomised: 160, realistic: 40, unseen: 4, samples: 4}",
    "prepare={labelled: 6, unlabelled: 12, valid: 6, test: 12, plain: 50}",
    "model={latents: 3, channels: [8, 12, 16], points: [8, 8, 16], hidden: 32}",
    "training={epochs: 3, batch_size: 32}",
    "analyse={samples: 4, draws: 200}",
    "variants={tuned: {model: {kind: regress}, prepare: {unlabelled: 0, targets: poses}, "
    "objective: {realistic: 0.0}, refit: {tune: true, training: {epochs: 5, batch_size: 6}}}}",
]


@pytest.fixture(scope="session")
def objects_run(tmp_path_factory: pytest.TempPathFactory, do_all_stages: Callable[[Run], Run]) -> Run:
    """All stages on few pictures. Look, don't change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIENCEVAE_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder: Path = tmp_path_factory.mktemp("objects") / "run"
        objects = domain("objects")
        return do_all_stages(configure(folder, objects, load(objects, overrides=SMALL)))
