"""The cylinder wake at Re = 100: Strouhal number, drag and lift by grid, time step and channel.

    python benchmarks/fluids_cylinder.py [--quick]

Each row is one run from the perturbed start to the saturated cycle; means and frequency over its last third.
The grids are three at a ratio of 1.5, the channels four at a ratio of 2, with the inflow half a height ahead of
the cylinder, so the order and the limit of each number follow from its differences (Richardson). The narrow
channel is that of the external data (x −5 … 15, slip at y = ±5), whose coefficients give 0.179 ± 0.001. The
last result is kept in benchmarks/results/fluids_cylinder.json.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path

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


def richardson(values: list[float], ratio: float) -> dict[str, float]:
    """Order and limit of f(h) = f₀ + c hᵖ from three values at h, h / ratio, h / ratio²; NaN where there is none."""
    coarse, fine = values[1] - values[0], values[2] - values[1]
    if not coarse * fine > 0 or abs(fine) >= abs(coarse):
        return {"order": math.nan, "limit": math.nan}
    return {
        "order": math.log(coarse / fine) / math.log(ratio),
        "limit": values[2] + fine**2 / (coarse - fine),
    }


def main() -> None:
    """Print the tables and keep them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="coarse grids, short runs; nothing is kept")
    quick = parser.parse_args().quick
    grids, base, duration = ((10, 15, 22), 10, 75.0) if quick else ((16, 24, 36), 16, 150.0)
    heights = (10.0, 20.0, 40.0) if quick else (10.0, 20.0, 40.0, 80.0)
    print(f"Re = {REYNOLDS:g}; literature, unbounded: {LITERATURE}")
    print(
        f"{'':14} {'D/h':>4} {'height':>6} {'block.':>6} {'St':>8} {'±':>8} {'drag':>7} {'lift rms':>8} {'steps/s':>8}"
    )

    def row(label: str, channel: Channel, divide: int = 1) -> dict[str, float]:
        found = shed(channel, duration, divide)
        print(
            f"{label:14} {channel.cells:4d} {channel.height:6.0f} {100 / channel.height:5.1f}% "
            f"{found['strouhal']:8.5f} {found['strouhal_error']:8.1e} {found['drag']:7.4f} "
            f"{found['lift_rms']:8.4f} {found['steps_per_cpu_second']:8.0f}",
            flush=True,
        )
        return found

    def limits(rows: list[dict[str, float]], ratio: float) -> dict[str, dict[str, float]]:
        found = {name: richardson([each[name] for each in rows[-3:]], ratio) for name in NUMBERS}
        for name, each in found.items():
            print(f"    {name:10} order {each['order']:5.2f}, limit {each['limit']:.4f}")
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
        path = Path(__file__).parent / "results" / "fluids_cylinder.json"
        path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
