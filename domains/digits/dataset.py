"""Digits, garments and sprites to the prepared data set, and a user's own images block by block."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from sciencevae.data.arrays import Arrays, write_arrays
from sciencevae.data.sequential import in_memory_if_small, lazily
from sciencevae.data.splits import SPLITS, valid_count
from sciencevae.errors import InputError

from .settings import Digits

__all__ = ["observed_quadrants", "prepare", "read", "read_idx", "write"]

CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
}  # fmt: skip
_ROWS = 4096


def prepare(settings: Digits, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """x (sample, channel, row, column) between 0 (black) and 1 (white), or (sample, pixel) below quadrants.

    The official test images are test; of the rest, a share ``fractions.valid`` is valid. Of sprites, which have
    no official split, ``fractions`` says the shares. Coordinates: label, or the class of each factor of a sprite;
    anomaly, true for the class that training does not see; image, the number in the file.

    ``input``: the user's own images, as ``read`` takes them, without classes.
    """
    if input is not None:
        own = Path(input)
        if not (rows := sum(block.sizes["sample"] for block in read(own, settings))):
            raise InputError(f"{own} holds no images")
        data = lazily(lambda: read(own, settings), rows).drop_vars(["row", "id", "status"])
        return in_memory_if_small(data)
    return _sprites(settings, files) if settings.dataset == "dsprites" else _labelled(settings, files)


def _labelled(settings: Digits, files: Mapping[str, Path]) -> xr.Dataset:
    chosen = settings.prepare
    generator = np.random.default_rng(chosen.split_seed)
    images, labels, splits, numbers = [], [], [], []
    for part, split, rows in (("train", 0, chosen.rows), ("t10k", 2, chosen.test_rows)):
        found = read_idx(files[f"{part}-images-idx3-ubyte"])
        label = read_idx(files[f"{part}-labels-idx1-ubyte"])
        order = generator.permutation(len(found))
        if split == 0 and chosen.anomaly is not None:
            order = order[label[order] != chosen.anomaly]
        order = order[:rows]
        code = np.full(len(order), split, np.int8)
        if split == 0:
            code[: valid_count(len(order), chosen.fractions)] = 1
        images.append(found[order])
        labels.append(label[order].astype(np.int64))
        splits.append(code)
        numbers.append(order)
    label = np.concatenate(labels)
    coords = {
        "label": (label, "class"),
        "image": (np.concatenate(numbers), "number of the image in its file"),
    }
    if chosen.anomaly is not None:
        coords["anomaly"] = (label == chosen.anomaly, "of the class that training does not see")
    x = np.concatenate(images)[:, None].astype(np.float32) / 255
    data = _dataset(x, coords, np.concatenate(splits), settings)
    if chosen.condition == "label":
        data["condition"] = (
            ("sample", "variable"),
            np.eye(10, dtype=np.float32)[label],
            {"units": "1", "long_name": "class, as one of ten", "scaling": "identity"},
        )
    data = _binarised(data, settings)
    return _below_quadrants(data, settings) if chosen.condition == "quadrants" else data


def _sprites(settings: Digits, files: Mapping[str, Path]) -> xr.Dataset:
    if settings.prepare.condition != "none" or settings.prepare.anomaly is not None:
        raise InputError("sprites have factors, no classes: prepare.condition=none and no prepare.anomaly")

    def blocks() -> Iterator[xr.Dataset]:
        with h5py.File(files["dsprites.h5"]) as file:
            images, classes = file["images"], file["latents_classes"]
            names = [str(name) for name in classes.attrs["names"]]
            for start in range(0, len(images), _ROWS):
                rows = slice(start, start + _ROWS)
                found, part = images[rows], classes[rows]
                coords = {f"factor_{name}": (part[:, k], f"class of {name}") for k, name in enumerate(names)}
                coords["image"] = (np.arange(start, start + len(found)), "number of the image in its file")
                yield _dataset(found[:, None].astype(np.float32), coords, None, settings)

    with h5py.File(files["dsprites.h5"]) as file:
        rows = len(file["images"])
    return in_memory_if_small(lazily(blocks, rows))


def _dataset(
    x: np.ndarray, coords: Mapping[str, tuple[np.ndarray, str]], split: np.ndarray | None, settings: Digits
) -> xr.Dataset:
    attributes = {"units": "1", "long_name": "brightness, 0 black, 1 white", "scaling": "identity"}
    variables = {"x": (("sample", "channel", "row", "column"), x, attributes)}
    named = {n: ("sample", values, {"units": "1", "long_name": text}) for n, (values, text) in coords.items()}
    provenance = json.dumps({"binarise": settings.prepare.binarise, "seed": settings.prepare.split_seed})
    attrs = {"fields": ["x"], "identifier": "image", "provenance": provenance}
    data = xr.Dataset(variables, coords=named, attrs=attrs)
    return data if split is None else data.assign_coords(split=("sample", split))


def _binarised(data: xr.Dataset, settings: Digits) -> xr.Dataset:
    """Bits in place of grey values; with ``dynamic`` the training images stay grey."""
    x = data["x"].values
    if settings.prepare.binarise == "threshold":
        bits = (x > 0.5).astype(np.float32)
    else:
        # a generator of its own: the bits of an image do not depend on how many were asked for
        uniform = np.random.default_rng(1 + settings.prepare.split_seed).random(x.shape, np.float32)
        bits = (uniform < x).astype(np.float32)
    if settings.prepare.binarise == "dynamic" and "split" in data.coords:
        grey = data["split"].values == SPLITS["train"]
        bits[grey] = x[grey]
    bits[~np.isfinite(x)] = np.nan
    return data.assign(x=data["x"].copy(data=bits))


def observed_quadrants(count: int, height: int, width: int) -> np.ndarray:
    """The pixels that are told, (height, width) of booleans: lower left; left half; all but the upper right."""
    low, left = np.arange(height)[:, None] >= height // 2, np.arange(width) < width // 2
    return {1: low & left, 2: left & np.ones_like(low), 3: left | low}[count]


def _below_quadrants(data: xr.Dataset, settings: Digits) -> xr.Dataset:
    """The told pixels as ``condition``, the others as ``x`` (sample, pixel), numbered row by row."""
    x = data["x"].values
    told = observed_quadrants(settings.prepare.quadrants, *x.shape[2:]).ravel()
    flat = x.reshape(len(x), -1)
    attributes = data["x"].attrs
    return data.drop_vars("x").assign(
        x=(("sample", "pixel"), flat[:, ~told], attributes),
        condition=(("sample", "variable"), flat[:, told], attributes),
    )


def read(path: Path, settings: Digits, template: xr.Dataset | None = None) -> Iterator[xr.Dataset]:
    """A user's images in blocks, from .npy, .npz (``images``), .h5 (``x``, as written here) or idx (also .gz, .xz).

    images (n, H, W), integers from 0 to 255, or floats or booleans from 0 to 1; of the size the model was trained
    on. Every row stays; one that is not within these bounds as NaN with a reason in ``status``. Bits are drawn as
    in ``prepare``, the same ones each time.
    """
    if settings.prepare.condition != "none":
        raise InputError(
            "this model is told a class or pixels beside the image, which an image file does not bring: "
            "take a model with prepare.condition=none"
        )
    with _images(Path(path)) as images:
        yield from _blocks(images, Path(path), settings)


def _blocks(images: Any, path: Path, settings: Digits) -> Iterator[xr.Dataset]:
    side = settings.source.size or 64 if settings.dataset == "dsprites" else 28
    if images.ndim != 3 or images.shape[1:] != (side, side):
        raise InputError(
            f"{path}: images has shape {images.shape}; this model is of images (n, {side}, {side}): "
            "cut or resize them, white on black"
        )
    integer = images.dtype.kind in "iub"
    if images.dtype.kind not in "iufb":
        raise InputError(f"{path}: images is to be an array of real numbers, found {images.dtype}")
    starts = range(0, len(images), _ROWS)
    if (
        integer
        and images.dtype.kind != "b"
        and len(images)
        and max(images[start : start + _ROWS].max() for start in starts) == 1
    ):
        raise InputError(
            f"{path}: images holds the integers 0 and 1, and integers are grey values from 0 to 255: give floats "
            "or booleans, or multiply by 255"
        )
    for start in starts:
        block = np.array(images[start : start + _ROWS], np.float32)[:, None]
        if integer and images.dtype.kind != "b":
            block /= 255
        good = (np.isfinite(block) & (block >= 0) & (block <= 1)).all((1, 2, 3))
        block[~good] = np.nan
        bounds = "0 to 255" if integer else "0 to 1: divide grey values by 255"
        number = np.arange(start, start + len(block))
        data = _dataset(block, {}, None, settings)
        if settings.prepare.binarise != "none":
            data = _binarised(data, settings)
        yield data.assign_coords(
            row=("sample", number),
            id=("sample", number.astype(str)),
            status=("sample", np.where(good, "ok", f"a pixel is not within {bounds}")),
        )


class _FirstChannel:
    """Of images (n, C, H, W) the first channel (n, H, W), read when it is indexed."""

    ndim = 3

    def __init__(self, images: Any) -> None:
        self._images, self.dtype = images, images.dtype
        self.shape = (images.shape[0], *images.shape[2:])

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.asarray(self._images[rows, 0])


@contextmanager
def _images(path: Path) -> Iterator[Any]:
    """The images (n, H, W) of a file; those of .npy, HDF5 and idx stay there until they are indexed."""
    if path.suffix not in (".npy", ".npz", ".h5"):
        yield read_idx(path)
        return
    with Arrays(path, "images") as file:
        if "images" in file:
            yield file["images"]
        elif "x" in file:  # (n, 1, H, W), as ``decode`` and ``sample`` write it
            if (found := file["x"]).ndim != 4:
                raise InputError(f"{path}: x has shape {found.shape}; decoded images are (n, 1, H, W)")
            yield _FirstChannel(found)
        else:
            raise InputError(f"{path} has no array 'images' (n, H, W); found {list(file)}")


def read_idx(path: Path) -> np.ndarray:
    """The array of an idx file (two zeros, type, number of axes, sizes, numbers: LeCun's format), unpacked; of one
    that is not packed mapped into memory.

    Raises InputError for another format, and for one that is truncated.
    """
    packed: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
    content: Any
    try:
        if path.suffix in packed or not path.stat().st_size:
            with packed.get(path.suffix, open)(path, "rb") as file:
                content = file.read()
        else:  # stays on the disk
            content = np.memmap(path, np.uint8, "r").data
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    kinds = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in kinds:
        raise InputError(
            f"{path} is no idx file (nor .npy or .npz): it begins with {bytes(content[:4]).hex()}"
        )
    axes, kind = content[3], np.dtype(kinds[content[2]])
    start = 4 + 4 * axes
    shape = tuple(np.frombuffer(content[4:start], ">i4")) if len(content) >= start else ()
    wanted = start + int(np.prod(shape)) * kind.itemsize
    if len(shape) != axes or len(content) != wanted:
        raise InputError(
            f"{path} is truncated or damaged: {len(content):,} bytes, its header says {wanted:,}"
        )
    return np.frombuffer(content[start:], kind).reshape(shape)


def write(data: xr.Dataset, path: Path) -> None:
    """Decoded or sampled images as ``images`` (n, H, W), 0 to 1, in .npz or .npy; ``read`` takes them back."""
    images = data["x"].values
    write_arrays(path, "images", images[:, 0] if images.ndim == 4 else images)
