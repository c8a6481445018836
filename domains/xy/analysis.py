"""What is looked at: decoded and new configurations against Monte Carlo, the latents, clusters, the transition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sciencevae.data.rows import evenly, row_blocks
from sciencevae.data.splits import split_rows
from sciencevae.registry import Findings

from . import ensembles
from . import observables as xy
from .transition import pseudo_transitions

if TYPE_CHECKING:
    from sciencevae.runs import Run, Variant

__all__ = ["clusters", "decoding", "latents", "transition"]

#: what the columns and metrics are, on the page
TITLES = {
    "temperature": "T (J/k_B)",
    "held_out": "T held out",
    "n": "configurations",
    "energy": "energy (J/site)",
    "energy_error": "its error (J/site)",
    "magnetisation": "|m|",
    "vortex_density": "vortices (per site)",
    "vortex_pairs": "vortex pairs (per site)",
    "helicity": "helicity modulus Υ (J)",
    "helicity_error": "error of Υ (J)",
    "g1": "G(1)",
    "g2": "G(2)",
    "g_quarter": "G(L/4)",
    "g_half": "G(L/2)",
    "g": "G(r)",
    "r": "r (sites)",
    "cosine": "mean cos(μ − θ)",
    "expected_energy": "E[energy | z] (J/site)",
    "expected_energy_bias": "E[energy | z] − energy (J/site)",
    "energy_miss": "|energy of μ(z) − energy| (J/site)",
    "energy_bias": "energy of μ(z) − energy (J/site)",
    "drawn_energy_bias": "energy of a draw − energy (J/site)",
    "mean_distance": "mean distance from Monte Carlo",
    "mean_distance_held_out": "the same at held-out T",
    "worst_temperature": "T of the largest (J/k_B)",
    "worst_model": "model there",
    "worst_monte_carlo": "Monte Carlo there",
    "worst_error": "error there",
    "lattice": "L (sites)",
    "spearman_rho_magnetisation": "Spearman correlation of ρ and |m|",
    "spearman_rho_temperature": "Spearman correlation of ρ and T",
    "r2_temperature": "R² of T",
    "ordered": "probability of the ordered cluster",
    "boundary": "T of the boundary (J/k_B)",
    "agreement": "on their side of T_KT (share)",
    "largest_phase": "larger phase (share)",
    "bic": "BIC, number of Gaussians",
    "pseudo_transition": "T* ± error (J/k_B), L",
    "t_kt": "T_KT (J/k_B)",
    "statistical": "statistical error (J/k_B)",
    "systematic": "systematic error (J/k_B)",
    "consistent": "of the form T_KT + a/(ln bL)²",
}
MONTE_CARLO = "Monte Carlo"
#: cosines and sines of the training configurations that principal components are fitted to
_FITTED_BYTES = 256 << 20
_COMPARED = ("energy", "magnetisation", "vortex_density", "vortex_pairs", "helicity", "g1", "g2", "g_half")


def decoding(run: Run) -> Findings:
    """Decoded test configurations and new ones against Monte Carlo, temperature by temperature.

    For each model of the main lattice: the mean angles μ(z) at the posterior mean of each test configuration and
    one draw from p(x | z) there ("decoded", "drawn"), and the same at new latents of that temperature ("new
    mean", "new draw"). Monte Carlo: all configurations of that temperature.
    """
    main = run.variants["main"]
    variants = {n: v for n, v in run.variants.items() if _lattice(v) == _lattice(main)}
    lattice = _lattice(main)
    temperature, split = (main.data[name].values for name in ("temperature", "split"))
    held = _held_out(main)
    rows: list[dict[str, Any]] = []
    curves: list[pd.DataFrame] = []

    def add(model: str, source: str, t: float, of_each: dict[str, np.ndarray], **more: float) -> None:
        known = {"model": model, "source": source, "temperature": t, "held_out": t in held}
        row, g = ensembles.average(of_each, t, lattice)
        rows.append(known | row | more)
        curves.append(pd.DataFrame(known | {"r": np.arange(len(g)), "g": g}))

    simulated = ensembles.joined(map(ensembles.each, _configurations(main, np.arange(len(split)))))
    for t in np.unique(temperature):
        add(MONTE_CARLO, MONTE_CARLO, float(t), _those(simulated, temperature == t))
    linear, told_of_linear = _principal_components(main)
    summary: dict[str, Any] = {"principal components": linear}
    for name, variant in variants.items():
        model, stored = variant.model(), variant.latents
        told = _told(variant)
        test = np.flatnonzero(split == 2)
        t_test = temperature[test]
        parts = ensembles.decoded_parts(
            model, stored["z"].values[test], told(t_test), run.settings.analyse.seed
        )
        decoded, drawn, row = _compared(parts, _configurations(main, test, ensembles.ROWS))
        for t in map(float, np.unique(t_test)):
            own = t_test == t
            add(name, "decoded", t, _those(decoded, own), cosine=row["cosine"][own].mean())
            expected = row["expected_energy"][own].mean()
            add(name, "drawn", t, _those(drawn, own), expected_energy=expected)
        for t in map(float, np.unique(temperature)):
            new = _new_latents(variant, t, run)
            made = ensembles.decode(model, new, told(np.full(len(new), t)), run.settings.analyse.seed + 1)
            add(name, "new mean", t, ensembles.each(made.mean_angle))
            expected = made.expected_energy.mean()
            add(name, "new draw", t, ensembles.each(made.drawn), expected_energy=expected)
        summary[name] = {
            part: {
                "energy_miss": float(np.abs(row["energy_bias"][chosen]).mean()),
                **{
                    key: float(row[key][chosen].mean())
                    for key in ("energy_bias", "cosine", "drawn_energy_bias", "expected_energy_bias")
                },
            }
            for part, chosen in {
                "test": np.ones(len(test), bool),
                "seen temperatures": ~np.isin(t_test, held),
                "held-out temperatures": np.isin(t_test, held),
            }.items()
            if chosen.any()
        }
    table = pd.DataFrame(rows)
    apart = _disagreements(table)
    return Findings(
        summary,
        {"observables": table, "correlation": pd.concat(curves), "disagreements": apart},
        (*_sentences(summary, apart), *told_of_linear),
        TITLES,
    )


def latents(run: Run) -> Findings:
    """How the latents follow magnetisation and temperature, which the model was not told."""
    from scipy.stats import spearmanr
    from sklearn.linear_model import Ridge

    rows = []
    for name, variant in run.variants.items():
        stored = variant.latents
        z, t, m = (stored[key].values for key in ("z", "temperature", "magnetisation"))
        rho, split = ensembles.order_parameter(z), stored["split"].values
        features = ensembles.turned_back(z)
        features = np.concatenate([features, np.square(features)], 1)
        fit = Ridge(alpha=1.0).fit(features[split == 0], t[split == 0])
        rows.append(
            {
                "model": name,
                "lattice": _lattice(variant),
                "spearman_rho_magnetisation": float(spearmanr(rho, m).statistic),
                "spearman_rho_temperature": float(spearmanr(rho, t).statistic),
                "r2_temperature": float(fit.score(features[split == 2], t[split == 2])),
            }
        )
    table = pd.DataFrame(rows)
    main = table.iloc[0]
    note = (
        f"The latents' length ρ = |(z_0, z_1)| orders configurations as |m| does: Spearman correlation "
        f"{main.spearman_rho_magnetisation:.3f}. A quadratic fit of all rotation-invariant latents gives T of "
        f"test data with R² = {main.r2_temperature:.2f}."
    )
    return Findings(
        {row["model"]: {k: v for k, v in row.items() if k != "model"} for row in table.to_dict("records")},
        {"latent_correlations": table},
        (note,),
        TITLES,
    )


def clusters(run: Run) -> Findings:
    """A mixture of two Gaussians on the rotation-invariant latents, beside the phases below and above T_KT."""
    from sciencevae.latents.cluster import gaussian_mixture

    stored = run.variants["main"].latents
    t, split = stored["temperature"].values, stored["split"].values
    features = ensembles.turned_back(stored["z"].values)
    train = split == 0
    features = (features - features[train].mean(0)) / features[train].std(0)
    seed = run.settings.analyse.seed
    fitted = gaussian_mixture(features[train], range(1, 7), seed=seed, restarts=3)
    bic = dict(zip(fitted.table["components"].tolist(), fitted.table["bic"].tolist(), strict=True))
    two = fitted.fits[1]
    ordered = int(np.argmax(two.means_[:, 0]))  # of larger ρ
    probability = two.predict_proba(features)[:, ordered]
    rows = []
    for one in np.unique(t):
        own = probability[t == one]
        rows.append({"temperature": one, "ordered": own.mean(), "error": own.std() / np.sqrt(len(own))})
    table = pd.DataFrame(rows)
    share = table["ordered"].to_numpy(float)
    below = np.flatnonzero((share[:-1] > 0.5) & (share[1:] <= 0.5))
    boundary = float("nan")
    if len(below):
        k, grid = int(below[0]), table["temperature"].to_numpy(float)
        part = (share[k] - 0.5) / (share[k] - share[k + 1])
        boundary = float(grid[k] + part * (grid[k + 1] - grid[k]))
    phase = t < xy.T_KT
    test = split == 2
    agree = float(((probability > 0.5) == phase)[test].mean())
    chance = float(max(phase[test].mean(), 1 - phase[test].mean()))
    note = (
        f"Two clusters, found without T: the boundary (probability ½) lies at T = {boundary:.2f}; "
        f"{100 * agree:.0f} % of test configurations fall on the side of T_KT = {xy.T_KT} where they belong "
        f"({100 * chance:.0f} % by always naming the larger phase). BIC prefers {fitted.components} "
        "components: the latents change continuously with T, as they should across a transition without a gap. "
        "Where two Gaussians meet depends on the temperatures simulated: it is no measurement of T_KT."
    )
    metrics = {"boundary": boundary, "agreement": agree, "largest_phase": chance, "bic": bic}
    return Findings(metrics, {"clusters": table}, (note,), TITLES)


def transition(run: Run) -> Findings:
    """Pseudo-transitions T*(L) from the latents, |m| and Υ, and what they extrapolate to."""
    chosen: dict[int, Variant] = {}
    for variant in run.variants.values():
        told = variant.settings.model.conditional or variant.settings.objective.energy_weight > 0
        if not told:
            chosen.setdefault(_lattice(variant), variant)
    curves, found = pseudo_transitions({lattice: chosen[lattice].latents for lattice in sorted(chosen)})
    metrics: dict[str, Any] = {}
    notes = []
    for statistic, rows in found.groupby("statistic", sort=False):
        limit = xy.extrapolate(rows.lattice.tolist(), rows.temperature.tolist(), rows.error.tolist())
        metrics[str(statistic)] = {
            "pseudo_transition": {
                str(lattice): [t, error]
                for lattice, t, error in zip(rows.lattice, rows.temperature, rows.error, strict=True)
            },
            "t_kt": limit.value,
            "statistical": limit.statistical,
            "systematic": limit.systematic,
            "consistent": limit.consistent,
        }
        listed = ", ".join(
            f"{r.temperature:.3f} ± {r.error:.3f} (L = {r.lattice})" for r in rows.itertuples()
        )
        told = f"{statistic}: T* = {listed}"
        if not limit.consistent:
            told += (
                "; not of the form T_KT + a/(ln bL)² within its errors (which do not hold the spread between"
            )
            notes.append(f"{told} trainings), so no T_KT is quoted.")
        else:
            notes.append(
                f"{told}; extrapolated with T_KT + a/(ln bL)²: T_KT = {limit.value:.3f} ± {limit.statistical:.3f} "
                f"(statistical) ± {limit.systematic:.3f} (b unknown). Large lattices: {xy.T_KT}."
            )
    return Findings(metrics, {"transition": curves, "pseudo_transitions": found}, tuple(notes), TITLES)


def _lattice(variant: Variant) -> int:
    return int(variant.data.sizes["row"])


def _held_out(variant: Variant) -> list[float]:
    """Temperatures, as stored, of which every configuration is in test."""
    t, split = variant.data["temperature"].values, variant.data["split"].values
    return [float(one) for one in np.unique(t) if (split[t == one] == 2).all()]


def _told(variant: Variant) -> Any:
    """Temperatures (n,) → the scaled condition (n, 1) that this variant's model wants, or None."""
    from sciencevae.data.scaling import Scaling

    if not variant.settings.model.conditional:
        return lambda temperature: None
    scaling = Scaling.of(variant.data)
    return lambda t: scaling.apply("condition", np.asarray(t, np.float32)[:, None])


def _new_latents(variant: Variant, temperature: float, run: Run) -> np.ndarray:
    """From the prior of a model that is told T, else from the aggregate posterior at T."""
    n, seed = run.settings.analyse.draws, run.settings.analyse.seed
    if variant.settings.model.conditional:
        return np.random.default_rng(seed).standard_normal((n, variant.settings.model.latent))
    return ensembles.sample_latents(variant.latents, temperature, n, seed)


def _configurations(variant: Variant, rows: np.ndarray, size: int | None = None) -> Iterator[np.ndarray]:
    """Angles (n, L, L) of rows of the data, block by block."""
    for block in row_blocks(variant.data[["x"]].reset_coords(drop=True), rows, size):
        yield block["x"].values[:, 0]


def _those(of_each: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[rows] for name, values in of_each.items()}


def _compared(
    decoded: Iterator[ensembles.Decoded], configurations: Iterator[np.ndarray]
) -> tuple[dict[str, np.ndarray], ...]:
    """What is measured of the mean angles, of the draws, and of both beside the configurations encoded, by row."""
    found: tuple[list[dict[str, np.ndarray]], ...] = ([], [], [])
    for made, x in zip(decoded, configurations, strict=True):
        energy = xy.energy(x)
        row = {
            "cosine": np.cos(made.mean_angle - x).mean((1, 2)),
            "energy_bias": made.energy - energy,
            "drawn_energy_bias": xy.energy(made.drawn) - energy,
            "expected_energy": made.expected_energy,
            "expected_energy_bias": made.expected_energy - energy,
        }
        parts = (ensembles.each(made.mean_angle), ensembles.each(made.drawn), row)
        for kept, part in zip(found, parts, strict=True):
            kept.append(part)
    return tuple(map(ensembles.joined, found))


def _principal_components(main: Variant) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The linear baseline: as many principal components of (cos θ, sin θ) as the main model has latents.

    Beside it what is to be said of the configurations it is fitted to.
    """
    from sklearn.decomposition import PCA

    def fields(theta: np.ndarray) -> np.ndarray:
        return np.concatenate([np.cos(theta), np.sin(theta)], 1).reshape(len(theta), -1)

    train, test = (split_rows(main.data, part) for part in ("train", "test"))
    fitted = train[evenly(len(train), max(1, _FITTED_BYTES // (2 * 4 * _lattice(main) ** 2)))]
    x = np.concatenate(list(map(fields, _configurations(main, fitted))))
    pca = PCA(main.settings.model.latent, svd_solver="randomized", random_state=0).fit(x)
    miss, similar = [], 0.0
    for x in _configurations(main, test):
        cosine, sine = np.split(pca.inverse_transform(pca.transform(fields(x))), 2, axis=1)
        angle = np.arctan2(sine, cosine).reshape(x.shape)
        miss.append(np.abs(xy.energy(angle) - xy.energy(x)))
        similar += float(np.cos(angle - x).mean()) * (len(x) / len(test))
    told = (
        f"Principal components are fitted to {len(fitted):,} of {len(train):,} training configurations, taken "
        "evenly, which are held in memory."
    )
    found = {"test": {"energy_miss": float(np.concatenate(miss).mean()), "cosine": similar}}
    return found, (told,) if len(fitted) < len(train) else ()


def _disagreements(table: pd.DataFrame) -> pd.DataFrame:
    """For each model, source and observable: the mean distance from Monte Carlo, and where it is largest."""
    reference = table[table.source == MONTE_CARLO].set_index("temperature")
    rows = []
    for (model, source), part in table[table.source != MONTE_CARLO].groupby(["model", "source"], sort=False):
        part = part.set_index("temperature")
        for name in _COMPARED:
            apart = part[name] - reference.loc[part.index, name]
            t = apart.abs().idxmax()
            error = (
                np.hypot(part.loc[t, f"{name}_error"], reference.loc[t, f"{name}_error"])
                if (f"{name}_error" in part)
                else np.nan
            )
            rows.append(
                {
                    "model": model,
                    "source": source,
                    "observable": name,
                    "mean_distance": apart.abs().mean(),
                    "mean_distance_held_out": apart[part.held_out].abs().mean(),
                    "worst_temperature": t,
                    "worst_model": part.loc[t, name],
                    "worst_monte_carlo": reference.loc[t, name],
                    "worst_error": error,
                }
            )
    return pd.DataFrame(rows)


def _sentences(summary: dict[str, Any], apart: pd.DataFrame) -> list[str]:
    """Where models and Monte Carlo disagree, in words."""
    notes = []
    for model, parts in summary.items():
        told = "; ".join(
            f"{name}: energy of μ(z) off by {v['energy_miss']:.3f} J per site, spin cosine {v['cosine']:.3f}"
            for name, v in parts.items()
        )
        notes.append(f"{model}. {told}.")
    for which, rows in apart.groupby(["model", "source"], sort=False):
        label = ", ".join(map(str, which))
        by = rows.set_index("observable")
        v, g, h = by.loc["vortex_density"], by.loc["g2"], by.loc["helicity"]
        notes.append(
            f"{label}: at T = {v.worst_temperature:.2f} vortex density {v.worst_model:.3f} against "
            f"{v.worst_monte_carlo:.3f} of Monte Carlo; at T = {g.worst_temperature:.2f} G(2) = "
            f"{g.worst_model:.2f} against {g.worst_monte_carlo:.2f}; at T = {h.worst_temperature:.2f} Υ = "
            f"{h.worst_model:.2f} against {h.worst_monte_carlo:.2f}."
        )
    return notes
