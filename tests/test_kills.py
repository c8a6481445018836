"""A few of ``benchmarks/kills.py``: pipelines killed by -9 at random moments complete, and come out the same."""

from __future__ import annotations

from pathlib import Path

from benchmarks.kills import killed_pipelines


def test_pipelines_that_are_killed_complete_and_come_out_the_same(tmp_path: Path) -> None:
    found = killed_pipelines(tmp_path, kills=4, seed=0)
    assert found["kills"] >= 4
    assert found["wrong"] == []
