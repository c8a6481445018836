"""A VAE of token sequences: trained on padded ones, saved, sampled, decoded."""

import pytest
import torch
from torch import nn

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.networks import CausalTransformer, Perceptron, Recurrent
from sciencevae.spec import recorded
from sciencevae.training.loop import fit
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.files import load, save
from sciencevae.vae.model import VAE

V, T, D = 5, 6, 2


@recorded
class Bag(nn.Module):
    """Tokens to numbers: how often each occurs at each place; padding, −1, is none."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Perceptron(V * T, [16], 2 * D)

    def forward(self, tokens):
        known = (tokens[..., None] == torch.arange(V)).to(self.network.layers[0].weight)
        return self.network(known.flatten(1))


def sequences() -> torch.Tensor:
    """A letter, 1 to 4, two to five times, and the stop token 0."""
    rows = []
    for letter in range(1, V):
        for length in range(2, T):
            rows += [[letter] * length + [0] + [-1] * (T - length - 1)] * 10
    return torch.tensor(rows)


def build(network) -> VAE:
    torch.manual_seed(0)
    decoder = decoders.Sequence(network, stop=0, token_dropout=0.3)
    return VAE(priors.StandardNormal(D), encoders.Gaussian(Bag(), D), decoder)


NETWORKS = {
    "recurrent": lambda: Recurrent(V, T, width=32, embedding=8, condition_features=D),
    "transformer": lambda: CausalTransformer(V, T, width=16, heads=2, layers=1, condition_features=D),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_padded_sequences_are_learned_kept_and_decoded(kind, tmp_path):
    model, x = build(NETWORKS[kind]()), sequences()
    chosen = TrainingSettings(epochs=40, batch_size=32, learning_rate=1e-2, compile=False, device="cpu")
    history = fit(model, x, valid=x[::5], settings=chosen, progress=False)
    # the letter, one of four, is all that the first token has to be told: log 4 nats of it and of the length
    assert history.rows[-1]["valid_loss"] < 0.6 * history.rows[0]["valid_loss"]
    decoded = model.reconstruct(x[::5])
    assert (decoded[:, 0] == x[::5, 0]).float().mean() > 0.9
    save(model, tmp_path / "sequences.safetensors")
    again = load(tmp_path / "sequences.safetensors")
    noise = torch.randn(2, len(x), D)
    assert torch.equal(again.terms(Batch(x), noise=noise).log_px, model.terms(Batch(x), noise=noise).log_px)
    draws = model.sample(50, seed=0)
    model.decoder.check(draws, {})
    z = model.encode(x[:4]).mean
    best, log_p = model.decode(z).beam(3)
    assert best.shape[0] == len(z) == log_p.shape[0]
    widest = model.decode(z).log_prob(best[:, 0])
    assert torch.allclose(widest, log_p[:, 0], atol=1e-4)
    assert (log_p[:, 0] >= model.decode(z).log_prob(model.decode(z).mode) - 1e-4).all()


def test_double_precision_agrees():
    model, x = build(NETWORKS["recurrent"]()).eval(), sequences()
    noise = torch.randn(1, len(x), D)
    single = model.terms(Batch(x), noise=noise).log_weight
    double = model.double().terms(Batch(x), noise=noise.double()).log_weight
    assert torch.allclose(single.double(), double, rtol=1e-4, atol=1e-4)


def test_a_hole_in_a_sequence_is_refused():
    model, x = build(NETWORKS["recurrent"]()), sequences()
    x[3, 1] = -1
    with pytest.raises(InputError, match="row 3 has −1 at place 1 and a token behind it"):
        model.check(Batch(x))
