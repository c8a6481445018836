"""Words of the user that would mean something to a shell, and folders that others may write to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import sciencevae as sv
from sciencevae import workflow
from sciencevae.data.atomic import atomic_path, temporary_path
from sciencevae.errors import InputError, RunError
from sciencevae.locks import hold, holders, run_lock
from sciencevae.paths import workflows_folder

Command = Callable[..., subprocess.CompletedProcess[str]]
#: each makes a file called ``ran`` if a shell, or a format string, ever reads it
EVIL = "$(touch ran); touch ran & `touch ran` | {x} {wildcards} %(s)s 'q' \"q\" \\ * ~ #\n-rf"


def test_no_name_reaches_a_shell(tmp_path: Path, sciencevae_command: Command) -> None:
    """A whole run whose folder and input are called so."""
    source = tmp_path / f"{EVIL}.csv"
    source.write_text("a,b,c\n" + "1,2,3\n2,3,5\n4,1,2\n" * 30)
    done = sciencevae_command(
        "run", "toy", "--input", source, "--out", tmp_path / EVIL, "--set", "training.epochs=1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / EVIL / "report.html").is_file()
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize("name", ["$(touch ran)", "`touch ran`", 'a"b', "a\\b", "a\nb", "a!b", "$HOME"])
def test_a_cluster_gets_no_folder_that_its_shell_would_run(tmp_path: Path, name: str) -> None:
    """The Slurm plugin hands the command line to a shell between double quotes."""
    own = tmp_path / "profile"
    own.mkdir()
    (own / "config.yaml").write_text("executor: local\n")
    for profile in ("slurm", str(own)):
        with pytest.raises(InputError, match="choose another --out"):
            workflow.run("toy", tmp_path / name, profile=profile)
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="choose another --out"):
        workflow.run("toy", tmp_path / name / "below", profile="slurm", dry_run=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "profile"])


def test_the_slurm_plugin_would_have_run_it(tmp_path: Path, sciencevae_command: Command) -> None:
    """What the attack is worth; when this fails the plugin quotes better, and the check can go."""
    pytest.importorskip("snakemake_executor_plugin_slurm")
    fake = tmp_path / "bin"
    fake.mkdir()
    for name in ("sbatch", "squeue", "sacct", "sinfo", "scontrol", "sacctmgr"):
        (fake / name).write_text("#!/bin/sh\necho 1\n")
        (fake / name).chmod(0o755)
    folder = tmp_path / "$(touch ran)"
    assert sciencevae_command("configure", "toy", "--out", folder).returncode == 0
    profile = workflows_folder() / "profiles" / "slurm"
    command = [*workflow.snakemake_command(folder, profile, 1), "--retries", "0"]
    env = os.environ | {"PATH": f"{fake}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=env,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        for _ in range(600):
            if list(tmp_path.rglob("ran")):
                break
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.1)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert [path.name for path in tmp_path.rglob("ran")] == ["ran"]


def test_no_command_goes_through_a_shell() -> None:
    """Ours are lists of words: the word shell=True, os.system and the like stand nowhere."""
    import sciencevae
    from sciencevae.paths import checkout_folder

    folders = [Path(sciencevae.__file__).parent, checkout_folder("domains")]
    for folder in filter(None, folders):
        for path in folder.rglob("*.py"):
            found = re.findall(
                r"shell=True|os\.system|os\.popen|getoutput|\beval\(|\bexec\(|pickle\.load|yaml\.unsafe|"
                r"allow_pickle=True|weights_only=False|\| *safe\b",
                path.read_text(encoding="utf-8").replace(".eval()", ""),
            )
            assert not found, (path, found)


# ---- folders that others may write to


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    owned.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(owned)
    with pytest.raises(RunError, match="a link: remove it"), run_lock(tmp_path / "run"):
        pass
    assert owned.read_text() == "mine"


@pytest.mark.parametrize("pid", [-1, 0, 1, -12345, 2**31, "1", None, True, [2], 2.5, {}])
def test_no_signal_goes_where_a_lock_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: object
) -> None:
    """kill(−1) would end all that a user has running."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda target, number: sent.append(target))
    lock = tmp_path / ".locks" / "train-main"
    lock.parent.mkdir()
    lock.write_text(json.dumps({"pid": pid, "host": os.uname().nodename, "token": "x"}))
    assert holders(tmp_path) == workflow._here(tmp_path) == []
    with hold(lock, "a test"):
        pass
    assert not sent


@pytest.mark.parametrize("text", ["", "null", "[]", "{", "[" * 100_000, '{"pid": 2}', "\udcff", '"x"'])
def test_a_lock_file_with_anything_in_it_is_taken(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_bytes(text.encode("utf-8", "surrogateescape"))
    with hold(tmp_path / "lock", "a test"):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_temporary_names_cannot_be_guessed(tmp_path: Path) -> None:
    """A link under such a name, put there first, would be written through."""
    names = {temporary_path(tmp_path / "a[1]*.txt").name for _ in range(100)}
    assert len(names) == 100
    start = f".tmp-{os.uname().nodename}-{os.getpid()}-"
    assert all(re.fullmatch(re.escape(start) + r"[0-9a-f]{16}-a\[1\]\*\.txt", name) for name in names)


def test_what_a_dead_process_left_is_removed_and_nothing_behind_a_link(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    stale = tmp_path / f".tmp-{os.uname().nodename}-{process.pid}-0-a.txt"
    stale.symlink_to(kept)
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert not stale.is_symlink()
    assert (kept / "file").exists()


def test_what_we_write_follows_the_users_umask(tmp_path: Path) -> None:
    """Nobody else may write, and a user who wants nobody else to read is obeyed."""
    parts = (
        sv.encoders.Gaussian(sv.networks.Perceptron(2, [], 2), 1),
        sv.decoders.Bernoulli(sv.networks.Perceptron(1, [], 2)),
    )
    model = sv.VAE(sv.priors.StandardNormal(1), *parts)
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o000, 0o666)):
        before = os.umask(mask)
        try:
            with atomic_path(tmp_path / "a.txt") as temporary:
                temporary.write_text("x")
            sv.save(model, tmp_path / "a.safetensors")
            with hold(tmp_path / f"lock{mask}", "a test"):
                pass
        finally:
            os.umask(before)
        for name in ("a.txt", "a.safetensors"):
            assert (tmp_path / name).stat().st_mode & 0o777 == mode
        assert not (tmp_path / f"lock{mask}").stat().st_mode & 0o022
