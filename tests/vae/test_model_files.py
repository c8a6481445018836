"""A model's file: the same model back, and nothing else accepted."""

import pickle

import pytest
import torch
from torch import nn

from sciencevae.batch import Batch
from sciencevae.errors import InputError, RunError
from sciencevae.networks import Perceptron
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.files import load, load_metadata, save
from sciencevae.vae.model import VAE


def model() -> VAE:
    torch.manual_seed(0)
    return VAE(
        priors.StandardNormal(2),
        encoders.Gaussian(Perceptron(4, [8], 4, activation="tanh"), dim=2),
        decoders.Gaussian(Perceptron(2, [8], 4), scale="learned"),
    )


def test_the_same_model_comes_back(tmp_path):
    original, path = model(), tmp_path / "model.safetensors"
    save(original, path, {"domain": None, "units": {"x": "mas"}, "metrics": {"loss": 1.5}})
    back = load(path)
    x, noise = torch.randn(3, 4), torch.randn(2, 3, 2)
    for name in ("log_px", "log_pz", "log_qz", "z"):
        assert torch.equal(
            getattr(original.terms(Batch(x), noise=noise), name),
            getattr(back.terms(Batch(x), noise=noise), name),
        )
    assert load_metadata(path)["units"] == {"x": "mas"}
    assert not back.training
    from safetensors import safe_open

    with safe_open(path, "pt") as file:  # readable without us
        assert "decoder.network.layers.0.weight" in file.keys()  # noqa: SIM118


def test_a_header_of_any_length_is_read(tmp_path):
    """A length that begins with the bytes of a pickle or of a zip archive makes no pickle of the file."""
    lengths = set()
    for padding in range(0, 600, 8):
        path = tmp_path / "model.safetensors"
        save(model(), path, {"padding": "x" * padding})
        load(path)
        lengths.add(path.read_bytes()[:1])
    assert b"\x80" in lengths


def test_an_exchanged_prior_is_saved(tmp_path):
    changed, path = model(), tmp_path / "model.safetensors"
    changed.prior = priors.GaussianMixture(2, 3, "full").fit(torch.randn(500, 2))
    save(changed, path)
    z = torch.randn(5, 2)
    assert torch.equal(load(path).prior().log_prob(z), changed.prior().log_prob(z))


def test_what_cannot_be_rebuilt_is_refused_when_saved(tmp_path):
    plain = VAE(
        priors.StandardNormal(2),
        encoders.Gaussian(nn.Linear(4, 4), 2),
        decoders.Gaussian(Perceptron(2, [], 4)),
    )
    with pytest.raises(InputError, match="recorded"):
        save(plain, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def damaged(kind: str, whole: bytes) -> bytes:
    if kind == "truncated":
        return whole[: len(whole) * 2 // 3]
    if kind == "pickle":
        return pickle.dumps({"weights": [1, 2]})
    if kind == "torch":
        import io

        buffer = io.BytesIO()
        torch.save({"a": torch.zeros(2)}, buffer)
        return buffer.getvalue()
    if kind == "foreign":
        from safetensors.torch import save as to_bytes

        return to_bytes({"a": torch.zeros(2)})
    return b""


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("truncated", RunError, "truncated or damaged"),
        ("empty", RunError, "truncated or damaged"),
        ("pickle", InputError, "never loaded"),
        ("torch", InputError, "never loaded"),
        ("foreign", InputError, "did not write"),
    ],
)
def test_bad_files_name_the_remedy(tmp_path, kind, error, message):
    path = tmp_path / "model.safetensors"
    save(model(), path)
    path.write_bytes(damaged(kind, path.read_bytes()))
    with pytest.raises(error, match=rf"{message}.*give a file written by sciencevae\.save"):
        load(path)


def test_a_missing_file_and_a_checkpoint_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "nothing.safetensors")
    from sciencevae.training.loop import fit
    from sciencevae.training.settings import TrainingSettings

    settings = TrainingSettings(epochs=1, batch_size=8)
    fit(model(), torch.randn(16, 4), settings=settings, run=tmp_path, progress=False)
    with pytest.raises(InputError, match="training checkpoint"):
        load(tmp_path / "checkpoint.safetensors")


def test_a_class_that_no_part_provides_is_not_reached(tmp_path, monkeypatch):
    from sciencevae.vae import files

    description = {"class": "os.system", "arguments": {"command": "true"}}
    monkeypatch.setattr(files, "describe", lambda model: description)
    files.save(model(), tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"os\.system, which no installed part or domain provides"):
        load(tmp_path / "model.safetensors")


def test_a_model_in_double_precision_comes_back_whole(tmp_path):
    original = model().double()
    save(original, tmp_path / "model.safetensors")
    back = load(tmp_path / "model.safetensors")
    assert torch.equal(back.sample(3, seed=1), original.sample(3, seed=1))
    assert back.sample(3).dtype == torch.float64
