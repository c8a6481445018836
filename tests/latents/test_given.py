"""Latents given a field, against the closed form of a linear model."""

import logging

import pytest
import torch

import sciencevae as sv
from sciencevae.errors import InputError
from sciencevae.latents.given import latents_given
from sciencevae.networks import Fields, Identity, Perceptron


@pytest.fixture(scope="module")
def model():
    """y = A z + noise of deviation 0.5: p(z | y) is normal with precision I + AᵀA/0.25 and mean Σ Aᵀ y/0.25."""
    torch.manual_seed(0)
    fields = {
        "x": sv.decoders.Gaussian(Perceptron(2, [], 3)),
        "y": sv.decoders.Gaussian(Perceptron(2, [], 2), scale=0.5),
    }
    encoder = sv.encoders.Gaussian(Fields({"x": Perceptron(3, [], 4)}, Identity()), 2)
    return sv.VAE(sv.priors.StandardNormal(2), encoder, sv.decoders.Joint(fields))


def linear(model):
    field = model.decoder.fields["y"].network
    zero = field(torch.zeros(1, 2))[0].detach()
    return torch.stack([field(torch.eye(2)[k : k + 1])[0].detach() - zero for k in range(2)], 1), zero


@pytest.mark.parametrize("told", [(0.8, -0.5), (0.8, float("nan"))])
def test_is_the_posterior_of_a_linear_model(model, told):
    a, offset = linear(model)
    y = torch.tensor(told)
    seen = y.isfinite()
    a, rest = a[seen], (y - offset)[seen]
    covariance = torch.linalg.inv(torch.eye(2) + a.T @ a / 0.25)
    mean = covariance @ a.T @ rest / 0.25
    found = latents_given(model, {"y": y}, 5_000, seed=1)
    error = (covariance.diagonal() / 5_000).sqrt()
    assert ((found.z.mean(0) - mean).abs() < 4 * error + 0.02 * covariance.diagonal().sqrt()).all()
    assert torch.allclose(torch.cov(found.z.T), covariance, atol=0.06)
    assert len(found.z.unique(dim=0)) == 5_000, "no draw twice"
    assert found.ess >= 20 * 5_000


def test_the_same_seed_and_torchs_own_generator(model):
    y = {"y": torch.tensor([0.3, 0.1])}
    before = torch.get_rng_state()
    one, two = latents_given(model, y, 10, seed=3), latents_given(model, y, 10, seed=3)
    assert torch.equal(one.z, two.z)
    assert torch.equal(torch.get_rng_state(), before)


def test_far_away_it_warns(model, caplog):
    with caplog.at_level(logging.WARNING):
        found = latents_given(model, {"y": torch.tensor([30.0, 30.0])}, 1000, most=1 << 16)
    assert "lies far from what the model knows" in caplog.text
    assert found.draws == 1 << 16
    # where it is plain that more draws would not do, it stops
    assert latents_given(model, {"y": torch.tensor([30.0, 30.0])}, 1000).draws == 1 << 18


def test_refuses(model):
    with pytest.raises(InputError, match=r"no field 'z'"):
        latents_given(model, {"z": torch.zeros(2)}, 1)
    with pytest.raises(InputError, match="nothing is known of 'y'"):
        latents_given(model, {"y": torch.full((2,), float("nan"))}, 1)
    plain = sv.VAE(
        sv.priors.StandardNormal(2),
        sv.encoders.Gaussian(Perceptron(3, [], 4), 2),
        sv.decoders.Gaussian(Perceptron(2, [], 3)),
    )
    with pytest.raises(InputError, match="several named fields"):
        latents_given(plain, {"y": torch.zeros(2)}, 1)
