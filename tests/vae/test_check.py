"""Looking at whether data and parts fit leaves a model as it was."""

import pytest
import torch
from torch import nn

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.networks import Fields, Perceptron, Recurrent
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.vq import VQVAE

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


class Normalised(nn.Module):
    """Has running statistics, and can fail."""

    def __init__(self, outputs: int, places: int = 0) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(3), nn.Linear(3, outputs)
        self.places, self.fails = places, False

    def forward(self, x):
        if self.fails:
            raise RuntimeError("the network's own error")
        out = self.linear(self.norm(x))
        return out.unflatten(1, (-1, self.places)) if self.places else out


class LooksAhead(nn.Module):
    def forward(self, codes):
        return nn.functional.one_hot(codes, 5).float()


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = Perceptron(4, [5], 3)

    def forward(self, z):
        return self.network(z.flatten(1))


def continuous() -> VAE:
    encoder = encoders.Gaussian(Normalised(4), 2)
    return VAE(priors.StandardNormal(2), encoder, decoders.Gaussian(Perceptron(2, [5], 3)))


def coded(causal: nn.Module | None = None) -> VQVAE:
    encoder = encoders.Code(Normalised(4, places=2), encoders.Quantiser(5, 2), grid=(2,))
    prior = priors.Autoregressive(causal or Recurrent(5, 2, width=4), 5, (2,))
    return VQVAE(prior, encoder, decoders.Gaussian(Flat()))


FAILURES = {
    "network": "the network's own error",
    "decoder": "the data hold infinities",
    "prior": "looks ahead",
}


@pytest.mark.parametrize(
    ("make", "fails"),
    [(make, fails) for make in (continuous, coded) for fails in (None, "network", "decoder")]
    + [(lambda: coded(LooksAhead()), "prior")],
)
def test_a_check_leaves_modes_and_statistics_as_they_were(make, fails):
    model = make()
    model.train()
    model.decoder.eval()  # a part that is kept fixed
    model.encoder.network.fails = fails == "network"
    modes = {name: part.training for name, part in model.named_modules()}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = Batch(X / 0 if fails == "decoder" else X)
    if fails:
        with pytest.raises((InputError, RuntimeError), match=FAILURES[fails]):
            model.check(batch)
    else:
        model.check(batch)
    assert {name: part.training for name, part in model.named_modules()} == modes
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_a_field_that_the_encoder_does_not_read_may_have_missing_entries():
    def build(read: dict[str, nn.Module], width: int) -> VAE:
        encoder = encoders.Gaussian(Fields(read, Perceptron(width, [], 4)), 2)
        fields = {"a": Perceptron(2, [], 3), "y": Perceptron(2, [], 1)}
        return VAE(
            priors.StandardNormal(2),
            encoder,
            decoders.Joint({name: decoders.Gaussian(part) for name, part in fields.items()}),
        )

    y = torch.tensor([[float("nan")], [1.0]]).repeat(4, 1)
    batch = Batch({"a": X, "y": y})
    model = build({"a": Perceptron(3, [], 2)}, 2)
    model.check(batch)
    terms = model.terms(batch)
    assert (terms.log_px_by_field["y"][0, ::2] == 0).all()
    assert (terms.log_px_by_field["y"][0, 1::2] != 0).all()
    with pytest.raises(InputError, match="4 of 8 rows of y have missing entries"):
        build({"a": Perceptron(3, [], 2), "y": Perceptron(1, [], 2)}, 4).check(batch)
