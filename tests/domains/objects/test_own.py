"""A user's own pictures: labels in CSV and COCO, units, and what is wrong with them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sciencevae.builtin.objects.own import own_labels, own_picture
from sciencevae.builtin.objects.scenes import SIZE, Camera
from sciencevae.builtin.objects.world import World

from sciencevae.errors import InputError

KINDS = World().kinds


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
    first, second, third = own_labels(labels, KINDS)
    small, place, heading = own_picture(first, Camera())
    assert small.shape == (SIZE, SIZE, 3)
    assert place == pytest.approx([12.5, -30])
    assert heading == pytest.approx(math.pi / 2)
    _, place, heading = own_picture(second, Camera())
    assert place == pytest.approx([0, 0], abs=1e-9), "the camera looks at the middle of the table"
    assert math.isnan(heading)
    assert np.isnan(own_picture(third, Camera())[1]).all()
    assert [label.kind for label in (first, second, third)] == ["mug", "tee", ""]


def test_coco_says_poses_by_keypoints_or_boxes(tmp_path: Path):
    picture(tmp_path / "a.png"), picture(tmp_path / "b.png"), picture(tmp_path / "c.png")
    camera, scale, corner = Camera(), 240 / SIZE, np.array([40, 0])
    ends = camera.project(np.array([[10.0, 5.0, 0.0], [10.0, 25.0, 0.0]]))[:, :2] * scale + corner
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
    first, second, third = own_labels(labels, KINDS)
    _, place, heading = own_picture(first, Camera())
    assert place == pytest.approx([10, 5])
    assert heading == pytest.approx(math.pi / 2)
    assert own_picture(second, Camera())[1] == pytest.approx([0, 0], abs=1e-9)
    assert second.kind == "bracket"
    assert np.isnan(own_picture(third, Camera())[1]).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,x\na.png,1\n", "has no column 'file'; found name, x"),
        ("file,heeding\na.png,1\n", "unknown column 'heeding'; did you mean 'heading'"),
        ("file,x\na.png,1\n", "columns 'x' and 'y' go together"),
        ("file,x,y\na.png,1,\n", "line 2: of x and y one is missing"),
        ("file,x,y\na.png,1,abc\n", "line 2: y is 'abc', and is to be a number"),
        ("file,x,y\na.png,1,inf\n", "is to be finite"),
        (
            "file,kind\na.png,mugg\n",
            "of kind 'mugg', and the simulation has mug, bracket, tee; did you mean 'mug'",
        ),
        ("file\na.png\na.png\n", "names a.png twice"),
        ("file\n", "names no picture"),
        ("", "cannot be read as CSV"),
        ("file\n../a.png\n", r"\.\./a\.png is not within the folder of the labels"),
    ],
)
def test_a_csv_that_is_wrong(tmp_path: Path, text: str, said: str):
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        own_labels(labels, KINDS)


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
    ],
)
def test_a_coco_file_that_is_wrong(tmp_path: Path, content, said: str):
    labels = tmp_path / "labels.json"
    labels.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=said):
        own_labels(labels, KINDS)


def test_pictures_that_are_wrong(tmp_path: Path):
    labels = tmp_path / "labels.csv"
    picture(tmp_path / "small.png", 50, 90), picture(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    labels.write_text("file,column,row\nsmall.png,,\nmissing.png,,\nbroken.png,,\na.png,10,100\n")
    small, missing, broken, outside = own_labels(labels, KINDS)
    for label, said in (
        (small, "50 × 90 pixels, and 64 × 64 are needed"),
        (missing, "no file .*missing.png"),
        (broken, "broken.png is damaged"),
        (outside, "outside of the middle square of 240 pixels"),
    ):
        with pytest.raises(InputError, match=said):
            own_picture(label, Camera())
    with pytest.raises(InputError, match=r"end in .csv, or in .json"):
        own_labels(tmp_path / "labels.txt", KINDS)
