"""Photographs: read, and the face in them found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sciencevae.data.pictures import open_picture
from sciencevae.errors import InputError

from .frame import after, crop, eye_frame, register

__all__ = [
    "LIKE",
    "check_size",
    "find_frame",
    "given_eyes",
    "likely_frames",
    "middle",
    "open_photo",
    "save_photo",
    "saved_as",
]

#: where a detector's square has the eyes, in shares of it: rows, columns of the left and of the right one
_IN_SQUARE = np.array([[0.378, 0.314], [0.378, 0.679]])
#: pixels of the longer side at which faces are looked for, and the least side of a face there
_LOOKED_AT, _SMALLEST = 400, 40
#: of the squares that a detector takes for faces so many are compared with the mean face
_TRIED = 5
#: how far a face has to be like the mean face, once it lies alike
LIKE = 0.5
_REMEDY = (
    "give a picture of one face from the front, or say where its eyes are (--eyes X,Y,X,Y; of a table of pictures "
    "the column eyes)"
)
_SAVED = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}


def open_photo(path: Path) -> np.ndarray:
    """A picture (H, W, 3), float32 from 0 to 1, as of ``open_picture``."""
    return open_picture(path) / np.float32(255)


def saved_as(path: Path) -> str:
    """The format that a picture's ending names; InputError where that is none that is written."""
    kind = _SAVED.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: a picture ends in {', '.join(_SAVED)}")
    return kind


def save_photo(photo: np.ndarray, path: Path, source: Path) -> None:
    """Write a picture (H, W, 3), 0 to 1, whole or not at all, as its ending says, in the colours of its source.

    Those of a source that was not red, green and blue have been converted, and its profile is no longer theirs.
    """
    from PIL import Image

    from sciencevae.data.atomic import atomic_path

    kind = saved_as(path)
    quality = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    with Image.open(source) as original:
        profile = original.info.get("icc_profile") if original.mode in ("RGB", "RGBA") else None
    with atomic_path(path) as partial:
        made = Image.fromarray(np.round(255 * np.clip(photo, 0, 1)).astype(np.uint8))
        made.save(partial, kind, icc_profile=profile, **quality)


def find_frame(
    photo: np.ndarray, mean_face: np.ndarray, name: str, eyes: Sequence[float] | None = None
) -> np.ndarray:
    """The frame (2, 3) of the face in a photo: the map of its pixels to the photo's.

    Of the places where faces may be (``likely_frames``) it is the one from which a similarity brings the picture
    nearest to the ``mean_face`` (S, S). eyes: as ``given_eyes`` takes them; then nothing is looked for.

    Raises InputError where there is no face, or one whose eyes are nearer than in the frame by more than half.
    """
    size = len(mean_face)
    if eyes is not None:
        frame = eye_frame(given_eyes(photo, eyes, name), size)
        check_size(frame, size, name)
        return frame
    frames = likely_frames(photo, size, name)
    seen = [crop(photo, frame, size).mean(2) for frame in frames]
    moves, likeness = register(seen, [mean_face] * len(seen), middle(size))
    if likeness.max() < LIKE:
        raise InputError(
            f"what looks like a face in {name} is too unlike the faces that the model knows (correlation "
            f"{likeness.max():.2f}): {_REMEDY}"
        )
    found = after(frames[int(likeness.argmax())], moves[int(likeness.argmax())])
    check_size(found, size, name)
    return found


def given_eyes(photo: np.ndarray, eyes: Sequence[float], name: str) -> np.ndarray:
    """The middles of the pupils (2, 2), row and column, from x, y of the one at the left and x, y of the other."""
    places = np.array(eyes, float).reshape(2, 2)[:, ::-1]
    if not ((places >= 0) & (places < photo.shape[:2])).all() or places[0, 1] >= places[1, 1]:
        raise InputError(
            f"the eyes of {name}: x, y of the eye at the left of the picture, then of the other, within its "
            f"{photo.shape[1]} × {photo.shape[0]} pixels"
        )
    return places


def likely_frames(photo: np.ndarray, size: int, name: str) -> list[np.ndarray]:
    """Frames (2, 3) of what a detector (local binary patterns, scikit-image's) takes for faces, the largest first.

    Raises InputError where it finds none, or one that is too small.
    """
    squares = _squares(photo)
    if not squares:
        raise InputError(f"no face was found in {name}: {_REMEDY}")
    frames = [eye_frame(np.array(corner) + side * _IN_SQUARE, size) for *corner, side in squares]
    check_size(frames[0], size, name)
    return frames


def middle(size: int) -> np.ndarray:
    """What is compared with a mean face: all but the edges, (S, S)."""
    weight = np.zeros((size, size))
    inside = slice(round(0.1 * size), round(0.9 * size))
    weight[inside, inside] = 1
    return weight


def check_size(frame: np.ndarray, size: int, name: str) -> None:
    """InputError for a face whose eyes are nearer in the photo than in the frame by more than half."""
    scale = np.sqrt(np.linalg.det(frame[:, :2]))  # pixels of the photo to one of the frame
    if scale < 0.5:
        raise InputError(
            f"the face in {name} is too small: {0.375 * size * scale:.0f} pixels from eye to eye, and "
            f"{0.1875 * size:.0f} are needed"
        )


def _squares(photo: np.ndarray) -> list[tuple[float, float, float]]:
    """Row and column of the corner, and the side, of what the detector takes for faces, the largest first."""
    from PIL import Image

    try:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade
    except ImportError as error:
        raise InputError(
            "scikit-image finds faces: pip install 'sciencevae[faces]'; or say where the eyes are "
            "(--eyes X,Y,X,Y; of a table of pictures the column eyes)"
        ) from error
    height, width = photo.shape[:2]
    scale = min(1.0, _LOOKED_AT / max(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    if min(small) < _SMALLEST:
        return []
    picture = np.asarray(Image.fromarray(np.round(255 * photo).astype(np.uint8)).resize(small))
    found = Cascade(lbp_frontal_face_cascade_filename()).detect_multi_scale(
        picture,
        scale_factor=1.1,
        step_ratio=1,
        min_size=(_SMALLEST, _SMALLEST),
        max_size=(min(small), min(small)),
    )
    found.sort(key=lambda square: -square["width"])
    return [(square["r"] / scale, square["c"] / scale, square["width"] / scale) for square in found[:_TRIED]]
