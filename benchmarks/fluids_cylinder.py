"""The cylinder wake at Re = 100: Strouhal number, drag and lift by grid, time step and channel.

    python benchmarks/fluids_cylinder.py [--quick]
    python benchmarks/fluids_cylinder.py --file cylinder.h5

Each row is one run from the perturbed start to the saturated cycle; means and frequency over its last third.
The grids are three at a ratio of 1.5, the channels four at a ratio of 2, with the inflow half a height ahead of
the cylinder, so the order and the limit of each number follow from its differences (Richardson). The narrow
channel is that of the external data (x −5 … 15, slip at y = ±5), whose coefficients give 0.179 ± 0.001. With a
file of the generator, the Strouhal number of each of its runs beside Williamson's fit to experiments (1989, J.
Fluid Mech. 206, 579), over the last 50 D/U. The last result is kept in benchmarks/results/fluids_cylinder.json.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path

import h5py
import numpy as np
from sciencevae.builtin.fluids.cylinder import Channel, perturb, start
from sciencevae.builtin.fluids.strouhal import shedding_frequency

REYNOLDS = 100.0
LITERATURE = {"strouhal": "0.164–0.166", "drag": "1.32–1.35", "lift_rms": "0.22–0.24"}
WIDE = Channel(height=40, upstream=20, downstream=25)
NARROW = Channel(height=10, upstream=5, downstream=15)
NUMBERS = ("strouhal", "drag", "lift_rms")


def shed(channel: Channel, duration: float, divide: int = 1) -> dict[str, float]:
    """One run; ``divide`` shortens the time step."""
    flow = perturb(start(channel, REYNOLDS, 0.25 / divide, blockage=0.1), 0.3, 2.0)
    steps = round(duration / flow.dt)
    forces = np.empty((steps, 2))
    begin = time.process_time()
    for step in range(steps):
        flow.step()
        forces[step] = 2 * flow.force
    seconds = time.process_time() - begin
    last = forces[steps * 2 // 3 :]
    found = shedding_frequency(last[:, 1], flow.dt * np.arange(len(last)))
    cycle = last[-round(math.floor(found.value * len(last) * flow.dt) / (found.value * flow.dt)) :]
    return {
        "cells": channel.cells,
        "height": channel.height,
        "upstream": channel.upstream,
        "downstream": channel.downstream,
        "points": flow.pressure.size,
        "time_step": flow.dt,
        "strouhal": found.value,
        "strouhal_error": found.error,
        "drag": float(cycle[:, 0].mean()),
        "lift_rms": float(cycle[:, 1].std()),
        "lift_amplitude": float(np.abs(cycle[:, 1]).max()),
        "steps_per_cpu_second": steps / seconds,
    }


def richardson(values: list[float], ratio: float) -> dict[str, float] | None:
    """Order p and limit f₀ of f(h) = f₀ + c hᵖ from its values at h, h / ratio, h / ratio²; None: no such p > 0."""
    coarse, fine = values[1] - values[0], values[2] - values[1]
    if not coarse * fine > 0 or abs(fine) >= abs(coarse):
        return None
    return {
        "order": math.log(coarse / fine) / math.log(ratio),
        "limit": values[2] + fine**2 / (coarse - fine),
    }


def runs(path: Path) -> list[dict[str, float]]:
    """Each run of a generated file: its Strouhal number, and when the lift passed 1 and 50 % of the cycle."""
    found = []
    print(
        f"{'Re':>4} {'St':>8} {'±':>8} {'Williamson':>10} {'drag':>7} {'lift rms':>8} {'t(1 %)':>7} {'t(50 %)':>7}"
    )
    with h5py.File(path) as file:
        every = file["time"][()]
        last = every >= every[-1] - 50
        for reynolds, drag, lift in zip(file["reynolds"], file["drag"], file["lift"], strict=True):
            strouhal = shedding_frequency(lift[last], every[last])
            cycle = np.abs(lift[last]).max()
            one, half = (float(every[np.flatnonzero(np.abs(lift) > part * cycle)[0]]) for part in (0.01, 0.5))
            each = {
                "reynolds": float(reynolds),
                "strouhal": strouhal.value,
                "strouhal_error": strouhal.error,
                "williamson": float(0.1816 - 3.3265 / reynolds + 1.6e-4 * reynolds),
                "drag": float(drag[last].mean()),
                "lift_rms": float(lift[last].std()),
                "one_per_cent": one,
                "half": half,
            }
            found.append(each)
            print(
                f"{reynolds:4.0f} {strouhal.value:8.5f} {strouhal.error:8.1e} {each['williamson']:10.4f} "
                f"{each['drag']:7.4f} {each['lift_rms']:8.4f} {one:7.1f} {half:7.1f}"
            )
    return found


def keep(result: dict[str, object]) -> None:
    """Into the kept result, beside what it has already."""
    path = Path(__file__).parent / "results" / "fluids_cylinder.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | result, indent=2) + "\n")


def main() -> None:
    """Print the tables and keep them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="coarse grids, short runs; nothing is kept")
    parser.add_argument("--file", type=Path, help="only the table of the runs of this file")
    given = parser.parse_args()
    if given.file:
        keep({"runs": runs(given.file)})
        return
    quick = given.quick
    grids, base, duration = ((10, 15, 22), 10, 75.0) if quick else ((16, 24, 36), 16, 150.0)
    heights = (10.0, 20.0, 40.0) if quick else (10.0, 20.0, 40.0, 80.0)
    print(f"Re = {REYNOLDS:g}; literature, unbounded: {LITERATURE}")
    print(f"{'':14} {'D/h':>4} {'height':>6} {'block.':>6}", end=" ")
    print(f"{'St':>8} {'±':>8} {'drag':>7} {'lift rms':>8} {'steps/s':>8}")

    def row(label: str, channel: Channel, divide: int = 1) -> dict[str, float]:
        found = shed(channel, duration, divide)
        print(
            f"{label:14} {channel.cells:4d} {channel.height:6.0f} {100 / channel.height:5.1f}% "
            f"{found['strouhal']:8.5f} {found['strouhal_error']:8.1e} {found['drag']:7.4f} "
            f"{found['lift_rms']:8.4f} {found['steps_per_cpu_second']:8.0f}",
            flush=True,
        )
        return found

    def limits(rows: list[dict[str, float]], ratio: float) -> dict[str, dict[str, float] | None]:
        found = {name: richardson([each[name] for each in rows[-3:]], ratio) for name in NUMBERS}
        for name, each in found.items():
            told = f"order {each['order']:5.2f}, limit {each['limit']:.4f}" if each else "not of one order"
            print(f"    {name:10} {told}")
        return found

    def sized(height: float) -> Channel:
        return Channel(height=height, upstream=height / 2, downstream=25, cells=base)

    result: dict[str, object] = {"reynolds": REYNOLDS, "duration": duration}
    channels = [row("channel", sized(height)) for height in heights]
    result |= {"channels": channels, "channel_limits": limits(channels, 2.0)}
    result["time_steps"] = [row(f"time step / {divide}", sized(20), divide) for divide in (2, 4)]
    result["narrow"] = [
        row("narrow, data", Channel(NARROW.height, NARROW.upstream, NARROW.downstream, cells))
        for cells in grids[:2]
    ]
    rows = [row("grid", Channel(WIDE.height, WIDE.upstream, WIDE.downstream, cells)) for cells in grids]
    result |= {"grids": rows, "grid_limits": limits(rows, 1.5)}
    if not quick:
        result["default"] = row("default", Channel())
    result |= {"machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__}
    if not quick:
        keep(result)


if __name__ == "__main__":
    main()
