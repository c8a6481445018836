"""A user's own pictures of a table, with labels in a CSV or a COCO file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sciencevae.data.foreign import parsing
from sciencevae.data.pictures import leads_out, open_picture
from sciencevae.errors import InputError, did_you_mean

from .scenes import SIZE, Camera

__all__ = ["Label", "own_labels", "own_picture"]

_COLUMNS = ("file", "x", "y", "column", "row", "heading", "kind")


@dataclass(frozen=True)
class Label:
    """A picture's file, and what is known of the object in it.

    place: its position on the table, (x, y) in millimetres; or ``pixel``, (column, row) in the picture as it is in
    the file. heading in radians. NaN or None where nothing is said, kind "".
    """

    file: Path
    place: tuple[float, float] | None = None
    pixel: tuple[float, float] | None = None
    heading: float = math.nan
    kind: str = ""
    tip: tuple[float, float] | None = None


def own_labels(path: Path, kinds: Sequence[str]) -> list[Label]:
    """The labels of a ``.csv`` or of a COCO ``.json``; files are named relative to it.

    CSV: a column file; where they are known x and y (mm), or column and row (pixels, the middle of the first one is
    0.5); heading (degrees, from x towards y); kind. COCO: a picture's one annotation, its category the kind; the
    first two keypoints are the object's origin and a point that it points at; without them the middle of the box is
    taken for the origin, whose heading is not known.

    kinds: what the simulation has.

    Raises InputError for a file that is neither, names an unknown column or kind, no picture, or one twice.
    """
    if path.suffix.lower() == ".json":
        found = _coco(path)
    elif path.suffix.lower() == ".csv":
        found = _csv(path)
    else:
        raise InputError(f"{path}: labels of pictures end in .csv, or in .json as COCO has them")
    if not found:
        raise InputError(f"{path} names no picture")
    seen: set[Path] = set()
    for label in found:
        if label.kind and label.kind not in kinds:
            raise InputError(
                f"{path}: {label.file.name} is of kind {label.kind!r}, and the simulation has "
                f"{', '.join(kinds)}{did_you_mean(label.kind, kinds)}"
            )
        if label.file in seen:
            raise InputError(f"{path} names {label.file.name} twice: a picture has one object and one label")
        seen.add(label.file)
    return found


def _csv(path: Path) -> list[Label]:
    with parsing(path, "CSV"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    if "file" not in table:
        raise InputError(f"{path} has no column 'file'; found {', '.join(map(str, table.columns))}")
    for column in table.columns:
        if column not in _COLUMNS:
            raise InputError(f"{path}: unknown column {column!r}{did_you_mean(column, _COLUMNS)}")
    for one, other in (("x", "y"), ("column", "row")):
        if (one in table) != (other in table):
            raise InputError(f"{path}: columns {one!r} and {other!r} go together, and one of them is missing")
    found = []
    for number, row in enumerate(table.to_dict("records"), 2):
        values = {name: _number(path, number, name, row.get(name, "")) for name in _COLUMNS[1:-1]}
        place, pixel = (values["x"], values["y"]), (values["column"], values["row"])
        for pair, names in ((place, "x and y"), (pixel, "column and row")):
            if math.isnan(pair[0]) != math.isnan(pair[1]):
                raise InputError(f"{path}, line {number}: of {names} one is missing")
        if not row["file"]:
            raise InputError(f"{path}, line {number}: no file is named")
        found.append(
            Label(
                _within(path, row["file"]),
                None if math.isnan(place[0]) else place,
                None if math.isnan(pixel[0]) else pixel,
                math.radians(values["heading"]),
                row.get("kind", ""),
            )
        )
    return found


def _within(path: Path, name: str) -> Path:
    if leads_out(name):
        raise InputError(f"{path}: {name} is not within the folder of the labels: move it there")
    return path.parent / name


def _number(path: Path, line: int, name: str, text: str) -> float:
    if text.strip().lower() in ("", "nan"):
        return math.nan
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{path}, line {line}: {name} is {text!r}, and is to be a number") from error
    if not math.isfinite(value):
        raise InputError(f"{path}, line {line}: {name} is {text!r}, and is to be finite")
    return value


def _coco(path: Path) -> list[Label]:
    with parsing(path, "COCO"):
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        images = {image["id"]: str(image["file_name"]) for image in content["images"]}
        kinds = {entry["id"]: str(entry["name"]) for entry in content.get("categories", [])}
        notes: dict[Any, Mapping[str, Any]] = {}
        for note in content.get("annotations", []):
            if note["image_id"] in notes:
                raise InputError(
                    f"{path}: {images.get(note['image_id'])} has two annotations, and one object is looked for: "
                    "keep the one whose pose is asked"
                )
            notes[note["image_id"]] = note
        return [_annotated(_within(path, file), notes.get(key), kinds) for key, file in images.items()]


def _annotated(file: Path, note: Mapping[str, Any] | None, kinds: Mapping[Any, str]) -> Label:
    if note is None:
        return Label(file)
    kind = kinds.get(note.get("category_id"), "")
    points = np.array(note.get("keypoints", []), float).reshape(-1, 3)
    if len(points) > 1 and (points[:2, 2] > 0).all():
        return Label(file, pixel=tuple(points[0, :2]), kind=kind, tip=tuple(points[1, :2]))
    left, top, wide, high = map(float, note["bbox"])
    return Label(file, pixel=(left + wide / 2, top + high / 2), kind=kind)


def own_picture(label: Label, camera: Camera) -> tuple[np.ndarray, np.ndarray, float]:
    """The picture (SIZE, SIZE, 3) uint8, cut to its middle square and shrunk; the position (2,) in mm; the heading.

    Pixels become millimetres as the camera sees the table. NaN where it is not known.

    Raises InputError for a picture that is none, is smaller than SIZE, or whose label lies outside.
    """
    from PIL import Image

    picture = open_picture(label.file)
    high, wide = picture.shape[:2]
    side = min(high, wide)
    if side < SIZE:
        raise InputError(
            f"{label.file} has {wide} × {high} pixels, and {SIZE} × {SIZE} are needed: take a larger one"
        )
    corner = np.array([(wide - side) // 2, (high - side) // 2])
    square = picture[corner[1] : corner[1] + side, corner[0] : corner[0] + side]
    small = np.asarray(Image.fromarray(square).resize((SIZE, SIZE), Image.Resampling.BOX))
    if label.place is not None:
        return small, np.array(label.place), label.heading
    if label.pixel is None:
        return small, np.full(2, np.nan), label.heading
    points = np.array([label.pixel, label.tip or label.pixel], float)
    seen = (points - corner) * (SIZE / side)
    if not ((seen[0] >= 0) & (seen[0] <= SIZE)).all():
        raise InputError(
            f"{label.file}: the label lies at {label.pixel[0]:g}, {label.pixel[1]:g}, outside of the middle "
            f"square of {side} pixels that is looked at: cut the picture around the table"
        )
    place, tip = camera.on_table(seen)
    heading = label.heading if label.tip is None else math.atan2(*(tip - place)[::-1])
    return small, place, heading
