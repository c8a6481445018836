"""A trained model on a user's own file: encode, decode, sample and score, block by block.

Latents of a file are a Parquet table: ``row``, ``id``, ``status``, then ``z_0 …`` (posterior means), ``z_std_0 …``,
``beyond`` (see ``typical``), and what is known beside each row, in physical units, as decoding needs it:
``condition_0 …``, ``noise_0 …``, ``exposure``, ``source_0_0_0 …``. The file's metadata have the model's fingerprint
and the names of that context.
Those of a VQVAE are its codes ``code_0 …``, the places of a grid row by row.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.latents.asked import given_numbers, joined, sample_with
from sciencevae.latents.columns import IDENTIFY, columns, contribution_columns, matrix, spread
from sciencevae.latents.trained import (
    BLOCK_ROWS,
    Trained,
    physical,
    physical_spread,
    refuse_unusable,
    warn_left_out,
)
from sciencevae.latents.typical import distance
from sciencevae.latents.writing import free_target, target, write_data, write_parquet
from sciencevae.vae.context import Context
from sciencevae.vae.decoders import Joint, VonMises
from sciencevae.vae.decoders import Sequence as SequenceDecoder
from sciencevae.vae.model import VAE, centre
from sciencevae.vae.vq import VQVAE

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.parquet as pq
    import xarray as xr

__all__ = ["decode_file", "encode_file", "sample_file", "score_file"]

log = logging.getLogger(__name__)
#: numbers of one variable of the context that a row of latents has room for, a column each: no pictures
WIDEST = 4096
#: the context of a table whose metadata don't name it; of one field of several ``noise.NAME``, …
_CONTEXT = ("condition", "noise", "exposure", "source")


def encode_file(model: str | Path, source: str | Path, out: str | Path, overrides: Sequence[str] = ()) -> int:
    """Latents of every row of a file, in its order; bad rows are there with NaN, codes with −1, and are counted
    in a warning. Gives the number encoded.

    ``beyond`` is the share of validation data whose latents the prior finds likelier: near 1 a row is unlike all
    that the model was trained on. overrides: of how the file is read, as ``prepare.column=structure``.
    """
    trained = Trained.open(model, overrides)

    def latents(batch: Batch | None) -> dict[str, np.ndarray]:
        model, far = trained.model, np.zeros(0)
        if isinstance(model, VQVAE):
            codes = np.zeros((0, *model.grid), np.int32)
            if batch is not None:
                z = model.encode(batch.x, batch.context).codes
                codes, far = z.int().numpy(), distance(model, z, batch.context)
            found = columns("code", codes.reshape(len(codes), math.prod(model.grid)))
        else:
            mean = std = np.zeros((0, model.dim), np.float32)
            if batch is not None:
                posterior = model.encode(batch.x, batch.context)
                mean, std = posterior.mean.numpy(), posterior.stddev.numpy()
                far = distance(model, posterior.mean, batch.context)
            found = columns("z", mean) | columns("z_std", std)
        return found | trained.beyond(far, "latent")

    return _write_rows(trained, source, out, latents, keep_context=True)


def score_file(
    model: str | Path,
    source: str | Path,
    out: str | Path,
    kind: str = "elbo",
    samples: int = 64,
    overrides: Sequence[str] = (),
    explain: bool = False,
) -> int:
    """How anomalous each row is, in the file's order; higher is more anomalous. Gives the number scored.

    samples: draws of the posterior for each. Of the ELBO there is also ``beyond``, the share of validation data
    that score lower; of the evidence ``trusted``, 1 where so many draws settle it, else 0.
    explain: also ``contribution.NAME``, what each entry of the data and the latents add to the score.
    """
    from sciencevae.latents.score import anomaly_score, contributions, evidence_by_rows

    trained = Trained.open(model, overrides)
    doubtful = 0

    def scores(batch: Batch | None) -> dict[str, np.ndarray]:
        nonlocal doubtful
        found = trusted = np.zeros(0, np.float32)
        if batch is not None and kind == "evidence":
            evidence = evidence_by_rows(trained.model, batch, samples)
            found, trusted = (-evidence.value).numpy(), evidence.trusted.float().numpy()
            doubtful += int((~evidence.trusted).sum())
        elif batch is not None:
            found = anomaly_score(trained.model, batch, kind, samples).numpy()
        beside = {"trusted": trusted} if kind == "evidence" else {}
        if kind == "elbo":
            beside = trained.beyond(found.astype(float), "elbo")
        if explain:
            # of no row for the names alone
            shares = {} if batch is None else contributions(trained.model, batch, kind, samples)
            beside |= contribution_columns(shares, trained.template)
        return {"score": found.astype(np.float32), **beside}

    rows = _write_rows(trained, source, out, scores, checked=True, kind=kind)
    if doubtful:
        log.warning(
            "%s: log p(x) is not to be trusted for %d of %d rows (their trusted is 0): %d draws are too few; give "
            "more --samples, or take the bound, --kind elbo",
            source,
            doubtful,
            rows,
            samples,
        )
    return rows


def _write_rows(
    trained: Trained,
    source: str | Path,
    out: str | Path,
    compute: Callable[[Batch | None], dict[str, np.ndarray]],
    keep_context: bool = False,
    checked: bool = False,
    **said: str,
) -> int:
    """A table of every row of a file: what identifies it, ``compute`` of the usable ones (NaN elsewhere), and the
    context as it is read; gives the number of usable rows."""
    import pandas as pd

    statuses: Counter[str] = Counter()
    left_out: dict[str, int] = {}
    header: dict[str, Any] = _header(trained) | said
    path = free_target(out, [".parquet"], source)

    def tables() -> Iterator[pd.DataFrame]:
        for block in trained.read(source):
            table = _identity(block)
            status = block["status"].values.astype(object)
            batch = trained.batch(block, status, checked)
            good = status == "ok"
            with torch.no_grad():
                found = {name: spread(values, good) for name, values in compute(batch).items()}
            for values in found.values():
                status[(status == "ok") & ~np.isfinite(values)] = "the model gives no finite number"
            table["status"] = status
            table = pd.concat([table, pd.DataFrame(found, table.index)], axis=1)
            if keep_context:
                context = _context_columns(block, left_out)
                header["context"] = list(context)
                beside = {c: values for part in context.values() for c, values in part.items()}
                table = pd.concat([table, pd.DataFrame(beside, table.index)], axis=1)
            statuses.update(map(str, status))
            yield table
        refuse_unusable(source, statuses)

    write_parquet(tables(), path, header)
    for name, width in left_out.items():
        log.warning(
            "context %r has %d numbers a row, and a table of latents has room for %d: it is left out, so decode in "
            "Python, with model.decode(z, context)",
            name,
            width,
            WIDEST,
        )
    warn_left_out(source, statuses)
    return statuses["ok"]


def _context_columns(block: xr.Dataset, left_out: dict[str, int]) -> dict[str, dict[str, np.ndarray]]:
    """The columns of each variable of a block that is context; those that a row has no room for go to ``left_out``,
    with how many numbers they are."""
    from sciencevae.data.batches import flat_names

    found: dict[str, dict[str, np.ndarray]] = {}
    for flat, name in flat_names(list(block.data_vars), block.attrs).items():
        if not flat.startswith("context."):
            continue
        values = block[name].transpose("sample", ...).values
        if name in (*IDENTIFY, "z", "z_std", "code"):
            raise InputError(f"context {name!r} has the name of a column of latents: read it by another name")
        if (width := math.prod(values.shape[1:])) > WIDEST:
            left_out[name] = width
        else:
            found[name] = columns(name, values)
    return found


def decode_file(
    model: str | Path,
    source: str | Path,
    out: str | Path,
    draw: bool = False,
    beam: int | None = None,
    seed: int = 0,
    spread: int = 0,
) -> int:
    """The mean of p(x | z) for each row of a table of latents, in physical units, in its order.

    Of sequences the greedy one; beam: the likeliest that a search of this width finds. draw: a draw of p(x | z)
    in place of its mean. spread: how many draws of z ~ q(z | x), by the table's z_std, and of x ~ p(x | z) for
    each tell how far a number may be off: beside NAME its standard deviation NAME_std; of angles the circular
    one, √(−2 log |E e^{ix}|).
    """
    import pyarrow.parquet as pq

    trained = Trained.open(model)
    sequences = any(isinstance(part, SequenceDecoder) for part in trained.model.decoder.modules())
    if beam is not None and (draw or not sequences):
        reason = "draws are not searched for" if draw else "this model decodes no sequences"
        raise InputError(f"--beam: {reason}; leave it")
    source = Path(source)
    path = target(out, trained, source)
    if spread:
        _check_spread(trained, path, draw, spread)
    try:
        latents = pq.ParquetFile(source)
    except (OSError, ValueError) as error:
        raise InputError(f"{source} is no Parquet file of latents: {error}") from error
    header = _told(latents, source)
    if header.get("model") not in (None, trained.fingerprint):
        raise InputError(
            f"{source} was encoded by another model ({header['model'][:12]}, this is {trained.fingerprint[:12]}): "
            "decode it with that one"
        )
    blocks: list[xr.Dataset] = []
    rows = bad = 0
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for table in _tables(latents, source):
            rows += len(table)
            z, good = _latents(table, trained.model, source)
            bad += int((~good).sum())
            context = _context(table, trained, good, header.get("context"))
            likelihood = trained.model.decode(z, context)
            x = likelihood.sample() if draw else centre(likelihood, beam)
            block = physical(trained, x, good, table)
            if spread:
                off = _spread(trained.model, z, _deviations(table, good, source), context, spread)
                block = block.assign(physical_spread(trained, off, good))
            blocks.append(block)
    if not blocks:
        raise InputError(f"{source} has no rows: nothing to decode")
    if bad == rows:
        raise InputError(f"{source}: no row has latents that are finite numbers: nothing to decode")
    write_data(_concatenated(blocks), path, trained)
    if not header:
        log.warning("%s does not say which model its latents are of: they are decoded as this one's", source)
    if bad:
        log.warning(
            "%s: %d of %d rows have no latents that are finite numbers: left empty", source, bad, rows
        )
    return rows


def _check_spread(trained: Trained, path: Path, draw: bool, draws: int) -> None:
    if draws < 2:
        raise InputError(f"--spread {draws}: a standard deviation takes draws, 100 or so")
    if draw:
        raise InputError("draws have no spread of their own: leave one of --draw and --spread")
    if isinstance(trained.model, VQVAE):
        raise InputError("--spread: the latents of this model are codes, of which encode gives one: leave it")
    if path.suffix in trained.domain.formats and not trained.domain.spreads:
        raise InputError(
            f"{path.suffix} of {trained.domain.name} has no room for standard deviations: give -o FILE.h5"
        )


def _deviations(table: pd.DataFrame, good: np.ndarray, source: Path) -> torch.Tensor:
    """The standard deviations of the latents of good rows."""
    try:
        found = matrix(table, "z_std")
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    if found is None or not (np.isfinite(found[good]).all() and (found[good] >= 0).all()):
        raise InputError(
            f"{source} does not say by z_std_0 … how far its latents may be off, which --spread is about: "
            "encode again"
        )
    return torch.from_numpy(found[good].astype(np.float32))


def _spread(
    model: VAE, z: torch.Tensor, deviations: torch.Tensor, context: Context, draws: int
) -> dict[str, torch.Tensor]:
    """The standard deviation of each number over draws of z and of x given z."""
    if deviations.shape != z.shape:
        raise InputError(f"z_std has {deviations.shape[-1]} columns, and z has {z.shape[-1]}: encode again")
    decoders = (
        dict(model.decoder.fields.items()) if isinstance(model.decoder, Joint) else {"x": model.decoder}
    )
    sums: dict[str, torch.Tensor] = {}
    for _ in range(draws):
        drawn = model.decode(z + deviations * torch.randn_like(z), context).sample()
        for name, x in (drawn if isinstance(drawn, dict) else {"x": drawn}).items():
            if not x.is_floating_point():
                raise InputError(
                    f"--spread: of {name}, which has names and no numbers, there is no standard deviation"
                )
            x = x.double()
            # of an angle its direction, of others the square beside it
            both = (x.cos(), x.sin()) if isinstance(decoders[name], VonMises) else (x, x.square())
            sums[name] = sums.get(name, torch.zeros(())) + torch.stack(both) / draws
    found = {}
    for name, (first, second) in sums.items():
        if isinstance(decoders[name], VonMises):
            variance = -2 * torch.hypot(first, second).clamp(1e-12, 1).log()
        else:
            variance = (second - first.square()).clamp(min=0) * draws / (draws - 1)
        found[name] = variance.sqrt().float()
    return found


def _told(latents: pq.ParquetFile, source: Path) -> dict[str, Any]:
    """What ``encode`` wrote into a table beside its rows; empty of a table of another origin."""
    try:
        metadata = latents.schema_arrow.metadata or {}
        if b"sciencevae" in metadata:
            header = json.loads(metadata[b"sciencevae"])
        else:  # pandas keeps its own alone, when it writes again what it has read
            header = json.loads(metadata.get(b"PANDAS_ATTRS", b"{}")).get("sciencevae", {})
        if not isinstance(header, dict):
            raise ValueError("no object")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{source}: what it says of its model is damaged ({error}): encode again") from error
    return header


def _tables(latents: pq.ParquetFile, source: Path) -> Iterator[pd.DataFrame]:
    """The rows in blocks, each with its number, and with a name where the table has names."""
    rows = 0
    try:
        for record in latents.iter_batches(BLOCK_ROWS):
            table = record.to_pandas()
            if "row" not in table:  # latents of the user's own
                table["row"] = rows + np.arange(len(table))
            if table["row"].dtype.kind not in "iu":
                raise InputError(
                    f"{source}: the column row holds {table['row'].dtype}, not whole numbers: rename it"
                )
            if "id" in table and (missing := table["id"].isna()).any():
                # not as pandas has them: beside a missing one 7 is 7.0
                names = np.array(record.column("id").to_pylist(), object)
                table["id"] = np.where(missing, (table["row"] + 1).astype(str), names)
            rows += len(table)
            yield table
    except OSError as error:
        raise InputError(f"{source} is damaged: {error}") from error


def _latents(table: pd.DataFrame, model: VAE, source: Path) -> tuple[torch.Tensor, Any]:
    """The latents of the rows that have them, as ``decode`` takes them, and which rows these are, (N,)."""
    name, width = ("code", math.prod(model.grid)) if isinstance(model, VQVAE) else ("z", model.dim)
    try:
        z = matrix(table, name)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    if z is None or z.ndim != 2 or z.shape[1] != width:
        found = 0 if z is None else math.prod(z.shape[1:])
        raise InputError(f"{source} has {found} latent columns {name}_0 …; the model has {width}")
    if isinstance(model, VQVAE):
        good = (z >= 0).all(1)
        if (wrong := z[good][z[good] % 1 != 0]).size:
            raise InputError(
                f"{source}: {wrong[0]:g} is no code; codes are whole numbers, 0 to {model.codes - 1}"
            )
        return torch.as_tensor(z[good], dtype=torch.long).reshape(-1, *model.grid), good
    with np.errstate(over="ignore"):
        z = z.astype(np.float32)
    good = np.isfinite(z).all(axis=1)
    return torch.from_numpy(z[good]), good


def sample_file(
    model: str | Path,
    out: str | Path,
    n: int,
    seed: int = 0,
    condition: Sequence[float] | Mapping[str, float] | None = None,
) -> None:
    """n new data from p(z) and p(x | z), in physical units.

    condition: numbers, where the model wants to be told some; or by their names values of what it describes, as
    ``{"QED": 0.9}``, which the new data are to have (``latents_given``).
    """
    import pandas as pd

    trained = Trained.open(model)
    path = target(out, trained)
    table = pd.DataFrame({"row": np.arange(n)})
    if isinstance(condition, Mapping):
        x: Any = sample_with(trained, condition, n, seed)
    else:
        given, blocks = given_numbers(trained, condition), []
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for start in range(0, n, BLOCK_ROWS):
                rows = min(BLOCK_ROWS, n - start)
                told = {name: value.expand(rows, -1) for name, value in given.items()}
                blocks.append(trained.model.sample(rows, told or None))
        x = joined(blocks)
        if condition is not None:
            table = table.assign(**columns("condition", np.tile(condition, (n, 1))))
    write_data(physical(trained, x, np.ones(n, bool), table), path, trained)


def _identity(block: xr.Dataset) -> pd.DataFrame:
    import pandas as pd

    named = [*IDENTIFY, *(name for name in ("note",) if name in block.coords)]
    return pd.DataFrame({name: block[name].values for name in named})


def _context(
    table: pd.DataFrame, trained: Trained, good: np.ndarray, names: Sequence[str] | None
) -> dict[str, torch.Tensor]:
    """What the rows of a table of latents are decoded with, scaled as the model was trained with it."""
    from sciencevae.data.batches import noisy_field, to_tensor

    fields = list(getattr(trained.model.decoder, "fields", ["x"]))
    if names is None:
        names = [*_CONTEXT, *(f"{known}.{field}" for known in _CONTEXT for field in fields)]
    noisy = noisy_field({f"x.{field}": field for field in fields})
    context = {}
    for name in names:
        values = matrix(table, name)
        if values is not None:
            tensor = torch.from_numpy(values[good])
            context[name] = to_tensor(name, tensor, trained.scaling, torch.float32, noisy)
    return context


def _concatenated(blocks: list[xr.Dataset]) -> xr.Dataset:
    import xarray as xr

    return xr.concat(blocks, "sample") if len(blocks) > 1 else blocks[0]


def _header(trained: Trained) -> dict[str, Any]:
    return {"model": trained.fingerprint, "domain": trained.domain.name}
