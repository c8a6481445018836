"""The networks' symmetry, the energies of a likelihood, and a model built, trained a little, saved and loaded."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sciencevae.builtin.xy import DOMAIN, ensembles
from sciencevae.builtin.xy import observables as xy
from sciencevae.builtin.xy.energy import energy, energy_term, expected_energy
from sciencevae.builtin.xy.networks import SpinDecoder, SpinEncoder
from sciencevae.builtin.xy.settings import XY

import sciencevae as sv
from sciencevae.batch import Batch
from sciencevae.distributions import VonMises
from sciencevae.errors import InputError


def _spins(n: int, lattice: int) -> torch.Tensor:
    torch.manual_seed(0)
    return (0.7 * torch.randn(n, 1, lattice, lattice) + 1.0).remainder(2 * math.pi) - math.pi


@pytest.mark.parametrize("lattice", [6, 8, 12, 16])
def test_networks_turn_with_the_spins(lattice: int) -> None:
    encoder, decoder = (
        SpinEncoder(lattice, 5).double(),
        SpinDecoder(lattice, 5, canting=lattice == 8).double(),
    )
    theta, angle = _spins(4, lattice).double(), 0.9
    turned = (theta + angle + math.pi).remainder(2 * math.pi) - math.pi
    z, other = encoder(theta), encoder(turned)
    cosine, sine = math.cos(angle), math.sin(angle)
    torch.testing.assert_close(other[:, 0], cosine * z[:, 0] - sine * z[:, 1])
    torch.testing.assert_close(other[:, 1], sine * z[:, 0] + cosine * z[:, 1])
    torch.testing.assert_close(other[:, 2:], z[:, 2:])
    before, after = decoder(z[:, :5]), decoder(other[:, :5])
    assert before.shape == (4, 3, lattice, lattice)
    torch.testing.assert_close(after[:, 0], cosine * before[:, 0] - sine * before[:, 1])
    torch.testing.assert_close(after[:, 1], sine * before[:, 0] + cosine * before[:, 1])
    torch.testing.assert_close(after[:, 2], before[:, 2])


def test_convolutions_are_periodic() -> None:
    """Before the dense layer a shift by the stride of all convolutions only shifts the features."""
    encoder = SpinEncoder(16, 4)
    field = torch.randn(2, 4, 16, 16)
    features = encoder.convolutions[:-1]
    torch.testing.assert_close(features(field.roll(4, -1)), features(field).roll(1, -1))


def test_an_odd_lattice_is_refused_when_built() -> None:
    with pytest.raises(InputError, match="even"):
        SpinEncoder(9, 4)


def test_energies_agree_with_the_definition() -> None:
    theta = _spins(3, 8)
    np.testing.assert_allclose(energy(theta).numpy(), xy.energy(theta[:, 0].numpy()), rtol=1e-5)
    torch.manual_seed(1)
    kappa = torch.rand(3, 1, 8, 8) * 5
    draws = VonMises(theta, kappa).sample((4000,))
    estimate = energy(draws)  # (4000, 3)
    error = estimate.std(0) / math.sqrt(4000)
    assert bool(((estimate.mean(0) - expected_energy(theta, kappa)).abs() < 4 * error).all())


def _settings(**sections: dict[str, object]) -> XY:
    return XY.model_validate({"source": {"lattice": 8}, "model": {"latent": 4, "channels": 4}, **sections})


def _data(tmp_path: Path, **prepare: object):  # type: ignore[no-untyped-def]
    from sciencevae.builtin.xy.simulate import generate

    path = tmp_path / "xy.h5"
    parameters = {"lattice": 8, "temperatures": [0.5, 0.9, 1.3], "samples": 60, "chains": 6}
    generate(path, parameters, seed=2)
    return DOMAIN.prepare(_settings(prepare=dict(prepare)), {"xy.h5": path}, None)


def test_prepare_deals_chains_and_holds_out_temperatures(tmp_path: Path) -> None:
    data = _data(tmp_path, held_out=[0.9])
    split, t, group = (data[name].values for name in ("split", "temperature", "group"))
    assert set(split[t == 0.9]) == {2}
    for one in (0.5, 1.3):
        assert set(split[t == one]) == {0, 1, 2}
    assert all(len(set(split[group == g])) == 1 for g in np.unique(group))
    theta = data["x"].values[:, 0]
    assert data["x"].dims == ("sample", "channel", "row", "column")
    np.testing.assert_allclose(data["energy"], xy.energy(theta), atol=1e-6)
    sums = np.stack([data[name].values for name in ("cos_x", "cos_y", "sin_x", "sin_y")], 1)
    np.testing.assert_allclose(sums, xy.bond_sums(theta), atol=1e-4)
    with pytest.raises(InputError, match=r"no chain at T = 0\.7"):
        _data(tmp_path, held_out=[0.7])


@pytest.mark.parametrize("conditional", [False, True])
def test_a_model_trains_with_the_energy_term_and_comes_back_from_its_file(
    tmp_path: Path, conditional: bool
) -> None:
    from sciencevae.data.batches import as_batches
    from sciencevae.data.scaling import Scaling

    training: dict[str, object] = {"epochs": 3, "batch_size": 16, "threads": 1, "learning_rate": 3e-3}
    settings = _settings(
        model={"latent": 4, "channels": 4, "hidden": 16, "conditional": conditional},
        objective={"energy_weight": 1.0},
        training=training,
    )
    data = _data(tmp_path)
    data.attrs["scaling"] = Scaling.fit(data).to_json()
    torch.manual_seed(0)
    model = DOMAIN.build(settings, data)
    assert DOMAIN.objective is not None
    objective = DOMAIN.objective(settings, data)
    train = as_batches(data, split="train")
    history = sv.fit(model, train, objective=objective, settings=settings.training)
    assert history.rows[-1]["train_reconstruction"] < history.rows[0]["train_reconstruction"]
    assert "train_energy" in history.rows[-1]
    (batch,) = as_batches(data, split="test").blocks(1000)
    model.check(batch)
    path = tmp_path / "model.safetensors"
    sv.save(model, path, {})
    again = sv.load(path)
    with torch.no_grad():
        torch.testing.assert_close(
            again.encode(batch.x, batch.context).mean, model.encode(batch.x, batch.context).mean
        )


def test_the_energy_term_vanishes_for_perfect_decoding() -> None:
    theta = _spins(3, 8)

    terms: Any = SimpleNamespace(likelihood=VonMises(theta.expand(2, 3, 1, 8, 8), torch.ones(2, 3, 1, 8, 8)))

    torch.testing.assert_close(energy_term(terms, Batch(theta)), torch.zeros(3))
    ordered = energy_term(terms, Batch(torch.zeros(3, 1, 8, 8)))
    expected = 64 * (energy(theta) + 2) ** 2
    torch.testing.assert_close(ordered, expected)


def test_new_latents_have_the_moments_of_their_temperature() -> None:
    import xarray as xr

    rng, n = np.random.default_rng(0), 3000
    t = np.repeat([0.5, 1.0, 1.5], n)
    radius, angle = rng.normal(3 - t, 0.1), rng.uniform(-np.pi, np.pi, 3 * n)
    third = rng.normal(t, 0.2)
    z = np.stack([radius * np.cos(angle), radius * np.sin(angle), third], 1)
    stored = xr.Dataset(
        {"z": (("sample", "latent"), z), "z_std": (("sample", "latent"), np.full_like(z, 0.3))},
        coords={"temperature": ("sample", t), "split": ("sample", np.zeros(len(t), np.int8))},
    )
    new = ensembles.sample_latents(stored, 0.75, 4000, seed=1)  # between two temperatures
    assert ensembles.order_parameter(new).mean() == pytest.approx(2.25, abs=0.03)
    assert new[:, 2].mean() == pytest.approx(0.75, abs=0.03)
    assert new[:, 2].std() == pytest.approx(np.hypot(0.2, 0.3), abs=0.02)
    np.testing.assert_allclose(new[:, :2].mean(0), 0, atol=0.15)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str) -> None:
    import xarray as xr

    x = np.random.default_rng(0).uniform(-3.1, 3.1, (4, 1, 8, 8)).astype(np.float32)
    data = xr.Dataset({"x": (("sample", "channel", "row", "column"), x)})
    assert DOMAIN.write is not None
    assert DOMAIN.read is not None
    DOMAIN.write(data, tmp_path / f"out{suffix}")
    (block,) = DOMAIN.read(tmp_path / f"out{suffix}", _settings())
    np.testing.assert_allclose(block["x"].values, x, atol=1e-5)
    with pytest.raises(InputError, match="npz"):
        DOMAIN.write(data, tmp_path / "out.txt")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_own_files_are_read_row_by_row(tmp_path: Path, suffix: str) -> None:
    import h5py

    theta = np.random.default_rng(0).uniform(0, 4 * np.pi, (5, 8, 8))
    theta[2, 0, 0] = np.nan
    path = tmp_path / f"mine{suffix}"
    if suffix == ".npy":
        np.save(path, theta)
    elif suffix == ".npz":
        np.savez(path, theta=theta)
    else:
        with h5py.File(path, "w") as file:
            file["theta"] = theta
    assert DOMAIN.read is not None
    (block,) = DOMAIN.read(path, _settings())
    assert block["status"].values.tolist() == ["ok", "ok", "an angle is not finite", "ok", "ok"]
    assert np.isnan(block["x"].values[2]).all()
    np.testing.assert_allclose(np.cos(block["x"].values[3, 0]), np.cos(theta[3]), atol=1e-5)
    assert np.nanmax(np.abs(block["x"].values)) <= np.pi + 1e-6
    with pytest.raises(InputError, match="lattices"):
        next(DOMAIN.read(path, _settings(source={"lattice": 10})))


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"PK\x03\x04 cut"), "cannot be read"),
        (
            lambda path: np.savez(path, theta=np.full((3, 16, 16), "a")),
            "theta is to be an array of real numbers",
        ),
        (
            lambda path: np.savez(path, theta=np.zeros((3, 16, 16), complex)),
            "theta is to be an array of real",
        ),
        (
            lambda path: np.savez(path, theta=np.zeros((3, 16, 16)), temperature=np.ones(2)),
            r"temperature has shape \(2,\); there are 3",
        ),
        (
            lambda path: np.savez(path, theta=np.zeros((3, 16, 16)), temperature=np.array(["a"] * 3)),
            "temperature is to be an array of real",
        ),
    ],
)
def test_own_files_that_are_no_configurations_are_named(tmp_path, write, says):
    path = tmp_path / "own.npz"
    write(path)
    with pytest.raises(InputError, match=says):
        list(DOMAIN.read(path, XY()))


def test_a_lattice_for_which_there_are_no_networks_is_refused_before_it_is_simulated():
    with pytest.raises(ValueError, match="even and at least 6, not 7"):
        XY(source={"lattice": 7})
