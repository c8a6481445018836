"""How far decoded numbers may be off: against closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy.special import i0e, i1e

from sciencevae.cli import main
from sciencevae.config import load
from sciencevae.data import template
from sciencevae.data.scaling import Affine, Scaling
from sciencevae.errors import InputError
from sciencevae.latents.files import decode_file
from sciencevae.networks import Perceptron
from sciencevae.registry import domain
from sciencevae.spec import recorded
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.files import save
from sciencevae.vae.model import VAE

DRAWS = 4000
#: of a field of two numbers: x = W z + b with the standard deviation SIGMA, in units of scale SCALE
WEIGHT, SIGMA, SCALE, KAPPA = torch.tensor([[1.0, 2.0], [0.5, -1.0]]), 0.7, np.array([10.0, 3.0]), 4.0


def saved(
    path: Path, fields: dict[str, decoders.Decoder], data: xr.Dataset, scaling: Scaling, name: str = "toy"
) -> Path:
    encoder = encoders.Gaussian(Perceptron(2, [], 4), 2)
    decoder = decoders.Joint(fields) if len(fields) > 1 else fields["x"]
    own = domain(name)
    described = data.assign_attrs(scaling=scaling.to_json(), fields=list(fields))
    metadata = {"domain": name, "settings": load(own).dump(), "data": template.to_json(described)}
    save(VAE(priors.StandardNormal(2), encoder, decoder), path, metadata)
    return path


def linear() -> Perceptron:
    network = Perceptron(2, [], 2)
    with torch.no_grad():
        layer = next(m for m in network.modules() if isinstance(m, torch.nn.Linear))
        layer.weight.copy_(WEIGHT)
        layer.bias.zero_()
    return network


@recorded
class Direction(torch.nn.Module):
    """A heading of z_0 with the concentration KAPPA."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.cat([z[:, :1].cos(), z[:, :1].sin(), torch.full_like(z[:, :1], math.log(KAPPA))], 1)


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    table = pd.DataFrame({"row": range(3), "z_0": [0.3, 3.1, np.nan], "z_1": [1.0, -2.0, 0.0]})
    table["z_std_0"], table["z_std_1"] = [0.2, 0.4, 0.1], [0.5, 0.1, 0.1]
    table.to_parquet(tmp_path / "z.parquet")
    return tmp_path / "z.parquet"


SAMPLES = xr.Dataset({"x": (("sample", "number"), np.zeros((2, 2), np.float32), {"units": "mm"})})


def test_of_a_linear_model_the_spread_is_known(tmp_path: Path, latents: Path) -> None:
    """√(W² s² + σ²), in physical units, of the rows that have latents."""
    scaling = Scaling({"x": Affine("standard", np.array([100.0, 0.0]), SCALE, "mm")})
    model = saved(
        tmp_path / "model.safetensors", {"x": decoders.Gaussian(linear(), scale=SIGMA)}, SAMPLES, scaling
    )
    out = tmp_path / "x.csv"
    assert main(["decode", "--model", str(model), str(latents), "-o", str(out), "--spread", str(DRAWS)]) == 0
    table, z = pd.read_csv(out), pd.read_parquet(latents)
    variance = z[["z_std_0", "z_std_1"]].to_numpy()[:2] ** 2 @ (WEIGHT**2).numpy().T + SIGMA**2
    wanted = SCALE * np.sqrt(variance)
    assert table[["x_std_0", "x_std_1"]].to_numpy()[:2] == pytest.approx(wanted, rel=4 / math.sqrt(2 * DRAWS))
    mean = z[["z_0", "z_1"]].to_numpy()[:2] @ WEIGHT.numpy().T * SCALE + [100, 0]
    assert table[["x_0", "x_1"]].to_numpy()[:2] == pytest.approx(mean, rel=1e-5), "still at the mean latents"
    assert table.iloc[2][["x_0", "x_std_0"]].isna().all()
    decode_file(model, latents, tmp_path / "x.h5", spread=2)
    import h5py

    with h5py.File(tmp_path / "x.h5") as file:
        assert file["x_std"].attrs["units"] == "mm"
        assert "standard deviation" in file["x_std"].attrs["long_name"]


def test_of_an_angle_it_is_the_circular_one(tmp_path: Path, latents: Path) -> None:
    """√(−2 log R) with R = e^{−s²/2} I₁(κ)/I₀(κ); at ±π as elsewhere."""
    fields = {
        "x": decoders.Gaussian(linear(), scale=SIGMA),
        "angle": decoders.VonMises(Direction()),
    }
    data = SAMPLES.assign(angle=(("sample", "one"), np.zeros((2, 1), np.float32), {"units": "rad"}))
    model = saved(tmp_path / "model.safetensors", fields, data, Scaling({}))
    decode_file(model, latents, tmp_path / "x.parquet", spread=DRAWS)
    table = pd.read_parquet(tmp_path / "x.parquet")
    s = pd.read_parquet(latents)["z_std_0"].to_numpy()[:2]
    wanted = np.sqrt(s**2 - 2 * np.log(i1e(KAPPA) / i0e(KAPPA)))
    assert table["angle_std_0"].to_numpy()[:2] == pytest.approx(wanted, rel=0.05)
    assert "x_std_1" in table


@pytest.mark.parametrize(
    ("decoder", "columns", "out", "options", "said"),
    [
        ("gaussian", 2, "x.csv", {"spread": 1}, "takes draws, 100 or so"),
        ("gaussian", 2, "x.csv", {"spread": 5, "draw": True}, "leave one of"),
        ("gaussian", 0, "x.csv", {"spread": 5}, "encode again"),
        ("gaussian", 1, "x.csv", {"spread": 5}, "z_std has 1 columns, and z has 2"),
        ("categorical", 2, "x.csv", {"spread": 5}, "which has names and no numbers"),
    ],
)
def test_what_has_no_spread_is_said(
    decoder: str, columns: int, out: str, options: dict, said: str, tmp_path: Path, latents: Path
) -> None:
    named = decoders.Categorical(Perceptron(2, [], 6), categories=3)
    part = decoders.Gaussian(linear()) if decoder == "gaussian" else named
    model = saved(tmp_path / "model.safetensors", {"x": part}, SAMPLES, Scaling({}))
    table = pd.read_parquet(latents)
    table.drop(columns=["z_std_0", "z_std_1"][columns:]).to_parquet(latents)
    with pytest.raises(InputError, match=said):
        decode_file(model, latents, tmp_path / out, **options)
    assert not (tmp_path / out).exists()


def test_a_format_without_room_for_it_is_refused(tmp_path: Path, latents: Path) -> None:
    part = {"x": decoders.Gaussian(linear())}
    model = saved(tmp_path / "model.safetensors", part, SAMPLES, Scaling({}), name="xy")
    with pytest.raises(
        InputError, match=r"\.npz of xy has no room for standard deviations: give -o FILE\.h5"
    ):
        decode_file(model, latents, tmp_path / "x.npz", spread=5)
    assert not (tmp_path / "x.npz").exists()
