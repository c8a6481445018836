"""Put the numbers of a run of the XY domain, and of the sampler's benchmark, into the domain's README.

    sciencevae run xy --out runs/xy
    for s in 1 2 3 4; do sciencevae run xy --set seed=$s --out runs/xy-seed$s; done
    python benchmarks/xy_results.py runs/xy runs/xy-seed*

The tables are those of the first run; of all of them, which must differ in the seed alone, the range of what was
asked for is told. Keeps them in benchmarks/results/xy_run.json, and rewrites what stands between the README's
markers.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DOMAIN = HERE.parent / "domains" / "xy"


def decoding(found: dict[str, Any]) -> list[str]:
    """Energy and agreement of decoded test configurations, by model."""
    names = {
        "principal components": "8 principal components of (cos θ, sin θ)",
        "main": "VAE, plain ELBO",
        "energy": "VAE, ELBO + energy term",
    }
    lines = [
        "| L = 16, 8 numbers, test data | mean error of E(μ(z)), J per site | at T not seen | spin cosine "
        "| bias of E of a draw from p(x∣z) | bias of ⟨E⟩ under p(x∣z) |",
        "|---|---|---|---|---|---|",
    ]
    for name, title in names.items():
        test, held = found[name]["test"], found[name].get("held-out temperatures", {})

        def cell(part: dict[str, float], key: str, form: str = ".3f") -> str:
            return format(part[key], form) if key in part else "–"

        lines.append(
            f"| {title} | {cell(test, 'energy_miss')} | {cell(held, 'energy_miss')} | {cell(test, 'cosine')} "
            f"| {cell(test, 'drawn_energy_bias', '+.3f')} | {cell(test, 'expected_energy_bias', '+.3f')} |"
        )
    return lines


def observables(path: Path) -> list[str]:
    """Models beside Monte Carlo at the temperatures that training never saw."""
    shown = ("energy", "magnetisation", "vortex_density", "vortex_pairs", "helicity", "g2", "g_half")
    lines = [
        "| T never seen | configurations | E | ⟨∣m∣⟩ | vortices | vortex pairs | Υ | G(2) | G(L/2) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["held_out"] == "True"]
    for row in sorted(rows, key=lambda row: float(row["temperature"])):
        name = row["model"] if row["model"] == row["source"] else f"{row['model']}, {row['source']}"
        if row["source"] in ("Monte Carlo", "decoded", "new mean", "new draw"):
            numbers = " | ".join(f"{float(row[key]):.3f}" for key in shown)
            lines.append(f"| {float(row['temperature']):.1f} | {name} | {numbers} |")
    return lines


def transition(found: dict[str, Any]) -> list[str]:
    """T*(L) and what it extrapolates to."""
    lattices = sorted({int(side) for one in found.values() for side in one["pseudo_transition"]})
    head = " | ".join(f"T*({side})" for side in lattices)
    lines = [f"| from | {head} | T_KT ± statistical ± systematic |", "|---" * (len(lattices) + 2) + "|"]
    for name, one in found.items():
        stars = " | ".join(
            "{:.3f} ± {:.3f}".format(*one["pseudo_transition"][str(side)]) for side in lattices
        )
        limit = f"{one['t_kt']:.3f} ± {one['statistical']:.3f} ± {one['systematic']:.3f}"
        shown = name.replace("|", "∣")
        lines.append(f"| {shown} | {stars} | {limit if one['consistent'] else 'not of this form'} |")
    return lines


def sampler(found: dict[str, Any]) -> list[str]:
    """Rates and crossings of the sampler."""
    lines = ["| L | decorrelated configurations/s | plain Metropolis | ratio |", "|---|---|---|---|"]
    for row in found["rates"]:
        ours, plain = row["ours"], row["metropolis"]
        lines.append(f"| {row['lattice']} | {ours:,.0f} | {plain:,.0f} | {ours / plain:.0f} |")
    stars = ", ".join(f"{v:.4f} ± {e:.4f} (L = {side})" for side, (v, e) in found["crossing"].items())
    limit = found["t_kt"]
    lines += [
        "",
        f"Υ crosses 2T/π at T = {stars}; T_KT + a/(ln bL)² through these: T_KT = {limit['value']:.4f} ± "
        f"{limit['statistical']:.4f} (statistical) ± {limit['systematic']:.4f} (b unknown). Known: 0.89289(5).",
    ]
    return lines


def over_seeds(found: list[dict[str, Any]]) -> str:
    """Range over the seeds of the energy and the agreement of decoded test configurations."""

    def told(model: str, key: str) -> str:
        values = [one[model]["test"][key] for one in found]
        return f"{min(values):.3f} to {max(values):.3f}"

    lost = [one["main"]["test"]["cosine"] - one["energy"]["test"]["cosine"] for one in found]
    return (
        f"Over {len(found)} seeds of the weights and the training: E(μ(z)) misses by "
        f"{told('energy', 'energy_miss')} J per site with the energy term "
        f"({told('main', 'energy_miss')} without), which costs {min(lost):.3f} to "
        f"{max(lost):.3f} of the spin cosine."
    )


def main() -> None:
    """Read, keep, rewrite."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="finished run folders of the domain xy")
    runs = parser.parse_args().runs
    folder, decoded = runs[0], [json.loads((run / "metrics.json").read_text())["decoding"] for run in runs]
    metrics = json.loads((folder / "metrics.json").read_text())
    kept = {name: metrics[name] for name in ("decoding", "latents", "clusters", "transition")}
    kept["decoding of each seed"] = decoded
    (HERE / "results" / "xy_run.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    clusters = metrics["clusters"]
    results = [
        *decoding(metrics["decoding"]),
        "",
        over_seeds(decoded),
        "",
        *observables(folder / "tables" / "observables.csv"),
        "",
        *transition(metrics["transition"]),
        "",
        f"Two Gaussians on the latents, T unknown: the boundary lies at T = {clusters['boundary']:.2f}, and "
        f"{100 * clusters['agreement']:.0f} % of test configurations are on the right side of T_KT "
        f"({100 * clusters['largest_phase']:.0f} % by always naming the larger phase). One seed, as the tables.",
    ]
    readme = (DOMAIN / "README.md").read_text()
    rates = json.loads((HERE / "results" / "xy_sampler.json").read_text())
    for marker, lines in (("sampler", sampler(rates)), ("results", results)):
        text = "\n".join(lines)
        readme = re.sub(
            rf"(<!-- {marker}:.*?-->\n).*?(\n<!-- end -->)", rf"\g<1>{text}\g<2>", readme, flags=re.S
        )
    (DOMAIN / "README.md").write_text(readme)
    shutil.copyfile(folder / "figures" / "spins.png", DOMAIN / "spins.png")


if __name__ == "__main__":
    main()
