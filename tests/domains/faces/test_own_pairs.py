"""Pairs of pictures of your own: read, aligned, trained on and encoded; and what is said where they are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sciencevae.builtin.faces import photos
from sciencevae.builtin.faces.dataset import prepare, read
from sciencevae.builtin.faces.frame import EYES
from sciencevae.builtin.faces.own import own_pairs
from sciencevae.builtin.faces.simulate import generate

from sciencevae.cli import main
from sciencevae.config import load
from sciencevae.errors import InputError
from sciencevae.provenance import file_hash, input_content
from sciencevae.registry import domain
from sciencevae.rerun import _input
from sciencevae.runs import configure

PEOPLE = 12


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> h5py.File:
    path = tmp_path_factory.mktemp("drawn") / "faces.h5"
    generate(path, {"people": PEOPLE, "size": 128}, seed=4)
    return h5py.File(path)


@pytest.fixture
def table(drawn: h5py.File, tmp_path: Path) -> Path:
    """A folder of pictures and the table that names them, eyes marked in the neutral ones and the smiling ones."""
    folder = tmp_path / "own"
    (folder / "pictures").mkdir(parents=True)
    rows = []
    for person in range(PEOPLE):
        points = drawn["landmarks"][person][:, ::-1]
        lines = [str(len(points)), *(f"{x} {y}" for x, y in points)]
        (folder / f"{person}.tem").write_text("\n".join(lines) + "\n")
        for smiles, expression in enumerate(("neutral", "smiling")):
            file = f"pictures/{person}_{smiles}.png"
            Image.fromarray(drawn["images"][person, smiles]).save(folder / file)
            eyes = " ".join(f"{number:.2f}" for number in points[:2].ravel())
            rows.append({"person": f"p{person}", "expression": expression, "file": file, "eyes": eyes})
    pd.DataFrame(rows).to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


def settings():
    return load(
        domain("faces"), overrides=["prepare={size: 48, fractions: {train: 0.6, valid: 0.2, test: 0.2}}"]
    )


def prepared(table: Path):
    return prepare(settings(), {}, table)


def changed(table: Path, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> Path:
    rows = pd.read_csv(table, dtype=str)
    found = change(rows)
    (rows if found is None else found).to_csv(table, index=False)
    return table


def test_pairs_of_your_own_are_those_of_the_generator(table: Path, drawn: h5py.File) -> None:
    known = prepare(settings(), {"faces.h5": Path(drawn.filename)}, None)
    own = prepared(table)
    assert own.sizes["sample"] == 2 * PEOPLE
    assert np.abs(own["x"].values - known["x"].values).max() < 0.04
    points = own["landmarks"].values[own["expression"].values == 1].reshape(PEOPLE, -1, 2)
    assert points == pytest.approx(np.broadcast_to(EYES * 48 - 0.5, points.shape), abs=1e-3)


def test_a_picture_that_changed_is_read_again(table: Path, tmp_path: Path) -> None:
    faces = domain("faces")
    table = changed(table, lambda rows: rows.assign(landmarks=[f"{i // 2}.tem" for i in range(len(rows))]))

    def key() -> str:
        return configure(tmp_path / "run", faces, settings(), table).main.key

    first = key()
    assert key() == first
    for name in ("pictures/3_1.png", "3.tem"):
        path, before = table.parent / name, key()
        path.write_bytes(path.read_bytes() + b"\n")
        assert key() != before
    (table.parent / "pictures/3_1.png").unlink()
    assert key() != first, "prepare says that it is missing"


def test_a_run_is_made_again_of_the_same_pictures_alone(table: Path) -> None:
    faces = domain("faces")
    record = {"input": {"path": str(table), **input_content(faces, table)}}
    assert record["input"]["sha256"] == file_hash(table)
    assert record["input"]["named"]["pictures/2_0.png"] == file_hash(table.parent / "pictures/2_0.png")
    assert _input(faces, record, None) == table
    moved = table.parent.rename(table.parent.with_name("moved")) / table.name
    assert _input(faces, record, str(moved)) == moved
    picture = moved.parent / "pictures/2_0.png"
    picture.write_bytes(picture.read_bytes() + b"\n")
    with pytest.raises(InputError, match=r"names pictures/2_0\.png, which is not what the run was made from"):
        _input(faces, record, str(moved))
    picture.unlink()
    with pytest.raises(InputError, match=r"names pictures/2_0\.png, which is not there: put it back"):
        _input(faces, record, str(moved))


def test_landmarks_are_taken_from_templates_where_they_are(table: Path) -> None:
    def marked(rows: pd.DataFrame) -> pd.DataFrame:
        neutral = rows.expression == "neutral"
        rows["landmarks"] = [f"{i // 2}.tem" if own else "" for i, own in enumerate(neutral)]
        rows.loc[rows.person == "p3", "landmarks"] = ""
        return rows.assign(eyes=rows.eyes.where(rows.landmarks == ""))

    own = prepared(changed(table, marked))
    points = own["landmarks"].values.reshape(2 * PEOPLE, -1, 2)
    known = (own["expression"].values == 1) & (own["person"].values != "p3")
    assert points.shape[1] > 15
    assert points[known][:, :2] == pytest.approx(
        np.broadcast_to(EYES * 48 - 0.5, (PEOPLE - 1, 2, 2)), abs=0.1
    )
    assert (points[known][:, 17, 0] > 0.55 * 48).all(), "the mouth"
    assert np.isnan(points[~known]).all()


def test_faces_without_marks_are_brought_together(
    table: Path, drawn: h5py.File, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A detector says roughly where they are: of one person at several places, they are found alike."""
    random = np.random.default_rng(3)
    shifts = random.integers(-9, 10, (PEOPLE, 2))
    for person, shift in enumerate(shifts):
        for smiles in (0, 1):
            picture = np.roll(drawn["images"][0, smiles], shift, (0, 1))
            light = Image.fromarray(np.round(random.uniform(0.8, 1) * picture).astype(np.uint8))
            light.save(table.parent / "pictures" / f"{person}_{smiles}.png")
    eyes = drawn["landmarks"][0, :2] + shifts[:, None]
    # first all neutral pictures are looked at, then of each person the smiling one
    middles = iter([*eyes.mean(1), *eyes.mean(1)])

    def roughly(photo: np.ndarray) -> list[tuple[float, float, float]]:
        side = 128 * 0.23 / 0.365 * random.uniform(0.95, 1.05)
        row, column = next(middles) - side * np.array([0.378, 0.4965]) + random.normal(0, 0.03 * side, 2)
        return [(row, column, side)]

    monkeypatch.setattr(photos, "_squares", roughly)
    pairs = list(own_pairs(changed(table, lambda rows: rows.drop(columns="eyes"))))
    off = np.stack([pair.eyes[0] for pair in pairs]) - eyes
    assert np.abs(off - off.mean(0)).max() < 0.3
    assert np.abs(off.mean(0)).max() < 4
    assert [pair.landmarks.tolist() for pair in pairs] == [pair.eyes[0].tolist() for pair in pairs]


def _set(column: str, value: str, row: int = 0) -> Callable[[pd.DataFrame], None]:
    return lambda rows: rows.__setitem__(
        column, [value if i == row else old for i, old in enumerate(rows[column])]
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: rows.drop(columns="file"), "has no column 'file'"),
        (lambda rows: rows.iloc[:0], "holds no rows"),
        (_set("file", ""), "row 1: it has no file: fill it in"),
        (_set("person", ""), "row 1: it has no person"),
        (_set("expression", "happy", 3), "row 4: the expression 'happy' is none: write neutral or smiling"),
        (lambda rows: rows.iloc[1:], "row 1: person 'p0' has no neutral picture that can be used: add one"),
        (lambda rows: pd.concat([rows, rows.iloc[:1]]), "row 25: row 1 has the same person and expression"),
        (_set("eyes", "1 2 3"), "row 1: the eyes '1 2 3' are not four numbers"),
        (_set("eyes", "90 40 20 40"), "x, y of the eye at the left"),
        (_set("eyes", "20 40 22 40"), "is too small"),
        (_set("file", "pictures/nothing.png"), "no file .*nothing.png"),
        (_set("file", "../../secret.png"), "is not within the folder of the table"),
        (_set("file", "0.tem"), "is no picture that can be read"),
        (lambda rows: rows.assign(landmarks="0.tem", eyes="").assign(landmarks="pairs.csv"), "no template"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(
    change: Callable[[pd.DataFrame], pd.DataFrame | None], says: str, table: Path
) -> None:
    with pytest.raises(InputError, match=says) as found:
        prepared(changed(table, change))
    assert "\n" not in str(found.value)


def test_a_damaged_picture_is_named(table: Path) -> None:
    path = table.parent / "pictures" / "2_1.png"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match=r"2_1\.png is damaged or is no picture"):
        prepared(table)


def test_a_picture_without_a_face_is_named(table: Path) -> None:
    Image.new("RGB", (200, 200), "grey").save(table.parent / "pictures" / "1_0.png")
    changed(table, _set("eyes", "", 2))
    with pytest.raises(InputError, match=r"no face was found in .*1_0\.png.* the column eyes"):
        prepared(table)


def test_an_empty_file_is_no_table(table: Path) -> None:
    table.write_text("")
    with pytest.raises(InputError, match="is empty"):
        prepared(table)


def test_pictures_are_read_in_their_order_for_a_trained_model(table: Path) -> None:
    template = prepared(table).isel(sample=slice(0))
    changed(table, _set("expression", "happy", 5))
    (table.parent / "pictures" / "4_0.png").write_bytes(b"no picture")
    (block,) = read(table, settings(), template)
    assert block["row"].values.tolist() == list(range(2 * PEOPLE))
    assert block["id"].values[:2].tolist() == ["p0 neutral", "p0 smiling"]
    bad = block["status"].values != "ok"
    assert np.flatnonzero(bad).tolist() == [4, 5, 8, 9]
    assert "no smiling picture" in block["status"].values[4]
    assert np.isnan(block["x"].values[bad]).all()
    assert np.array_equal(block["x"].values[0], block["condition"].values[1])
    assert block["change"].values[:2].tolist() == [-1, 1]


def test_a_run_of_pictures_of_your_own(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    small = [
        "prepare={size: 48, fractions: {train: 0.6, valid: 0.2, test: 0.2}}",
        "model={latent: 2, channels: [8, 16], hidden: 16, grid: 8}",
        "training={epochs: 2, batch_size: 8}",
        "analyse={oracle_steps: 5, draws: 100}",
        "variants={}",
    ]
    words = ["run", "faces", "--input", str(table), "--out", str(folder)]
    for word in small:
        words += ["--set", word]
    assert main(words) == 0
    assert (folder / "report.html").is_file()
    out = tmp_path / "z.parquet"
    assert main(["encode", "--model", str(folder / "model.safetensors"), str(table), "-o", str(out)]) == 0
    latents = pd.read_parquet(out)
    assert (latents.status == "ok").all()
    assert list(latents["row"]) == list(range(2 * PEOPLE))
    assert not [name for name in latents if name.startswith("condition")]
