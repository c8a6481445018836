"""A user's own series forecast by a trained model and its forecaster."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sciencevae.errors import InputError
from sciencevae.latents.forecast.base import Forecaster
from sciencevae.latents.forecast.files import load_forecaster
from sciencevae.latents.forecast.lagged import frames_ahead, told_by
from sciencevae.latents.forecast.series import TOLERANCE
from sciencevae.latents.trained import Trained
from sciencevae.latents.writing import target, write_data

if TYPE_CHECKING:
    import xarray as xr

    from sciencevae.runs import Variant

__all__ = ["FORECASTER", "forecast_file"]

log = logging.getLogger(__name__)
#: the name of a forecaster's file beside its model
FORECASTER = "forecaster.safetensors"


def forecast_file(
    model: str | Path | Variant,
    source: str | Path,
    out: str | Path,
    steps: int,
    *,
    members: int = 32,
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> int:
    """The ``steps`` frames that follow each run of a file, and how sure they are. Gives the number of runs.

    model: a model's file with ``forecaster.safetensors`` beside it, or a variant of a run, of which what is too
    large for a model's file is at hand, too. Each run needs as many usable frames at its end as the forecaster
    looks at.

    Written, as the domain writes: ``x``, decoded from the mean of the latents' law step by step, and ``x_members``,
    ``members`` draws of p(z_t …) and p(x | z); coordinates ``run``, ``time``, and ``lead`` (frames).

    Raises InputError: no forecaster, runs too short or with missing frames at their end, another time step.
    """
    path = model if isinstance(model, str | Path) else model.model_path
    trained = Trained.open(path, overrides)
    if not isinstance(model, str | Path):
        rows = [name for name, coord in model.data.coords.items() if "sample" in coord.dims]
        template = model.data.drop_vars(rows).isel(sample=slice(0, 0))
        trained = dataclasses.replace(trained, template=template)
    beside = Path(path).with_name(FORECASTER)
    if not beside.is_file():
        raise InputError(
            f"{path} has no {FORECASTER} beside it: a run's analyses fit one ('sciencevae analyse RUN'); keep both "
            "files together"
        )
    forecaster, known = load_forecaster(beside)
    destination = target(out, trained, source)
    series = _encoded(trained, Path(source))
    histories = [_history(series, run, forecaster, known, source) for run in np.unique(series["run"])]
    z = torch.stack([history for history, _ in histories])
    condition = None
    if series["condition"] is not None:
        last = [np.flatnonzero(series["run"] == run)[-1] for run in np.unique(series["run"])]
        condition = torch.from_numpy(series["condition"][last])
    told = condition if forecaster.condition_features else None
    generator = torch.Generator().manual_seed(seed)
    mean = forecaster.rollout(z, steps, told)
    draws = forecaster.rollout(z, steps, told, members, generator)
    if not (bool(mean.isfinite().all()) and bool(draws.isfinite().all())):
        raise InputError(f"the forecast grows without bound within {steps} steps: ask for fewer")
    scaled = None
    if condition is not None:
        scaled = trained.scaling.apply("condition", condition.repeat_interleave(steps, 0))
    times = np.concatenate([last + step * np.arange(1, steps + 1) for _, (last, step) in histories])
    runs = np.repeat(np.unique(series["run"]), steps)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        now = z[:, -1:]
        paths = (torch.cat([now, mean], 1), torch.cat([now.expand(members, *now.shape), draws], 2))
        data = _frames(trained, *paths, scaled)
    data = data.assign_coords(
        run=("sample", runs),
        time=("sample", times),
        lead=("sample", np.tile(np.arange(1, steps + 1), len(histories))),
    )
    write_data(data, destination, trained)
    return len(histories)


def _encoded(trained: Trained, source: Path) -> dict[str, Any]:
    """Posterior means of all rows, NaN where a row cannot be used, with run, time, status and condition."""
    found: dict[str, list[np.ndarray]] = {"z": [], "run": [], "time": [], "status": [], "condition": []}
    for block in trained.read(source):
        if "time" not in block.coords:
            raise InputError(f"domain {trained.domain.name!r} reads no times: its data are no series")
        status = np.asarray(block["status"].values).astype(object)
        z = np.full((len(status), trained.model.dim), np.nan, np.float32)
        batch = trained.batch(block, status, checked=True)
        if batch is not None:
            with torch.no_grad():
                z[status == "ok"] = trained.model.encode(batch.x, batch.context).mean.numpy()
        found["z"].append(z)
        found["status"].append(status)
        found["time"].append(block["time"].values)
        found["run"].append(block["run"].values if "run" in block.coords else np.zeros(len(z), np.int64))
        if "condition" in block:
            found["condition"].append(block["condition"].values.astype(np.float32))
    joined: dict[str, Any] = {name: np.concatenate(parts) if parts else None for name, parts in found.items()}
    return joined


def _history(
    series: dict[str, Any], run: Any, forecaster: Forecaster, known: dict[str, Any], source: str | Path
) -> tuple[torch.Tensor, tuple[float, float]]:
    """The last frames of one run that the forecaster looks at, its last time and the time step."""
    rows = np.flatnonzero(series["run"] == run)
    need = forecaster.window
    if len(rows) < max(need, 2):
        raise InputError(
            f"{source}: run {run} has {len(rows)} frames, and the forecaster looks at {need}: give a longer one"
        )
    last = rows[-need:]
    bad = last[series["status"][last] != "ok"]
    if len(bad):
        raise InputError(
            f"{source}: run {run}, frame {len(rows) - (rows[-1] - bad[0]) - 1} cannot be used "
            f"({series['status'][bad[0]]}), and the last {need} are what a forecast starts from: mend it, or cut "
            "the series before it"
        )
    times = series["time"][rows].astype(float)
    step = float(np.median(np.diff(times)))
    expected = known.get("time_step")
    if expected and abs(step - expected) > TOLERANCE * expected:
        raise InputError(
            f"{source}: the time step is {step:g}, and the forecaster was fitted to steps of {expected:g}: take "
            "every n-th frame with --set prepare.every=N, or interpolate the series"
        )
    return torch.from_numpy(series["z"][last]), (float(times[-1]), step)


def _frames(
    trained: Trained, mean: torch.Tensor, draws: torch.Tensor, condition: torch.Tensor | None
) -> xr.Dataset:
    """Decoded latents (R, H + 1, D), of the last frame and those that follow, and draws (S, R, H + 1, D), in
    physical units: the H frames of each run, rows by run and time."""
    import xarray as xr

    context = None if condition is None else {"condition": condition}
    ahead = frames_ahead(trained.model)
    # of a model of windows x has an axis of the frames that a datum describes
    known = trained.template["x"].isel({"lag": 0} if ahead else {})
    source, lag = told_by(mean.shape[1] - 1, ahead)

    def decoded(path: torch.Tensor, draw: bool) -> torch.Tensor:
        law = trained.model.decode(path[:, source].flatten(0, 1), context)
        x: torch.Tensor = law.sample() if draw else law.mean
        return x[torch.arange(len(x)), lag.repeat(len(path))] if ahead else x

    with torch.no_grad():
        middle = decoded(mean, draw=False)
        some = [decoded(one, draw=True) for one in draws]
    values = trained.scaling.invert("x", middle).numpy()
    members = np.stack([trained.scaling.invert("x", one).numpy() for one in some])
    variables: dict[str, Any] = {
        "x": (known.dims, values, known.attrs),
        "x_members": (("member", *known.dims), members, known.attrs),
    }
    if condition is not None:
        told = trained.template["condition"]
        variables["condition"] = (
            told.dims,
            trained.scaling.invert("condition", condition).numpy(),
            told.attrs,
        )
    attributes = trained.template.attrs | {"domain": trained.domain.name, "model": trained.fingerprint}
    return xr.Dataset(variables, coords=trained.template.coords, attrs=attributes)
