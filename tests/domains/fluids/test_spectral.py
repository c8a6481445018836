"""The spectral solver against closed forms, its budgets, and its order of convergence."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sciencevae.builtin.fluids.spectral import Kolmogorov, Ring, Spectral, random_vorticity

from sciencevae.errors import InputError, RunError


def viscosity(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@settings(max_examples=10, deadline=None)
@given(k=st.integers(1, 5), nu=st.floats(0, 0.1), length=st.floats(0.5, 20), friction=st.floats(0, 1))
def test_taylor_green_vortices_decay_exactly(k: int, nu: float, length: float, friction: float) -> None:
    n, unit = 16, 2 * math.pi / length
    y, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) / n * length] * 2, indexing="ij")
    u, v = (k * unit * x).sin() * (k * unit * y).cos(), -(k * unit * x).cos() * (k * unit * y).sin()
    start = 2 * k * unit * (k * unit * x).sin() * (k * unit * y).sin()
    solver = Spectral(viscosity(nu, 0), n, 0.01 * length, length, friction)
    spectrum = solver.start(start.expand(2, n, n))
    torch.testing.assert_close(solver.velocity(spectrum)[0], torch.stack([u, v]), atol=1e-12, rtol=0)
    *_, end = solver.run(spectrum, 2, 30)
    for run, value in enumerate((nu, 0)):
        left = math.exp(-(2 * value * (k * unit) ** 2 + friction) * 30 * solver.dt_s)
        torch.testing.assert_close(solver.vorticity(end)[run], start * left, atol=1e-11 * unit * k, rtol=0)
    budget = solver.budget(spectrum)
    assert float(budget.energy[0]) == pytest.approx(0.25)
    assert float(budget.enstrophy[0]) == pytest.approx(0.5 * (k * unit) ** 2)
    assert float(budget.palinstrophy[0]) == pytest.approx((k * unit) ** 4)


def test_a_shear_flow_grows_as_its_force_says() -> None:
    """From rest u = A/(νκ² + μ) (1 − exp(−(νκ² + μ) t)) sin κy."""
    length, k, nu, friction = 3.0, 2, 0.02, 0.1
    solver = Spectral(viscosity(nu), 16, 0.02, length, friction, Kolmogorov(viscosity(0.3), k))
    *_, end = solver.run(solver.start(torch.zeros(1, 16, 16)), 2, 50)
    rate = nu * (2 * math.pi * k / length) ** 2 + friction
    wave = torch.sin(2 * math.pi * k * torch.arange(16, dtype=torch.float64) / 16)[:, None].expand(16, 16)
    want = 0.3 / rate * (1 - math.exp(-rate * 1.0)) * wave
    got = solver.velocity(end)[0]
    torch.testing.assert_close(got[0], want, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(got[1], torch.zeros_like(want), rtol=0, atol=1e-12)
    assert float(solver.budget(end).injection[0]) == pytest.approx(0.3 * float(want.max()) / 2, rel=1e-6)


def test_energy_and_enstrophy_budgets_close() -> None:
    """dE/dt = −2νZ − 2μE + injection, dZ/dt = −2νP − 2μZ: by central differences over two steps."""
    nu, friction = viscosity(0.0, 0.003, 0.02), 0.05
    for force in (None, Kolmogorov(viscosity(1.0, 2.0, 3.0), 3)):
        solver = Spectral(nu, 48, 1e-3, friction=friction, force=force)
        states = list(solver.run(solver.start(random_vorticity(3, 48, 2)), 102, 1))[-3:]
        before, now, after = (solver.budget(state) for state in states)
        energy = (after.energy - before.energy) / 2e-3
        want = -2 * nu * now.enstrophy - 2 * friction * now.energy + now.injection
        torch.testing.assert_close(energy, want, rtol=1e-5, atol=3e-6)
        if force is None:
            enstrophy = (after.enstrophy - before.enstrophy) / 2e-3
            want = -2 * nu * now.palinstrophy - 2 * friction * now.enstrophy
            torch.testing.assert_close(enstrophy, want, rtol=1e-4, atol=1e-6)


def test_without_viscosity_nothing_is_lost() -> None:
    solver = Spectral(viscosity(0.0), 32, 0.005)
    start = solver.start(random_vorticity(1, 32, 0))
    *_, end = solver.run(start, 2, 200)
    first, last = solver.budget(start), solver.budget(end)
    assert not torch.allclose(start, end, rtol=0.1)
    assert float(last.energy / first.energy) == pytest.approx(1, abs=1e-7)
    assert float(last.enstrophy / first.enstrophy) == pytest.approx(1, abs=1e-7)
    assert float(solver.vorticity(end).mean()) == pytest.approx(0, abs=1e-14)


def test_advection_is_that_of_the_primitive_form() -> None:
    """−u·∇ω by four transforms on a grid twice as fine, where no product is aliased."""
    n = 32
    solver = Spectral(viscosity(0.0), n, 1e-3)
    spectrum = solver.start(random_vorticity(1, n, 1, peak=6))
    w = np.fft.fft2(solver.vorticity(spectrum)[0].numpy())
    fine = np.zeros((2 * n, 2 * n), complex)
    k = np.fft.fftfreq(n, 1 / n).astype(int)
    fine[np.ix_(k, k)] = 4 * w
    ky, kx = np.meshgrid(*[np.fft.fftfreq(2 * n, 1 / (2 * n))] * 2, indexing="ij")
    square = np.maximum(kx**2 + ky**2, 1)
    u, v, w_x, w_y = (
        np.fft.ifft2(fine * factor).real for factor in (1j * ky / square, -1j * kx / square, 1j * kx, 1j * ky)
    )
    want = (
        np.fft.fft2(-(u * w_x + v * w_y))[np.ix_(k, k)] / 4 * (np.maximum(*np.abs(np.meshgrid(k, k))) < n / 3)
    )
    got = solver._change(spectrum)[0].numpy()
    np.testing.assert_allclose(got, want[:, : n // 2 + 1], atol=1e-9 * np.abs(want).max())


def test_fourth_order_in_time() -> None:
    end, start = 0.32, random_vorticity(2, 32, 4)
    results = []
    for steps in (8, 16, 32, 256):
        solver = Spectral(viscosity(1e-3, 1e-2), 32, end / steps, force=Kolmogorov(viscosity(1, 1), 2))
        *_, last = solver.run(solver.start(start), 2, steps)
        results.append(solver.vorticity(last))
    errors = [float((result - results[-1]).abs().max()) for result in results[:-1]]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 3.7).all(), (errors, orders)


@pytest.mark.parametrize(("low", "high"), [(2, 3), (1, 1), (4, 6.5)])
def test_a_ring_brings_in_its_power(low: float, high: float) -> None:
    """Energy after t is P t in the mean over runs, which differ by √(2/M) of it with M modes."""
    runs, power = 300, 0.2
    ring = Ring(torch.full((runs,), power), low, high, seed=5)
    solver = Spectral(torch.zeros(runs, dtype=torch.float64), 24, 1e-3, force=ring)
    *_, end = solver.run(solver.start(torch.zeros(runs, 24, 24)), 2, 5)
    energy = solver.budget(end).energy
    assert abs(float(energy.mean()) / (power * 5e-3) - 1) < 5 * float(
        energy.std() / energy.mean()
    ) / math.sqrt(runs)
    spectrum = end.abs().amax(0)
    ky, kx = torch.fft.fftfreq(24, 1 / 24)[:, None], torch.arange(13)
    inside = (torch.hypot(kx, ky) >= low) & (torch.hypot(kx, ky) <= high)
    assert bool((spectrum[inside] > 0).all())
    assert float(spectrum[~inside].max()) < 0.01 * float(spectrum[inside].max())
    # a real field: what goes out and comes back is the same
    torch.testing.assert_close(torch.fft.rfft2(solver.vorticity(end)), end, atol=1e-9, rtol=0)
    few = Spectral(
        torch.zeros(2, dtype=torch.float64), 24, 1e-3, force=Ring(torch.full((2,), power), low, high, 5)
    )
    *_, same = few.run(few.start(torch.zeros(2, 24, 24)), 2, 5)
    torch.testing.assert_close(same, end[:2])


def test_random_vorticity_has_the_energy_asked_for() -> None:
    solver = Spectral(torch.zeros(3), 32, 1e-3, length_m=5.0)
    field = random_vorticity(3, 32, 9, energy=0.7, length_m=5.0)
    torch.testing.assert_close(
        solver.budget(solver.start(field)).energy, torch.full((3,), 0.7), rtol=1e-4, atol=0
    )
    assert torch.equal(field[:2], random_vorticity(2, 32, 9, energy=0.7, length_m=5.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"viscosity": viscosity(-0.1)}, "must not be negative"),
        ({"viscosity": viscosity(math.nan)}, "must not be negative"),
        ({"friction": -1.0}, "must not be negative"),
        ({"points": 33}, "even number of points"),
        ({"dt_s": -0.1}, "must be positive"),
        ({"force": Kolmogorov(viscosity(1), 11)}, "32 points resolve 1 to 10"),
        ({"force": Kolmogorov(viscosity(1, 1), 2)}, "a force for 2 runs"),
        ({"force": Ring(viscosity(1), 20, 21, 0)}, "widen the ring"),
        ({"force": Ring(viscosity(-1), 2, 3, 0)}, "must not be negative"),
    ],
)
def test_what_cannot_work_is_named_before_it_runs(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Spectral(**{"viscosity": viscosity(0.01), "points": 32, "dt_s": 0.01, **change})


def test_a_flow_too_fast_for_its_time_step_is_refused_and_stopped() -> None:
    solver = Spectral(viscosity(0.01), 32, 0.5)
    with pytest.raises(InputError, match="take a time step of"):
        solver.start(random_vorticity(1, 32, 0))
    with pytest.raises(InputError, match="not finite"):
        solver.start(torch.full((1, 32, 32), math.nan))
    with pytest.raises(InputError, match=r"shape \(1, 32, 32\) is needed"):
        solver.start(torch.zeros(1, 32, 16))
    pushed = Spectral(viscosity(1e-4), 32, 0.05, force=Kolmogorov(viscosity(100.0), 2))
    with pytest.raises(RunError, match=r"cells in a step at step|no longer finite at step"):
        list(pushed.run(pushed.start(random_vorticity(1, 32, 0)), 20, 5))
