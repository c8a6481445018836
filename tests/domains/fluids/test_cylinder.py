"""The generator of wakes: what it refuses, what it writes, and the frequency of what it makes."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from sciencevae.builtin.fluids.cylinder import Channel, Window, generate, main, perturb, start, steady
from sciencevae.builtin.fluids.immersed import RADIUS, Flow
from sciencevae.builtin.fluids.strouhal import Frequency, shedding_frequency

from sciencevae.errors import InputError

SMALL = {"reynolds": [60], "starts": 2, "duration": 2, "every": 0.5, "cells": 8, "height": 20, "upstream": 6}
SMALL |= {"downstream": 16}


def shedding(channel: Channel, time: float, blockage: float = 0.05) -> Frequency:
    """Of the lift at Re = 100, from the last third of a run."""
    flow = perturb(start(channel, 100, 1.0, blockage), 0.3, 2.0)
    lift = []
    for _ in range(round(time / flow.dt)):
        flow.step()
        lift.append(flow.force[1])
    last = len(lift) * 2 // 3
    return shedding_frequency(np.array(lift[last:]), flow.dt * np.arange(last, len(lift)))


@pytest.mark.parametrize(("cells", "height"), [(8, 20.0), (20, 40.0), (27, 33.0)])
def test_the_grid_is_uniform_around_the_cylinder_and_smooth_elsewhere(cells: int, height: float) -> None:
    channel = Channel(height=height, upstream=11, downstream=17, cells=cells)
    grid = channel.grid()
    assert grid.x_faces[[0, -1]] == pytest.approx([-11, 17])
    assert grid.y_faces[[0, -1]] == pytest.approx([-height / 2, height / 2])
    for faces, widths in ((grid.x_faces, grid.dx), (grid.y_faces, grid.dy)):
        near = np.abs((faces[1:] + faces[:-1]) / 2) < RADIUS + 1.5 / cells
        np.testing.assert_allclose(widths[near], 1 / cells)
        assert (widths >= 1 / cells * (1 - 1e-9)).all()
        assert (np.abs(np.diff(np.log(widths))) < 0.85 / cells).all()
    np.testing.assert_allclose(grid.y_faces, -grid.y_faces[::-1])


@pytest.mark.parametrize(
    ("channel", "reynolds", "dt", "says"),
    [
        (Channel(), 100, 0.05, r"time step of 0.05 D/U is unstable .*Courant number 1.60 .*at most 0.01562"),
        (Channel(), 20, 0.01, r"viscous number 1.60 .*at most 0.005"),
        (Channel(cells=8), 100, None, r"do not resolve the boundary layer.*at least 10"),
        (Channel(height=10), 100, None, r"blockage of 10.0 %, above 5.0 %: take a height of at least 20"),
        (Channel(), 300, None, r"Re = 300: expected 1 to 190"),
    ],
)
def test_what_would_go_wrong_is_refused_by_name(
    channel: Channel, reynolds: float, dt: float | None, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        channel.check(reynolds, dt)


def test_a_channel_and_a_window_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="channel is too small"):
        Channel(upstream=0.5)
    with pytest.raises(InputError, match=r"window x = -2 to 14.*reaches out"):
        Window().reader(Channel(height=20, upstream=6, downstream=10, cells=8).grid())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"reynold": [60]}, "did you mean 'reynolds'"),
        ({"reynolds": []}, "one Reynolds number"),
        ({"every": 3}, "one frame"),
        ({"height": 8}, "blockage"),
    ],
)
def test_the_generator_refuses_before_it_writes(tmp_path: Path, wrong: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        generate(tmp_path / "wakes.h5", SMALL | wrong, 0)
    assert not list(tmp_path.iterdir())


def test_the_window_reads_smooth_fields_to_fourth_order() -> None:
    flow = Flow(Channel(height=20, upstream=6, downstream=16, cells=8).grid(), 60, 0.01, body=False)
    grid, window = flow.grid, Window()
    flow.u[:, 1:-1] = np.sin(grid.x_faces / 2)[:, None] * np.cos(grid.y / 2)
    flow.v[1:-1] = np.cos(grid.x / 2)[:, None] * np.sin(grid.y_faces / 2)
    velocity, vorticity, _ = window.reader(grid)(flow)
    x, y, fluid = window.x, window.y[:, None], ~window.solid
    np.testing.assert_allclose(velocity[0], np.sin(x / 2) * np.cos(y / 2) * fluid, atol=1e-3)
    np.testing.assert_allclose(velocity[1], np.cos(x / 2) * np.sin(y / 2) * fluid, atol=1e-3)
    assert np.abs(vorticity).max() < 0.03  # ∂v/∂x = ∂u/∂y, differences of second order


def test_the_steady_flow_is_symmetric_and_does_not_change() -> None:
    flow = steady(start(Channel(height=20, upstream=6, downstream=16, cells=8), 60), 100)
    drag, u = flow.force[0], flow.u.copy()
    for _ in range(100):
        flow.step()
    assert flow.force[0] == pytest.approx(drag, rel=1e-4)
    assert np.abs(flow.u - u).max() < 1e-3
    assert abs(flow.force[1]) < 1e-8


def test_a_file_has_every_run_its_units_and_the_same_values_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sciencevae.builtin.fluids.cylinder.steady", lambda flow: steady(flow, 5.0))
    done: list[tuple[int, int]] = []
    generate(tmp_path / "a.h5", SMALL, 7, lambda *each: done.append(each))
    generate(tmp_path / "b.h5", SMALL | {"starts": 1}, 7)
    assert done == [(1, 2), (2, 2)]
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        assert a["velocity"].shape == (2, 4, 2, 64, 128)
        assert a["pressure"].shape == a["vorticity"].shape == (2, 4, 64, 128)
        assert a["lift"].shape == a["drag"].shape == (2, 4)
        assert list(a["reynolds"]) == [60, 60]
        np.testing.assert_allclose(a["time"], [0, 0.5, 1, 1.5])
        assert all(data.attrs["units"] for data in a.values())
        assert a["velocity"].dims[3].label == "y"
        assert json.loads(a.attrs["parameters"])["cells"] == 8
        np.testing.assert_array_equal(a["velocity"][0], b["velocity"][0])  # runs do not depend on one another
        assert np.abs(a["velocity"][0] - a["velocity"][1]).max() > 1e-4
        u, v = a["velocity"][0, -1]
        vorticity = np.gradient(v, a["x"], axis=1) - np.gradient(u, a["y"], axis=0)
        outside = np.abs(a["y"][()]) > 1  # of the cylinder and its shear layers
        assert np.abs(vorticity - a["vorticity"][0, -1])[outside][1:-1, 1:-1].max() < 0.1
        assert (a["velocity"][()][..., a["solid"][()]] == 0).all()


def test_the_command_line_writes_whole_files_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="blockage"):
        main([str(tmp_path / "wakes.h5"), "--height", "10"])
    assert not list(tmp_path.iterdir())


def test_strouhal_number_in_the_narrow_domain_of_the_published_wake() -> None:
    """0.179 ± 0.001 is what the coefficients of the external data give: x −5 … 15, slip at y = ±5."""
    found = shedding(Channel(height=10, upstream=5, downstream=15, cells=12), 75, blockage=0.1)
    assert found.value == pytest.approx(0.179, rel=0.015)


@pytest.mark.slow
def test_strouhal_number_in_a_wide_channel() -> None:
    found = shedding(Channel(height=40, upstream=20, downstream=25, cells=16), 150)
    assert found.value == pytest.approx(0.165, rel=0.02)
    assert found.error < 2e-4
