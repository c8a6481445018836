"""The README's Python example does what its comments say."""

import re
from pathlib import Path

import torch

README = Path(__file__).parent.parent / "README.md"


def test_python_example(tmp_path, monkeypatch):
    text = README.read_text(encoding="utf-8")
    section = text[text.index("## In Python") : text.index("## Your own data")]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict = {}
    exec(code, names)
    assert names["z"].shape == (2000, 2)
    assert names["log_p"].shape == names["error"].shape == (400,)
    rows = names["history"].rows
    assert rows[-1]["valid_loss"] < rows[0]["valid_loss"] - 1, "the example learns something"
    assert (tmp_path / "table.safetensors").stat().st_size > 1000
