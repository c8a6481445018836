"""Objectives over two domains: means over each, and how far their latents are apart."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import rbf_kernel

import sciencevae as sv
from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.networks import Perceptron
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Discrepancy, TwoDomains
from sciencevae.vae.objectives.two_domains import discrepancy

ROWS = 10


def model(seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    return VAE(
        priors.StandardNormal(2),
        encoders.Gaussian(Perceptron(3, [6], 4), 2),
        decoders.Gaussian(Perceptron(2, [6], 3)),
    )


def data(second: list[float], weight: torch.Tensor | None = None) -> Batch:
    x = torch.randn(len(second), 3, generator=torch.Generator().manual_seed(1))
    return Batch(x, context={"domain": torch.tensor(second)}, weight=weight)


def test_each_domain_counts_by_its_mean():
    vae, batch = model(), data([0.0] * 8 + [1.0] * 2)
    noise = torch.randn(1, ROWS, 2, generator=torch.Generator().manual_seed(2))
    each = ELBO()(vae, batch, noise).per_datum
    found = TwoDomains(ELBO(), "domain", weights=(1.0, 3.0))(vae, batch, noise).per_datum
    assert found.mean().item() == pytest.approx((each[:8].mean() + 3 * each[8:].mean()).item(), rel=1e-5)
    alone = TwoDomains(ELBO(), "domain")(vae, data([0.0] * ROWS), noise).per_datum
    assert torch.allclose(alone, ELBO()(vae, data([0.0] * ROWS), noise).per_datum)


def test_rows_of_weight_nought_are_no_part_of_a_domain():
    vae, weight = model(), torch.ones(ROWS)
    weight[[3, 9]] = 0
    batch = data([0.0] * 6 + [1.0] * 4, weight)
    noise = torch.randn(1, ROWS, 2, generator=torch.Generator().manual_seed(2))
    objective = TwoDomains(ELBO(extra={"apart": Discrepancy("domain", 5.0)}), "domain")
    kept = weight > 0
    found = objective(vae, batch, noise).per_datum
    few = objective(vae, Batch(batch.x[kept], {"domain": batch.context["domain"][kept]}), noise[:, kept])
    assert ((found * weight).sum() / weight.sum()).item() == pytest.approx(
        few.per_datum.mean().item(), rel=1e-5
    )


def test_the_discrepancy_is_that_of_kernels():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(7, 3)), random.normal(0.7, 1.3, size=(5, 3))
    wanted = np.mean(
        [
            rbf_kernel(a, gamma=g).mean()
            + rbf_kernel(b, gamma=g).mean()
            - 2 * rbf_kernel(a, b, gamma=g).mean()
            for g in (0.5 / 6, 1 / 6, 2 / 6)
        ]
    )
    z = torch.from_numpy(np.r_[a, b])
    first = (torch.arange(12) < 7).double()
    assert discrepancy(z, first, 1 - first).item() == pytest.approx(wanted, rel=1e-10)
    twice = torch.cat([z, z])
    assert (
        discrepancy(twice, torch.arange(24).lt(12).double(), torch.arange(24).ge(12).double()).abs() < 1e-12
    )
    assert discrepancy(z, torch.ones(12), torch.zeros(12)) == 0


def test_alignment_brings_latents_together():
    """Of the same data in two units, which an encoder could tell apart."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(400, 2, generator=random)
    second = (torch.arange(400) % 2).float()
    seen = torch.cat([x + 3 * second[:, None], x], 1)
    batch = Batch(seen, context={"domain": second})

    def apart(weight: float) -> float:
        torch.manual_seed(0)
        vae = VAE(
            priors.StandardNormal(2), encoders.Gaussian(Perceptron(4, [16], 4), 2),
            decoders.Gaussian(Perceptron(2, [16], 4), scale=0.5),
        )  # fmt: skip
        extra = {"apart": Discrepancy("domain", weight)} if weight else None
        settings = sv.TrainingSettings(epochs=30, batch_size=100, learning_rate=1e-2, compile=False)
        sv.fit(
            vae, batch, objective=TwoDomains(ELBO(extra=extra), "domain"), settings=settings, progress=False
        )
        with torch.no_grad():
            return discrepancy(vae.encode(seen).mean, 1 - second, second).item()

    assert apart(200.0) < 0.3 * apart(0.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TwoDomains(ELBO(), "real"), r"in context\['real'\], and the batch has domain: add it"),
        (lambda: ELBO(extra={"apart": Discrepancy("real")}), r"in context\['real'\]"),
    ],
)
def test_which_row_is_of_which_domain_has_to_be_said(make, said):
    with pytest.raises(InputError, match=said):
        make()(model(), data([0.0, 1.0]))


@pytest.mark.parametrize("weights", [(0.0, 0.0), (-1.0, 1.0), (math.nan, 1.0)])
def test_weights_that_are_none(weights):
    with pytest.raises(InputError, match="weights of two domains"):
        TwoDomains(ELBO(), "domain", weights=weights)


def test_what_couples_says_so():
    assert TwoDomains(ELBO(), "domain").couples
    assert ELBO(extra={"apart": Discrepancy("domain")}).couples
    assert not ELBO().couples
