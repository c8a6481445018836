"""Configurations that try to run code, to grow, or to name what is not theirs to name."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sciencevae.cli import main
from sciencevae.config import load, read_yaml
from sciencevae.errors import InputError
from sciencevae.registry import domain

CODE = [
    "!!python/object/apply:pathlib.Path.touch [{ran}]",
    "!!python/object/new:os.system ['touch {ran}']",
    "!!python/object/apply:os.system ['touch {ran}']",
    "!!python/object/apply:builtins.eval [\"open('{ran}', 'w')\"]",
    "!!python/module:antigravity",
    "!!python/name:os.system",
    "!!python/object:subprocess.Popen {{args: [touch, {ran}]}}",
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {ran}']",
    "%TAG ! tag:yaml.org,2002:python/\n---\n!object/apply:os.system ['touch {ran}']",
]


@pytest.mark.parametrize("code", CODE)
def test_a_configuration_runs_no_code(tmp_path: Path, code: str) -> None:
    text = code.format(ran=tmp_path / "ran")
    path = tmp_path / "evil.yaml"
    for whole in (text, f"training:\n  epochs: {text}" if "---" not in text else text):
        path.write_text(whole)
        with pytest.raises(InputError, match="not valid YAML"):
            load(domain("toy"), str(path))
    assert main(["configure", "toy", "--set", f"seed={text}", "--out", str(tmp_path / "run")]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.yaml"]


def laughs(depth: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"[: depth + 1]
    lines = [f"{letters[0]}: &{letters[0]} [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in pairwise(letters)]
    return "\n".join(lines)


def merges(depth: int) -> str:
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, depth)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text", [laughs(9), laughs(25), merges(9), "&a [*a]", "&a {b: *a}", "a: &a\n  <<: *a"]
)
def test_aliases_make_no_bomb(tmp_path: Path, bounded: Callable[..., Any], text: str) -> None:
    (tmp_path / "bomb.yaml").write_text(text)
    with bounded(seconds=15, megabytes=64), pytest.raises(InputError, match=r"aliases written out.*100,000"):
        read_yaml(tmp_path / "bomb.yaml")


def test_aliases_that_make_little_are_what_they_were(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}, {"x": 1}]}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        "? [a]\n: b",
        "{{a: b}: c}",
        "a: 2001-99-99",
        "a: 2001-01-01T99:99:99Z",
        "a: " + "1" * 5000,
        "a: " + "1" * 1_000_000,
        "a: " + "1_" * 500_000 + "e",
        "!!int x",
        "!!float x",
        "!!bool x",
        "!!binary 'é'",
        "!!timestamp x",
        "\0",
        "\ud800".encode("utf-16", "surrogatepass").decode("latin-1"),
        "*nobody",
        "---\n---\n",
        "a: 'open",
        "@",
    ],
)
def test_what_is_malformed_is_one_line(tmp_path: Path, bounded: Callable[..., Any], text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with bounded(seconds=15, megabytes=256), pytest.raises(InputError) as refused:
        load(domain("toy"), str(tmp_path / "a.yaml"))
    assert "\n" not in str(refused.value)


def test_a_large_file_is_no_configuration(tmp_path: Path) -> None:
    with (tmp_path / "a.yaml").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(InputError, match="more than 4 MiB"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e400"])
def test_numbers_that_are_none(value: str) -> None:
    with pytest.raises(InputError):
        load(domain("toy"), overrides=[f"training.learning_rate={value}"])


@pytest.mark.parametrize(
    "name",
    ["../../x", "a/b", "..", ".", "-rf", "$(touch x)", "a;b", "a b", "a\nb", "a{x}", "`x`", "", "main", "*"],
)
def test_a_variant_is_no_path_and_no_word_of_a_shell(name: str) -> None:
    plain = name.replace("\n", "\\n").replace("`", "\\x60")
    with pytest.raises(InputError, match="variant"):
        load(domain("toy"), overrides=[f'variants={{"{plain}": {{}}}}'])


def test_an_unknown_key_is_told_its_neighbour_and_nothing_more() -> None:
    with pytest.raises(InputError, match="unknown key"):
        load(domain("toy"), overrides=["__class__.__init__=1"])
    with pytest.raises(InputError, match="unknown key"):
        load(domain("toy"), overrides=["training.model_config={}"])
