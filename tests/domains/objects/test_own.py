"""A user's own pictures: labels in CSV and COCO, units, and what is wrong with them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sciencevae.builtin.objects.own import Label, own_labels, own_picture
from sciencevae.builtin.objects.scenes import SIZE, Camera
from sciencevae.builtin.objects.simulate import canonical
from sciencevae.builtin.objects.world import World

from sciencevae.errors import InputError


def picture(path: Path, wide: int = 320, high: int = 240) -> Path:
    ramp = np.arange(wide * high * 3) % 251
    Image.fromarray(ramp.reshape(high, wide, 3).astype(np.uint8)).save(path)
    return path


def test_a_csv_says_poses_in_millimetres_or_pixels(tmp_path: Path):
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "file,x,y,column,row,heading,kind\na.png,12.5,-30,,,90,mug\nb.png,,,160,120,,tee\nc.png,,,,,,\n"
    )
    first, second, third = own_labels(labels)
    small, place, heading = own_picture(first, World())
    assert small.shape == (SIZE, SIZE, 3)
    assert place == pytest.approx([12.5, -30])
    assert heading == pytest.approx(math.pi / 2)
    _, place, heading = own_picture(second, World())
    assert place == pytest.approx([0, 0], abs=1e-9), "the camera looks at the middle of the table"
    assert math.isnan(heading)
    assert np.isnan(own_picture(third, World())[1]).all()
    assert [label.kind for label in (first, second, third)] == ["mug", "tee", ""]


def test_coco_says_poses_by_keypoints_or_boxes(tmp_path: Path):
    picture(tmp_path / "a.png"), picture(tmp_path / "b.png"), picture(tmp_path / "c.png")
    camera, scale, corner = Camera(), 240 / SIZE, np.array([40, 0])
    # whole numbers are middles of pixels in COCO
    ends = camera.project(np.array([[10.0, 5.0, 0.0], [10.0, 25.0, 0.0]]))[:, :2] * scale + corner - 0.5
    content = {
        "images": [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate("abc")],
        "categories": [{"id": 7, "name": "bracket"}],
        "annotations": [
            {"image_id": 0, "category_id": 7, "keypoints": [*ends[0], 2, *ends[1], 2], "bbox": [0, 0, 1, 1]},
            {"image_id": 1, "category_id": 7, "bbox": [150, 100, 20, 40]},
        ],
    }
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps(content))
    first, second, third = own_labels(labels)
    _, place, heading = own_picture(first, World())
    assert place == pytest.approx([10, 5])
    assert heading == pytest.approx(math.pi / 2)
    middle = camera.on_table(np.full((1, 2), SIZE / 2), height=22.0)[0]
    assert own_picture(second, World())[1] == pytest.approx(middle, abs=1e-9)
    assert second.kind == "bracket"
    assert np.isnan(own_picture(third, World())[1]).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,x\na.png,1\n", "has no column 'file'; found name, x"),
        ("file,heeding\na.png,1\n", "unknown column 'heeding'; did you mean 'heading'"),
        ("file,x\na.png,1\n", "columns 'x' and 'y' go together"),
        ("file,x,y\na.png,1,\n", "line 2: of x and y one is missing"),
        ("file,x,y\na.png,1,abc\n", "line 2: y is 'abc', and is to be a number"),
        ("file,x,y\na.png,1,inf\n", "is to be finite"),
        ("file\na.png\na.png\n", "names a.png twice"),
        ("file\n", "holds no rows"),
        ("", "labels.csv is empty"),
        ("file\n../a.png\n", r"\.\./a\.png is not within the folder of the labels"),
    ],
)
def test_a_csv_that_is_wrong(tmp_path: Path, text: str, said: str):
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        own_labels(labels)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read as COCO"),
        ({"annotations": []}, "cannot be read as COCO: 'images'"),
        ({"images": []}, "names no picture"),
        (
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "annotations": [{"image_id": 1, "bbox": [1, 1, 2, 2]}] * 2,
            },
            "a.png has two annotations",
        ),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]}, "have the same id"),
        (
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "annotations": [{"image_id": 2, "bbox": [1, 1, 2, 2]}],
            },
            "an annotation is of image 2, which is not listed",
        ),
        (
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "annotations": [{"image_id": 1, "keypoints": [5, 5, 2, 5, 5, 2], "bbox": [1, 1, 2, 2]}],
            },
            "its keypoints are one place",
        ),
        (
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "annotations": [{"image_id": 1, "keypoints": None}],
            },
            "neither a first keypoint that is seen nor a box",
        ),
    ],
)
def test_a_coco_file_that_is_wrong(tmp_path: Path, content, said: str):
    labels = tmp_path / "labels.json"
    labels.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=said):
        own_labels(labels)


def test_of_keypoints_the_first_is_the_origin_though_the_second_is_hidden(tmp_path: Path):
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "keypoints": [99.5, 79.5, 2, 0, 0, 0], "bbox": [0, 0, 9, 9]}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    (label,) = own_labels(tmp_path / "labels.json")
    assert (label.pixel, label.tip, label.boxed) == ((100.0, 80.0), None, False)


@pytest.mark.parametrize("kind", World().kinds)
def test_the_middle_of_a_box_is_that_of_the_solid(tmp_path: Path, kind: str):
    """Up to where its origin is in it, of which a box says nothing: in all directions alike."""
    own, random, apart = World(), np.random.default_rng(0), []
    for i in range(40):
        pose = *random.uniform(-30, 30, 2), random.uniform(-np.pi, np.pi)
        shown = canonical(own, kind, *pose)
        # the object is red, the table blue
        rows, columns = np.nonzero(shown[..., 0] - shown[..., 2] > 0.04)
        picture = Image.fromarray((255 * shown).clip(0, 255).astype(np.uint8))
        picture.save(tmp_path / f"{i}.png")
        place = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
        label = Label(tmp_path / f"{i}.png", pixel=place, kind=kind, boxed=True)
        apart.append(own_picture(label, own)[1] - pose[:2])
    assert abs(np.mean(apart, 0)).max() < 3
    assert np.linalg.norm(apart, axis=1).mean() < 11


def test_a_table_with_spaces_and_empty_cells_is_read(tmp_path: Path):
    (tmp_path / "labels.csv").write_text("file, x, y, kind\na.png, 1.5, -2, mug\nb.png, , ,\n")
    first, second = own_labels(tmp_path / "labels.csv")
    assert (first.place, first.kind) == ((1.5, -2.0), "mug")
    assert (second.place, second.kind) == (None, "")


def test_pictures_that_are_wrong(tmp_path: Path):
    labels = tmp_path / "labels.csv"
    picture(tmp_path / "small.png", 50, 90), picture(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    picture(tmp_path / "b.png"), picture(tmp_path / "c.png")
    labels.write_text(
        "file,x,y,column,row,kind\nsmall.png,,,,,\nmissing.png,,,,,\nbroken.png,,,,,\na.png,,,10,100,\n"
        "b.png,0.5,300,,,\nc.png,,,,,mugg\n"
    )
    small, missing, broken, outside, away, unknown = own_labels(labels)
    for label, said in (
        (small, "50 × 90 pixels, and 64 × 64 are needed"),
        (missing, "no file .*missing.png"),
        (broken, "broken.png is damaged"),
        (outside, "10, 100 pixels, outside of the middle square of 240 pixels"),
        (away, "0.5, 300 mm, outside of the middle square"),
        (Label(tmp_path / "b.png", place=(60.0, 0.0)), "lie within ± 45: raise source.setup.reach"),
        (unknown, "of kind 'mugg', and the simulation has mug, bracket, tee; did you mean 'mug'"),
        (Label(tmp_path / "a.png", pixel=(160.0, 120.0), boxed=True), "has a box and no kind"),
    ):
        with pytest.raises(InputError, match=said.replace("?", r"\?")):
            own_picture(label, World())
    with pytest.raises(InputError, match=r"end in .csv, or in .json"):
        own_labels(tmp_path / "labels.txt")
