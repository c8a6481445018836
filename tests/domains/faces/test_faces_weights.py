"""The model that comes with the package: its file, its card, and that it makes a drawn face smile."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from sciencevae.builtin.faces.simulate import LANDMARKS, generate

from sciencevae.cli import main
from sciencevae.registry import weights

NAME = "faces-london"


def test_file_and_card() -> None:
    path = weights()[NAME]
    content = path.read_bytes()
    assert len(content) <= 8_000_000
    card = path.with_suffix(".md").read_text()
    assert hashlib.sha256(content).hexdigest() in card
    for part in (
        "CC-BY-4.0",
        "DeBruine",
        "sciencevae run faces --config london",
        "not for recognising",
        "mean flow",
    ):
        assert part in card


def test_a_face_is_edited_without_naming_a_model(tmp_path: Path) -> None:
    """The corners of the mouth rise and part, which a drawn face has, too."""
    generate(tmp_path / "faces.h5", {"people": 1, "size": 256}, seed=2)
    with h5py.File(tmp_path / "faces.h5") as file:
        picture, points = file["images"][0, 0], file["landmarks"][0]
    left, right, lip = (LANDMARKS.index(name) for name in ("mouth left", "mouth right", "upper lip"))
    marked = picture.copy()
    for corner in (left, right):
        row, column = np.round(points[corner]).astype(int)
        marked[row - 2 : row + 3, column - 2 : column + 3] = (0, 255, 0)
    Image.fromarray(marked).save(tmp_path / "face.png")
    eyes = ",".join(f"{number:.1f}" for number in points[:2, ::-1].ravel())
    words = ["edit", "--attribute", "smile", "--eyes", eyes, str(tmp_path / "face.png")]
    assert main([*words, "--amount", "0.7", "-o", str(tmp_path / "out.png")]) == 0
    after = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
    green = after[..., 1] - after[..., [0, 2]].mean(2)
    middle = round(points[lip, 1])
    for corner, side, columns in ((left, -1, slice(0, middle)), (right, 1, slice(middle, None))):
        weight = np.where(green[:, columns] > 100, green[:, columns], 0)
        rows, across = np.mgrid[: weight.shape[0], : weight.shape[1]]
        row, column = ((weight * at).sum() / weight.sum() for at in (rows, across + (columns.start or 0)))
        assert row < points[corner, 0] - 0.5
        assert side * (column - points[corner, 1]) > 0.5
