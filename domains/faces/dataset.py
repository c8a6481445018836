"""Pictures of people, neutral and smiling, as pairs of faces that lie alike."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sciencevae.data.splits import SPLITS, split_rows, valid_count, with_splits
from sciencevae.errors import InputError

from .frame import after, applied, crop, eye_frame, inverse, register
from .own import Picture, listed, own_pair, own_pairs, paired
from .pairs import Pair, drawn, london
from .photos import check_size
from .settings import Faces

__all__ = ["EYE_REGION", "MOUTH", "UPPER", "box", "grey", "prepare", "read"]

#: parts of a face, (first row, last row, first column, last column) in shares of its side
UPPER = (0.06, 0.55, 0.10, 0.90)
MOUTH = (0.66, 0.92, 0.27, 0.73)
EYE_REGION = (0.24, 0.48, 0.15, 0.85)
#: the head may have moved further than a face's frame reaches: what is matched is so many times as large
_WIDER = 1.5
_GREY = np.array([0.299, 0.587, 0.114])
#: pairs that are brought together at once; of your own, whose photos may be large, fewer
_PEOPLE, _OWN = 32, 4


def prepare(settings: Faces, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """Two rows a person: the smiling face from the neutral one, and the neutral from the smiling one.

    x (sample, channel, row, column): the face, 0 to 1; condition: the other face of the same person; landmarks
    (sample, coordinate): row and column of each point in turn, in pixels of the face, of the condition, NaN where
    not known; change: 1 where the face smiles, −1 where it no longer does. Coordinates: person (a group that no
    split cuts), expression (1 where the face smiles), correlation (of the upper halves of both faces when they lie
    alike), and what is known of the person.

    The neutral face is cut out so that its eyes lie at ``frame.EYES``, the smiling one by the similarity that
    brings its upper half to that of the neutral one. The attribute ``mean_face`` is the brightness of the mean
    training face.

    ``input``: a table of your own pictures, as ``own.listed`` takes it.
    """
    size = settings.prepare.size
    if input is not None:
        found, count = own_pairs(Path(input)), _OWN
    else:
        fetched = settings.dataset == "london_faces"
        found, count = london(files) if fetched else drawn(files["faces.h5"]), _PEOPLE
    blocks = [_aligned(block, size) for block in iter(lambda: list(islice(found, count)), [])]
    if not blocks:
        raise InputError(f"data set {settings.dataset}: no person has both a neutral and a smiling picture")
    data = _seen_points(xr.concat(blocks, "sample"))
    data.attrs = {
        "fields": ["x"],
        "context": ["change"],
        "identifier": "person",
        "provenance": json.dumps({"size": size, "split_seed": settings.prepare.split_seed}),
    }
    data = with_splits(_split(data, settings), settings.prepare.fractions, settings.prepare.split_seed)
    trained = grey(data["condition"].values[split_rows(data, "train")]).mean(0)
    return data.assign_attrs(mean_face=np.round(trained, 4).tolist())


def read(path: Path, settings: Faces, template: xr.Dataset) -> Iterator[xr.Dataset]:
    """The pictures of a table of your own in its order, each beside the other one of the same person.

    The table is as ``own.listed`` takes it. A picture that can't be used is NaN, with the reason in ``status``.
    """
    mean_face = np.array(template.attrs["mean_face"])
    pictures = paired(listed(Path(path)))
    of = {(picture.person, picture.smiles): picture for picture in pictures if not picture.problem}
    for start in range(0, len(pictures), _PEOPLE):
        pairs: dict[str, xr.Dataset | str] = {}
        block = pictures[start : start + _PEOPLE]
        for person in {picture.person: None for picture in block if not picture.problem}:
            try:
                pair = own_pair(of[person, 0], of[person, 1], mean_face)
                pairs[person] = _aligned([pair], len(mean_face))
            except InputError as error:
                pairs[person] = str(error)
        yield _in_order(block, [p.problem or pairs[p.person] for p in block], template)


def _in_order(
    pictures: Sequence[Picture], found: Sequence[xr.Dataset | str], template: xr.Dataset
) -> xr.Dataset:
    """A row for each picture out of its pair, NaN where there is a reason in place of that."""
    data = {}
    for name in ("x", "condition", "change", "landmarks"):
        variable = template[name]
        values = np.full((len(pictures), *variable.shape[1:]), np.nan, np.float32)
        for row, (picture, pair) in enumerate(zip(pictures, found, strict=True)):
            if not isinstance(pair, str) and name != "landmarks":
                values[row] = pair[name].values[1 - picture.smiles]
        data[name] = (variable.dims, values, variable.attrs)
    kinds = {0: " neutral", 1: " smiling"}
    coords = {
        "row": ("sample", [picture.row for picture in pictures]),
        "id": ("sample", [picture.person + kinds.get(picture.smiles, "") for picture in pictures]),
        "status": ("sample", [pair if isinstance(pair, str) else "ok" for pair in found]),
    }
    return xr.Dataset(data, coords, {key: template.attrs[key] for key in ("fields", "context")})


def _aligned(pairs: Sequence[Pair], size: int) -> xr.Dataset:
    """Faces of some people, rows as of ``prepare``."""
    wide = 2 * round(_WIDER * size / 2)
    outer = np.array([[1, 0, (size - wide) / 2], [0, 1, (size - wide) / 2]])
    frames, smiling, neutral = [], [], []
    for pair in pairs:
        frames.append([eye_frame(eyes, size) for eyes in pair.eyes])
        check_size(frames[-1][0], size, f"the neutral picture of {pair.person}")
        still, smiles = (after(frame, outer) for frame in frames[-1])
        neutral.append(crop(pair.neutral, still, wide) @ _GREY)
        smiling.append(crop(pair.smiling, smiles, wide) @ _GREY)
    moves, correlation = register(smiling, neutral, _weight(UPPER, size, wide))
    rows: dict[str, list[Any]] = {
        name: [] for name in ("x", "condition", "landmarks", "person", "expression")
    }
    rows |= {"correlation": [], "truth": []}
    known: dict[str, list[Any]] = {name: [] for name in pairs[0].known}
    for pair, (frame, other), move, alike in zip(pairs, frames, moves, correlation, strict=True):
        # a pixel of the face → of the wider frame → where that is in the wider frame of the other photo → back
        own = after(after(other, outer), after(move, inverse(outer)))
        faces = crop(pair.neutral, frame, size), crop(pair.smiling, own, size)
        points = applied(inverse(frame), pair.landmarks)
        for expression in (1, 0):
            rows["x"].append(faces[expression].transpose(2, 0, 1))
            rows["condition"].append(faces[1 - expression].transpose(2, 0, 1))
            rows["landmarks"].append(points.ravel() if expression else np.full(points.size, np.nan))
            rows["person"].append(pair.person)
            rows["expression"].append(expression)
            rows["correlation"].append(alike)
            if pair.truth is not None:
                rows["truth"].append(
                    _within(pair.truth, frame, size) if expression else np.full((2, size, size), np.nan)
                )
            for name, value in pair.known.items():
                known[name].append(value)
    picture = {"units": "1", "scaling": "identity"}
    image = ("sample", "channel", "row", "column")
    data = xr.Dataset(
        {
            "x": (
                image,
                np.array(rows["x"], np.float32),
                picture | {"long_name": "face, red green blue"},
            ),
            "landmarks": (
                ("sample", "coordinate"),
                np.array(rows["landmarks"], np.float32),
                {
                    "units": "pixel",
                    "long_name": "row, column of each landmark of the condition",
                    "scaling": "identity",
                },
            ),
            "change": (
                "sample",
                2 * np.array(rows["expression"], np.float32) - 1,
                {"units": "1", "long_name": "1 to a smile, -1 from one", "scaling": "identity"},
            ),
            "condition": (
                image,
                np.array(rows["condition"], np.float32),
                picture | {"long_name": "the other face of the same person"},
            ),
        },
        {
            "person": ("sample", np.array(rows["person"])),
            "group": ("sample", np.array(rows["person"])),
            "expression": ("sample", np.array(rows["expression"]), {"long_name": "1 smiling, 0 neutral"}),
            "correlation": ("sample", np.array(rows["correlation"], np.float32)),
            **{name: ("sample", np.array(values)) for name, values in known.items()},
        },
    )
    if rows["truth"]:
        attributes = {
            "units": "pixel",
            "long_name": "where a smiling pixel was, less where it is",
            "scaling": "identity",
        }
        data["truth"] = (("sample", "axis", "row", "column"), np.array(rows["truth"], np.float32), attributes)
    return data


def _seen_points(data: xr.Dataset) -> xr.Dataset:
    """The data without landmarks of the neck, the hair, … that lie beyond the picture."""
    places = data["landmarks"].mean("sample").values.reshape(-1, 2)
    seen = ((places > 0) & (places < data.sizes["row"] - 1)).all(1)
    return data.isel(coordinate=np.repeat(seen, 2))


def _within(field: np.ndarray, frame: np.ndarray, size: int) -> np.ndarray:
    """A field of displacements (2, H, W) of a photo in the pixels of the frame, (2, size, size)."""
    seen = crop(np.concatenate([field, np.zeros_like(field[:1])]).transpose(1, 2, 0), frame, size)
    return np.einsum("ij,hwj->ihw", np.linalg.inv(frame[:, :2]), seen[..., :2])


def _split(data: xr.Dataset, settings: Faces) -> xr.Dataset:
    """Test on the people that are named, and of the others hold a share out for validation."""
    wanted = settings.prepare.test_people
    if not wanted:
        return data
    people = data["person"].values
    if missing := sorted(set(wanted) - set(people.tolist())):
        raise InputError(f"prepare.test_people: there is no {missing[0]!r} among the people")
    others = sorted(set(people.tolist()) - set(wanted))
    order = np.random.default_rng(settings.prepare.split_seed).permutation(len(others))
    valid = {others[i] for i in order[: valid_count(len(others), settings.prepare.fractions)]}
    split = np.full(len(people), SPLITS["train"], np.int8)
    split[np.isin(people, wanted)] = SPLITS["test"]
    split[np.isin(people, sorted(valid))] = SPLITS["valid"]
    return data.assign_coords(split=("sample", split))


def box(part: tuple[float, float, float, float], size: int) -> tuple[slice, slice]:
    """Rows and columns of a part of a face."""
    first, last, left, right = (round(size * share) for share in part)
    return slice(first, last), slice(left, right)


def grey(faces: np.ndarray) -> np.ndarray:
    """Brightness (…, H, W) of (…, 3, H, W)."""
    return np.tensordot(_GREY, np.moveaxis(faces, -3, 0), 1)


def _weight(part: tuple[float, float, float, float], size: int, wide: int) -> np.ndarray:
    """1 at a part of the face in the wider frame, (wide, wide)."""
    weight = np.zeros((size, size))
    weight[box(part, size)] = 1
    return np.pad(weight, (wide - size) // 2)
