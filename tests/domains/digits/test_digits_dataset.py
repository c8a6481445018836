"""From files to the prepared data set, and a user's own images."""

from __future__ import annotations

import gzip
import lzma
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from sciencevae.builtin.digits import DOMAIN
from sciencevae.builtin.digits.dataset import observed_quadrants, prepare, read, read_idx, write
from sciencevae.builtin.digits.settings import Model

from sciencevae.config import load
from sciencevae.errors import InputError
from sciencevae.stages import prepared_dataset


def settings(*overrides: str):
    return load(DOMAIN, "mnist", overrides=["prepare={}", *overrides])


def unchanged():
    """Settings of images whose grey values stay."""
    return settings("dataset=dsprites", "source.size=28", "prepare.binarise=none")


def grey(files: dict[str, Path]) -> tuple[np.ndarray, np.ndarray]:
    return read_idx(files["train-images-idx3-ubyte"]) / 255, read_idx(files["t10k-images-idx3-ubyte"]) / 255


def test_the_official_test_images_are_test_and_bits_are_drawn_by_their_grey_values(files) -> None:
    data = prepare(settings(), files, None)
    split, number = data["split"].values, data["image"].values
    train, test = grey(files)
    assert sorted(number[split == 2]) == list(range(len(test)))
    assert sorted(number[split < 2]) == list(range(len(train)))
    assert (split == 1).sum() == round(600 * 0.1 / 0.9)
    x = data["x"].values[:, 0]
    assert np.allclose(x[split == 0], train[number[split == 0]]), "training images stay grey"
    bits, mean = x[split == 2], test[number[split == 2]]
    assert set(np.unique(bits)) == {0.0, 1.0}
    error = np.sqrt((mean * (1 - mean)).sum())
    assert abs(bits.sum() - mean.sum()) < 4 * error
    assert (bits[mean == 0] == 0).all()
    static = prepare(settings("prepare.binarise=static"), files, None)
    assert np.array_equal(static["x"].values[split == 2], data["x"].values[split == 2])
    cut = prepare(settings("prepare.binarise=threshold"), files, None)["x"].values[:, 0]
    assert np.array_equal(cut[split == 0], train[number[split == 0]] > 0.5)
    label = read_idx(files["t10k-labels-idx1-ubyte"])
    assert np.array_equal(data["label"].values[split == 2], label[number[split == 2]])


def test_the_class_left_out_is_in_test_alone(files) -> None:
    data = prepare(settings("prepare.anomaly=3"), files, None)
    label, split = data["label"].values, data["split"].values
    assert 3 not in label[split < 2]
    assert (data["anomaly"].values == (label == 3)).all()
    assert (label[split == 2] == 3).sum() == (read_idx(files["t10k-labels-idx1-ubyte"]) == 3).sum()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_quadrants_told_and_asked_make_the_image(files, count) -> None:
    told = observed_quadrants(count, 28, 28)
    assert told.mean() == count / 4
    assert told[20, 5]
    assert not told[5, 20]
    whole = prepare(settings("prepare.binarise=static"), files, None)["x"].values.reshape(-1, 784)
    overrides = ("prepare.binarise=static", "prepare.condition=quadrants", f"prepare.quadrants={count}")
    data = prepare(settings(*overrides), files, None)
    assert np.array_equal(data["condition"].values, whole[:, told.ravel()])
    assert np.array_equal(data["x"].values, whole[:, ~told.ravel()])


def test_labels_are_told_as_one_of_ten(files) -> None:
    data = prepare(settings("prepare.condition=label"), files, None)
    assert np.array_equal(data["condition"].values.argmax(1), data["label"].values)
    assert (data["condition"].values.sum(1) == 1).all()


def test_idx_files_also_packed_and_not_when_damaged(files, tmp_path) -> None:
    whole = files["t10k-images-idx3-ubyte"].read_bytes()
    for suffix, pack in ((".gz", gzip.compress), (".xz", lzma.compress)):
        path = tmp_path / f"images{suffix}"
        path.write_bytes(pack(whole))
        assert np.array_equal(read_idx(path), read_idx(files["t10k-images-idx3-ubyte"]))
        path.write_bytes(pack(whole)[:1000])
        with pytest.raises(InputError, match="cannot be read"):
            read_idx(path)
    short = tmp_path / "images"
    for content, message in ((whole[:5000], "truncated"), (whole[:6], "truncated"), (b"PNG", "no idx file")):
        short.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_idx(short)


def test_own_images_keep_their_rows_and_come_back(tmp_path) -> None:
    images = np.random.default_rng(1).random((5, 28, 28)).astype(np.float32)
    images[2, 0, 0], images[3, 1, 1] = np.nan, 1.5
    np.save(tmp_path / "own.npy", images)
    (block,) = read(tmp_path / "own.npy", unchanged())
    bad = "a pixel is not within 0 to 1: divide grey values by 255"
    assert block["status"].values.tolist() == ["ok", "ok", *[bad] * 2, "ok"]
    assert np.isnan(block["x"].values[2:4]).all()
    assert np.array_equal(block["x"].values[[0, 1, 4], 0], images[[0, 1, 4]])
    (bits,) = read(tmp_path / "own.npy", settings())
    assert set(np.unique(bits["x"].values[0])) == {0.0, 1.0}
    assert np.isnan(bits["x"].values[2]).all(), "what is missing is not black"
    write(block.isel(sample=[0, 1, 4]), tmp_path / "again.npz")
    (again,) = read(tmp_path / "again.npz", unchanged())
    assert np.array_equal(again["x"].values, block["x"].values[[0, 1, 4]])
    with pytest.raises(InputError, match=r"written to \.npz"):
        write(block, tmp_path / "again.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((4, 32, 32)), r"of images \(n, 28, 28\)"),
        (np.zeros((4, 784)), r"of images \(n, 28, 28\)"),
        (np.full((4, 28, 28), "a"), "real numbers"),
        (np.eye(28, dtype=np.uint8)[None], "the integers 0 and 1, .*: give floats or booleans"),
    ],
)
def test_other_images_are_refused(tmp_path, content, message) -> None:
    np.save(tmp_path / "own.npy", content)
    with pytest.raises(InputError, match=message):
        list(read(tmp_path / "own.npy", settings()))
    np.savez(tmp_path / "own.npz", other=content)
    with pytest.raises(InputError, match="no array 'images'"):
        list(read(tmp_path / "own.npz", settings()))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.prior=conditional", "a conditional prior needs prepare.condition"),
        ("model.kind=vq", "both vq, or neither"),
        ("model.kind=deterministic", "deterministic predicts pixels"),
        ("refit.prior=pixelcnn", "pixelcnn is a prior of codes"),
        ("model.activation=rely", "model.activation: expected 'relu', 'silu'"),
        (
            "prepare.binarise=none",
            "the likelihood is of bits, and mnist is grey: dynamic, static or threshold",
        ),
        ("source.scales=2", "source.scales: mnist is fetched as it is"),
        ("refit.training.seed=2", "refit.training.seed: a run has one seed: set seed"),
        ("objective={kind: iwae, beta: 2.0}", r"beta says nothing to iwae: leave it at 1\.0"),
        ("objective={kind: factor, samples: 2}", "samples says nothing to factor: leave it at 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_fetched(override, message) -> None:
    with pytest.raises(InputError, match=message):
        settings(override)


def test_a_data_set_is_whole_whatever_the_configurations_take_of_it(files, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SCIENCEVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sciencevae.data.fetch.fetch", lambda name, parameters: files)
    (tmp_path / "part.yaml").write_text("dataset: mnist\nprepare: {rows: 100, condition: quadrants}\n")
    data = prepared_dataset(replace(DOMAIN, folder=tmp_path), "mnist")
    assert data["x"].shape == (800, 1, 28, 28)
    assert "condition" not in data


@pytest.mark.parametrize("prior", ["mixture", "flow"])
def test_codes_take_priors_of_codes(prior) -> None:
    codes = ("objective={kind: vq}", "model.kind=vq")
    assert settings(*codes, "refit={prior: pixelcnn}").refit.prior == "pixelcnn"
    with pytest.raises(InputError, match=f"refit.prior: {prior} is no prior of codes: pixelcnn, or none"):
        settings(*codes, f"refit={{prior: {prior}}}")


def test_the_activations_are_those_of_the_networks() -> None:
    from sciencevae.networks.perceptron import ACTIVATIONS

    assert set(get_args(Model.model_fields["activation"].annotation)) == {*ACTIVATIONS, "gated"}


def test_every_configuration_is_a_valid_one() -> None:
    for path in DOMAIN.folder.glob("*.yaml"):
        assert load(DOMAIN, path.stem).variant_names()[0] == "main"


@pytest.mark.parametrize(("kind", "white"), [(np.uint8, 255), (np.int64, 255), (bool, 1), (np.float32, 1)])
def test_white_is_white_in_every_kind_of_number(tmp_path, kind, white) -> None:
    np.save(tmp_path / "own.npy", (np.eye(28) * white).astype(kind)[None])
    (block,) = read(tmp_path / "own.npy", settings())
    assert np.array_equal(block["x"].values[0, 0], np.eye(28))
