"""A run of faces from end to end: smiles that fit, fold nowhere, and can be undone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from sciencevae.builtin.faces.analysis import smiling_pairs
from sciencevae.builtin.faces.editing import alike, edited, fitted_fields, psnr
from sciencevae.builtin.faces.model import build

from sciencevae.cli import main
from sciencevae.config import load
from sciencevae.registry import domain
from sciencevae.runs import Run
from sciencevae.vae.decoders.warp import compose, jacobian, warp


def test_a_smile_comes_nearer_to_the_real_one(faces_run: Run) -> None:
    edits = faces_run.table("edits").query("group == 'all'").set_index("method")
    assert edits.loc["main", "mouth_low"] > 0
    assert edits.loc["main", "mouth_gain"] > 1.0
    assert edits.loc["best deformation", "mouth"] > edits.loc["main", "mouth"]
    assert edits.loc["main", "full"] > edits.loc["anew (drawn anew)", "full"] + 5
    assert edits.loc["main", "lowest_identity"] > 0.95
    folds = faces_run.table("folds")
    assert (folds.folds == 0).all()
    assert set(folds.amount) == {0.5, 1.0, 1.5}
    metrics = json.loads((faces_run.folder / "metrics.json").read_text())
    assert metrics["expression"]["main"]["accuracy"] > 0.9
    assert metrics["editing"]["main"]["field_error"] < 0.8 * metrics["editing"]["main"]["field_size"]


def test_amounts_are_multiples_of_one_velocity(faces_run: Run) -> None:
    model = faces_run.main.model()
    source, _, _ = smiling_pairs(faces_run.main, "test")
    same, none = edited(model, source, 0.0)
    assert torch.equal(same, source)
    assert not none.any()
    there, back = edited(model, source, 1.0)[1], edited(model, source, -1.0)[1]
    assert compose(there, back).abs().max() < 0.15 * there.abs().max()
    half = edited(model, source, 0.5)[1]
    assert (compose(half, half) - there).abs().max() < 0.1 * there.abs().max()
    with torch.no_grad():
        trunk = model.decoder.network
        z = torch.randn(len(source), model.dim)
        v = trunk(z, source)
        assert torch.allclose(trunk(-1.7 * z, source), -1.7 * v, atol=1e-4)
        assert not v[..., 0, :].any(), "nothing moves at the edges"
        assert not v[..., -1].any()


def test_a_face_in_a_mirror_smiles_in_the_mirror(faces_run: Run) -> None:
    source, _, _ = smiling_pairs(faces_run.main, "test")
    there, mirrored = (edited(faces_run.main.model(), faces)[0] for faces in (source, source.flip(-1)))
    assert (mirrored.flip(-1) - there).abs().max() < 1e-3


def test_the_shape_of_a_face_is_read(faces_run: Run) -> None:
    """The landmarks of people who were not learned from, nearer than the mean face has them."""
    metrics = faces_run.metrics["editing"]["main"]
    assert metrics["landmark_error"] < 0.75 * metrics["landmark_spread"]


def test_a_model_without_shapes_knows_the_mean_face_alone(faces_run: Run) -> None:
    data = faces_run.main.data
    settings = load(domain("faces"), overrides=["model={latent: 3, channels: [8, 16], grid: 8, modes: 0}"])
    trunk = build(settings, data).decoder.network
    source, _, _ = smiling_pairs(faces_run.main, "test")
    train = data["landmarks"].values[data["split"].values == 0]
    assert trunk.landmarks(source)[0].numpy() == pytest.approx(np.nanmean(train, 0), abs=1e-3)
    with torch.no_grad():
        one, other = trunk(torch.ones(2, 3), source[:2])
    assert torch.equal(one, other)


def test_the_latents_of_a_pair_are_opposite(faces_run: Run) -> None:
    latents = faces_run.main.latents
    z, person, smiling = latents["z"].values, latents["person"].values, latents["expression"].values == 1
    order = np.argsort(person[smiling]), np.argsort(person[~smiling])
    there, back = z[smiling][order[0]], z[~smiling][order[1]]
    assert np.linalg.norm(there + back, axis=1).mean() < 0.5 * np.linalg.norm(there - back, axis=1).mean()


def test_the_best_field_for_all_is_worse_than_one_each() -> None:
    """And both undo a shift that they were given."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(3, 3, 9, 9, generator=generator)
    source = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic")
    shift = torch.tensor([1.0, -0.5])[None, :, None, None].expand(1, 2, 32, 32)
    target = warp(source, shift.expand(1, 3, -1, -1, -1))[0]
    given = {"grid": 6, "roughness": 0.1, "squarings": 4, "scale": 0.07, "steps": 80}
    one = fitted_fields(source, target, **given, shared=True)
    assert one.shape == (1, 2, 32, 32)
    assert (one - shift)[..., 6:-6, 6:-6].abs().max() < 0.1
    each = fitted_fields(source, target, **given, shared=False)
    assert each.shape == (3, 2, 32, 32)
    assert (jacobian(each) > 0).all()


def test_scores_are_what_they_say() -> None:
    faces = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert psnr(faces + 0.1, faces) == pytest.approx(20, abs=1e-4)
    off = faces.clone()
    off[:, :, :16] += 0.5
    assert psnr(off, faces, (0.5, 1.0, 0.0, 1.0)) == pytest.approx(120)
    assert alike(0.5 * faces + 0.2, faces) == pytest.approx(1, abs=1e-5)
    assert alike(1 - faces, faces) == pytest.approx(-1, abs=1e-5)


@pytest.fixture
def photo(faces_run: Run, tmp_path: Path) -> tuple[Path, str]:
    """A drawn photo larger than the model's faces, and where its eyes are."""
    import h5py

    details = json.loads(next((faces_run.folder / "state" / "simulate").glob("*.json")).read_text())
    with h5py.File(details["files"]["faces.h5"]["path"]) as file:
        picture = Image.fromarray(file["images"][3, 0]).resize((256, 256), Image.Resampling.BICUBIC)
        eyes = 2 * file["landmarks"][3, :2] + 0.5
    path = tmp_path / "face.png"
    picture.save(path)
    return path, ",".join(f"{number:.1f}" for number in eyes[:, ::-1].ravel())


def test_a_photo_is_edited_at_its_own_size(faces_run: Run, photo: tuple[Path, str], tmp_path: Path) -> None:
    path, eyes = photo
    out = tmp_path / "out.png"
    model = str(faces_run.main.model_path)
    words = ["edit", "--model", model, "--attribute", "smile", "--eyes", eyes, str(path), "-o", str(out)]
    assert main([*words, "--amount", "0"]) == 0
    before, same = np.asarray(Image.open(path)), np.asarray(Image.open(out))
    assert np.array_equal(before, same), "nothing is resampled where nothing moves"
    assert main([*words, "--amount", "1"]) == 0
    after = np.asarray(Image.open(out))
    changed = (after != before).any(2)
    assert changed.any()
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert rows[0] > 40, "the hair is as it was"
    assert columns[0] > 20
    assert columns[-1] < 236

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.open(path).save(tmp_path / "wide.png", icc_profile=profile)
    other = [str(tmp_path / "wide.png") if word == str(path) else word for word in words]
    assert main([*other, "--amount", "1"]) == 0
    assert Image.open(out).info["icc_profile"] == profile, "the numbers are the colours that they were"

    # a phone's picture lies on its side, and says so
    sideways = tmp_path / "phone.png"
    exif = Image.Exif()
    exif[274] = 6
    Image.open(path).rotate(90, expand=True).save(sideways, exif=exif)
    words[words.index(str(path))] = str(sideways)
    assert main([*words, "--amount", "1"]) == 0
    assert np.array_equal(np.asarray(Image.open(out)), after)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("text", "is no picture that can be read"),
        ("cut", "is damaged or is no picture"),
        ("absent", "no file"),
        ("huge", "more pixels than are read: make it smaller"),
        ("grey", "no face was found"),
        ("eyes", "x, y of the eye at the left"),
        ("small", "is too small"),
        ("attribute", "unknown attribute 'frown'"),
        ("amount", "would fold the picture"),
        ("large", "would fold the picture"),
        ("immense", "give a smaller one"),
        ("ending", "a picture ends in"),
        ("itself", "is the picture itself"),
        ("model", "edits nothing|draws faces anew"),
    ],
)
def test_what_cannot_be_edited_is_said(
    broken: str,
    says: str,
    faces_run: Run,
    photo: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import re

    path, eyes = photo
    model, out, attribute, amount = faces_run.main.model_path, tmp_path / "out.png", "smile", "1"
    if broken == "text":
        path.write_text("a face")
    elif broken == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif broken == "huge":
        Image.new("1", (12_000, 10_000)).save(path)
    elif broken == "absent":
        path.unlink()
    elif broken == "grey":
        Image.new("RGB", (200, 200), "grey").save(path)
        eyes = ""
    elif broken == "eyes":
        eyes = "200,100,100,100"
    elif broken == "small":
        eyes = "100,100,104,100"
    elif broken == "attribute":
        attribute = "frown"
    elif broken == "amount":
        amount = "30"
    elif broken == "immense":
        amount = "1e300"
    elif broken == "large":
        amount = "999"
    elif broken == "ending":
        path.write_text("is not looked at before")
        out = tmp_path / "out.gif"
    elif broken == "itself":
        out = path
    elif broken == "model":
        model = faces_run.variant("anew").model_path
    before = path.read_bytes() if path.exists() else b""
    words = [
        "edit",
        "--model",
        str(model),
        "--attribute",
        attribute,
        "--amount",
        amount,
        str(path),
        "-o",
        str(out),
    ]
    assert main([*words, *(["--eyes", eyes] if eyes else [])]) == 2
    said = capsys.readouterr().err
    assert re.search(says, said), said
    assert said.count("\n") == 1
    assert (path.read_bytes() if path.exists() else b"") == before
    assert out == path or not out.exists()


def test_pages_show_the_edits(faces_run: Run) -> None:
    names = {path.stem for path in (faces_run.folder / "figures").glob("*.png")}
    assert {"strip", "back", "fields", "latents"} <= names
    page = (faces_run.folder / "report.html").read_text()
    assert "PSNR, mouth (dB)" in page
    assert "least determinant" in page
