"""A run of objects from end to end, the data it stands on, and a user's own pictures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from PIL import Image
from sciencevae.builtin.objects.analysis import Found, found_poses, parts_of
from sciencevae.builtin.objects.dataset import prepare, read
from sciencevae.builtin.objects.model import build
from sciencevae.builtin.objects.scenes import SIZE, UNSEEN
from sciencevae.builtin.objects.simulate import canonical, generate
from sciencevae.builtin.objects.world import World

from sciencevae.config import load
from sciencevae.errors import InputError
from sciencevae.latents.files import decode_file, encode_file
from sciencevae.registry import domain
from sciencevae.runs import Run, configure
from sciencevae.stages import fetch
from sciencevae.stages import prepare as prepare_stage

FEW = {"plain": 20, "randomised": 40, "realistic": 0, "unseen": 0}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    path = tmp_path_factory.mktemp("objects") / "objects.h5"
    generate(path, FEW, seed=2)
    return {"objects.h5": path}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Nine pictures of a user's: six with a whole label, one of these without a kind, three without any."""
    lines = ["file,x,y,heading,kind"]
    for i in range(9):
        picture = canonical(World(), "tee", 5.0 * i - 20, 3.0, 0.3 * i)
        Image.fromarray((255 * picture).astype(np.uint8)).resize((160, 128)).save(tmp_path / f"{i}.png")
        known = f"{5.0 * i - 20},3,{math.degrees(0.3 * i)},{'tee' if i else ''}" if i < 6 else ",,,"
        lines.append(f"{i}.png,{known}")
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def settings(*overrides: str):
    return load(domain("objects"), overrides=["variants={}", *overrides])


def test_every_stage_leaves_what_it_says(objects_run: Run) -> None:
    table = objects_run.table("poses")
    assert set(table.model) == {"main", "tuned"}
    assert {"realistic", "realistic, unseen object", "plain simulation"} <= set(table.pictures)
    assert np.isfinite(table.drop(columns=["model", "pictures"]).to_numpy(float)).all()
    assert ((table.low <= table.position) & (table.position <= table.high)).all()
    metrics = json.loads((objects_run.folder / "metrics.json").read_text())
    assert metrics["poses"]["main"]["labels"] == 6
    assert (objects_run.folder / "report.html").stat().st_size > 10_000
    assert {p.stem for p in (objects_run.folder / "figures").glob("*.png")} >= {"twins", "errors"}


def test_rows_tell_what_their_domain_knows(objects_run: Run) -> None:
    data = objects_run.main.data
    realistic = data["domain"].values == "realistic"
    told, split = data["labelled"].values, data["split"].values
    assert np.array_equal(data["condition"].values[:, 0] == 1, realistic)
    assert np.isnan(data["position"].values[realistic]).all(), "the regressor learns in simulation alone"
    assert np.isfinite(data["position"].values[~realistic]).all()
    assert np.array_equal(np.isfinite(data["twin"].values).all((1, 2, 3)), told)
    assert not told[split == 2].any()
    labelled = realistic & told
    share = labelled.sum() / (split == 0).sum()
    assert share == pytest.approx(0.15, abs=0.03)
    assert labelled.sum() % 6 == 0, "each as often as the others"
    tested = set(data["x"].values[realistic & (split == 2)])
    assert not tested & set(data["x"].values[realistic & (split == 0)])
    assert set(data["kind"].values[split == 0]) <= set(World().kinds), "the jug is never trained on"
    assert (data["kind"].values[split == 2] == UNSEEN).sum() == 4
    poses = objects_run.variants["tuned"].data
    assert np.isfinite(poses["twin"].values[poses["labelled"].values]).all(), "by which tables are printed"
    assert np.isfinite(poses["position"].values[poses["labelled"].values]).all()


def test_intervals_of_a_known_distribution_hold_what_they_say(objects_run: Run) -> None:
    """A model whose pose is t₄ of scale 10 and von Mises of κ = 2, whatever it sees, against draws from these."""
    random = np.random.default_rng(0)
    rows = 4000
    truth = 10 * random.standard_t(4, (rows, 2)), random.vonmises(0.5, 2.0, rows)
    data = xr.Dataset(
        {
            "picture": (("sample", "c", "h", "w"), np.zeros((rows, 3, SIZE, SIZE), np.float32)),
            "condition": (("sample", "domains"), np.ones((rows, 1), np.float32)),
        },
        {name: ("sample", v.astype(np.float32)) for name, v in
         (("x", truth[0][:, 0]), ("y", truth[0][:, 1]), ("true_heading", truth[1]))},
    )  # fmt: skip
    model = build(objects_run.variants["tuned"].settings, data).eval()
    with torch.no_grad():
        last = model.decoder.network.layers[-1]
        last.weight.zero_()
        spread = 5 * math.atanh((math.log(10) - 1.5) / 2.5) - 5 * 0.6
        way = 2.0 / 10
        last.bias.copy_(torch.tensor([0, 0, spread, spread, way * math.cos(0.5), way * math.sin(0.5)]))

    class Known:
        settings = objects_run.settings

        def model(self):
            return model

    known = Known()
    known.data = data
    found: Found = found_poses(known, np.arange(rows), 8)
    for share in (0.68, 0.95):
        assert found.within(share) == pytest.approx((share, share), abs=0.03)
    assert found.error.mean() == pytest.approx(np.linalg.norm(truth[0], axis=1).mean(), rel=1e-3)
    assert found.position == pytest.approx(0, abs=1e-3)
    assert abs(found.heading - 0.5).max() < 0.5, "a mean over 128 draws"


def test_what_is_not_known_of_a_picture_counts_nowhere(objects_run: Run) -> None:
    """Of pictures without a heading the position is judged, and no heading."""

    def found(known: np.ndarray) -> Found:
        class Shown:
            settings, data = objects_run.settings, objects_run.main.data
            model = objects_run.main.model

        Shown.data = Shown.data.assign_coords(
            true_heading=Shown.data["true_heading"].where(xr.DataArray(known, dims="sample"))
        )
        return found_poses(Shown, np.arange(8), 4)

    known = np.ones(objects_run.main.data.sizes["sample"], bool)
    whole, known[5:8] = found(known), False
    part = found(known)
    assert np.array_equal(part.error, whole.error)
    assert np.isnan(part.turn[5:]).all()
    assert np.isnan(part.beyond[5:]).all()
    assert part.median_turn == np.median(whole.turn[:5])
    assert part.within(0.5)[1] == (whole.beyond[:5] > 0.5).mean()


def test_what_nothing_is_told_of_weighs_nothing(files, labels: Path) -> None:
    """Neither in training nor where the best weights are chosen: there is but the KL to see in it."""
    labels.write_text(labels.read_text().replace(",0.0,\n", ",0.0,tee\n"))
    data = prepare(settings("prepare={labelled: 2, unlabelled: 2, valid: 1, test: 1}"), files, labels)
    told = (data["domain"].values != "realistic") | data["labelled"].values
    assert np.array_equal(data["weight"].values, told.astype(np.float32))
    assert not told[(data["split"].values == 1) & (data["domain"].values == "realistic")].any()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("prepare.fractions={train: 0.8, valid: 0.1, test: 0.1}", "no simulated picture is tested on"),
        ("refit.tune=true", "what is tuned is a regressor"),
        ("model.kind=regress", r"set prepare\.targets=poses"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(override: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        settings(override)


def test_own_pictures_are_trained_and_tested_on(files, labels: Path) -> None:
    chosen = settings("prepare={labelled: 2, unlabelled: 2, valid: 1, test: 1}")
    every = settings("prepare={labelled: 6, unlabelled: 2, valid: 0, test: 1}")
    with pytest.raises(InputError, match=r"0\.png has a position, but no heading or no kind"):
        prepare(every, files, labels)
    text = labels.read_text().replace(",0.0,\n", ",0.0,tee\n")
    labels.write_text(text)
    data = prepare(chosen, files, labels)
    own = data.isel(sample=data["domain"].values == "realistic")
    split = own["split"].values
    assert ((split == 0) & own["labelled"].values).sum() % 2 == 0
    assert (split == 1).sum() == 1
    assert (split == 2).sum() == 3
    assert ((split == 0) & ~own["labelled"].values).sum() == 2
    with pytest.raises(
        InputError, match=r"6 of 9 pictures have a position, and prepare\.labelled asks for 30"
    ):
        prepare(settings("prepare={unlabelled: 2}"), files, labels)
    with pytest.raises(InputError, match=r"of 6 pictures with a position .* none is left to test on"):
        prepare(settings("prepare={labelled: 4, unlabelled: 2, valid: 2}"), files, labels)


def test_own_pictures_are_prepared_beside_the_simulation(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the stages, as the workflow does them: an input takes the place of the realistic pictures alone."""
    monkeypatch.setenv("SCIENCEVAE_CACHE", str(tmp_path / "cache"))
    objects = domain("objects")
    few = ["source.plain=20", "source.randomised=40", "prepare={plain: 20, labelled: 2, valid: 1}"]
    own = load(objects, "own", few)
    labels.write_text(labels.read_text().replace(",0.0,\n", ",0.0,tee\n"))
    run = configure(tmp_path / "run", objects, own, labels)
    assert run.plan["main"]["source"] == "simulate"
    fetch(run, run.main)
    prepare_stage(run, run.main)
    domains, counts = np.unique(run.main.data["domain"].values, return_counts=True)
    assert set(domains) == {"plain", "randomised", "realistic"}
    assert (counts[domains == "plain"], counts[domains == "randomised"]) == (20, 40)


def test_own_pictures_are_read_to_be_encoded(objects_run: Run, labels: Path) -> None:
    (labels.parent / "3.png").write_bytes(b"no picture")
    (block,) = read(labels, objects_run.settings)
    assert list(block["id"].values) == [f"{i}.png" for i in range(9)]
    status = block["status"].values
    assert (status == "ok").sum() == 8
    assert "no picture that can be read" in status[3]
    picture = block["picture"].values
    assert np.isnan(picture[3]).all()
    assert np.isfinite(picture[[0, 1, 8]]).all()
    assert picture.shape[1:] == (3, SIZE, SIZE)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["prepare.plain=21"], "prepare.plain: 21 pictures are asked for, and there are 20"),
        (
            ["prepare={labelled: 3, unlabelled: 0, valid: 0, test: 1}"],
            "ask for 3 realistic pictures, and beside 0 of",
        ),
        (["model.kind=regress"], "learns from poses: set prepare.targets=poses"),
        (["prepare.targets=poses"], "learns from twins: set prepare.targets=twins"),
    ],
)
def test_settings_that_do_not_fit(files, overrides: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        prepare(settings(*overrides), files, None)


def test_parts_of_a_run(objects_run: Run) -> None:
    parts = parts_of(objects_run.main)
    rows = np.concatenate(list(parts.values()))
    assert len(np.unique(rows)) == len(rows)
    assert len(parts["realistic"]) == 12


def test_own_pictures_become_poses(objects_run: Run, labels: Path, tmp_path: Path) -> None:
    """By the commands: pictures to latents, latents to positions in millimetres and headings."""
    (labels.parent / "3.png").write_bytes(b"no picture")
    model = objects_run.main.model_path
    assert encode_file(model, labels, tmp_path / "latents.parquet") == 8
    decode_file(model, tmp_path / "latents.parquet", tmp_path / "poses.csv")
    poses = pd.read_csv(tmp_path / "poses.csv")
    assert list(poses.id) == [f"{i}.png" for i in range(9)]
    assert poses.loc[3, ["x", "y", "heading"]].isna().all()
    others = poses.drop(3)
    assert np.isfinite(others[["x", "y", "heading"]].to_numpy()).all()
    assert (abs(others.heading) <= 180).all()
    assert others.heading.abs().max() > math.pi, "degrees"
    decode_file(model, tmp_path / "latents.parquet", tmp_path / "poses.csv", spread=20)
    again = pd.read_csv(tmp_path / "poses.csv")
    assert again[list(poses)].equals(poses)
    assert again.loc[3, ["x_std", "y_std", "heading_std"]].isna().all()
    assert (again.drop(3)[["x_std", "y_std"]] > 0.3).all(axis=None), "mm"
    assert (again.drop(3).heading_std > 3).all(), "degrees"
