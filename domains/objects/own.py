"""A user's own pictures of a table, with labels in a CSV or a COCO file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sciencevae.data.foreign import parsing
from sciencevae.data.pictures import leads_out, open_picture
from sciencevae.data.tables import open_table, text_rows
from sciencevae.errors import InputError, did_you_mean

from .scenes import SIZE
from .world import World

__all__ = ["Label", "own_files", "own_labels", "own_picture"]

_COLUMNS = ("file", "x", "y", "column", "row", "heading", "kind")


@dataclass(frozen=True)
class Label:
    """A picture's file, and what is known of the object in it.

    place: its position on the table, (x, y) in millimetres; or ``pixel``, (column, row) in the picture as it is to
    be seen, upright, the middle of the first one being 0.5. heading in radians; or ``tip``, the pixel of a point
    that it points at. boxed: the pixel is the middle of a box about it. NaN or None where nothing is said, kind "".
    """

    file: Path
    place: tuple[float, float] | None = None
    pixel: tuple[float, float] | None = None
    heading: float = math.nan
    kind: str = ""
    tip: tuple[float, float] | None = None
    boxed: bool = False


def own_files(path: Path) -> list[Path]:
    """The pictures that labels name."""
    return [label.file for label in own_labels(path)]


def own_labels(path: Path) -> list[Label]:
    """The labels of a ``.csv`` or of a COCO ``.json``; files are named relative to it.

    CSV: a column file; where they are known x and y (mm), or column and row (pixels, the middle of the first one is
    0.5); heading (degrees, from x towards y); kind. COCO: a picture's one annotation, its category the kind; the
    first two keypoints are the object's origin and a point that it points at (whole numbers from 0, as COCO has
    them, are middles of pixels); without them the middle of the box is that of the solid.

    Raises InputError for a file that is neither, names an unknown column, no picture, or one twice.
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
        if label.file in seen:
            raise InputError(f"{path} names {label.file.name} twice: a picture has one object and one label")
        seen.add(label.file)
    return found


def _csv(path: Path) -> list[Label]:
    table = open_table(path, missing=())
    named = {str(name).strip(): name for name in table.names}
    if "file" not in named:
        raise InputError(f"{path} has no column 'file'; found {', '.join(named)}")
    for column in named:
        if column not in _COLUMNS:
            raise InputError(f"{path}: unknown column {column!r}{did_you_mean(column, _COLUMNS)}")
    for one, other in (("x", "y"), ("column", "row")):
        if (one in named) != (other in named):
            raise InputError(f"{path}: columns {one!r} and {other!r} go together, and one of them is missing")
    rows = text_rows(table, list(named.values()))
    return [
        _label(path, number, dict(zip(named, row.values(), strict=True)))
        for number, row in enumerate(rows, 2)
    ]


def _label(path: Path, number: int, row: Mapping[str, str]) -> Label:
    values = {name: _number(path, number, name, row.get(name, "")) for name in _COLUMNS[1:-1]}
    place, pixel = (values["x"], values["y"]), (values["column"], values["row"])
    for pair, names in ((place, "x and y"), (pixel, "column and row")):
        if math.isnan(pair[0]) != math.isnan(pair[1]):
            raise InputError(f"{path}, line {number}: of {names} one is missing")
    if not row["file"]:
        raise InputError(f"{path}, line {number}: no file is named")
    return Label(
        _within(path, row["file"]),
        None if math.isnan(place[0]) else place,
        None if math.isnan(pixel[0]) else pixel,
        math.radians(values["heading"]),
        row.get("kind", ""),
    )


def _within(path: Path, name: str) -> Path:
    if leads_out(name):
        raise InputError(f"{path}: {name} is not within the folder of the labels: move it there")
    return path.parent / name


def _number(path: Path, line: int, name: str, text: str) -> float:
    if text.lower() in ("", "nan"):
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
        if len(images) < len(content["images"]):
            raise InputError(f"{path}: two of its images have the same id: give each one of its own")
        kinds = {entry["id"]: str(entry["name"]) for entry in content.get("categories", [])}
        notes: dict[Any, Mapping[str, Any]] = {}
        for note in content.get("annotations", []):
            key = note["image_id"]
            if key not in images:
                raise InputError(f"{path}: an annotation is of image {key!r}, which is not listed: list it")
            if key in notes:
                raise InputError(
                    f"{path}: {images[key]} has two annotations, and one object is looked for: keep the one "
                    "whose pose is asked"
                )
            notes[key] = note
        return [_annotated(_within(path, file), notes.get(key), kinds) for key, file in images.items()]


def _annotated(file: Path, note: Mapping[str, Any] | None, kinds: Mapping[Any, str]) -> Label:
    if note is None:
        return Label(file)
    kind = kinds.get(note.get("category_id"), "")
    # COCO counts pixels from 0: their middles lie half a pixel further
    points = [
        (float(x) + 0.5, float(y) + 0.5) if seen > 0 else None
        for x, y, seen in np.array(note.get("keypoints") or [], float).reshape(-1, 3)
    ][:2]
    if points and points[0] is not None:
        tip = points[1] if len(points) > 1 else None
        if tip == points[0]:
            raise InputError(
                f"{file.name}: its keypoints are one place, which is no heading: move one of them"
            )
        return Label(file, pixel=points[0], kind=kind, tip=tip)
    left, top, wide, high = map(float, note.get("bbox") or [math.nan] * 4)
    if not (wide >= 0 and high >= 0):
        raise InputError(
            f"{file.name}: its annotation has neither a first keypoint that is seen nor a box: add one"
        )
    return Label(file, pixel=(left + wide / 2, top + high / 2), kind=kind, boxed=True)


def own_picture(label: Label, own: World) -> tuple[np.ndarray, np.ndarray, float]:
    """The picture (SIZE, SIZE, 3) uint8, cut to its middle square and shrunk; the position (2,) in mm; the heading.

    Pixels become millimetres as the camera sees the table; the middle of a box as it sees what is as high as the
    middle of the solid. NaN where it is not known.

    Raises InputError for a picture that is none, is smaller than SIZE, or whose label lies outside or is of an
    unknown kind.
    """
    from PIL import Image

    name = label.file.name
    if label.kind and label.kind not in own.kinds:
        raise InputError(
            f"{name} is of kind {label.kind!r}, and the simulation has {', '.join(own.kinds)}"
            f"{did_you_mean(label.kind, own.kinds)}"
        )
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
        place = np.array(label.place)
        _seen(own.camera.project(np.r_[place, 0.0][None])[0, :2], label, side)
        return small, _within_reach(place, label, own), label.heading
    if label.pixel is None:
        return small, np.full(2, np.nan), label.heading
    points = (np.array([label.pixel, label.tip or label.pixel], float) - corner) * (SIZE / side)
    _seen(points[0], label, side)
    height = 0.0
    if label.boxed:
        if not label.kind:
            raise InputError(
                f"{name} has a box and no kind, of which the height is asked: add its category, or keypoints"
            )
        height = float(own.solids[label.kind][0][:, 2].max()) / 2
    place, tip = own.camera.on_table(points, height=height)
    heading = label.heading if label.tip is None else math.atan2(*(tip - place)[::-1])
    return small, _within_reach(place, label, own), heading


def _within_reach(place: np.ndarray, label: Label, own: World) -> np.ndarray:
    """The place; InputError where the simulation has nothing so far from the middle, some way beyond its reach."""
    if not (abs(place) <= 1.2 * own.reach).all():
        raise InputError(
            f"{label.file}: the object is at {place[0]:.4g}, {place[1]:.4g} mm, and simulated ones lie within "
            f"± {own.reach:g}: raise source.setup.reach"
        )
    return place


def _seen(pixel: np.ndarray, label: Label, side: int) -> None:
    """InputError where a place lies outside of the middle square, of which the pixel of SIZE is given."""
    if not ((pixel >= 0) & (pixel <= SIZE)).all():
        given, unit = (label.pixel, "pixels") if label.place is None else (label.place, "mm")
        assert given is not None
        raise InputError(
            f"{label.file}: the label lies at {given[0]:g}, {given[1]:g} {unit}, outside of the middle square of "
            f"{side} pixels that is looked at: cut the picture around the table"
        )
