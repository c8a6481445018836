"""The README's example for a table of one's own, word for word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

README = Path(__file__).parents[3] / "domains" / "tables" / "README.md"


def test_the_readme_finds_the_row_that_breaks_the_relation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = README.read_text(encoding="utf-8").split("## Your own data")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (commands,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README", "exec"), {})
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-euc", commands], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = pd.read_parquet("runs/table/scores.parquet")
    assert run.loc[run["score"].idxmax(), "id"] == "star-17"
    parts = run.filter(like="contribution.")
    excess = (parts.iloc[17] - parts.median()).nlargest(2).index
    assert {"contribution.mass", "contribution.luminosity"} & set(excess)
    scored = pd.read_parquet("scores.parquet")
    assert scored.loc[scored["score"].idxmax(), "id"] == "star-17"
    np.testing.assert_allclose(
        scored.filter(like="contribution.").sum(axis=1), scored["score"], rtol=1e-3, atol=1e-3
    )
