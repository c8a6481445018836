"""A user's own solids and camera: what is read, what is drawn of it, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from pydantic import ValidationError
from sciencevae.builtin.objects.dataset import prepare, read
from sciencevae.builtin.objects.model import build
from sciencevae.builtin.objects.own import own_labels, own_picture
from sciencevae.builtin.objects.scenes import SIZE, box, cylinder, together
from sciencevae.builtin.objects.settings import Setup
from sciencevae.builtin.objects.simulate import canonical, generate, twin_of
from sciencevae.builtin.objects.views import augment, on_table
from sciencevae.builtin.objects.world import World, world

from sciencevae.batch import Batch
from sciencevae.config import load
from sciencevae.errors import InputError
from sciencevae.registry import domain

BRACKET = World().solids["bracket"]
#: twice as far away as the built-in camera, above a table of twice the size
FAR = {"camera": {"place": [0, -520, 1040]}, "reach": 90}


def written(path: Path, corners: np.ndarray, triangles: np.ndarray) -> Path:
    trimesh.Trimesh(corners, triangles, process=False).export(path)
    return path


def settings(*overrides: str):
    own = ["variants={}", "source.realistic=0", "source.unseen=0"]
    return load(domain("objects"), overrides=[*own, *overrides])


@pytest.mark.parametrize("kind", ["stl", "obj", "ply"])
def test_a_mesh_is_drawn_as_the_solid_it_is_of(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / f"part.{kind}", *BRACKET)
    own = world(Setup(solids={"part": str(path)}))
    assert own.kinds == ("part",)
    assert own.mirrored
    drawn = canonical(own, "part", 12.0, -7.0, 0.6)
    assert drawn == pytest.approx(canonical(World(), "bracket", 12.0, -7.0, 0.6), abs=1e-6)


def test_all_twice_as_large_and_as_far_is_the_same_picture(tmp_path: Path) -> None:
    path = written(tmp_path / "part.stl", 2 * BRACKET[0], BRACKET[1])
    own = world(Setup(solids={"part": str(path)}, **FAR))
    drawn = canonical(own, "part", 24.0, -14.0, 0.6)
    assert drawn == pytest.approx(canonical(World(), "bracket", 12.0, -7.0, 0.6), abs=1e-6)
    turn, shift = torch.tensor([0.2]), torch.tensor([[3.0, -4.0]])
    assert torch.allclose(on_table(own, turn, 2 * shift), on_table(World(), turn, shift), atol=1e-5)


def test_what_has_no_mirror_image_is_not_mirrored(tmp_path: Path) -> None:
    corners, triangles = together([box(10, 0, 6, 56, 22, 12), box(-12, 15, 22, 12, 22, 44)])
    hand = str(written(tmp_path / "hand.stl", corners, triangles))
    part = str(written(tmp_path / "part.stl", *BRACKET))
    beside = {"camera": {"place": [60, -260, 520]}}
    # a tetrahedron in a box, of which it has all corners
    cut = box(0, 0, 22, 40, 40, 44)[0], np.array([[0, 3, 5], [0, 5, 6], [0, 6, 3], [3, 6, 5]])
    half = str(written(tmp_path / "half.ply", *cut))
    wanted = {
        "a tetrahedron": (Setup(solids={"half": half}), False),
        "both hands": (Setup(solids={"part": part}), True),
        "one hand": (Setup(solids={"part": part, "hand": hand}), False),
        "a camera beside": (Setup(solids={"part": part}, **beside), False),
    }
    assert {name: world(setup).mirrored for name, (setup, _) in wanted.items()} == {
        name: mirrored for name, (_, mirrored) in wanted.items()
    }
    chosen = settings(f"source.setup.solids.hand={hand}")
    own = world(chosen.source.setup)
    x = {
        "picture": torch.from_numpy(canonical(own, "hand", 15.0, 5.0, 0.4).transpose(2, 0, 1)).float(),
        "twin": torch.from_numpy(twin_of(own, "hand", 15.0, 5.0, 0.4)).float(),
        "position": torch.tensor([15.0, 5.0]),
        "heading": torch.tensor([0.4]),
    }
    rows = Batch(
        {name: value.expand(30, *value.shape) for name, value in x.items()}, {"condition": torch.zeros(30, 1)}
    )
    seen = augment(chosen)(rows, torch.Generator().manual_seed(0))
    assert torch.allclose(seen.x["position"], rows.x["position"])


def test_variants_have_solids_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are when this is configured: stages run elsewhere, and later."""
    written(tmp_path / "part.stl", *BRACKET)
    written(tmp_path / "other.stl", 1.1 * BRACKET[0], BRACKET[1])
    monkeypatch.chdir(tmp_path)
    own = ["source={realistic: 0, unseen: 0, setup: {solids: {part: part.stl}}}"]
    chosen = load(
        domain("objects"),
        overrides=[*own, "variants={more: {source: {setup: {solids: {part: other.stl}}}}, same: {seed: 3}}"],
    )
    monkeypatch.chdir("/")
    for settings in (chosen, type(chosen).model_validate(chosen.dump())):
        solids = {
            name: world(settings.variant(name).source.setup).solids["part"][0]
            for name in ("main", "more", "same")
        }
        assert solids["main"] == pytest.approx(solids["same"])
        assert solids["more"] == pytest.approx(1.1 * solids["main"])


def test_a_recipe_is_of_what_files_hold_and_not_of_where_they_lie(tmp_path: Path) -> None:
    import h5py

    recipes = set()
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        path = written(tmp_path / name / "part.stl", *BRACKET)
        given = {
            "plain": 1,
            "randomised": 1,
            "realistic": 0,
            "unseen": 0,
            "setup": {"solids": {"part": str(path)}},
        }
        generate(tmp_path / f"{name}.h5", given, seed=0)
        with h5py.File(tmp_path / f"{name}.h5") as file:
            recipes.add(file.attrs["recipe"])
    assert len(recipes) == 1


def test_pixels_become_millimetres_by_ones_own_camera(tmp_path: Path) -> None:
    from PIL import Image

    own = world(Setup(camera={"place": [100, 0, 700], "target": [5, 5, 0], "view": 20, "roll": 30}))
    column, row = own.camera.project(np.array([[20.0, -15.0, 0.0]]))[0, :2] * 4
    Image.new("RGB", (4 * SIZE, 4 * SIZE)).save(tmp_path / "a.png")
    labels = tmp_path / "labels.csv"
    labels.write_text(f"file,column,row\na.png,{column},{row}\n")
    (label,) = own_labels(labels)
    assert own_picture(label, own)[1] == pytest.approx([20.0, -15.0], abs=1e-6)


def test_a_camera_may_look_straight_down() -> None:
    camera = world(Setup(camera={"place": [3, 4, 600], "target": [3, 4, 0]})).camera
    seen = camera.project(np.array([[3.0, 4.0, 0.0], [13.0, 4.0, 0.0], [3.0, 14.0, 0.0]]))[:, :2]
    apart = SIZE / 2 / math.tan(math.radians(8)) * 10 / 600
    half = SIZE / 2
    assert seen == pytest.approx(np.array([[half, half], [half + apart, half], [half, half - apart]]))


def test_ones_own_solids_are_simulated_and_learnt(tmp_path: Path) -> None:
    from PIL import Image

    path = written(tmp_path / "part.stl", *together([cylinder(0, 0, 20, 30, 40), box(50, 0, 10, 60, 20, 20)]))
    chosen = settings(
        f"source.setup={{solids: {{part: {path}}}, camera: {{place: [0, -520, 1040]}}, reach: 90}}",
        "prepare={labelled: 2, unlabelled: 0, valid: 0, test: 1}",
    )
    counts = {"plain": 12, "randomised": 6, "realistic": 0, "unseen": 0}
    given = counts | {"setup": chosen.source.model_dump(mode="json", exclude_none=True)["setup"]}
    for name in "ab":
        generate(tmp_path / f"{name}.h5", given, seed=3)
    own = world(chosen.source.setup)
    lines = ["file,x,y,heading,kind"]
    for i in range(3):
        picture = (255 * canonical(own, "part", 20.0 * i, -60.0, 0.5)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{20.0 * i},-60,{math.degrees(0.5)},part")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    data, again = (
        prepare(chosen, {"objects.h5": tmp_path / f"{name}.h5"}, tmp_path / "labels.csv") for name in "ab"
    )
    assert data.identical(again)
    assert set(data["kind"].values) == {"part"}
    assert 45 < abs(data["x"].values).max() <= 90
    told = data.isel(sample=(data["domain"].values == "realistic") & data["labelled"].values)
    wanted = twin_of(own, "part", *(float(told[name][0]) for name in ("x", "y", "true_heading")))
    assert told["twin"].values[0] == pytest.approx(wanted, abs=1e-6)
    pose = build(chosen, data).decoder.network.pose.eval()
    far = pose(torch.randn(200, 96))["position"]
    assert pose.reach == 90
    assert far[:, 2:].exp().min() > 2 * 0.36
    assert far[:, 2:].exp().max() < 2 * 55


def test_what_is_no_solid_is_refused(tmp_path: Path) -> None:
    def solids(setup: Setup):
        return world(setup).solids

    corners, triangles = BRACKET
    flat = np.zeros((0, 3), int)
    cases = {
        "in another unit": ((corners / 1000, triangles), "0.056 mm long"),
        "begins at z = -22": ((corners - [0, 0, 22], triangles), "move it to stand there"),
        "triangles": ((corners, flat), "no triangles|cannot be read as a mesh"),
        "simplify": ((corners, np.tile(triangles, (900, 1))), "21,600 triangles"),
        "flat": ((corners, np.zeros_like(triangles)), "no triangles"),
        "far": ((np.add(corners, [500, 0, 0]), triangles), "far from its origin"),
        "place": ((np.where(corners == corners[0], np.nan, corners), triangles), "without a place"),
    }
    for number, (mesh, words) in enumerate(cases.values()):
        path = written(tmp_path / f"{number}.ply", *mesh)
        with pytest.raises(InputError, match=words):
            solids(Setup(solids={"part": str(path)}))
    path = tmp_path / "part.stl"
    path.write_bytes(b"solid, they say")
    with pytest.raises(InputError, match=r"part\.stl"):
        solids(Setup(solids={"part": str(path)}))
    setup = Setup(solids={"part": str(written(path, *BRACKET))})
    written(path, 1.1 * corners, triangles)
    with pytest.raises(InputError, match=r"configure the run again, with source\.setup\.solids\.part"):
        solids(setup)
    path.unlink()
    with pytest.raises(InputError, match=r"cannot read the solid part, .*; put it back"):
        solids(setup)


def test_where_poses_are_read_no_solid_is_needed(tmp_path: Path) -> None:
    from PIL import Image

    path = written(tmp_path / "part.stl", *BRACKET)
    chosen = settings(f"source.setup.solids.part={path}")
    path.unlink()
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("file,kind\na.png,part\n")
    (block,) = read(tmp_path / "labels.csv", chosen)
    assert list(block["status"].values) == ["ok"]


def test_a_setup_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the camera does not see -200, -200 mm"):
        world(Setup(reach=200))
    with pytest.raises(ValidationError, match="looks down on the table"):
        Setup(camera={"place": [0, 0, -500]})
    with pytest.raises(ValidationError, match="is what is never simulated"):
        Setup(solids={"jug": str(written(tmp_path / "jug.stl", *BRACKET))})
    with pytest.raises(ValidationError, match="is STL, OBJ or PLY"):
        Setup(solids={"part": "part.step"})
    with pytest.raises(ValidationError, match="No such file"):
        Setup(solids={"part": str(tmp_path / "part.stl")})
    with pytest.raises(InputError, match=r"set source\.realistic=0"):
        load(domain("objects"), overrides=["variants={}", "source.setup.reach=30"])
