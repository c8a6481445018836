"""What is looked at: reconstruction, latent trajectories, regimes of runs with different parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from sciencevae.registry import Findings

if TYPE_CHECKING:
    from sciencevae.runs import Run

__all__ = ["TITLES", "Parameter", "parameters", "reconstruction", "regimes", "trajectories"]

#: what the columns and metrics are, on the page
TITLES = {
    "error": "relative error (L2 / L2 of the fluctuation about the training mean)",
    "lead": "frames ahead",
    "lead_time": "lead time",
    "frame": "frames ahead",
    "pod": "relative error of POD of as many modes",
    "frames": "frames",
    "part": "part of the data",
    "phase": "part of the run",
    "coverage_68": "truth within the central 68 %",
    "coverage_95": "truth within the central 95 %",
    "crps": "CRPS (rms fluctuations)",
    "strouhal": "dominant frequency",
    "strouhal_error": "its standard error",
    "roundness": "spread of the radius of the limit cycle",
    "explained": "variance in the plane of the two leading components",
    "regime": "regime",
    "share": "share of the frames",
    "energy": "squared fluctuation of the forecast, scaled, summed over the frame",
    "truth": "the same of the true frame",
    "of_training": "energy / largest in training",
    "largest_energy": "largest energy of the long forecast / largest in training",
    "bic": "BIC, by number of Gaussians",
    "regimes": "regimes that runs are of",
    "chosen": "forecaster",
    "valid_error": "relative error on validation data, mean over the lead times",
}
#: a frame is of the saturated flow from here on, in units of how fast frames change in the end
SATURATED = 0.9
#: a periodic flow is a closed curve in a plane of the latents that holds so much of their variance at least
PLANAR = 0.5


def reconstruction(run: Run) -> Findings:
    """Decoded posterior means against the frames, and POD of as many modes as there are latents.

    Relative L2 error, weighted by mass, over the L2 of the fluctuation about the training mean; with
    ``analyse.transient`` the growth of the instability and the saturated flow apart, and always by field.
    """
    from .forecasting import PODSeries, frame_modes
    from .frames import Frames, decoded, relative

    rows: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    notes = []
    for name, variant in run.variants.items():
        frames, model = Frames(variant), variant.model()
        z = variant.latents["z"].values
        dim = frame_modes(variant.settings)
        linear = PODSeries.fit(frames, dim)
        phases = _phases(run, frames)
        for part, code in (("train", 0), ("valid", 1), ("test", 2)):
            chosen = np.flatnonzero((frames.split == code) & frames.original)
            squared = {"model": np.zeros(len(chosen)), "pod": np.zeros(len(chosen))}
            whole = np.zeros(len(chosen))
            for place in frames.blocks(np.arange(len(chosen))):
                own = slice(place[0], place[-1] + 1)
                these = chosen[own]
                x, outside = frames.scaled(these), frames.outside(these)
                found = decoded(model, z[these], frames.condition(these))
                squared["model"][own] = frames.squares(found - x) + outside
                modes = linear.pod.decode(_tensor(linear.a[these])).numpy()
                squared["pod"][own] = frames.squares(modes - x) + outside
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
            f"{100 * row['error']:.2f} % (POD of {dim}: {100 * row['pod']:.1f} %)"
            + (f" of the {row['phase']} frames" if row["phase"] != "all" else "")
            for row in own_rows
        )
        notes.append(f"{name}: {dim} latents give test frames back to {told}.{linear.limited}")
    if note := run.variants["main"].data.attrs.get("note"):
        notes.append(f"The data are {note}.")
    return Findings(metrics, {"reconstruction": pd.DataFrame(rows)}, tuple(notes), TITLES)


def trajectories(run: Run) -> Findings:
    """The plane of the two leading components of the latents in the saturated flow: is it a circle, and how fast?

    The frequency is that of all latents of a run, in cycles per unit of time (the Strouhal number where D and U are
    the units); of runs that are steady, or last for fewer than three cycles, there is none.
    """
    from sciencevae.errors import InputError

    from .frames import Frames
    from .strouhal import shedding_frequency

    rows, notes = [], []
    for name, variant in run.variants.items():
        frames = Frames(variant)
        z = variant.latents["z"].values
        known = parameters(variant)
        saturated = frames.saturation() >= SATURATED if run.settings.analyse.transient else None
        for number in np.unique(frames.run[frames.original]):
            own = np.flatnonzero((frames.run == number) & frames.original)
            late = own if saturated is None else own[saturated[own]]
            late = late[np.argmax(np.diff(late, prepend=late[0]) > 1) :] if len(late) else late
            row: dict[str, Any] = {"model": name, "run": int(number)}
            row |= {key: float(variant.data[key].values[own[0]]) for key in known}
            if len(late) >= 16 and z[late].std() > 0:
                row["explained"], radius = _cycle(z[late])
                try:
                    found = shedding_frequency(z[late], frames.time[late])
                    row |= {"strouhal": found.value, "strouhal_error": found.error}
                    if row["explained"] > PLANAR:
                        row["roundness"] = radius
                except InputError:  # steady, or too few cycles: there is no limit cycle
                    pass
            rows.append(row)
    table = pd.DataFrame(rows)
    if "strouhal" in table:
        periodic = table[table.model == "main"].dropna(subset=["strouhal"]).head(6)
        for one in periodic.to_dict("records"):
            told = (parameter.told(one[key]) for key, parameter in parameters(run.main, told=True).items())
            which = ", ".join(told) or f"run {one['run']}"
            unit = run.main.data.attrs["time_unit"] or "unit of time"
            share = f"{100 * one['explained']:.0f} % of the latents' variance lies in a plane"
            if one["explained"] > PLANAR:
                cycle = f"{share}, and the radius there spreads by {100 * one['roundness']:.0f} %"
            else:
                cycle = f"{share}: a frequency among others, and no limit cycle"
            frequency = f"{one['strouhal']:.4f} ± {one['strouhal_error']:.4f} per {unit}"
            notes.append(f"{which}: dominant frequency {frequency}; {cycle}.")
    return Findings({}, {"trajectories": table}, tuple(notes), _titles(run.main))


def regimes(run: Run) -> Findings:
    """Clusters of the frames of runs with different parameters, found from the latents alone."""
    from sciencevae.data.rows import evenly
    from sciencevae.latents.cluster import gaussian_mixture

    from .frames import Frames

    variant = run.variants["main"]
    frames, known = Frames(variant), parameters(variant)
    runs = np.unique(frames.run[frames.original])
    if len(runs) < 3:
        return Findings()
    z, seed = variant.latents["z"].values, run.settings.analyse.seed
    train = np.flatnonzero((frames.split == 0) & frames.original)
    some = train[evenly(len(train), 3000)]
    most = min(run.settings.analyse.clusters_max, max(len(some) // 20, 1))
    fitted = gaussian_mixture(z[some], range(1, most + 1), seed=seed, restarts=1, patience=2)
    label = fitted.labels(z)
    rows = []
    for number in runs:
        own = np.flatnonzero((frames.run == number) & frames.original)
        found = np.bincount(label[own], minlength=fitted.components) / len(own)
        row: dict[str, Any] = {"run": int(number), "regime": int(found.argmax()), "share": float(found.max())}
        rows.append(row | {key: float(variant.data[key].values[own[0]]) for key in known})
    table = pd.DataFrame(rows)
    kinds = table.regime.nunique()
    limit = ", the most that were tried" if fitted.components == most else ""
    note = (
        f"BIC prefers {fitted.components} Gaussians in the latents{limit}; by the one that most of its frames lie "
        f"in, the {len(runs)} runs are of {kinds} regime{'s' if kinds > 1 else ''}."
    )
    bic = dict(zip(fitted.table.components.tolist(), fitted.table.bic.tolist(), strict=True))
    return Findings({"bic": bic, "regimes": kinds}, {"regimes": table}, (note,), _titles(variant))


def _phases(run: Run, frames: Any) -> dict[str, np.ndarray]:
    whole = np.ones(len(frames.split), bool)
    if not run.settings.analyse.transient:
        return {"all": whole}
    saturated = frames.saturation() >= SATURATED
    return {"all": whole, "transient": ~saturated, "saturated": saturated}


class Parameter(NamedTuple):
    """A parameter that differs from run to run, in words, and its unit; of a number without one, none."""

    words: str
    unit: str

    @property
    def title(self) -> str:
        """As a column or an axis is headed."""
        return f"{self.words} ({self.unit})" if self.unit else self.words

    def told(self, value: float) -> str:
        return f"{self.words} {value:g} {self.unit}".strip()


def parameters(variant: Any, told: bool = False) -> dict[str, Parameter]:
    """The parameters that differ from run to run, by name; ``told``: of a model that is told some, these alone."""
    own = {"run", "time", "split", "group", "mirrored", "residual"}
    found = {}
    for name, coord in variant.data.coords.items():
        if coord.dims == ("sample",) and name not in own and np.unique(coord.values).size > 1:
            words = "Reynolds number" if name == "reynolds" else str(name).replace("_", " ")
            unit = str(coord.attrs.get("units", ""))
            found[str(name)] = Parameter(words, "" if unit == "1" else unit)
    condition = variant.data.attrs["condition"] if told else []
    return {name: found[name] for name in sorted(found) if name in (condition or found)}


def _titles(variant: Any) -> dict[str, str]:
    return TITLES | {name: one.title for name, one in parameters(variant).items()}


def _cycle(z: np.ndarray) -> tuple[float, float]:
    """How much of the variance of latents lies in a plane, and the relative spread of the radius there."""
    centred = z - z.mean(0)
    _, s, axes = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ axes[:2].T
    radius = np.hypot(*plane.T) if plane.shape[1] == 2 else np.abs(plane[:, 0])
    return float(np.square(s[:2]).sum() / np.square(s).sum()), float(radius.std() / radius.mean())


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.as_tensor(values, dtype=torch.float32)
