"""The linear-Gaussian VAE, whose evidence is known: log p(x) = log N(x; W m + b, W S₀ Wᵀ + σ² I)."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from sciencevae.batch import Batch
from sciencevae.distributions import FullNormal
from sciencevae.errors import InputError
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.evidence import Evidence, Weights, log_evidence
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, IWAE
from sciencevae.vae.pareto import tail_length, tail_shape

N, D, B, SIGMA = 6, 3, 7, 0.4
REPEATS = 6000
torch.manual_seed(5)
W = torch.randn(N, D, dtype=torch.float64)
b = torch.randn(N, dtype=torch.float64)
PRIOR_MEAN = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)
PRIOR_ROOT = torch.tensor([[0.8, 0, 0], [0.3, 1.1, 0], [-0.2, 0.4, 0.6]], dtype=torch.float64)


class FixedPrior(priors.Prior):
    """N(m, S₀), not standard, whose KL has a closed form."""

    dim = D

    def forward(self, context=None):
        return FullNormal(PRIOR_MEAN, PRIOR_ROOT)


class Linear(nn.Module):
    out_features = N

    def forward(self, z):
        return z @ W.T + b


class ExactPosterior(encoders.Encoder):
    """p(z | x_observed): precision S₀⁻¹ + W_oᵀ W_o / σ². ``stretch`` and ``shift`` make it wrong on purpose."""

    dim, missing = D, True

    def __init__(self, stretch: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.stretch, self.shift = stretch, shift

    def forward(self, x, context=None):
        seen = (~x.isnan()).double()  # (B, N)
        prior_precision = torch.linalg.inv(PRIOR_ROOT @ PRIOR_ROOT.T)
        precision = prior_precision + torch.einsum("bn,nd,ne->bde", seen, W, W) / SIGMA**2
        residual = torch.where(x.isnan(), 0.0, x - b) * seen
        right = prior_precision @ PRIOR_MEAN + residual @ W / SIGMA**2
        covariance = torch.linalg.inv(precision)
        mean = (covariance @ right.unsqueeze(-1)).squeeze(-1)
        return FullNormal(mean + self.shift, torch.linalg.cholesky(covariance) * self.stretch)


def data() -> Batch:
    generator = torch.Generator().manual_seed(1)
    z = PRIOR_MEAN + torch.randn(B, D, dtype=torch.float64, generator=generator) @ PRIOR_ROOT.T
    x = z @ W.T + b + SIGMA * torch.randn(B, N, dtype=torch.float64, generator=generator)
    x[0, 2] = x[1, :4] = x[2, 5] = float("nan")
    x[3] = float("nan")
    return Batch(x)


def exact(x: torch.Tensor) -> torch.Tensor:
    mean = W @ PRIOR_MEAN + b
    covariance = W @ PRIOR_ROOT @ PRIOR_ROOT.T @ W.T + SIGMA**2 * torch.eye(N, dtype=torch.float64)
    out = []
    for row in x:
        seen = ~row.isnan()
        if not seen.any():
            out.append(0.0)
            continue
        marginal = stats.multivariate_normal(mean[seen].numpy(), covariance[seen][:, seen].numpy())
        out.append(float(marginal.logpdf(row[seen].numpy())))
    return torch.tensor(out, dtype=torch.float64)


def linear(posterior: encoders.Encoder, prior: priors.Prior | None = None) -> VAE:
    return VAE(prior or FixedPrior(), posterior, decoders.Gaussian(Linear(), scale=SIGMA))


def as_mixture() -> priors.GaussianMixture:
    """The same prior as a mixture of one component: no closed KL, so the estimate is used."""
    prior = priors.GaussianMixture(D, 1, covariance="full").double()
    rows, columns = torch.tril_indices(D, D)
    root = PRIOR_ROOT.tril(-1) + torch.diag(PRIOR_ROOT.diagonal().log())
    with torch.no_grad():
        prior.loc[0], prior.root[0] = PRIOR_MEAN, root[rows, columns]
    return prior


@pytest.mark.parametrize("prior", [FixedPrior, as_mixture])
def test_with_the_exact_posterior_every_bound_is_the_evidence(prior):
    batch, model = data(), linear(ExactPosterior(), prior())
    wanted = exact(batch.x)
    evidence = log_evidence(model, batch, samples=57, chunk=10)  # 57 is no multiple of 10
    assert (evidence.value - wanted).abs().max() < 1e-9
    assert evidence.stderr.max() < 1e-7
    assert torch.allclose(evidence.ess, torch.tensor(57.0, dtype=torch.float64))
    assert (-IWAE(5)(model, batch).per_datum - wanted).abs().max() < 1e-9
    # log p(x|z) varies over draws, and its mean does not with log p(z) − log q(z) beside it
    terms = model.terms(batch, 4)
    assert (terms.log_weight - wanted).abs().max() < 1e-9
    if terms.kl is not None:
        # E_q log p(x|z) in closed form needs many draws: antithetic pairs make the quadratic's odd part vanish
        noise = torch.randn(20_000, B, D, dtype=torch.float64)
        noise = torch.cat([noise, -noise])
        elbo = -ELBO()(model, batch, noise).per_datum
        spread = model.terms(batch, noise=noise).log_px.std(0) / math.sqrt(len(noise))
        assert ((elbo - wanted).abs() <= 6 * spread + 1e-9).all()
    else:
        assert (-ELBO(samples=3)(model, batch).per_datum - wanted).abs().max() < 1e-9


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_chunks_do_not_change_the_estimate(chunk):
    """Exactly the number of samples asked for, whatever the chunk: the weights are the same random numbers."""
    batch, model = data(), linear(ExactPosterior(stretch=1.5, shift=0.05))
    whole = log_evidence(model, batch, samples=200, chunk=200, seed=3)
    torch.manual_seed(3)
    log_w = torch.cat(
        [model.terms(batch, min(chunk, 200 - done)).log_weight for done in range(0, 200, chunk)]
    )
    streamed = log_evidence(model, batch, samples=200, chunk=chunk, seed=3)
    assert log_w.shape[0] == 200
    assert torch.allclose(streamed.value, log_w.logsumexp(0) - math.log(200), atol=1e-12)
    w = log_w.exp()
    assert torch.allclose(streamed.ess, w.sum(0) ** 2 / (w**2).sum(0))
    assert torch.allclose(streamed.stderr, w.std(0) / w.mean(0) / math.sqrt(200), rtol=1e-9)
    if chunk >= 200:
        assert torch.equal(streamed.value, whole.value)


def test_a_wrong_proposal_knows_its_own_error():
    """Over 400 repeats the error divided by the stated standard error is standard normal."""
    batch, model = data(), linear(ExactPosterior(stretch=1.3, shift=0.05))
    wanted = exact(batch.x)
    scores = []
    for seed in range(400):
        found = log_evidence(model, batch, samples=600, chunk=600, seed=seed)
        scores.append(((found.value - wanted + found.stderr**2 / 2) / found.stderr).numpy())
    scores = np.array(scores)[:, [0, 1, 2, 4, 5, 6]]
    assert np.abs(scores.mean(0)).max() < 4 / math.sqrt(400)
    assert np.all(np.abs(scores.std(0) - 1) < 0.15)
    assert 0.92 < (np.abs(scores) < 1.96).mean() < 0.98


def test_bounds_are_in_order():
    """ELBO ≤ IWAE-5 ≤ IWAE-50 ≤ log p(x), each in expectation, with a proposal that is wrong."""
    batch, model = data(), linear(ExactPosterior(stretch=1.8, shift=0.1))
    wanted = exact(batch.x)
    torch.manual_seed(0)
    log_w = model.terms(batch, 50 * REPEATS).log_weight.reshape(REPEATS, 50, B)
    log_w = log_w[:, :, ~batch.x.isnan().all(1)]
    wanted = wanted[~batch.x.isnan().all(1)]
    bounds = [
        log_w.mean(1),
        (log_w.reshape(REPEATS, 10, 5, -1).logsumexp(2) - math.log(5)).mean(1),
        log_w.logsumexp(1) - math.log(50),
        wanted.expand(REPEATS, -1),
    ]
    for lower, upper in itertools.pairwise(bounds):
        gap = upper - lower
        assert (gap.mean(0) > 4 * gap.std(0) / math.sqrt(REPEATS)).all()


def test_impossible_data_give_minus_infinity_not_nan():
    class Never(Linear):
        def forward(self, z):
            return z @ W.T * 0 + 1e200

    model = VAE(FixedPrior(), ExactPosterior(), decoders.Gaussian(Never(), scale=1e-3))
    found = log_evidence(model, data(), samples=20, chunk=7)
    assert torch.isneginf(found.value[[0, 1, 2, 4, 5, 6]]).all()


def test_seed_leaves_the_generator_alone():
    model, batch = linear(ExactPosterior(1.2)), data()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = log_evidence(model, batch, 50, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.value, log_evidence(model, batch, 50, seed=1).value)


def test_too_few_samples_are_refused():
    with pytest.raises(InputError, match="samples ≥ 2"):
        log_evidence(linear(ExactPosterior()), data(), samples=1)


# ---- where importance sampling is not to be trusted --------------------------------------------------


def test_a_tail_has_the_shape_it_was_drawn_with():
    """u^(−k) with u uniform on (0, 1) is a Pareto variable of shape k."""
    draws = torch.rand(10_000, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for shape in (0.2, 0.5, 0.9):
        largest = (-shape * draws.log()).topk(tail_length(10_000) + 1, dim=0).values
        found = tail_shape(largest)
        assert found.mean() == pytest.approx((300 * shape + 5) / 310, abs=0.02)  # drawn a little towards ½
        assert found.std() < 1.2 * (1 + shape) / math.sqrt(300)  # of the maximum-likelihood fit
        assert torch.allclose(tail_shape(largest + 700.0), found), "weights have no scale"


def test_a_tail_agrees_with_the_maximum_likelihood_fit():
    log_w = 0.7 * torch.randn(4000, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    largest = log_w.topk(tail_length(4000) + 1, dim=0).values
    excess = (largest.exp() - largest[-1].exp())[:-1]
    fits = [stats.genpareto.fit(column.numpy(), floc=0)[0] for column in excess.T]
    count = len(excess)
    wanted = (count * torch.tensor(fits) + 5) / (count + 10)
    assert (tail_shape(largest) - wanted).abs().max() < 0.03


def test_a_proposal_that_is_much_too_narrow_is_not_trusted(caplog):
    """q of a fifth of the posterior's width: w has no second moment, and stderr says nothing of the error."""
    batch = data()
    narrow = log_evidence(linear(ExactPosterior(stretch=0.2)), batch, samples=1000, seed=0)
    wanted = exact(batch.x)
    assert ((narrow.value - wanted).abs() > 4 * narrow.stderr).any(), "the error is not the stated one"
    assert not narrow.trusted.any()
    assert "not to be trusted for 7 of 7 data" in caplog.text
    assert caplog.text.count("not to be trusted") == 1
    caplog.clear()
    for posterior in (ExactPosterior(), ExactPosterior(stretch=1.2, shift=0.02)):
        assert log_evidence(linear(posterior), batch, samples=1000, seed=0).trusted.all()
    assert not caplog.text


def test_the_tail_is_the_same_whatever_the_chunk():
    """The largest weights are kept while the rest streams by."""
    batch, model = data(), linear(ExactPosterior(stretch=0.6))
    torch.manual_seed(3)
    log_w = torch.cat([model.terms(batch, 30).log_weight for _ in range(10)])
    whole, parts = Weights(300), Weights(300)
    whole.add(log_w)
    for chunk in log_w.split(17):
        parts.add(chunk)
    assert torch.equal(whole.largest, parts.largest)
    assert torch.equal(whole.largest, log_w.sort(0, descending=True).values[: tail_length(300) + 1])
    assert torch.equal(whole.evidence().trusted, parts.evidence().trusted)


def test_too_few_draws_are_not_trusted_unless_all_weights_are_equal():
    batch = data()
    assert not log_evidence(linear(ExactPosterior(stretch=1.2)), batch, samples=20).trusted.any()
    assert log_evidence(linear(ExactPosterior()), batch, samples=20).trusted.all()


def test_evidence_unpacks_into_three_and_what_is_exact_is_trusted():
    value, stderr, ess = log_evidence(linear(ExactPosterior()), data(), samples=30)
    assert value.shape == stderr.shape == ess.shape == (B,)
    assert Evidence(value, stderr, ess).trusted.all()


def test_harmless_weights_are_seldom_suspected_and_hopeless_ones_mostly():
    generator = torch.Generator().manual_seed(2)
    for samples in (100, 1000):
        log_w = torch.randn(samples, 400, dtype=torch.float64, generator=generator)
        share = {}
        for sigma in (0.5, 3.0):  # ess / S is exp(−σ²)
            weights = Weights(samples)
            weights.add(sigma * log_w)
            share[sigma] = weights.evidence().trusted.double().mean().item()
        assert share[0.5] > 0.9
        assert share[3.0] < 0.1
