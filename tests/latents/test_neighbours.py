"""What adds up to a score, and neighbourhoods, against sums, scikit-learn and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.neighbors import NearestNeighbors

import sciencevae as sv
from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.latents.neighbours import Neighbourhood, residuals
from sciencevae.latents.score import KINDS, anomaly_score, contributions

FIELDS = {"flux": 3, "counts": 2, "kind": 1}
D, B, K = 2, 40, 3


def network(out: int) -> sv.networks.Perceptron:
    return sv.networks.Perceptron(D, [5], out)


def mixed(seed: int = 0) -> sv.VAE:
    """A model of numbers, counts and a category, of which some may be missing."""
    torch.manual_seed(seed)
    own = {name: sv.networks.Perceptron(2 * n, [], 4) for name, n in FIELDS.items()}
    decoder = sv.decoders.Joint(
        {
            "flux": sv.decoders.StudentT(network(2 * 3), df="learned", features=3),
            "counts": sv.decoders.NegativeBinomial(network(2)),
            "kind": sv.decoders.Categorical(network(K), K),
        }
    )
    fields = sv.networks.Fields(own, sv.networks.Perceptron(12, [8], 2 * D))
    return sv.VAE(sv.priors.StandardNormal(D), sv.encoders.Gaussian(fields, D, missing=True), decoder)


def rows(count: int = B, seed: int = 3) -> Batch:
    g = torch.Generator().manual_seed(seed)
    flux = torch.randn(count, 3, generator=g)
    whole = torch.randint(0, 9, (count, 2), generator=g)
    kind = torch.randint(0, K, (count, 1), generator=g)
    batch = Batch({"flux": flux, "counts": whole, "kind": kind})
    if count > 2:
        flux[0, 1], whole[1, 0], kind[2] = math.nan, -1, -1
    return batch


def total(shares: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack([share.reshape(len(share), -1).sum(1) for share in shares.values()]).sum(0)


@pytest.mark.parametrize("kind", KINDS)
def test_contributions_add_up_to_the_score(kind):
    model, batch = mixed(), rows()
    shares = contributions(model, batch, kind, samples=30)
    assert {name: tuple(share.shape[1:]) for name, share in shares.items()} == {
        "flux": (3,), "counts": (2,), "kind": (1,), "(latents)": (),
    }  # fmt: skip
    with torch.no_grad():
        score = anomaly_score(model, batch, kind, samples=30)
    assert torch.allclose(total(shares), score, rtol=1e-4, atol=1e-4)
    assert shares["flux"][0, 1] == shares["counts"][1, 0] == shares["kind"][2, 0] == 0, "missing adds nothing"
    assert (shares["(latents)"] == 0).all() == (kind == "reconstruction")


def linear_gaussian() -> tuple[sv.VAE, torch.Tensor, torch.Tensor]:
    """x = W z + ε of which the encoder is the exact posterior, with W and the noise's σ."""
    w, sigma = torch.tensor([[2.0], [0.5], [-1.0]]), torch.tensor(0.7)
    model = sv.VAE(
        sv.priors.StandardNormal(1),
        sv.encoders.Gaussian(sv.networks.Perceptron(3, [], 2), 1),
        sv.decoders.Gaussian(sv.networks.Perceptron(1, [], 3), scale=sigma.item()),
    )
    precision = 1 + (w.T @ w / sigma**2).item()
    with torch.no_grad():
        encode, decode = model.encoder.network.layers[0], model.decoder.network.layers[0]
        encode.weight.zero_()
        encode.weight[0] = w[:, 0] / sigma**2 / precision
        encode.bias.copy_(torch.tensor([0.0, -math.log(precision)]))
        decode.weight.copy_(w)
        decode.bias.zero_()
    return model, w, sigma


@pytest.mark.parametrize("kind", ["elbo", "evidence"])
def test_contributions_of_a_linear_model_are_its_closed_form(kind):
    """−E log N(x_j; w_j z, σ²) and KL(q ‖ p) under the exact posterior, whose ELBO is log p(x)."""
    model, w, sigma = linear_gaussian()
    x = torch.tensor([[1.0, -2.0, 0.3], [4.0, 1.0, -2.0]])
    shares = contributions(model, Batch(x), kind, samples=20_000)
    precision = 1 + (w.T @ w / sigma**2).item()
    mean = (x @ w / sigma**2 / precision).numpy()
    squared = (x.numpy() - mean @ w.T.numpy()) ** 2 + w[:, 0].numpy() ** 2 / precision
    wanted = 0.5 * math.log(2 * math.pi * sigma.item() ** 2) + squared / (2 * sigma.item() ** 2)
    np.testing.assert_allclose(shares["x"].numpy(), wanted, rtol=0.03)
    kl = 0.5 * (mean[:, 0] ** 2 + 1 / precision - 1 + math.log(precision))
    np.testing.assert_allclose(shares["(latents)"].numpy(), kl, rtol=0.03, atol=0.01)
    covariance = (w @ w.T + sigma**2 * torch.eye(3)).numpy()
    exact = -stats.multivariate_normal(np.zeros(3), covariance).logpdf(x.numpy())
    np.testing.assert_allclose(total(shares).numpy(), exact, rtol=0.02)


def test_distances_are_those_of_scikit_learn_in_units_of_their_median():
    """Half of the score is of the standardised data, half of latents and residuals, both written out."""
    model, _, sigma = linear_gaussian()
    g = torch.Generator().manual_seed(1)
    reference, asked = 3 + torch.randn(50, 3, generator=g), 3 + 2 * torch.randn(20, 3, generator=g)
    reference[:, 1] *= 10

    def joined(x: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            z = model.encode(x).mean
            return torch.cat([z, (x - model.decode(z).mean) / sigma], 1).double().numpy()

    wanted = 0
    spread = reference.double().numpy().std(0)
    for u in (lambda x: x.double().numpy() / spread, joined):
        near = NearestNeighbors(n_neighbors=4).fit(u(reference))
        usual = np.median((near.kneighbors()[0] ** 2).mean(1))  # of each among the others
        wanted = wanted + 0.5 * (near.kneighbors(u(asked))[0] ** 2).mean(1) / usual
    found = Neighbourhood.of(model, reference, k=4).score(Batch(asked))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_equal_columns_and_data_are_no_unit():
    """What does not vary has no standard deviation, and data that are there twice no distance, to divide by."""
    model, _, _ = linear_gaussian()
    g = torch.Generator().manual_seed(6)
    some = torch.randn(20, 3, generator=g)
    some[:, 2] = 1.0
    near = Neighbourhood.of(model, torch.cat([some, some, some, some]), k=3)
    score = near.score(Batch(torch.cat([some[:5], some[:5] + torch.tensor([0.0, 0.0, 2.0])])))
    assert score.isfinite().all()
    assert (score[:5] < 1e-6).all()
    assert (score[5:] > 1).all()


def test_no_datum_is_its_own_neighbour():
    """Itself, a reference datum is usual; equal data stay neighbours."""
    model, _, _ = linear_gaussian()
    x = torch.randn(31, 3, generator=torch.Generator().manual_seed(2))
    x[7] = x[8]
    near = Neighbourhood.of(model, x, k=1)
    own = near.score(Batch(x), itself=np.arange(31))
    assert own[7] == own[8] == 0
    assert (own > 0).sum() == 29
    # of an odd number the median is one of them: half of each of the two distances
    parts = [squares.sum(1) for squares, _ in near._parts(Batch(x), np.arange(31))]
    assert [np.median(part[part > 0]) for part in parts] == pytest.approx([1, 1])
    assert (near.score(Batch(x)) == 0).all()


def test_contributions_of_neighbours_add_up_over_models_and_kinds_of_columns():
    models = [mixed(0), mixed(1)]
    near = Neighbourhood.of(models, rows(60, seed=5), k=4)
    shares = near.contributions(rows())
    assert torch.allclose(total(shares), near.score(rows()))
    assert shares["flux"][0, 1] > 0, "a missing entry is as the mean, which the neighbours' are not"
    assert (shares["(latents)"] > 0).all()
    singly = [Neighbourhood.of(model, rows(60, seed=5), k=4).score(rows()) for model in models]
    assert torch.allclose(near.score(rows()), torch.stack(singly).mean(0))
    assert {name: tuple(share.shape[1:]) for name, share in shares.items()} == {
        "flux": (3,), "counts": (2,), "kind": (1,), "(latents)": (),
    }  # fmt: skip
    # a number that is far off is told in its own column
    odd = rows(1, seed=11)
    odd.x["counts"][0, 1] = 5000
    told = near.contributions(odd)
    assert told["counts"][0, 1] > 100 * shares["counts"].max()


def test_residuals_are_in_standard_deviations():
    x = rows(1, seed=7).x
    likelihood = mixed().decoder(torch.zeros(1, 1, D))
    student = likelihood.fields["flux"].base_dist
    wanted = (x["flux"] - student.loc) / student.scale
    assert torch.allclose(residuals(likelihood.fields["flux"], x["flux"]), wanted)
    assert residuals(likelihood.fields["flux"], torch.full((1, 3), math.nan)).abs().sum() == 0
    counts = likelihood.fields["counts"]
    pearson = (x["counts"] - counts.mean) / (counts.mean + counts.mean**2 / 10).sqrt()
    assert torch.allclose(residuals(counts, x["counts"]), pearson)
    kind = residuals(likelihood.fields["kind"], torch.tensor([[1]]))
    assert kind.shape == (1, 1, 1, K)
    assert kind.sum().item() == pytest.approx(0, abs=1e-6)


def test_anomalies_that_are_alike_do_not_vouch_for_one_another():
    """Trimmed, the reference data that are far from the others are nobody's neighbours, wherever they are."""
    model, _, _ = linear_gaussian()
    g = torch.Generator().manual_seed(4)
    usual = torch.randn(80, 3, generator=g)
    group = torch.tensor([4.0, -4.0, 4.0]) + 0.1 * torch.randn(20, 3, generator=g)
    both = torch.cat([group, usual])
    whole, trimmed = (Neighbourhood.of(model, both, 5, trim) for trim in (0.0, 0.3))
    asked = Batch(torch.tensor([[4.0, -4.0, 4.0]]))
    assert whole.score(asked) < whole.score(Batch(usual)).median()
    assert trimmed.places.tolist() == sorted(trimmed.places)
    assert trimmed.places.min() >= 20
    assert len(trimmed.places) == 70
    own = trimmed.score(Batch(both), np.arange(100))
    assert (own[:20] > 10 * own[20:].median()).all()
    # those that are kept are as good as those with the lowest score
    assert own[trimmed.places].max() <= own[20:].sort().values[75]
    with pytest.raises(InputError, match="trim is a share from 0 to below 1, not 1"):
        Neighbourhood.of(model, usual, 5, 1)


def test_trimming_takes_what_is_between_groups_not_what_is_far_from_their_middle():
    """Two usual groups far from the middle, and anomalies in it: ‖u‖² alone would keep these."""
    model, _, _ = linear_gaussian()
    g = torch.Generator().manual_seed(9)
    groups = torch.cat([side + 0.3 * torch.randn(45, 3, generator=g) for side in (-4.0, 4.0)])
    middle = 1.5 * torch.randn(10, 3, generator=g)
    near = Neighbourhood.of(model, torch.cat([groups, middle]), 3, trim=0.4)
    assert np.mean(near.places >= 90) < 0.1


@pytest.mark.parametrize("k", [0, 30, 31])
def test_too_few_reference_data(k):
    model, _, _ = linear_gaussian()
    with pytest.raises(InputError, match=f"{k} neighbours among 30 reference data"):
        Neighbourhood.of(model, torch.zeros(30, 3), k)


def test_other_data_than_the_models_are_refused():
    near = Neighbourhood.of(mixed(0), rows(60, seed=5))
    odd = rows(3)
    odd.x["flux"] = odd.x["flux"][:, :2]
    for ask in (near.score, near.contributions, lambda batch: Neighbourhood.of(mixed(0), batch, k=1)):
        with pytest.raises(InputError):
            ask(odd)
