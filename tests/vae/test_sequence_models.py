"""A whole model of padded sequences, whose evidence has a known best value."""

import copy
import math

import pytest
import torch
from torch import nn

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.networks import Identity, Perceptron, Recurrent
from sciencevae.spec import recorded
from sciencevae.training.loop import fit
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.evidence import log_evidence
from sciencevae.vae.model import VAE

V, T, STOP, D = 4, 5, 0, 2
DTYPES = [torch.float32, torch.float64]


@recorded
class Tokens(nn.Module):
    """Integers (B, T), −1 behind the end, or those of the field "tokens" → (B, out_features)."""

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features
        self.embedding = nn.Embedding(V + 1, 4)
        self.dense = Perceptron(4 * T, [32], out_features)

    def forward(self, x):
        x = x if isinstance(x, torch.Tensor) else x["tokens"]
        return self.dense(self.embedding(torch.where(x < 0, V, x)).flatten(1))


def kinds() -> torch.Tensor:
    """One token, repeated, then the stop token: 3 tokens by 4 lengths, (12, T)."""
    rows = [[token] * n + [STOP] + [-1] * (T - n - 1) for token in (1, 2, 3) for n in range(1, T)]
    return torch.tensor(rows)


def build(token_dropout: float = 0.0) -> VAE:
    torch.manual_seed(0)
    network = Recurrent(V, T, width=24, embedding=6, condition_features=D)
    decoder = decoders.Sequence(network, STOP, token_dropout)
    return VAE(priors.StandardNormal(D), encoders.Gaussian(Tokens(2 * D), D), decoder)


@pytest.fixture(scope="module")
def trained_once() -> VAE:
    model = build(token_dropout=0.4)  # without it the latents stay unused
    settings = TrainingSettings(
        epochs=30, batch_size=120, compile=False, learning_rate=2e-2, schedule="cosine", device="cpu"
    )
    fit(model, kinds().repeat(100, 1), settings=settings, progress=False)
    return model


@pytest.fixture(params=DTYPES, ids=str)
def trained(trained_once, request) -> VAE:
    return copy.deepcopy(trained_once).to(request.param)


def test_rows_that_have_ended_are_left_out_and_the_others_are_as_alone(trained):
    torch.manual_seed(1)
    likelihood = trained.decode(2 * torch.randn(40, D, dtype=trained.prior.loc.dtype))
    together, rows = likelihood.mode, []
    assert len(set((together >= 0).sum(1).tolist())) > 2, "sequences of several lengths"
    trained.decoder.network.head.register_forward_hook(lambda part, given, out: rows.append(len(out)))
    assert torch.equal(likelihood.mode, together)
    assert rows[0] == 40
    assert min(rows) < 32
    alone = [trained.decode(z).mode for z in likelihood.base.condition[0].split(1)]
    assert torch.equal(torch.cat(alone), together)


def test_training_comes_to_the_entropy_of_the_data(trained):
    """The data are 12 sequences in equal shares: no model gives them more than −log 12 nats on average."""
    x, dtype = kinds(), trained.prior.loc.dtype
    line = torch.linspace(-5, 5, 101, dtype=dtype)
    z = torch.cartesian_prod(line, line).unsqueeze(1).expand(-1, 12, D)
    with torch.no_grad():
        log_joint = trained.decode(z).log_prob(x) + trained.prior().log_prob(z)
    log_p = log_joint.logsumexp(0) + 2 * math.log(0.1)
    assert log_p.dtype == dtype
    assert log_p.exp().sum() < 1 + 1e-5
    assert -math.log(12) - 0.25 < log_p.mean() < -math.log(12) + 1e-5
    evidence = log_evidence(trained, Batch(x), samples=2000, chunk=500, seed=0)
    assert (evidence.value - log_p).abs()[evidence.trusted].max() < 0.2
    assert (trained(Batch(x), 200).log_weight.mean(0) < log_p + 0.1).all(), "the ELBO is a lower bound"


def test_the_verbs_of_a_model_of_sequences(trained):
    x = kinds()
    posterior = trained.encode(x)
    z = posterior.mean
    rebuilt = trained.reconstruct(x)
    assert torch.equal(rebuilt, trained.decode(z).mode)
    assert (rebuilt == x).all(1).sum() >= 6, "by chance one of the 12 sequences comes back"
    draws = trained.sample(200, seed=1)
    assert draws.shape == (200, T)
    trained.decoder.check(draws, {})
    common = (draws.unsqueeze(1) == x).all(-1).any(1).double().mean()
    assert common > 0.8, "of 3.9 million sequences of tokens"
    # a search, over one axis of batch as over two
    squeezed, log_p = trained.decode(z).beam(3)
    whole, log_whole = trained.decoder(z.unsqueeze(0), {}).beam(3)
    assert squeezed.shape == (12, 3, T)
    assert torch.equal(squeezed, whole[0])
    assert torch.equal(log_p, log_whole[0])
    assert torch.allclose(trained.decode(z).log_prob(squeezed[:, 0]), log_p[:, 0], atol=1e-5)
    assert (log_p[:, 0] >= trained.decode(z).log_prob(rebuilt) - 1e-5).all(), "no worse than greedy"
    assert trained.decode(z).length == T
    assert trained.decode(z).network is trained.decoder.network


def test_token_dropout_acts_in_training_alone():
    settings = TrainingSettings(epochs=2, batch_size=12, compile=False, device="cpu")
    model = build(token_dropout=0.5)
    x = kinds()
    noise = torch.randn(1, 12, D)
    told = [model.train().terms(Batch(x), 1, noise).log_px for _ in range(2)]
    assert not torch.equal(*told)
    fit(model, x, settings=settings, progress=False)
    model.eval()
    assert torch.equal(*(model.terms(Batch(x), 1, noise).log_px for _ in range(2)))


def test_padding_is_not_missing_data():
    x = kinds()
    model = build()
    model.check(Batch(x))
    # what is no padding is refused by name, before an embedding is asked for what it has not
    for wrong, message in [(x + 9, "row 0, place 0 is 10"), (x.flip(1), "−1 at place 2 and a token behind")]:
        with pytest.raises(InputError, match=message):
            model.check(Batch(wrong))
    # of a field beside others too, whose own missing entries are as ever
    fields = {
        "tokens": decoders.Sequence(Recurrent(V, T, width=4, condition_features=D), STOP),
        "kind": decoders.Categorical(Perceptron(D, [], 3), 3),
    }
    joint = VAE(priors.StandardNormal(D), encoders.Gaussian(Tokens(2 * D), D), decoders.Joint(fields))
    kind = torch.arange(12).unsqueeze(1) // 4
    data = {"tokens": x, "kind": kind}
    joint.check(Batch(data))
    settings = TrainingSettings(epochs=1, batch_size=12, compile=False, device="cpu")
    fit(joint, Batch(data), settings=settings, progress=False)
    z = joint.encode(data).mean
    assert joint.decode(z).fields["tokens"].beam(2)[0].shape == (12, 2, T)
    assert {name: tuple(values.shape) for name, values in joint.sample(7).items()} == {
        "tokens": (7, T),
        "kind": (7, 1),
    }
    with pytest.raises(InputError, match="1 of 12 rows of kind have missing entries"):
        joint.check(Batch({"tokens": x, "kind": torch.where(torch.arange(12).unsqueeze(1) == 3, -1, kind)}))
    plain = VAE(priors.StandardNormal(D), encoders.Gaussian(Tokens(2 * D), D), decoders.Bernoulli(Identity()))
    with pytest.raises(InputError, match="rows of x have missing entries"):
        plain.check(Batch(x))


def test_methods_and_parts_of_a_likelihood_of_one_axis_of_batch():
    """Whatever the likelihood has is there without the axis of draws."""
    model = VAE(
        priors.StandardNormal(D),
        encoders.Gaussian(Perceptron(3, [], 2 * D), D),
        decoders.Gaussian(Perceptron(D, [4], 3)),
    )
    z, x = torch.randn(5, D), torch.randn(5, 3)
    one, two = model.decode(z), model.decode(z.unsqueeze(0))
    assert torch.equal(one.elementwise_log_prob(x), two.elementwise_log_prob(x)[0])
    assert torch.equal(one.base_dist.mean, two.base_dist.mean[0])
    assert torch.equal(one.mode, two.mode[0])
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = one.nothing_of_the_kind
