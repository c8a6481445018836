"""The name of a domain's code changes with the code that a stage runs, and with no other."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from sciencevae.errors import RunError
from sciencevae.registry import domain, domains, lazy
from sciencevae.sources import _source, code_digest

MODULES = {
    "__init__": "from .settings import Settings",
    "settings": "class Settings: ...",
    "dataset": "from . import units\nfrom .settings import Settings\nimport numpy.linalg\n",
    "units": "def _(): from .constants import C\n",
    "constants": "C = 299792458",
    "model": "import a_package.networks\n",
    "networks": "raise ImportError('imported')",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    place = tmp_path / "a_package"
    place.mkdir()
    for name, text in MODULES.items():
        (place / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("a_package")
    yield place
    for name in [n for n in sys.modules if n.partition(".")[0] == "a_package"]:
        del sys.modules[name]


def _digests() -> dict[str, str]:
    own = lazy("a_package")
    _source.cache_clear()
    functions = {"prepare": [own("dataset.prepare"), None], "train": [own("model.build")], "none": [None]}
    return {stage: code_digest(chosen) for stage, chosen in functions.items()}


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        ("dataset", {"prepare"}),
        ("units", {"prepare"}),
        ("constants", {"prepare"}),
        ("model", {"train"}),
        ("networks", {"train"}),
        ("settings", set()),
        ("__init__", set()),
    ],
)
def test_a_stage_has_another_name_where_a_module_it_runs_changes(
    folder: Path, module: str, changed: set[str]
) -> None:
    before = _digests()
    assert _digests() == before
    with (folder / f"{module}.py").open("a") as file:
        file.write("\n# other\n")
    after = _digests()
    assert {stage for stage in before if before[stage] != after[stage]} == changed


def test_a_module_that_moves_and_a_domain_in_one_file(folder: Path) -> None:
    before = _digests()
    (folder / "constants").mkdir()
    (folder / "constants.py").rename(folder / "constants" / "__init__.py")
    assert _digests() == before  # a module may become a folder
    assert domain("toy").code("prepare") == domain("toy").code("report")


def test_a_partial_function_counts_as_the_one_it_calls(folder: Path) -> None:
    prepare = lazy("a_package")("dataset.prepare")
    assert code_digest([partial(partial(prepare, 1), 2)]) == code_digest([prepare])
    assert code_digest([prepare]) != code_digest([None])


def test_a_package_without_init_has_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_namespace").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_namespace" / "rings.py").write_text("def prepare(): ...")
    prepare = importlib.import_module("a_namespace.rings").prepare
    assert code_digest([prepare]) != code_digest([None])


def test_an_error_of_syntax_is_named(folder: Path) -> None:
    (folder / "units.py").write_text("C = 1\ndef (")
    with pytest.raises(RunError, match=r"units.py, line 2: invalid syntax: mend it"):
        _digests()


def test_each_domain_of_ours_has_code_of_its_own_for_each_stage() -> None:
    for name in set(domains()) - {"toy", "twin"}:
        found = [domain(name).code(stage) for stage in ("prepare", "train", "analyse", "report")]
        assert len(set(found)) == 4
