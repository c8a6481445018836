"""Verbs of a finished run: ``rerun``, ``export``, ``cite``."""

from __future__ import annotations

import argparse
from pathlib import Path

from sciencevae.cli.pipeline import Verb, workflow_options
from sciencevae.errors import InputError

__all__ = ["add"]


def add(verb: Verb) -> None:
    """Declare the verbs."""
    rerun = verb(
        "rerun",
        "make a run again from its run.json, and say whether it came out the same",
        "sciencevae rerun runs/xy --out runs/xy-rerun",
    )
    rerun.add_argument("run", metavar="RUN", help="a run folder, or a run.json alone")
    rerun.add_argument("--out", metavar="DIR", help="the new run folder (default: beside RUN, RUN-rerun)")
    rerun.add_argument("--input", metavar="FILE", help="where the run's own data lie now, if they moved")
    rerun.add_argument(
        "--tolerance",
        type=_share,
        metavar="SHARE",
        help="relative, of each metric, where versions, processor or threads are others (default: 0.02)",
    )
    workflow_options(rerun)
    rerun.set_defaults(call=_rerun)

    export = verb(
        "export",
        "a run as a Workflow Run RO-Crate, for archives",
        "sciencevae export runs/xy -o xy.zip --license CC-BY-4.0",
    )
    export.add_argument("run", metavar="RUN", help="the folder of a finished run")
    export.add_argument("-o", "--output", metavar="DIR|FILE.zip", required=True, help="what is written")
    export.add_argument("--license", metavar="SPDX|URL", help="of your results (default: not stated)")
    export.set_defaults(call=_export)

    cite = verb("cite", "BibTeX of a run's data, methods and software", "sciencevae cite runs/xy > run.bib")
    cite.add_argument("run", metavar="RUN")
    cite.set_defaults(call=_cite)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {text!r}")
    return value


def _rerun(arguments: argparse.Namespace) -> int:
    from sciencevae.rerun import TOLERANCE, rerun

    source = Path(arguments.run)
    return rerun(
        source,
        Path(arguments.out) if arguments.out else _beside(source),
        input=arguments.input,
        profile=arguments.profile,
        cores=arguments.cores,
        tolerance=TOLERANCE if arguments.tolerance is None else arguments.tolerance,
    )


def _beside(source: Path) -> Path:
    """``RUN-rerun``; of a run.json alone the folder is that of its file."""
    folder = source.resolve()
    if source.suffix == ".json":
        folder = folder.parent if folder.name == "run.json" else folder.with_suffix("")
    if not folder.name:
        raise InputError("say where the new run is to lie, with --out")
    return folder.with_name(f"{folder.name}-rerun")


def _export(arguments: argparse.Namespace) -> int:
    from sciencevae.crate import export
    from sciencevae.runs import Run

    for left_out in export(Run(arguments.run), Path(arguments.output), arguments.license):
        print(f"left out {left_out}")
    print(arguments.output)
    return 0


def _cite(arguments: argparse.Namespace) -> int:
    from sciencevae.provenance import citations
    from sciencevae.runs import Run

    for what, bibtex in citations(Run(arguments.run)):
        print(f"% {what}\n{bibtex}\n")
    return 0
