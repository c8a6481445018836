"""The command line: one verb for each stage, and ``run`` for all of them.

Nothing heavy is imported here; each verb imports what it needs when it is called.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from sciencevae.cli import catalogue, finished, models, pipeline
from sciencevae.errors import ScienceVAEError, did_you_mean, one_line

__all__ = ["main", "parser"]

_ABOUT = """\
Scientific pipelines around one variational-autoencoder core.

  sciencevae run xy --out runs/xy        simulate, train, encode, analyse, report
  sciencevae domains                     what there is
"""


class _Parser(argparse.ArgumentParser):
    """Argparse whose complaints are one line, with the nearest name for a typing error."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message}; see '{self.prog} --help'", file=sys.stderr)
        raise SystemExit(2)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            what = "command" if isinstance(action, argparse._SubParsersAction) else "value"
            raise argparse.ArgumentError(
                None, f"unknown {what} {value!r}{did_you_mean(str(value), map(str, action.choices))}"
            )


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--traceback", action="store_true", help="show where an error came from")
    top = _Parser(
        prog="sciencevae",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    top.add_argument("--version", action="store_true", help="print the version")
    verbs = top.add_subparsers(metavar="COMMAND", parser_class=_Parser)

    def verb(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # a default here would overwrite what was given before the verb
        made.add_argument(
            "--traceback", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        return made

    for group in (pipeline, models, finished, catalogue):
        group.add(verb)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives its exit code: 0, 2 wrong input, 1 failed, 75 saved and to be started again."""
    arguments = parser().parse_args(argv)
    if arguments.version:
        from sciencevae import __version__

        print(f"sciencevae {__version__}")
        return 0
    if not hasattr(arguments, "call"):
        parser().print_help()
        return 2
    if not arguments.traceback:
        return _guarded(arguments)
    before = os.environ.get("SCIENCEVAE_TRACEBACK")
    os.environ["SCIENCEVAE_TRACEBACK"] = "1"  # the stages of a run see it too
    try:
        return _guarded(arguments)
    finally:
        if before is None:
            os.environ.pop("SCIENCEVAE_TRACEBACK", None)


def _guarded(arguments: argparse.Namespace) -> int:
    show = "SCIENCEVAE_TRACEBACK" in os.environ
    try:
        return arguments.call(arguments) or 0
    except ScienceVAEError as error:
        if show:
            raise
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        _complain("out of memory: give the job more, or make batch_size or the data smaller")
        return 1
    except Exception as error:
        if show:
            raise
        from sciencevae.stages import in_workflow

        if in_workflow():  # for the stage's log; whoever watches the run leaves these lines out
            import traceback

            for line in traceback.format_exc().splitlines():
                print(f"| {line}", file=sys.stderr)
        text = " ".join(str(error).split()) or "no message"
        _complain(f"{type(error).__name__}: {text} (the whole story: run it again with --traceback)")
        return 1


def _complain(message: str) -> None:
    print(f"sciencevae: error: {one_line(message)}", file=sys.stderr)
