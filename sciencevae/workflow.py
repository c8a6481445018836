"""``sciencevae run``: configure a folder, let snakemake do what is missing, and show how it goes."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sciencevae.errors import InputError, RunError, did_you_mean, one_line
from sciencevae.locks import TOKEN, holders, run_lock
from sciencevae.paths import workflows_folder
from sciencevae.processes import handled_signals, interrupted_with_us
from sciencevae.runs import Run, prune, read_json, settle_dates
from sciencevae.watch import Watch, job_ended, watcher

__all__ = ["carry_out", "configured", "find_profile", "on_cluster", "run", "snakemake_command"]

_POLL = 0.2
#: what means something between double quotes
_SHELL = set('$`"\\\n!')
#: seconds that the jobs of a killed run may take to save and end before a new run gives up
_PATIENCE = 120.0
#: seconds that snakemake has to end by itself after a signal, once no stage runs here
_GRACE = 2.0
#: seconds that it has to cancel what is left
_CANCELLING = 20.0
#: what snakemake says of a file that is older than what it is made from, and how often a run begins anew for that
_OLDER, _STEPS = "has older modification time", 5


def configured(
    domain: str, config: str | None, overrides: Sequence[str], input: str | None, out: Path
) -> Callable[[Path], Run]:
    """Check what the user said, before anything is written; gives the function that writes it into a folder."""
    from sciencevae import registry
    from sciencevae.config import load
    from sciencevae.runs import check_folder, configure

    found = registry.domain(domain)
    if config is None and input is not None and (found.folder / "own.yaml").is_file():
        config = "own"  # the default one is of the demonstration's data
    settings = load(found, config, overrides)
    if input is not None and not Path(input).expanduser().exists():
        raise InputError(f"no input file {input}")
    check_folder(out, found)
    return lambda folder: configure(folder, found, settings, input)


def run(
    domain: str,
    out: Path,
    *,
    config: str | None = None,
    overrides: Sequence[str] = (),
    input: str | None = None,
    profile: str = "local",
    cores: int | None = None,
    dry_run: bool = False,
) -> int:
    """Everything from raw data to the report; gives the exit code."""
    plan = configured(domain, config, overrides, input, out)
    profile_folder = find_profile(profile)
    _check_words(out, profile_folder)
    if dry_run:
        return _dry_run(plan, out, profile_folder, cores)
    return carry_out(plan, out, profile_folder, cores)


def carry_out(plan: Callable[[Path], Run], out: Path, profile: Path, cores: int | None) -> int:
    """Configure a folder, do what is missing in it, and say where the results lie; gives the exit code."""
    with run_lock(out, patience=_PATIENCE) as (descriptor, token):
        current = plan(out)
        command = snakemake_command(current.folder, profile, cores)
        for earlier in (out / "logs").rglob("*.failure.json"):
            earlier.unlink()
        log = current.folder / "logs" / "snakemake.log"
        with watcher(current, sys.stderr) as watch:
            watch.say(f"{current.domain.name} in {out}")
            for left in reversed(range(_STEPS)):
                said = log.stat().st_size if log.exists() else 0
                code = _follow(current.folder, command, token, descriptor, watch)
                # once the clock has caught up, only what snakemake said of it is left
                if code != 1 or not left or not (settle_dates(out) or _OLDER in _text(log, said)):
                    break
                watch.say(
                    "the clock stepped back: the dates of files are set right, and the workflow goes on"
                )
        if code == 0:
            prune(current)
            _say_results(Run(out), out, nothing=watch.finished == 0)
            return 0
        if code == 75:
            print(
                "sciencevae: stopped; what was done is saved, the same command goes on from there",
                file=sys.stderr,
            )
            return 75
        if code < 0:
            raise RunError(f"snakemake was killed by signal {-code}; the same command goes on from there")
        return _explain(current.folder, out, profile, said)


def find_profile(name: str) -> Path:
    """The folder of a snakemake profile: ours by name, or the user's own."""
    own = Path(name).expanduser()
    if own.is_dir() and ("/" in name or (own / "config.yaml").is_file()):
        return own.resolve()
    ours = workflows_folder() / "profiles"
    known = sorted(found.name for found in ours.iterdir() if found.is_dir())
    if name in known:
        return ours / name
    raise InputError(f"no profile {name!r}{did_you_mean(name, known)}, or the folder of a snakemake profile")


def on_cluster(profile: Path) -> bool:
    """Whether a profile sends its jobs away, so that many run at once."""
    from sciencevae.config import read_yaml

    found = [read_yaml(path) for path in profile.glob("config*.yaml")]
    return any(isinstance(plain, dict) and plain.get("executor", "local") != "local" for plain in found)


def _check_words(out: Path, profile: Path) -> None:
    """InputError for a run folder whose name a shell would run: a cluster's executor puts it into double quotes."""
    if profile != workflows_folder() / "profiles" / "local" and (
        found := _SHELL & set(f"{out.resolve()}{profile}")
    ):
        raise InputError(
            f"the run folder {str(out)!r} or the profile's has {min(found)!r} in its path, which a shell on the "
            "way to the cluster's jobs reads as its own: choose another --out"
        )


def snakemake_command(folder: Path, profile: Path, cores: int | None, dry_run: bool = False) -> list[str]:
    """The command line of snakemake. ``--nolock``: our own lock is held, and dies with its holder."""
    command = [sys.executable, "-P", "-m", "snakemake", "--snakefile", str(workflows_folder() / "Snakefile")]
    command += ["--directory", str(folder), "--profile", str(profile), "--cores", str(cores or _cores())]
    command += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "--nocolor"]
    if (profile / "dask.yaml").is_file():
        command += ["--config", f"dask={profile / 'dask.yaml'}"]
    return [*command, "--dry-run"] if dry_run else command


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _dry_run(plan: Callable[[Path], Run], out: Path, profile: Path, cores: int | None) -> int:
    """Say what would be done, and do nothing: a stand-in for the folder is configured, not the folder."""
    with tempfile.TemporaryDirectory(prefix="sciencevae-dry-run-") as scratch:
        stand_in = Path(scratch) / "run"
        for part in sorted(out.iterdir()) if out.is_dir() else []:
            stand_in.mkdir(exist_ok=True)
            if part.name in ("config", "state"):
                shutil.copytree(part, stand_in / part.name)
            elif not part.name.startswith("."):
                (stand_in / part.name).symlink_to(part.resolve())
        current = plan(stand_in)
        command = snakemake_command(current.folder, profile, cores, dry_run=True)
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        said = done.stdout + done.stderr
        if done.returncode:
            _check_taken(profile, said)
            raise RunError(f"the workflow cannot be planned: {said.strip().splitlines()[-1]}")
        jobs = _planned(current, said)
    for label, reason in jobs:
        print(f"would run {label:<20} {reason}")
    print(f"{len(jobs)} jobs in {out}" if jobs else "nothing to do: everything is up to date")
    return 0


def _planned(run: Run, said: str) -> list[tuple[str, str]]:
    """(stage, why) of each job in the output of a dry run."""
    jobs = []
    for block in re.split(r"\n(?=\[|(?:local)?rule )", said):
        rule = re.search(r"^(?:local)?rule (\w+):", block, re.MULTILINE)
        if rule and rule[1] != "all":
            name = re.search(r"^ +wildcards: (?:variant|key)=(\S+)", block, re.MULTILINE)
            reason = re.search(r"^ +reason: (.*)$", block, re.MULTILINE)
            jobs.append((run.label(rule[1], name[1] if name else ""), _reason(reason[1] if reason else "")))
    return jobs


def _reason(text: str) -> str:
    """snakemake's reason in our words."""
    if text.startswith("Missing output"):
        return "not done yet"
    if match := re.search(r"Updated input files: (.*)", text):
        changed = sorted(part for part in match[1].split(", ") if part.startswith("config/"))
        return (
            f"the settings or the code changed ({', '.join(changed)})"
            if changed
            else "what it is made from changed"
        )
    if text.startswith("Input files updated by another job"):
        return "what it is made from is made again"
    return text


def _follow(folder: Path, command: list[str], token: str, descriptor: int, watch: Watch) -> int:
    """Run snakemake and show its jobs; gives its exit code, or 75 when a signal stopped it."""
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    stopped: float | None = None
    cancelled: float | None = None
    refused = False

    def stop(number: int) -> None:
        nonlocal stopped
        if stopped is None:
            watch.say("stopping: asking the stages to save")
            stopped = time.monotonic()
        process.send_signal(signal.SIGTERM)  # no new jobs
        for holder in _here(folder):
            with suppress(ProcessLookupError):
                os.kill(holder["pid"], signal.SIGTERM)

    # Handlers first: what is ignored here, as SIGINT is behind `&` in a script, snakemake would ignore as well.
    with (logs / "snakemake.log").open("ab") as log, handled_signals(stop):
        # a session of its own: Ctrl-C reaches us alone, and we pass it on; it inherits our lock
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(descriptor,),
            preexec_fn=interrupted_with_us,
            env=os.environ | {TOKEN: token, "PYTHONUNBUFFERED": "1"},
        )
        while process.poll() is None:
            now = time.monotonic()
            watch.look()
            if cancelled is not None:
                if now - cancelled > _CANCELLING:  # it sleeps, until it would look at its jobs again
                    process.kill()
            elif stopped is not None:
                # what is left waits in a queue or runs on other nodes
                if now - stopped > _GRACE and not _here(folder):
                    process.send_signal(signal.SIGINT)  # it is cancelled, which sends SIGTERM there
                    cancelled = now
            elif not refused and any(failure["exit_code"] == 2 for failure in _failures(folder)):
                process.send_signal(signal.SIGTERM)  # wrong input stays wrong however often it is tried
                refused = True
            # a look at the logs of thousands takes a while
            time.sleep(max(_POLL, 4 * (time.monotonic() - now)))
        watch.look()
        deadline = time.monotonic() + _PATIENCE
        while stopped is not None and holders(folder) and time.monotonic() < deadline:
            watch.look()
            time.sleep(_POLL)  # what was cancelled on other nodes still saves
    return process.returncode if stopped is None else 75


def _here(folder: Path) -> list[dict[str, Any]]:
    """The stages at work on this machine."""
    host = socket.gethostname()
    return [holder for holder in holders(folder) if holder["host"] == host]


def _say_results(current: Run, out: Path, nothing: bool) -> None:
    record = read_json(current.record("report"))
    if nothing:
        print("nothing to do: everything is up to date")
    print(f"report   {out / 'report.html'}")
    figures = [name for name in record.get("figures", []) if name.endswith(".png")]
    for index, figure in enumerate(figures[:3]):
        print(f"{'figures' if index == 0 else '':<9}{out / figure}")


def _failures(folder: Path) -> list[dict[str, Any]]:
    """What failed, as the stages themselves told it, the cause first."""
    told = map(read_json, (folder / "logs").rglob("*.failure.json"))
    found = [failure for failure in told if failure]  # a stage that is tried again removes its own
    # a stage that was asked to save after another one failed is not the cause
    return sorted(found, key=lambda failure: (failure["exit_code"] == 75, failure["time"]))


def _explain(folder: Path, out: Path, profile: Path, said: int) -> int:
    """One line on what failed and where its log lies; gives the stage's own exit code.

    said: size of snakemake's log when this run began, in bytes.
    """
    workflow_log = out / "logs" / "snakemake.log"
    last = _text(workflow_log, said)
    _check_taken(profile, last)
    errors = re.findall(r"Error in rule (\w+)[^\n]*:(.*?)(?:\n\n|\Z)", last, re.DOTALL)
    rule, detail = errors[-1] if errors else ("", "")
    # where the job did not come as far as to the stage, the scheduler's own log says why
    named = re.search(r"\blog: (.+?)(?: \(check|\n|\Z)", detail)
    logs = [out / name.strip() for name in named[1].split(", ")] if named else []
    log = next((path for path in logs if path.is_file() and path.stat().st_size), workflow_log)
    ended = job_ended(detail, _end_of(log))
    if failures := _failures(folder):
        first = failures[0]
        why = f"{ended}: {first['error']}" if ended and first["exit_code"] == 75 else first["error"]
        message = f"{first['label']} failed: {why} (log: {out / first['log']})"
        print(f"sciencevae: error: {one_line(message)}", file=sys.stderr)
        return int(first["exit_code"])
    if errors:
        reason = re.search(
            r"message: (.*?)(?: Detailed failure| sbatch call:| ?For further error|\n {4}\w+:|\Z)",
            detail,
            re.DOTALL,
        )
        told = " ".join(reason[1].split()) if reason else "None"
        # what it said before it had begun is in its log alone
        if own := re.search(r"^sciencevae: error: (.*)\s*\Z", _end_of(log), re.MULTILINE):
            raise RunError(f"{rule} failed: {own[1]} (log: {log})")
        why = ended or (told if told != "None" else "it was killed, perhaps for memory")
        raise RunError(f"{rule} ended without a word ({why}; log: {log}); the same command resumes it")
    lines = [line.strip() for line in last.splitlines() if line.strip()]
    said_last = next(
        (line for line in lines if "Error" in line or "rror:" in line), lines[-1] if lines else "nothing"
    )
    if os.strerror(errno.ENOSPC) in last:
        scratch = Path(tempfile.gettempdir())
        free = ", ".join(f"{shutil.disk_usage(path).free / 1e6:,.1f} MB in {path}" for path in (out, scratch))
        raise RunError(
            f"the disk is full, of the run folder or of TMPDIR: {free} are left; free some space or choose others"
        )
    raise RunError(f"the workflow failed: {said_last} (log: {workflow_log})")


def _check_taken(profile: Path, said: str) -> None:
    """InputError where snakemake did not take its command line, into which it makes the profile."""
    if not (refused := re.search(r"^\S+: error: (.*)", said, re.MULTILINE | re.DOTALL)):
        return
    why = " ".join(refused[1].split())
    if why.startswith("argument --executor/-e: invalid choice: 'slurm'"):
        raise InputError(
            f"the profile {profile} needs more than is installed: pip install 'sciencevae[slurm]'"
        )
    raise InputError(f"{profile / 'config.yaml'} is no profile of snakemake: {why}")


def _text(log: Path, start: int) -> str:
    """What stands in a log from a byte on."""
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode("utf-8", "replace")


def _end_of(log: Path) -> str:
    """The last lines of a log; nothing where there is none."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 4096, 0))
        return file.read().decode("utf-8", "replace")
    return ""
