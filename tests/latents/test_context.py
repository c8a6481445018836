"""What is known beside each row goes through the file of latents: exposure, noise of a field, source, condition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from sciencevae import registry
from sciencevae.config import load
from sciencevae.data import template
from sciencevae.data.batches import as_batches
from sciencevae.data.hdf5 import open_hdf5
from sciencevae.data.scaling import Scaling
from sciencevae.errors import InputError
from sciencevae.latents import files
from sciencevae.latents import trained as opened
from sciencevae.latents.files import decode_file, encode_file, sample_file
from sciencevae.networks import Fields, Identity, Perceptron, Reshaped
from sciencevae.vae import decoders, priors
from sciencevae.vae.encoders import Gaussian
from sciencevae.vae.files import save
from sciencevae.vae.model import VAE

ROWS, BAD, IMAGE = 30, 7, (1, 3, 4)
PIXELS = 12


def network(outputs: int, inputs: int = 2, **options: int) -> Perceptron:
    return Perceptron(inputs, [5], outputs, **options)


def counts() -> tuple[VAE, xr.Dataset]:
    data = {"x": R.poisson(4.0, (ROWS, 3)).astype(np.float32), "exposure": R.uniform(0.5, 2.0, ROWS)}
    return vae(network(4, 3), decoders.Poisson(network(3))), dataset(data)


def joint() -> tuple[VAE, xr.Dataset]:
    """Two fields, each with its own: the known errors of one, and the exposures of the entries of the other."""
    data = {
        "flux": R.normal(5.0, 3.0, (ROWS, 2)),
        "noise.flux": R.uniform(0.5, 2.0, (ROWS, 2)),
        "counts": R.poisson(4.0, (ROWS, 3)),
        "exposure.counts": R.uniform(0.5, 2.0, (ROWS, 3)),
    }
    encoder = Fields({"flux": network(3, 2), "counts": network(3, 3)}, network(4, 6))
    parts = {
        "flux": decoders.Gaussian(network(2), scale="per-datum"),
        "counts": decoders.Poisson(network(3)),
    }
    return vae(encoder, decoders.Joint(parts)), dataset(
        data, fields=["flux", "counts"], context=["exposure.counts"]
    )


def only_field() -> tuple[VAE, xr.Dataset]:
    """Of a single named field ``noise`` is its own, here covariances."""
    a = R.normal(size=(ROWS, 2, 2))
    data = {"flux": R.normal(5.0, 3.0, (ROWS, 2)), "noise": a @ a.transpose(0, 2, 1) + np.eye(2)}
    decoder = decoders.Joint({"flux": decoders.Gaussian(Identity(), scale="per-datum")})
    return vae(Fields({"flux": Identity()}, network(4, 2)), decoder), dataset(data, fields=["flux"])


def warped() -> tuple[VAE, xr.Dataset]:
    data = {"x": R.normal(size=(ROWS, *IMAGE)), "source": R.normal(size=(ROWS, *IMAGE))}
    displacement = Reshaped(network(2 * PIXELS), (2,), (2, *IMAGE[1:]))
    encoder = Reshaped(network(4, PIXELS), IMAGE, (4,))
    return vae(encoder, decoders.Warp(displacement)), dataset(data, context=["source"])


def conditioned() -> tuple[VAE, xr.Dataset]:
    """A condition of one number, which has no axis of its own."""
    data = {"x": R.normal(size=(ROWS, 3)), "condition": R.normal(300.0, 20.0, ROWS)}
    decoder = decoders.Gaussian(network(3, condition_features=1), conditional=True)
    return vae(network(4, 3), decoder), dataset(data)


CASES = {f.__name__: f for f in (counts, joint, only_field, warped, conditioned)}
R = np.random.default_rng(0)


def vae(encoder: torch.nn.Module, decoder: decoders.Decoder) -> VAE:
    return VAE(priors.StandardNormal(2), Gaussian(encoder, 2), decoder)


def dataset(data: dict[str, np.ndarray], **attributes: object) -> xr.Dataset:
    """A block as a domain's ``read`` gives it; one row can't be used."""
    status = np.where(np.arange(ROWS) == BAD, "bad", "ok")
    return xr.Dataset(
        {n: (("sample", *(f"{n}_{i}" for i in range(1, v.ndim))), v) for n, v in data.items()},
        {n: ("sample", v) for n, v in [("row", np.arange(ROWS)), ("id", status), ("status", status)]},
        attributes,
    )


Saved = Callable[[VAE, xr.Dataset], tuple[Path, Scaling]]


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Saved:
    """saved(model, block) saves the model of a domain that reads that block from any file."""

    def save_(model: VAE, block: xr.Dataset) -> tuple[Path, Scaling]:
        toy = registry.domain("toy")
        reads = replace(toy, read=lambda path, settings, template: iter([block]))
        monkeypatch.setattr(registry, "domain", lambda name: reads)
        scaling = Scaling.fit(block)
        block = block.assign_attrs(scaling=scaling.to_json())
        metadata = {"domain": "toy", "settings": load(toy).dump(), "data": template.to_json(block)}
        save(model, tmp_path / "model.safetensors", metadata)
        return tmp_path / "model.safetensors", scaling

    return save_


@pytest.mark.parametrize("case", CASES)
def test_what_decoding_needs_goes_there_and_back(
    case: str, saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, block = CASES[case]()
    path, scaling = saved(model, block)
    for module in (files, opened):  # two blocks
        monkeypatch.setattr(module, "BLOCK_ROWS", 20)
    assert encode_file(path, path, tmp_path / "z.parquet") == ROWS - 1
    seen = []
    decode = VAE.decode

    def spy(self: VAE, z: torch.Tensor, context: dict[str, torch.Tensor]) -> object:
        seen.append(context)
        return decode(self, z, context)

    monkeypatch.setattr(VAE, "decode", spy)
    assert decode_file(path, tmp_path / "z.parquet", tmp_path / "x.h5") == ROWS
    monkeypatch.undo()

    good = np.arange(ROWS) != BAD
    (batch,) = as_batches(block.isel(sample=good), scaling=scaling).blocks(ROWS)
    context = {name: torch.cat([part[name] for part in seen]) for name in seen[0]}
    assert context.keys() == batch.context.keys() != set()
    for name, tensor in batch.context.items():
        assert torch.equal(context[name], tensor), name
    wanted = model.reconstruct(batch.x, batch.context)
    decoded = open_hdf5(tmp_path / "x.h5")
    for name, values in wanted.items() if isinstance(wanted, dict) else [("x", wanted)]:
        assert decoded[name].values[good] == pytest.approx(scaling.invert(name, values).numpy(), rel=1e-5)
        assert np.isnan(decoded[name].values[BAD]).all()


@pytest.mark.parametrize("case", CASES)
def test_a_table_of_your_own_names_its_context_by_its_columns(
    case: str, saved: Saved, tmp_path: Path
) -> None:
    path, _ = saved(*CASES[case]())
    encode_file(path, path, tmp_path / "z.parquet")
    decode_file(path, tmp_path / "z.parquet", tmp_path / "known.csv")
    table = pd.read_parquet(tmp_path / "z.parquet").assign(note="text", flag_3=1)
    table.to_parquet(tmp_path / "own.parquet")  # without our metadata
    decode_file(path, tmp_path / "own.parquet", tmp_path / "own.csv")
    assert (tmp_path / "own.csv").read_text() == (tmp_path / "known.csv").read_text()
    lacking = [name for name in table if not name.startswith(("noise", "source", "condition"))]
    if lacking != list(table):
        table[lacking].to_parquet(tmp_path / "lacking.parquet")
        with pytest.raises(InputError, match="no context"):
            decode_file(path, tmp_path / "lacking.parquet", tmp_path / "own.csv")


def test_what_a_row_has_no_room_for_is_left_out(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = saved(*warped())
    encode_file(path, path, tmp_path / "whole.parquet")
    whole = pd.read_parquet(tmp_path / "whole.parquet")
    monkeypatch.setattr(files, "WIDEST", PIXELS - 1)
    encode_file(path, path, tmp_path / "z.parquet")
    assert (
        "'source' has 12 numbers a row, and a table of latents has room for 11: it is left out" in caplog.text
    )
    left = whole[[name for name in whole if not name.startswith("source")]]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "z.parquet"), left)
    with pytest.raises(InputError, match=r"no context\['source'\]"):
        decode_file(path, tmp_path / "z.parquet", tmp_path / "x.h5")


def test_context_cannot_have_the_name_of_latents(saved: Saved, tmp_path: Path) -> None:
    model, block = counts()
    path, _ = saved(model, block.rename(exposure="z").assign_attrs(context=["z"]))
    with pytest.raises(InputError, match="'z' has the name of a column"):
        encode_file(path, path, tmp_path / "z.parquet")


def test_columns_of_different_depth_are_not_one_variable(saved: Saved, tmp_path: Path) -> None:
    path, _ = saved(*counts())
    pd.DataFrame({"z_0": [0.0], "z_1": [0.0], "exposure": [1.0], "exposure_0": [1.0]}).to_parquet(
        tmp_path / "z.parquet"
    )
    with pytest.raises(InputError, match="columns of exposure have different numbers of indices"):
        decode_file(path, tmp_path / "z.parquet", tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("case", "says"), [("joint", "each has a known error"), ("warped", "each has a source image")]
)
def test_there_is_no_new_datum_of_what_needs_something_known(
    case: str, says: str, saved: Saved, tmp_path: Path
) -> None:
    path, _ = saved(*CASES[case]())
    with pytest.raises(InputError, match=says):
        sample_file(path, tmp_path / "new.csv", 3)


@pytest.mark.parametrize("part", ["prior", "field"])
def test_new_data_of_a_condition_that_one_part_alone_is_told(part: str, saved: Saved, tmp_path: Path) -> None:
    model, block = conditioned()
    if part == "prior":
        model = VAE(priors.ConditionalNormal(network(4, 1), 2), model.encoder, decoders.Gaussian(network(3)))
    else:
        block = block.rename(x="flux").assign_attrs(fields=["flux"])
        model = vae(Fields({"flux": network(3, 3)}, network(4, 3)), decoders.Joint({"flux": model.decoder}))
    path, _ = saved(model, block)
    sample_file(path, tmp_path / "new.csv", 3, condition=[310.0])
    assert len(pd.read_csv(tmp_path / "new.csv")) == 3
    with pytest.raises(InputError, match="give --condition"):
        sample_file(path, tmp_path / "new.csv", 3)
