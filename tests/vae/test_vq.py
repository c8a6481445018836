"""Codes: quantiser, priors over codes, the model and its evidence against closed forms, enumeration and numpy.

The contract of all parts together is in ``test_parts.py``.
"""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from sciencevae.batch import Batch
from sciencevae.data.batches import as_batches
from sciencevae.errors import InputError
from sciencevae.latents.collapse import latent_use
from sciencevae.latents.score import anomaly_score
from sciencevae.networks import (
    CausalTransformer,
    ConvolutionalCodes,
    ConvolutionalImage,
    Perceptron,
    PixelCNN,
    Recurrent,
)
from sciencevae.spec import recorded
from sciencevae.training.loop import fit
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae import decoders
from sciencevae.vae.encoders import Code, Quantiser
from sciencevae.vae.evidence import log_evidence
from sciencevae.vae.files import load, save
from sciencevae.vae.fit_prior import fit_prior
from sciencevae.vae.objectives import ELBO, IWAE, VQ
from sciencevae.vae.priors import Autoregressive, UniformCodes
from sciencevae.vae.vq import VQVAE

K, D, N, B, C = 4, 2, 3, 8, 2


@recorded
class Grid(nn.Module):
    """A perceptron between vectors and grids: (B, inputs) or (B, *) → (B, *shape)."""

    def __init__(self, inputs: int, shape: list[int]) -> None:
        super().__init__()
        self.shape = shape
        self.network = Perceptron(inputs, [6], math.prod(shape))

    def forward(self, x):
        return self.network(x.flatten(1)).unflatten(1, self.shape)


@recorded
class Causal(nn.Module):
    """logits of place i = b_i + Σ_{j<i} W_ij[code_j] (+ condition): any pairwise dependence on what came before."""

    def __init__(self, codes: int, places: int, condition: int = 0, looks_ahead: bool = False) -> None:
        super().__init__()
        self.codes, self.places, self.looks_ahead = codes, places, looks_ahead
        self.weight = nn.Parameter(torch.randn(places, places, codes, codes))
        self.bias = nn.Parameter(torch.randn(places, codes))
        if condition:
            self.condition = nn.Parameter(torch.randn(condition, codes))

    def forward(self, codes, *condition):
        before = torch.ones(self.places, self.places).tril(0 if self.looks_ahead else -1).to(self.weight)
        known = torch.nn.functional.one_hot(codes.flatten(1), self.codes).to(self.weight)  # (B, n, K)
        logits = self.bias + torch.einsum("bjk,ijkl,ij->bil", known, self.weight, before)
        for c in condition:
            logits = logits + (c @ self.condition).unsqueeze(1)
        return logits.unflatten(1, codes.shape[1:])


def build(grid=(), learned="average", prior="uniform", decoder="gaussian", **quantiser) -> VQVAE:
    torch.manual_seed(1)
    places = math.prod(grid)
    chosen = UniformCodes(K, grid) if prior == "uniform" else Autoregressive(Causal(K, places), K, grid)
    encoder = Code(Grid(N, [D, *grid]), Quantiser(K, D, learned, **quantiser), grid)
    network = Perceptron(D * places, [6], N)
    network = network if not grid else Flat(network)
    kinds = {
        "gaussian": lambda: decoders.Gaussian(network, scale="learned", features=N),
        "bernoulli": lambda: decoders.Bernoulli(network),
    }
    return VQVAE(chosen, encoder, kinds[decoder]())


@recorded
class Flat(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z):
        return self.network(z.flatten(1))


def data(rows: int = B, seed: int = 3, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(rows, N, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def batch_of(model: VQVAE) -> Batch:
    x = data()
    return Batch((x > 0).double() if isinstance(model.decoder, decoders.Bernoulli) else x)


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(
        **(
            {"epochs": 3, "batch_size": 16, "compile": False, "learning_rate": 1e-2, "device": "cpu"}
            | changes
        )
    )


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def all_codes(shape) -> torch.Tensor:
    found = list(itertools.product(range(K), repeat=math.prod(shape)))
    return torch.tensor(found).reshape(-1, *shape)


@pytest.mark.parametrize(
    "kind", [{"grid": ()}, {"grid": (3,), "learned": "gradient"}, {"grid": (2, 2)}], ids=str
)
def test_codes_are_the_nearest_and_decode_as_their_vectors(kind):
    model = build(**kind).double().eval()
    batch, before = batch_of(model), tensors(model)
    terms = model.terms(batch, samples=3)
    assert not terms.z.is_floating_point()
    assert torch.equal(terms.posterior.log_prob(terms.z), terms.log_qz)
    assert (terms.posterior.log_prob((terms.z + 1) % K) == -math.inf).all()
    assert torch.allclose(terms.kl, torch.tensor(math.prod(kind["grid"]) * math.log(K)).double())
    posterior, codebook = model.encode(batch.x), model.encoder.quantiser.codebook
    distance = (posterior.encoded.movedim(1, -1).unsqueeze(-2) - codebook).norm(dim=-1)
    assert torch.equal(posterior.codes, distance.argmin(-1))
    assert torch.equal(posterior.mean, codebook[posterior.codes].movedim(-1, 1))
    assert torch.equal(model.decode(posterior.codes).mean, model.decode(posterior.mean).mean)
    assert torch.equal(model.decode(terms.z).log_prob(batch.x), terms.log_px)
    assert all(torch.equal(before[n], t) for n, t in tensors(model).items()), "evaluation changes nothing"


def test_objectives_of_continuous_latents_and_scores_give_the_bound():
    model = build(grid=(2, 2), prior="autoregressive", decoder="bernoulli").double().eval()
    batch = batch_of(model)
    bound, evidence = model.terms(batch).log_weight[0], log_evidence(model, batch, chunk=50)
    assert (bound < evidence.value).all()
    assert (evidence.ess == K**4).all()
    for objective in (IWAE(5), ELBO(), VQ()):
        assert torch.allclose(objective(model, batch).per_datum, -bound)
    assert torch.allclose(anomaly_score(model, batch), -bound)
    assert torch.allclose(anomaly_score(model, batch, "evidence"), -evidence.value)


# ---- the quantiser -----------------------------------------------------------------------------------


def test_the_gradient_goes_straight_through():
    """By hand: codes −1 and 1, z_e = w x, x̂ = v e; −log p = ½(x − v e)² gives dL/dw = −(x − v e) v x and
    dL/dv = −(x − v e) e; the commitment adds dL/dw = 2 β (w x − e) x."""

    class Times(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(factor))

        def forward(self, x):
            return self.factor * x

    w, v, x, beta = 0.6, 1.7, torch.tensor([[0.5], [-2.0]]), 0.3
    model = VQVAE(
        UniformCodes(2, ()), Code(Times(w), Quantiser(2, 1)), decoders.Gaussian(Times(v), scale=1.0)
    )
    model.encoder.quantiser.embedding.copy_(torch.tensor([[-1.0], [1.0]]))
    model.eval()
    loss = VQ(beta)(model, Batch(x))
    (loss.per_datum + loss.auxiliary).sum().backward()
    e = torch.tensor([[1.0], [-1.0]])
    dw = (-(x - v * e) * v * x + 2 * beta * (w * x - e) * x).sum()
    dv = (-(x - v * e) * e).sum()
    assert model.encoder.network.factor.grad == pytest.approx(dw.item(), rel=1e-5)
    assert model.decoder.network.factor.grad == pytest.approx(dv.item(), rel=1e-5)
    assert torch.allclose(loss.parts["commitment"], (w * x - e).square().squeeze(1))


def test_squares_are_summed_over_dimensions_and_averaged_over_the_grid():
    model = build(grid=(2, 2), learned="gradient").double().eval()
    terms = model.terms(batch_of(model))
    difference = terms.posterior.encoded - terms.posterior.embedded
    wanted = difference.square().sum((1, 2, 3)) / 4
    assert torch.allclose(terms.extra["commitment"], wanted)
    assert torch.allclose(terms.extra["codebook"], wanted)
    # the codebook loss moves the codebook alone, the commitment the encoder alone
    moved = torch.autograd.grad(
        terms.extra["codebook"].sum(), list(model.parameters()), retain_graph=True, allow_unused=True
    )
    names = [name for name, _ in model.named_parameters()]
    assert [n for n, g in zip(names, moved, strict=True) if g is not None] == ["encoder.quantiser.embedding"]
    moved = torch.autograd.grad(terms.extra["commitment"].sum(), list(model.parameters()), allow_unused=True)
    assert all(n.startswith("encoder.network") for n, g in zip(names, moved, strict=True) if g is not None)


def test_the_codebook_follows_the_formulas():
    """Three steps in numpy, with weights, and a row that does not count."""
    torch.manual_seed(0)
    quantiser = Quantiser(3, D, decay=0.8, revive=0.0).double()
    count, total, e = np.zeros(3), np.zeros((3, D)), quantiser.embedding.numpy().copy()
    weight = torch.tensor([1.0, 2.0, 0.0, 0.5]).double()
    for _ in range(3):
        z = torch.randn(4, D, 5).double()
        codes = quantiser.nearest(z)
        quantiser.update(z, codes, weight, torch.randn(4, 5).double())
        flat, n = z.movedim(1, -1).reshape(20, D).numpy(), weight.repeat_interleave(5).numpy()
        k = ((flat[:, None] - e) ** 2).sum(-1).argmin(1)
        assert (k == codes.flatten().numpy()).all()
        count = 0.8 * count + 0.2 * np.bincount(k, n, 3)
        total = 0.8 * total + 0.2 * np.stack([np.bincount(k, n * flat[:, d], 3) for d in range(D)], 1)
        smoothed = (count + 1e-5) / (count.sum() + 3e-5) * count.sum()
        e = np.where(count[:, None] > 0, total / smoothed[:, None], e)
        assert np.allclose(quantiser.embedding.numpy(), e)
        assert np.allclose(quantiser.count.numpy(), count)
    share = quantiser.use(codes, weight).numpy()
    assert np.allclose(share, np.bincount(k, n, 3) / n.sum())


@pytest.mark.parametrize("learned", ["average", "gradient"])
def test_dead_codes_become_different_vectors_that_count(learned):
    quantiser = Quantiser(6, D, learned, decay=0.5, revive=0.1)
    z, weight = torch.randn(8, D, generator=torch.Generator().manual_seed(0)) + 50, torch.ones(8)
    weight[2] = 0
    noise = torch.randn(8, 1, generator=torch.Generator().manual_seed(1))
    first = quantiser.nearest(z)
    quantiser.update(z, first, weight, noise)
    codebook = quantiser.codebook.detach()
    used = first.unique()
    dead = [k for k in range(6) if k not in used]
    chosen = [int((z - codebook[k]).norm(dim=1).argmin()) for k in dead]
    assert torch.allclose(codebook[dead], z[chosen], atol=1e-5)
    assert len(set(chosen)) == len(chosen)
    assert 2 not in chosen
    # those that live on are not touched by it, and one long without use dies later
    if learned == "average":
        assert torch.allclose(codebook[used[0]], z[(weight > 0) & (first == used[0])].mean(0), atol=1e-2)
    for _ in range(12):
        assert (quantiser.count[dead] > 0).all()
        quantiser.update(z[:1], quantiser.nearest(z[:1]), torch.ones(1), noise[:1])
    assert torch.allclose(quantiser.codebook, z[:1], atol=0.05), "all dead codes became the only vector"


def test_without_revival_an_unused_code_stays():
    quantiser = Quantiser(3, 1, revive=0.0)
    quantiser.embedding.copy_(torch.tensor([[0.0], [5.0], [9.0]]))
    z = torch.tensor([[0.2], [0.4]])
    for _ in range(5):
        quantiser.update(z, quantiser.nearest(z), torch.ones(2), torch.randn(2, 1))
    assert quantiser.embedding.flatten().tolist() == pytest.approx([0.3, 5.0, 9.0], abs=1e-3)


def clusters(rows: int = 600, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight tight clusters in N dimensions."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.tensor(list(itertools.product([-2.0, 2.0], repeat=N)))
    label = torch.randint(8, (rows,), generator=generator)
    return corners[label] + 0.1 * torch.randn(rows, N, generator=generator), label


def clustering(learned: str, **quantiser) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(
        UniformCodes(32, ()),
        Code(Perceptron(N, [32], 4), Quantiser(32, 4, learned, **quantiser)),
        decoders.Gaussian(Perceptron(4, [32], N), scale=0.3),
    )


@pytest.mark.parametrize("learned", ["average", "gradient"])
def test_training_recovers_clusters(learned):
    x, label = clusters()
    model = clustering(learned, decay=0.9)
    history = fit(model, x, VQ(), settings=settings(epochs=40, batch_size=100), progress=False)
    table = torch.zeros(32, 8).index_put_((model.encode(x).codes, label), torch.ones(len(x)), accumulate=True)
    p = table / len(x)
    information = (
        torch.special.entr(p.sum(0)).sum() + torch.special.entr(p.sum(1)).sum() - torch.special.entr(p).sum()
    )
    assert 7.5 < information.exp() < 8.05  # the number of clusters that the codes tell apart
    assert (model.reconstruct(x) - x).square().mean().sqrt() < 0.3
    row = history.rows[-1]
    assert 7.5 < row["train_perplexity"] <= 32
    use = latent_use(model, as_batches(x))
    assert use.perplexity > 7.5
    assert use.used_codes >= 8
    assert not use.collapsed
    assert "of 32 codes occur" in use.describe()
    assert set(use.to_json()) >= {"perplexity", "collapsed"}


def test_revival_brings_a_codebook_back_that_lies_far_away():
    x, _ = clusters()
    found = {}
    for revive in (0.0, 0.01):
        model = clustering("average", decay=0.9, revive=revive)
        with torch.no_grad():
            model.encoder.quantiser.embedding += 100
        history = fit(model, x, VQ(), settings=settings(epochs=10, batch_size=100), progress=False)
        found[revive] = history.rows[-1]["train_perplexity"]
    assert found[0.0] < 1.5
    assert found[0.01] > 7


def test_a_decoder_that_ignores_the_codes_is_called_collapsed():
    model = build()
    for p in model.decoder.parameters():
        p.data.zero_()
    use = latent_use(model.eval(), as_batches(data(50, dtype=torch.float32)))
    assert use.collapsed
    assert use.own_over_shuffled == pytest.approx(0)
    assert use.describe().startswith("COLLAPSED")


# ---- priors over codes -------------------------------------------------------------------------------


def autoregressive(shape, condition: int = 0) -> Autoregressive:
    torch.manual_seed(5)
    return Autoregressive(
        Causal(K, math.prod(shape), condition), K, shape, conditional=condition > 0
    ).double()


def test_the_uniform_prior():
    p = UniformCodes(K, (2, 3)).double()()
    z = torch.randint(K, (7, 2, 3))
    assert torch.allclose(p.log_prob(z), torch.tensor(-6 * math.log(K)).double())
    assert p.log_prob(torch.full((2, 3), K)) == -math.inf
    assert p.sample((5,)).shape == (5, 2, 3)
    assert UniformCodes(K, ())().log_prob(torch.tensor([0, 1])).tolist() == pytest.approx([-math.log(K)] * 2)


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 2)])
def test_an_autoregressive_prior_sums_to_one_and_is_sampled_from(shape):
    from scipy.stats import chisquare

    prior = autoregressive(shape)
    z = all_codes(shape)
    prior.check(z)
    log_p = prior().log_prob(z)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert log_p.std() > 0.1
    torch.manual_seed(3)
    draws = prior().sample((4000,))
    assert draws.shape == (4000, *shape)
    strides = K ** torch.arange(math.prod(shape) - 1, -1, -1)
    observed = torch.bincount((draws.flatten(1) * strides).sum(1), minlength=len(z)).numpy()
    expected = 4000 * log_p.exp().detach().numpy()
    rare = expected < 5
    pooled = [np.append(v[~rare], v[rare].sum()) for v in (observed, expected)]
    pooled = [v if v[-1] > 0 else v[:-1] for v in pooled] if not rare.any() else pooled
    assert chisquare(*pooled).pvalue > 1e-3


def test_a_conditional_prior():
    prior = autoregressive((3,), condition=C)
    condition = torch.randn(4, C, dtype=torch.float64)
    p = prior({"condition": condition})
    z = all_codes((3,))
    log_p = p.log_prob(z.unsqueeze(1).expand(-1, 4, 3))  # (S, B)
    assert torch.allclose(log_p.exp().sum(0), torch.ones(4).double())
    alone = prior({"condition": condition[2:3]}).log_prob(z.unsqueeze(1))
    assert torch.allclose(alone[:, 0], log_p[:, 2])
    assert p.sample().shape == (4, 3)
    torch.manual_seed(0)
    draws = p.sample((3000,))  # (S, B, 3)
    for row in range(4):
        share = torch.stack([(draws[:, row] == c).all(-1).double().mean() for c in z])
        assert (share - log_p[:, row].exp()).abs().max() < 0.04
    with pytest.raises(InputError, match="no context\\['condition'\\]"):
        prior()


def test_a_network_that_looks_ahead_is_refused():
    prior = Autoregressive(Causal(K, 4, looks_ahead=True), K, (2, 2))
    with pytest.raises(InputError, match="looks ahead"):
        prior.check(torch.zeros(1, 2, 2, dtype=torch.long))
    model = build(grid=(2, 2))
    model.prior = prior
    with pytest.raises(InputError, match="looks ahead"):
        fit(model, data(dtype=torch.float32), VQ(), settings=settings(batch_size=4), progress=False)


@pytest.mark.parametrize("kind", ["pixels", "transformer", "recurrent"])
def test_the_toolkit_s_causal_networks_are_priors(kind):
    shape = (2, 2) if kind == "pixels" else (4,)
    networks = {
        "pixels": lambda: PixelCNN(K, shape, channels=8, layers=2),
        "transformer": lambda: CausalTransformer(K, 4, width=8, heads=2, layers=1),
        "recurrent": lambda: Recurrent(K, 4, width=8),
    }
    prior = Autoregressive(networks[kind](), K, shape).double()
    prior.check(torch.zeros(1, *shape, dtype=torch.long))
    assert prior().log_prob(all_codes(shape)).exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert prior().sample((3,)).shape == (3, *shape)


@pytest.mark.parametrize("network", [CausalTransformer, Recurrent])
def test_a_network_with_a_state_draws_the_same_codes_as_its_whole_evaluation(network):
    torch.manual_seed(0)
    stepping = network(K, 5, width=8, condition_features=C).double()

    class Whole(torch.nn.Module):
        def forward(self, codes, condition):
            assert codes.shape[1:] == (5,), "a network without a state may want all places"
            return stepping(codes, condition)

    context, draws = {"condition": torch.randn(4, C, dtype=torch.float64)}, []
    for causal in (stepping, Whole()):
        prior = Autoregressive(causal, K, (5,), conditional=True)
        torch.manual_seed(1)
        draws.append(prior(context).sample((50,)))
    assert draws[0].shape == (50, 4, 5)
    assert torch.equal(*draws)


def test_a_model_of_images_from_the_toolkit_s_networks():
    torch.manual_seed(0)
    x = (torch.rand(20, 1, 8, 8) > 0.5).float()
    model = VQVAE(
        Autoregressive(PixelCNN(K, (2, 2), channels=8, layers=2), K, (2, 2)),
        Code(ConvolutionalCodes((1, 8, 8), D, channels=[4, 4], residual=1), Quantiser(K, D)),
        decoders.Bernoulli(ConvolutionalImage(D, (1, 8, 8), channels=[4, 4], residual=1)),
    )
    assert model.grid == (2, 2)
    fit(model, x, VQ(), settings=settings(epochs=2, batch_size=10), progress=False)
    assert model.sample(3).shape == (3, 1, 8, 8)
    assert (log_evidence(model, Batch(x)).value > model.terms(Batch(x)).log_weight[0]).all()


# ---- the evidence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["uniform", "autoregressive"])
def test_the_evidence_sums_to_one_over_all_data(prior):
    model = build(grid=(2,), prior=prior, decoder="bernoulli").double().eval()
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=N))).double()
    for chunk in (5, 100):
        evidence = log_evidence(model, Batch(x), chunk=chunk)
        assert evidence.value.exp().sum().item() == pytest.approx(1, abs=1e-12)
    # by hand
    z = all_codes((2,))
    by_hand = model.prior().log_prob(z) + torch.stack(
        [model.decode(z).log_prob(row.expand(len(z), N)) for row in x]
    )
    assert torch.allclose(evidence.value, by_hand.logsumexp(1))


def test_too_many_codes_to_sum_over():
    model = build(grid=(3, 3))
    with pytest.raises(InputError, match=r"65,536 grids: use the bound .*kind='elbo'"):
        log_evidence(model, Batch(data(dtype=torch.float32)))


# ---- training ----------------------------------------------------------------------------------------


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("sciencevae.training.loop.STEPS_BETWEEN_READINGS", 4)
    x, valid, chosen = data(100, dtype=torch.float32), data(30, 8, torch.float32), settings(epochs=5)

    class Stop(Exception):
        pass

    def die(epoch, step, parts):
        if step >= 16:
            raise Stop

    whole, part, resumed = (build(grid=(2,), decay=0.9) for _ in range(3))
    fit(whole, x, VQ(), valid, chosen, progress=False)
    with pytest.raises(Stop):
        fit(
            part,
            x,
            VQ(),
            valid,
            chosen.model_copy(update={"checkpoint_seconds": 0}),
            run=tmp_path,
            progress=die,
        )
    assert (tmp_path / "checkpoint.safetensors").exists()
    torch.manual_seed(99)
    fit(resumed, x, VQ(), valid, chosen, run=tmp_path, progress=False)
    assert all(torch.equal(tensors(whole)[name], tensor) for name, tensor in tensors(resumed).items())
    assert not torch.equal(
        tensors(whole)["encoder.quantiser.count"], tensors(part)["encoder.quantiser.count"]
    )


def test_a_prior_fitted_to_the_codes_afterwards_comes_to_their_frequencies():
    x, _ = clusters()
    model = VQVAE(
        UniformCodes(K, (2,)),
        Code(Grid(N, [D, 2]), Quantiser(K, D, decay=0.9), (2,)),
        decoders.Gaussian(Flat(Perceptron(2 * D, [6], N)), scale=0.5),
    )
    fit(model, x, VQ(), settings=settings(epochs=10, batch_size=100), progress=False)
    before = tensors(model)
    chosen = settings(epochs=150, batch_size=100, learning_rate=0.1)
    fit_prior(model, x, autoregressive((2,)).float(), settings=chosen, progress=False)
    after = tensors(model)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items() if name in after)
    codes = model.encode(x).codes
    place = (codes * torch.tensor([K, 1])).sum(1)
    share = torch.bincount(place, minlength=K * K) / len(x)
    learned = model.prior().log_prob(all_codes((2,))).exp()
    assert (share - learned).abs().max() < 0.02
    draws = model.prior().sample((500,))
    assert ((share > 0)[(draws * torch.tensor([K, 1])).sum(1)]).float().mean() > 0.97


# ---- files and refusals ------------------------------------------------------------------------------


def test_saved_and_loaded_is_identical(tmp_path):
    from sciencevae.networks import Perceptron as Plain

    torch.manual_seed(0)
    model = VQVAE(
        UniformCodes(K, ()),
        Code(Plain(N, [5], D), Quantiser(K, D)),
        decoders.Gaussian(Plain(D, [5], N)),
    )
    x = data(40, dtype=torch.float32)
    fit(model, x, VQ(), settings=settings(), progress=False)
    save(model, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert torch.equal(again.terms(Batch(x)).log_weight, model.terms(Batch(x)).log_weight)
    assert all(torch.equal(tensors(again)[name], tensor) for name, tensor in tensors(model).items())
    # also where nothing but load was imported
    code = f"from sciencevae.vae.files import load; print(load({str(tmp_path / 'm.safetensors')!r}).codes)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == f"{K}\n"
    )


def encoder(codes: int = K, grid=()) -> Code:
    return Code(Grid(N, [D, *grid]), Quantiser(codes, D), grid)


def decoder() -> decoders.Decoder:
    return decoders.Gaussian(Perceptron(D, [5], N))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VQVAE(UniformCodes(5, ()), encoder(), decoder()), "over 5 codes .* gives 4 codes"),
        (lambda: VQVAE(UniformCodes(K, (2,)), encoder(), decoder()), r"grid \(2,\), and the encoder gives"),
        (lambda: Quantiser(1, 2), "codes ≥ 2"),
        (lambda: Quantiser(4, 2, "ema"), "'average' or 'gradient', not 'ema'"),
        (lambda: Quantiser(4, 2, decay=1.0), "decay < 1, not 1.0"),
        (lambda: Quantiser(4, 2, revive=-1.0), "revive is a share"),
        (
            lambda: Code(Perceptron(N, [], 3), Quantiser(K, D)),
            "vectors of 3 numbers; the codes have 2",
        ),
        (lambda: UniformCodes(1, (2,)), "codes ≥ 2 at the places"),
        (lambda: Autoregressive(Causal(K, 1), K, ()), "give a shape"),
        (lambda: VQ(-1.0), "commitment is a weight ≥ 0"),
        (lambda: build().terms(Batch(data()), gradient_scale=torch.ones(1, B)), "train with VQ"),
        (lambda: build(grid=(2,)).decode(torch.zeros(5, 3, dtype=torch.long)), "has grids of"),
        (lambda: build(grid=(2,)).decode(torch.full((5, 2), K)), r"reach 4 … 4; this model has 0 … 3"),
        (lambda: build(grid=(2,)).decode(torch.zeros(5, 3)), "takes codes"),
        (lambda: build().check(Batch(torch.full((2, N), math.nan))), "missing entries"),
        (
            lambda: Code(Grid(N, [D, 3]), Quantiser(K, D), (2,))(data(dtype=torch.float32)),
            r"gave \(8, 2, 3\); expected \(B, 2, 2\)",
        ),
        (
            lambda: Autoregressive(Causal(K, 2), K + 1, (2,))().log_prob(torch.zeros(1, 2, dtype=torch.long)),
            "the logits of each code at each place",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
