"""Pictures of objects on a table, simulated and realistic, some with their pose and some without."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from sciencevae.config import digest
from sciencevae.data.atomic import atomic_path
from sciencevae.data.splits import SPLITS
from sciencevae.errors import InputError

from .own import Label, own_labels, own_picture
from .scenes import SIZE, UNSEEN
from .settings import Objects, Prepare
from .simulate import twin_of
from .world import World, world

__all__ = ["prepare", "read", "write"]

_ROWS = 256
_ROLES = {"fields": ["picture", "twin", "position", "heading"], "context": ["condition"]}


@dataclass
class Pictures:
    """Pictures (n, SIZE, SIZE, 3) uint8 and what is known of each: where NaN (of kind "") it is not.

    position (n, 2) in millimetres, heading (n,) in radians, kind (n,).
    """

    pictures: np.ndarray
    position: np.ndarray
    heading: np.ndarray
    kind: np.ndarray

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, rows: Any) -> Pictures:
        return Pictures(self.pictures[rows], self.position[rows], self.heading[rows], self.kind[rows])


def prepare(settings: Objects, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """Rows of both domains, of which the realistic ones mostly do not tell their pose.

    picture (sample, channel, row, column), 0 to 1; twin: the object alone as the simulation shows it, at half
    the size, NaN where the pose is not told; position (sample, axis) in millimetres, heading (sample, angle) in
    radians: NaN where the regressor is not to learn from it; condition (sample, domains): 1 for a realistic one,
    else 0; weight (sample): 0 of a picture of which nothing is told, from which only lessons learn. Coordinates:
    domain, kind, labelled, and the true pose x, y (mm) and angle (rad), told or not.

    Labelled realistic pictures are repeated up to ``labelled_share`` of the training rows. Test: the last realistic
    pictures, and those of an object never simulated.

    input: a user's own pictures in place of the realistic ones, as of ``own_labels``: of those with a position
    ``prepare.labelled`` are trained on, ``prepare.valid`` chosen by and the others tested on.
    """
    chosen, own = settings.prepare, world(settings.source.setup)
    with h5py.File(files["objects.h5"]) as file:
        recipe = str(file.attrs["recipe"])
        names = np.array(file.attrs["kinds"])
        found = {name: _read(file[name], names) for name in ("plain", "randomised", "realistic")}
    parts = []
    for domain in ("plain", "randomised"):
        drawn = _first(found[domain], getattr(chosen, domain), domain)
        cut = len(drawn) - round(chosen.fractions.get("valid", 0.0) * len(drawn))
        parts += [(drawn[:cut], domain, "train", True), (drawn[cut:], domain, "valid", True)]
    simulated = sum(len(drawn) for drawn, _, split, _ in parts if split == "train")
    choose = np.random.default_rng(chosen.split_seed)
    given = (
        _drawn(found["realistic"], chosen, choose)
        if input is None
        else _own(Path(input), own, chosen, choose)
    )
    for pictures, split, told in given:
        if told and split == "train" and len(pictures):
            others = simulated + sum(
                len(more) for more, split, told in given if split == "train" and not told
            )
            wanted = chosen.labelled_share / (1 - chosen.labelled_share) * others
            pictures = pictures[np.tile(np.arange(len(pictures)), max(1, round(wanted / len(pictures))))]
        parts.append((pictures, "realistic", split, told))
    rows = [_rows(own, *part, poses=chosen.targets == "poses") for part in parts if len(part[0])]
    data = xr.concat(rows, "sample")
    provenance = json.dumps({"split_seed": chosen.split_seed})
    return data.assign_attrs(_ROLES, recipe=digest(recipe), provenance=provenance)


def read(path: Path, settings: Objects, template: xr.Dataset | None = None) -> Iterator[xr.Dataset]:
    """A user's own pictures in blocks, from labels as of ``own_labels``, of which only the files are used.

    A picture that cannot be read stays as NaN, with a reason in ``status``.
    """
    own = world(settings.source.setup)
    labels = own_labels(Path(path))
    for start in range(0, len(labels), _ROWS):
        block = labels[start : start + _ROWS]
        pictures = np.zeros((len(block), SIZE, SIZE, 3), np.uint8)
        status = np.full(len(block), "ok", object)
        for i, label in enumerate(block):
            try:
                pictures[i] = own_picture(Label(label.file), own)[0]
            except InputError as error:
                status[i] = str(error)
        unknown = np.full(len(block), np.nan)
        seen = Pictures(pictures, np.c_[unknown, unknown], unknown, np.full(len(block), ""))
        data = _rows(own, seen, "realistic", "test", told=False, poses=settings.prepare.targets == "poses")
        good = xr.DataArray(status == "ok", dims="sample")
        data = data.assign(picture=data["picture"].where(good)).assign_attrs(_ROLES)
        yield data.drop_vars(["split", "weight"]).assign_coords(
            row=("sample", np.arange(start, start + len(block))),
            id=("sample", np.array([label.file.name for label in block])),
            status=("sample", status.astype(str)),
        )


def write(data: xr.Dataset, path: Path) -> None:
    """Poses that were decoded as a table (.csv): what a row is known by, x and y (mm), and heading (degrees).

    Behind them, where the data have them, their standard deviations.
    """
    found = {name: data[name].values for name in ("row", "id") if name in data.coords}
    for end in [end for end in ("", "_std") if f"position{end}" in data]:
        found[f"x{end}"], found[f"y{end}"] = data[f"position{end}"].values.T
        found[f"heading{end}"] = np.degrees(data[f"heading{end}"].values[:, 0])
    with atomic_path(path) as temporary:
        pd.DataFrame(found).to_csv(temporary, index=False)


def _drawn(found: Pictures, chosen: Prepare, random: np.random.Generator) -> list[tuple[Pictures, str, bool]]:
    """The realistic pictures by split, and whether their pose is told."""
    unseen = found.kind == UNSEEN
    seen = found[~unseen]
    pool = len(seen) - chosen.valid - chosen.test
    if chosen.labelled + chosen.unlabelled > pool:
        raise InputError(
            f"prepare.labelled and prepare.unlabelled ask for {chosen.labelled + chosen.unlabelled} realistic "
            f"pictures, and beside {chosen.valid} of prepare.valid and {chosen.test} of prepare.test there are "
            f"{max(pool, 0)}: lower one of them, or raise source.realistic"
        )
    order = random.permutation(pool)
    return [
        (seen[order[: chosen.labelled]], "train", True),
        (seen[order[pool - chosen.unlabelled :]], "train", False),
        (seen[pool : pool + chosen.valid], "valid", False),
        (seen[pool + chosen.valid :], "test", False),
        (found[unseen], "test", False),
    ]


def _own(
    path: Path, own: World, chosen: Prepare, random: np.random.Generator
) -> list[tuple[Pictures, str, bool]]:
    """A user's pictures by split, and whether their pose is told: those without labels are all trained on."""
    labels = own_labels(path)
    read = [own_picture(label, own) for label in labels]
    found = Pictures(
        np.stack([picture for picture, _, _ in read]),
        np.stack([place for _, place, _ in read]),
        np.array([heading for _, _, heading in read]),
        np.array([label.kind for label in labels]),
    )
    known = np.isfinite(found.position).all(1)
    order = random.permutation(np.flatnonzero(known))
    if chosen.labelled > len(order):
        raise InputError(
            f"{path}: {len(order)} of {len(labels)} pictures have a position, and prepare.labelled asks for "
            f"{chosen.labelled} to train on: lower it, or label more"
        )
    whole = np.isfinite(found.heading) & (found.kind != "")
    trained = order[: chosen.labelled]
    if chosen.targets == "twins" and len(bare := trained[~whole[trained]]):
        raise InputError(
            f"{path}: {labels[bare[0]].file.name} has a position, but no heading or no kind, without which "
            "there is no twin of it: add them, leave its position out, or set model.kind=regress and "
            "prepare.targets=poses"
        )
    later = chosen.labelled + chosen.valid
    if len(order) <= later:
        raise InputError(
            f"{path}: of {len(order)} pictures with a position prepare.labelled trains on {chosen.labelled} and "
            f"prepare.valid keeps {chosen.valid}, and none is left to test on: lower them, or label more"
        )
    return [
        (found[trained], "train", True),
        (found[np.flatnonzero(~known)[: chosen.unlabelled]], "train", False),
        (found[order[chosen.labelled : later]], "valid", False),
        (found[order[later:]], "test", False),
    ]


def _read(group: Any, names: np.ndarray) -> Pictures:
    return Pictures(
        group["pictures"][:],
        group["position"][:],
        group["heading"][:],
        names[group["kind"][:]],
    )


def _first(found: Pictures, count: int | None, domain: str) -> Pictures:
    if count is not None and count > len(found):
        raise InputError(
            f"prepare.{domain}: {count} pictures are asked for, and there are {len(found)}: lower it, or raise "
            f"source.{domain}"
        )
    return found[:count]


def _rows(own: World, seen: Pictures, domain: str, split: str, told: bool, poses: bool) -> xr.Dataset:
    """Rows of one domain; poses: what is told of realistic pictures is their pose, else their twin."""
    count = len(seen)
    twin = np.full((count, 3, SIZE // 2, SIZE // 2), np.nan, np.float32)
    if told:
        drawn: dict[tuple[Any, ...], np.ndarray] = {}
        for i, pose in enumerate(zip(seen.kind, *seen.position.T, seen.heading, strict=True)):
            if pose[0] and not np.isnan(pose[3]):
                if pose not in drawn:
                    drawn[pose] = twin_of(own, *pose)
                twin[i] = drawn[pose]
    learnt = told and (poses or domain != "realistic")
    known = np.isfinite(seen.position).all(1) if learnt else np.isfinite(twin).all((1, 2, 3))
    position, heading = seen.position.astype(np.float32), seen.heading.astype(np.float32)[:, None]
    image = ("sample", "channel", "row", "column")
    unit = {"units": "1", "scaling": "identity"}
    return xr.Dataset(
        {
            "picture": (
                image,
                seen.pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255,
                unit | {"long_name": "picture, red green blue"},
            ),
            "twin": (
                ("sample", "channel", "twin_row", "twin_column"),
                twin,
                unit | {"long_name": "the object as the simulation shows it"},
            ),
            "position": (
                ("sample", "axis"),
                position if learnt else np.full_like(position, np.nan),
                {"units": "mm", "long_name": "x, y on the table", "scaling": "identity"},
            ),
            "heading": (
                ("sample", "angle"),
                heading if learnt else np.full_like(heading, np.nan),
                {"units": "rad", "long_name": "heading, from x towards y", "scaling": "identity"},
            ),
            "condition": (
                ("sample", "domains"),
                np.full((count, 1), float(domain == "realistic"), np.float32),
                unit | {"long_name": "1 realistic, 0 simulated"},
            ),
            "weight": (
                "sample",
                known.astype(np.float32),
                unit | {"long_name": "0: nothing is told of this picture"},
            ),
        },
        {
            "split": ("sample", np.full(count, SPLITS[split], np.int8)),
            "domain": ("sample", np.full(count, domain)),
            "kind": ("sample", seen.kind),
            "labelled": ("sample", np.full(count, told)),
            "x": ("sample", position[:, 0], {"units": "mm"}),
            "y": ("sample", position[:, 1], {"units": "mm"}),
            "true_heading": ("sample", heading[:, 0], {"units": "rad"}),
        },
    )
