"""Drawn people, and pictures as pairs of faces."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from sciencevae.builtin.faces.dataset import prepare
from sciencevae.builtin.faces.frame import EYES
from sciencevae.builtin.faces.pairs import read_template
from sciencevae.builtin.faces.simulate import LANDMARKS, generate
from scipy.ndimage import map_coordinates

from sciencevae.config import load
from sciencevae.errors import InputError
from sciencevae.registry import domain
from sciencevae.vae.decoders.warp import jacobian


def drawn(path: Path, **parameters: float) -> h5py.File:
    generate(path, {"people": 4, "size": 96} | parameters, seed=5)
    return h5py.File(path)


def test_a_smile_is_the_field_that_the_file_says(tmp_path: Path) -> None:
    with drawn(tmp_path / "faces.h5", noise=0.0, motion=0.0) as file:
        images, field = file["images"][:] / 255, file["displacement"][:]
    rows, columns = np.mgrid[:96, :96]
    for (neutral, smiling), (down, right) in zip(images, field, strict=True):
        at = np.stack([rows + down, columns + right])
        moved = np.stack(
            [map_coordinates(neutral[..., c], at, order=1, mode="nearest") for c in range(3)], -1
        )
        # up to the light of the second picture
        light = (smiling * moved).sum() / (moved * moved).sum()
        assert light == pytest.approx(1, abs=0.1)
        assert np.abs(smiling - light * moved).mean() < 0.01
        assert np.abs(smiling - light * neutral).max() > 5 * np.abs(smiling - light * moved).max()
    assert (jacobian(torch.from_numpy(field)) > 0).all(), "a smile folds nowhere"


def test_the_same_seed_gives_the_same_people_and_more_leave_them_alone(tmp_path: Path) -> None:
    with drawn(tmp_path / "a.h5") as a, drawn(tmp_path / "b.h5", people=2) as b:
        for name in ("images", "landmarks", "displacement", "amount"):
            assert np.array_equal(a[name][:2], b[name][:])
        assert a["landmarks"].shape == (4, len(LANDMARKS), 2)


@pytest.mark.parametrize(
    ("given", "says"), [({"persons": 3}, "people"), ({"size": 10}, "from 64"), ({"people": 0}, "people ≥ 1")]
)
def test_what_cannot_be_drawn_is_named(given: dict[str, int], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        generate(tmp_path / "faces.h5", given, seed=0)


def settings(*overrides: str):
    return load(domain("faces"), overrides=["prepare.size=64", *overrides])


def test_pairs_lie_alike_and_know_each_other(tmp_path: Path) -> None:
    drawn(tmp_path / "faces.h5", people=10, size=160).close()
    data = prepare(settings(), {"faces.h5": tmp_path / "faces.h5"}, None)
    assert data.sizes["sample"] == 20
    people, smiling = data["person"].values, data["expression"].values
    for person in np.unique(people):
        to, back = (np.flatnonzero((people == person) & (smiling == value))[0] for value in (1, 0))
        assert np.array_equal(data["x"][to], data["condition"][back])
        assert np.array_equal(data["x"][back], data["condition"][to])
        assert data["split"].values[to] == data["split"].values[back]
    assert np.array_equal(data["change"].values, 2 * smiling - 1)
    assert (data["correlation"].values > 0.95).all()
    points = data["landmarks"].values.reshape(20, -1, 2)
    assert points[smiling == 1][:, :2] == pytest.approx(
        np.broadcast_to(EYES * 64 - 0.5, (10, 2, 2)), abs=1e-3
    )
    assert np.isnan(points[smiling == 0]).all()
    # below the eyes the smile is the field that is told, up to light and noise
    rows, columns = np.mgrid[:64, :64]
    mouth = (slice(36, 58), slice(16, 48))
    for k in np.flatnonzero(smiling):
        neutral, face = data["condition"].values[k].mean(0), data["x"].values[k].mean(0)
        down, right = data["truth"].values[k]
        moved = map_coordinates(neutral, [rows + down, columns + right], order=1, mode="nearest")
        left, before = (
            np.square(face / face.mean() - picture / picture.mean())[mouth].mean()
            for picture in (moved, neutral)
        )
        assert left < 0.5 * before
    assert np.array(data.attrs["mean_face"]).shape == (64, 64)


def test_people_can_be_named_to_be_tested_on(tmp_path: Path) -> None:
    drawn(tmp_path / "faces.h5", people=10).close()
    files = {"faces.h5": tmp_path / "faces.h5"}
    data = prepare(settings("prepare.test_people=[drawn-0003, drawn-0007]"), files, None)
    tested = data["person"].values[data["split"].values == 2]
    assert set(tested) == {"drawn-0003", "drawn-0007"}
    with pytest.raises(InputError, match="no 'nobody' among the people"):
        prepare(settings("prepare.test_people=[nobody]"), files, None)


def test_a_template_of_landmarks_is_read(tmp_path: Path) -> None:
    path = tmp_path / "one.tem"
    path.write_text("3\n10 20\n11.5\t21\n12 22\n1\n0\n")
    assert read_template(path).tolist() == [[20, 10], [21, 11.5], [22, 12]]
    for text in ("", "five\n1 2\n", "3\n1 2\n3 4\n", "2\n1 2\n3 x\n"):
        path.write_text(text)
        with pytest.raises(InputError, match="no template of landmarks"):
            read_template(path)


def test_what_is_fetched_cannot_be_drawn() -> None:
    with pytest.raises(InputError, match="only drawn faces are made"):
        load(domain("faces"), overrides=["dataset=london_faces"])
