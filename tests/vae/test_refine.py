"""Refined posteriors against the exact posterior of the linear-Gaussian model."""

import pytest
import torch
import torch.distributions as td
from test_evidence import SIGMA, B, D, ExactPosterior, FixedPrior, W, b, data, exact, linear
from torch import nn

from sciencevae.batch import Batch
from sciencevae.distributions import DiagonalNormal, FullNormal, kl_normal
from sciencevae.errors import InputError
from sciencevae.networks import Perceptron
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.refine import refine


@pytest.mark.parametrize(("stretch", "shift"), [(0.4, 0.5), (2.0, 0.3)])
def test_a_wrong_encoder_is_mended_and_the_gap_is_its_divergence(stretch, shift):
    batch, model = data(), linear(ExactPosterior(stretch, shift))
    found = refine(model, batch, samples=64, seed=0)
    right, wrong = ExactPosterior()(batch.x), model.encode(batch.x)
    assert torch.allclose(found.posterior.loc, right.loc, atol=2e-3)
    assert torch.allclose(found.posterior.covariance_matrix, right.covariance_matrix, atol=2e-3)
    assert torch.allclose(found.after, exact(batch.x), atol=2e-4), "no ELBO is above the evidence"
    assert torch.allclose(found.gap, kl_normal(wrong, right)[0], rtol=0.15)
    assert torch.equal(found.gap, found.after - found.before)


class Diagonal(ExactPosterior):
    def forward(self, x, context=None):
        full = super().forward(x, context)
        return DiagonalNormal(full.loc, full.scale_tril.diagonal(dim1=-2, dim2=-1).clone())


def test_the_best_diagonal_posterior_has_the_diagonal_of_the_precision():
    """min KL(N(m, diag s²) ‖ N(μ, Σ)) is at m = μ and s_d² = 1 / (Σ⁻¹)_dd."""
    batch = data()
    found = refine(linear(Diagonal(2.0, 0.2)), batch, steps=300, samples=64, seed=0)
    right = ExactPosterior()(batch.x)
    precision = torch.linalg.inv(right.covariance_matrix).diagonal(dim1=-2, dim2=-1)
    assert torch.allclose(found.posterior.scale, precision.rsqrt(), rtol=0.05)
    assert torch.allclose(found.posterior.loc, right.loc, atol=0.05)
    # what is left to the evidence is the approximation gap of a diagonal posterior
    left = exact(batch.x) - found.after
    assert torch.allclose(left, kl_normal(found.posterior, right)[0], atol=0.1)


def test_what_is_exact_is_left_alone():
    """The gradient has no noise there, and the better of the two is kept for each datum."""
    batch, model = data(), linear(ExactPosterior())
    found = refine(model, batch, steps=5, learning_rate=0.1, seed=0)
    assert (found.gap >= 0).all()
    assert found.gap.max() < 1e-9


def test_steps_that_go_wrong_are_undone():
    batch, model = data(), linear(ExactPosterior(1.05, 0.01))
    found = refine(model, batch, steps=1, learning_rate=5.0, seed=0)
    before = model.encode(batch.x)
    assert torch.equal(found.gap, torch.zeros(B, dtype=torch.float64))
    assert torch.allclose(found.posterior.loc, before.loc)
    assert torch.allclose(found.posterior.scale_tril, before.scale_tril)


def test_a_datum_is_refined_by_itself():
    """Its gradient has nothing of the others: with the same noise, the same parameters in any company."""
    batch, model = data(), linear(ExactPosterior(1.5, 0.3))
    found = refine(model, batch, steps=20, samples=4, seed=0)
    others = Batch(torch.cat([batch.x[:1], batch.x[1:] * 3 + 1]))
    again = refine(model, others, steps=20, samples=4, seed=0)
    assert torch.equal(found.posterior.loc[0], again.posterior.loc[0])
    assert torch.equal(found.after[0], again.after[0])
    assert not torch.allclose(found.posterior.loc[1], again.posterior.loc[1])


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_stays_as_it_is(covariance, dtype):
    torch.manual_seed(0)
    model = VAE(
        priors.GaussianMixture(2, 3),
        encoders.Gaussian(Perceptron(3, [8], 4 if covariance == "diagonal" else 5), 2, covariance=covariance),
        decoders.Bernoulli(Perceptron(2, [8], 3)),
    ).to(dtype)
    before = [p.clone() for p in model.parameters()]
    x = (torch.rand(5, 3) > 0.5).to(dtype)
    state = torch.get_rng_state()
    found = refine(model, Batch(x), seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(found.posterior, DiagonalNormal if covariance == "diagonal" else FullNormal)
    assert found.posterior.loc.dtype == found.gap.dtype == dtype
    assert (found.gap > 0.01).any()
    assert all(
        p.grad is None and torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True)
    )
    assert torch.equal(found.after, refine(model, Batch(x), seed=1).after)


def test_other_posteriors_and_no_steps_are_refused():
    class Laplace(encoders.Encoder):
        dim, missing = D, True

        def forward(self, x, context=None):
            zeros = torch.zeros(len(x), D, dtype=x.dtype)
            return td.Independent(td.Laplace(zeros, zeros + 1), 1)

    class Linear(nn.Module):
        def forward(self, z):
            return z @ W.T + b

    model = VAE(FixedPrior(), Laplace(), decoders.Gaussian(Linear(), scale=SIGMA))
    with pytest.raises(InputError, match="gives a Independent"):
        refine(model, data())
    with pytest.raises(InputError, match="steps ≥ 1"):
        refine(linear(ExactPosterior()), data(), steps=0)
