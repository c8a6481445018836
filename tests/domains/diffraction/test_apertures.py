"""Openings have the area that they should, wherever they lie on the grid."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sciencevae.builtin.diffraction.apertures import circle, comb, coordinates, polygon, rectangle, slits

PITCH = 2e-6
X = coordinates(128, PITCH)


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(st.floats(-20e-6, 20e-6), st.floats(1e-6, 60e-6), st.floats(5e-6, 60e-6))
def test_slits_and_rectangles_keep_their_edges_between_cells(
    middle: float, width: float, height: float
) -> None:
    line = slits(X, PITCH, row(middle), row(width))
    assert abs(float(line.sum()) * PITCH / width - 1) < 1e-9
    centroid = float((line * X).sum() / line.sum())
    assert abs(centroid - middle) < 0.5 * PITCH
    hole = rectangle(X, X, PITCH, row(middle, -middle), row(width, height))
    assert abs(float(hole.sum()) * PITCH**2 / (width * height) - 1) < 1e-9


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-10e-6, 10e-6), st.floats(20e-6, 80e-6), st.integers(3, 7), st.floats(0, 6.3), st.floats(0, 0.5)
)
def test_circles_and_polygons_have_their_area(
    middle: float, diameter: float, corners: int, turn: float, irregular: float
) -> None:
    disc = circle(X, X, PITCH, row(middle, middle), torch.tensor([diameter], dtype=torch.float64))
    assert abs(float(disc.sum()) * PITCH**2 / (math.pi * diameter**2 / 4) - 1) < 0.01
    angle = turn + torch.arange(corners, dtype=torch.float64) * 2 * math.pi / corners
    radius = diameter / 2 * (1 - irregular * (torch.arange(corners) % 2))
    ends = torch.stack([middle + radius * angle.cos(), middle + radius * angle.sin()], 1)
    x, y = ends.unbind(1)
    shoelace = 0.5 * abs(float((x * y.roll(-1) - y * x.roll(-1)).sum()))
    found = float(polygon(X, X, PITCH, ends[None]).sum()) * PITCH**2
    # a cell at a corner is off by a part of its area
    assert abs(found - shoelace) < 0.01 * shoelace + corners * PITCH**2


def test_each_aperture_of_a_batch_has_its_own_grid() -> None:
    pitch = torch.tensor([1e-6, 2e-6], dtype=torch.float64)
    x = coordinates(128, pitch)
    widths = torch.full((2, 1), 30e-6, dtype=torch.float64)
    line = slits(x, pitch, torch.zeros_like(widths), widths)
    torch.testing.assert_close(line.sum(1) * pitch, widths[:, 0])


def test_a_comb_lies_around_its_middle() -> None:
    found = comb(3, torch.tensor([2.0]), torch.tensor([1.0]))
    assert found.tolist() == [[-1.0, 1.0, 3.0]]
    assert comb(2, torch.tensor([2.0]), torch.tensor([0.0])).tolist() == [[-1.0, 1.0]]
