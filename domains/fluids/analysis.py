"""What is looked at: reconstruction, latent trajectories, regimes of parameters, forecasts beside their baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sciencevae.registry import Findings

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["forecast", "reconstruction", "regimes", "trajectories"]

#: what the columns and metrics are, on the page
TITLES = {
    "error": "relative error (L2 / L2 of the fluctuation about the training mean)",
    "lead": "lead (frames)",
    "lead_time": "lead time",
    "pod": "POD of as many modes",
    "frames": "frames",
    "part": "part of the data",
    "phase": "of the run",
    "coverage_68": "truth within the central 68 %",
    "coverage_95": "truth within the central 95 %",
    "crps": "CRPS (rms fluctuations)",
    "strouhal": "dominant frequency",
    "strouhal_error": "its standard error",
    "roundness": "spread of the radius of the limit cycle",
    "explained": "variance in the plane of the two leading components",
    "regime": "regime",
    "share": "share of the frames",
    "energy": "energy of the fluctuation",
}
#: a frame is of the saturated flow from here on, in units of how fast frames change in the end
SATURATED = 0.9
#: where forecasts of a transient start
START = (0.01, 0.5)
_PEERS = (8, 16, 32)  # modes that DMD is tried with, beside as many as there are latents


def reconstruction(run: Run) -> Findings:
    """Decoded posterior means against the frames, and POD of as many modes as there are latents.

    Relative L2 error, weighted by mass, over the L2 of the fluctuation about the training mean; with
    ``analyse.transient`` the growth of the instability and the saturated flow apart, and always by field.
    """
    from .forecasting import encode_pod, fit_pod
    from .frames import Frames, decoded, relative

    rows: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    notes = []
    for name, variant in run.variants.items():
        frames, model = Frames(variant), variant.model()
        z = variant.latents["z"].values
        dim = variant.settings.model.latent
        pod = fit_pod(frames, dim)
        a = encode_pod(pod, frames)
        phases = _phases(run, frames)
        for part, code in (("train", 0), ("valid", 1), ("test", 2)):
            chosen = np.flatnonzero((frames.split == code) & frames.original)
            squared = {"model": np.zeros(len(chosen)), "pod": np.zeros(len(chosen))}
            whole = np.zeros(len(chosen))
            for start in range(0, len(chosen), 512):
                own = slice(start, start + 512)
                these = chosen[own]
                x, outside = frames.scaled(these), frames.outside(these)
                found = decoded(model, z[these], frames.condition(these))
                squared["model"][own] = frames.squares(found - x) + outside
                linear = pod.decode(_tensor(a[these])).numpy()
                squared["pod"][own] = frames.squares(linear - x) + outside
                whole[own] = frames.squares(x - frames.mean) + outside
            for phase, inside in phases.items():
                some = inside[chosen]
                if some.any():
                    rows.append(
                        {
                            "model": name,
                            "part": part,
                            "phase": phase,
                            "frames": int(some.sum()),
                            "error": relative(squared["model"][some], whole[some]),
                            "pod": relative(squared["pod"][some], whole[some]),
                        }
                    )
        own_rows = [row for row in rows if row["model"] == name and row["part"] == "test"]
        metrics[name] = {row["phase"]: {"error": row["error"], "pod": row["pod"]} for row in own_rows}
        told = ", ".join(
            f"{row['phase']} {100 * row['error']:.2f} % (POD of {dim}: {100 * row['pod']:.1f} %)"
            for row in own_rows
        )
        notes.append(f"{name}: {dim} latents give test frames back to {told}.")
    if note := run.variants["main"].data.attrs.get("note"):
        notes.append(f"The data are {note}.")
    return Findings(metrics, {"reconstruction": pd.DataFrame(rows)}, tuple(notes), TITLES)


def trajectories(run: Run) -> Findings:
    """The plane of the two leading components of the latents in the saturated flow: is it a circle, and how fast?

    The frequency is that of the leading component of each run, in cycles per unit of time (the Strouhal number where
    D and U are the units).
    """
    from .frames import Frames
    from .periods import frequency

    rows, notes = [], []
    for name, variant in run.variants.items():
        frames = Frames(variant)
        z = variant.latents["z"].values
        parameters = _parameters(variant)
        saturated = frames.saturation() >= SATURATED
        for number in np.unique(frames.run[frames.original]):
            own = np.flatnonzero((frames.run == number) & frames.original)
            late = own[saturated[own]] if run.settings.analyse.transient else own
            late = late[np.argmax(np.diff(late, prepend=late[0]) > 1) :] if len(late) else late
            row: dict[str, Any] = {"model": name, "run": int(number)}
            row |= {key: float(variant.data[key].values[own[0]]) for key in parameters}
            if len(late) >= 16 and z[late].std() > 0:
                row |= _cycle(z[late])
                row["strouhal"], row["strouhal_error"] = frequency(frames.time[late], _leading(z[late]))
            rows.append(row)
    table = pd.DataFrame(rows)
    if "strouhal" in table:
        for row in table[table.model == "main"].dropna(subset=["strouhal"]).head(6).itertuples():
            which = ", ".join(f"{key} = {getattr(row, key):g}" for key in parameters)
            notes.append(
                f"{which or f'run {row.run}'}: frequency {row.strouhal:.4f} ± {row.strouhal_error:.4f} per "
                f"{run.variants['main'].data.attrs['time_unit'] or 'unit of time'}; {100 * row.explained:.0f} % of the "
                f"latents' variance lies in a plane, where the radius spreads by {100 * row.roundness:.0f} %."
            )
    return Findings({}, {"trajectories": table}, tuple(notes), TITLES)


def regimes(run: Run) -> Findings:
    """Clusters of the frames of runs with different parameters, found from the latents alone."""
    from sciencevae.latents.cluster import gaussian_mixture

    from .frames import Frames

    variant = run.variants["main"]
    frames, parameters = Frames(variant), _parameters(variant)
    runs = np.unique(frames.run[frames.original])
    if len(runs) < 3:
        return Findings()
    z, seed = variant.latents["z"].values, run.settings.analyse.seed
    train = np.flatnonzero((frames.split == 0) & frames.original)
    some = train[np.linspace(0, len(train) - 1, min(len(train), 3000)).astype(int)]
    most = min(run.settings.analyse.clusters_max, max(len(some) // 20, 1))
    fitted = gaussian_mixture(z[some], range(1, most + 1), seed=seed, restarts=1, patience=2)
    label = fitted.labels(z)
    rows = []
    for number in runs:
        own = np.flatnonzero((frames.run == number) & frames.original)
        found = np.bincount(label[own], minlength=fitted.components) / len(own)
        row: dict[str, Any] = {"run": int(number), "regime": int(found.argmax()), "share": float(found.max())}
        rows.append(row | {key: float(variant.data[key].values[own[0]]) for key in parameters})
    table = pd.DataFrame(rows)
    kinds = table.regime.nunique()
    note = (
        f"BIC prefers {fitted.components} Gaussians in the latents; by the one that most of its frames lie in, the "
        f"{len(runs)} runs are of {kinds} regime{'s' if kinds > 1 else ''}."
    )
    bic = dict(zip(fitted.table.components.tolist(), fitted.table.bic.tolist(), strict=True))
    return Findings({"bic": bic, "regimes": kinds}, {"regimes": table}, (note,), TITLES)


def forecast(run: Run) -> Findings:
    """Forecasts of test stretches by lead time: the model's latents with the forecaster that validation chose, POD of
    as many modes with the same choice, DMD and DMD of delays, the last frame, and the training mean (1 by
    definition). The chosen forecasters are kept as ``forecaster.safetensors`` beside their models.
    """
    from sciencevae.latents.forecast import save_forecaster
    from sciencevae.latents.forecast.apply import FORECASTER

    from . import forecasting as f
    from .frames import Frames, decoded

    asked = run.settings.analyse
    rows: list[dict[str, Any]] = []
    energies: list[pd.DataFrame] = []
    metrics: dict[str, Any] = {}
    notes = []
    shared: dict[Any, tuple[Any, dict[str, Any]]] = {}
    for name, variant in run.variants.items():
        if variant.key not in shared:
            shared[variant.key] = (Frames(variant), {})
        frames, peers = shared[variant.key]
        model = variant.model()
        cut = f.model_latents(variant, model, frames)
        chosen = f.choose(cut, frames, asked)
        if len(cut.valid):
            chosen.forecaster.calibrate(cut.valid)
        told = {"variant": variant.name, "method": chosen.kind, "time_step": float(frames.data.attrs["time_step"])}
        save_forecaster(chosen.forecaster, variant.folder / FORECASTER, told)
        step = float(frames.data.attrs["time_step"])
        starts = _starts(run, frames, cut.test)

        def add(label: str, squared: np.ndarray, whole: np.ndarray, more: Any = None) -> None:
            for phase, some in starts.items():
                if not some.any():
                    continue
                for k, lead in enumerate(asked.lead_times):
                    row = {"model": label, "phase": phase, "lead": lead, "lead_time": lead * step}
                    row["error"] = f.relative(squared[some, k], whole[some, k])
                    if more is not None and phase == next(iter(starts)):
                        row["crps"] = more["crps"][k]
                        row["coverage_68"], row["coverage_95"] = more["coverage"][k]
                    rows.append(row)

        _, squared, whole = f.errors(cut, cut.test, frames, chosen.forecaster, asked.lead_times)

        def draw(z: Any, these: np.ndarray) -> np.ndarray:
            return decoded(model, z, frames.condition(these), draw=True)

        few = cut.test[np.linspace(0, len(cut.test) - 1, min(len(cut.test), 64)).astype(int)]
        sure = f.probabilistic(cut, few, frames, chosen.forecaster, asked, draw)
        add(f"{name}: {chosen.kind}", squared, whole, sure)
        dim = cut.dim
        if dim not in peers:
            peers[dim] = True
            linear = f.pod_latents(variant, frames, dim)
            same = f.choose(linear, frames, asked)
            add(
                f"POD of {dim}: {same.kind}",
                *f.errors(linear, linear.test, frames, same.forecaster, asked.lead_times)[1:],
            )
        if "peers" not in peers:
            peers["peers"] = True
            for label, window in (("DMD", 1), ("DMD of delays", None)):
                best = None
                for modes in sorted({dim, *_PEERS}):
                    own = f.pod_latents(variant, frames, modes)
                    for ridge in (1e-8, 1e-5, 1e-3):
                        one = f.fit(own, "linear", asked, ridge=ridge, window=window)
                        error = f.valid_error(own, frames, one, asked)
                        if best is None or error < best[0]:
                            best = (error, own, one, modes)
                assert best is not None
                _, own, one, modes = best
                add(
                    f"{label}, {own.dim} modes",
                    *f.errors(own, own.test, frames, one, asked.lead_times)[1:],
                )
            add("last frame", *f.persistence(cut.test, frames, asked.lead_times))
        energies.append(_rollout(run, name, cut, frames, chosen.forecaster))
        metrics[name] = {"chosen": chosen.kind, "valid_error": chosen.valid}
        notes.append(_sentence(name, chosen.kind, rows, asked.lead_times[-1]))
    table = pd.DataFrame(rows)
    energy = pd.concat(energies)
    for name, part in energy.groupby("model", sort=False):
        ratio = float(part["of_training"].max())
        notes.append(
            f"{name}: over {int(part.frame.max())} frames the energy of the forecast stays below {ratio:.2f} of the "
            "largest in training."
        )
        metrics[str(name)]["largest_energy"] = ratio
    return Findings(metrics, {"forecast": table, "rollout": energy}, tuple(notes), TITLES)


def _rollout(run: Run, name: str, cut: Any, frames: Any, forecaster: Any) -> pd.DataFrame:
    """The energy of a long forecast from the first test window, frame by frame, beside the truth where there is."""
    asked = run.settings.analyse
    steps = asked.rollout or 4 * max(max(asked.lead_times), run.settings.prepare.horizon)
    first = cut.test[:1]
    z = forecaster.rollout(first.history, steps, first.condition)[0]
    start = int(first.rows[0, first.history.shape[1] - 1])
    rows = np.full(steps, start)
    energy = frames.squares(cut.frames_of(z, rows) - frames.mean)
    following = start + 1 + np.arange(steps)
    inside = following < len(frames.run)
    inside[inside] &= (frames.run[following[inside]] == frames.run[start]) & frames.original[
        following[inside]
    ]
    truth = np.full(steps, np.nan)
    truth[inside] = frames.fluctuation(following[inside])
    train = np.flatnonzero(frames.split == 0)
    some = train[np.linspace(0, len(train) - 1, min(len(train), 1000)).astype(int)]
    largest = float(frames.fluctuation(some).max())
    return pd.DataFrame(
        {
            "model": name,
            "frame": np.arange(1, steps + 1),
            "energy": energy,
            "truth": truth,
            "of_training": energy / largest,
        }
    )


def _sentence(name: str, kind: str, rows: list[dict[str, Any]], lead: int) -> str:
    here = [row for row in rows if row["lead"] == lead]
    phase = here[-1]["phase"]
    own = next(r["error"] for r in here if r["model"].startswith(f"{name}: ") and r["phase"] == phase)
    peers = {r["model"]: r["error"] for r in here if ": " not in r["model"] or r["model"].startswith("POD")}
    peers = {r["model"]: r["error"] for r in here if r["model"] in peers and r["phase"] == phase}
    told = ", ".join(f"{label} {error:.3f}" for label, error in peers.items())
    return f"{name} ({kind}), {lead} frames ahead, {phase}: relative error {own:.3f}; {told}; the mean 1."


def _starts(run: Run, frames: Any, test: Any) -> dict[str, np.ndarray]:
    """Which windows a score is of: all, and those that start in the growth of the instability."""
    every = np.ones(len(test), bool)
    if not run.settings.analyse.transient:
        return {"all": every}
    start = frames.saturation()[test.rows[:, test.history.shape[1] - 1]]
    low, high = START
    return {
        "all": every,
        f"started at {100 * low:g} to {100 * high:g} % of saturation": (start >= low) & (start <= high),
    }


def _phases(run: Run, frames: Any) -> dict[str, np.ndarray]:
    whole = np.ones(len(frames.split), bool)
    if not run.settings.analyse.transient:
        return {"all": whole}
    saturated = frames.saturation() >= SATURATED
    return {"all": whole, "transient": ~saturated, "saturated": saturated}


def _parameters(variant: Any) -> list[str]:
    own = {"run", "time", "split", "group", "mirrored", "residual"}
    found = [str(n) for n, c in variant.data.coords.items() if c.dims == ("sample",) and str(n) not in own]
    return [name for name in found if np.unique(variant.data[name].values).size > 1]


def _leading(z: np.ndarray) -> np.ndarray:
    """The leading principal component of latents (n, D), (n,)."""
    centred = z - z.mean(0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2][0]


def _cycle(z: np.ndarray) -> dict[str, float]:
    """How much of the latents lies in a plane, and how the radius spreads there."""
    centred = z - z.mean(0)
    _, s, axes = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ axes[:2].T
    radius = np.hypot(*plane.T) if plane.shape[1] == 2 else np.abs(plane[:, 0])
    return {
        "explained": float(np.square(s[:2]).sum() / np.square(s).sum()),
        "roundness": float(radius.std() / radius.mean()),
    }


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.as_tensor(values, dtype=torch.float32)
