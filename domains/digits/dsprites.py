"""The generator of dSprites: one white shape on black, every combination of shape, scale, orientation, position.

A pixel is white where its centre lies inside the shape. The outlines below were found from the published
images; how far ours agree with those is measured by ``tests/domains/digits/test_dsprites.py``.

Called by ``fetch`` for a manifest whose source is ``generate: {command: sciencevae.builtin.digits.dsprites}``.

Reference: Matthey, Higgins, Hassabis & Lerchner (2017), dSprites: disentanglement testing sprites dataset.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sciencevae.data.generate import chosen_parameters
from sciencevae.errors import InputError, did_you_mean

__all__ = ["DEFAULTS", "FACTORS", "SHAPES", "VERSION", "generate", "render"]

VERSION: int = 1
"""Raised whenever the same parameters would give other images."""

DEFAULTS: dict[str, Any] = {"shapes": 3, "scales": 6, "orientations": 10, "x": 16, "y": 16, "size": 64}

SHAPES = ("square", "ellipse", "heart")

FACTORS: dict[str, tuple[str, str, NDArray[np.float64]]] = {
    # parameter: (name in the file, unit, values of the original grid)
    "shapes": ("shape", "1", np.arange(1.0, 4.0)),
    "scales": ("scale", "1", np.linspace(0.5, 1, 6)),
    "orientations": ("orientation", "rad", np.linspace(0, 2 * np.pi, 40)),  # first and last are one picture
    "x": ("position_x", "1", np.linspace(0, 1, 32)),
    "y": ("position_y", "1", np.linspace(0, 1, 32)),
}

# lengths in sides of the image, at scale 1
_SQUARE = 0.15  # half a side
_ELLIPSE = (0.1994, 0.1127)  # semi-axes; the original's outline is a polygon just inside (0.2, 0.1133)
_HEART = (0.15, 0.010345, 2.17)  # half width, unit of height, height of the centre in those units
_REACH = 0.2122  # no point of a shape is farther from its centre


def render(
    shape: str, scale: float, orientation: float, x: ArrayLike, y: ArrayLike, size: int = 64
) -> NDArray[np.uint8]:
    """Images of one shape, 0 or 1, at every combination of the positions x (X,) and y (Y,): (X, Y, size, size).

    The centre lies at (1/4 + x/2, 1/4 + y/2) of the image, y downwards. orientation: radians, counterclockwise
    as seen. Row and column of a pixel are the last two axes.
    """
    if shape not in SHAPES:
        raise InputError(f"unknown shape {shape!r}{did_you_mean(shape, SHAPES)}")
    x, y = (np.atleast_1d(np.asarray(each, dtype=np.float64)) for each in (x, y))
    count = min(size, int(2 * _REACH * scale * size) + 2)  # a window of this side holds the shape
    columns, across = _window(x, scale, size, count)
    rows, down = _window(y, scale, size, count)
    right, up = (
        across[:, None, None, :] / scale,
        -down[None, :, :, None] / scale,
    )  # (X, 1, 1, n), (1, Y, n, 1)
    cos, sin = np.cos(orientation), np.sin(orientation)
    white = _inside(shape, cos * right + sin * up, cos * up - sin * right)  # (X, Y, n, n)
    images = np.zeros((x.size, y.size, size, size), np.uint8)
    which_x, which_y = np.arange(x.size)[:, None, None, None], np.arange(y.size)[:, None, None]
    images[which_x, which_y, rows[:, :, None], columns[:, None, None, :]] = white
    return images


def _window(
    position: NDArray[np.float64], scale: float, size: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pixels around each position, and how far their centres lie from it: (P, count) each."""
    centre = 0.25 + 0.5 * position[:, None]
    first = np.clip(np.ceil((centre - _REACH * scale) * size - 0.5).astype(np.int64), 0, size - count)
    pixels = first + np.arange(count)
    return pixels, (pixels + 0.5) / size - centre


def _inside(shape: str, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points are in the shape at scale 1, upright: u to the right, v upwards."""
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) <= _SQUARE
    if shape == "ellipse":
        return np.square(u / _ELLIPSE[0]) + np.square(v / _ELLIPSE[1]) <= 1
    # outline (16 sin³t, 13 cos t − 5 cos 2t − 2 cos 3t − cos 4t): at one u its two heights belong to t and π − t,
    # so they are even ± odd, with the terms of even and of odd multiples of t
    half, unit, centre = _HEART
    sin = np.cbrt(np.minimum(np.abs(u) / half, 1))
    cos = np.sqrt(1 - sin * sin)
    cos2 = 2 * cos * cos - 1
    even, odd = 1 - 5 * cos2 - 2 * cos2 * cos2, cos * (19 - 8 * cos * cos)
    return (np.abs(u) <= half) & (np.abs(v / unit - centre - even) <= odd)


def generate(
    path: Path,
    parameters: Mapping[str, Any],
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the images of a grid of factors to ``path`` (HDF5). Nothing is random: ``seed`` changes nothing.

    ``parameters``: shapes (of 3), scales (of 6), orientations (of 40), x and y (of 32), each how many, taken
    in even steps from the first (10 orientations are every fourth), or a list of numbers counted from 0;
    shapes also by name. size: pixels in a row of the square image, 64 or fewer. What is absent has its value
    in DEFAULTS.

    Datasets, in C order of the factors as named above, n rows: images (n, size, size) uint8, 0 or 1;
    latents_classes (n, 5), numbers in the original grid; latents_values (n, 5), the factors themselves, with
    their names and units as attributes. Raises InputError for a grid that is none.
    """
    given = chosen_parameters("dSprites", parameters, DEFAULTS)
    size = given["size"]
    if not (isinstance(size, int) and 8 <= size <= 64):
        raise InputError(f"size is a whole number of pixels, 8 to 64; found {size!r}")
    chosen = {key: _classes(key, given[key]) for key in FACTORS}
    classes = np.array(list(product(*chosen.values())), dtype=np.int64)  # (n, 5)
    values = np.stack(
        [grid[column] for (_, _, grid), column in zip(FACTORS.values(), classes.T, strict=True)], 1
    )
    pictures = list(product(*(chosen[key] for key in ("shapes", "scales", "orientations"))))
    x, y = (FACTORS[key][2][chosen[key]] for key in ("x", "y"))
    block, names = x.size * y.size, [name for name, _, _ in FACTORS.values()]
    with h5py.File(path, "w") as file:
        chunks = (min(len(classes), 2**20 // size**2), size, size)
        images = file.create_dataset(
            "images", (len(classes), size, size), "u1", chunks=chunks, compression="gzip", compression_opts=1
        )
        images.attrs.update(units="1", long_name="0 black, 1 white; sample, row, column")
        for done, (shape, scale, orientation) in enumerate(pictures):
            images[done * block : (done + 1) * block] = render(
                SHAPES[shape],
                FACTORS["scales"][2][scale],
                FACTORS["orientations"][2][orientation],
                x,
                y,
                size,
            ).reshape(block, size, size)
            if progress is not None:
                progress(done + 1, len(pictures))
        units = [unit for _, unit, _ in FACTORS.values()]
        for name, table, meaning, unit in (
            (
                "latents_classes",
                classes,
                "factors as numbers in the original grid, from 0",
                ["1"] * len(units),
            ),
            ("latents_values", values, "factors that made the image", units),
        ):
            file.create_dataset(name, data=table, compression="gzip")
            file[name].attrs.update(names=names, units=unit, long_name=meaning)
        file.attrs.update(
            title="Sprites: a square, an ellipse or a heart, of known scale, orientation and position",
            shapes=SHAPES,
            version=VERSION,
            parameters=json.dumps({**chosen, "size": size}),
        )


def _classes(key: str, wanted: Any) -> list[int]:
    """Numbers in the original grid: from a count, in even steps from 0, or from a list."""
    total = FACTORS[key][2].size
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        if wanted < 1 or total % wanted:
            counts = ", ".join(str(n) for n in range(1, total + 1) if total % n == 0)
            raise InputError(f"{key}: a number of them is one of {counts}, or give a list; found {wanted}")
        return list(range(0, total, total // wanted))
    known = {name: number for number, name in enumerate(SHAPES)} if key == "shapes" else {}
    listed = wanted if isinstance(wanted, list | tuple) else []
    found: list[Any] = [known.get(each, each) if isinstance(each, str) else each for each in listed]
    if not found or any(type(each) is not int or not 0 <= each < total for each in found):
        raise InputError(
            f"{key}: expected a count or a list of numbers from 0 to {total - 1}; found {wanted!r}"
        )
    if len(set(found)) < len(found):
        raise InputError(f"{key}: {wanted!r} names one twice")
    return found
