"""Shares of validation data that lie nearer, where all is known."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2

import sciencevae as sv
from sciencevae.data.batches import as_batches
from sciencevae.latents.typical import Typical, distance
from sciencevae.networks import Perceptron


@pytest.fixture(scope="module")
def model():
    """Posterior means are the data themselves."""
    torch.manual_seed(0)
    encoder = Perceptron(3, [], 6)
    with torch.no_grad():
        weight, bias = next(encoder.parameters()), list(encoder.parameters())[1]
        weight.copy_(torch.cat([torch.eye(3), torch.zeros(3, 3)]))
        bias.zero_()
    decoder = sv.decoders.Gaussian(Perceptron(3, [], 3))
    return sv.VAE(sv.priors.StandardNormal(3), sv.encoders.Gaussian(encoder, 3), decoder)


def test_the_share_of_normal_data_is_that_of_chi_square(model):
    generator = torch.Generator().manual_seed(1)
    typical = Typical.of(model, as_batches(torch.randn(20_000, 3, generator=generator)))
    radius = torch.tensor([0.1, 1.0, 2.0, 3.0, 6.0])
    rows = torch.zeros(5, 3)
    rows[:, 0] = radius
    found = typical.beyond(distance(model, model.encode(rows).mean, {}), "latent")
    assert np.allclose(found, chi2.cdf(radius.numpy() ** 2, 3), atol=0.012)
    assert found[-1] == 1


def test_travels_as_json(model):
    typical = Typical.of(model, as_batches(torch.randn(50, 3)))
    assert Typical.from_json(typical.to_json()) == typical
    scores = sv.anomaly_score(model, sv.Batch(100 + torch.randn(4, 3))).numpy()
    assert (typical.beyond(scores, "elbo") == 1).all()
