"""What the tests of several domains share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sciencevae import stages
from sciencevae.runs import Run


@pytest.fixture(scope="session")
def do_all_stages() -> Callable[[Run], Run]:
    """From the raw files to the report, as the workflow does it; data that variants share are prepared once."""

    def do(run: Run) -> Run:
        done = set()
        for variant in run.variants.values():
            if variant.key not in done:
                stages.fetch(run, variant)
                stages.prepare(run, variant)
                done.add(variant.key)
            stages.train(run, variant)
            stages.encode(run, variant)
        stages.analyse(run)
        stages.report(run)
        return Run(run.folder)

    return do
