"""How fast the XY sampler makes decorrelated configurations, beside plain Metropolis; where Υ crosses 2T/π.

    python benchmarks/xy_sampler.py [--quick]

Configurations a second of one core's time, two integrated autocorrelation times apart (the slowest of E, m²
and (Σ sin)²), over temperatures below, at and above the transition taken together. Metropolis is the same
compiled sweep without clusters and over-relaxation; where its τ is longer than the pilot can measure, its
rate is too high. Median of several repeats, both in one run. The last result is kept in
benchmarks/results/xy_sampler.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from sciencevae.builtin.xy import observables as xy
from sciencevae.builtin.xy.sampler import ChainSettings, run_chain, run_chains

TEMPERATURES = (0.5, 0.9, 1.0, 1.3)
TARGETS = {
    16: 2500,
    32: 660,
    64: 160,
}  # configurations a second: Wolff alone, as measured when this was planned
CROSSINGS = {8: 30_000, 16: 16_000, 32: 8_000}  # lattice: samples at each temperature
OURS = ChainSettings(pilot=2048)
METROPOLIS = replace(OURS, overrelaxation=0, clusters=0, thermalise=1000, pilot=10_000)


def rate(lattice: int, settings: ChainSettings, samples: int, seed: int) -> tuple[float, float]:
    """Configurations per second of this thread's time, without thermalising and pilot; the largest τ."""
    seconds, tau = 0.0, 0.0
    for temperature in TEMPERATURES:
        start = time.thread_time()
        run_chain(lattice, temperature, 1, seed, settings)
        begin = time.thread_time()
        chain = run_chain(lattice, temperature, samples + 1, seed, settings)
        seconds += max(time.thread_time() - begin - (begin - start), 1e-9)
        tau = max(tau, chain.tau_int)
    return samples * len(TEMPERATURES) / seconds, tau


def crossings(scale: float, seed: int = 1) -> dict[str, object]:
    """T*(L), where Υ = 2T/π, and its extrapolation."""
    temperatures = np.round(np.arange(0.86, 1.041, 0.02), 3)
    found: dict[int, xy.Estimate] = {}
    for lattice, samples in CROSSINGS.items():
        stiffness = []
        chains = run_chains(lattice, temperatures.tolist(), int(samples * scale), 2, seed, threads=1)
        for k, pair in sorted(chains, key=lambda item: item[0]):
            sums = np.concatenate([chain.observables[:, 3:7] for chain in pair])
            stiffness.append(xy.helicity_modulus(sums, temperatures[k], lattice))
        values, errors = ([getattr(one, part) for one in stiffness] for part in ("value", "error"))
        found[lattice] = xy.crossing(temperatures, values, errors)
        print(f"  Υ = 2T/π at L = {lattice:3d}: T* = {found[lattice].value:.4f} ± {found[lattice].error:.4f}")
    values, errors = [one.value for one in found.values()], [one.error for one in found.values()]
    limit = xy.extrapolate(list(found), values, errors)
    print(
        f"  T* = T_KT + a/(ln bL)²: T_KT = {limit.value:.4f} ± {limit.statistical:.4f} (stat) "
        f"± {limit.systematic:.4f} (b unknown); known {xy.T_KT}"
    )
    return {
        "crossing": {str(lattice): [one.value, one.error] for lattice, one in found.items()},
        "t_kt": {"value": limit.value, "statistical": limit.statistical, "systematic": limit.systematic},
    }


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the work, one repeat; nothing is kept"
    )
    quick = parser.parse_args().quick
    repeats, scale = (1, 0.1) if quick else (3, 1.0)
    start = time.perf_counter()
    run_chain(4, 1.0, 2, 0)
    print(f"first call (compile, or load from the cache): {time.perf_counter() - start:.1f} s")
    print("decorrelated configurations/s, one core   (τ: largest over T, in updates)")
    print(f"{'L':>4} {'ours':>8} {'τ':>6} {'Metropolis':>11} {'τ':>7} {'ratio':>7} {'target':>7}")
    rows = []
    for lattice, target in TARGETS.items():
        samples = max(20, int(scale * 250_000 / lattice**2))
        ours, plain = [], []
        for seed in range(repeats):
            ours.append(rate(lattice, OURS, samples, seed))
            plain.append(rate(lattice, METROPOLIS, max(4, 100_000 // lattice**2), seed))
        (fast, tau), (slow, slow_tau) = np.median(ours, 0), np.median(plain, 0)
        print(
            f"{lattice:4d} {fast:8.0f} {tau:6.1f} {slow:11.1f} {slow_tau:7.0f} {fast / slow:7.0f} {target:7d}"
        )
        rows.append(
            {"lattice": lattice, "ours": fast, "tau": tau, "metropolis": slow, "metropolis_tau": slow_tau}
        )
    result = {"rates": rows, "temperatures": TEMPERATURES, "repeats": repeats, **crossings(scale)}
    result |= {"machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__}
    if not quick:
        path = Path(__file__).parent / "results" / "xy_sampler.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
