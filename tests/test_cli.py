"""The command line: quick, one line for what is wrong, and the right exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sciencevae.cli import main, parser


def run(*arguments: str | Path) -> int:
    """The exit code of the command, in this process."""
    try:
        return main([*map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)


def _seconds(*command: str) -> float:
    """The best of several, which is what the code costs on a machine that others use too."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return min(times)


def test_help_and_import_are_quick() -> None:
    assert _seconds(sys.executable, "-c", "import sciencevae") <= 0.3
    assert _seconds(sys.executable, "-m", "sciencevae", "--help") <= 0.5


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, contextlib, io\n"
        "from sciencevae.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main(['--help'])\n"
        "heavy = {'torch', 'numpy', 'pandas', 'xarray', 'dask', 'matplotlib', 'pydantic', 'rich', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_loads() -> None:
    import sciencevae as sv

    assert all(getattr(sv, name) is not None for name in sv.__all__)
    assert set(sv.__all__) <= set(dir(sv))
    with pytest.raises(AttributeError, match="no attribute 'Vae'"):
        _ = sv.Vae


def test_every_verb_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    verbs = next(a for a in parser()._actions if a.choices and "run" in a.choices).choices
    assert verbs is not None
    for name in verbs:
        assert run(name, "--help") == 0
        assert f"example:\n  sciencevae {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rnu", "xy"], "unknown command 'rnu'; did you mean 'run'?"),
        (["run"], "name one domain or several, or --all"),
        (["run", "toyy"], "unknown domain 'toyy'; did you mean 'toy'?"),
        (["run", "toy", "--profile", "slurn"], "no profile 'slurn'; did you mean 'slurm'?"),
        (["run", "toy", "--set", "training.epoch=1"], "unknown key 'training.epoch'; did you mean 'epochs'?"),
        (["run", "toy", "--cores", "0"], "expected a whole number of at least 1, found '0'"),
        (["run", "toy", "--input", "absent.csv"], "no input file absent.csv"),
        (["run", "--all", "--input", "a.csv"], "leave --config and --input"),
        (["run", "toy", "toyy"], "unknown domain 'toyy'; did you mean 'toy'?"),
        (["train", "nowhere"], "nowhere is not a run folder"),
        (["train"], "the following arguments are required: RUN"),
        (["fetch", "hiparcos"], "unknown data set 'hiparcos'"),
        (["config", "schema", "toyy"], "unknown domain 'toyy'"),
        (["encode", "data.csv", "--model", "m.safetensors"], "needs -o"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_domains_and_schema(capsys: pytest.CaptureFixture[str]) -> None:
    run("domains")
    assert "toy " in capsys.readouterr().out
    assert run("config", "schema", "toy") == 0
    assert "training" in json.loads(capsys.readouterr().out)["properties"]
    assert run("config", "show", "toy", "--set", "training.epochs=9") == 0
    assert "epochs: 9" in capsys.readouterr().out
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("sciencevae ")


def test_doctor_says_what_it_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIENCEVAE_CACHE", "/proc/no")
    assert run("doctor") == 1
    shown = capsys.readouterr().out
    assert "FIX  cache: /proc/no" in shown
    assert "SCIENCEVAE_CACHE" in shown


def test_a_bug_is_one_line_with_a_way_to_see_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("sciencevae.registry.domains", broken)
    assert run("domains") == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "ZeroDivisionError: by zero" in shown
    assert "--traceback" in shown
    with pytest.raises(ZeroDivisionError):
        run("domains", "--traceback")
    assert "SCIENCEVAE_TRACEBACK" not in os.environ


def test_a_number_of_threads_leaves_numba_at_work(tmp_path: Path) -> None:
    """A session that has already computed with numba's threads can call commands and compile more."""
    script = tmp_path / "session.py"
    script.write_text(
        "import numba\n"
        "from sciencevae.cli.pipeline import limit_threads\n"
        "@numba.njit(parallel=True)\n"
        "def total(n):\n"
        "    out = 0\n"
        "    for i in numba.prange(n):\n"
        "        out += i\n"
        "    return out\n"
        "assert total(4) == 6\n"
        "limit_threads(1)\n"
        "assert total(numba.uint8(4)) == 6  # of another type, so compiled now\n"
    )
    subprocess.run([sys.executable, script], check=True, env={**os.environ, "NUMBA_NUM_THREADS": "2"})
