"""The run configuration: what is refused, in one line, and what a changed setting touches."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sciencevae.cli import main
from sciencevae.config import digest, load, read_yaml
from sciencevae.errors import InputError, RunError
from sciencevae.registry import domain
from sciencevae.runs import Run, configure, read_json, write_json


def settings(*overrides: str, config: str | None = None) -> Any:
    return load(domain("toy"), config, overrides)


def test_overrides_are_typed_and_nested() -> None:
    found = settings("training.learning_rate=1e-2", "model.hidden=[4, 4]", "variants.wide.model.latent=3")
    assert found.training.learning_rate == 0.01
    assert found.model.hidden == (4, 4)
    assert found.variant("wide").model.latent == 3
    assert found.variant("wide").model.hidden == (16,)  # from the file: mappings merge
    assert found.variant("main").model.latent == 1
    assert found.variant_names() == ["main", "wide", "turned"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trainig.epochs=3", "unknown key 'trainig'; did you mean 'training'?"),
        ("training.epoch=3", "unknown key 'training.epoch'; did you mean 'epochs'?"),
        (
            "variants.wide.model.hiden=[3]",
            "variant 'wide': unknown key 'model.hiden'; did you mean 'hidden'?",
        ),
        (
            "variants.wide.analyse.slow=0.1",
            "variant 'wide': analyse.slow: the sections analyse and report are shared by all variants",
        ),
        ("training.epochs=many", "training.epochs: expected a valid integer"),
        ("training.epochs=0", "training.epochs: expected greater than or equal to 1, found 0 (int)"),
        ("model.hidden=[3, x]", "model.hidden.1: expected a valid integer"),
        ("source.angle=.nan", "source.angle: expected a finite number, found nan"),
        ("training.learning_rate=.inf", "training.learning_rate: expected a finite number, found inf"),
        ("training.seed=3", "training.seed: a run has one seed: set seed"),
        ("seed=-1", "seed: expected greater than or equal to 0, found -1 (int)"),
        ("epochs", "write it as key=value"),
        ("training.epochs=[1", "not valid YAML"),
        ("variants.main={}", "'main' is taken"),
        ("variants.a/b={}", "a variant is named by letters"),
        ("model=3", "model: "),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_key(override: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        settings(override)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_configuration_is_a_name_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("training: {epochs: 7, learning_rate: 5e-4}\n")
    found = settings(config=str(file))
    assert (found.training.epochs, found.training.learning_rate) == (7, 5e-4)
    with pytest.raises(InputError, match="no configuration 'confg'; did you mean 'config'"):
        settings(config="confg")
    assert settings(config="config.yaml") == settings(config="config")
    with pytest.raises(InputError, match="no configuration file"):
        settings(config=str(tmp_path / "absent.yaml"))
    with pytest.raises(InputError, match="unknown domain 'toyy'; did you mean 'toy'"):
        domain("toyy")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1", "not valid YAML"),
        ("seed: 1\nseed: 2", "'seed' is written twice"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("- 1", "a configuration is a mapping"),
    ],
)
def test_bad_yaml_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=says):
        settings(config=str(file))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read"):
        read_yaml(file)


def test_the_schema_is_json() -> None:
    schema = domain("toy").settings.model_json_schema()
    assert {"source", "training", "variants"} <= set(json.loads(json.dumps(schema))["properties"])


def _configured(folder: Path, *overrides: str) -> dict[str, int]:
    """When each file of the settings was last written."""
    configure(folder, domain("toy"), settings(*overrides))
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in (folder / "config").rglob("*.json")}


def _touched(folder: Path, *overrides: str) -> set[str]:
    before = _configured(folder)
    for path in (folder / "config").rglob("*.json"):
        os.utime(path, ns=(0, 0))
    after = _configured(folder, *overrides)
    assert set(before) <= set(after)
    return {name for name, time in after.items() if time} - {"config/run.json", "config/workflow.json"}


@pytest.mark.parametrize(
    ("override", "touched"),
    [
        ("training.threads=2", set()),
        ("training.checkpoint_seconds=5", set()),
        ("report.title=other", {"report.json"}),
        ("analyse.slow=0.1", {"analyse.json"}),
        ("model.latent=2", {"main/train.json", "wide/train.json", "turned/train.json"}),
        ("variants.wide.model.latent=2", {"wide/train.json"}),
        ("training.epochs=4", {"main/train.json", "wide/train.json", "turned/train.json"}),
    ],
)
def test_a_changed_setting_touches_what_depends_on_it(
    tmp_path: Path, override: str, touched: set[str]
) -> None:
    assert _touched(tmp_path / "run", override) == {f"config/{name}" for name in touched}


def test_changed_data_settings_make_new_data_and_new_models(tmp_path: Path) -> None:
    touched = _touched(tmp_path / "run", "source.angle=0.7")
    prepared = {name for name in touched if name.startswith("config/prepare/")}
    assert len(prepared) == 1  # 'turned' has an angle of its own
    assert touched - prepared == {"config/main/train.json", "config/wide/train.json"}


def test_variants_with_equal_data_share_them(tmp_path: Path) -> None:
    run = configure(tmp_path / "run", domain("toy"), settings())
    main, wide, turned = run.variants.values()
    assert main.key == wide.key != turned.key


def test_the_folder_says_whose_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    configure(folder, domain("toy"), settings())
    plain = read_json(folder / "config" / "run.json")
    write_json(folder / "config" / "run.json", plain | {"domain": "other"})
    with pytest.raises(InputError, match="holds a run of domain 'other'"):
        configure(folder, domain("toy"), settings())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(InputError, match="is no run folder"):
        configure(tmp_path / "full", domain("toy"), settings())
    assert main(["run", "toy", "--out", str(tmp_path / "full")]) == 2
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]  # not even a lock
    with pytest.raises(InputError, match="is not a run folder"):
        Run(tmp_path)
    (folder / "config" / "run.json").write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        Run(folder)


def test_a_digest_knows_equal_values() -> None:
    assert digest({"a": 1, "b": [1.0]}) == digest({"b": [1.0], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
