"""The cylinder's solver against manufactured solutions, closed forms, and balances that hold in any flow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sciencevae.builtin.fluids import immersed
from sciencevae.builtin.fluids.cylinder import Channel, perturb, start
from sciencevae.builtin.fluids.immersed import RETRACTION, Flow, roma
from sciencevae.builtin.fluids.staggered import Grid, Poisson

from sciencevae.errors import RunError


def stretched(number: int, length: float = np.pi) -> np.ndarray:
    """Faces from 0 to ``length`` whose spacing varies smoothly by a factor three, not symmetric."""
    s = np.linspace(0, 1, number + 1)
    return length * (s + 0.25 * np.sin(np.pi * s) ** 2 * s)


def divergence(flow: Flow) -> np.ndarray:
    out = np.diff(flow.u[:, 1:-1], axis=0) * flow.grid.dy
    return np.asarray(out + np.diff(flow.v[1:-1], axis=1) * flow.grid.dx[:, None])


class Box(Flow):
    """Slip walls all around, no cylinder: room for Taylor–Green vortices."""

    def boundaries(self, u: np.ndarray, v: np.ndarray) -> None:
        u[:, 0], u[:, -1] = u[:, 1], u[:, -2]
        v[0], v[-1] = v[1], v[-2]

    def outflow(self, u: np.ndarray, v: np.ndarray, now: float, before: float) -> None:
        u[-1] = 0


def taylor_green(number: int, dt: float, steps: int, reynolds: float = 20.0) -> tuple[Box, float]:
    """The box after some steps, and the largest error of u = sin x cos y exp(−2t/Re)."""
    grid = Grid(stretched(number), stretched(number))
    box = Box(grid, reynolds, dt, body=False)
    box.u[:, 1:-1] = np.sin(grid.x_faces)[:, None] * np.cos(grid.y)
    box.v[1:-1] = -np.cos(grid.x)[:, None] * np.sin(grid.y_faces)
    box.u[0] = box.u[-1] = 0
    exact = box.u[:, 1:-1].copy()
    for _ in range(steps):
        box.step()
    return box, np.abs(box.u[:, 1:-1] - exact * np.exp(-2 * steps * dt / reynolds)).max()


@pytest.fixture(scope="module")
def wake() -> Flow:
    """An unsteady flow at Re = 100, far from symmetric, on a coarse grid."""
    channel = Channel(height=10, upstream=5, downstream=10, cells=12)
    flow = perturb(Flow(channel.grid(), 100, 0.02), 0.3, 1.5)
    for _ in range(400):
        flow.step()
    return flow


def copy_of(flow: Flow, dt: float) -> Flow:
    other = Flow(flow.grid, flow.reynolds, dt)
    other.u[:], other.v[:] = flow.u, flow.v
    return other


def test_poisson_inverts_the_discrete_laplacian() -> None:
    grid = Grid(stretched(19), stretched(14))
    p = np.random.default_rng(0).normal(size=(19, 14))
    flux_x = np.pad(np.diff(p, axis=0) / np.diff(grid.x)[:, None] * grid.dy, ((1, 1), (0, 0)))
    flux_y = np.pad(np.diff(p, axis=1) / np.diff(grid.y) * grid.dx[:, None], ((0, 0), (1, 1)))
    found = Poisson(grid).solve(np.diff(flux_x, axis=0) + np.diff(flux_y, axis=1))
    np.testing.assert_allclose(found - found.mean(), p - p.mean(), atol=1e-12)


def test_poisson_is_second_order_on_a_stretched_grid() -> None:
    errors = []
    for number in (20, 40, 80):
        grid = Grid(stretched(number), stretched(number))
        exact = np.cos(grid.x)[:, None] * np.cos(2 * grid.y)
        source = -5 * exact * grid.dx[:, None] * grid.dy
        found = Poisson(grid).solve(source - source.mean())
        error = found - exact
        errors.append(np.abs(error - error.mean()).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (orders > 1.8).all(), (errors, orders)
    assert errors[-1] < 2e-3


@given(st.floats(-0.5, 0.5))
def test_the_kernel_keeps_the_force_and_its_moment(offset: float) -> None:
    nodes = np.arange(-3, 4)
    weights = roma(nodes - offset)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert weights @ nodes == pytest.approx(offset, abs=1e-12)


def test_retraction_is_half_the_mean_distance_of_two_draws_from_the_kernel() -> None:
    r = (np.arange(3000) + 0.5) / 1000 - 1.5
    p = roma(r) / roma(r).sum()
    assert pytest.approx(0.5 * p @ np.abs(r[:, None] - r) @ p, abs=1e-4) == RETRACTION


def test_taylor_green_decays_as_the_closed_form_to_second_order_in_space() -> None:
    errors = [taylor_green(number, 0.001, 500)[1] for number in (16, 32, 64)]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (orders > 1.8).all(), (errors, orders)
    assert errors[-1] < 1e-3


def test_the_step_is_second_order_in_time_with_the_cylinder(wake: Flow) -> None:
    ends = []
    for dt in (0.02, 0.01, 0.005):
        flow = copy_of(wake, dt)
        for _ in range(round(1 / dt)):
            flow.step()
        ends.append((flow.u[:, 1:-1].copy(), flow.pressure_now()))
    for field in range(2):
        coarse, middle, fine = (end[field] for end in ends)
        ratio = np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine)
        assert 3.3 < ratio < 5, (field, ratio)


def test_advection_keeps_the_energy_on_any_grid() -> None:
    grid = Grid(stretched(24), stretched(18))
    box = Box(grid, 1e300, 1e-3, body=False)
    random = np.random.default_rng(1)
    box.u[1:-1, 1:-1], box.v[1:-1, 1:-1] = random.normal(size=(23, 18)), random.normal(size=(24, 17))
    box.u[0] = box.u[-1] = 0
    box.v[:, 0] = box.v[:, -1] = 0
    box.project(box.u, box.v)
    u, v = box.u.copy(), box.v.copy()
    box.step()
    tendency_u, tendency_v = box._old
    areas_u = box.between_x[1:-1, None] * grid.dy
    areas_v = grid.dx[:, None] * box.between_y[1:-1]
    work_u = (u * tendency_u)[1:-1, 1:-1] * areas_u
    work_v = (v * tendency_v)[1:-1, 1:-1] * areas_v
    assert abs(work_u.sum() + work_v.sum()) < 1e-11 * (np.abs(work_u).sum() + np.abs(work_v).sum())


def test_both_constraints_hold_to_round_off(wake: Flow) -> None:
    assert np.abs(divergence(wake)).max() < 1e-13
    markers = wake._markers
    assert markers is not None
    still = np.zeros_like(wake.pressure)[markers.columns]
    assert np.abs(markers.slip(wake.u, wake.v, still)).max() < 1e-13


def test_a_projected_flow_is_left_as_it_is(wake: Flow) -> None:
    u, v = wake.u.copy(), wake.v.copy()
    wake.project(u, v)
    np.testing.assert_allclose(u, wake.u, atol=1e-13)
    np.testing.assert_allclose(v, wake.v, atol=1e-13)


def test_the_force_is_the_momentum_that_a_box_around_the_cylinder_loses(wake: Flow) -> None:
    """Momentum of a control volume, at the middle of a step: change + outflow = pressure + stress − force."""
    flow = copy_of(wake, wake.dt)
    flow.step()
    before = flow.u.copy(), flow.v.copy()
    flow.step()
    grid, p = flow.grid, flow.pressure
    u, v = ((new + old) / 2 for new, old in zip((flow.u, flow.v), before, strict=True))
    rate = (flow.u - before[0])[:, 1:-1] / flow.dt
    west, east = (int(np.abs(grid.x_faces - x).argmin()) for x in (-1.5, 2.0))
    south, north = (int(np.abs(grid.y_faces - y).argmin()) for y in (-1.5, 1.5))
    rows, faces = slice(south, north), slice(west, east + 1)
    width = flow.between_x[faces].copy()
    width[[0, -1]] /= 2  # half of the first and last face's cell lies inside; trapezoid along x
    change = (rate[faces, rows] * width[:, None] * grid.dy[rows]).sum()

    def through_x(i: int) -> float:
        pressure = np.array([np.interp(grid.x_faces[i], grid.x, column) for column in p.T])
        shear = (u[i + 1, 1:-1] - u[i - 1, 1:-1]) / (grid.x_faces[i + 1] - grid.x_faces[i - 1])
        flux = u[i, 1:-1] ** 2 + pressure - 2 * shear / flow.reynolds
        return float(flux[rows] @ grid.dy[rows])

    def through_y(j: int) -> float:
        corner_u = (u[faces, j] + u[faces, j + 1]) / 2
        corner_v = (v[west : east + 1, j] + v[west + 1 : east + 2, j]) / 2
        du = (u[faces, j + 1] - u[faces, j]) / flow.between_y[j]
        dv = (v[west + 1 : east + 2, j] - v[west : east + 1, j]) / flow.between_x[faces]
        return float((corner_u * corner_v - (du + dv) / flow.reynolds) @ width)

    lost = -(change + through_x(east) - through_x(west) + through_y(north) - through_y(south))
    assert flow.force[0] == pytest.approx(lost, rel=0.01)


def test_a_symmetric_flow_stays_symmetric() -> None:
    flow = Flow(Channel(height=10, upstream=5, downstream=10, cells=10).grid(), 100, 0.02)
    for _ in range(500):
        flow.step()
    assert abs(flow.force[1]) < 1e-11 < flow.force[0]
    np.testing.assert_allclose(flow.u, flow.u[:, ::-1], atol=1e-11)


def march(flow: Flow, steps: int) -> None:
    for _ in range(steps):
        flow.step()


def test_too_long_a_step_stops_by_name_before_it_blows_up() -> None:
    flow = Flow(Channel(height=10, upstream=5, downstream=10, cells=10).grid(), 100, 0.1)
    with pytest.raises(RunError, match=r"Courant number is .* after step 1 .*take a Δt of 0\.0"):
        march(flow, 50)


def test_a_state_that_is_not_finite_stops_at_its_step() -> None:
    flow = Flow(Channel(height=10, upstream=5, downstream=10, cells=10).grid(), 100, 0.02)
    march(flow, 3)
    flow.v[20, 20] = np.nan
    with pytest.raises(RunError, match=r"no longer finite after step 4 \(t = 0\.080 D/U, Re = 100"):
        march(flow, 5)


def steady_drag(cells: int) -> float:
    """At Re = 20 in a narrow channel."""
    flow = start(Channel(height=8, upstream=4, downstream=6, cells=cells), 20, blockage=0.2)
    for _ in range(round(12 / flow.dt)):
        flow.step()
    return float(2 * flow.force[0])


def test_retracted_markers_leave_no_first_order_error_in_the_drag(monkeypatch: pytest.MonkeyPatch) -> None:
    coarse, fine = steady_drag(8), steady_drag(16)
    assert coarse == pytest.approx(fine, rel=0.01)
    monkeypatch.setattr(immersed, "RETRACTION", 0.0)
    assert steady_drag(8) > 1.05 * fine  # a cylinder a third of a spacing too thick
