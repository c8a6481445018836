"""Normal densities against scipy, marginals of missing entries, and the closed Kullback–Leibler divergence."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from sciencevae.distributions import CovarianceNormal, DiagonalNormal, FullNormal, Masked, Normal, kl_normal

torch.manual_seed(3)
D = 4


def random_root(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, D, D, dtype=torch.float64).tril(-1) + torch.diag_embed(
        torch.rand(*shape, D, dtype=torch.float64) + 0.3
    )


def test_covariance_normal_is_the_marginal_of_what_is_observed():
    loc = torch.randn(6, D, dtype=torch.float64)
    root = random_root(6)
    covariance = root @ root.mT
    x = torch.randn(6, D, dtype=torch.float64)
    x[0, 1] = x[1, :2] = x[2, 0] = x[2, 3] = float("nan")
    x[5] = float("nan")
    found = CovarianceNormal(loc, covariance).log_prob(x)
    for row in range(6):
        seen = ~x[row].isnan()
        wanted = 0.0
        if seen.any():
            block = covariance[row][seen][:, seen]
            wanted = stats.multivariate_normal(loc[row, seen], block).logpdf(x[row, seen].numpy())
        assert found[row].item() == pytest.approx(wanted, rel=1e-10, abs=1e-12)


def test_covariance_normal_broadcasts_over_draws_and_has_finite_gradients():
    loc = torch.randn(5, 6, D, dtype=torch.float64, requires_grad=True)  # (S, B, n)
    root = random_root(6).requires_grad_()
    x = torch.randn(6, D, dtype=torch.float64)
    x[1, 2] = x[3] = float("nan")
    log_prob = CovarianceNormal(loc, root @ root.mT).log_prob(x)
    assert log_prob.shape == (5, 6)
    one = CovarianceNormal(loc[2], root @ root.mT).log_prob(x)
    assert torch.allclose(log_prob[2], one)
    log_prob.sum().backward()
    assert loc.grad.isfinite().all()
    assert root.grad.isfinite().all()
    assert (loc.grad[:, 1, 2] == 0).all()


def test_masked_drops_what_is_missing_with_finite_gradients():
    loc = torch.randn(3, 5, 4, requires_grad=True)
    x = torch.randn(5, 4)
    x[0, 1] = x[2] = float("nan")
    log_prob = Masked(Normal(loc, torch.ones(4)), 1).log_prob(x)
    wanted = stats.norm(loc.detach().numpy(), 1).logpdf(np.nan_to_num(x.numpy())) * ~x.isnan().numpy()
    assert np.allclose(log_prob.detach(), wanted.sum(-1), atol=1e-5)
    log_prob.sum().backward()
    assert loc.grad.isfinite().all()
    assert (loc.grad[:, 2] == 0).all()
    assert (log_prob[:, 2] == 0).all()


@pytest.mark.parametrize("make", [DiagonalNormal, FullNormal])
def test_noise_given_or_drawn_is_the_same_variable(make):
    scale = torch.rand(7, D).double() + 0.5 if make is DiagonalNormal else random_root(7)
    q = make(torch.randn(7, D, dtype=torch.float64), scale)
    torch.manual_seed(9)
    drawn = q.rsample((11,))
    torch.manual_seed(9)
    given = q.from_noise(torch.randn(11, 7, D, dtype=torch.float64))
    assert torch.equal(drawn, given)
    reference = torch.distributions.MultivariateNormal(
        q.loc, scale_tril=torch.diag_embed(scale) if make is DiagonalNormal else scale
    )
    assert torch.allclose(q.log_prob(drawn), reference.log_prob(drawn))


@pytest.mark.parametrize("kinds", list(itertools.product(["diagonal", "full"], repeat=2)))
@pytest.mark.parametrize("prior_batch", [(), (7,)])
def test_kl_in_closed_form(kinds, prior_batch):
    def make(kind, *batch):
        loc = torch.randn(*batch, D, dtype=torch.float64)
        if kind == "diagonal":
            return DiagonalNormal(loc, torch.rand(*batch, D).double() + 0.5)
        return FullNormal(loc, random_root(*batch))

    def as_torch(d):
        root = torch.diag_embed(d.scale) if isinstance(d, DiagonalNormal) else d.scale_tril
        return torch.distributions.MultivariateNormal(d.loc, scale_tril=root)

    q, p = make(kinds[0], 7), make(kinds[1], *prior_batch)
    kl, by_dim = kl_normal(q, p)
    wanted = torch.distributions.kl_divergence(as_torch(q), as_torch(p))
    assert torch.allclose(kl, wanted, rtol=1e-10, atol=1e-12)
    if kinds == ("diagonal", "diagonal"):
        assert torch.allclose(by_dim.sum(-1), wanted)
    else:
        assert by_dim is None


def test_kl_against_the_standard_normal_is_the_textbook_form():
    mean, scale = torch.randn(5, 3).double(), torch.rand(5, 3).double() + 0.1
    kl, _ = kl_normal(DiagonalNormal(mean, scale), DiagonalNormal(torch.zeros(3), torch.ones(3)))
    wanted = 0.5 * (mean**2 + scale**2 - 1 - torch.log(scale**2)).sum(-1)
    assert torch.allclose(kl, wanted)


def test_kl_of_other_families_is_not_claimed():
    q = DiagonalNormal(torch.zeros(2, 1), torch.ones(2, 1))
    assert kl_normal(q, torch.distributions.Laplace(0.0, 1.0)) == (None, None)
