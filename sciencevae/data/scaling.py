"""Affine scaling, fitted on the training split only, applied on the way in and inverted on the way out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.data.splits import split_rows
from sciencevae.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Affine", "Scaling"]

KINDS = ("standard", "robust", "identity")
_OWN_SCALE = ("channel", "variable", "feature")  # dimensions whose entries are scaled one by one
# noise (and noise.NAME) follows its field; weights are no measurements, exposures multiply a rate
_UNSCALED = {"noise", "weight", "exposure"}
_BLOCK_BYTES = 64 << 20
_PIECE_BYTES = 1 << 20
_ROBUST_ELEMENTS = 2_000_000
_IQR_OF_NORMAL = 1.3489795003921634  # interquartile range of a standard normal distribution


@dataclass(frozen=True)
class Affine:
    """y = (x − loc) / scale, both broadcast against one datum's shape E."""

    kind: str
    loc: np.ndarray
    scale: np.ndarray
    unit: str = ""


@dataclass(frozen=True)
class Scaling:
    """The affine scaling of each variable of a data set; a variable it does not name is left as it is.

    Works on numpy arrays and torch tensors alike, NaN stays NaN. Shapes: (B, *E) in, (B, *E) out.

    >>> scaling = Scaling({"x": Affine("standard", np.array([1.0, 2.0]), np.array([2.0, 4.0]))})
    >>> scaling.apply("x", np.array([[3.0, 2.0]])).tolist()
    [[1.0, 0.0]]
    >>> scaling.invert("x", scaling.apply("x", np.array([[3.0, 2.0]]))).tolist()
    [[3.0, 2.0]]
    """

    fields: Mapping[str, Affine] = field(default_factory=dict)
    _cache: dict[tuple[Any, ...], tuple[Any, Any]] = field(
        default_factory=dict, repr=False, compare=False, init=False
    )

    @classmethod
    def fit(
        cls,
        ds: xr.Dataset,
        kinds: Mapping[str, str] | None = None,
        keep: Mapping[str, Sequence[str]] | None = None,
    ) -> Scaling:
        """The scaling of every data variable of ``ds``, from its training rows, block by block.

        kinds: variable -> "standard" (mean, standard deviation), "robust" (median, interquartile range, of an
               evenly spaced subsample where the data is large) or "identity". Default: the variable's
               attribute ``scaling``, else standard for floats and identity for integers.
        keep:  variable -> dimensions whose entries have a scale each. Default: ``channel``, ``variable`` or
               ``feature`` where the variable has one, the only dimension of a table, else none.

        A constant variable gets scale 1. InputError: unknown kind or variable, a variable that is NaN in
        every training row, infinities.
        """
        own = (name for name, variable in ds.data_vars.items() if "sample" in variable.dims)
        names = [name for name in own if str(name).partition(".")[0] not in _UNSCALED]
        for name in [*(kinds or {}), *(keep or {})]:
            if name not in names:
                raise InputError(f"no variable {name!r} to scale{did_you_mean(name, map(str, names))}")
        rows = split_rows(ds, "train" if "split" in ds.coords else None)
        fields = {}
        for name in map(str, names):
            variable = ds[name]
            default = "standard" if np.issubdtype(variable.dtype, np.floating) else "identity"
            kind = (kinds or {}).get(name) or variable.attrs.get("scaling", default)
            if kind not in KINDS:
                raise InputError(f"unknown scaling {kind!r} of {name!r}{did_you_mean(str(kind), KINDS)}")
            axes = _pooled(variable, (keep or {}).get(name))
            fields[name] = _fit(name, variable, rows, kind, axes)
        return cls(fields)

    def apply(self, name: str, array: Any, *, reuse: bool = False) -> Any:
        """Physical units to scaled; ``reuse`` overwrites a floating ``array``, which saves two copies."""
        if (constants := self._constants(name, array)) is None:
            return array
        if not reuse:
            return (array - constants[0]) / constants[1]
        array -= constants[0]
        array /= constants[1]
        return array

    def invert(self, name: str, array: Any) -> Any:
        """Scaled to physical units."""
        if (constants := self._constants(name, array)) is None:
            return array
        return array * constants[1] + constants[0]

    def noise(self, array: Any, name: str = "x", *, inverse: bool = False) -> Any:
        """Standard deviations (B, *E) or covariances (B, n, n) of ``name``, scaled; back if ``inverse``."""
        if (constants := self._constants(name, array)) is None:
            return array
        scale = constants[1]
        if array.ndim == scale.ndim + 2 and scale.ndim == 1:
            scale = scale[:, None] * scale[None, :]
        elif array.ndim != scale.ndim + 1:
            raise InputError(
                f"the noise of {name!r} has {array.ndim} axes; standard deviations have {scale.ndim + 1}, "
                "covariances of a table have 3"
            )
        return array * scale if inverse else array / scale

    def _constants(self, name: str, array: Any) -> tuple[Any, Any] | None:
        """(loc, scale) as the kind of ``array``, in its precision; None for identity."""
        entry = self.fields.get(name)
        if entry is None or entry.kind == "identity":
            return None
        own = zip(reversed(entry.loc.shape), reversed(array.shape), strict=False)
        if any(size not in (1, found) for size, found in own):
            raise InputError(
                f"the scaling of {name!r} is one of entries of shape {entry.loc.shape}, and the data has "
                f"{tuple(array.shape[1:])}: give the data as it was prepared, or drop its attribute 'scaling'"
            )
        if isinstance(array, np.ndarray):
            dtype = array.dtype if np.issubdtype(array.dtype, np.floating) else np.dtype(np.float64)
            return entry.loc.astype(dtype), entry.scale.astype(dtype)
        import torch

        if not isinstance(array, torch.Tensor):
            return entry.loc, entry.scale
        kind = array.dtype if array.is_floating_point() else torch.get_default_dtype()
        key = (name, kind, array.device)
        if key not in self._cache:
            loc, scale = (
                torch.as_tensor(c, dtype=kind, device=array.device) for c in (entry.loc, entry.scale)
            )
            self._cache[key] = loc, scale
        return self._cache[key]

    def to_json(self) -> str:
        """As text that ``from_json`` reads back to the last bit."""
        return json.dumps(
            {
                name: {"kind": e.kind, "loc": e.loc.tolist(), "scale": e.scale.tolist(), "unit": e.unit}
                for name, e in self.fields.items()
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Scaling:
        """The inverse of ``to_json``; InputError for anything else."""
        try:
            return cls(
                {
                    name: Affine(e["kind"], np.array(e["loc"], float), np.array(e["scale"], float), e["unit"])
                    for name, e in json.loads(text).items()
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"not a scaling: {text!r:.80}; prepare the data again") from error

    @classmethod
    def of(cls, ds: xr.Dataset) -> Scaling:
        """The scaling that a prepared data set carries; none if it has none."""
        return cls.from_json(ds.attrs["scaling"]) if "scaling" in ds.attrs else cls()


def _pooled(variable: xr.DataArray, keep: Sequence[str] | None) -> tuple[int, ...]:
    """The axes that share one scale, sample among them."""
    inner = [str(dim) for dim in variable.dims if dim != "sample"]
    if keep is None:
        keep = [dim for dim in inner if dim in _OWN_SCALE] or (inner if len(inner) == 1 else [])
    for dim in keep:
        if dim not in inner:
            raise InputError(
                f"variable {str(variable.name)!r} has no dimension {dim!r}{did_you_mean(dim, inner)}"
            )
    return tuple(axis for axis, dim in enumerate(variable.dims) if dim not in keep)


def _fit(name: str, variable: xr.DataArray, rows: np.ndarray, kind: str, axes: tuple[int, ...]) -> Affine:
    if variable.dims[0] != "sample":
        raise InputError(f"variable {name!r}: the first dimension must be 'sample', found {variable.dims}")
    unit = str(variable.attrs.get("units", ""))
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(variable.shape))[1:]
    if kind == "identity":
        return Affine(kind, np.zeros(shape), np.ones(shape), unit)
    if kind == "standard":
        loc, scale = _moments(name, variable, rows, axes)
    else:
        loc, scale = _quantiles(name, variable, rows, axes)
    scale = np.where(scale > 1e-12 * np.maximum(np.abs(loc), 1e-300), scale, 1.0)  # constant up to rounding
    return Affine(kind, loc.reshape(shape), scale.reshape(shape), unit)


def _moments(
    name: str, variable: xr.DataArray, rows: np.ndarray, axes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation in one pass; Chan, Golub, LeVeque (1983) Am. Stat. 37, 242, eq. 2.1."""
    count, mean, m2 = np.zeros(1), np.zeros(1), np.zeros(1)
    for block in _blocks(variable, rows):
        absent = np.isnan(block)
        n = (~absent).sum(axes, dtype=float)
        block[absent] = 0
        block_mean = block.sum(axes) / np.maximum(n, 1)
        _refuse_infinite(name, block_mean)
        block -= np.expand_dims(block_mean, axes)
        block[absent] = 0
        block *= block
        delta, total = block_mean - mean, np.maximum(count + n, 1)
        m2 = m2 + block.sum(axes) + delta**2 * count * n / total
        mean, count = mean + delta * n / total, count + n
    _refuse_empty(name, variable, count == 0)
    return mean, np.sqrt(m2 / np.maximum(count, 1))


def _quantiles(
    name: str, variable: xr.DataArray, rows: np.ndarray, axes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    pooled = math.prod(variable.shape[axis] for axis in axes[1:])
    step = max(1, math.ceil(len(rows) * pooled / _ROBUST_ELEMENTS))
    sample = np.concatenate(list(_blocks(variable, rows[::step])))
    empty = np.isnan(sample).all(axes)
    _refuse_empty(name, variable, empty)
    _refuse_infinite(name, np.where(np.isnan(sample), 0, sample))
    sample = np.where(np.expand_dims(empty, axes), 0.0, sample)
    low, middle, high = np.nanquantile(sample, [0.25, 0.5, 0.75], axis=axes)
    return middle, (high - low) / _IQR_OF_NORMAL


def _blocks(variable: xr.DataArray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The chosen (ascending) rows in float64, copied: read block by block, given in pieces that fit a cache."""
    row = max(1, 8 * math.prod(variable.shape[1:]))
    size, piece = max(1, _BLOCK_BYTES // row), max(1, _PIECE_BYTES // row)
    for start in range(0, variable.sizes["sample"], size):
        chosen = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + size)]
        if len(chosen):
            block = variable.isel(sample=slice(start, start + size)).values
            for first in range(0, len(chosen), piece):
                yield block[chosen[first : first + piece] - start].astype(np.float64)


def _refuse_infinite(name: str, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise InputError(f"variable {name!r} has infinite values: mark missing entries as NaN")


def _refuse_empty(name: str, variable: xr.DataArray, empty: np.ndarray) -> None:
    """InputError when a variable, or one entry of it, has no value in any training row; a variable whose
    attribute ``may_be_empty`` says that entries of it may be missing throughout keeps those unscaled."""
    if not np.any(empty) or (variable.attrs.get("may_be_empty") and not np.all(empty)):
        return
    where = f"variable {name!r}"
    if np.ndim(empty) == 1 and not np.all(empty):
        dim = next(d for d, s in list(zip(variable.dims, variable.shape, strict=True))[1:] if s == len(empty))
        index = int(np.flatnonzero(empty)[0])
        label = variable[dim].values[index] if dim in variable.coords else index
        where += f", {dim} {label}"
    raise InputError(f"{where} is NaN in every training row: nothing to learn from; leave it out, or mend it")
