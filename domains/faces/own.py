"""Pictures of your own: a table says whose they are and which of them smile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sciencevae.data.pictures import leads_out
from sciencevae.data.tables import open_table, text_rows
from sciencevae.errors import InputError

from .frame import after, crop, eye_frame, eyes_of, register
from .pairs import Pair, read_template
from .photos import LIKE, find_frame, given_eyes, likely_frames, middle, open_photo

__all__ = ["Picture", "listed", "own_files", "own_pair", "own_pairs", "paired"]

_COLUMNS = ("person", "expression", "file")
_EXPRESSIONS = {"neutral": 0, "smiling": 1, "0": 0, "1": 1}
#: side of the faces that are compared with their mean, and how often that is made anew
_SIDE, _ROUNDS = 64, 3


@dataclass(frozen=True)
class Picture:
    """One row of the table; ``problem`` says why it can't be used, as far as the table tells."""

    row: int
    person: str
    smiles: int
    file: Path
    landmarks: Path | None
    eyes: tuple[float, ...] | None
    problem: str = ""


def listed(path: Path) -> list[Picture]:
    """The rows of a table of pictures, in its order.

    Columns: person; expression, neutral or smiling (or 0, 1); file, relative to the table; and where they are known
    landmarks, a template (.tem) whose first two points are the eyes, and eyes, "X Y X Y" of the one at the left of
    the picture and of the other.

    Raises InputError for a table that lacks a column or has no rows.
    """
    table = open_table(path, missing=())
    if missing := [name for name in _COLUMNS if name not in table.names]:
        raise InputError(
            f"{path} has no column {missing[0]!r}: a table of pictures has person, expression (neutral or smiling) "
            "and file, and may have landmarks and eyes"
        )
    columns = [name for name in table.names if name in (*_COLUMNS, "landmarks", "eyes")]
    found: list[Picture] = []
    first: dict[tuple[str, int], int] = {}
    for texts in text_rows(table, columns):
        found.append(_picture(len(found), texts, path.parent, first))
        if not found[-1].problem:
            first[found[-1].person, found[-1].smiles] = len(found) - 1
    return found


def own_files(path: Path) -> list[Path]:
    """The files that a table of pictures names: these, and their landmarks."""
    found = [(picture.file, picture.landmarks) for picture in listed(path) if not picture.problem]
    return [file for both in found for file in both if file is not None]


def paired(pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures, of which those whose other one is lacking can't be used either."""
    known = {(picture.person, picture.smiles) for picture in pictures if not picture.problem}
    found = []
    for picture in pictures:
        if not picture.problem and (picture.person, 1 - picture.smiles) not in known:
            other = "neutral" if picture.smiles else "smiling"
            problem = f"person {picture.person!r} has no {other} picture that can be used: add one"
            picture = replace(picture, problem=problem)
        found.append(picture)
    return found


def _picture(number: int, row: dict[str, str], folder: Path, first: dict[tuple[str, int], int]) -> Picture:
    person, expression = row["person"], row["expression"].lower()
    file, points, eyes, problem = row["file"], row.get("landmarks", ""), None, ""
    smiles = _EXPRESSIONS.get(expression, -1)
    outside = [name for name in (file, points) if leads_out(name)]
    if not person or not file:
        problem = f"it has no {'file' if person else 'person'}: fill it in"
    elif smiles < 0:
        problem = f"the expression {row['expression']!r} is none: write neutral or smiling"
    elif outside:
        problem = f"{outside[0]} is not within the folder of the table: move it there"
    elif (person, smiles) in first:
        problem = (
            f"row {first[person, smiles] + 1} has the same person and expression: leave one of them, or name the "
            "pairs apart"
        )
    elif text := row.get("eyes", ""):
        try:
            eyes = tuple(float(number) for number in text.replace(",", " ").split())
        except ValueError:
            eyes = ()
        if len(eyes) != 4 or not np.isfinite(eyes).all():
            problem = f"the eyes {text!r} are not four numbers: X Y of the one at the left, X Y of the other"
    return Picture(number, person, smiles, folder / file, folder / points if points else None, eyes, problem)


def own_pairs(path: Path) -> Iterator[Pair]:
    """The pairs that a table names; InputError at the first row of it, or picture, that can't be used.

    Where nobody has landmarks they are the two eyes, by which faces are aligned; where some have, NaN for others.
    """
    pictures = listed(path)
    for picture in (*pictures, *paired(pictures)):
        if picture.problem:
            raise InputError(f"{path}, row {picture.row + 1}: {picture.problem}")
    neutral = [picture for picture in pictures if not picture.smiles]
    smiling = {picture.person: picture for picture in pictures if picture.smiles}
    points = {p.person: read_template(p.landmarks) for p in neutral if p.landmarks}
    counts = {len(found) for found in points.values()}
    if len(counts) > 1:
        raise InputError(
            f"{path}: the templates have {min(counts)} to {max(counts)} landmarks: mark the same in all, or leave "
            "them out"
        )
    unknown = np.full((counts.pop(), 2), np.nan) if counts else None
    for picture, eyes in zip(neutral, _together(neutral), strict=True):
        landmarks = points.get(picture.person, eyes if unknown is None else unknown)
        yield _pair(picture, smiling[picture.person], eyes, landmarks)


def own_pair(neutral: Picture, smiling: Picture, mean_face: np.ndarray) -> Pair:
    """One pair as a trained model sees it, whose mean face says where the eyes are that nobody has marked."""
    photo, size = open_photo(neutral.file), len(mean_face)
    eyes = _marked(neutral, photo)
    if eyes is None:
        eyes = eyes_of(find_frame(photo, mean_face, str(neutral.file)), size)
    return _pair(neutral, smiling, eyes, eyes)


def _pair(neutral: Picture, smiling: Picture, eyes: np.ndarray, landmarks: np.ndarray) -> Pair:
    still, smiles = open_photo(neutral.file), open_photo(smiling.file)
    found = _marked(smiling, smiles)
    if found is None:  # about there: the smile is brought to the neutral face later
        found = eyes_of(likely_frames(smiles, _SIDE, str(smiling.file))[0], _SIDE)
    return Pair(neutral.person, still, smiles, np.stack([eyes, found]), landmarks)


def _marked(picture: Picture, photo: np.ndarray) -> np.ndarray | None:
    """Where the eyes are (2, 2), if the table says so or its template."""
    eyes = picture.eyes
    if eyes is None and picture.landmarks:
        eyes = tuple(read_template(picture.landmarks)[:2, ::-1].ravel())
    return None if eyes is None else given_eyes(photo, eyes, str(picture.file))


def _together(pictures: Sequence[Picture]) -> np.ndarray:
    """Where the eyes of all people are, (N, 2, 2): those that nobody has marked by what all faces have in common.

    A detector says roughly where they are; each face is then brought to the mean of all, which is made anew.
    Raises InputError for a picture without a face, or with one that is unlike the others.
    """
    frames, faces, sought = [], [], []
    for picture in pictures:
        photo = open_photo(picture.file)
        eyes = _marked(picture, photo)
        sought.append(eyes is None)
        rough = likely_frames(photo, _SIDE, str(picture.file))[0] if eyes is None else eye_frame(eyes, _SIDE)
        frames.append(rough)
        faces.append(crop(photo, rough, _SIDE).mean(2, keepdims=True))
    moves = np.tile(np.eye(2, 3), (len(faces), 1, 1))
    for _ in range(_ROUNDS if any(sought) else 0):
        mean = np.mean([crop(face, move, _SIDE) for face, move in zip(faces, moves, strict=True)], 0)[..., 0]
        wanted = np.flatnonzero(sought)
        moves[wanted], alike = register(
            [faces[i][..., 0] for i in wanted], [mean] * len(wanted), middle(_SIDE)
        )
    if any(sought) and alike.min() < LIKE:
        raise InputError(
            f"what looks like a face in {pictures[wanted[alike.argmin()]].file} is unlike the others "
            f"(correlation {alike.min():.2f}): give the column eyes, or leave the person out"
        )
    return np.stack([eyes_of(after(f, move), _SIDE) for f, move in zip(frames, moves, strict=True)])
