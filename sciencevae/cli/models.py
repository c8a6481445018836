"""Verbs of a trained model: ``encode``, ``decode``, ``sample``, ``score``, ``interpolate``, ``neighbours``,
``forecast``, ``edit``."""

from __future__ import annotations

import argparse
import math

from sciencevae.cli.pipeline import Verb, _positive, dask_option, limit_threads
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
    _reading(encode)
    _model(encode, required=False)
    dask_option(encode)
    encode.set_defaults(call=_encode)

    decode = verb(
        "decode",
        "latents back to data",
        "sciencevae decode --model runs/xy/model.safetensors latents.parquet -o decoded.h5",
    )
    decode.add_argument("source", metavar="LATENTS", help="a Parquet file that 'encode' wrote")
    decode.add_argument("--draw", action="store_true", help="draws of p(x | z) instead of its mean")
    decode.add_argument(
        "--beam",
        metavar="WIDTH",
        type=_positive,
        help="of sequences the likeliest that a beam search finds, instead of the greedy one",
    )
    decode.add_argument(
        "--spread",
        metavar="DRAWS",
        type=_positive,
        default=0,
        help="also how far each number may be off: NAME_std, over so many draws of q(z | x) and p(x | z)",
    )
    decode.add_argument("--seed", type=_seed, default=0, help="of the draws")
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
        "--condition",
        metavar="VALUE[,…]|NAME=VALUE[,…]",
        help="numbers that the model is to be told, or what new data are to have, in the data's units",
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
    score.add_argument("--samples", type=_positive, default=64, help="draws for each row (default: 64)")
    score.add_argument(
        "--explain", action="store_true", help="what each entry of a row adds to its score, too"
    )
    _reading(score)
    _model(score)
    score.set_defaults(call=_score)

    interpolate = verb(
        "interpolate",
        "the way between two data in the latents, decoded",
        "sciencevae interpolate --model runs/molecules/model.safetensors CCO c1ccccc1O -o way.smi",
    )
    interpolate.add_argument("ends", metavar="A B|FILE", nargs="+", help="two data, or a file of two rows")
    interpolate.add_argument("-n", type=_positive, default=10, help="steps, with both ends (default: 10)")
    interpolate.add_argument("--kind", choices=("linear", "spherical", "geodesic"), default="linear")
    _reading(interpolate)
    _model(interpolate)
    interpolate.set_defaults(call=_interpolate)

    neighbours = verb(
        "neighbours",
        "the rows of a file that are nearest in the latents",
        "sciencevae neighbours --model runs/molecules/model.safetensors CCO --among all.smi -o near.csv",
    )
    neighbours.add_argument("asked", metavar="DATUM|FILE", nargs="+", help="data, or a file of them")
    neighbours.add_argument("--among", metavar="FILE", required=True, help="where to look")
    neighbours.add_argument("-n", type=_positive, default=10, help="how many of each (default: 10)")
    _reading(neighbours)
    _model(neighbours)
    neighbours.set_defaults(call=_neighbours)

    forecast = verb(
        "forecast",
        "how a series goes on, and how sure that is",
        "sciencevae forecast --run runs/fluids series.nc --steps 20 -o next.nc",
    )
    forecast.add_argument("source", metavar="FILE", help="a series, or several runs of one")
    forecast.add_argument("--steps", type=_positive, required=True, help="frames to forecast")
    forecast.add_argument(
        "--members", type=_members, default=32, help="draws that tell the spread (default: 32)"
    )
    forecast.add_argument("--run", metavar="RUN", help="a run folder, in place of --model")
    forecast.add_argument("--variant", default="main", help="which of the run's trainings (default: main)")
    forecast.add_argument("--seed", type=_seed, default=0, help="of the draws")
    _reading(forecast)
    _model(forecast, required=False)
    forecast.set_defaults(call=_forecast)

    edit = verb(
        "edit",
        "a datum of yours with an attribute changed",
        "sciencevae edit --attribute smile --amount 0.7 face.jpg -o out.png",
    )
    edit.add_argument("source", metavar="FILE", help="a picture")
    edit.add_argument("--attribute", required=True, help="what to change: smile")
    edit.add_argument(
        "--amount", type=_finite, default=1.0, help="how much of it; below 0 the opposite (default: 1)"
    )
    edit.add_argument(
        "--eyes", metavar="X,Y,X,Y", type=_places, help="where the left and the right eye are, in pixels"
    )
    _model(edit, comes_along="faces-london")
    edit.set_defaults(call=_edit)


def _model(parser: argparse.ArgumentParser, required: bool = True, comes_along: str | None = None) -> None:
    told = f" (default: {comes_along}, which comes along)" if comes_along else ""
    parser.add_argument(
        "--model",
        metavar="FILE",
        required=required and not comes_along,
        default=comes_along,
        help=f"a model.safetensors{told}",
    )
    parser.add_argument("-o", "--out", metavar="FILE", required=required, help="where to write")
    parser.add_argument("--threads", type=_positive, help="threads to compute with (default: 1)")


def _reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        metavar="prepare.KEY=VALUE",
        action="append",
        default=[],
        help="how your file is read; can be repeated",
    )


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2⁶³ − 1, found {text!r}")
    return seed


def _members(text: str) -> int:
    number = _positive(text)
    if number < 2:
        raise argparse.ArgumentTypeError("a spread needs two draws at least")
    return number


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}")
    return number


def _places(text: str) -> list[float]:
    numbers = [_finite(part) for part in text.split(",")]
    if len(numbers) != 4:
        raise argparse.ArgumentTypeError(f"expected four numbers, X,Y of either eye, found {text!r}")
    return numbers


def _encode(arguments: argparse.Namespace) -> int:
    limit_threads(arguments.threads or 1)
    if arguments.model is None:
        if arguments.out is not None:
            raise InputError(
                "the latents of a run go into its folder: leave -o, or name a model with --model"
            )
        if arguments.set:
            raise InputError("--set is of how a file of yours is read: name a model with --model")
        from sciencevae import stages
        from sciencevae.runs import Run

        run = Run(arguments.source)
        stages.encode(run, run.variant(arguments.variant), arguments.threads or 1, arguments.dask)
        return 0
    if arguments.dask is not None:
        raise InputError("--dask is of a run's own data; with --model a file goes through in one process")
    if arguments.out is None:
        raise InputError("encode --model needs -o FILE.parquet, where to write the latents")
    from sciencevae.latents.files import encode_file

    encode_file(arguments.model, arguments.source, arguments.out, arguments.set)
    return 0


def _decode(arguments: argparse.Namespace) -> int:
    limit_threads(arguments.threads or 1)
    from sciencevae.latents.files import decode_file

    way = {name: getattr(arguments, name) for name in ("draw", "beam", "seed", "spread")}
    decode_file(arguments.model, arguments.source, arguments.out, **way)
    return 0


def _sample(arguments: argparse.Namespace) -> int:
    limit_threads(arguments.threads or 1)
    from sciencevae.latents.files import sample_file

    condition = None if arguments.condition is None else _condition(arguments.condition)
    sample_file(arguments.model, arguments.out, arguments.n, seed=arguments.seed, condition=condition)
    return 0


def _condition(text: str) -> list[float] | dict[str, float]:
    entries = [entry for entry in text.split(",") if entry.strip()]
    try:
        if not entries:
            raise ValueError("nothing is given")
        if "=" not in text:
            return [float(entry) for entry in entries]
        named = [(name.strip(), float(value)) for name, value in (entry.split("=") for entry in entries)]
    except ValueError:
        raise InputError(
            f"--condition {text!r}: write numbers, separated by commas, or NAME=NUMBER, likewise"
        ) from None
    found: dict[str, float] = {}
    for name, value in named:
        if name.lower() in map(str.lower, found):
            raise InputError(f"--condition {text!r}: {name} is given twice")
        found[name] = value
    return found


def _interpolate(arguments: argparse.Namespace) -> int:
    limit_threads(arguments.threads or 1)
    from sciencevae.latents.queries import interpolate_file

    ask = (arguments.n, arguments.kind, arguments.set)
    interpolate_file(arguments.model, arguments.ends, arguments.out, *ask)
    return 0


def _neighbours(arguments: argparse.Namespace) -> int:
    limit_threads(arguments.threads or 1)
    from sciencevae.latents.queries import neighbours_file

    ask = (arguments.n, arguments.set)
    neighbours_file(arguments.model, arguments.asked, arguments.among, arguments.out, *ask)
    return 0


def _score(arguments: argparse.Namespace) -> int:
    limit_threads(arguments.threads or 1)
    from sciencevae.latents.files import score_file

    how = {"kind": arguments.kind, "samples": arguments.samples, "overrides": arguments.set}
    how["explain"] = arguments.explain
    score_file(arguments.model, arguments.source, arguments.out, **how)
    return 0


def _forecast(arguments: argparse.Namespace) -> int:
    limit_threads(arguments.threads or 1)
    if (arguments.model is None) == (arguments.run is None):
        raise InputError("forecast needs --run RUN or --model FILE, which to forecast with")
    if arguments.out is None:
        raise InputError("forecast needs -o FILE, where to write")
    from sciencevae.latents.forecast.apply import forecast_file
    from sciencevae.runs import Run

    given = arguments.model or Run(arguments.run).variant(arguments.variant)
    how = {"members": arguments.members, "seed": arguments.seed, "overrides": arguments.set}
    forecast_file(given, arguments.source, arguments.out, arguments.steps, **how)
    return 0


def _edit(arguments: argparse.Namespace) -> int:
    limit_threads(arguments.threads or 1)
    from sciencevae.latents.edit import edit_file

    edit_file(
        arguments.model,
        arguments.source,
        arguments.out,
        arguments.attribute,
        arguments.amount,
        arguments.eyes,
    )
    return 0
