"""From files of fields to the prepared data set, and a user's own series block by block."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sciencevae.data.foreign import parsing
from sciencevae.data.rows import evenly
from sciencevae.data.scaling import Affine, Scaling
from sciencevae.errors import InputError, did_you_mean

from .basis import Basis, blocks
from .fields import is_odd, open_fields
from .lagging import DIMS, PAST, Lags, lagged
from .settings import Fluids, Prepare
from .splits import split_of

__all__ = ["frames_of", "prepare", "read", "write"]

_ROWS = 256
_PARAMETERS_NOT = ("run", "time", "x", "y", "mass")


def prepare(settings: Fluids, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """x (sample, channel, row, column) in the fields' units, or (sample, mode), in the order of runs and times.

    Coordinates of a sample: run, time, group (the run, or the stretch of a single run), split, mirrored, and the
    parameters of its run; of the axes: channel (the fields' names), unit, x, y. ``condition``: the parameters named
    in the settings. Of modes, also residual, ‖r‖² of each frame outside of them, and the basis. With
    ``prepare.ahead`` x (sample, lag, channel, row, column) is the frame and those that follow, and ``past``
    (sample, back, channel, row, column) those up to it.

    ``input``: a file or folder that ``open_fields`` reads.
    """
    path = input if input is not None else _only(files)
    chosen = settings.prepare
    fields = selected(open_fields(path, chosen.units), path, chosen)
    if chosen.grid is not None:
        fields = _gridded(fields, path, chosen.grid)
    runs, steps = fields.sizes["run"], fields.sizes["time"]
    if steps <= chosen.window + chosen.horizon:
        raise InputError(
            f"{path} has {steps} frames; a window of {chosen.window} and a horizon of {chosen.horizon} need more: "
            "set prepare.window, prepare.horizon"
        )
    parameters = _parameters(fields)
    split, group = split_of(runs, steps, parameters, chosen)
    rows = {
        "run": np.repeat(np.arange(runs), steps),
        "time": np.tile(fields["time"].values.astype(float), runs),
        "split": split.reshape(-1),
        "group": group.reshape(-1),
        "mirrored": np.zeros(runs * steps, np.int8),
        **{name: np.repeat(values, steps) for name, values in parameters.items()},
    }
    ds = _in_modes(fields, rows, chosen) if _wants_modes(fields, chosen) else _on_grid(fields, rows, chosen)
    ds = ds.assign_coords({name: ("sample", values) for name, values in rows.items()})
    for name in ("time", *parameters):
        ds[name].attrs["units"] = str(fields[name].attrs.get("units", ""))
    if chosen.condition:
        if unknown := [name for name in chosen.condition if name not in parameters]:
            raise InputError(
                f"prepare.condition: no parameter {unknown[0]!r}{did_you_mean(unknown[0], parameters)}"
            )
        told = np.stack([rows[name] for name in chosen.condition], 1).astype(np.float32)
        ds["condition"] = (("sample", "variable"), told, {"long_name": ", ".join(chosen.condition)})
    times = fields["time"].values.astype(float)
    ds.attrs |= {
        "fields": ["x"],
        "ordered": True,
        "condition": list(chosen.condition),
        "time_step": float(times[1] - times[0]),
        "time_unit": str(fields["time"].attrs.get("units", "")),
        "padding_y": _edge(fields, "y"),
        "padding_x": _edge(fields, "x"),
        "provenance": json.dumps({str(k): str(v) for k, v in fields.attrs.items()}),
        "note": str(fields.attrs.get("note", "")),
        "hole": float(fields.attrs.get("hole", 0.0)),
    }
    scaling = _scaling(ds, chosen.centre)
    if chosen.ahead:
        ds, scaling = lagged(ds, chosen), Scaling({**scaling.fields, PAST: scaling.fields["x"]})
    return ds.assign_attrs(scaling=scaling.to_json())


def selected(fields: xr.Dataset, path: Path, chosen: Prepare) -> xr.Dataset:
    """The fields and times that are asked for, at regular times. InputError for irregular ones, naming where."""
    wanted = chosen.fields or list(map(str, fields.data_vars))
    for name in wanted:
        if name not in fields and "coefficients" not in fields:
            raise InputError(f"{path} has no field {name!r}{did_you_mean(name, map(str, fields.data_vars))}")
    if "coefficients" not in fields:
        fields = fields[wanted]
    times = fields["time"].values.astype(float)
    inside = np.ones(len(times), bool)
    if chosen.start is not None:
        inside &= times >= chosen.start - 1e-9
    if chosen.stop is not None:
        inside &= times <= chosen.stop + 1e-9
    fields = fields.isel(time=np.flatnonzero(inside)[:: chosen.every])
    times = fields["time"].values.astype(float)
    if len(times) < 2:
        raise InputError(f"{path} has {len(times)} frames in the times asked for: a series has two at least")
    steps = np.diff(times)
    usual = float(np.median(steps))
    wrong = np.flatnonzero(np.abs(steps - usual) > 1e-3 * usual)
    if not len(wrong):
        return fields
    if not chosen.resample:
        raise InputError(
            f"{path}: the times are irregular: {len(wrong)} of {len(steps)} steps are not {usual:g}, the first "
            f"{steps[wrong[0]]:g} after t = {times[wrong[0]]:g}; interpolate with prepare.resample=true, or choose "
            "a regular part with prepare.start and prepare.stop"
        )
    even = np.minimum(np.arange(times[0], times[-1] + 1e-6 * usual, usual), times[-1])
    resampled = fields.chunk(time=-1).interp(time=even).assign_attrs(fields.attrs)
    resampled["time"].attrs |= fields["time"].attrs
    return resampled


def read(path: Path, settings: Fluids, template: xr.Dataset | None = None) -> Iterator[xr.Dataset]:
    """A user's own series in blocks, runs and times in their order; a frame that is all NaN keeps its row.

    InputError: other fields, another grid or no condition, where the model was trained with them.
    """
    if template is None:
        raise InputError("a series is read for a trained model")
    blocks = _read(path, settings, template)
    while True:
        with parsing(path, "fields"):  # what lies on disk may turn out damaged when it is wanted
            block = next(blocks, None)
        if block is None:
            return
        yield block


def _read(path: Path, settings: Fluids, template: xr.Dataset) -> Iterator[xr.Dataset]:
    # times that training was limited to are none of a new series
    chosen = settings.prepare.model_copy(update={"start": None, "stop": None})
    fields = selected(open_fields(Path(path), chosen.units), Path(path), chosen)
    basis = Basis.of(template) if "mode" in template["x"].dims else None
    if basis is not None and "coefficients" in fields:
        frames: Any = fields["coefficients"].data.reshape(-1, fields.sizes["mode"])
    else:
        names = [str(name) for name in template.attrs["channels"]]
        if missing := [name for name in names if name not in fields]:
            raise InputError(f"{path} has no field {missing[0]!r}, which the model describes")
        wanted = template.attrs["grid"]
        frames = frames_of(fields[names])
        if list(frames.shape[2:]) != list(wanted):
            raise InputError(f"{path} has frames of {frames.shape[2:]}; this model is of {tuple(wanted)}")
    runs, steps = fields.sizes["run"], fields.sizes["time"]
    run, time = np.repeat(np.arange(runs), steps), np.tile(fields["time"].values.astype(float), runs)
    parameters = _parameters(fields)
    told = None
    if settings.prepare.condition:
        if missing := [name for name in settings.prepare.condition if name not in parameters]:
            raise InputError(f"{path} does not say {missing[0]} (run,), which this model is told")
        told = np.stack([np.repeat(parameters[n], steps) for n in settings.prepare.condition], 1)
    lags = Lags(run, time, settings.prepare) if settings.prepare.ahead else None
    for start in range(0, runs * steps, _ROWS):
        rows = slice(start, min(start + _ROWS, runs * steps))
        attrs: dict[str, Any] = {"fields": ["x"]}
        if lags is None:
            block = np.asarray(frames[rows], np.float32)
            status = np.where(_values(block, np.any), "ok", "the frame has no value")
            if basis is not None and "coefficients" not in fields:
                block = basis.encode(block.reshape(len(block), block.shape[1], -1))[0].astype(np.float32)
            variables = {"x": (template["x"].dims, block, dict(template["x"].attrs))}
        else:
            x, past = lags.block(frames, rows)
            variables = {
                name: (DIMS[name], v, dict(template["x"].attrs)) for name, v in (("x", x), (PAST, past))
            }
            early = f"it has fewer than {settings.prepare.read} frames up to it"
            status = np.where(_values(past, np.all), "ok", "a frame of its window has missing values")
            status = np.where(lags.whole[rows], status, early)
            attrs["context"] = [PAST]
        if told is not None:
            variables["condition"] = (("sample", "variable"), told[rows].astype(np.float32), {})
        number = np.arange(rows.start, rows.stop)
        coords = {
            "row": number,
            "id": number.astype(str),
            "status": status,
            "run": run[rows],
            "time": time[rows],
        }
        yield xr.Dataset(variables, {k: ("sample", v) for k, v in coords.items()}, attrs)


def write(data: xr.Dataset, path: Path) -> None:
    """Decoded frames as fields with named dimensions and units, (sample, y, x), in HDF5, NetCDF or Zarr."""
    from .writing import fields_dataset, write_fields

    write_fields(fields_dataset(data), path)


def frames_of(fields: xr.Dataset) -> Any:
    """Lazy frames (run · time, channel, *grid) of fields (run, time, *grid)."""
    import dask.array as da

    stacked = da.stack([da.asarray(v.data) for v in fields.data_vars.values()], axis=2)
    return stacked.reshape(-1, *stacked.shape[2:])


def _values(frames: np.ndarray, some: Any) -> np.ndarray:
    """Whether some, or all, entries of each datum have a value."""
    found: np.ndarray = some(np.isfinite(frames), axis=tuple(range(1, frames.ndim)))
    return found


def _only(files: Mapping[str, Path]) -> Path:
    if len(files) == 1:
        return next(iter(files.values()))
    folder = {path.parent for path in files.values()}
    if len(folder) == 1:
        return folder.pop()
    raise InputError(f"these files are no one data set of fields: {', '.join(files)}")


def _wants_modes(fields: xr.Dataset, chosen: Prepare) -> bool:
    return "coefficients" in fields or "point" in fields.dims or chosen.modes is not None


def _parameters(fields: xr.Dataset) -> dict[str, np.ndarray]:
    return {
        str(name): coord.values.astype(float)
        for name, coord in fields.coords.items()
        if coord.dims == ("run",) and name not in _PARAMETERS_NOT
    }


def _edge(fields: xr.Dataset, axis: str) -> str:
    """How a file says what lies beyond an edge: its attribute ``boundary_x``; else what is next to it."""
    said = str(fields.attrs.get(f"boundary_{axis}", fields.attrs.get("boundary", "replicate")))
    return said if said in ("periodic", "replicate", "zeros") else "replicate"


def _channel_coords(fields: xr.Dataset) -> dict[str, Any]:
    names = list(map(str, fields.data_vars))
    units = [str(fields[name].attrs["units"]) for name in names]
    return {"channel": ("channel", names), "unit": ("channel", units)}


def _gridded(fields: xr.Dataset, path: Path, shape: tuple[int, int]) -> xr.Dataset:
    """Fields on points, or the modes that a file brings, on a regular grid; the error in the attribute ``note``."""
    import dask.array as da

    from .points import interpolation_error, on_grid

    if "point" not in fields.dims:
        raise InputError(f"prepare.grid is of data on points; {path} has a grid already")
    hole = float(fields.attrs.get("hole", 0.0))
    if "coefficients" in fields:
        x, y, mass = (fields[f"basis_{name}"].values for name in ("x", "y", "mass"))
        length = fields["basis_x"].attrs.get("units", "")
        names, units = list(fields.attrs["channels"]), list(fields.attrs["units"])
        parts = np.concatenate([fields["basis_mean"].values[None], fields["basis_modes"].values])
        made = on_grid(x, y, parts, shape, hole)
        a = da.from_array(fields["coefficients"].values, chunks=(1, 256, -1))
        frames = made[2][0] + da.tensordot(a, da.from_array(made[2][1:]), 1)  # (run, time, field, y, x)
        flat = parts.reshape(-1, parts.shape[-1])
    else:
        if not {"x", "y"} <= set(fields.coords):
            raise InputError(f"{path} does not say where its points are: give coordinates x and y (point)")
        x, y, mass = (fields[name].values for name in ("x", "y", "mass"))
        length = fields["x"].attrs.get("units", "")
        names = list(map(str, fields.data_vars))
        units = [str(fields[name].attrs["units"]) for name in names]
        values = np.stack([fields[name].values for name in names], 2)
        made = on_grid(x, y, values, shape, hole)
        frames, flat = da.from_array(made[2]), values[0, 0]
    error = interpolation_error(x, y, flat, mass, (*made[:2], made[2].reshape(-1, *shape)[: len(flat)]))
    size = f"{shape[0]} × {shape[1]}"
    note = f"interpolated from {len(x):,} points to {size} (back at the points {error:.1%} is lost)"
    said = [note, fields.attrs["note"]] if fields.attrs.get("note") else [note]
    variables = {
        name: (("run", "time", "y", "x"), frames[:, :, k], {"units": units[k]})
        for k, name in enumerate(names)
    }
    kept = {n: c for n, c in fields.coords.items() if c.dims in (("run",), ("time",))}
    axes = {name: (name, made[k], {"units": length}) for k, name in enumerate(("x", "y"))}
    attrs = {k: v for k, v in fields.attrs.items() if k not in ("channels", "units", "odd_modes")}
    return xr.Dataset(variables, axes, attrs | {"note": "; ".join(said)}).assign_coords(kept)


def _on_grid(fields: xr.Dataset, rows: dict[str, np.ndarray], chosen: Prepare) -> xr.Dataset:
    x = frames_of(fields)
    names = list(map(str, fields.data_vars))
    coords = _channel_coords(fields)
    for axis, dim in (("y", "row"), ("x", "column")):
        attrs = {"units": str(fields[axis].attrs.get("units", ""))}
        coords[f"{axis}_position"] = (dim, fields[axis].values.astype(float), attrs)
    if chosen.mirror:
        x = _with_images(x, _image(x, names, chosen.mirror), rows)
    missing = bool(np.isnan(x).any().compute())
    ds = xr.Dataset({"x": (("sample", "channel", "row", "column"), x.astype(np.float32))}, coords)
    ds["x"].attrs |= {"units": ", ".join(dict.fromkeys(coords["unit"][1])), "may_be_empty": 1}
    return ds.assign_attrs(channels=names, grid=list(x.shape[2:]), missing=missing)


def _in_modes(fields: xr.Dataset, rows: dict[str, np.ndarray], chosen: Prepare) -> xr.Dataset:
    """Coefficients of modes: those that the file brings, or of the training frames' POD."""
    if "coefficients" in fields:
        a = np.asarray(fields["coefficients"].data).reshape(-1, fields.sizes["mode"])
        residual = np.zeros(len(a))
        coords: dict[str, Any] = {
            str(name): fields[name] for name in fields.coords if str(name).startswith("basis_")
        }
        names = list(fields.attrs["channels"])
        grid: list[int] = list(fields.attrs.get("grid", [fields.sizes["point"]]))
        units = list(fields.attrs["units"])
        odd = np.asarray(fields.attrs["odd_modes"], bool)
        if chosen.mirror == "x":
            raise InputError("prepare.mirror: these modes have a mirror image in y alone")
    else:
        names = list(map(str, fields.data_vars))
        units = [str(fields[name].attrs["units"]) for name in names]
        frames = frames_of(fields)
        grid = list(frames.shape[2:])
        frames = frames.reshape(*frames.shape[:2], -1)
        train = np.flatnonzero(rows["split"] == 0)
        some = train[evenly(len(train), 600)]
        known = np.asarray(frames[some], np.float64)
        mass = fields["mass"].values if "mass" in fields.coords else np.ones(frames.shape[2])
        mass = np.where(np.isnan(known).any((0, 1)), 0.0, mass)
        if chosen.mirror:
            image = _image(known.reshape(*known.shape[:2], *grid), names, chosen.mirror).reshape(known.shape)
            known = np.stack([known, image], 1).reshape(-1, *known.shape[1:])
        basis = Basis.fit(known, mass, _field_scales(known, names, mass), chosen.modes or 32)
        parts = [basis.encode(block) for _, block in blocks(frames)]
        a, residual = (np.concatenate(part) for part in zip(*parts, strict=True))
        coords = basis.coordinates()
        odd = np.zeros(a.shape[1], bool)
        if chosen.mirror:
            shaped = basis.modes.reshape(len(basis.modes), len(names), *grid)
            image = _image(shaped, names, chosen.mirror).reshape(basis.modes.shape)
            odd = np.einsum("kcp,kcp,cp->k", basis.modes, image, basis.weight) < 0
        for axis, dim in (("x", "column"), ("y", "row")):
            if axis in fields.coords:
                dim = dim if axis in fields.dims else "point"
                attrs = {"travels": 0, "units": str(fields[axis].attrs.get("units", ""))}
                coords[f"basis_{axis}"] = (dim, fields[axis].values.astype(float), attrs)
    rows["residual"] = residual
    if chosen.mirror:
        a = _with_images(a, a * np.where(odd, -1.0, 1.0), rows)
    ds = xr.Dataset({"x": (("sample", "mode"), a.astype(np.float32), {"units": "1"})}, coords)
    return ds.assign_attrs(
        channels=names,
        channel_units=units,
        grid=grid,
        missing=False,
        odd_modes=np.flatnonzero(odd).tolist(),
    )


def _field_scales(frames: np.ndarray, names: list[str], mass: np.ndarray) -> np.ndarray:
    """The rms fluctuation of each field, the same of all components of a velocity; (C,)."""
    spread = np.nan_to_num(frames - frames.mean(0))
    variance = (np.square(spread).mean(0) * mass).sum(1) / mass.sum()
    return np.sqrt(np.maximum(_shared(variance, names), 1e-30))


def _shared(variance: np.ndarray, names: list[str]) -> np.ndarray:
    """The components of a velocity with the mean of their variances: a vector has one scale."""
    velocity = [k for k, name in enumerate(names) if name in ("u", "v", "w")]
    shared = variance.copy()
    if velocity:
        shared[velocity] = variance[velocity].mean()
    return shared


def _image(frames: Any, names: list[str], axis: str) -> Any:
    """The mirror image of frames (N, C, y, x) along an axis; InputError for points, which have none."""
    if frames.ndim != 4:
        raise InputError(
            "prepare.mirror is of data on a grid: leave it out, or interpolate with prepare.grid"
        )
    signs = np.array([-1.0 if is_odd(name, axis) else 1.0 for name in names], np.float32)
    flipped = frames[:, :, ::-1] if axis == "y" else frames[..., ::-1]
    return flipped * signs[:, None, None]


def _with_images(x: Any, image: Any, rows: dict[str, np.ndarray]) -> Any:
    """x (N, …), and behind it the mirror images of its training runs, as runs of their own; extends ``rows``."""
    train = np.flatnonzero(rows["split"] == 0)
    count = int(rows["run"].max()) + 1
    for name in rows:
        rows[name] = np.concatenate([rows[name], rows[name][train]])
    rows["run"][-len(train) :] += count
    rows["mirrored"][-len(train) :] = 1
    if isinstance(x, np.ndarray):
        return np.concatenate([x, image[train]])
    import dask.array as da

    return da.concatenate([x, image[train]])


def _scaling(ds: xr.Dataset, centre: str) -> Scaling:
    """The mean of training, and scales: a velocity has one for all components, modes have one together."""
    if "mode" in ds["x"].dims:
        fitted = dict(Scaling.fit(ds).fields)
        x = fitted["x"]
        scale = np.full_like(x.scale, np.sqrt(np.mean(np.square(x.scale))))
    else:
        fitted = dict(Scaling.fit(ds, keep={"x": ["channel", "row", "column"]}).fields)
        x = fitted["x"]
        if centre == "value":
            x = Scaling.fit(ds).fields["x"]
        variance = np.nanmean(np.square(np.where(x.scale == 1.0, np.nan, x.scale)), (1, 2))
        shared = np.sqrt(_shared(variance, list(ds.attrs["channels"])))
        scale = np.where(shared > 0, shared, 1.0)[:, None, None]  # NaN, of a constant field: 1
    loc = np.nan_to_num(x.loc).astype(np.float32).astype(float)
    fitted["x"] = Affine(x.kind, loc, scale, x.unit)
    return Scaling(fitted)
