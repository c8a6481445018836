"""Put the numbers of runs of optical patterns into the README of the domain ``diffraction``.

    for s in 0 1 2; do sciencevae run diffraction --set seed=$s --out runs/slits-$s; done
    for s in 0 1 2; do sciencevae run diffraction --config several --set seed=$s --out runs/several-$s; done
    for c in dim images; do sciencevae run diffraction --config $c --out runs/$c-0; done
    python -m benchmarks.diffraction_results runs/slits-* runs/several-* runs/dim-0 runs/images-0

Runs that differ in nothing but the seed are taken together: means over them, with the smallest and the largest.
Keeps the numbers in benchmarks/results/diffraction_optical.json, and rewrites what stands between the README's
markers, together with those of benchmarks/results/diffraction_optics.json (the propagation beside LightPipes).
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.turns import HERE, keep

README = HERE.parent / "domains" / "diffraction" / "README.md"
WORDS = {"width_um": "width", "separation_um": "separation", "shift_x_um": "shift"}
NOISY = {
    "several": "one slit (`several`)",
    "slits": "two slits (`config`)",
    "dim": "the same at few photons (`dim`)",
    "images": "images of holes (`images`)",
}
_CELLS = {"r2": ".3f", "resolution": ".1f"}
SEVERAL = {
    "main": "one slit, unsupervised",
    "two_slits": "two slits, unsupervised",
    "two_slits_supervised": "two slits, supervised",
}


def over(values: Iterable[float], form: str = ".3f") -> str:
    """Mean, and the range where there is one."""
    found = list(values)
    mean, low, high = (format(of(found), form) for of in (statistics.mean, min, max))
    return mean if low == high else f"{mean} ({low}–{high})"


def gathered(folders: Iterable[Path]) -> dict[str, list[dict[str, Any]]]:
    """The metrics of the runs of each kind, which a folder is named by: KIND-SEED."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for folder in folders:
        found = json.loads((folder / "metrics.json").read_text())
        kinds.setdefault(folder.name.rpartition("-")[0], []).append(found)
    return kinds


def slits(runs: list[dict[str, Any]]) -> list[str]:
    """One free parameter, and the wavelength with and without the geometry."""

    def of(*path: str) -> list[float]:
        values = []
        for run in runs:
            found: Any = run
            for key in path:
                found = found[key]
            values.append(float(found))
        return values

    determined: dict[str, list[float]] = {}
    for run in runs:
        for product, r2 in run["identifiability"]["main"]["determined"].items():
            determined.setdefault(product, []).append(r2)
    lines = [
        f"| test data; seeds: {len(runs)} | |",
        "|---|---|",
        "| one free parameter, the separation: Spearman of the latent | "
        f"{over(of('recovery', 'one', 'separation_um', 'spearman'), '.5f')} |",
        f"| the same of the best principal component | {over(of('recovery', 'one', 'separation_um', 'pca'))} |",
        "| wavelength, geometry not told: R² | "
        f"{over(of('identifiability', 'main', 'wavelength', 'r2'))}, "
        f"{'; '.join(sorted({run['identifiability']['main']['wavelength']['verdict'] for run in runs}))} |",
    ]
    lines += [f"| in its place, {product}: R² | {over(r2, '.4f')} |" for product, r2 in determined.items()]
    lines.append(
        "| wavelength, width, separation and distance told: R² | "
        f"{over(of('identifiability', 'told', 'wavelength', 'r2'), '.4f')}, to ± "
        f"{over(of('identifiability', 'told', 'wavelength', 'resolution'), '.1f')} nm, "
        f"{'; '.join(sorted({run['identifiability']['told']['wavelength']['verdict'] for run in runs}))} |"
    )
    return lines


def several(runs: list[dict[str, Any]]) -> list[str]:
    """One axis for each of several parameters."""
    lines = [
        f"| test data; seeds: {len(runs)} | parameter | Spearman of its axis | of the best principal component |",
        "|---|---|---|---|",
    ]
    for model, title in SEVERAL.items():
        for parameter, word in WORDS.items():
            cells = [run["recovery"][model].get(parameter) for run in runs]
            if cells[0] is not None:
                ours, linear = (over((cell[key] for cell in cells), ".4f") for key in ("spearman", "pca"))
                lines.append(f"| {title} | {word} | {ours} | {linear} |")
    return lines


def images(runs: list[dict[str, Any]]) -> list[str]:
    """What the latents of images determine."""
    lines = [
        "| images of holes, test data | R² from the latents | standard deviation at one latent |",
        "|---|---|---|",
    ]
    first = runs[0]["identifiability"]["main"]
    for parameter, row in first.items():
        if parameter != "determined":
            cells = [run["identifiability"]["main"][parameter] for run in runs]
            r2, resolution = (over((cell[key] for cell in cells), form) for key, form in _CELLS.items())
            unit = "mm" if parameter == "distance" else "µm"
            lines.append(f"| {parameter} | {r2}, {row['verdict']} | {resolution} {unit} |")
    return lines


def denoised(kinds: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What is left of the noise."""
    runs = {NOISY[kind]: kinds[kind] for kind in NOISY if kind in kinds}
    lines = [
        "| variance left of the counts' noise, test patterns | " + " | ".join(runs) + " |",
        "|---" * (1 + len(runs)) + "|",
    ]
    for method in next(iter(runs.values()))[0]["denoising"]["main"]:
        cells = [over(run["denoising"]["main"][method] for run in found) for found in runs.values()]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def propagation(result: dict[str, Any]) -> list[str]:
    """Rates beside LightPipes."""
    lines = [
        f"| n × n points, one core, load {result['load']} | single precision | double | LightPipes "
        f"{result['table'][0]['peer_version']} (double) | ratios | intensities differ by, same hole |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["table"]:
        rates = " | ".join(f"{row[f'{kind}_per_second']:.0f}/s" for kind in ("single", "double", "peer"))
        told = [row["single_ratio"], row["double_ratio"]]
        ratios = " and ".join(f"{middle:.1f} ({low:.1f}–{high:.1f})" for middle, low, high in told)
        lines.append(f"| {row['n']} | {rates} | {ratios} | {row['difference_same_hole']:.1e} |")
    return lines


def write(name: str, lines: list[str]) -> None:
    """Between the markers of the README."""
    text = README.read_text()
    body = "\n".join([f"<!-- {name} -->", *lines, f"<!-- /{name} -->"])
    pattern = re.compile(f"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
    README.write_text(pattern.sub(body.replace("\\", r"\\"), text))


def main() -> None:
    """Read the runs, keep their numbers, rewrite the README."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path, help="run folders; of other kinds, what is kept")
    folders = parser.parse_args().runs
    path = HERE / "results" / "diffraction_optical.json"
    kinds = json.loads(path.read_text())["runs"] if path.exists() else {}
    kinds |= gathered(folders)
    if folders:
        kept = ("recovery", "identifiability", "denoising", "generation")
        keep(
            "diffraction_optical",
            {
                "runs": {
                    kind: [{key: run[key] for key in kept} for run in found] for kind, found in kinds.items()
                }
            },
        )
    if "slits" in kinds:
        write("slits", slits(kinds["slits"]))
        write("denoising", denoised(kinds))
    if "images" in kinds:
        write("images", images(kinds["images"]))
    if "several" in kinds:
        write("several", several(kinds["several"]))
    rates = HERE / "results" / "diffraction_optics.json"
    if rates.exists():
        write("propagation", propagation(json.loads(rates.read_text())))


if __name__ == "__main__":
    main()
