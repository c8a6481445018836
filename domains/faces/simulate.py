"""Drawn faces: a neutral and a smiling picture of each of many people, and the field that leads to the smile.

    python -m sciencevae.builtin.faces.simulate faces.h5 --people 100

Called by ``fetch`` for a manifest whose source is ``generate: {command: sciencevae.builtin.faces.simulate}``. No
one is pictured: shapes, colours and texture are drawn from distributions, and the smile is a known smooth
deformation, so that what a model finds can be compared with the truth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from sciencevae.data.generate import chosen_parameters
from sciencevae.errors import InputError

__all__ = ["DEFAULTS", "EYES", "LANDMARKS", "VERSION", "generate"]

VERSION: int = 1
"""Raised whenever the same parameters and seed would give other pictures."""

DEFAULTS: dict[str, Any] = {"people": 100, "size": 160, "noise": 0.01, "motion": 1.0}

#: names of the points that are marked, in order; "left" is at the left of the picture
LANDMARKS = (
    "left eye", "right eye", "left eye outside", "left eye inside", "right eye inside", "right eye outside",
    "left brow outside", "left brow inside", "right brow inside", "right brow outside", "nose", "left nostril",
    "right nostril", "mouth left", "mouth right", "upper lip", "lower lip", "mouth middle", "chin", "left jaw",
    "right jaw",
)  # fmt: skip
#: the two of them that a face is aligned by
EYES = (0, 1)
_SKIN = np.array([[0.96, 0.82, 0.72], [0.88, 0.68, 0.54], [0.72, 0.52, 0.38], [0.45, 0.30, 0.22]])
_HAIR = np.array([[0.10, 0.08, 0.07], [0.30, 0.18, 0.10], [0.62, 0.45, 0.25], [0.45, 0.42, 0.40]])


def generate(
    path: Path, parameters: Mapping[str, Any], seed: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write pictures of drawn people to ``path`` (HDF5).

    ``parameters``: people; size, of a picture in pixels; noise, standard deviation of each pixel (white is 1);
    motion, of the head between the two pictures, in times of what is usual (a roll of 1°, shifts of 1 % of the
    picture). The same parameters and seed give the same file contents.

    Datasets: images (people, 2, size, size, 3) uint8, neutral and smiling; landmarks (people, K, 2), row and
    column of the points of ``LANDMARKS`` in the neutral picture; displacement (people, 2, size, size), row and
    column, where a smiling pixel was in the neutral picture if the head had not moved, in pixels; amount
    (people,), how much they smile.
    """
    chosen = chosen_parameters("faces", parameters, DEFAULTS)
    people, size = int(chosen["people"]), int(chosen["size"])
    if people < 1 or not 64 <= size <= 1024 or chosen["noise"] < 0 or chosen["motion"] < 0:
        raise InputError(f"people ≥ 1, size from 64 to 1024, noise and motion ≥ 0; found {chosen}")
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (people, 2, size, size, 3), "u1", chunks=(1, 2, size, size, 3))
        images.attrs.update(units="1", long_name="picture, red green blue, 0 to 255; neutral, smiling")
        landmarks = np.empty((people, len(LANDMARKS), 2), np.float32)
        field = file.create_dataset("displacement", (people, 2, size, size), "f4", chunks=(1, 2, size, size))
        field.attrs.update(units="pixel", long_name="where a smiling pixel was, less where it is")
        amounts = np.empty(people, np.float32)
        # each person has a generator of their own: more people leave the others as they are
        for person, own in enumerate(np.random.SeedSequence(seed).spawn(people)):
            random = np.random.default_rng(own)
            images[person], landmarks[person], field[person], amounts[person] = _pair(random, size, chosen)
            if progress:
                progress(person + 1, people)
        file["landmarks"], file["amount"] = landmarks, amounts
        file["landmarks"].attrs.update(units="pixel", long_name="row and column", names=json.dumps(LANDMARKS))
        file["amount"].attrs.update(units="1", long_name="how much of a smile")
        file.attrs.update(
            title="drawn faces",
            seed=seed,
            version=VERSION,
            parameters=json.dumps(chosen),
            numpy=np.__version__,
        )


def _pair(
    random: np.random.Generator, size: int, chosen: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Both pictures of one person, the landmarks, the field and its amount."""
    head = _Head(random)
    neutral = head.drawn(size)
    amount = float(random.uniform(0.4, 1.2))
    field = amount * head.smile(size)
    rows, columns = np.mgrid[:size, :size].astype(float)

    def seen(at: np.ndarray) -> np.ndarray:
        """The neutral face at these places (2, size, size), in other light, with the noise of a sensor."""
        moved = np.stack(
            [map_coordinates(neutral[..., c], at, order=1, mode="nearest") for c in range(3)], -1
        )
        moved *= random.normal(1.0, 0.02) * (1 + random.normal(0, 0.02) * (columns / size - 0.5))[..., None]
        return np.clip(moved + chosen["noise"] * random.standard_normal(moved.shape), 0, 1)

    still = np.stack([rows, columns])
    # the head has moved when the second picture is taken: where a pixel is now, in the coordinates of the first
    turn, tip = (
        random.normal(0, np.radians(1.0) * chosen["motion"]),
        random.normal(0, 0.01 * chosen["motion"], 2),
    )
    middle = (size - 1) / 2
    y, x = rows - middle, columns - middle
    before = np.stack([np.cos(turn) * y - np.sin(turn) * x, np.sin(turn) * y + np.cos(turn) * x])
    before += middle + size * tip[:, None, None]
    smiled = before + np.stack([map_coordinates(part, before, order=1, mode="nearest") for part in field])
    pictures = np.stack([seen(still), seen(smiled)])
    return np.round(255 * pictures).astype(np.uint8), head.landmarks * (size - 1), field, amount


class _Head:
    """The shape and colours of one person; places are shares of the picture, row and column."""

    def __init__(self, random: np.random.Generator) -> None:
        def about(mean: float, spread: float) -> float:
            return mean + spread * float(np.clip(random.standard_normal(), -2.5, 2.5))

        self.middle, self.eyes, self.apart = about(0.5, 0.015), about(0.42, 0.012), about(0.115, 0.006)
        self.mouth, self.width, self.lips = about(0.665, 0.018), about(0.085, 0.008), about(0.018, 0.004)
        self.nose, self.chin, self.cheeks = about(0.555, 0.014), about(0.80, 0.02), about(0.245, 0.015)
        self.brow, self.eye, self.top = about(0.062, 0.008), about(0.040, 0.003), about(0.20, 0.02)
        tone = random.uniform(0, len(_SKIN) - 1)
        self.skin = np.array([np.interp(tone, range(len(_SKIN)), _SKIN[:, c]) for c in range(3)])
        self.hair = _HAIR[random.integers(len(_HAIR))] * random.uniform(0.7, 1.3)
        self.iris = np.array([[0.25, 0.45, 0.6], [0.3, 0.2, 0.1], [0.35, 0.45, 0.3]])[random.integers(3)]
        self.lip = 0.75 * self.skin * np.array([1.05, 0.75, 0.75])
        self.light, self.wall = random.normal(0, 0.15), random.uniform(0.55, 0.9)
        self.random = random

    @property
    def landmarks(self) -> np.ndarray:
        """The points of ``LANDMARKS``, (K, 2)."""
        m, e, a, mo = self.middle, self.eyes, self.apart, self.mouth
        left, right = m - a, m + a
        return np.array([
            (e, left), (e, right), (e, left - self.eye), (e, left + self.eye), (e, right - self.eye),
            (e, right + self.eye), (e - self.brow, left - 0.05), (e - self.brow - 0.008, left + 0.04),
            (e - self.brow - 0.008, right - 0.04), (e - self.brow, right + 0.05), (self.nose, m),
            (self.nose + 0.01, m - 0.035), (self.nose + 0.01, m + 0.035), (mo, m - self.width),
            (mo, m + self.width), (mo - self.lips, m), (mo + self.lips, m), (mo, m), (self.chin, m),
            (mo, m - 0.88 * self.cheeks), (mo, m + 0.88 * self.cheeks),
        ])  # fmt: skip

    def drawn(self, size: int) -> np.ndarray:
        """The neutral face, (size, size, 3), drawn twice as large and reduced."""
        fine = 2 * size
        y, x = (np.mgrid[:fine, :fine] + 0.5) / fine
        m, e, a = self.middle, self.eyes, self.apart

        def over(
            picture: np.ndarray, colour: np.ndarray, inside: np.ndarray, soft: float = 0.004
        ) -> np.ndarray:
            """Colour where ``inside`` (a distance, negative within) is below 0, with a soft edge."""
            share = 1 / (1 + np.exp(np.clip(inside / soft, -50, 50)))
            return picture + share[..., None] * (colour - picture)

        def ellipse(row: float, column: float, high: float, wide: float) -> np.ndarray:
            far = np.hypot((y - row) / high, (x - column) / wide)
            return (far - 1) * min(high, wide)

        picture = np.full((fine, fine, 3), self.wall) * (1 - 0.1 * y)[..., None]
        picture = over(picture, self.hair, ellipse(0.40, m, 0.33, self.cheeks + 0.055))
        picture = over(picture, 0.8 * self.skin, np.maximum(np.abs(x - m) - 0.13, 0.6 - y))  # the neck
        tall = (self.chin - self.top) / 2
        texture = gaussian_filter(self.random.standard_normal((fine, fine)), 0.006 * fine)
        texture = (
            0.03 * texture / texture.std()
            + 0.02
            * gaussian_filter(self.random.standard_normal((fine, fine)), 0.03 * fine)
            * 0.03
            * fine
            * 3.5
        )
        shade = (
            1 - 0.35 * ((x - m) / self.cheeks) ** 2 + self.light * (x - m) / self.cheeks - 0.15 * (y - 0.5)
        )
        skin = self.skin * (shade + texture)[..., None]
        picture = over(picture, skin, ellipse(self.top + tall, m, tall, self.cheeks), 0.006)
        fringe = self.top + 0.05 + 0.15 * (x - m) ** 2 / self.cheeks**2
        inside = np.maximum(y - fringe, ellipse(self.top + tall, m, tall + 0.02, self.cheeks + 0.02))
        picture = over(picture, self.hair, inside, 0.006)
        for side in (-1, 1):
            c = m + side * a
            picture = over(picture, np.array([0.95, 0.95, 0.94]), ellipse(e, c, 0.5 * self.eye, self.eye))
            picture = over(picture, self.iris, ellipse(e, c, 0.017, 0.017))
            picture = over(picture, np.array([0.03, 0.03, 0.03]), ellipse(e, c, 0.008, 0.008), 0.002)
            lid = np.abs(ellipse(e, c, 0.5 * self.eye, self.eye)) - 0.003 + 10.0 * (y > e)
            picture = over(picture, 0.35 * self.skin, lid, 0.003)
            arch = e - self.brow - 0.01 + 2.5 * (x - c) ** 2
            brow = np.maximum(np.abs(y - arch) - 0.009, np.abs(x - c) - 0.052)
            picture = over(picture, 0.7 * self.hair + 0.1 * self.skin, brow)
            picture = over(
                picture, 0.5 * self.skin, ellipse(self.nose + 0.012, m + side * 0.02, 0.007, 0.011)
            )
        ridge = np.exp(-(((x - m) / 0.02) ** 2)) * (y > e - 0.02) * (y < self.nose) * 0.08
        picture = picture + ridge[..., None] * self.skin
        lips = ellipse(self.mouth, m, self.lips, self.width)
        picture = over(picture, self.lip, lips)
        line = np.maximum(np.abs(y - self.mouth) - 0.0025, np.abs(x - m) - 0.97 * self.width)
        picture = over(picture, 0.45 * self.lip, line, 0.002)
        fold = np.abs(np.hypot((y - self.chin) / 0.5, x - m) - 0.1) - 0.002 + 10.0 * (y > self.mouth + 0.08)
        picture = over(picture, 0.9 * self.skin, np.maximum(fold, self.mouth + 0.045 - y), 0.004)
        reduced = picture.reshape(size, 2, size, 2, 3).mean((1, 3))
        return np.clip(reduced, 0, 1)

    def smile(self, size: int) -> np.ndarray:
        """Where each pixel of a whole smile was in the neutral face, less where it is, (2, size, size), pixels."""
        y, x = np.mgrid[:size, :size] / (size - 1)
        field = np.zeros((2, size, size))

        def pull(row: float, column: float, up: float, out: float, wide: float) -> None:
            """What was at a place has moved by (−up, out): there the pixel comes from the opposite side."""
            near = np.exp(-((y - (row - up)) ** 2 + (x - (column + out)) ** 2) / (2 * wide**2))
            field[0] += up * near
            field[1] -= out * near

        for side in (-1, 1):
            corner = self.middle + side * self.width
            pull(self.mouth, corner, 0.030, side * 0.022, 0.040)  # the corners of the mouth, up and out
            pull(self.nose + 0.02, self.middle + side * 0.13, 0.016, side * 0.006, 0.045)  # the cheeks
            pull(self.eyes + 0.03, self.middle + side * self.apart, 0.006, 0.0, 0.025)  # the lower lids
        pull(self.mouth, self.middle, -0.006, 0.0, 0.035)
        return field * (size - 1)


def main(arguments: list[str] | None = None) -> None:
    """Write a file from the command line."""
    import argparse

    from sciencevae.data.generate import generate_file

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("path", type=Path, help="HDF5 file to write")
    parser.add_argument("--people", type=int, default=DEFAULTS["people"])
    parser.add_argument("--size", type=int, default=DEFAULTS["size"], help="of a picture, in pixels")
    parser.add_argument("--noise", type=float, default=DEFAULTS["noise"], help="of a pixel; white is 1")
    parser.add_argument("--motion", type=float, default=DEFAULTS["motion"], help="of the head; 1 is usual")
    parser.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args(arguments))
    path, seed = given.pop("path"), given.pop("seed")
    generate_file(generate, path, given, seed)


if __name__ == "__main__":
    main()
