"""Codes through the rooms of latents: a prepared store, and a user's file there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch import nn

from sciencevae.batch import Batch
from sciencevae.cli import main
from sciencevae.config import load
from sciencevae.data import template
from sciencevae.data.scaling import Scaling
from sciencevae.data.store import open_store, write
from sciencevae.latents.encode import encode_store
from sciencevae.networks import Perceptron
from sciencevae.registry import domain
from sciencevae.spec import recorded
from sciencevae.vae import decoders
from sciencevae.vae.encoders import Code, Quantiser
from sciencevae.vae.files import save
from sciencevae.vae.priors import UniformCodes
from sciencevae.vae.vq import VQVAE

K, D, GRID = 16, 2, (2, 2)


@recorded
class ToGrid(nn.Module):
    grid = GRID

    def __init__(self) -> None:
        super().__init__()
        self.network = Perceptron(3, [8], D * 4)

    def forward(self, x):
        return self.network(x).unflatten(1, (D, *GRID))


@recorded
class FromGrid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = Perceptron(D * 4, [8], 3)

    def forward(self, z):
        return self.network(z.flatten(1))


def build() -> VQVAE:
    torch.manual_seed(0)
    model = VQVAE(UniformCodes(K, GRID), Code(ToGrid(), Quantiser(K, D)), decoders.Gaussian(FromGrid()))
    model.terms(
        _batch(np.random.default_rng(1).normal(size=(50, 3)))
    )  # in training mode: codes where the data are
    return model.eval()


def _batch(x) -> Batch:
    return Batch(torch.as_tensor(x, dtype=torch.float32))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(120, 3)), columns=["a", "b", "c"]).astype(
        object
    )
    frame.loc[7, "b"] = "n/a"
    frame.insert(0, "name", [f"p{i}" for i in range(120)])
    frame.to_csv(tmp_path / "points.csv", index=False)
    return tmp_path / "points.csv"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    data = xr.Dataset({"x": (("sample", "feature"), np.zeros((1, 3), np.float32))})
    metadata = {"domain": "toy", "settings": load(domain("toy")).dump(), "data": template.to_json(data)}
    save(build(), tmp_path / "model.safetensors", metadata)
    return tmp_path / "model.safetensors"


def run(*arguments: str | Path) -> int:
    return main([*map(str, arguments)])


def test_a_store_of_codes(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    data = xr.Dataset({"x": (("sample", "feature"), x)}, coords={"number": ("sample", np.arange(300))})
    data.attrs["fields"] = ["x"]
    write(data, tmp_path / "data.zarr")  # shuffled
    model = build()
    encode_store(model, tmp_path / "data.zarr", tmp_path / "latents.zarr", threads=2)
    latents = open_store(tmp_path / "latents.zarr")
    assert set(latents.data_vars) == {"code"}
    assert latents["code"].dtype == np.int32
    scaled = Scaling.of(open_store(tmp_path / "data.zarr")).apply("x", torch.from_numpy(x))
    wanted = model.encode(scaled[latents["number"].values].float()).codes
    assert (latents["code"].values == wanted.numpy()).all()
    assert len(np.unique(wanted)) > 3


def test_codes_of_a_file_there_and_back(path: Path, table: Path, tmp_path: Path) -> None:
    assert run("encode", "--model", path, table, "-o", tmp_path / "z.parquet") == 0
    latents = pd.read_parquet(tmp_path / "z.parquet")
    names = [f"code_{i}" for i in range(4)]
    assert list(latents) == ["row", "id", "status", *names]
    assert all(latents[name].dtype == np.int32 for name in names)
    assert (latents.loc[7, names] == -1).all()
    model = build()
    x = pd.read_csv(table)[["a", "b", "c"]].apply(pd.to_numeric, errors="coerce").drop(7)
    x = torch.tensor(x.to_numpy(np.float32))
    assert (latents.drop(7)[names].to_numpy() == model.encode(x).codes.flatten(1).numpy()).all()

    assert run("decode", "--model", path, tmp_path / "z.parquet", "-o", tmp_path / "x.csv") == 0
    decoded = pd.read_csv(tmp_path / "x.csv")[["x_0", "x_1", "x_2"]]
    assert decoded.loc[7].isna().all()
    assert np.allclose(decoded.drop(7), model.reconstruct(x).numpy(), atol=1e-5)
    assert run("sample", "--model", path, "-n", "5", "-o", tmp_path / "new.csv") == 0
    assert run("score", "--model", path, table, "-o", tmp_path / "score.parquet") == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"code_1": 0.5}, "0.5 is no code; codes are whole numbers, 0 to 15"),
        ({"code_1": 16}, "this model has 0 … 15"),
        ({"code_4": 1}, "5 latent columns code_0 …; the model has 4"),
    ],
)
def test_what_are_no_codes_is_refused(change, says, path: Path, tmp_path: Path, capsys) -> None:
    frame = pd.DataFrame({"row": [0], "id": ["a"], "status": ["ok"], **{f"code_{i}": [0] for i in range(4)}})
    frame.assign(**change).to_parquet(tmp_path / "z.parquet")
    assert run("decode", "--model", path, tmp_path / "z.parquet", "-o", tmp_path / "x.csv") == 2
    assert says in capsys.readouterr().err
