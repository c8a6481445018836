"""Patterns of light: a simulation as the prepared data set, and a user's own patterns block by block."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sciencevae.data.arrays import Arrays, write_arrays
from sciencevae.data.sequential import in_memory_if_small, lazily
from sciencevae.errors import InputError, did_you_mean

from .optical_settings import Optical
from .parameters import MEANINGS, in_unit_of, units_of
from .sampling import dimensions, pixel_middles_mm
from .settings import Diffraction

__all__ = ["prepare", "read", "write"]

_ROWS = 4096  # at most, and
_PIXELS = 4 << 20  # of a block, at most
_COUNTS = {"units": "count", "long_name": "counts of a pixel", "scaling": "identity"}


def prepare(settings: Diffraction, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """x (sample, pixel) or (sample, channel, line, pixel): counts, NaN where saturated or missing.

    Where the file has it, ``expected``, the same without noise. ``condition`` and ``target``: the parameters that
    ``prepare.told`` and ``prepare.supervised`` name; ``exposure``: the mean count of each pattern, for
    ``prepare.exposure=total``. Coordinates: the parameters, and ``aperture``, its number in the list of apertures.

    ``input``: a file of the user's own, as ``read`` takes it; patterns that cannot be used are left out, counted by
    their reason in the attribute ``refused_reasons``.
    """
    path = input if input is not None else files["diffraction.h5"]
    reasons, good = Counter[str](), []
    with Arrays(path, "counts") as file:
        for part in _blocks(file, path, settings, (*settings.prepare.told, *settings.prepare.supervised)):
            status = part["status"].values
            reasons.update(status[status != "ok"].tolist())
            good.append(status == "ok")
        attributes = {key: file.attrs[key] for key in ("parameters", "seed", "version") if key in file.attrs}
        group = np.asarray(file["group"][:]) if "group" in file else None
    used = np.concatenate(good)
    if not used.any():
        raise InputError(
            f"{path}: no pattern can be used; the first reason: {next(iter(reasons), 'it has none')}"
        )
    data = lazily(lambda: _usable(path, settings), int(used.sum()))
    if group is not None:
        data = data.assign_coords(group=("sample", group[used]))
    return in_memory_if_small(data).assign_attrs(
        refused=reasons.total(),
        refused_reasons=json.dumps(reasons),
        provenance=json.dumps({"simulation": {key: _plain(value) for key, value in attributes.items()}}),
    )


def _usable(path: Path, settings: Diffraction) -> Iterator[xr.Dataset]:
    """The patterns that can be used, with what the file says of them without noise."""
    with Arrays(path, "counts") as file:
        expected, start = file.get("expected"), 0
        for part in _blocks(file, path, settings, (*settings.prepare.told, *settings.prepare.supervised)):
            if expected is not None:
                rows = expected[start : start + part.sizes["sample"]]
                values = np.asarray(rows, np.float32).reshape(part["x"].shape)
                known = {"units": "count", "long_name": "counts without noise", "scaling": "identity"}
                part["expected"] = (part["x"].dims, values, known)
            start += part.sizes["sample"]
            good = part["status"].values == "ok"
            yield part.isel(sample=good).drop_vars(["row", "id", "status", "note"])


def read(path: Path, settings: Diffraction, template: xr.Dataset | None = None) -> Iterator[xr.Dataset]:
    """A user's patterns in blocks, from HDF5 or .npz (``counts``, and parameters by their names) or .npy.

    counts (n, W) or (n, H, W) of the sensor that the model was trained for. A pixel that is NaN, or saturated, is
    masked; a pattern with a negative or broken count, or without a single pixel, stays as NaN with a reason in
    ``status``. A model that is told parameters needs them too, ``wavelength_nm`` (n,) or ``wavelength`` with the
    attribute ``units``.
    """
    with Arrays(path, "counts") as file:
        yield from _blocks(file, path, settings, settings.prepare.told)


def write(data: xr.Dataset, path: Path) -> None:
    """Decoded or sampled patterns as ``counts`` (n, W) or (n, H, W), in .npz or .npy."""
    values = data["x"].values
    write_arrays(path, "counts", values[:, 0] if values.ndim == 4 else values)


def _blocks(file: Arrays, path: Path, settings: Diffraction, needed: Sequence[str]) -> Iterator[xr.Dataset]:
    name = next((known for known in ("counts", "x") if known in file and file[known].ndim > 1), None)
    if name is None:  # x (n, …) is how ``decode`` and ``sample`` write HDF5, x (W,) a simulation's axis
        raise InputError(f"{path} has no array 'counts' (n, W) or (n, H, W) of patterns; found {list(file)}")
    counts = file[name]
    if counts.dtype.kind not in "iuf":
        raise InputError(f"{path}: {name} is to be an array of real numbers, not {counts.dtype}")
    units = getattr(counts, "attrs", {}).get("units", "counts")
    if units not in ("count", "counts", "1", "electron", "electrons"):
        raise InputError(
            f"{path}: {name} is in {units!r}; the likelihood is one of counts: give the counts of the converter"
        )
    shape = (_source(settings).sensor.pixels,) * dimensions(_source(settings))
    found = tuple(counts.shape[1:])
    if found != shape and not (len(shape) == 2 and found == (1, *shape)):
        raise InputError(
            f"{path}: {name} has shape {counts.shape}; this model is of patterns "
            f"(n, {', '.join(map(str, shape))}): set source.sensor.pixels, or bring patterns of that size"
        )
    columns = _parameters(file, path, len(counts))
    if missing := next((one for one in needed if one not in columns), None):
        raise InputError(
            f"{path} has no {missing!r} (n,), which the model is told or trained on"
            f"{did_you_mean(missing, columns)}"
        )
    step = max(1, min(_ROWS, _PIXELS // int(np.prod(shape))))
    for start in range(0, len(counts), step):
        rows = slice(start, start + step)
        part = {known: values[rows] for known, values in columns.items()}
        yield _block(np.asarray(counts[rows], np.float64).reshape(-1, *shape), part, start, settings)


def _block(
    counts: np.ndarray, columns: Mapping[str, np.ndarray], start: int, settings: Diffraction
) -> xr.Dataset:
    source = _source(settings)
    axes = tuple(range(1, counts.ndim))
    saturated = counts >= 2**source.sensor.bits - 1
    counts = np.where(saturated | np.isinf(counts), np.nan, counts)
    seen = ~np.isnan(counts)
    status = np.full(len(counts), "ok", object)
    for told in settings.prepare.told:
        status[~np.isfinite(columns[told])] = f"{told} is not a number"
    broken = (seen & (counts != np.round(counts))).any(axes)
    status[broken] = "counts are not whole: give them as read out, before dark and flat-field corrections"
    status[(counts < 0).any(axes)] = "a count is negative: give counts before the dark frame is subtracted"
    status[~seen.any(axes)] = "no pixel is left"
    counts[status != "ok"] = np.nan
    dims: tuple[str, ...] = ("sample", "pixel")
    lost = (~seen).sum(axes)
    note = np.where(lost > 0, np.char.add(lost.astype(str), " pixels masked"), "")
    number = np.arange(start, start + len(counts))
    mean = np.nansum(counts, axes) / np.maximum(seen.sum(axes), 1)
    if counts.ndim == 3:
        counts, dims = counts[:, None], ("sample", "channel", "line", "pixel")
    variables: dict[str, Any] = {"x": (dims, counts.astype(np.float32), _COUNTS)}
    if settings.prepare.exposure == "total":
        about = {"units": "count", "long_name": "mean count of a pixel"}
        variables["exposure"] = ("sample", np.maximum(mean, 1e-6).astype(np.float32), about)
    chosen = {"condition": settings.prepare.told, "target": settings.prepare.supervised}
    for variable, names in chosen.items():
        if names and all(name in columns for name in names):
            values = np.stack([columns[name] for name in names], 1).astype(np.float32)
            variables[variable] = (("sample", f"{variable}_parameter"), values, {"scaling": "standard"})
    coords: dict[str, Any] = {
        known: ("sample", values, {"units": units_of(known), "long_name": MEANINGS.get(known, known)})
        for known, values in columns.items()
    }
    middles = pixel_middles_mm(source)
    coords |= {
        one: (one, middles, {"units": "mm", "long_name": "from the axis"})
        for one in dims
        if one in ("line", "pixel")
    }
    coords |= {"row": ("sample", number), "id": ("sample", number.astype(str))}
    coords |= {"status": ("sample", status.astype(str)), "note": ("sample", note)}
    return xr.Dataset(variables, coords=coords, attrs={"fields": ["x"]})


def _source(settings: Diffraction) -> Optical:
    assert isinstance(settings.source, Optical)
    return settings.source


def _parameters(file: Arrays, path: Path, rows: int) -> dict[str, np.ndarray]:
    """The parameters of each pattern that a file has, by our names and in their units."""
    found = {}
    for name in MEANINGS:
        stem = name.rpartition("_")[0] if units_of(name) != "1" else name
        given = next((known for known in (name, stem) if known in file), None)
        if given is None:
            continue
        values = np.asarray(file[given][:], np.float64)
        if values.shape != (rows,):
            raise InputError(f"{path}: {given} has shape {values.shape}; there are {rows} patterns")
        units = getattr(file[given], "attrs", {}).get("units")
        if given != name and units is None:
            raise InputError(
                f"{path}: {given} has no units: call it {name}, or give it the attribute 'units'"
            )
        found[name] = values if units is None else in_unit_of(name, values, str(units), str(path))
    if "aperture" in file:
        found["aperture"] = np.asarray(file["aperture"][:], np.float64)
    return found


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
