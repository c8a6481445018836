"""A trained model on a user's own file: order and ids kept, bad rows there as NaN, decoded back in units."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import xarray as xr

from sciencevae.cli import main
from sciencevae.config import load
from sciencevae.data import template
from sciencevae.data.scaling import Affine, Scaling
from sciencevae.networks import Perceptron
from sciencevae.registry import domain
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.files import save
from sciencevae.vae.model import VAE


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as a run leaves it, untrained."""
    toy = domain("toy")
    settings = load(toy)
    torch.manual_seed(0)
    x = (("sample", "feature"), np.zeros((2, 3), np.float32), {"units": "m"})
    data = xr.Dataset({"x": x}, {"feature": ["a", "b", "c"], "number": ("sample", [0, 1])})
    built = toy.build(settings, data)
    scaling = Scaling({"x": Affine("standard", np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 0.5]), "m")})
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    data = data.assign_attrs(scaling=scaling.to_json())
    save(built, path, {"domain": "toy", "settings": settings.dump(), "data": template.to_json(data)})
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """120 rows in three blocks, two of them bad, names that are no numbers."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal([1, 2, 3], [2, 2, 0.5], (120, 3)), columns=["a", "b", "c"]).astype(
        object
    )
    frame.loc[7, "b"] = "n/a"
    frame.loc[60, "a"] = None
    frame.insert(0, "name", [f"p{i:03d}" for i in random.permutation(120)])
    frame.to_csv(tmp_path / "points.csv", index=False)
    return tmp_path / "points.csv"


def run(*arguments: str | Path) -> int:
    return main([*map(str, arguments)])


def test_latents_of_a_file_keep_order_ids_and_bad_rows(
    model: Path,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("sciencevae.latents.writing._GROUP", 1)
    assert run("encode", "--model", model, table, "-o", tmp_path / "z.parquet") == 0
    latents = pd.read_parquet(tmp_path / "z.parquet")
    assert list(latents) == ["row", "id", "status", "z_0", "z_std_0"]
    assert list(latents["id"]) == list(pd.read_csv(table)["name"])
    assert list(latents["row"]) == list(range(120))
    assert list(latents.index[latents["status"] != "ok"]) == [7, 60]
    assert list(latents.index[latents["z_0"].isna()]) == [7, 60]
    assert (latents["z_std_0"].dropna() > 0).all()
    header = json.loads(pq.read_schema(tmp_path / "z.parquet").metadata[b"sciencevae"])
    assert header["domain"] == "toy"
    assert len(header["model"]) == 64
    assert pq.ParquetFile(tmp_path / "z.parquet").num_row_groups == 3  # written as it goes
    assert "points.csv: 2 of 120 rows are left out: " in caplog.text


def test_decoding_gives_units_and_the_rows_back(model: Path, table: Path, tmp_path: Path) -> None:
    run("encode", "--model", model, table, "-o", tmp_path / "z.parquet")
    for name in ("x.csv", "x.parquet", "x.h5", "x.zarr"):
        assert run("decode", "--model", model, tmp_path / "z.parquet", "-o", tmp_path / name) == 0
        assert (tmp_path / name).exists()
    decoded = pd.read_csv(tmp_path / "x.csv")
    assert list(decoded["id"]) == list(pd.read_csv(table)["name"])
    assert list(decoded.index[decoded["x_0"].isna()]) == [7, 60]
    assert abs(decoded[["x_0", "x_1", "x_2"]].mean() - [1, 2, 3]).max() < 2  # the scaling is undone
    stored = xr.open_zarr(tmp_path / "x.zarr", consolidated=False)
    assert stored["x"].attrs["units"] == "m"
    assert stored["x"].dims == ("sample", "feature")
    assert stored["feature"].values.tolist() == ["a", "b", "c"]


def test_samples_and_scores(model: Path, table: Path, tmp_path: Path) -> None:
    assert run("sample", "--model", model, "-n", "25", "--seed", "3", "-o", tmp_path / "one.csv") == 0
    assert run("sample", "--model", model, "-n", "25", "--seed", "3", "-o", tmp_path / "two.csv") == 0
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "two.csv").read_text()
    assert len(pd.read_csv(tmp_path / "one.csv")) == 25
    assert run("score", "--model", model, table, "-o", tmp_path / "score.parquet") == 0
    scores = pd.read_parquet(tmp_path / "score.parquet")
    assert list(scores.index[scores["score"].isna()]) == [7, 60]


def test_new_data_are_no_different_in_blocks(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is drawn twice, within a file or with the next seed."""
    monkeypatch.setattr("sciencevae.latents.files.BLOCK_ROWS", 10)
    drawn = []
    for seed in ("0", "1"):
        assert run("sample", "--model", model, "-n", "25", "--seed", seed, "-o", tmp_path / "x.csv") == 0
        drawn += pd.read_csv(tmp_path / "x.csv")["x_0"].tolist()
    assert len(drawn) == len(set(drawn)) == 50


def test_evidence_says_which_rows_to_trust(
    model: Path, table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Twenty draws are too few to tell, of whatever tail."""
    out = tmp_path / "score.parquet"
    assert run("score", "--model", model, table, "-o", out, "--kind", "evidence", "--samples", "20") == 0
    assert (pd.read_parquet(out)["trusted"].dropna() == 0).all()
    assert "not to be trusted for 118 of 118 rows" in caplog.text
    assert "20 draws are too few; give more --samples" in caplog.text
    assert caplog.text.count("not to be trusted") == 1
    caplog.clear()
    assert run("score", "--model", model, table, "-o", out, "--kind", "evidence", "--samples", "2000") == 0
    assert pd.read_parquet(out)["trusted"].mean() > 0.9


def test_latents_say_whose_they_are_also_after_pandas(
    model: Path,
    table: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    latents, changed, out = (tmp_path / name for name in ("z.parquet", "part.parquet", "x.csv"))
    run("encode", "--model", model, table, "-o", latents)
    part = pd.read_parquet(latents).query("status == 'ok'").drop(columns="id")
    part.to_parquet(changed)
    caplog.clear()
    assert run("decode", "--model", model, changed, "-o", out) == 0
    assert not caplog.text
    part.attrs["sciencevae"]["model"] = "0" * 64
    part.to_parquet(changed)
    assert run("decode", "--model", model, changed, "-o", out) == 2
    assert "was encoded by another model (000000000000" in capsys.readouterr().err
    part.attrs = {}
    part.to_parquet(changed)
    assert run("decode", "--model", model, changed, "-o", out) == 0
    assert "does not say which model its latents are of" in caplog.text


def test_rows_without_latents_or_names(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = pa.array([1, None, 7], pa.int64())
    table = pa.table({"z_0": [0.0, np.nan, 1.0], "id": names})
    pq.write_table(table, tmp_path / "z.parquet")
    assert run("decode", "--model", model, tmp_path / "z.parquet", "-o", tmp_path / "x.csv") == 0
    assert pd.read_csv(tmp_path / "x.csv", dtype=str)["id"].tolist() == ["1", "2", "7"]
    assert "1 of 3 rows have no latents that are finite numbers" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["decode", "--model", "MODEL", "nan.parquet", "-o", "x.csv"], "no row has latents that are finite"),
        (["decode", "--model", "MODEL", "text.parquet", "-o", "x.csv"], "text.parquet: the column z_0 holds"),
        (
            ["encode", "--model", "MODEL", "TABLE", "--set", "training.epochs=1", "-o", "z.parquet"],
            "prepare.… alone",
        ),
        (["encode", "folder.zarr", "--set", "prepare.points=1"], "name a model with --model"),
        (["encode", "--model", "MODEL", "absent.csv", "-o", "z.parquet"], "no file absent.csv"),
        (["encode", "--model", "absent.safetensors", "TABLE", "-o", "z.parquet"], "does not exist"),
        (["decode", "--model", "MODEL", "TABLE", "-o", "x.csv"], "is no Parquet file of latents"),
        (
            ["decode", "--model", "MODEL", "wide.parquet", "-o", "x.csv"],
            "2 latent columns z_0 …; the model has 1",
        ),
        (["decode", "--model", "MODEL", "other.parquet", "-o", "x.csv"], "was encoded by another model"),
        (
            ["sample", "--model", "MODEL", "-o", "x.docx"],
            "cannot write 'x.docx': give a file's name that ends",
        ),
        (["sample", "--model", "MODEL", "-o", ""], "cannot write ''"),
        (["encode", "--model", "MODEL", "TABLE", "-o", "z.h5"], "ends with .parquet"),
        (["encode", "--model", "MODEL", "TABLE", "-o", "folder.parquet"], "is a folder that would be lost"),
        (["sample", "--model", "MODEL", "-o", "folder.zarr"], "is a folder that would be lost"),
        (["decode", "--model", "MODEL", "wide.parquet", "-o", "wide.parquet"], "is the input itself"),
        (["encode", "--model", "MODEL", "none.csv", "-o", "z.parquet"], "no row can be used"),
        (["decode", "--model", "MODEL", "none.parquet", "-o", "x.csv"], "has no rows: nothing to decode"),
        (["decode", "--model", "MODEL", "hole.parquet", "-o", "x.csv"], "the column z_0 is missing"),
        (["decode", "--model", "MODEL", "text.parquet", "-o", "x.csv"], "not numbers"),
        (
            ["decode", "--model", "MODEL", "rows.parquet", "-o", "x.csv"],
            "not whole numbers: rename it",
        ),
        (
            ["decode", "--model", "MODEL", "said.parquet", "-o", "x.csv"],
            "what it says of its model is damaged",
        ),
        (["decode", "--model", "MODEL", "page.parquet", "-o", "x.csv"], "page.parquet is damaged"),
        (["encode", "folder.zarr", "-o", "z.parquet"], "leave -o, or name a model"),
        (["sample", "--model", "MODEL", "--condition", "1", "-o", "x.csv"], "leave --condition"),
        (["sample", "--model", "MODEL", "--seed", "9" * 30, "-o", "x.csv"], "a whole number from 0"),
        (["sample", "--model", "folder.zarr", "-o", "x.csv"], "folder.zarr is a folder"),
        (["sample", "--model", "MODEL", "--condition", "1,b", "-o", "x.csv"], "write numbers"),
        (["encode", "--model", "MODEL", "bad.csv", "-o", "z.parquet"], "no row can be used"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    model: Path,
    table: Path,
    tmp_path: Path,
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"z_0": [0.0], "z_1": [0.0]}).to_parquet("wide.parquet")
    schema = pq.read_table("wide.parquet").drop(["z_1"])
    pq.write_table(
        schema.replace_schema_metadata({"sciencevae": '{"model": "123456789abcdef"}'}), "other.parquet"
    )
    Path("bad.csv").write_text("name,a,b,c\np,x,y,z\n")
    Path("none.csv").write_text("name,a,b,c\n")
    pd.DataFrame({"z_0": np.zeros(0)}).to_parquet("none.parquet")
    pd.DataFrame({"z_1": [0.0]}).to_parquet("hole.parquet")
    pd.DataFrame({"z_0": ["a"]}).to_parquet("text.parquet")
    pd.DataFrame({"z_0": [np.nan, np.inf]}).to_parquet("nan.parquet")
    pd.DataFrame({"z_0": [0.0], "row": ["a"]}).to_parquet("rows.parquet")
    pq.write_table(schema.replace_schema_metadata({"sciencevae": "[1]"}), "said.parquet")
    pd.DataFrame({"z_0": np.arange(1000.0)}).to_parquet("page.parquet")
    page = bytearray(Path("page.parquet").read_bytes())
    page[4:600] = bytes(596)
    Path("page.parquet").write_bytes(page)
    for folder in ("folder.parquet", "folder.zarr"):
        Path(folder).mkdir()
        (Path(folder) / "precious").write_text("kept")
    named = {"MODEL": str(model), "TABLE": str(table)}
    before = {path for path in tmp_path.rglob("*")}
    try:
        code = run(*[named.get(argument, argument) for argument in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert code == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert shown.count("\n") == 1
    assert {path for path in tmp_path.rglob("*")} == before


def test_what_was_not_decoded_is_missing_among_integers_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    decoder = decoders.Categorical(Perceptron(1, [4], 3 * 4), categories=4)
    model = VAE(priors.StandardNormal(1), encoders.Gaussian(Perceptron(3, [4], 2), 1), decoder)
    path = tmp_path / "model.safetensors"
    data = template.to_json(xr.Dataset({"x": (("sample", "feature"), np.zeros((1, 3), int))}))
    save(model, path, {"domain": "toy", "settings": load(domain("toy")).dump(), "data": data})
    pd.DataFrame({"row": range(3), "z_0": [0.0, np.nan, 1.0]}).to_parquet(tmp_path / "z.parquet")
    assert run("decode", "--model", path, tmp_path / "z.parquet", "-o", tmp_path / "x.csv") == 0
    x = pd.read_csv(tmp_path / "x.csv")[["x_0", "x_1", "x_2"]].to_numpy()
    assert (x[1] == -1).all()
    assert ((x[[0, 2]] >= 0) & (x[[0, 2]] < 4)).all()


def test_a_row_that_the_likelihood_cannot_have_made_is_named_and_the_others_scored(tmp_path: Path) -> None:
    torch.manual_seed(0)
    decoder = decoders.Bernoulli(Perceptron(1, [4], 3))
    built = VAE(priors.StandardNormal(1), encoders.Gaussian(Perceptron(3, [4], 2), 1), decoder)
    data = xr.Dataset({"x": (("sample", "feature"), np.zeros((1, 3), np.float32))})
    path = tmp_path / "model.safetensors"
    save(
        built, path, {"domain": "toy", "settings": load(domain("toy")).dump(), "data": template.to_json(data)}
    )
    bits = np.random.default_rng(0).integers(0, 2, (120, 3)).astype(object)
    bits[[3, 70], 1] = 0.5
    bits[80, 0] = "n/a"
    frame = pd.DataFrame(bits, columns=["a", "b", "c"])
    frame.insert(0, "name", [f"p{i}" for i in range(120)])
    frame.to_csv(tmp_path / "bits.csv", index=False)
    assert run("score", "--model", path, tmp_path / "bits.csv", "-o", tmp_path / "score.parquet") == 0
    scores = pd.read_parquet(tmp_path / "score.parquet")
    assert list(scores.index[scores["score"].isna()]) == [3, 70, 80]
    assert (scores["status"].drop([3, 70, 80]) == "ok").all()
    assert scores["status"][80] == "not a number"
    assert all("0.5" in scores["status"][row] for row in (3, 70))

    frame[["a", "b", "c"]] = 0.5
    frame.to_csv(tmp_path / "none.csv", index=False)
    assert run("score", "--model", path, tmp_path / "none.csv", "-o", tmp_path / "none.parquet") == 2
    assert not (tmp_path / "none.parquet").exists()
