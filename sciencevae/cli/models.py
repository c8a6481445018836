"""Verbs that use a trained model: ``encode``, ``decode``, ``sample``, ``score``."""

from __future__ import annotations

import argparse

from sciencevae.cli.pipeline import Verb, _positive, limit_threads
from sciencevae.errors import InputError

__all__ = ["add"]


def add(verb: Verb) -> None:
    """Declare the verbs."""
    encode = verb(
        "encode",
        "data to latents: a run's own, or a file of yours with a trained model",
        "sciencevae encode --model runs/stars/model.safetensors field.fits -o latents.parquet",
    )
    encode.add_argument("source", metavar="RUN|FILE", help="a run folder, or with --model a data file")
    encode.add_argument("--variant", default="main", help="which of the run's trainings (default: main)")
    _model(encode, required=False)
    encode.set_defaults(call=_encode)

    decode = verb(
        "decode",
        "latents back to data",
        "sciencevae decode --model runs/xy/model.safetensors latents.parquet -o decoded.h5",
    )
    decode.add_argument("source", metavar="LATENTS", help="a Parquet file that 'encode' wrote")
    _model(decode)
    decode.set_defaults(call=_decode)

    sample = verb(
        "sample",
        "new data from the prior",
        "sciencevae sample --model runs/xy/model.safetensors -n 100 -o new.h5",
    )
    sample.add_argument("-n", type=_positive, default=100, help="how many (default: 100)")
    sample.add_argument("--seed", type=_seed, default=0)
    sample.add_argument(
        "--condition", metavar="VALUE[,VALUE…]", help="numbers to condition on, in the data's units"
    )
    _model(sample)
    sample.set_defaults(call=_sample)

    score = verb(
        "score",
        "how unusual each row of a file is: higher is more anomalous",
        "sciencevae score --model runs/stars/model.safetensors field.fits -o scores.parquet",
    )
    score.add_argument("source", metavar="FILE", help="a data file")
    score.add_argument("--kind", choices=("elbo", "reconstruction", "evidence"), default="elbo")
    _model(score)
    score.set_defaults(call=_score)


def _model(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("--model", metavar="FILE", required=required, help="a model.safetensors")
    parser.add_argument("-o", "--out", metavar="FILE", required=required, help="where to write")
    parser.add_argument("--threads", type=_positive, help="threads to compute with (default: 1)")


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2⁶³ − 1, found {text!r}")
    return seed


def _encode(arguments: argparse.Namespace) -> int:
    limit_threads(arguments.threads or 1)
    if arguments.model is None:
        from sciencevae import stages
        from sciencevae.runs import Run

        run = Run(arguments.source)
        stages.encode(run, run.variant(arguments.variant), arguments.threads or 1)
        return 0
    if arguments.out is None:
        raise InputError("encode --model needs -o FILE.parquet, where to write the latents")
    from sciencevae.latents.files import encode_file

    encode_file(arguments.model, arguments.source, arguments.out)
    return 0


def _decode(arguments: argparse.Namespace) -> int:
    limit_threads(arguments.threads or 1)
    from sciencevae.latents.files import decode_file

    decode_file(arguments.model, arguments.source, arguments.out)
    return 0


def _sample(arguments: argparse.Namespace) -> int:
    limit_threads(arguments.threads or 1)
    from sciencevae.latents.files import sample_file

    try:
        condition = [float(value) for value in (arguments.condition or "").split(",") if value]
    except ValueError:
        raise InputError(f"--condition {arguments.condition!r}: write numbers, separated by commas") from None
    sample_file(arguments.model, arguments.out, arguments.n, seed=arguments.seed, condition=condition or None)
    return 0


def _score(arguments: argparse.Namespace) -> int:
    limit_threads(arguments.threads or 1)
    from sciencevae.latents.files import score_file

    score_file(arguments.model, arguments.source, arguments.out, kind=arguments.kind)
    return 0
