"""The wheel holds all that the checkout has: domains, workflows, manifests, templates."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


def _run(*command: str | Path, cwd: Path) -> str:
    """What a command prints, without anything of this process' environment that names the checkout."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SCIENCEVAE_", "PYTHON"))}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, CHECKOUT, cwd=folder)
    return next(folder.glob("*.whl"))


def test_it_holds_what_a_run_needs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for part in (
        "sciencevae/builtin/xy/config.yaml",
        "sciencevae/builtin/stars/config.yaml",
        "sciencevae/workflows/Snakefile",
        "sciencevae/workflows/rules/train.smk",
        "sciencevae/workflows/profiles/slurm/config.yaml",
        "sciencevae/workflows/slurm/train.sbatch",
        "sciencevae/data_manifests/hipparcos.yaml",
        "sciencevae/report/templates/report.html.j2",
    ):
        assert part in names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests/", "benchmarks/"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_runs_from_elsewhere_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """A fresh environment that sees the tested dependencies, but not this checkout's editable install:
    a path in a .pth file is searched, and the .pth files that lie there are not."""
    venv, elsewhere = tmp_path / "venv", tmp_path / "elsewhere"
    elsewhere.mkdir()
    _run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    python = venv / "bin" / "python"
    site = Path(
        _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(dependencies)))
    _run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--quiet",
        wheel,
        cwd=tmp_path,
    )

    where = _run(python, "-c", "import sciencevae; print(sciencevae.__file__)", cwd=elsewhere)
    assert Path(where.strip()).is_relative_to(site)
    command = venv / "bin" / "sciencevae"
    listed = _run(command, "domains", cwd=elsewhere)
    ours = sorted(path.parent.name for path in CHECKOUT.glob("domains/*/__init__.py"))
    assert [line.split()[0] for line in listed.splitlines()[: len(ours)]] == ours
    assert "molecules-qm9" in listed.splitlines()[-1]
    (elsewhere / "mine.smi").write_text("CCO ethanol\n")
    _run(command, "encode", "--model", "molecules-qm9", "mine.smi", "-o", "z.parquet", cwd=elsewhere)
    _run(command, "decode", "--model", "molecules-qm9", "z.parquet", "-o", "back.smi", cwd=elsewhere)
    assert (elsewhere / "back.smi").read_text() == "CCO ethanol\n"
    assert "hipparcos" in _run(command, "datasets", cwd=elsewhere)
    planned = _run(command, "run", "xy", "--dry-run", cwd=elsewhere)
    assert "would run train" in planned
    assert "would run report" in planned
