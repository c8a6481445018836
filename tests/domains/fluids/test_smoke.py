"""The smoke solver against closed forms, a sparse direct solver, and what must not change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sciencevae.builtin.fluids.pressure import ConjugateGradients, Cosines, Obstacles, divergence
from sciencevae.builtin.fluids.smoke import Scenes, Smoke, State, random_scenes

from sciencevae.errors import InputError, RunError

DOUBLE = torch.zeros((), dtype=torch.float64)


def no_inflow(number: int) -> Scenes:
    """Scenes in which nothing enters, in float64."""
    scenes = random_scenes(number, 0).to(torch.float64)
    return replace(scenes, inflow_rate=torch.zeros(number, dtype=torch.float64))


def velocities(ny: int, nx: int, seed: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    u, v = (torch.randn(batch, *n, generator=g, dtype=torch.float64) for n in ((ny, nx - 1), (ny - 1, nx)))
    return u, v


def direct(u: np.ndarray, v: np.ndarray, solid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The projection by a least-squares solution over open faces: min ‖u − ∇p‖, whose rest has no divergence."""
    ny, nx = solid.shape
    cell = np.arange(ny * nx).reshape(ny, nx)
    pairs = [(cell[:, :-1], cell[:, 1:]), (cell[:-1], cell[1:])]
    first, second = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    is_open = ~(solid.ravel()[first] | solid.ravel()[second])
    rows, n = np.arange(len(first)), len(first)
    grad = sp.csr_matrix((np.ones(n), (rows, second)), (n, ny * nx))
    grad = sp.diags(is_open.astype(float)) @ (grad - sp.csr_matrix((np.ones(n), (rows, first)), (n, ny * nx)))
    faces = np.concatenate([u.ravel(), v.ravel()]) * is_open
    p = np.linalg.lstsq(grad.toarray(), faces, rcond=None)[0]
    rest = faces - grad @ p
    return rest[: u.size].reshape(u.shape), rest[u.size :].reshape(v.shape)


@settings(max_examples=15, deadline=None)
@given(
    ny=st.integers(4, 12),
    nx=st.integers(4, 12),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.0, 0.1, 0.4]),
)
def test_projection_is_that_of_a_direct_solver(ny: int, nx: int, seed: int, share: float) -> None:
    # solids anywhere: on walls, one cell thick, enclosing fluid
    u, v = velocities(ny, nx, seed)
    solid = torch.rand(2, ny, nx, generator=torch.Generator().manual_seed(seed)) < share
    obstacles = Obstacles(solid) if solid.any() else None
    for project in (
        Cosines((ny, nx), DOUBLE, obstacles),
        ConjugateGradients((ny, nx), DOUBLE, obstacles, 1e-12),
    ):
        got_u, got_v = project(u, v)
        for scene in range(2):
            want_u, want_v = direct(u[scene].numpy(), v[scene].numpy(), solid[scene].numpy())
            np.testing.assert_allclose(got_u[scene, :, 1:-1], want_u, atol=1e-9)
            np.testing.assert_allclose(got_v[scene, 1:-1], want_v, atol=1e-9)


@pytest.mark.parametrize(("dtype", "least"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
@pytest.mark.parametrize("obstacles", [False, True])
def test_divergence_is_at_the_precision_of_the_type(
    dtype: torch.dtype, least: float, obstacles: bool
) -> None:
    solver = Smoke(random_scenes(4, 3, obstacles).to(dtype), (48, 40), 1 / 40, 0.02)
    *_, state = solver.run(3, 30)
    assert state.v.abs().max() > 0.2
    assert float(solver.divergence(state).abs().max()) / 40 < least * float(state.v.abs().max())
    assert state.density.min() >= 0
    assert state.density.max() <= 1  # neither scheme leaves the range of its neighbours
    if obstacles:
        solid = solver.solid
        assert solid.any()
        assert not state.u[..., 1:][solid].any()
        assert not state.v[:, 1:][solid].any()


def test_iterations_give_the_same_flow_as_cosines() -> None:
    scenes = random_scenes(3, 5, obstacles=True).to(torch.float64)
    exact, iterative = (
        list(Smoke(scenes, (32, 32), 1 / 32, 0.04, pressure=p, tolerance=1e-10).run(2, 20))[-1]
        for p in ("cosines", "cg")
    )
    for one, other in zip(exact, iterative, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=0)


@pytest.mark.parametrize("advection", ["semi-lagrangian", "maccormack"])
def test_layers_at_rest_stay_at_rest(advection: str) -> None:
    """Buoyancy that depends on height alone is a gradient: pressure carries it."""
    solver = Smoke(no_inflow(1), (24, 20), 1 / 20, 0.05, advection)
    layers = torch.linspace(0, 1, 24, dtype=torch.float64)[None, :, None].expand(1, 24, 20)
    *_, state = solver.run(2, 20, solver.start()._replace(density=layers.contiguous()))
    assert max(state.u.abs().max(), state.v.abs().max()) < 1e-13
    torch.testing.assert_close(state.density, layers, atol=1e-12, rtol=0)


@pytest.mark.parametrize("advection", ["semi-lagrangian", "maccormack"])
def test_symmetric_scene_stays_symmetric(advection: str) -> None:
    middle = torch.tensor([0.5], dtype=torch.float64)
    scenes = replace(
        random_scenes(1, 0).to(torch.float64), inflow_x=middle, inflow_u=0 * middle,
        obstacle_x=middle, obstacle_y=middle, obstacle_radius=middle / 5,
    )  # fmt: skip
    *_, state = Smoke(scenes, (32, 32), 1 / 32, 0.04, advection).run(2, 60)
    assert state.v.abs().max() > 0.2
    torch.testing.assert_close(state.density, state.density.flip(-1), atol=1e-9, rtol=0)
    torch.testing.assert_close(state.u, -state.u.flip(-1), atol=1e-9, rtol=0)
    torch.testing.assert_close(state.v, state.v.flip(-1), atol=1e-9, rtol=0)


def vortex(n: int) -> State:
    """ψ = sin πx sin πy /π, a steady solution of Euler's equations in the box, and a round cloud off its centre."""
    face = torch.arange(n + 1, dtype=torch.float64) / n
    psi = torch.outer((face * torch.pi).sin(), (face * torch.pi).sin()) / torch.pi  # (y, x) at corners
    u, v = (psi[1:] - psi[:-1]) * n, -(psi[:, 1:] - psi[:, :-1]) * n  # free of divergence on the grid too
    y, x = torch.meshgrid(*[(face[1:] + face[:-1]) / 2] * 2, indexing="ij")
    return State(cloud(x, y)[None], u[None], v[None])


def cloud(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.exp(-((x - 0.4).square() + (y - 0.3).square()) / 0.03)


def still(n: int, steps: int, advection: str) -> Smoke:
    scenes = no_inflow(1)
    return Smoke(replace(scenes, buoyancy=0 * scenes.buoyancy), (n, n), 1 / n, 0.5 / steps, advection)


@pytest.mark.parametrize(("advection", "order"), [("semi-lagrangian", 0.8), ("maccormack", 1.8)])
def test_order_of_advection(advection: str, order: float) -> None:
    """The cloud in the frozen vortex against its characteristics, Δt ∝ Δx."""
    from scipy.integrate import solve_ivp

    def back(_: float, place: np.ndarray) -> np.ndarray:
        x, y = np.pi * place.reshape(2, -1)
        return -np.concatenate([np.sin(x) * np.cos(y), -np.cos(x) * np.sin(y)])

    errors = []
    for n in (32, 64, 128):
        state = start = vortex(n)
        solver = still(n, n // 2, advection)
        for _ in range(n // 2):
            state = solver.step(state)._replace(u=start.u, v=start.v)
        centre = (np.arange(n) + 0.5) / n
        places = np.stack([a.ravel() for a in np.meshgrid(centre, centre)]).ravel()
        feet = torch.tensor(solve_ivp(back, (0, 0.5), places, rtol=1e-8, atol=1e-8).y[:, -1].reshape(2, n, n))
        errors.append(float((state.density[0] - cloud(*feet)).square().mean().sqrt()))
    orders = np.log2(np.array(errors)[:-1] / errors[1:])
    assert orders[-1] > order, (errors, orders)
    assert (orders > 0.6).all(), (errors, orders)


@pytest.mark.parametrize("advection", ["semi-lagrangian", "maccormack"])
def test_a_steady_vortex_stays_to_first_order(advection: str) -> None:
    """Advecting and projecting in turn is of first order in time; MacCormack loses less energy."""
    errors = []
    for n in (16, 32, 64):
        start = vortex(n)
        *_, state = still(n, n // 2, advection).run(2, n // 2, start)
        errors.append(float((state.u - start.u).square().mean().sqrt()))
    assert (np.log2(np.array(errors)[:-1] / errors[1:]) > 0.8).all(), errors


def test_mass_and_energy_are_kept_only_as_well_as_the_grid_resolves_them() -> None:
    """Neither scheme conserves them; the drift falls with Δx, and MacCormack loses less energy."""
    mass, energy = {}, {}
    for advection in ("semi-lagrangian", "maccormack"):
        for n in (32, 128):
            start = vortex(n)
            *_, end = still(n, n // 2, advection).run(2, n // 2, start)
            mass[advection, n] = abs(float(end.density.mean() / start.density.mean()) - 1)
            energy[advection, n] = 1 - float(end.u.square().mean() / start.u.square().mean())
        assert 0 < mass[advection, 128] < mass[advection, 32] / 2
        assert 0 < energy[advection, 128] < energy[advection, 32] / 2
    assert mass["maccormack", 128] < 2e-3, mass
    assert energy["maccormack", 32] < energy["semi-lagrangian", 32], energy


def test_a_scene_does_not_depend_on_its_batch() -> None:
    scenes = random_scenes(4, 7, obstacles=True).to(torch.float64)
    alone = Scenes(**{name: value[2:3] for name, value in vars(scenes).items()})
    whole, one = (list(Smoke(s, (24, 24), 1 / 24, 0.05).run(2, 20))[-1] for s in (scenes, alone))
    for many, single in zip(whole, one, strict=True):
        torch.testing.assert_close(many[2:3], single, atol=1e-10, rtol=0)
    for name, value in vars(random_scenes(2, 7)).items():
        assert torch.equal(value, getattr(random_scenes(9, 7), name)[:2])
    assert not torch.equal(random_scenes(2, 7).inflow_x, random_scenes(2, 8).inflow_x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dt_s": 0.5}, "cross more than 5 cells"),
        ({"dt_s": 0.0}, "must be positive"),
        ({"inflow_v": 50.0}, "cross more than 5 cells"),
        ({"inflow_x": 0.01}, "reaches into a wall"),
        ({"inflow_radius": 0.001}, "covers no cell"),
        ({"inflow_rate": -1.0}, "inflow_rate is negative"),
        ({"buoyancy": float("nan")}, "buoyancy is not finite"),
        (
            {"obstacle_x": 0.5, "obstacle_y": 0.2, "obstacle_radius": 0.2, "inflow_x": 0.5},
            "lies in the obstacle",
        ),
        ({"advection": "upwind"}, "semi-lagrangian or maccormack"),
        ({"pressure": "fft"}, "cosines or cg"),
    ],
)
def test_what_cannot_work_is_named_before_it_runs(change: dict, message: str) -> None:
    scenes = random_scenes(1, 0)
    scenes = replace(scenes, **{k: torch.tensor([v]) for k, v in change.items() if hasattr(scenes, k)})
    others = {"dt_s": 0.02, **{k: v for k, v in change.items() if not hasattr(scenes, k)}}
    with pytest.raises(InputError, match=message):
        Smoke(scenes, (32, 32), 1 / 32, **others)


def test_a_state_that_went_wrong_stops_the_run() -> None:
    solver = Smoke(random_scenes(2, 0), (16, 16), 1 / 16, 0.05)
    start = solver.start()
    start.density[1, 3, 3] = float("nan")
    with pytest.raises(RunError, match=r"run 1 is no longer finite at step 4 \(t = 0\.2 s\)"):
        list(solver.run(2, 4, start))
    fast = State(*(part.clone() for part in vortex(16)))
    fast = State(*(part.float().expand(2, -1, -1) * 50 for part in fast))
    with pytest.raises(RunError, match=r"time step of .* s or less"):
        list(solver.run(2, 1, fast._replace(density=fast.density / 50)))
    with pytest.raises(RunError, match="conjugate gradients have not reached"):
        ConjugateGradients((8, 8), torch.zeros(()), None, 1e-12)(*(w.float() for w in velocities(8, 8, 0)))


def test_divergence_of_a_known_field() -> None:
    u = torch.arange(1.0, 4)[None, None].expand(1, 3, 3)
    assert divergence(u, torch.zeros(1, 2, 4))[0, 0].tolist() == [1, 1, 1, -3]
