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
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sciencevae.batch import Batch
from sciencevae.data.atomic import atomic_path
from sciencevae.data.tables import write_table
from sciencevae.errors import InputError, did_you_mean
from sciencevae.latents.typical import Typical, distance
from sciencevae.provenance import file_hash
from sciencevae.vae.decoders import Sequence as SequenceDecoder
from sciencevae.vae.decoders import Warp
from sciencevae.vae.files import load, load_metadata, model_path
from sciencevae.vae.model import VAE, centre, likeliest
from sciencevae.vae.vq import VQVAE

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from sciencevae.data.scaling import Scaling
    from sciencevae.registry import Domain

__all__ = ["Trained", "decode_file", "encode_file", "sample_file", "score_file", "target", "write_decoded"]

log = logging.getLogger(__name__)
#: rows that go through the model at once
BLOCK_ROWS = 8192
#: numbers of one variable of the context that a row of latents has room for, a column each
WIDEST = 4096
_IDENTIFY = ("row", "id", "status")
#: the context of a table whose metadata don't name it; of one field of several ``noise.NAME``, …
_CONTEXT = ("condition", "noise", "exposure", "source")


@dataclass(frozen=True)
class Trained:
    """A model's file opened: the model, its domain and settings, and the data it was trained on, without rows."""

    model: VAE
    domain: Domain
    settings: Any
    template: xr.Dataset
    scaling: Scaling
    typical: Typical | None
    fingerprint: str

    @classmethod
    def open(cls, path: str | Path) -> Trained:
        """Raises InputError for a file that no run of a domain wrote."""
        from sciencevae.config import validate
        from sciencevae.data import template
        from sciencevae.data.scaling import Scaling
        from sciencevae.registry import domain

        path = model_path(path)
        metadata = load_metadata(path)
        if not {"domain", "settings", "data"} <= set(metadata):
            raise InputError(f"{path} does not say which domain it is of: give the model of a run")
        owner = domain(metadata["domain"])
        settings = validate(owner.settings, metadata["settings"], str(path)).variant("main")
        data = template.from_json(metadata["data"])
        typical = Typical.from_json(metadata["typical"]) if "typical" in metadata else None
        return cls(load(path), owner, settings, data, Scaling.of(data), typical, file_hash(path))

    def read(self, source: str | Path) -> Iterator[xr.Dataset]:
        """The user's file in blocks, as the domain reads it."""
        source = Path(source)
        if self.domain.read is None:
            raise InputError(f"domain {self.domain.name!r} does not read files of your own")
        if not source.exists():
            raise InputError(f"no file {source}")
        for block in self.domain.read(source, self.settings, self.template):
            for start in range(0, block.sizes["sample"], BLOCK_ROWS):
                yield block.isel(sample=slice(start, start + BLOCK_ROWS))

    def beyond(self, values: np.ndarray, kind: str) -> dict[str, np.ndarray]:
        """The column that says how far rows lie from the training data, where the model brings what it needs."""
        if self.typical is None:
            return {}
        return {"beyond": self.typical.beyond(values, kind).astype(np.float32)}

    def batch(self, block: xr.Dataset, status: np.ndarray, checked: bool) -> Batch | None:
        """The rows of a block whose ``status`` is ok, scaled.

        checked: those that the likelihood cannot have made get their reason into ``status``
        """
        from sciencevae.data.batches import as_batches

        rows = np.flatnonzero(status == "ok")
        if not len(rows):
            return None
        usable = block.isel(sample=rows).drop_vars("split", errors="ignore")
        (batch,) = as_batches(usable, scaling=self.scaling).blocks(len(rows))
        if refused := dict(_refused(self.model, batch)) if checked else {}:
            status[rows[list(refused)]] = list(refused.values())
            return self.batch(block, status, checked=False)
        return batch


def _refused(model: VAE, batch: Batch, first: int = 0) -> Iterator[tuple[int, str]]:
    """The rows that a model does not take, and why: a batch with such is halved until they are alone."""
    try:
        model.check(batch)
    except InputError as error:
        if len(batch) == 1:
            yield first, str(error)
            return
        half = len(batch) // 2
        yield from _refused(model, batch[:half], first)
        yield from _refused(model, batch[half:], first + half)


def encode_file(model: str | Path, source: str | Path, out: str | Path) -> int:
    """Latents of every row of a file, in its order; bad rows are there with NaN, codes with −1. Gives the
    number encoded.

    ``beyond`` is the share of validation data whose latents the prior finds likelier: near 1 a row is unlike all
    that the model was trained on.
    """
    trained = Trained.open(model)

    def latents(batch: Batch | None) -> dict[str, np.ndarray]:
        model, far = trained.model, np.zeros(0)
        if isinstance(model, VQVAE):
            codes = np.zeros((0, *model.grid), np.int32)
            if batch is not None:
                z = model.encode(batch.x, batch.context).codes
                codes, far = z.int().numpy(), distance(model, z, batch.context)
            found = _columns("code", codes.reshape(len(codes), math.prod(model.grid)))
        else:
            mean = std = np.zeros((0, model.dim), np.float32)
            if batch is not None:
                posterior = model.encode(batch.x, batch.context)
                mean, std = posterior.mean.numpy(), posterior.stddev.numpy()
                far = distance(model, posterior.mean, batch.context)
            found = _columns("z", mean) | _columns("z_std", std)
        return found | trained.beyond(far, "latent")

    return _write_rows(trained, source, out, latents, keep_context=True)


def score_file(model: str | Path, source: str | Path, out: str | Path, kind: str = "elbo") -> int:
    """How anomalous each row is, in the file's order; higher is more anomalous. Gives the number scored.

    Of the ELBO there is also ``beyond``, the share of validation data that score lower.
    """
    from sciencevae.latents.score import anomaly_score

    trained = Trained.open(model)

    def scores(batch: Batch | None) -> dict[str, np.ndarray]:
        found: Any = [] if batch is None else anomaly_score(trained.model, batch, kind=kind).numpy()
        beyond = trained.beyond(np.asarray(found, float), "elbo") if kind == "elbo" else {}
        return {"score": np.asarray(found, np.float32), **beyond}

    return _write_rows(trained, source, out, scores, checked=True, kind=kind)


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

    usable, reason = 0, ""
    header: dict[str, Any] = _header(trained) | said
    path = _target(out, [".parquet"], source)

    def tables() -> Iterator[pd.DataFrame]:
        nonlocal usable, reason
        for block in trained.read(source):
            table = _identity(block)
            status = block["status"].values.astype(object)
            batch = trained.batch(block, status, checked)
            good = status == "ok"
            with torch.no_grad():
                for name, values in compute(batch).items():
                    table[name] = _spread(values, good)
                    lost = (status == "ok") & ~np.isfinite(table[name].to_numpy())
                    status[lost] = "the model gives no finite number"
            table["status"] = status
            if keep_context:
                context = _context_columns(block)
                header["context"] = list(context)
                columns = {c: values for found in context.values() for c, values in found.items()}
                table = pd.concat([table, pd.DataFrame(columns, table.index)], axis=1)
            usable += int((status == "ok").sum())
            reason = reason or next((str(found) for found in status if found != "ok"), "")
            yield table
        if not usable:
            raise InputError(f"{source}: no row can be used; the first reason: {reason or 'it has no rows'}")

    _write_parquet(tables(), path, header)
    return usable


def _context_columns(block: xr.Dataset) -> dict[str, dict[str, np.ndarray]]:
    """The columns of each variable of a block that is context; InputError where a row has no room for it."""
    from sciencevae.data.batches import flat_names

    found: dict[str, dict[str, np.ndarray]] = {}
    for flat, name in flat_names(list(block.data_vars), block.attrs).items():
        if not flat.startswith("context."):
            continue
        values = block[name].transpose("sample", ...).values
        if name in (*_IDENTIFY, "z", "z_std", "code"):
            raise InputError(f"context {name!r} has the name of a column of latents: read it by another name")
        if (width := math.prod(values.shape[1:])) > WIDEST:
            raise InputError(
                f"context {name!r} has {width} numbers a row, and a table of latents has room for {WIDEST}: encode "
                "and decode in Python, with model.encode(x, context) and model.decode(z, context)"
            )
        found[name] = _columns(name, values)
    return found


def decode_file(
    model: str | Path,
    source: str | Path,
    out: str | Path,
    draw: bool = False,
    beam: int | None = None,
    seed: int = 0,
) -> int:
    """The mean of p(x | z) for each row of a table of latents, in physical units, in its order.

    Of sequences the greedy one; beam: the likeliest that a search of this width finds. draw: a draw of p(x | z)
    in place of its mean.
    """
    import pyarrow.parquet as pq

    trained = Trained.open(model)
    sequences = any(isinstance(part, SequenceDecoder) for part in trained.model.decoder.modules())
    if beam is not None and (draw or not sequences):
        reason = "draws are not searched for" if draw else "this model decodes no sequences"
        raise InputError(f"--beam: {reason}; leave it")
    source = Path(source)
    path = target(out, trained, source)
    try:
        latents = pq.ParquetFile(source)
    except (OSError, ValueError) as error:
        raise InputError(f"{source} is no Parquet file of latents: {error}") from error
    header = json.loads((latents.schema_arrow.metadata or {}).get(b"sciencevae", b"{}"))
    if header.get("model") not in (None, trained.fingerprint):
        raise InputError(
            f"{source} was encoded by another model ({header['model'][:12]}, this is {trained.fingerprint[:12]}): "
            "decode it with that one"
        )
    blocks: list[xr.Dataset] = []
    rows = 0
    for record in latents.iter_batches(BLOCK_ROWS):
        table: pd.DataFrame = record.to_pandas()
        if "row" not in table:  # latents of the user's own
            table = table.assign(row=rows + np.arange(len(table)))
        rows += len(table)
        z, good = _latents(table, trained.model, source)
        context = _context(table, trained, good, header.get("context"))
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed + len(blocks))
            likelihood = trained.model.decode(z, context)
            x = likelihood.sample() if draw else likeliest(likelihood, beam) if beam else centre(likelihood)
        blocks.append(_physical(trained, x, good, table))
    if not blocks:
        raise InputError(f"{source} has no rows: nothing to decode")
    _write_data(_concatenated(blocks), path, trained)
    return rows


@torch.no_grad()
def write_decoded(trained: Trained, z: torch.Tensor, table: pd.DataFrame, path: Path) -> None:
    """The means of p(x | z) of latents (N, D), in physical units, beside what identifies them."""
    x = centre(trained.model.decode(z))
    _write_data(_physical(trained, x, np.ones(len(z), bool), table), path, trained)


def _latents(table: pd.DataFrame, model: VAE, source: Path) -> tuple[torch.Tensor, Any]:
    """The latents of the rows that have them, as ``decode`` takes them, and which rows these are, (N,)."""
    name, columns = ("code", math.prod(model.grid)) if isinstance(model, VQVAE) else ("z", model.dim)
    z = _matrix(table, name)
    if z is None or z.ndim != 2 or z.shape[1] != columns:
        found = 0 if z is None else math.prod(z.shape[1:])
        raise InputError(f"{source} has {found} latent columns {name}_0 …; the model has {columns}")
    if isinstance(model, VQVAE):
        good = (z >= 0).all(1)
        if (wrong := z[good][z[good] % 1 != 0]).size:
            raise InputError(
                f"{source}: {wrong[0]:g} is no code; codes are whole numbers, 0 to {model.codes - 1}"
            )
        return torch.as_tensor(z[good], dtype=torch.long).reshape(-1, *model.grid), good
    good = np.isfinite(z).all(axis=1)
    return torch.as_tensor(z[good], dtype=torch.float32), good


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
        x: Any = _sample_with(trained, condition, n, seed)
    else:
        rows = {name: value.expand(n, -1) for name, value in _given(trained, condition).items()}
        x = trained.model.sample(n, rows or None, seed=seed)
        if condition is not None:
            table = table.assign(**_columns("condition", np.tile(condition, (n, 1))))
    _write_data(_physical(trained, x, np.ones(n, bool), table), path, trained)


@torch.no_grad()
def _sample_with(trained: Trained, condition: Mapping[str, float], n: int, seed: int) -> Any:
    """n new data that have these values."""
    from sciencevae.latents.given import latents_given

    _given(trained, None)  # what the model is to be told besides is refused
    z = latents_given(trained.model, _known(trained, condition), n, seed).z
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return trained.model.decode(z).sample()


def _known(trained: Trained, condition: Mapping[str, float]) -> dict[str, torch.Tensor]:
    """Values by the names on the axes of the model's fields, scaled, NaN where nothing is said of an entry."""
    axes = {
        str(label).lower(): (str(field), place)
        for field, values in trained.template.data_vars.items()
        for axis in values.dims[1:2]
        if axis in trained.template.coords
        for place, label in enumerate(values[axis].values.tolist())
    }
    found: dict[str, torch.Tensor] = {}
    for name, value in condition.items():
        if name.lower() not in axes:
            raise InputError(
                f"--condition: the model describes no {name!r}{did_you_mean(name.lower(), axes)}"
            )
        if not math.isfinite(value):
            raise InputError(f"--condition {name}={value}: give a finite number")
        field, place = axes[name.lower()]
        values = found.setdefault(field, torch.full(trained.template[field].shape[1:], torch.nan))
        values[place] = value
        ranges = trained.template.attrs.get("ranges", {}).get(field)
        if ranges and not ranges[place][0] <= value <= ranges[place][1]:
            log.warning(
                "%s=%g lies outside the training data, %g to %g: what comes is a guess",
                name,
                value,
                *ranges[place],
            )
    return {field: trained.scaling.apply(field, values[None])[0] for field, values in found.items()}


def _given(trained: Trained, condition: Sequence[float] | None) -> dict[str, torch.Tensor]:
    """The condition (1, c), scaled, that new data are drawn given; InputError where the model wants another."""
    decoders = list(trained.model.decoder.modules())  # those of named fields, too
    for known, needed in (
        ("a known error", any(getattr(part, "scale", None) == "per-datum" for part in decoders)),
        ("a source image", any(isinstance(part, Warp) for part in decoders)),
    ):
        if needed:
            raise InputError(
                f"this model describes data of which each has {known}, and a new datum has none: 'sample' is not "
                "for it; decode latents of your own with 'decode'"
            )
    if not any(getattr(part, "conditional", False) for part in (trained.model.prior, *decoders)):
        if condition is not None:
            raise InputError("this model is told no condition: leave --condition")
        return {}
    fitted = trained.scaling.fields.get("condition")
    width = fitted.loc.size if fitted is not None else None
    if condition is None or (width is not None and len(condition) != width):
        found = "none" if condition is None else len(condition)
        raise InputError(
            f"this model is told {width or 'some'} number(s) to condition on, and {found} is given: "
            "give --condition VALUE[,VALUE…]"
        )
    given = torch.tensor([list(condition)], dtype=torch.float32)
    if not given.isfinite().all():
        raise InputError(f"--condition: finite numbers, not {', '.join(map(str, condition))}")
    return {"condition": trained.scaling.apply("condition", given)}


def _target(out: str | Path, endings: Sequence[str], source: str | Path | None = None) -> Path:
    """Where to write; InputError, before anything is computed, where that would destroy something."""
    path = Path(out)
    if not path.name:
        raise InputError(f"cannot write {str(out)!r}: it names no file")
    if path.suffix not in endings:
        raise InputError(
            f"cannot write {str(out)!r}: give a file's name that ends with {' or '.join(endings)}"
        )
    if path.is_dir():
        store = path.suffix == ".zarr" and ((path / "zarr.json").is_file() or not any(path.iterdir()))
        if not store:
            raise InputError(f"{path} is a folder that would be lost: choose another name")
    if source is not None and path.resolve() == Path(source).resolve():
        raise InputError(f"{path} is the input itself: choose another name to write to")
    return path


def target(out: str | Path, trained: Trained, source: str | Path | None = None) -> Path:
    """Where to write data; InputError as above, and for an ending that neither we nor the domain write."""
    return _target(out, [*trained.domain.formats, *_WRITERS], source)


def _identity(block: xr.Dataset) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({name: block[name].values for name in _IDENTIFY})


def _columns(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """``name_0 …`` for (N, n), ``name_0_0 …`` for (N, n, n)."""
    return {
        "_".join([name, *map(str, index)]): values[(slice(None), *index)]
        for index in np.ndindex(values.shape[1:])
    }


def _matrix(table: pd.DataFrame, name: str) -> np.ndarray | None:
    """The inverse of ``_columns``; None where the table has no such column."""
    found: dict[tuple[int, ...], np.ndarray] = {}
    for column in map(str, table.columns):
        if index := re.fullmatch(re.escape(name) + r"((?:_\d+)*)", column):
            if table[column].dtype.kind not in "iufb":
                raise InputError(f"the column {column} holds {table[column].dtype}, not numbers")
            found[tuple(map(int, index[1].split("_")[1:]))] = table[column].to_numpy()
    if not found:
        return None
    if len({len(position) for position in found}) > 1:
        raise InputError(
            f"the columns of {name} have different numbers of indices: rename those that are not its"
        )
    shape = tuple(np.max(list(found), axis=0) + 1) if () not in found else ()
    for position in np.ndindex(shape):
        if position not in found:
            raise InputError(
                f"the column {'_'.join([name, *map(str, position)])} is missing among those of {name}"
            )
    return np.stack([found[position] for position in np.ndindex(shape)], axis=1).reshape(len(table), *shape)


def _spread(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """The values of the usable rows among all rows; elsewhere NaN, −1 among integers."""
    everywhere = np.full(
        (len(good), *values.shape[1:]), -1 if values.dtype.kind == "i" else np.nan, values.dtype
    )
    everywhere[good] = values
    return everywhere


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
        values = _matrix(table, name)
        if values is not None:
            tensor = torch.from_numpy(values[good])
            context[name] = to_tensor(name, tensor, trained.scaling, torch.float32, noisy)
    return context


def _physical(trained: Trained, x: Any, good: np.ndarray, table: pd.DataFrame) -> xr.Dataset:
    """Decoded fields unscaled, as the prepared data have them, beside what identifies each row."""
    import xarray as xr

    fields = x if isinstance(x, dict) else {"x": x}
    variables = {}
    for name, tensor in fields.items():
        values = _spread(trained.scaling.invert(name, tensor).numpy(), good)
        known = trained.template[name]
        variables[name] = (known.dims, values, known.attrs)
    kept = [name for name in table.columns if name in _IDENTIFY or str(name).startswith("condition")]
    coords = {str(name): ("sample", table[name].to_numpy()) for name in kept}
    attributes = trained.template.attrs | {"domain": trained.domain.name, "model": trained.fingerprint}
    return xr.Dataset(variables, coords=trained.template.coords, attrs=attributes).assign_coords(coords)


def _concatenated(blocks: list[xr.Dataset]) -> xr.Dataset:
    import xarray as xr

    return xr.concat(blocks, "sample") if len(blocks) > 1 else blocks[0]


def _write_data(data: xr.Dataset, path: Path, trained: Trained) -> None:
    """By the ending: the domain's own formats; otherwise .h5, .zarr, .csv or .parquet."""
    if trained.domain.write is not None and path.suffix in trained.domain.formats:
        trained.domain.write(data, path)
    else:
        _WRITERS[path.suffix](data, path)


def _write_h5(data: xr.Dataset, path: Path) -> None:
    from sciencevae.data.hdf5 import write_hdf5

    write_hdf5(data, path)


def _write_zarr(data: xr.Dataset, path: Path) -> None:
    from sciencevae.data.store import quiet

    with atomic_path(path) as temporary, quiet():
        data.to_zarr(temporary, mode="w", consolidated=False)


def _flat(data: xr.Dataset) -> pd.DataFrame:
    import pandas as pd

    columns = {str(name): data[name].values for name in data.coords if data[name].dims == ("sample",)}
    for name in data.data_vars:
        columns |= _columns(str(name), data[name].values)
    return pd.DataFrame(columns)


def _write_flat(data: xr.Dataset, path: Path) -> None:
    write_table(_flat(data), path)


_WRITERS: dict[str, Callable[[xr.Dataset, Path], None]] = {
    ".h5": _write_h5, ".hdf5": _write_h5, ".zarr": _write_zarr, ".csv": _write_flat, ".parquet": _write_flat,
}  # fmt: skip


def _header(trained: Trained) -> dict[str, Any]:
    return {"model": trained.fingerprint, "domain": trained.domain.name}


def _write_parquet(tables: Iterator[pd.DataFrame], path: Path, header: dict[str, Any]) -> None:
    """Row groups as they come; the file appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary:
        writer = None
        try:
            for frame in tables:
                table = pa.Table.from_pandas(frame, preserve_index=False)
                if writer is None:
                    schema = table.schema.with_metadata({"sciencevae": json.dumps(header)})
                    writer = pq.ParquetWriter(temporary, schema)
                writer.write_table(table.cast(writer.schema))
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise InputError("the file has no rows: nothing to do")
