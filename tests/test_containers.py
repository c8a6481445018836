"""Dockerfile, Apptainer definition and conda environment: what they say, and that what they copy can be installed.

They are not built here: that needs a daemon, or root, and a network.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

CHECKOUT = Path(__file__).parents[1]
FILES = ("Dockerfile", "sciencevae.def", "environment.yml")
INSTALL = re.compile(r"pip install [^\n]*(?:--constraint|-c) constraints\.txt torch \S*?(?:-e )?'?\.")

pytestmark = pytest.mark.skipif(not (CHECKOUT / "Dockerfile").is_file(), reason="not in a checkout")


def text(name: str) -> str:
    return (CHECKOUT / name).read_text(encoding="utf-8")


def project() -> dict:
    return tomllib.loads(text("pyproject.toml"))["project"]


def environment() -> tuple[list[str], list[str]]:
    """What environment.yml takes from conda, and from pip."""
    wanted = yaml.safe_load(text("environment.yml"))["dependencies"]
    return [each for each in wanted if isinstance(each, str)], next(
        each["pip"] for each in wanted if isinstance(each, dict)
    )


def pins() -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in text("constraints.txt").splitlines())
    return {name.lower(): version for name, _, version in (line.partition("==") for line in lines if line)}


def test_all_name_the_python_that_is_tested() -> None:
    (tested,) = re.findall(r"tested together \(Python ([\d.]+)\)", text("constraints.txt"))
    found = re.findall(r"python[:=]([\d.]+)", "".join(map(text, FILES)))
    assert found == [tested] * 3
    assert f"python{tested} -m venv" in text("README.md")
    assert project()["requires-python"] == f">={tested}"


def test_all_install_as_the_readme_says() -> None:
    for name in ("README.md", "Dockerfile", "sciencevae.def"):
        assert INSTALL.search(text(name)), name
        assert name == "README.md" or "pip check" in text(name)
    assert environment()[1] == ["--constraint constraints.txt", "torch", "-e .[slurm]"]
    assert "slurm" in project()["optional-dependencies"]


def test_no_registry_is_named_but_by_whoever_builds() -> None:
    for name in FILES:
        assert not re.search(r"https?://|pypi|anaconda\.org|ghcr|quay|docker\.io|download\.", text(name)), (
            name
        )


def test_the_image_is_run_by_no_root() -> None:
    users = re.findall(r"^USER (\S+)$", text("Dockerfile"), re.MULTILINE)
    assert users == ["scientist"]
    assert text("Dockerfile").index("USER scientist") < text("Dockerfile").index("ENTRYPOINT")
    assert "--uid 1000 scientist" in text("Dockerfile")


def copied(name: str) -> list[str]:
    """The files and folders that an image is made from."""
    if name == "Dockerfile":
        return [line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")]
    return re.findall(r"^ +(\S+) /opt/sciencevae/\1$", text(name), re.MULTILINE)


def test_both_images_are_made_from_the_same_files() -> None:
    assert sorted(copied("Dockerfile")) == sorted(copied("sciencevae.def"))
    assert len(copied("Dockerfile")) == 8


def test_what_is_copied_can_be_installed(tmp_path: Path) -> None:
    """The wheel that pip makes from these files alone is that of the whole checkout."""
    for name in copied("Dockerfile"):
        source = CHECKOUT / name
        ignored = shutil.ignore_patterns("__pycache__")
        if source.is_dir():
            shutil.copytree(source, tmp_path / "context" / name, ignore=ignored)
        else:
            (tmp_path / "context").mkdir(exist_ok=True)
            shutil.copy(source, tmp_path / "context")
    names = []
    for place in (tmp_path / "context", CHECKOUT):
        out = tmp_path / f"wheel of {place.name}"
        command = [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(out),
            str(place),
        ]
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
        names.append(
            {n for n in zipfile.ZipFile(next(out.glob("*.whl"))).namelist() if "__pycache__" not in n}
        )
    assert names[0] == names[1]


def test_pip_finds_versions_that_agree(tmp_path: Path) -> None:
    """Of what environment.yml asks of pip, by what is installed here: no network is asked."""
    requirements = tmp_path / "requirements.txt"
    # without -e, for which the build's own back end would have to be installed here
    wanted = "\n".join(environment()[1]).replace("-e .", ".")
    requirements.write_text(wanted.replace("constraints.txt", str(CHECKOUT / "constraints.txt")))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-build-isolation"]
    command += ["--disable-pip-version-check", "--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    if "No matching distribution" in done.stderr:
        missing = done.stderr.strip().splitlines()[-1]
        pytest.skip(f"this environment was not made by constraints.txt: {missing}")
    assert done.returncode == 0, done.stderr


def test_every_pin_is_within_its_range_and_every_range_has_one() -> None:
    known = pins()
    extras = project()["optional-dependencies"].values()
    ranges = [*project()["dependencies"], *(each for extra in extras for each in extra)]
    for requirement in map(Requirement, ranges):
        assert requirement.name.lower() in known, requirement
        assert requirement.specifier.contains(known[requirement.name.lower()], prereleases=True), requirement


@pytest.mark.parametrize("command", [["docker", "build", "--check", "."], ["hadolint", "Dockerfile"]])
def test_a_linter_of_dockerfiles_has_no_complaint(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    if command[0] == "docker" and re.search(r"daemon|buildx|unknown flag", done.stderr):
        pytest.skip("no docker daemon here")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_constraints_are_a_lock() -> None:
    """All that an installation brings along, down to the last package, has its version pinned."""
    from importlib import metadata

    known = {re.sub(r"[-_.]+", "-", name) for name in pins()}
    open_, seen = [Requirement("sciencevae[slurm]")], set()
    while open_:
        requirement = open_.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        extras = requirement.extras or {""}
        if (name, *sorted(extras)) in seen or re.match(r"nvidia-|cuda-|triton$|setuptools$", name):
            continue
        seen.add((name, *sorted(extras)))
        assert name in known | {"sciencevae"}, f"{name} has no pin"
        for text_ in metadata.requires(requirement.name) or []:
            found = Requirement(text_)
            if found.marker is None or any(found.marker.evaluate({"extra": extra}) for extra in extras):
                open_.append(found)
    assert len(seen) > 90
