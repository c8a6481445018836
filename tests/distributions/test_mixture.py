"""Draws of a mixture, against its components and torch's own mixture."""

import pytest
import torch
import torch.distributions as td

from sciencevae.distributions import DiagonalNormal, FlowNormal, FullNormal, Mixture
from sciencevae.vae.flows import Bijection

K, D, N = 3, 2, 20_000
WEIGHTS = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
LOC = 40.0 * torch.arange(K, dtype=torch.float64).unsqueeze(1).expand(
    K, D
)  # no draw is far from its component
SCALE = torch.tensor([[1.0, 2.0], [0.5, 0.3], [3.0, 1.0]], dtype=torch.float64)


def full() -> FullNormal:
    return FullNormal(LOC, torch.diag_embed(SCALE) + torch.tensor([[0.0, 0.0], [1.5, 0.0]]).double())


def flow() -> FlowNormal:
    torch.manual_seed(1)
    bijection = Bijection(D, "coupling", 2, (8,), bins=4, features=2).double()
    with torch.no_grad():
        for layer in bijection.layers:
            layer.network.layers[-1].weight.normal_(0, 0.2)
    return FlowNormal(DiagonalNormal(LOC, SCALE), bijection, torch.randn(K, 2, dtype=torch.float64))


COMPONENTS = {"diagonal": lambda: DiagonalNormal(LOC, SCALE), "full": full, "flow": flow}
OTHERS = {"of torch": lambda: td.Independent(td.Laplace(LOC, SCALE), 1)}


@pytest.mark.parametrize("name", [*COMPONENTS, *OTHERS])
def test_each_component_is_drawn_by_its_weight_and_as_it_is(name):
    components = {**COMPONENTS, **OTHERS}[name]()
    torch.manual_seed(0)
    z = Mixture(WEIGHTS.log(), components).sample((N,))
    own = components.sample((N,))
    nearest = torch.cdist(z, LOC).argmin(-1)
    for k in range(K):
        found, wanted = z[nearest == k], own[:, k]
        assert len(found) / N == pytest.approx(WEIGHTS[k].item(), abs=0.015)
        spread = wanted.std(0)
        assert ((found.mean(0) - wanted.mean(0)).abs() < 5 * spread / len(found) ** 0.5).all()
        assert torch.allclose(found.T.cov(), wanted.T.cov(), rtol=0.12, atol=0.12 * spread.prod().item())


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_draw_is_one_of_one_component(name, monkeypatch):
    components = COMPONENTS[name]()
    mixture, drawn, sample = Mixture(WEIGHTS.log(), components), [], type(components).sample

    def watched(self, shape=()):
        drawn.append(sample(self, shape))
        return drawn[-1]

    monkeypatch.setattr(type(components), "sample", watched)
    assert mixture.sample((5, 4)).shape == (5, 4, D)
    assert mixture.sample().shape == (D,)
    assert [z.shape for z in drawn] == [(5, 4, D), (D,)]


def test_the_density_is_torchs():
    z = LOC + 0.5
    theirs = td.MixtureSameFamily(
        td.Categorical(WEIGHTS), td.MultivariateNormal(LOC, scale_tril=full().scale_tril)
    )
    assert torch.allclose(Mixture(WEIGHTS.log(), full()).log_prob(z), theirs.log_prob(z))
