"""The domain of fluids."""

from __future__ import annotations

from benchmarks.tables import Result, rows


def fluids_cavity(result: Result) -> str:
    """Errors of forecasts of the measured cavity flow, differences to the best baseline, and distributions."""
    lines, differences = [], []
    for name, row in result["rows"].items():
        cells = []
        for lead in ("1", "8"):
            seeds = row[lead].get("seeds")
            told = f" (single seeds {min(seeds):.3f}–{max(seeds):.3f})" if seeds else ""
            cells.append(f"{row[lead]['test']:.3f}{told}")
            if pair := row[lead].get("paired"):
                differences.append(
                    f"{lead} ahead: {pair['difference']:+.4f} ± {pair['stderr']:.4f} against {pair['against']}"
                )
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    law = [
        f"| {name} | " + " | ".join(
            f"{found[who]['crps']:.2f} | {' / '.join(f'{c:.0%}' for c in found[who]['coverage'])}"
            for found in (result["distributions"][lead] for lead in ("1", "8"))
        ) + " |"
        for who, name in (("ours", "ours"), ("ridge", "ridge on POD modes, Gaussian"))
    ]  # fmt: skip
    sharper = "; ".join(
        f"{lead} ahead: {found['difference']:+.3f} ± {found['stderr']:.3f} m/s"
        for lead, found in result["distributions"].items()
    )
    return "\n\n".join(
        [
            rows("| error, test | 1 frame ahead | 8 frames |", lines),
            "Paired differences: " + "; ".join(differences) + ".",
            rows("| draws, test | CRPS at 1, m/s | coverage of 68/95 % | CRPS at 8, m/s | coverage |", law),
            f"Paired differences of the CRPS, ours less the ridge: {sharper}.",
        ]
    )


def fluids_solvers(result: Result) -> str:
    """How fast the solvers of flows are, and how far they are from PhiFlow's fields."""
    from statistics import median

    rates, apart = result["steps_per_cpu_second"], result["relative_difference"]
    fastest = median(rates["smoke, cosines"])
    lines = []
    for name, found in rates.items():
        differs = ", ".join(f"{field} {100 * value:.2f} %" for field, value in apart.get(name, {}).items())
        ratio = "" if name == "spectral" or "cosines" in name else f"{fastest / median(found):.0f}×"
        lines.append(
            f"| {name} | {median(found):,.0f} ({min(found):,.0f}–{max(found):,.0f}) "
            f"| {result['targets'].get(name, '')} | {ratio} | {differs} |"
        )
    return rows(
        "| 64 × 64 | steps / CPU-second | target | smoke, cosines, is | its fields differ by |", lines
    )


def fluids_smoke(result: Result) -> str:
    """Errors of forecasts of smoke, and their time beside the solvers'."""
    leads = (1, 5, 10, 20)
    header = (
        "| relative L2 error, frames ahead | "
        + " | ".join(map(str, leads))
        + " | density at 20 | velocity at 20 |"
    )
    errors = rows(
        header,
        (
            f"| {name} | " + " | ".join(f"{found['all'][k - 1]:.3f}" for k in leads)
            + f" | {found['density'][-1]:.3f} | {found['velocity'][-1]:.3f} |"
            for name, found in result["errors"].items()
        ),
    )  # fmt: skip
    times = result["milliseconds"]
    published, ours = (next(v for k, v in times.items() if word in k) for word in ("gradients", "cosines"))
    speeds = rows(
        "| 20 frames | ms a scene, one core | published way = 1 | cosines = 1 |",
        (
            f"| {name} | {value:.1f} | {published / value:.1f}× | {ours / value:.1f}× |"
            for name, value in times.items()
        ),
    )
    return f"{errors}\n\n{speeds}"
