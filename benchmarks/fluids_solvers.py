"""How fast our flow solvers are, smoke beside PhiFlow on the same scenes, and how far the fields agree.

    python -m benchmarks.fluids_solvers [--quick]

Steps a second of one core's processor time, those of all scenes of a batch counted; one thread, float32, 64 × 64
cells, semi-Lagrangian advection, Δt 0.02 s; 16 scenes at once, of PhiFlow 32; in turns within one run. Our
conjugate gradients go to a relative tolerance of 1e-5, PhiFlow's to 1e-3 (in float32 they often stop with an error
at 1e-5). PhiFlow (``benchmarks/peers/setup-fluids``) is tried with its torch backend, compiled, and with NumPy and
SciPy's LU. The agreement is the L2 norm of the difference over that of our fields after 25 steps; beside walls
PhiFlow takes the velocity along them as 0. Spectral steps are whole fourth-order Runge–Kutta steps.
The last result is
kept in benchmarks/results/fluids_solvers.json.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.turns import HERE, keep

PEER = HERE.parent / ".venv-fluids" / "bin" / "python"
POINTS, DT, EVERY = 64, 0.02, 25
TARGETS = {"smoke, cosines": 1090, "spectral": 3900}  # as measured when this was planned
PEERS = {"PhiFlow, torch, CG": ("torch", "CG"), "PhiFlow, NumPy, SciPy's LU": ("numpy", "scipy-direct")}


def smoke_rate(scenes: int, steps: int, **options: str) -> float:
    """Steps a second of one thread, after the plume has risen a little."""
    from sciencevae.builtin.fluids.smoke import Smoke, random_scenes

    solver = Smoke(random_scenes(scenes, 0), (POINTS, POINTS), 1 / POINTS, DT, **options)  # type: ignore[arg-type]
    state = solver.start()
    for _ in range(5):
        state = solver.step(state)
    start = time.process_time()
    for _ in range(steps):
        state = solver.step(state)
    return scenes * steps / (time.process_time() - start)


def spectral_rate(runs: int, steps: int) -> float:
    """Decaying flow at ν = 0.001 m²/s."""
    import torch
    from sciencevae.builtin.fluids.spectral import Spectral, random_vorticity

    solver = Spectral(torch.full((runs,), 1e-3), POINTS, DT)
    spectrum = solver.start(random_vorticity(runs, POINTS, 0))
    spectrum = solver.step(spectrum)
    start = time.process_time()
    for _ in range(steps):
        spectrum = solver.step(spectrum)
    return runs * steps / (time.process_time() - start)


def peer(backend: str, method: str, scenes: int, steps: int) -> tuple[float, dict[str, float]]:
    """PhiFlow's steps a second, and how far its fields are from ours."""
    from sciencevae.builtin.fluids.smoke import Smoke, random_scenes

    chosen = random_scenes(scenes, 0)
    solver = Smoke(chosen, (POINTS, POINTS), 1 / POINTS, DT, "semi-lagrangian")
    *_, ours = solver.run(2, EVERY)
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(
            given, dt=DT, spacing=1 / POINTS, steps=steps, every=EVERY, gain=solver.gain, buoyancy=chosen.buoyancy,
            inflow_u=chosen.inflow_u, inflow_v=chosen.inflow_v,
        )  # fmt: skip
        file = str(HERE / "peers" / "phiflow_smoke.py")
        subprocess.run([str(PEER), file, backend, method, str(given), str(out)], check=True)
        with np.load(out) as found:
            rate = scenes / float(found["seconds"])
            pairs = {
                "density": (ours.density, found["density"]),
                "u": (ours.u, found["u"]),
                "v": (ours.v, found["v"]),
            }
            apart = {name: _apart(a.numpy(), b) for name, (a, b) in pairs.items()}
    return rate, apart


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Relative L2; PhiFlow keeps no faces on walls."""
    if ours.shape[2] > theirs.shape[2]:
        ours = ours[..., 1:-1]
    if ours.shape[1] > theirs.shape[1]:
        ours = ours[:, 1:-1]
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(ours))


def main() -> None:
    """Print the table and keep it."""
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short round; nothing is kept")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    rounds, steps = (1, 5) if quick else (5, 20)
    programs: dict[str, Callable[[], float]] = {
        "smoke, cosines": lambda: smoke_rate(16, 2 * steps, advection="semi-lagrangian"),
        "smoke, cosines, MacCormack": lambda: smoke_rate(16, 2 * steps, advection="maccormack"),
        "smoke, conjugate gradients": lambda: smoke_rate(16, 2, advection="semi-lagrangian", pressure="cg"),
        "spectral": lambda: spectral_rate(16, 2 * steps),
    }
    rates: dict[str, list[float]] = {name: [] for name in programs}
    agreement = {}
    for turn in range(rounds):
        for name, run in programs.items():
            rates[name].append(run())
        if PEER.exists() and turn < 2:  # a minute each
            for name, (backend, method) in PEERS.items():
                rate, agreement[name] = peer(backend, method, 16 if quick else 32, 2 if quick else 5)
                rates.setdefault(name, []).append(rate)
    middle = {name: statistics.median(found) for name, found in rates.items()}
    print(f"{'':28} {'steps / CPU-s':>13} {'range':>15} {'target':>7} {'ours, cosines, is':>18}")
    for name, found in rates.items():
        ratio = (
            f"{middle['smoke, cosines'] / middle[name]:.0f}×"
            if "cosines" not in name and name != "spectral"
            else ""
        )
        spread = f"{min(found):,.0f}–{max(found):,.0f}"
        print(f"{name:28} {middle[name]:13,.0f} {spread:>15} {TARGETS.get(name, ''):>7} {ratio:>18}")
    for name, apart in agreement.items():
        print(f"{name} differs after {EVERY} steps by", ", ".join(f"{k} {v:.1e}" for k, v in apart.items()))
    if not PEER.exists():
        print("no PhiFlow here: benchmarks/peers/setup-fluids makes its environment")
    if not quick:
        keep(
            "fluids_solvers",
            {"steps_per_cpu_second": rates, "targets": TARGETS, "relative_difference": agreement},
        )


if __name__ == "__main__":
    main()
