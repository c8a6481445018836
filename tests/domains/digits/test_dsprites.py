"""The sprites: areas and positions known in closed form, symmetries, and the published images."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from sciencevae.builtin.digits.dsprites import DEFAULTS, FACTORS, SHAPES, _inside, generate, render

from sciencevae.data.fetch import fetch
from sciencevae.data.manifest import load_manifest
from sciencevae.errors import InputError

# π a b of the ellipse; of the heart 180 π times its units of width and height (∮ x dy of its outline)
AREAS = {"square": 0.3**2, "ellipse": np.pi * 0.1994 * 0.1127, "heart": 180 * np.pi * 0.15 / 16 * 0.010345}
CORNER = np.arange(8) / (8 * 32)  # eight positions within one pixel of 64


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("orientation", [0.0, 0.3, 2.0, 5.0])
def test_area(shape: str, scale: float, orientation: float) -> None:
    """Over positions within a pixel, the mean number of white pixels is the area."""
    found = (
        render(shape, scale, orientation, 0.3 + CORNER, 0.6 + CORNER).sum((2, 3), dtype=int).mean() / 64**2
    )
    tolerance = (
        0.03 if shape == "square" and orientation == 0 else 0.004
    )  # edges along pixels: 8 steps, not 64
    assert found == pytest.approx(AREAS[shape] * scale**2, rel=tolerance / scale)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pixel_further_is_the_same_picture_moved(shape: str) -> None:
    x, y = np.array([0.11, 0.11 + 5 / 32]), np.array([0.23, 0.23 + 9 / 32])
    images = render(shape, 0.7, 1.1, x, y)
    assert np.array_equal(images[1, 0], np.roll(images[0, 0], 5, axis=1))  # x: columns, to the right
    assert np.array_equal(images[0, 1], np.roll(images[0, 0], 9, axis=0))  # y: rows, downwards


@pytest.mark.parametrize("shape", ["square", "ellipse"])
def test_centre_of_mass_follows_the_position(shape: str) -> None:
    x, y = np.linspace(0, 1, 7), np.linspace(0, 1, 5)
    images = render(shape, 1.0, 0.4, x, y).astype(float)
    pixel, area = np.arange(64) + 0.5, images.sum((2, 3))
    assert np.allclose((images.sum(2) @ pixel) / area, (16 + 32 * x)[:, None], atol=0.25)
    assert np.allclose((images.sum(3) @ pixel) / area, (16 + 32 * y)[None], atol=0.25)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [64, 31])
def test_a_quarter_turn(shape: str, size: int) -> None:
    """Orientation turns counterclockwise as seen; a square is itself after a quarter, an ellipse after half."""
    upright, quarter, half = (
        render(shape, 0.9, 0.37 + turn * np.pi / 2, 0.5, 0.5, size)[0, 0] for turn in range(3)
    )
    assert np.array_equal(quarter, np.rot90(upright))
    assert np.array_equal(half, np.rot90(upright, 2))
    assert np.array_equal(quarter, upright) == (shape == "square")
    assert np.array_equal(half, upright) == (shape != "heart")


def test_the_heart_stands_on_its_tip_and_is_its_own_mirror_image() -> None:
    heart = render("heart", 1.0, 0.0, 0.5, 0.5)[0, 0]
    assert np.array_equal(heart, heart[:, ::-1])
    rows = heart.sum(1)[heart.any(1)]
    assert rows[-1] == 2
    assert rows[:9].sum() > 1.5 * rows[-9:].sum()  # the lobes are above
    assert not heart[heart.any(1)][0, 31]  # the notch


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [8, 15, 64])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_no_window_cuts_a_shape(shape: str, size: int, scale: float) -> None:
    """Only pixels near a shape are looked at; looking at all of them gives the same."""
    x, y = FACTORS["x"][2], FACTORS["y"][2][::7]
    centres = (np.arange(size) + 0.5) / size
    right = (centres - 0.25 - 0.5 * x[:, None])[:, None, None, :] / scale
    up = -(centres - 0.25 - 0.5 * y[:, None])[None, :, :, None] / scale
    for orientation in np.linspace(0.1, 6, 7):
        cos, sin = np.cos(orientation), np.sin(orientation)
        whole = _inside(shape, cos * right + sin * up, cos * up - sin * right)
        assert np.array_equal(render(shape, scale, orientation, x, y, size), whole)


def _made(path: Path, **parameters: Any) -> dict[str, Any]:
    generate(path, parameters, 0)
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file} | {"attributes": dict(file["latents_values"].attrs)}


def test_a_file_holds_every_combination_once(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    chosen = {"shapes": ["heart", 0], "scales": 2, "orientations": [39, 0, 7], "x": 4, "y": [31], "size": 16}
    generate(tmp_path / "a.h5", chosen, 0, lambda done, total: steps.append((done, total)))
    assert steps == [(n + 1, 12) for n in range(12)]
    made = _made(tmp_path / "b.h5", **chosen)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    classes, values = made["latents_classes"], made["latents_values"]
    assert classes.shape == values.shape == (48, 5)
    assert len(np.unique(classes, axis=0)) == 48
    assert [sorted(set(column)) for column in classes.T.tolist()] == [
        [0, 2],
        [0, 3],
        [0, 7, 39],
        [0, 8, 16, 24],
        [31],
    ]
    assert made["attributes"]["units"].tolist() == ["1", "1", "rad", "1", "1"]
    for image, number, value in zip(made["images"], classes, values, strict=True):
        assert [grid[k] for (_, _, grid), k in zip(FACTORS.values(), number, strict=True)] == value.tolist()
        _, scale, orientation, x, y = value
        assert np.array_equal(image, render(SHAPES[number[0]], scale, orientation, x, y, 16)[0, 0])
    turned = [made["images"][classes[:, 2] == k] for k in (0, 39)]
    assert (turned[0] != turned[1]).mean() < 1e-3  # 0 and 2π


def test_the_default_grid_takes_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    made = _made(tmp_path / "a.h5")
    assert made["images"].shape == (46_080, 64, 64)
    assert time.monotonic() - started < 20
    assert (tmp_path / "a.h5").stat().st_size < 5e6
    assert set(np.unique(made["images"])) == {0, 1}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"shape": 3}, "no parameter 'shape'; did you mean 'shapes'"),
        ({"orientations": 7}, "orientations: a number of them is one of 1, 2, 4, 5, 8, 10, 20, 40.*found 7"),
        ({"x": 0}, "x: a number of them"),
        ({"x": [0, 32]}, "x: expected a count or a list of numbers from 0 to 31"),
        ({"y": []}, "y: expected a count or a list"),
        ({"y": 1.5}, "y: expected a count or a list"),
        ({"scales": [True]}, "scales: expected"),
        ({"scales": [1, 1]}, "names one twice"),
        ({"shapes": ["circle"]}, "shapes: expected"),
        ({"size": 65}, "8 to 64; found 65"),
    ],
)
def test_a_grid_that_is_none(tmp_path: Path, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        generate(tmp_path / "a.h5", parameters, 0)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "a.h5").exists()
    with pytest.raises(InputError, match="unknown shape 'hart'; did you mean 'heart'"):
        render("hart", 1, 0, 0, 0)


def test_its_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_manifest("dsprites").files[0].generate
    assert recipe is not None
    assert recipe.parameters == DEFAULTS
    monkeypatch.setenv("SCIENCEVAE_CACHE", str(tmp_path))
    monkeypatch.delenv("SCIENCEVAE_MIRROR", raising=False)
    small = {"orientations": 2, "x": 2, "y": 2}
    path = fetch("dsprites", parameters=small, progress=False)["dsprites.h5"]
    with h5py.File(path) as file:
        assert file["images"].shape == (3 * 6 * 2 * 4, 64, 64)
        assert {v.name for v in load_manifest("dsprites").variables} == set(file)
        chosen = json.loads(file.attrs["parameters"])
    generate(tmp_path / "again.h5", chosen, 0)  # what a file says of itself makes it again
    assert (tmp_path / "again.h5").stat().st_size > 0


# ---- the published images


def _reference(name: str) -> dict[str, Any]:
    mirror = os.environ.get("SCIENCEVAE_MIRROR")
    path = Path(mirror or ".") / "dsprites" / f"{name}.npz"
    if not mirror or not path.is_file():
        pytest.skip("no dSprites: SCIENCEVAE_MIRROR must name a folder with dsprites/")
    with np.load(path, allow_pickle=False) as archive:
        names = ("imgs", "latents_classes", "latents_values", "original_dataset_indices")
        return {key: archive[key] for key in names}


def _agreement(ours: Any, theirs: Any, shapes: Any) -> dict[str, tuple[float, float]]:
    """For each shape: mean intersection over union, mean number of pixels that differ."""
    common = (ours & theirs).sum((1, 2), dtype=int)
    united = (ours | theirs).sum((1, 2), dtype=int)
    return {
        name: (float((common / united)[shapes == k].mean()), float((united - common)[shapes == k].mean()))
        for k, name in enumerate(SHAPES)
    }


@pytest.mark.reference
def test_the_published_sub_grid(tmp_path: Path) -> None:
    """Every fourth orientation, every second position: what our default is too."""
    published, made = _reference("dsprites_downsampled"), _made(tmp_path / "a.h5")
    assert np.allclose(made["latents_values"], published["latents_values"], atol=1e-12)
    for name, (overlap, pixels) in _agreement(
        made["images"], published["imgs"], published["latents_classes"][:, 0]
    ).items():
        assert overlap > 0.999, name
        assert pixels < 0.12, name


@pytest.mark.reference
def test_the_published_subset() -> None:
    """Images of the full grid that the sub-grid does not hold."""
    published, seen = _reference("dsprites_subset"), _reference("dsprites_downsampled")
    new = ~np.isin(published["original_dataset_indices"], seen["original_dataset_indices"])
    assert new.sum() == 20_000 - 1_246
    classes, values = published["latents_classes"][new], published["latents_values"][new]
    ours = np.concatenate(
        [render(SHAPES[k], *row[1:])[0] for k, row in zip(classes[:, 0], values, strict=True)]
    )
    found = _agreement(ours, published["imgs"][new], classes[:, 0])
    for name, (overlap, pixels) in found.items():
        assert overlap > 0.999, name
        assert pixels < 0.12, name
