"""Molecules to sequences of tokens: of the data sets, and of a user's own file block by block."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from rdkit import rdBase

from sciencevae.data.atomic import atomic_path
from sciencevae.data.parallel import blocks_of, streamed
from sciencevae.data.splits import SPLITS
from sciencevae.data.tables import write_table
from sciencevae.errors import InputError

from .chemistry import Refused, Standard, properties, standard
from .files import Row, rows_of
from .settings import COMPUTED, QUANTUM, Molecules
from .tokens import Alphabet, split

__all__ = ["alphabet_of", "beside", "hash_of", "numbered", "prepare", "read", "write", "write_smi"]

_BLOCK = 1000  # rows that are standardised at once
_LISTED = 20  # refused rows that a run names
#: what RDKit and selfies raise of their own over one row, which costs that row, not the file
_STUMBLES = (ValueError, RuntimeError, LookupError, TypeError)


class Recipe(NamedTuple):
    """What is made of a row: picklable, to be sent to a process."""

    how: Standard
    notation: str
    computed: tuple[str, ...]

    @classmethod
    def of(cls, settings: Molecules) -> Recipe:
        chosen = settings.prepare
        computed = tuple(name for name in chosen.properties if name in COMPUTED)
        return cls(Standard.of(chosen), chosen.notation, computed)


class Made(NamedTuple):
    """A row made standard; ``problem`` says why it is refused."""

    smiles: str
    tokens: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    problem: str = ""


@dataclass
class _Table:
    """What is kept of the rows that are used: small, since there may be millions."""

    smiles: list[str] = field(default_factory=list)
    tokens: list[np.ndarray] = field(default_factory=list)
    values: list[tuple[float, ...]] = field(default_factory=list)
    number: list[int] = field(default_factory=list)
    hashed: list[int] = field(default_factory=list)
    split: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    #: why, and how often
    reasons: Counter[str] = field(default_factory=Counter)

    def refuse(self, row: str, reason: str) -> None:
        """Count a row that is left out, and name it where it is among the first."""
        self.reasons[reason] += 1
        if len(self.refused) < _LISTED:
            self.refused.append(f"{row}: {reason}")


def prepare(settings: Molecules, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """tokens (sample, place): their numbers, the stop, −1 behind; properties (sample, property).

    Coordinates: smiles, canonical; molecule, the number of its row from 1 on; split, by the SHA-256 of the SMILES
    as it stands in the file, all rows of one molecule on one side. Attributes: the alphabet, of the training
    molecules, and how many rows were refused, with the first reasons.
    """
    chosen = settings.prepare
    if input is not None and (unknown := [name for name in chosen.properties if name in QUANTUM]):
        raise InputError(
            f"prepare.properties: {unknown[0]} is known of qm9 alone, not of {input}: set prepare.properties to "
            f"any of {', '.join(COMPUTED)}, and prepare.measured to columns of your own"
        )
    if input is None and chosen.measured:
        raise InputError("prepare.measured names columns of a table of your own: give it with --input")

    def rows() -> Iterator[Row]:
        if input is not None:
            return rows_of(input, chosen.column, chosen.identifier, tuple(chosen.measured))
        return _published(settings, files)

    table, numbers = _Table(), dict[str, int]()
    for number, row, made in _made(_taken(rows, chosen.rows), Recipe.of(settings)):
        if made.problem:
            table.refuse(f"row {number} ({row.name})", made.problem)
            continue
        # numbers of their own until it is known which tokens stand in training molecules
        ids = [numbers.setdefault(token, len(numbers) + 1) for token in made.tokens]
        table.tokens.append(np.array(ids, np.int16))
        table.smiles.append(made.smiles)
        table.values.append(_in_order(settings, made.values, row.values))
        table.number.append(number)
        table.hashed.append(hash_of(row.smiles))
        table.split.append(row.split)
    if not table.smiles:
        first = table.refused[0] if table.refused else "it has no rows"
        raise InputError(f"{input or settings.dataset}: no molecule can be used; {first}")
    return _dataset(settings, table, list(numbers))


def _dataset(settings: Molecules, table: _Table, seen: list[str]) -> xr.Dataset:
    chosen = settings.prepare
    code = _splits(table, chosen.fractions)
    lengths = np.array([len(ids) for ids in table.tokens]) + 1
    fits = lengths <= (chosen.length or lengths.max())
    _refuse(table, ~fits, f"more than {chosen.length} tokens with the stop")
    if not fits.any():
        raise InputError(
            f"no molecule has {chosen.length} tokens at most, the stop counted; the shortest has {lengths.min()}: "
            "set prepare.length higher, or to null"
        )
    x = np.full((len(lengths), int(lengths[fits].max())), -1, np.int16)
    training = (code == SPLITS["train"]) & fits
    if not training.any():
        raise InputError(
            f"of {len(np.unique(table.smiles))} different molecules none is for training: give more of them, or "
            "set prepare.fractions.train higher"
        )
    used = {
        seen[number - 1]
        for ids, one in zip(table.tokens, training, strict=True)
        if one
        for number in set(ids)
    }
    alphabet = Alphabet.of([used], chosen.notation)
    known = np.array([-2, *(alphabet.number(token) for token in seen)], np.int16)
    for row, ids in enumerate(table.tokens):
        if fits[row]:
            x[row, : len(ids)] = known[ids]
            x[row, len(ids)] = 0
    lacking = fits & (x == -2).any(1)
    _refuse(table, lacking, "a token that no training molecule has")
    rows = np.flatnonzero(fits & ~lacking)
    x_attrs = {
        "units": "1",
        "long_name": "number of a token in the alphabet, 0 the stop",
        "scaling": "identity",
    }
    ranges: dict[str, list[list[float]]] = {}
    variables: dict[str, Any] = {"tokens": (("sample", "place"), x[rows], x_attrs)}
    coords: dict[str, Any] = {
        "smiles": ("sample", np.array(table.smiles)[rows], {"long_name": "canonical SMILES"}),
        "molecule": ("sample", np.array(table.number)[rows], {"units": "1", "long_name": "row, from 1"}),
        "split": ("sample", code[rows]),
    }
    if chosen.properties or chosen.measured:
        values = np.array(table.values)
        units = [*map(_unit, chosen.properties), *chosen.measured.values()]
        described = {"units": ", ".join(units), "scaling": "standard"}
        variables["properties"] = (("sample", "property"), values[rows].astype(np.float32), described)
        coords["property"] = [*chosen.properties, *chosen.measured]
        of_training = values[training]
        if (lost := ~np.isfinite(of_training).any(0)).any():
            raise InputError(
                f"no training molecule has a number in {coords['property'][lost.argmax()]!r}: is it spelt as in "
                "the file?"
            )
        ranges["properties"] = np.stack(
            [np.nanmin(of_training, axis=0), np.nanmax(of_training, axis=0)], axis=1
        ).tolist()
    attrs = {
        "fields": list(variables),
        "identifier": "molecule",
        "ranges": ranges,
        "notation": chosen.notation,
        "alphabet": list(alphabet.tokens),
        "trained_tokens": alphabet.trained,
        "refused": int(sum(table.reasons.values())),
        "refused_rows": table.refused,
        "refused_reasons": json.dumps(dict(table.reasons.most_common(_LISTED))),
        "provenance": json.dumps(
            {"rdkit": rdBase.rdkitVersion, "split": "SHA-256 of the SMILES in the file"}
        ),
    }
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def _refuse(table: _Table, rows: np.ndarray, reason: str) -> None:
    for place in np.flatnonzero(rows):
        table.refuse(f"row {table.number[place]} ({table.smiles[place]})", reason)


def _unit(name: str) -> str:
    return COMPUTED.get(name) or QUANTUM[name][2]


def _in_order(settings: Molecules, computed: Sequence[float], given: Sequence[float]) -> tuple[float, ...]:
    """The values of the properties in the order in which the settings name them, then those of your own table."""
    two = (iter(computed), iter(given))
    return (*(next(two[name in QUANTUM]) for name in settings.prepare.properties), *two[True])


def hash_of(text: str, salt: str = "") -> int:
    """63 bits of the SHA-256."""
    return int.from_bytes(hashlib.sha256((salt + text).encode()).digest()[:8], "big") >> 1


def _splits(table: _Table, fractions: Mapping[str, float]) -> np.ndarray:
    """The split of each row: molecules in the order of their smallest hash, the first ones test, the next valid.

    Rows that their makers divided stay where they are; the fractions divide the others.
    """
    _, molecules = np.unique(np.array(table.smiles), return_inverse=True)
    code = np.array(table.split, np.int8)
    open_ = np.flatnonzero(code < 0)
    first = np.full(molecules.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, molecules[open_], np.array(table.hashed)[open_])
    order = open_[np.argsort(first[molecules[open_]], kind="stable")]
    shares = {name: fractions.get(name, 0.0) for name in SPLITS}
    total = sum(shares.values())
    if total <= 0:
        raise InputError("prepare.fractions: at least one part has a share above 0")
    ends = np.round(np.cumsum([shares["test"], shares["valid"]]) / total * len(order)).astype(int)
    position = np.arange(len(order))
    # a molecule is where its first row is
    key = first[molecules[order]]
    begins = np.r_[True, key[1:] != key[:-1]]
    start = np.maximum.accumulate(np.where(begins, position, 0))
    code[order] = np.select(
        [start < ends[0], start < ends[1]], [SPLITS["test"], SPLITS["valid"]], SPLITS["train"]
    )
    return code


def _taken(rows: Callable[[], Iterator[Row]], count: int | None) -> Iterator[tuple[int, Row]]:
    """The rows by their numbers from 1 on; of them the ``count`` with the smallest hash."""
    numbered = enumerate(rows(), start=1)
    if count is None:
        return numbered
    hashed = np.array([hash_of(row.smiles, "subset ") for row in rows()])
    if len(hashed) <= count:
        return numbered
    limit = np.partition(hashed, count - 1)[count - 1]
    return ((number, row) for number, row in numbered if hashed[number - 1] <= limit)


def _made(rows: Iterable[tuple[int, Row]], recipe: Recipe) -> Iterator[tuple[int, Row, Made]]:
    """Each row made standard, in order, by several processes where there are many."""
    blocks = blocks_of(rows, _BLOCK)
    for block, made in streamed(_block, blocks, recipe):
        yield from ((number, row, one) for (number, row), one in zip(block, made, strict=True))


def _block(rows: Sequence[tuple[int, Row]], recipe: Recipe) -> list[Made]:
    with rdBase.BlockLogs():  # what is wrong is said with its row
        return [_one(row, recipe) for _, row in rows]


def _one(row: Row, recipe: Recipe) -> Made:
    if row.problem:
        return Made("", problem=row.problem)
    try:
        smiles = standard(row.smiles, recipe.how)
        return Made(smiles, tuple(split(smiles, recipe.notation)), tuple(properties(smiles, recipe.computed)))
    except Refused as reason:
        return Made("", problem=str(reason))
    except _STUMBLES as error:
        return Made("", problem=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _published(settings: Molecules, files: Mapping[str, Path]) -> Iterator[Row]:
    """The rows of the data set, with the properties that come with it."""
    if settings.dataset == "zinc250k":
        with files["zinc250k.smiles"].open() as file:
            for number, line in enumerate(file, start=1):
                yield Row(str(number), line.strip())
    elif settings.dataset == "moses":
        for name, code in (("train.csv.gz", -1), ("test.csv.gz", SPLITS["test"])):
            for row in rows_of(files[name]):
                yield row._replace(split=code)
    else:
        wanted = [QUANTUM[name][:2] for name in settings.prepare.properties if name in QUANTUM]
        for part in (1, 2, 3):
            with files[f"qm9_part{part}.csv"].open(newline="") as file:
                for record in csv.DictReader(file):
                    values = tuple(float(record[column]) * factor for column, factor in wanted)
                    yield Row(record["Index"], record["SMILES"], values=values)


def beside(settings: Molecules) -> tuple[str, ...]:
    """The network of the Fréchet ChemNet Distance, and what was measured."""
    return ("chemnet", *settings.analyse.transfer)


def alphabet_of(template: xr.Dataset) -> Alphabet:
    """The alphabet that prepared data or a template say."""
    attrs = template.attrs
    return Alphabet(tuple(attrs["alphabet"]), int(attrs["trained_tokens"]), attrs["notation"])


def read(path: Path, settings: Molecules, template: xr.Dataset) -> Iterator[xr.Dataset]:
    """A user's molecules in blocks of tokens (sample, place), in the file's order; ``smiles`` as made standard."""
    chosen, alphabet = settings.prepare, alphabet_of(template)
    places = template["tokens"].shape[1]
    recipe = Recipe.of(settings)._replace(computed=())
    rows = enumerate(rows_of(path, chosen.column, chosen.identifier), start=1)
    for block in blocks_of(_made(rows, recipe), 8 * _BLOCK):
        x = np.full((len(block), places), -1, np.int16)
        status = []
        for ids, (_, _, made) in zip(x, block, strict=True):
            status.append(made.problem or numbered(ids, made.tokens, alphabet))
        unseen = [" ".join(alphabet.unseen(ids)) for ids in x.tolist()]
        number = np.array([number - 1 for number, _, _ in block])
        coords = {
            "row": ("sample", number),
            "id": ("sample", np.array([row.name for _, row, _ in block])),
            "status": ("sample", np.array(status)),
            "note": (
                "sample",
                np.array([f"no training molecule has {tokens}" if tokens else "" for tokens in unseen]),
            ),
            "smiles": ("sample", np.array([made.smiles for _, _, made in block])),
        }
        yield xr.Dataset(
            {"tokens": (("sample", "place"), x, template["tokens"].attrs)},
            coords=coords,
            attrs=template.attrs | {"fields": ["tokens"]},
        )


def numbered(ids: np.ndarray, tokens: Iterable[str], alphabet: Alphabet) -> str:
    """Write the numbers of a molecule's tokens into its row; "ok", or why it can't be read."""
    try:
        numbers = alphabet.encode(tokens)
    except Refused as reason:
        return str(reason)
    if len(numbers) > len(ids):
        return f"{len(numbers)} tokens with the stop; the model reads {len(ids)}"
    ids[: len(numbers)] = numbers
    return "ok"


def write(data: xr.Dataset, path: Path) -> None:
    """Decoded molecules: lines ``SMILES id`` in .smi; in .csv and .parquet the properties, too, by the model.

    A row that is no molecule has an empty SMILES, and in tables the status that its latents had. Ids are those of
    the latents' table, else numbers from 1 on.
    """
    import pandas as pd

    alphabet = alphabet_of(data)
    names = data["id"].values if "id" in data.coords else data["row"].values + 1
    table = pd.DataFrame(
        {"id": names, "smiles": [alphabet.decode(ids) for ids in data["tokens"].values.tolist()]}
    )
    if "status" in data.coords:
        table["status"] = data["status"].values
    if "properties" in data:
        # what the model tells of the latents, not of the molecule that is written: a draw may be another
        told = [f"{name}_model" for name in data["property"].values]
        table[told] = data["properties"].values
        table.attrs["units"] = dict(zip(told, data["properties"].attrs["units"].split(", "), strict=True))
    if path.suffix == ".smi":
        write_smi(table["smiles"], table["id"], path)
    else:
        write_table(table, path)


def write_smi(smiles: Iterable[str], names: Iterable[Any], path: Path) -> None:
    """Lines ``SMILES name``."""
    with atomic_path(path) as temporary:
        # a name with a line break in it would be a row more
        lines = (f"{text} {' '.join(str(name).split())}\n" for text, name in zip(smiles, names, strict=True))
        temporary.write_text("".join(lines), encoding="utf-8")
