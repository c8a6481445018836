"""The region a field fills, against shapes whose area is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sciencevae.builtin.stars.dataset import field_area
from sciencevae.builtin.stars.footprint import Footprint

from sciencevae.errors import InputError

SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)


def test_the_unit_square() -> None:
    square = Footprint(SQUARE)
    assert square.area == pytest.approx(1.0)
    points = np.array([[0.5, 0.5], [0, 0], [1, 0.5], [1.01, 0.5], [0.5, -0.01], [2, 2]])
    assert square.contains(points).tolist() == [True, True, True, False, False, False]


@pytest.mark.parametrize("shape", ["square", "circle", "triangle"])
@pytest.mark.parametrize("count", [50, 1000])
def test_the_area_of_the_field_behind_the_stars_has_no_bias(shape: str, count: int) -> None:
    """400 samples of a known shape: the mean area is right within its error, where the hull alone is not."""
    random = np.random.default_rng(1)
    areas, hulls = [], []
    for _ in range(400):
        points = random.uniform(0, 1, (count, 2))
        true = 1.0
        if shape == "circle":
            radius, angle = np.sqrt(points[:, 0]), 2 * np.pi * points[:, 1]
            points, true = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), np.pi
        elif shape == "triangle":
            over = points.sum(1) > 1
            points[over], true = 1 - points[over], 0.5
        field = Footprint.around(points)
        assert field.contains(points).all()
        areas.append(field.area / true)
        hulls.append(_hull_area(points) / true)
    error = np.std(areas) / np.sqrt(len(areas))
    assert abs(np.mean(areas) - 1) < 4 * error + 0.002
    assert abs(np.mean(hulls) - 1) > 5 * error


def _hull_area(points: np.ndarray) -> float:
    from scipy.spatial import ConvexHull

    return float(ConvexHull(points).volume)


@pytest.mark.parametrize("radius", [0.1, 5.0, 60.0])
def test_a_cone_is_a_circle_of_the_same_area(radius: float) -> None:
    field = Footprint.cone(radius)
    assert field.area == pytest.approx(field_area(radius), rel=1e-12)
    edge = np.degrees(2 * np.sin(np.radians(radius) / 2))
    assert field.contains(np.array([[edge, 0], [0, -edge], [0.8 * edge, 0.8 * edge]])).tolist() == [1, 1, 0]


@pytest.mark.parametrize("field", [Footprint(SQUARE), Footprint.cone(2.0), Footprint(SQUARE[[0, 1, 3]] * 3)])
def test_points_fill_it_evenly_and_are_always_the_same(field: Footprint) -> None:
    points = field.points(1000)
    assert points.shape == (1000, 2)
    assert field.contains(points).all()
    np.testing.assert_array_equal(points, field.points(1000))
    # a mean over them is an integral: E x² over the region, against many random points of the same region
    random = np.random.default_rng(0).uniform(-2, 3, (400_000, 2))
    inside = random[field.contains(random)]
    np.testing.assert_allclose((points**2).mean(0), (inside**2).mean(0), rtol=0.02)


def test_there_and_back_as_json() -> None:
    for field in (Footprint(SQUARE), Footprint.cone(3.0)):
        again = Footprint.from_list(json.loads(json.dumps(field.to_list())))
        assert again.area == field.area
        np.testing.assert_array_equal(again.points(64), field.points(64))


def test_stars_on_a_line_enclose_nothing() -> None:
    with pytest.raises(InputError, match="enclose no field"):
        Footprint.around(np.stack([np.arange(60.0), np.arange(60.0)], 1))
    with pytest.raises(InputError, match="2 stars"):
        Footprint.around(SQUARE[:2])
