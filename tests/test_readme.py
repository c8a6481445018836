"""The README's Python example does what its comments say."""

from pathlib import Path

from pages import python_blocks, run_blocks

README = Path(__file__).parent.parent / "README.md"


def test_python_example(tmp_path, monkeypatch):
    text = README.read_text(encoding="utf-8")
    section = text[text.index("## In Python") : text.index("## Your own data")]
    (code,) = python_blocks(section)
    monkeypatch.chdir(tmp_path)
    names = run_blocks([code])
    assert names["z"].shape == (2000, 2)
    assert names["log_p"].shape == names["error"].shape == (400,)
    rows = names["history"].rows
    assert rows[-1]["valid_loss"] < rows[0]["valid_loss"] - 1, "the example learns something"
    assert (tmp_path / "table.safetensors").stat().st_size > 1000
