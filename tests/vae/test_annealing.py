"""Annealed importance sampling against the exact evidence of the linear-Gaussian model, and importance sampling."""

import math

import pytest
import torch
from test_evidence import B, ExactPosterior, as_mixture, data, exact, linear

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.networks import Perceptron
from sciencevae.training.loop import fit
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.annealing import _Path, _step_sizes, _transition, annealed_evidence
from sciencevae.vae.evidence import log_evidence
from sciencevae.vae.model import VAE


@pytest.mark.parametrize("start", ["prior", "posterior"])
@pytest.mark.parametrize("prior", [None, as_mixture])
def test_the_evidence_of_a_linear_model_whatever_its_encoder(start, prior):
    """With a posterior of a fifth of the true width, where importance sampling is off by nats."""
    batch = data()
    model = linear(ExactPosterior(stretch=0.2, shift=0.1), prior and prior())
    found = annealed_evidence(model, batch, temperatures=200, start=start, seed=0)
    error = found.value - exact(batch.x)
    assert ((error + found.stderr**2 / 2).abs() < 4 * found.stderr + 1e-9).all()
    assert found.stderr.max() < 0.3
    assert found.value.shape == found.ess.shape == found.trusted.shape == (B,)


@pytest.mark.parametrize(("start", "temperatures"), [("posterior", 4), ("prior", 12)])
def test_the_weights_are_unbiased_at_few_temperatures(start, temperatures):
    """The step sizes come from other chains, so E[w] = p(x) exactly, however rough the annealing is."""
    batch = data()[[0, 1, 3, 5]]
    model = linear(ExactPosterior(stretch=1.4, shift=0.1))
    found = annealed_evidence(
        model, batch, temperatures=temperatures, chains=6000, leapfrog=2, start=start, seed=1
    )
    ratio = (found.value - exact(batch.x)).exp()
    assert ((ratio - 1).abs() < 4 * found.stderr * ratio + 1e-9).all()
    assert found.stderr.max() < 0.15, "or the test says nothing"


def test_one_temperature_is_importance_sampling():
    batch, model = data(), linear(ExactPosterior(stretch=1.3))
    annealed = annealed_evidence(model, batch, temperatures=1, chains=4000, start="posterior", seed=0)
    plain = log_evidence(model, batch, samples=4000, seed=1)
    assert ((annealed.value - plain.value).abs() < 4 * (annealed.stderr**2 + plain.stderr**2).sqrt()).all()


def test_a_transition_leaves_the_posterior_as_it_is_and_is_accepted_as_wanted():
    batch = data()[[0, 4]]
    model = linear(ExactPosterior())
    path = _Path(model, batch, "prior")
    torch.manual_seed(0)
    betas = [*torch.linspace(0, 1, 300).tolist(), 1.0]
    sizes = _step_sizes(path, betas, 5)
    assert len(sizes) == len(betas) - 2
    posterior = model.encode(batch.x)
    z = start = posterior.sample((8000,))
    for _ in range(5):
        z, probability = _transition(path, z, 1.0, sizes[-1], 5)
        assert (probability.mean(0) - 0.65).abs().max() < 0.12
    assert (z != start).all(-1).double().mean() > 0.95
    white = torch.linalg.solve_triangular(
        posterior.scale_tril, (z - posterior.loc).unsqueeze(-1), upper=False
    ).squeeze(-1)
    assert white.mean(0).abs().max() < 5 / math.sqrt(8000)
    assert ((white.unsqueeze(-1) * white.unsqueeze(-2)).mean(0) - torch.eye(3)).abs().max() < 0.08


def test_agrees_with_importance_sampling_on_a_trained_model():
    torch.manual_seed(0)
    angle = 2 * math.pi * torch.rand(400, 1)
    x = torch.cat([angle.cos(), angle.sin()], 1) + 0.1 * torch.randn(400, 2)
    model = VAE(
        priors.StandardNormal(1),
        encoders.Gaussian(Perceptron(2, [16], 2), 1),
        decoders.Gaussian(Perceptron(1, [16], 2), scale="learned"),
    )
    settings = TrainingSettings(epochs=60, batch_size=100, learning_rate=1e-2, compile=False, device="cpu")
    fit(model, x, settings=settings, progress=False)
    batch = Batch(x[:8])
    plain = log_evidence(model, batch, samples=20_000, chunk=2000, seed=0)
    assert plain.trusted.all()
    for start in ("prior", "posterior"):
        found = annealed_evidence(model, batch, temperatures=100, start=start, seed=0)
        assert ((found.value - plain.value).abs() < 4.5 * found.stderr + 0.02).all()
    assert all(p.grad is None for p in model.parameters())


def test_seed_leaves_the_generator_alone_and_the_chains_are_not_shared():
    model, batch = linear(ExactPosterior(1.2)), data()
    state = torch.get_rng_state()
    first = annealed_evidence(model, batch, temperatures=5, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.value, annealed_evidence(model, batch, temperatures=5, seed=1).value)


def test_latents_without_a_likelihood_do_not_break_a_chain():
    """Where p(x | z) is 0 the weight is 0, and a trajectory that ends there is not accepted."""

    class Half(decoders.Gaussian):
        def forward(self, z, context=None):
            likelihood = super().forward(z, context)
            density = likelihood.log_prob
            likelihood.log_prob = lambda x: torch.where(z[..., 0] > 0, density(x), -math.inf)
            return likelihood

    class Column(torch.nn.Module):
        def forward(self, z):
            return z[:, :1]

    model = VAE(
        priors.StandardNormal(1), encoders.Gaussian(Perceptron(1, [], 2), 1), Half(Column(), scale=0.5)
    )
    batch = Batch(torch.tensor([[0.3], [1.0]], dtype=torch.float64))
    model.double()
    found = annealed_evidence(model, batch, temperatures=50, chains=2000, seed=0)
    # ∫_0^∞ N(x; z, ¼) N(z; 0, 1) dz
    z = torch.linspace(0, 12, 200_001, dtype=torch.float64)[:, None]
    joint = torch.distributions.Normal(z, 0.5).log_prob(batch.x[:, 0]) + torch.distributions.Normal(
        z.new_zeros(()), 1.0
    ).log_prob(z)
    wanted = torch.trapezoid(joint.exp(), z[:, 0], dim=0).log()
    assert ((found.value - wanted).abs() < 4 * found.stderr).all()
    assert found.stderr.max() < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": "postrior"}, "did you mean 'posterior'"),
        ({"temperatures": 0}, "temperatures ≥ 1"),
        ({"chains": 1}, "chains ≥ 2"),
        ({"leapfrog": 0}, "leapfrog ≥ 1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        annealed_evidence(linear(ExactPosterior()), data(), **arguments)


def test_latents_that_are_not_continuous_are_refused():
    class Codes(priors.Prior):
        dim = 3

        def forward(self, context=None):
            return torch.distributions.Independent(
                torch.distributions.Categorical(logits=torch.zeros(3, 4)), 1, validate_args=False
            )

    with pytest.raises(InputError, match="not continuous"):
        annealed_evidence(linear(ExactPosterior(), Codes()), data())
