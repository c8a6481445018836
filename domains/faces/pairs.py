"""Two pictures each of many people: drawn, or of the London set."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sciencevae.errors import InputError

from .photos import open_photo
from .simulate import EYES

__all__ = ["Pair", "drawn", "london", "read_template"]


@dataclass(frozen=True)
class Pair:
    """Two photos of one person, (H, W, 3) float32 from 0 to 1, and where things are in them, (row, column).

    eyes: the middles of the left and of the right eye, (2, 2, 2), first those of the neutral photo. landmarks: of
    the neutral one, (K, 2), NaN where they are not known. known: what is known of the person. truth: of drawn
    people the field (2, H, W) that the smile was made by, in pixels of the photo.
    """

    person: str
    neutral: np.ndarray
    smiling: np.ndarray
    eyes: np.ndarray
    landmarks: np.ndarray
    known: Mapping[str, Any] = field(default_factory=dict)
    truth: np.ndarray | None = None


def drawn(path: Path) -> Iterator[Pair]:
    """What ``simulate`` has written."""
    with h5py.File(path) as file:
        for number in range(len(file["images"])):
            neutral, smiling = file["images"][number] / np.float32(255)
            known = {"amount": float(file["amount"][number])}
            points, truth = file["landmarks"][number].astype(float), file["displacement"][number]
            yield Pair(f"drawn-{number:04d}", neutral, smiling, _both(points), points, known, truth)


def london(files: Mapping[str, Path]) -> Iterator[Pair]:
    """The London set, whose templates begin with the eyes, too."""
    with files["london_info.csv"].open() as table:
        people = list(csv.DictReader(table))
    for row in people:
        person = row["face_id"]
        neutral, smiling = (open_photo(files[f"{person}_{ending}.jpg"]) for ending in ("03", "08"))
        known = {
            "age": float("nan" if row["face_age"] == "NA" else row["face_age"]),
            "sex": row["face_gender"],
        }
        points = read_template(files[f"{person}_03.tem"])
        yield Pair(person, neutral, smiling, _both(points), points, known)


def _both(points: np.ndarray) -> np.ndarray:
    """The eyes of both photos, where the camera has not moved between them."""
    return np.stack([points[list(EYES)]] * 2)


def read_template(path: Path) -> np.ndarray:
    """The points of a template of Psychomorph (.tem), (K, 2), row and column: their number, then x and y of each.

    Raises InputError for a file that is none.
    """
    try:
        lines = path.read_text().split("\n")
        count = int(lines[0])
        points = np.array([[float(number) for number in line.split()[:2]] for line in lines[1 : 1 + count]])
        if points.shape != (count, 2) or count < 2:
            raise ValueError(f"{count} points are announced")
        if not np.isfinite(points).all():
            raise ValueError("a point is not finite")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no template of landmarks (.tem): {error}") from error
    return points[:, ::-1]
