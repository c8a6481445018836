"""Scores, the use of latents and mixtures of them, each against a case whose answer is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import sciencevae as sv
from sciencevae.batch import Batch
from sciencevae.data.batches import as_batches
from sciencevae.errors import InputError
from sciencevae.latents.cluster import combine, fit_gaussians, gaussian_mixture
from sciencevae.latents.collapse import latent_use
from sciencevae.latents.score import anomaly_score
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.annealing import annealed_evidence
from sciencevae.vae.evidence import log_evidence
from sciencevae.vae.model import VAE

SIGMA = 0.5


class Encode(nn.Module):
    """The exact posterior of x = gain·z + σ ε with z ~ N(0, 1), dimension by dimension."""

    def __init__(self, gain: torch.Tensor) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x):
        variance = 1 / (1 + self.gain**2 / SIGMA**2)
        return torch.cat([variance * self.gain * x / SIGMA**2, variance.log().expand_as(x)], 1)


class Decode(nn.Module):
    def __init__(self, gain: torch.Tensor) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, z):
        return self.gain * z


def exact_model(gain: torch.Tensor) -> VAE:
    dim = len(gain)
    return VAE(
        priors.StandardNormal(dim),
        encoders.Gaussian(Encode(gain), dim),
        decoders.Gaussian(Decode(gain), scale=SIGMA),
    )


def test_scores_of_a_model_that_is_exact():
    gain = torch.tensor([1.0, 2.0, 0.0])
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 2
    spread = (gain**2 + SIGMA**2).sqrt()
    wanted = -torch.distributions.Normal(0.0, spread).log_prob(x).sum(1)
    model, batch = exact_model(gain), Batch(x)
    assert torch.allclose(anomaly_score(model, batch, "evidence", samples=10), wanted, atol=1e-4)
    # the ELBO is the evidence up to the noise of E_q[log p(x|z)]
    assert torch.allclose(anomaly_score(model, batch, "elbo", samples=20_000), wanted, atol=0.15)
    reconstruction = anomaly_score(model, batch, "reconstruction", samples=20_000)
    posterior = model.encode(x)
    residual = (x - gain * posterior.mean) ** 2 + gain**2 * posterior.variance
    exact = (0.5 * residual / SIGMA**2 + 0.5 * math.log(2 * math.pi * SIGMA**2)).sum(1)
    assert torch.allclose(reconstruction, exact, atol=0.15)


@pytest.mark.parametrize("kind", ["elbo", "reconstruction", "evidence"])
def test_memory_holds_a_thousand_decoded_data_at_most(kind, monkeypatch):
    """And each row gets the score that it gets alone."""
    model = exact_model(torch.tensor([1.0, 2.0]))
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    decoded, terms = [], VAE.terms
    monkeypatch.setattr(VAE, "terms", lambda self, b, s=1: decoded.append(len(b) * s) or terms(self, b, s))
    found = anomaly_score(model, Batch(x), kind, samples=64)
    assert max(decoded) <= 1000
    assert sum(decoded) == 300 * 64
    alone = torch.cat([anomaly_score(model, Batch(one[None]), kind, samples=900) for one in x[::50]])
    assert torch.allclose(found[::50], alone, atol=1e-4 if kind == "evidence" else 1.0)


def test_outliers_score_higher():
    gain = torch.tensor([1.0, 1.0])
    x = torch.cat([torch.zeros(5, 2), torch.full((5, 2), 8.0)])
    for kind in ("elbo", "reconstruction", "evidence"):
        score = anomaly_score(exact_model(gain), Batch(x), kind)
        assert score[5:].min() > score[:5].max() + 5


def test_scores_are_reproducible_and_kinds_are_checked():
    model, batch = exact_model(torch.ones(2)), Batch(torch.randn(4, 2))
    assert torch.equal(anomaly_score(model, batch), anomaly_score(model, batch))
    with pytest.raises(InputError, match="did you mean 'elbo'"):
        anomaly_score(model, batch, "elbow")


@pytest.mark.parametrize(
    "estimate",
    [
        anomaly_score,
        lambda model, batch: log_evidence(model, batch, samples=30),
        lambda model, batch: annealed_evidence(model, batch, temperatures=2, chains=25),
    ],
    ids=["anomaly_score", "log_evidence", "annealed_evidence"],
)
def test_data_that_a_likelihood_does_not_take_have_no_density(estimate):
    """Counts under a Bernoulli: x·logit − softplus(logit) has any value above 0."""
    bits = decoders.Bernoulli(Decode(torch.ones(2)))
    model = VAE(priors.StandardNormal(2), encoders.Gaussian(Encode(torch.ones(2)), 2), bits)
    with pytest.raises(InputError, match="a Bernoulli likelihood takes 0 and 1; the data hold 7"):
        estimate(model, Batch(torch.tensor([[0.0, 1.0], [7.0, 0.0]])))


def test_use_of_latents_against_closed_forms():
    gain = torch.tensor([3.0, 1.0, 0.0])
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(20_000, 3, generator=generator)
    x = gain * z + SIGMA * torch.randn(20_000, 3, generator=generator)
    use = latent_use(exact_model(gain), as_batches(x), rows=20_000)
    wanted = 0.5 * (1 + gain**2 / SIGMA**2).log()  # the mutual information of each dimension
    assert use.kl_by_dim == pytest.approx(wanted.tolist(), abs=0.03)
    assert use.kl == pytest.approx(wanted.sum().item(), abs=0.05)
    assert use.active_units == 2
    assert not use.collapsed
    assert use.aggregate_mean == pytest.approx([0, 0, 0], abs=0.03)
    assert use.aggregate_std == pytest.approx([1, 1, 1], abs=0.03)
    assert "2 of 3" in use.describe()
    # x − g z̃ has variance σ² with its own latent and 2g² + σ² with another's
    assert use.own_over_shuffled == pytest.approx((gain**2 / SIGMA**2).sum().item(), rel=0.05)


def test_a_collapsed_model_is_called_collapsed():
    use = sv.latent_use(exact_model(torch.zeros(3)), torch.randn(500, 3))
    assert use.active_units == 0
    assert use.collapsed
    assert use.describe().startswith("COLLAPSED")
    assert use.to_json()["collapsed"] is True


def test_mixtures_find_the_number_of_components():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [5, 0], [0, 6]])
    z = np.concatenate([rng.normal(c, 0.7, (300, 2)) for c in centres])
    held_out = np.concatenate([rng.normal(c, 0.7, (100, 2)) for c in centres])
    found = gaussian_mixture(z, held_out=held_out)
    assert found.components == 3
    assert int(found.table.held_out.argmax()) >= 2
    labels = found.labels(z).reshape(3, 300)
    assert sorted(np.bincount(row, minlength=3).argmax() for row in labels) == [0, 1, 2]
    assert np.allclose(found.probabilities(z).sum(1), 1)
    # the density of the chosen mixture at the truth: entropy of three equal parts and a normal
    exact = -(math.log(3) + math.log(2 * math.pi * math.e * 0.49))
    assert found.table.held_out[2] == pytest.approx(exact, abs=0.1)


def test_components_of_a_bent_cluster_are_joined():
    """Two half moons, of 2,000 and 300 data: two Gaussians cut them, twelve that are joined do not."""
    rng = np.random.default_rng(0)
    t = rng.uniform(0, np.pi, 2300)
    first = np.arange(2300) < 2000
    moons = np.where(first, [np.cos(t), np.sin(t)], [1 - np.cos(t), 0.5 - np.sin(t)])
    z = moons.T + rng.normal(0, 0.08, (2300, 2))
    fit = fit_gaussians(z, 12, seed=0)
    found = combine(fit.predict_proba(z), 2)[fit.predict(z)]
    assert max((found == first).mean(), (found != first).mean()) > 0.995
    two = fit_gaussians(z, 2, seed=0).predict(z)
    assert max((two == first).mean(), (two != first).mean()) < 0.95


def test_joining_is_that_of_the_joined_probabilities():
    """Each join against its definition, computed anew from the sums of columns."""
    p = np.random.default_rng(1).dirichlet(np.full(7, 0.2), 400)
    columns = [[k] for k in range(7)]
    for left in range(7, 0, -1):
        cluster = combine(p, left)
        found = {tuple(np.flatnonzero(cluster == c).tolist()) for c in range(left)}
        assert found == set(map(tuple, columns))
        joined = np.stack([p[:, c].sum(1) for c in columns], 1)
        overlap = joined.T @ joined / np.sqrt(np.outer(joined.sum(0), joined.sum(0)))
        a, b = np.unravel_index(np.argmax(overlap - 2 * np.eye(left)), overlap.shape)
        columns = [c for k, c in enumerate(columns) if k not in (a, b)] + [sorted(columns[a] + columns[b])]
    with pytest.raises(InputError, match="7 components can make 1 to 7 clusters, not 8"):
        combine(p, 8)


@pytest.mark.parametrize(
    ("z", "message"), [(np.full((50, 2), np.nan), "not finite"), (np.zeros((3, 2)), "too few")]
)
def test_what_cannot_be_clustered_is_refused(z, message):
    with pytest.raises(InputError, match=message):
        gaussian_mixture(z)
