"""What the objectives compute: closed forms, enumeration, and what must not depend on what.

The contract of all objectives together is in ``test_parts.py``.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from sciencevae.batch import Batch
from sciencevae.distributions import DiagonalNormal
from sciencevae.errors import InputError
from sciencevae.networks import Perceptron
from sciencevae.training.loop import fit
from sciencevae.training.schedules import WarmUp
from sciencevae.training.settings import TrainingSettings
from sciencevae.training.step import Problem, trainable
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, IWAE, BetaTCVAE, FactorVAE, Property

N, D, B = 4, 2, 12


def build() -> VAE:
    return VAE(
        priors.StandardNormal(D),
        encoders.Gaussian(Perceptron(N, [6], 2 * D), D),
        decoders.Gaussian(Perceptron(D, [6], N), scale="learned"),
    )


def fresh(seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    return build()


def discriminating() -> FactorVAE:
    torch.manual_seed(7)
    return FactorVAE(D, hidden=(5,))


def data(rows: int = B, dtype=torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, N, dtype=torch.float64, generator=generator)
    target = x[:, :1].clone()
    target[::3] = math.nan
    return Batch(x, target=target).to(dtype)


def noise_for(objective, model: VAE, rows: int = B, seed: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(objective.noise_shape(model, rows), dtype=torch.float64, generator=generator)


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(**({"epochs": 3, "batch_size": 5, "compile": False, "device": "cpu"} | changes))


# ---- capacity ----------------------------------------------------------------------------------------


def test_capacity_charges_the_distance_from_it():
    model, batch = fresh().double(), data()
    objective = ELBO(beta=30.0, capacity=WarmUp(5.0, 100, start=1.0))
    noise = noise_for(objective, model)
    plain = ELBO()(model, batch, noise)
    kl, reconstruction = plain.parts["kl"], plain.parts["reconstruction"]
    assert (kl < 5).any()
    for step, nats in ((0, 1.0), (50, 3.0), (100, 5.0)):
        scalars = {name: schedule(step) for name, schedule in objective.schedules.items()}
        found = objective(model, batch, noise, scalars)
        assert torch.allclose(found.per_datum, reconstruction + 30 * (kl - nats).abs())
        assert torch.allclose(found.parts["kl"], kl)
    assert torch.equal(objective(model, batch, noise).per_datum, found.per_datum), "judged at its end"
    assert torch.allclose(ELBO(capacity=0.0)(model, batch, noise).per_datum, plain.per_datum)


def test_training_holds_the_divergence_at_the_capacity():
    model = fresh()
    objective = ELBO(beta=100.0, capacity=WarmUp(1.5, 200))
    chosen = settings(epochs=400, batch_size=12, learning_rate=1e-2)
    history = fit(model, data(dtype=torch.float32), objective, settings=chosen, progress=False)
    assert history.rows[-1]["train_kl"] == pytest.approx(1.5, abs=0.1)
    assert history.rows[-1]["capacity"] == 1.5


# ---- importance-weighted bounds ----------------------------------------------------------------------


def test_doubly_reparameterised_gradient_is_unbiased_and_less_noisy_for_the_encoder():
    """Over many draws: the same mean for every parameter, and for the encoder a smaller variance."""
    torch.manual_seed(0)
    model = VAE(
        priors.GaussianMixture(1, 2),
        encoders.Gaussian(nn.Linear(2, 2), 1),
        decoders.Gaussian(nn.Linear(1, 2), scale=0.5),
    ).double()
    x, draws, samples = torch.tensor([[0.4, -1.0], [1.5, 0.2]], dtype=torch.float64), 4000, 8
    found = {}
    for doubly in (False, True):
        objective = IWAE(samples, doubly_reparameterised=doubly)

        def gradient(noise, objective=objective):
            def loss(parameters):
                problem = Problem(model, objective)
                return functional_call(problem, parameters, ({"x": x}, noise, {}))["loss"]

            return torch.func.grad(loss)(trainable(Problem(model, objective)))

        noise = torch.randn(draws, samples, 2, 1, dtype=torch.float64)
        named = torch.func.vmap(gradient)(noise)
        found[doubly] = {name: g.reshape(draws, -1) for name, g in named.items()}
    for name, plain in found[False].items():
        other = found[True][name]
        error = ((plain.var(0) + other.var(0)) / draws).sqrt()
        assert ((plain.mean(0) - other.mean(0)).abs() < 4.5 * error).all(), name
        if "encoder" in name:
            assert (other.var(0) < 0.5 * plain.var(0)).all(), name
        else:
            assert torch.allclose(other.var(0), plain.var(0), rtol=0.3), name


def test_doubly_reparameterised_gradient_by_hand():
    """p(z) = N(0, 1), q = N(a x, s²), p(x | z) = N(w z, 1), S = 2: Σ w̃_s² ∂log w_s/∂z_s ∂z_s/∂φ for φ = a, log s²,
    and Σ w̃_s ∂log w_s/∂w for the decoder."""
    a, log_variance, w = 0.3, -0.8, 1.4
    x, noise = np.array([0.7, -1.2, 2.0]), np.array([[0.5, -0.3, 1.1], [-1.0, 0.8, 0.2]])
    s = math.exp(log_variance / 2)
    z = a * x + s * noise
    log_w = -0.5 * (x - w * z) ** 2 - 0.5 * z**2 + 0.5 * noise**2 + math.log(s)
    share = np.exp(log_w) / np.exp(log_w).sum(0)
    along_z = w * (x - w * z) - z + (z - a * x) / s**2
    wanted = {
        "mean": -(share**2 * along_z * x).sum(0).mean(),
        "variance": -(share**2 * along_z * 0.5 * s * noise).sum(0).mean(),
        "decoder": -(share * (x - w * z) * z).sum(0).mean(),
    }

    encoder, decoder = nn.Linear(1, 2), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        encoder.weight.copy_(torch.tensor([[a], [0.0]]))
        encoder.bias.copy_(torch.tensor([0.0, log_variance]))
        decoder.weight.fill_(w)
    model = VAE(priors.StandardNormal(1), encoders.Gaussian(encoder, 1), decoders.Gaussian(decoder)).double()
    with torch.no_grad():  # float64 numbers, not rounded ones
        encoder.weight.copy_(torch.tensor([[a], [0.0]], dtype=torch.float64))
        encoder.bias.copy_(torch.tensor([0.0, log_variance], dtype=torch.float64))
        decoder.weight.fill_(w)
    batch = Batch(torch.from_numpy(x)[:, None])
    given = torch.from_numpy(noise)[..., None]
    objective = IWAE(2, doubly_reparameterised=True)
    found = objective(model, batch, given).per_datum
    assert torch.equal(found, IWAE(2)(model, batch, given).per_datum), "the bound itself is the same"
    found.mean().backward()
    assert encoder.weight.grad[0, 0].item() == pytest.approx(wanted["mean"], rel=1e-12)
    assert encoder.bias.grad[1].item() == pytest.approx(wanted["variance"], rel=1e-12)
    assert decoder.weight.grad.item() == pytest.approx(wanted["decoder"], rel=1e-12)


def test_with_the_exact_posterior_the_encoder_gets_no_noise():
    """p(z | x) = N(w x / (w² + σ²), σ² / (w² + σ²)): log w is log p(x) at every z, and so are its slopes 0."""
    w, sigma = 1.4, 0.7
    encoder, decoder = nn.Linear(1, 2).double(), nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        encoder.weight.copy_(torch.tensor([[w / (w**2 + sigma**2)], [0.0]], dtype=torch.float64))
        encoder.bias.copy_(torch.tensor([0.0, math.log(sigma**2 / (w**2 + sigma**2))], dtype=torch.float64))
        decoder.weight.fill_(w)
    model = VAE(
        priors.StandardNormal(1), encoders.Gaussian(encoder, 1), decoders.Gaussian(decoder, scale=sigma)
    ).double()
    size = {}
    for doubly in (False, True):
        loss = IWAE(4, doubly_reparameterised=doubly)(model, Batch(data().x[:, :1])).per_datum.mean()
        size[doubly] = torch.autograd.grad(loss, encoder.weight)[0].abs().max().item()
    assert size[True] < 1e-7 < 1e-3 < size[False]


def test_a_posterior_that_can_not_be_held_fixed_is_refused():
    class Laplace(encoders.Encoder):
        dim = D

        def forward(self, x, context=None):
            return torch.distributions.Independent(torch.distributions.Laplace(x[:, :D], x[:, :D].exp()), 1)

    model = VAE(priors.StandardNormal(D), Laplace(), decoders.Gaussian(Perceptron(D, [], N)))
    with pytest.raises(InputError, match="needs a posterior with from_noise and detach"):
        IWAE(3, doubly_reparameterised=True)(model, data(dtype=torch.float32))


# ---- total correlation -------------------------------------------------------------------------------


def test_decomposition_of_the_whole_data_set_is_exact():
    """q(z) = 1/N Σ_n q(z | x_n), summed here by numpy, for every draw and dimension."""
    from scipy import stats

    model, batch = fresh().double(), data()
    objective = BetaTCVAE(B, beta=1.0)
    noise = noise_for(objective, model)
    found = objective(model, batch, noise)
    posterior = model.encode(batch.x)
    mean, scale = posterior.loc.detach().numpy(), posterior.scale.detach().numpy()
    z = mean + scale * noise[0].numpy()
    density = stats.norm.pdf(z[:, None, :], mean[None], scale[None])  # (B of z, B of x, D)
    q_joint, q_product = density.prod(-1).mean(1), density.mean(1).prod(-1)
    q_own, p = density[range(B), range(B)].prod(-1), stats.norm.pdf(z).prod(-1)
    wanted = {
        "mutual_information": np.log(q_own / q_joint),
        "total_correlation": np.log(q_joint / q_product),
        "dimension_kl": np.log(q_product / p),
    }
    for name, value in wanted.items():
        assert np.allclose(found.parts[name].detach().numpy(), value, atol=1e-10)
    # the three are the divergence of the same draws, and the loss is then that of the ELBO
    terms = model.terms(batch, noise=noise)
    assert torch.allclose(found.per_datum, -(terms.log_px + terms.log_pz - terms.log_qz)[0])
    weighted = BetaTCVAE(B, beta=7.0, alpha=0.5, gamma=2.0)(model, batch, noise)
    expected = (
        found.parts["reconstruction"]
        + 0.5 * found.parts["mutual_information"]
        + 7 * found.parts["total_correlation"]
        + 2 * found.parts["dimension_kl"]
    )
    assert torch.allclose(weighted.per_datum, expected)


def test_with_all_weights_one_it_is_the_elbo_in_expectation():
    model, batch = fresh().double(), data()
    draws = torch.stack([noise_for(BetaTCVAE(100), model, seed=seed) for seed in range(400)])
    found = torch.stack([BetaTCVAE(100, beta=1.0)(model, batch, noise).per_datum for noise in draws])
    wanted = torch.stack([ELBO()(model, batch, noise).per_datum for noise in draws])
    gap = found - wanted
    assert (gap.mean(0).abs() < 4.5 * gap.std(0) / math.sqrt(400)).all()


def test_the_estimate_of_the_aggregate_posterior_is_unbiased_over_batches():
    """All batches of 3 of 6 data that hold datum 0, enumerated: the mean of q̂(z_0) is q(z_0)."""
    import itertools

    model, x = fresh().double(), data(6).x
    noise = noise_for(BetaTCVAE(6), model, 6)
    whole = BetaTCVAE(6)(model, Batch(x), noise).parts["mutual_information"][0]
    terms = model.terms(Batch(x), noise=noise)
    wanted = (terms.log_qz[0, 0] - whole).exp()  # q(z_0)
    found = []
    for others in itertools.combinations(range(1, 6), 2):
        rows = [0, *others]
        part = BetaTCVAE(6)(model, Batch(x[rows]), noise[:, rows]).parts["mutual_information"][0]
        found.append((terms.log_qz[0, 0] - part).exp())
    assert torch.stack(found).mean().item() == pytest.approx(wanted.item(), rel=1e-12)


def test_a_weight_counts_as_that_many_data():
    """Two of a datum and one of weight 2 give the same aggregate posterior."""
    model, x = fresh().double(), data(5).x
    twice = torch.cat([x, x[:1]])
    noise = noise_for(BetaTCVAE(6), model, 5)
    doubled = torch.cat([noise, noise[:, :1]], 1)
    wanted = BetaTCVAE(6)(model, Batch(twice), doubled).per_datum[:5]
    weight = torch.tensor([2.0, 1, 1, 1, 1], dtype=torch.float64)
    assert torch.allclose(BetaTCVAE(6)(model, Batch(x, weight=weight), noise).per_datum, wanted)


# ---- the discriminator -------------------------------------------------------------------------------


def test_neither_loss_moves_what_belongs_to_the_other():
    model, objective, batch = fresh().double(), discriminating().double(), data()
    found = objective(model, batch, noise_for(objective, model))
    own = list(objective.discriminator.parameters())
    of_model = list(model.parameters())
    for loss, foreign, theirs in (
        (found.per_datum.sum(), own, of_model),
        (found.auxiliary.sum(), of_model, own),
    ):
        gradients = torch.autograd.grad(loss, [*foreign, *theirs], allow_unused=True, retain_graph=True)
        assert all(g is None or (g == 0).all() for g in gradients[: len(foreign)])
        assert all(g is not None and g.abs().max() > 0 for g in gradients[len(foreign) :])


def test_the_loss_is_that_of_the_paper():
    model, objective, batch = fresh().double(), FactorVAE(D, gamma=3.0, hidden=(5,)).double(), data()
    noise = noise_for(objective, model)
    found = objective(model, batch, noise)
    plain = ELBO()(model, batch, noise[:1])
    z = model.encode(batch.x).from_noise(noise[:1])[0]
    real = objective.discriminator(z).sigmoid().squeeze(1)
    assert torch.allclose(found.per_datum, plain.per_datum + 3 * (real / (1 - real)).log())
    order = noise[1].argsort(0)
    permuted = torch.stack([z[order[:, d], d] for d in range(D)], 1)
    fake = objective.discriminator(permuted).sigmoid().squeeze(1)
    wanted = -0.5 * (real.log().mean() + (1 - fake).log().mean())
    assert torch.allclose(found.auxiliary.mean(), wanted)


def test_permuted_codes_keep_each_dimension_and_follow_the_weights():
    from sciencevae.vae.objectives.factor import _permuted

    z = torch.arange(24.0).reshape(12, 2)
    noise = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    found = _permuted(z, noise, torch.ones(12))
    assert torch.equal(found.sort(0).values, z)
    assert not torch.equal(found[:, 1] - found[:, 0], torch.ones(12)), "the dimensions go apart"
    weight = torch.tensor([0.0, 1, 1, 0, 2, 1, 0, 0, 0, 0, 0, 1])
    counts = torch.stack([(_permuted(z, noise, weight) == row).sum(0) for row in z])
    assert torch.equal(counts, (2 * weight).long()[:, None].expand(-1, 2))


def test_the_discriminator_learns_the_total_correlation_of_a_known_density():
    """Codes of a Gaussian with correlation ρ: TC = −½ log(1 − ρ²)."""
    rho = 0.8

    class Known(encoders.Encoder):
        dim = 2

        def forward(self, x, context=None):
            return DiagonalNormal(x, torch.full_like(x, 1e-3))

    class Nothing(nn.Module):
        def forward(self, z):
            return torch.zeros_like(z)

    torch.manual_seed(0)
    x = torch.randn(4000, 2) @ torch.linalg.cholesky(torch.tensor([[1.0, rho], [rho, 1.0]])).T
    model = VAE(priors.StandardNormal(2), Known(), decoders.Gaussian(Nothing()))
    objective = FactorVAE(2, hidden=(32, 32))
    chosen = settings(epochs=25, batch_size=250, learning_rate=5e-3, schedule="cosine")
    model.register_parameter("unused", nn.Parameter(torch.zeros(1)))  # whose dtype the training takes
    history = fit(model, x, objective, valid=x, settings=chosen, progress=False)
    last = history.rows[-1]
    assert last["valid_total_correlation"] == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.08)
    assert last["valid_auxiliary"] < math.log(2) - 0.1


class Stop(Exception):
    pass


def test_killed_and_resumed_equals_uninterrupted_discriminator_and_all(tmp_path, monkeypatch):
    monkeypatch.setattr("sciencevae.training.loop.STEPS_BETWEEN_READINGS", 2)
    batch, chosen = data(30, torch.float32), settings(epochs=4, checkpoint_seconds=0)

    def die(epoch, step, parts):
        if step >= 14:
            raise Stop

    whole, objective = fresh(), discriminating()
    fit(whole, batch, objective, settings=chosen, progress=False)
    with pytest.raises(Stop):
        fit(fresh(), batch, discriminating(), settings=chosen, run=tmp_path, progress=die)
    torch.manual_seed(99)
    model, resumed = build(), FactorVAE(D, hidden=(5,))
    history = fit(model, batch, resumed, settings=chosen, run=tmp_path, progress=False)
    assert history.steps == 24
    assert torch.equal(weights(model), weights(whole))
    assert torch.equal(weights(resumed), weights(objective))
    assert not torch.equal(weights(resumed), weights(discriminating()))


# ---- properties --------------------------------------------------------------------------------------


def test_an_unlabelled_row_costs_nothing_and_a_labelled_one_its_density():
    model, batch = fresh().double(), data()
    head = nn.Linear(D, 2).double()
    target = torch.randn(B, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target[2], target[5, 1] = math.nan, math.nan
    terms = model.terms(batch)
    found = Property(head)(terms, Batch(batch.x, target=target))
    out = head(terms.posterior.mean)
    density = -torch.distributions.Normal(out, 1.0).log_prob(target.nan_to_num(0.0)) - 0.5 * math.log(
        2 * math.pi
    )
    assert torch.allclose(found, torch.where(target.isnan(), 0.0, density).sum(1))
    assert found[2] == 0
    gradients = torch.autograd.grad(found.sum(), [*head.parameters(), *model.encoder.parameters()])
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in gradients)


@pytest.mark.parametrize("form", ["integers", "column", "floats"])
def test_classes_cost_their_cross_entropy(form):
    model, batch = fresh().double(), data()
    head = nn.Linear(D, 3).double()
    labels = torch.arange(B) % 3
    labels[4] = -1
    target = labels[:, None] if form == "column" else labels
    if form == "floats":  # as a data set with missing labels stores them
        target = labels.double().masked_fill(labels == -1, math.nan)
    terms = model.terms(batch)
    found = Property(head, kind="categorical")(terms, Batch(batch.x, target=target))
    logits = head(terms.posterior.mean).log_softmax(-1)
    wanted = [0.0 if k < 0 else -row[k].item() for k, row in zip(labels.tolist(), logits, strict=True)]
    assert found.tolist() == pytest.approx(wanted)


def test_few_labels_teach_a_head_that_predicts_the_others():
    x = data(300, torch.float32).x
    truth = (x[:, :1] > 0).long()
    target = torch.where(torch.arange(300)[:, None] % 5 == 0, truth, -1)
    torch.manual_seed(0)
    model, head = build(), Perceptron(D, [8], 2)
    objective = ELBO(extra={"sign": Property(head, weight=20.0, kind="categorical")})
    chosen = settings(epochs=40, batch_size=50, learning_rate=1e-2)
    history = fit(model, Batch(x, target=target), objective, settings=chosen, progress=False)
    assert history.rows[-1]["train_sign"] < history.rows[0]["train_sign"]
    with torch.no_grad():
        right = head(model.encode(x).mean).argmax(1) == truth[:, 0]
    assert right[target[:, 0] < 0].double().mean() > 0.85


def test_a_second_property_is_read_from_the_context():
    model, batch = fresh().double(), data()
    head = nn.Linear(D, 1).double()
    terms = model.terms(batch)
    wanted = Property(head)(terms, batch)
    other = Batch(batch.x, context={"charge": batch.target})
    assert torch.equal(Property(head, field="charge")(terms, other), wanted)
    with pytest.raises(InputError, match=r"trained on the batch's context\['charge'\]"):
        Property(head, field="charge")(terms, batch)
    with pytest.raises(InputError, match="trained on the batch's target"):
        Property(head)(terms, other)
    with pytest.raises(InputError, match="has 2 numbers a datum and its head gives 1: expected 1"):
        Property(head)(terms, Batch(batch.x, target=batch.x[:, :2]))


def test_a_head_of_another_width_is_refused_by_name() -> None:
    objective = ELBO(extra={"property": Property(Perceptron(5, [4], 1))})
    batch = Batch(torch.ones(32, N), target=torch.zeros(32, 1))
    with pytest.raises(InputError, match=r"objective ELBO does not fit this model .*head of a Property"):
        fit(fresh(), batch, objective=objective, settings=settings(), progress=False)
