"""The smoke of ``domains/fluids/smoke.py`` written for PhiFlow 3.4, as its own examples write it.

    .venv-fluids/bin/python benchmarks/peers/phiflow_smoke.py BACKEND SOLVER IN.npz OUT.npz

``benchmarks/peers/setup-fluids`` makes that environment; this file imports nothing of ours. IN has dt, spacing,
steps (timed), every, gain (B, y, x), inflow_u, inflow_v, buoyancy (B,); OUT gets processor seconds a step, and the
fields after ``every`` steps.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings

import numpy as np

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

backend, method, given, out = sys.argv[1:]
if backend == "torch":
    import torch
    from phi.torch import flow as phi

    torch.set_num_threads(1)
else:
    from phi import flow as phi

scene = np.load(given)
dt, spacing, gain = float(scene["dt"]), float(scene["spacing"]), scene["gain"]
B, ny, nx = gain.shape
grid = {"x": nx, "y": ny, "bounds": phi.Box(x=nx * spacing, y=ny * spacing)}
rows = phi.batch("scene")


def number(values: np.ndarray) -> phi.Tensor:
    return phi.tensor(values.astype(np.float32), rows)


share = phi.CenteredGrid(
    phi.tensor(gain.transpose(0, 2, 1), rows, phi.spatial("x,y")), phi.extrapolation.ZERO_GRADIENT, **grid
)
wind = phi.stack([number(scene["inflow_u"]), number(scene["inflow_v"])], phi.channel(vector="x,y"))
lift = phi.stack([0 * number(scene["buoyancy"]), number(scene["buoyancy"]) * dt], phi.channel(vector="x,y"))
density = 0 * share
velocity = phi.StaggeredGrid(0, 0, **grid) * phi.math.ones(phi.batch(scene=B))
share_at_faces = share @ velocity


def step(density, velocity, pressure):
    moved = phi.advect.semi_lagrangian(density, velocity, dt)
    moved = moved + share * (1 - moved)
    faster = phi.advect.semi_lagrangian(velocity, velocity, dt) + moved * lift @ velocity
    faster = faster + share_at_faces * (wind - faster)
    solve = phi.Solve(method, 1e-3, 1e-5, x0=pressure, rank_deficiency=1)
    return moved, *phi.fluid.make_incompressible(faster, (), solve)


state = step(density, velocity, None)
advance = phi.math.jit_compile(step) if backend == "torch" else step
state = advance(*state)
start, steps = time.process_time(), int(scene["steps"])
for _ in range(steps):
    state = advance(*state)
seconds = (time.process_time() - start) / steps
for _ in range(int(scene["every"]) - 2 - steps):
    state = advance(*state)
arrays = {"density": state[0].values.numpy("scene,y,x")}
for axis, name in (("x", "u"), ("y", "v")):
    arrays[name] = state[1].vector[axis].values.numpy("scene,y,x")
np.savez(out, seconds=seconds, **arrays)
