"""Batches for training and evaluation: one contract; in memory here, streaming in ``streaming.py``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.data.order import Order, check_batch
from sciencevae.data.scaling import Scaling
from sciencevae.data.splits import check_leakage, split_rows
from sciencevae.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Batches", "InMemory", "as_batches", "flat_names", "identifiers_of", "to_tensor"]

_EXAMPLE_ROWS = 8
_NAMED_ROWS = 10  # as many as a message names
_GROUP_BYTES = 16 << 20  # how much is gathered at once, to be handed out in slices
_GROUP_BATCHES = 64
_BLOCK_BYTES = 64 << 20  # of data, beside which a network has its activations
_MEMORY_BYTES = 512 << 20  # of a split that is held in memory


class Batches(ABC):
    """Rows of a data set, handed out in batches. What both kinds promise:

    - an epoch's order is a pure function of (seed, epoch); batch t is ``order[t·B : (t+1)·B]``
    - rank r of R takes the r-th R-th of each batch, so a batch's content does not depend on R
    - ``start`` goes on in the middle of an epoch, as if the batches before had been drawn
    - every batch has the same shape: the last one is filled up with rows of the one before, each at its place
      there, at weight 0 (rows of its own, repeated, would spoil the statistics of a batch normalisation)
    """

    @abstractmethod
    def __len__(self) -> int:
        """Rows."""

    @abstractmethod
    def epoch(
        self, seed: int, epoch: int, batch_size: int, start: int = 0, rank: int = 0, ranks: int = 1
    ) -> Iterator[Batch]:
        """The batches of one epoch from number ``start`` on: batch_size/ranks rows each, with a ``weight``.

        InputError: a batch larger than the data, or not divisible by the ranks.
        """

    @abstractmethod
    def blocks(self, rows: int) -> Iterator[Batch]:
        """All rows in stored order, ``rows`` at a time, the last block shorter: to evaluate and encode."""

    @property
    @abstractmethod
    def example(self) -> Batch:
        """The first few rows, to see names and shapes."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """What all rows take in memory."""

    @abstractmethod
    def order(self, seed: int, epoch: int) -> Order:
        """The order of an epoch."""

    @abstractmethod
    def identifiers(self, rows: np.ndarray) -> tuple[str, np.ndarray]:
        """What the rows of these numbers are known by to who made the data, and what that is called."""

    def named(self, rows: np.ndarray) -> str:
        """The rows of these numbers as a message names them."""
        label, ids = self.identifiers(rows[:_NAMED_ROWS])
        more = f" and {len(rows) - _NAMED_ROWS} more" if len(rows) > _NAMED_ROWS else ""
        return f"{label} {', '.join(map(str, ids.tolist()))}{more}"

    def at_once(self, most: int, samples: int = 1) -> int:
        """Rows of a block that a model evaluates with so many draws each: ``most``, or what 64 MiB hold of them."""
        return max(1, min(most, _BLOCK_BYTES * len(self) // max(1, samples * self.nbytes)))

    def steps(self, batch_size: int) -> int:
        """Batches in one epoch."""
        return -(-len(self) // batch_size)


class InMemory(Batches):
    """Batches from tensors that fit in memory (or on a device, which they then stay on).

    block, window: the granularity of the order, see ``order.Order``; default: a full permutation
    ids:           of rows of these numbers what that is called which messages name them by, and it; default: them
    some:          these are some rows of a data set, of which a field may not be known

    >>> data = InMemory(Batch(torch.arange(5.0)[:, None]))
    >>> [batch.weight.tolist() for batch in data.epoch(seed=0, epoch=0, batch_size=2)]
    [[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]
    """

    def __init__(
        self,
        data: Batch | Tensor,
        *,
        block: int | None = None,
        window: int = 1,
        ids: Callable[[np.ndarray], tuple[str, np.ndarray]] | None = None,
        some: bool = False,
    ) -> None:
        batch = data if isinstance(data, Batch) else Batch(data)
        if not len(batch):
            raise InputError("the data has no rows: nothing to make batches of")
        for name, tensor in batch.tensors().items():
            field = name.partition(".")[0] == "x"
            if field and not some and tensor.is_floating_point() and bool(torch.isnan(tensor).all()):
                raise InputError(
                    f"{name!r} is NaN everywhere: nothing to learn from; leave it out, or mend it"
                )
        self.data = batch
        self._block, self._window, self._ids = block or len(batch), window, ids

    def __len__(self) -> int:
        return self._rows

    @cached_property
    def _rows(self) -> int:
        return len(self.data)

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.data.tensors().values())

    @property
    def example(self) -> Batch:
        return next(self.blocks(_EXAMPLE_ROWS))

    def to(self, *args: Any, **kwargs: Any) -> InMemory:
        """All rows on another device."""
        return InMemory(self.data.to(*args, **kwargs), block=self._block, window=self._window, ids=self._ids)

    def order(self, seed: int, epoch: int) -> Order:
        return Order(seed, epoch, len(self), self._block, self._window)

    def identifiers(self, rows: np.ndarray) -> tuple[str, np.ndarray]:
        return ("row", rows) if self._ids is None else self._ids(rows)

    def epoch(
        self, seed: int, epoch: int, batch_size: int, start: int = 0, rank: int = 0, ranks: int = 1
    ) -> Iterator[Batch]:
        size = check_batch(len(self), batch_size, rank, ranks)
        return self._epoch(seed, epoch, batch_size, start, rank * size, size)

    def _epoch(
        self, seed: int, epoch: int, batch_size: int, start: int, first: int, size: int
    ) -> Iterator[Batch]:
        tensors = self.data.tensors()
        device = next(iter(tensors.values())).device
        rows = self.order(seed, epoch).between(0, len(self))
        whole = len(self) // batch_size
        mine = rows[: whole * batch_size].reshape(whole, batch_size)[:, first : first + size]
        share = max(1, self.nbytes * size // len(self))
        group = max(1, min(_GROUP_BATCHES, _GROUP_BYTES // share))
        build = _builder(self.data, self._ones(size, device))
        for begin in range(start, whole, group):
            index = torch.from_numpy(mine[begin : begin + group].reshape(-1)).to(device)
            # gathered once, then split into tensors that autograd does not see as views of one another
            columns = [torch.unsafe_split(t.index_select(0, index), size) for t in tensors.values()]
            yield from map(build, zip(*columns, strict=True))
        if whole * batch_size < len(self) and start <= whole:
            rest = len(self) - whole * batch_size
            filled = np.concatenate(
                [rows[whole * batch_size :], rows[: whole * batch_size][rest - batch_size :]]
            )
            index = torch.from_numpy(filled[first : first + size]).to(device)
            last = {name: tensor.index_select(0, index) for name, tensor in tensors.items()}
            weight = last.get("weight", self._ones(size, device))
            last["weight"] = weight * (torch.arange(first, first + size, device=device) < rest)
            yield Batch.from_tensors(last)

    def blocks(self, rows: int) -> Iterator[Batch]:
        for start in range(0, len(self), rows):
            part = self.data[start : start + rows]
            if part.weight is None:
                part = replace(part, weight=self._ones(len(part), next(iter(part.tensors().values())).device))
            yield part

    def _ones(self, size: int, device: torch.device) -> Tensor:
        floating = [t.dtype for t in self.data.tensors().values() if t.is_floating_point()]
        return torch.ones(size, dtype=floating[0] if floating else torch.get_default_dtype(), device=device)


def _builder(data: Batch, ones: Tensor) -> Callable[[tuple[Tensor, ...]], Batch]:
    """A function from the tensors of one batch, in the order of ``data.tensors()``, to a Batch; unchecked.

    ones: the weight, shared by all batches, of data without weights
    """
    names = list(data.tensors())
    fields = None if "x" in names else [name[2:] for name in names if name.startswith("x.")]
    context = [name[8:] for name in names if name.startswith("context.")]
    inputs = 1 if fields is None else len(fields)
    target = names.index("target") if "target" in names else None
    weighted, blank, put = data.weight is not None, Batch.__new__, object.__setattr__

    def build(columns: tuple[Tensor, ...]) -> Batch:
        batch = blank(Batch)
        put(batch, "x", columns[0] if fields is None else dict(zip(fields, columns, strict=False)))
        put(batch, "context", dict(zip(context, columns[inputs:], strict=False)))
        put(batch, "target", None if target is None else columns[target])
        put(batch, "weight", columns[-1] if weighted else ones)
        return batch

    return build


def flat_names(available: Any, attrs: Mapping[str, Any]) -> dict[str, str]:
    """The tensors of a batch (as in ``Batch.tensors``) -> the variables of prepared data they come from.

    >>> flat_names(["x", "condition", "target"], {})
    {'x': 'x', 'context.condition': 'condition', 'target': 'target'}

    The known error of one of several fields is the variable ``noise.NAME``, and reaches its decoder alone.
    """
    fields = list(attrs.get("fields", ["x"]))
    for name in fields:
        if name not in available:
            raise InputError(f"the data has no variable {name!r}; it has {', '.join(map(str, available))}")
    names = {"x": "x"} if fields == ["x"] else {f"x.{name}": name for name in fields}
    context = [
        "condition",
        "noise",
        *(f"noise.{name}" for name in fields),
        "exposure",
        *attrs.get("context", []),
    ]
    names |= {f"context.{name}": name for name in context if name in available}
    return names | {name: name for name in ("target", "weight") if name in available}


def noisy_field(names: Mapping[str, str]) -> str:
    """The variable whose error ``noise`` is, from the result of ``flat_names``: the only field.

    Of several it is no one's, and stays in the unit it is in; each can have a ``noise.NAME``.
    """
    fields = [name for flat, name in names.items() if flat.partition(".")[0] == "x"]
    return fields[0] if len(fields) == 1 else ""


def to_tensor(name: str, tensor: Tensor, scaling: Scaling, dtype: torch.dtype, noisy: str = "x") -> Tensor:
    """A variable in physical units as the model gets it: scaled in its own precision, then converted.

    noisy: the field whose error ``noise`` is; ``noise.NAME`` is that of NAME. A floating ``tensor`` is overwritten.
    """
    if name.partition(".")[0] == "noise":
        tensor = scaling.noise(tensor, name.partition(".")[2] or noisy)
    elif name != "weight":
        tensor = scaling.apply(name, tensor, reuse=tensor.is_floating_point())
    if name in {"condition", "target"} and tensor.ndim == 1:
        tensor = tensor[:, None]
    if tensor.is_floating_point() or tensor.dtype == torch.bool:
        return tensor.to(dtype)
    return tensor.long()


def as_batches(
    data: Any,
    split: str | None = None,
    *,
    memory_limit: int = _MEMORY_BYTES,
    scaling: Scaling | None = None,
    dtype: torch.dtype = torch.float32,
    some: bool = False,
) -> Batches:
    """Batches from a tensor, a Batch, a prepared Dataset or the path of its store; Batches stay as they are.

    split:        "train", "valid" or "test" of prepared data; None: all rows
    memory_limit: bytes up to which prepared data is held in memory (512 MiB); beyond, it streams from its store
    scaling:      in place of the one that the data carries
    some:         these are some rows of a prepared Dataset, in which a variable may be NaN everywhere

    InputError: an empty split, a group in two splits, a variable that is NaN everywhere.
    """
    import xarray as xr

    if isinstance(data, str | Path):
        from sciencevae.data.streaming import Streaming

        streaming = Streaming(data, split, scaling=scaling, dtype=dtype)
        return streaming.load() if streaming.nbytes <= memory_limit else streaming
    if isinstance(data, xr.Dataset):
        return _from_dataset(data, split, memory_limit, scaling, dtype, some)
    if split is not None:
        raise InputError(f"split={split!r} needs prepared data (a Dataset or the path of a store)")
    if isinstance(data, Batches):
        return data
    if isinstance(data, np.ndarray):
        data = torch.from_numpy(data)
        data = data.to(dtype) if data.is_floating_point() else data
    if isinstance(data, Batch | Tensor):
        return InMemory(data)
    raise InputError(
        f"cannot make batches of {type(data).__name__}: give a tensor, a sciencevae.Batch, "
        "an xarray Dataset, or the path of a prepared store"
    )


def _from_dataset(
    ds: xr.Dataset,
    split: str | None,
    memory_limit: int,
    scaling: Scaling | None,
    dtype: torch.dtype,
    some: bool,
) -> Batches:
    if "sample" not in ds.sizes:
        raise InputError(f"prepared data has a dimension 'sample'; found {', '.join(map(str, ds.sizes))}")
    check_leakage(ds)
    rows = split_rows(ds, split)
    names = flat_names(list(ds.data_vars), ds.attrs)
    needed = sum(ds[name].nbytes for name in names.values()) * len(rows) // max(1, ds.sizes["sample"])
    if needed > memory_limit:
        from sciencevae.data.streaming import stream_dataset

        return stream_dataset(ds, split, scaling, dtype)
    scaling = Scaling.of(ds) if scaling is None else scaling
    at_once = max(1, _BLOCK_BYTES * len(rows) // max(1, needed))
    tensors = {}
    for flat, name in names.items():
        for start in range(0, max(1, len(rows)), at_once):
            values = torch.from_numpy(_copied(ds[name], rows[start : start + at_once]))
            part = to_tensor(name, values, scaling, dtype, noisy_field(names))
            if len(part) == len(rows):
                tensors[flat] = part
                break
            # into its place: all rows are never held twice, nor in the precision they are stored in
            whole = tensors.setdefault(flat, part.new_empty((len(rows), *part.shape[1:])))
            whole[start : start + len(part)] = part
    told = ds.coords.to_dataset().assign_attrs(ds.attrs)  # not the data themselves
    batch = Batch.from_tensors(tensors)
    return InMemory(batch, ids=lambda numbers: identifiers_of(told, rows[numbers]), some=some)


def _copied(variable: xr.DataArray, rows: np.ndarray) -> np.ndarray:
    """Some rows (ascending) of a variable; of a lazy one no more than its blocks with such rows are read."""
    together = len(rows) > 0 and rows[-1] - rows[0] + 1 == len(rows)
    chosen = slice(int(rows[0]), int(rows[-1]) + 1) if together else rows
    return np.array(variable.transpose("sample", ...).isel(sample=chosen).values)


def identifiers_of(ds: xr.Dataset, rows: np.ndarray) -> tuple[str, np.ndarray]:
    """What prepared data name rows by: the coordinate that ``attrs["identifier"]`` says, else their numbers."""
    name = str(ds.attrs.get("identifier", ""))
    # a part of a data set may have left its coordinates behind
    return (name, ds[name].isel(sample=rows).values) if name in ds.coords else ("row of the store", rows)
