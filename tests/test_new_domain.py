"""Adding a domain as the README says, from an empty folder, word for word; and one in a package."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def _files(text: str) -> dict[str, str]:
    """The files that the section shows: a path in backticks at the end of a paragraph, then its content."""
    shown = re.findall(r"`(my_domains/[^`]+)`[^`]*?:\n\n```\w+\n(.*?)```", text, re.DOTALL)
    shown += re.findall(r"`(my_domains/[^`]+)`, [^\n]*:\n\n```\w+\n(.*?)```", text, re.DOTALL)
    return dict(shown)


@pytest.fixture(scope="module")
def section() -> str:
    return re.split(
        r"^## ", README.read_text(encoding="utf-8").split("## Add a domain")[1], flags=re.MULTILINE
    )[0]


def _environment() -> dict[str, str]:
    """Without the domains of these tests, and with ``sciencevae`` on the path."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SCIENCEVAE_")}
    return env | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"}


def test_the_readme_makes_a_domain_from_an_empty_folder(section: str, tmp_path: Path) -> None:
    files = _files(section)
    assert set(files) == {"my_domains/rings/__init__.py", "my_domains/rings/config.yaml"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (commands,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=tmp_path, env=_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "runs/rings/report.html" in done.stdout
    metrics = json.loads((tmp_path / "runs" / "rings" / "metrics.json").read_text())
    assert metrics["radius"]["spearman"] > 0.9
    assert (tmp_path / "runs" / "rings" / "figures" / "latent.svg").is_file()


def test_a_package_brings_a_domain_by_its_entry_point(section: str, tmp_path: Path) -> None:
    """An installed package is a folder and its metadata on the path."""
    folder = tmp_path / "ring_package" / "rings"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    for name, content in _files(section).items():
        (folder / Path(name).name).write_text(content)
    metadata = tmp_path / "ring_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ring-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[sciencevae.domains]\nrings = ring_package.rings:DOMAIN\n")
    env = _environment() | {"PYTHONPATH": str(tmp_path)}
    for arguments, says in (
        (["domains"], "Rings: points on rings"),
        (["config", "show", "rings"], "epochs: 30"),
        (["run", "rings", "--dry-run"], "would run train"),
    ):
        done = subprocess.run(
            ["sciencevae", *arguments], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert says in done.stdout, done.stderr


def test_a_domain_that_does_not_load_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("import no_such_module\n")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "__init__.py").write_text("DOMAIN = 3\n")
    env = _environment() | {"SCIENCEVAE_DOMAINS": str(tmp_path)}
    for name, code, says in (
        ("broken", 1, "no_such_module"),
        ("odd", 2, "must be a sciencevae.registry.Domain"),
    ):
        done = subprocess.run(
            ["sciencevae", "run", name], env=env, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == code
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
