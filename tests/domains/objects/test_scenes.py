"""The camera and the two renderers against geometry, against each other, and against a mirror."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sciencevae.builtin.objects.rasterise import rasterised
from sciencevae.builtin.objects.realistic import photographed
from sciencevae.builtin.objects.scenes import REACH, SIZE, Camera, box, cylinder, placed, together
from sciencevae.builtin.objects.simulate import canonical, generate
from sciencevae.builtin.objects.world import World

from sciencevae.errors import InputError

FLAT = {"light": (0.0, 0.0, 1.0), "ambient": 1.0, "table": (0.0, 0.0, 0.0), "shadow": 0.0}


@given(
    st.tuples(*[st.floats(-REACH, REACH)] * 2),
    st.floats(-30, 30),
    st.floats(10, 30),
)
def test_what_is_seen_of_the_table_lies_where_it_is(place, roll, view):
    camera = Camera((20.0, -260.0, 520.0), (3.0, -2.0, 0.0), view, roll)
    seen = camera.project(np.array([[*place, 0.0]]))
    assert camera.on_table(seen[:, :2])[0] == pytest.approx(place, abs=1e-6)


def test_the_camera_is_a_pinhole():
    camera = Camera((0.0, 0.0, 500.0 - 1e-9), (0.0, 1e-6, 0.0), 20.0)
    focal = SIZE / 2 / math.tan(math.radians(10))
    seen = camera.project(np.array([[10.0, 20.0, 0.0], [10.0, 20.0, 100.0]]))
    assert seen[0] == pytest.approx([SIZE / 2 + focal * 10 / 500, SIZE / 2 - focal * 20 / 500, 500], abs=1e-4)
    assert seen[1, 0] == pytest.approx(SIZE / 2 + focal * 10 / 400, abs=1e-4)
    turned = Camera((0.0, 0.0, 500.0), (0.0, 1e-6, 0.0), 20.0, roll=90).project(np.array([[10.0, 0.0, 0.0]]))
    assert turned[0, 0] == pytest.approx(SIZE / 2, abs=1e-4)


def test_a_solid_covers_what_its_outline_encloses():
    camera = Camera((0.0, 0.0, 1000.0), (0.0, 1e-6, 0.0), 10.0)
    picture = rasterised([(box(0, 0, 10, 60, 40, 20), (1.0, 1.0, 1.0))], camera, **FLAT)
    focal = SIZE / 2 / math.tan(math.radians(5))
    wanted = 60 * 40 * (focal / (1000 - 20)) ** 2  # the upper side hides the others
    assert picture[..., 0].sum() == pytest.approx(wanted, rel=0.03)
    round_one = rasterised([(cylinder(0, 0, 10, 30, 20, sides=64), (1.0, 1.0, 1.0))], camera, **FLAT)
    assert round_one[..., 0].sum() == pytest.approx(math.pi * 30**2 * (focal / 980) ** 2, rel=0.03)


def test_what_is_nearer_hides_what_is_behind():
    camera = Camera((0.0, 0.0, 1000.0), (0.0, 1e-6, 0.0), 10.0)
    low, high = box(0, 0, 10, 60, 60, 20), box(0, 0, 30, 20, 20, 20)
    for order in ([(low, (1, 0, 0)), (high, (0, 1, 0))], [(high, (0, 1, 0)), (low, (1, 0, 0))]):
        middle = rasterised(order, camera, **FLAT)[SIZE // 2, SIZE // 2]
        assert middle == pytest.approx([0, 1, 0])


def test_sides_are_as_bright_as_lambert_says():
    camera = Camera((0.0, 0.0, 1000.0), (0.0, 1e-6, 0.0), 10.0)
    light = np.array([0.6, 0.0, 0.8])
    picture = rasterised(
        [(box(0, 0, 10, 60, 60, 20), (0.5, 0.5, 0.5))], camera, light, 0.3, (0.2, 0.2, 0.2), 0.5
    )
    assert picture[SIZE // 2, SIZE // 2, 0] == pytest.approx(0.5 * (0.3 + 0.7 * 0.8))
    assert picture[0, 0, 0] == pytest.approx(0.2 * (0.3 + 0.7 * 0.8))
    # light from the right: the shadow lies at the left, 20 mm · 0.6 / 0.8 wide
    row = picture[SIZE // 2, : SIZE // 2, 0]
    dark = np.isclose(row, 0.5 * picture[0, 0, 0]).sum()
    assert dark == pytest.approx(15 * SIZE / 2 / math.tan(math.radians(5)) / 1000, abs=1.5)


@pytest.mark.parametrize("kind", World().kinds)
def test_a_mirror_shows_the_mirrored_pose(kind):
    x, y, heading = 17.0, -8.0, 0.7
    seen = canonical(World(), kind, -x, y, math.pi - heading)
    assert abs(canonical(World(), kind, x, y, heading)[:, ::-1] - seen).mean() < 0.004


@pytest.mark.parametrize("kind", World().kinds)
@pytest.mark.parametrize("pose", [(30.0, 20.0, 1.0), (-30.0, -20.0, -2.0), (0.0, 35.0, 3.0)])
def test_a_twin_reaches_as_far_as_its_corners_do(kind, pose):
    own = World()
    drawn = canonical(own, kind, *pose)
    rows, columns = np.nonzero(drawn[..., 0] - drawn[..., 2] > 0.04)  # the object is red, the table blue
    corners, _ = placed(own.solids[kind], pose)
    across, down, _ = own.camera.project(corners).T
    assert [columns.min(), columns.max() + 1] == pytest.approx([across.min(), across.max()], abs=1)
    assert [rows.min(), rows.max() + 1] == pytest.approx([down.min(), down.max()], abs=1)


def test_both_renderers_see_a_point_at_the_same_pixel():
    """Mitsuba, whose camera is its own, and ``Camera``."""
    mi = pytest.importorskip("mitsuba")
    mi.set_variant("scalar_rgb")
    point, camera = (25.0, -18.0, 12.0), Camera()
    seen_from = mi.ScalarTransform4f().look_at(origin=list(camera.place), target=[0, 0, 0], up=[0, 0, 1])
    scene = {
        "type": "scene", "integrator": {"type": "path", "max_depth": 1},
        "sensor": {"type": "perspective", "fov": camera.view,
                   "to_world": seen_from,
                   "film": {"type": "hdrfilm", "width": SIZE, "height": SIZE, "rfilter": {"type": "box"}},
                   "sampler": {"type": "independent", "sample_count": 64}},
        "ball": {"type": "sphere", "center": list(point), "radius": 4.0,
                 "emitter": {"type": "area", "radiance": {"type": "rgb", "value": 1.0}}},
    }  # fmt: skip
    light = np.array(mi.render(mi.load_dict(scene), seed=1))[..., 0]
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    found = (light * columns).sum() / light.sum(), (light * rows).sum() / light.sum()
    assert found == pytest.approx(camera.project(np.array([point]))[0, :2], abs=0.1)


def test_realistic_pictures_show_the_object_near_its_pose():
    """Pictures of objects at two poses differ most around both, within what the camera is off."""
    pytest.importorskip("mitsuba")
    poses = np.array([[-25.0, 20.0, 0.3], [25.0, -20.0, 0.3]])
    change = np.zeros((SIZE, SIZE))
    for seed in range(12):
        here, there = (photographed("tee", pose, 9, np.random.default_rng(seed)) for pose in poses)
        change += abs(here - there).max(-1) / 12
    for place in Camera().project(np.c_[poses[:, :2], [9.0, 9.0]])[:, :2]:
        column, row = np.round(place).astype(int)
        assert change[row - 8 : row + 8, column - 8 : column + 8].mean() > 1.25 * np.median(change)


def test_realistic_pictures_are_the_same_each_time():
    """Of a scene in which lights come in any order, one in seven differs from the time before."""
    pytest.importorskip("mitsuba")
    pose = np.array([10.0, 20.0, 0.3])
    first, again = (
        [photographed("mug", pose, 1, np.random.default_rng(seed)) for seed in range(40)] for _ in range(2)
    )
    assert np.array_equal(first, again)


def test_solids_are_put_together_and_placed():
    corners, triangles = together([box(0, 0, 0, 2, 2, 2), box(5, 0, 0, 2, 2, 2)])
    assert len(corners) == 16
    assert triangles.max() == 15
    moved, _ = placed((corners, triangles), (3.0, 4.0, math.pi / 2), scale=2.0)
    assert moved[:, :2].mean(0) == pytest.approx([3.0, 4.0 + 2 * 2.5])


def test_a_file_is_the_same_each_time_and_its_start_whatever_its_length(tmp_path: Path):
    def made(name: str, **more: int) -> h5py.File:
        generate(tmp_path / name, {"plain": 3, "randomised": 3, "realistic": 0, "unseen": 0} | more, seed=5)
        return h5py.File(tmp_path / name)

    once, again, longer = made("a.h5"), made("b.h5"), made("c.h5", plain=5, randomised=4)
    for group in ("plain", "randomised"):
        pictures = once[group]["pictures"][:]
        assert np.array_equal(pictures, again[group]["pictures"][:])
        assert np.array_equal(pictures, longer[group]["pictures"][:3])
        assert pictures.std() > 5
    other = tmp_path / "d.h5"
    generate(other, {"plain": 3, "randomised": 0, "realistic": 0, "unseen": 0}, seed=6)
    assert not np.array_equal(h5py.File(other)["plain/pictures"][:], once["plain/pictures"][:])


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"plian": 3}, "no parameter 'plian'; did you mean 'plain'"),
        ({"plain": -1}, "plain is a whole number, 0 or more, not -1"),
        ({"samples": 0}, "samples is a whole number"),
        ({"plain": 1.5}, "not 1.5"),
        ({"plain": 0, "randomised": 0, "realistic": 0, "unseen": 0}, "there is nothing to draw"),
    ],
)
def test_parameters_that_are_none(tmp_path: Path, parameters, said):
    with pytest.raises(InputError, match=said):
        generate(tmp_path / "a.h5", parameters, seed=0)
