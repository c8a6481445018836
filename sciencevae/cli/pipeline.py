"""Verbs of the pipeline: ``run``, ``configure`` and the stages."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sciencevae.errors import InputError

__all__ = ["add", "workflow_options"]

Verb = Callable[[str, str, str], argparse.ArgumentParser]

_STAGES = {
    "prepare": "raw files to one prepared Zarr store",
    "train": "fit the model of one variant, resuming from its checkpoint",
    "analyse": "the domain's analyses: tables and metrics.json",
    "report": "figures and report.html",
}


def add(verb: Verb) -> None:
    """Declare the verbs."""
    run = verb(
        "run", "the whole pipeline of a domain", "sciencevae run xy --set training.epochs=20 --out runs/xy"
    )
    run.add_argument("domain", nargs="*", help="one or several; see 'sciencevae domains'")
    run.add_argument(
        "--all", action="store_true", help="every domain: one after another here, side by side on a cluster"
    )
    _settings(run)
    workflow_options(run)
    run.add_argument("--dry-run", "-n", action="store_true", help="only say what would be done")
    run.set_defaults(call=_run)

    configure = verb("configure", "write the settings of a run", "sciencevae configure xy --out runs/xy")
    configure.add_argument("domain", help="see 'sciencevae domains'")
    _settings(configure)
    configure.set_defaults(call=_configure)

    fetch = verb("fetch", "bring a data set's files into the cache, verified", "sciencevae fetch hipparcos")
    fetch.add_argument(
        "target", metavar="DATASET", help="a data set (see 'sciencevae datasets'), or a run folder"
    )
    _stage_options(fetch)
    fetch.set_defaults(call=_fetch)
    for name, summary in _STAGES.items():
        stage = verb(name, summary, f"sciencevae {name} runs/xy")
        stage.add_argument("run", metavar="RUN", help="a run folder made by 'run' or 'configure'")
        _stage_options(stage, variant=name in ("prepare", "train"))
        if name == "prepare":
            dask_option(stage)
        if name == "train":
            stage.add_argument(
                "--ranks", type=_positive, help="processes that train together (default: as configured, or 1)"
            )
        stage.set_defaults(call=_stage, stage=name)


def workflow_options(parser: argparse.ArgumentParser) -> None:
    """Where the stages of a workflow run."""
    parser.add_argument(
        "--profile", default="local", help="local, slurm, or the folder of a snakemake profile of your own"
    )
    parser.add_argument("--cores", type=_positive, help="cores to use here (default: all there are)")


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="NAME|FILE", help="a configuration of the domain, or a YAML file")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="one setting; can be repeated"
    )
    parser.add_argument("--input", metavar="FILE", help="your own data instead of the domain's")
    parser.add_argument("--out", metavar="DIR", help="the run folder (default: runs/DOMAIN)")


def _stage_options(parser: argparse.ArgumentParser, variant: bool = True) -> None:
    if variant:
        parser.add_argument("--variant", default="main", help="which of the run's trainings (default: main)")
    parser.add_argument(
        "--threads", type=_positive, help="threads to compute with (default: as configured, or 1)"
    )


def dask_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dask",
        metavar="FILE",
        help="compute on what this file says, the dask.yaml of a profile: see README",
    )


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return value


def limit_threads(threads: int) -> None:
    """Tell the numerical libraries, before they are loaded, how many threads they may use."""
    libraries = ["OMP", "OPENBLAS", "MKL"]
    if "numba" not in sys.modules:  # whose threads, once they run, refuse another number
        libraries.append("NUMBA")
    for library in libraries:
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    os.environ["DASK_NUM_WORKERS"] = str(threads)
    os.environ.setdefault("DASK_SCHEDULER", "threads")


def default_out(domain: str, config: str | None, input: str | None) -> Path:
    """``runs/DOMAIN``, with the name of the configuration or the input file behind it."""
    parts = [domain, *(Path(name).stem for name in (config, input) if name)]
    return Path("runs") / "-".join(parts)


def _configure(arguments: argparse.Namespace) -> int:
    from sciencevae.locks import run_lock
    from sciencevae.workflow import configured

    out = (
        Path(arguments.out)
        if arguments.out
        else default_out(arguments.domain, arguments.config, arguments.input)
    )
    plan = configured(arguments.domain, arguments.config, arguments.set, arguments.input, out)
    with run_lock(out):
        plan(out)
    print(out)
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from sciencevae.registry import domain, domains
    from sciencevae.workflow import run

    if bool(arguments.domain) == arguments.all:
        raise InputError(f"name one domain or several, or --all; known: {', '.join(domains())}")
    if arguments.all or len(arguments.domain) > 1:
        if arguments.config or arguments.input:
            raise InputError(
                "several domains run each with its own configuration and data: leave --config and --input"
            )
        return _run_each(
            arguments, domains() if arguments.all else [domain(n).name for n in arguments.domain]
        )
    (name,) = arguments.domain
    return run(
        name,
        Path(arguments.out) if arguments.out else default_out(name, arguments.config, arguments.input),
        config=arguments.config,
        overrides=arguments.set,
        input=arguments.input,
        profile=arguments.profile,
        cores=arguments.cores,
        dry_run=arguments.dry_run,
    )


def _run_each(arguments: argparse.Namespace, names: Sequence[str]) -> int:
    """A command of its own for each domain; the cores of one machine are for one of them at a time."""
    from sciencevae.fanout import run_each
    from sciencevae.workflow import find_profile, on_cluster

    profile, out = find_profile(arguments.profile), Path(arguments.out or "runs")
    options = ["--profile", str(profile)]
    options += ["--cores", str(arguments.cores)] if arguments.cores else []
    options += ["--dry-run"] if arguments.dry_run else []
    options += [f"--set={override}" for override in arguments.set]
    commands = {
        name: [sys.executable, "-P", "-m", "sciencevae", "run", name, *options, "--out", str(out / name)]
        for name in names
    }
    return run_each(commands, side_by_side=on_cluster(profile) and not arguments.dry_run)


def _fetch(arguments: argparse.Namespace) -> int:
    limit_threads(arguments.threads or 1)
    if (Path(arguments.target) / "config" / "run.json").is_file():
        from sciencevae import stages
        from sciencevae.runs import Run

        run = Run(arguments.target)
        stages.fetch(run, run.variant(arguments.variant), arguments.threads or 1)
        return 0
    from sciencevae.data.fetch import fetch

    for path in fetch(arguments.target).values():
        print(path)
    return 0


def _stage(arguments: argparse.Namespace) -> int:
    from sciencevae.runs import Run

    run = Run(arguments.run)
    variant = run.variant(arguments.variant) if hasattr(arguments, "variant") else run.main
    configured = variant.settings.training.threads if arguments.stage == "train" else None
    threads = arguments.threads or configured or 1
    limit_threads(threads)
    if arguments.stage == "train":
        from sciencevae.training.launch import launch
        from sciencevae.training.parallel import announced

        ranks = arguments.ranks or variant.settings.training.ranks
        if ranks > 1 and announced().count == 1:
            command = [sys.executable, "-P", "-m", "sciencevae", "train", str(run.folder)]
            return launch([*command, "--variant", variant.name, "--threads", str(threads)], ranks, threads)
    from sciencevae import stages

    call = stages.STAGES[arguments.stage]
    if hasattr(arguments, "dask"):
        call(run, variant, threads, arguments.dask)
    elif hasattr(arguments, "variant"):
        call(run, variant, threads)
    else:
        call(run, threads)
    return 0
