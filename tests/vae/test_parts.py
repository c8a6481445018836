"""One contract for every combination of prior, encoder and decoder, and what each part does on its own."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.networks import Perceptron
from sciencevae.spec import describe, rebuild
from sciencevae.training.loop import fit
from sciencevae.training.schedules import Constant, Cyclic, WarmUp, WarmUpCosine, as_schedule
from sciencevae.training.settings import TrainingSettings
from sciencevae.training.step import Problem, trainable
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.evidence import log_evidence
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, IWAE, Term

D, N, B, C = 2, 3, 6, 2

PRIORS = {
    "standard": lambda: priors.StandardNormal(D),
    "mixture": lambda: priors.GaussianMixture(D, 3),
    "full mixture": lambda: priors.GaussianMixture(D, 2, covariance="full"),
}
ENCODERS = {
    "diagonal": lambda: encoders.Gaussian(Perceptron(N, [5], 2 * D), D),
    "full": lambda: encoders.Gaussian(Perceptron(N, [5], D + 3), D, covariance="full"),
    "missing": lambda: encoders.Gaussian(Perceptron(2 * N, [5], 2 * D), D, missing=True),
    "conditional": lambda: encoders.Gaussian(
        Perceptron(N, [5], 2 * D, condition_features=C), D, conditional=True
    ),
}


def net(out: int = N, condition: int = 0) -> Perceptron:
    return Perceptron(D, [5], out, condition_features=condition)


DECODERS = {
    "gaussian": lambda: decoders.Gaussian(net(), scale=0.7),
    "learned": lambda: decoders.Gaussian(net(), scale="learned"),
    "predicted": lambda: decoders.Gaussian(net(2 * N), scale="predicted"),
    "noise": lambda: decoders.Gaussian(net(), scale="per-datum"),
    "noise and scatter": lambda: decoders.Gaussian(net(), scale="per-datum", intrinsic="learned"),
    "covariance": lambda: decoders.Gaussian(net(), scale="per-datum", intrinsic="learned"),
    "bernoulli": lambda: decoders.Bernoulli(net()),
    "von mises": lambda: decoders.VonMises(net(3 * N)),
    "conditional": lambda: decoders.Gaussian(net(condition=C), conditional=True),
}


def batch_for(encoder: str, decoder: str, dtype=torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(B, N, generator=generator, dtype=torch.float64)
    x = (x > 0).double() if decoder == "bernoulli" else x.clamp(-3, 3)
    if encoder == "missing":
        x[0, 0] = x[1] = float("nan")
    noise = torch.rand(B, N, generator=generator, dtype=torch.float64) + 0.1
    if decoder == "covariance":
        root = torch.randn(B, N, N, generator=generator, dtype=torch.float64)
        noise = root @ root.mT + 0.1 * torch.eye(N, dtype=torch.float64)
    condition = torch.randn(B, C, generator=generator, dtype=torch.float64)
    return Batch(x, context={"noise": noise, "condition": condition}).to(dtype)


def build(prior: str, encoder: str, decoder: str) -> VAE:
    torch.manual_seed(1)
    return VAE(PRIORS[prior](), ENCODERS[encoder](), DECODERS[decoder]())


ALL = list(itertools.product(PRIORS, ENCODERS, DECODERS))


@pytest.mark.parametrize(("prior", "encoder", "decoder"), ALL, ids=str)
def test_contract(prior, encoder, decoder):
    model, batch = build(prior, encoder, decoder).double(), batch_for(encoder, decoder)
    model.check(batch)
    noise = torch.randn(4, B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    terms = model.terms(batch, noise=noise)

    # shapes
    assert terms.z.shape == (4, B, D)
    assert terms.log_px.shape == terms.log_pz.shape == terms.log_qz.shape == (4, B)
    closed = prior == "standard"
    assert (terms.kl is not None) == closed
    assert (terms.kl_by_dim is not None) == (closed and encoder != "full")
    assert terms.log_weight.isfinite().all()
    if encoder == "missing":
        assert (terms.log_px[:, 1] == 0).all(), "a row with nothing observed says nothing"

    # a non-zero gradient for every parameter, equal to backward()
    problem = Problem(model, ELBO(samples=4))
    scalars = {name: torch.tensor(v) for name, v in problem.objective.final_scalars().items()}

    def loss(parameters):
        return torch.func.functional_call(problem, parameters, (batch.tensors(), noise, scalars))["loss"]

    gradients = torch.func.grad(loss)(trainable(problem))
    problem(batch.tensors(), noise, scalars)["loss"].backward()
    for name, parameter in problem.named_parameters():
        assert parameter.grad.abs().max() > 0, name
        assert torch.allclose(gradients[name], parameter.grad, atol=1e-10), name

    # a datum's terms depend on no other datum: not on the order of the batch, nor on its size
    order = torch.randperm(B, generator=torch.Generator().manual_seed(2))
    shuffled = model.terms(batch[order], noise=noise[:, order])
    assert torch.allclose(shuffled.log_weight, terms.log_weight[:, order], atol=1e-10)
    assert torch.allclose(
        model.terms(batch[:1], noise=noise[:, :1]).log_weight, terms.log_weight[:, :1], atol=1e-10
    )

    # the bounds lie below the evidence: paired, within four standard errors
    evidence = log_evidence(model, batch, samples=2000, chunk=500, seed=1)
    elbo = model.terms(batch, 2000).log_weight
    error = (elbo.std(0).square() / 2000 + evidence.stderr**2).sqrt()
    assert (elbo.mean(0) <= evidence.value + 4 * error).all()

    # samples of the declared shape and support; single precision agrees
    context = batch.context
    draw = model.sample(B, context, seed=4)
    assert draw.shape == (B, N)
    assert torch.equal(draw, model.sample(B, context, seed=4))
    model.decoder.check(draw, context)
    single = model.float().terms(batch.to(torch.float32), noise=noise.float())
    assert torch.allclose(single.log_weight.double(), terms.log_weight, rtol=1e-3, atol=1e-3)
    assert model.reconstruct(batch.x.float(), batch.to(torch.float32).context).shape == (B, N)

    # the description rebuilds it
    again = rebuild(describe(model))
    assert [(n, p.shape) for n, p in again.named_parameters()] == [
        (n, p.shape) for n, p in model.named_parameters()
    ]


LISTED = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "parts.json").read_text())[
    "table"
]
#: each part at least once; the decoders are the longest list
COVERING = list(zip(itertools.cycle(PRIORS), itertools.cycle(ENCODERS), DECODERS, strict=False))


def test_the_table_of_compiled_parts_lists_every_part():
    """``python -m benchmarks.parts`` measures what stands here."""
    listed = {(row["part"], row["name"]) for row in LISTED}
    parts = {"prior": PRIORS, "encoder": ENCODERS, "decoder": DECODERS}
    assert listed == {(part, name) for part, catalogue in parts.items() for name in catalogue}
    covered = [set(column) for column in zip(*COVERING, strict=True)]
    assert covered == [set(PRIORS), set(ENCODERS), set(DECODERS)]


@pytest.mark.parametrize(("prior", "encoder", "decoder"), COVERING, ids=str)
def test_what_is_listed_as_compiled_compiles_and_equals_eager(prior, encoder, decoder):
    wanted = {("prior", prior), ("encoder", encoder), ("decoder", decoder)}
    assert all(row["compiled"] for row in LISTED if (row["part"], row["name"]) in wanted)
    found = []
    for compiled in (False, True):
        model = build(prior, encoder, decoder)
        chosen = TrainingSettings(epochs=3, batch_size=3, compile=compiled, device="cpu")
        batch = batch_for(encoder, decoder, torch.float32)
        history = fit(model, batch, settings=chosen, progress=False)
        assert history.compiled == compiled
        found.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    assert torch.allclose(*found, atol=1e-5)


@pytest.mark.parametrize(("encoder", "decoder"), [("conditional", "gaussian"), ("diagonal", "conditional")])
def test_the_condition_is_respected_and_asked_for(encoder, decoder):
    model, batch = build("standard", encoder, decoder), batch_for(encoder, decoder, torch.float32)
    noise = torch.zeros(1, B, D)
    other = Batch(batch.x, context={**batch.context, "condition": batch.context["condition"] + 1})
    assert not torch.equal(model.terms(batch, noise=noise).log_px, model.terms(other, noise=noise).log_px)
    with pytest.raises(InputError, match="no context\\['condition'\\]"):
        model.terms(Batch(batch.x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: VAE(priors.StandardNormal(3), ENCODERS["diagonal"](), DECODERS["gaussian"]()),
            "prior has 3 latent",
        ),
        (
            lambda: encoders.Gaussian(Perceptron(N, [], 5), 2),
            "gives 5 numbers; a diagonal Gaussian .* needs 4",
        ),
        (lambda: encoders.Gaussian(net(), 2, covariance="round"), "'diagonal' or 'full'"),
        (lambda: decoders.Gaussian(net(), scale=-1.0), "scale above 0"),
        (lambda: decoders.Gaussian(net(), scale="learnt"), "not 'learnt'"),
        (lambda: decoders.Gaussian(net(), intrinsic="learned"), "needs scale='per-datum'"),
        (lambda: decoders.Gaussian(nn.Identity(), scale="learned"), "features="),
        (lambda: priors.GaussianMixture(2, 3, covariance="diag"), "'diagonal' or 'full'"),
        (lambda: Perceptron(2, [3], 4, activation="rely"), "did you mean 'relu'"),
        (lambda: ELBO(free_bits=-1), "free_bits"),
        (lambda: ELBO(samples=0), "samples"),
        (lambda: IWAE(0), "samples"),
        (lambda: as_schedule("0.1"), "schedule"),
    ],
)
def test_what_does_not_fit_is_refused_when_built(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("decoder", "x", "noise", "message"),
    [
        ("bernoulli", [0.0, 0.5, 1.0], None, "takes 0 and 1; the data hold 0.5"),
        ("von mises", [0.0, 4.0, 0.0], None, r"within \(−π, π\]; the data hold 4"),
        ("gaussian", [0.0, math.inf, 0.0], None, "infinities"),
        ("noise", [0.0, 1.0, 2.0], [0.1, 0.0, 0.1], "is 0.0 at row 0, variable \\[1\\]"),
        ("noise", [0.0, 1.0, 2.0], [0.1, -0.2, 0.1], "known error of an observed value"),
        ("noise and scatter", [0.0, 1.0, 2.0], [0.1, math.nan, 0.1], "known error of an observed value"),
        ("noise", [0.0, 1.0, 2.0], [0.1, math.inf, 0.1], "known error of an observed value"),
        ("gaussian", [0.0, math.nan, 0.0], None, "1 of 1 rows of x have missing"),
    ],
)
def test_data_outside_the_support_are_refused(decoder, x, noise, message):
    context = {} if noise is None else {"noise": torch.tensor([noise])}
    with pytest.raises(InputError, match=message):
        build("standard", "diagonal", decoder).check(Batch(torch.tensor([x]), context=context))


def test_missing_noise_and_a_wrong_shape_are_refused():
    model = build("standard", "diagonal", "noise")
    with pytest.raises(InputError, match="no context\\['noise'\\]"):
        model.terms(Batch(torch.zeros(2, N)))
    with pytest.raises(InputError, match="has shape"):
        model.terms(Batch(torch.zeros(2, N), context={"noise": torch.ones(2)}))
    with pytest.raises(InputError, match="describes x of shape"):
        VAE(PRIORS["standard"](), encoders.Gaussian(Perceptron(5, [], 4), 2), DECODERS["gaussian"]()).check(
            Batch(torch.zeros(2, 5))
        )
    with pytest.raises(InputError, match="3 dimensions; this model has 2"):
        model.decode(torch.zeros(4, 3))


def test_known_noise_adds_to_the_learned_scatter():
    model = build("standard", "diagonal", "noise and scatter")
    with torch.no_grad():
        model.decoder.log_scale.copy_(torch.tensor([0.1, 0.5, 2.0]).log())
    noise = torch.tensor([[0.3, 0.4, 0.1]])
    likelihood = model.decoder(torch.zeros(1, 1, D), {"noise": noise})
    wanted = (noise**2 + torch.tensor([0.1, 0.5, 2.0]) ** 2).sqrt()
    assert torch.allclose(likelihood.base_dist.scale, wanted.unsqueeze(0))
    full = model.decoder(torch.zeros(1, 1, D), {"noise": torch.diag_embed(noise**2)})
    x = torch.randn(1, N)
    assert torch.allclose(full.log_prob(x), likelihood.log_prob(x), atol=1e-5)


def test_mixture_fitted_afterwards_is_the_maximum_likelihood_fit():
    generator = torch.Generator().manual_seed(0)
    z = torch.cat([torch.randn(400, 2, generator=generator) * 0.3 + c for c in (-3.0, 3.0)])
    for covariance in ("diagonal", "full"):
        prior = priors.GaussianMixture(2, 2, covariance=covariance).fit(z)
        assert sorted(prior.loc[:, 0].tolist()) == pytest.approx([-3, 3], abs=0.1)
        weights = prior.responsibilities(torch.tensor([[-3.0, -3.0], [3.0, 3.0]]))
        assert weights.max(1).values.min() > 0.999
        before = prior().log_prob(z).mean()
        optimiser = torch.optim.Adam(prior.parameters(), lr=1e-3)
        for _ in range(100):
            optimiser.zero_grad()
            (-prior().log_prob(z).mean()).backward()
            optimiser.step()
        assert prior().log_prob(z).mean() < before + 1e-3, "EM has left nothing to gain"
    with pytest.raises(InputError, match="3 components needs more"):
        priors.GaussianMixture(2, 3).fit(torch.zeros(2, 2))


def test_free_bits_charge_each_dimension_at_least_their_amount():
    model, batch = build("standard", "diagonal", "gaussian"), batch_for("diagonal", "gaussian", torch.float32)
    noise = torch.zeros(1, B, D)
    by_dim = model.terms(batch, noise=noise).kl_by_dim.detach()
    loss = ELBO(free_bits=10.0)(model, batch, noise)
    assert torch.allclose(loss.per_datum - loss.parts["reconstruction"], torch.tensor(10.0 * D))
    assert torch.allclose(loss.parts["kl"], by_dim.sum(1)), "what is shown is the KL itself"
    low, high = by_dim.mean(0).sort().values
    between = float((low + high) / 2)
    charged = (
        (ELBO(free_bits=between)(model, batch, noise).per_datum - loss.parts["reconstruction"]).mean().item()
    )
    assert charged == pytest.approx(between + high.item(), rel=1e-5)
    nothing = ELBO(free_bits=1e-9)(model, batch, noise).per_datum
    assert torch.allclose(nothing, ELBO()(model, batch, noise).per_datum)
    # rows of weight 0 (the filling of a last batch) do not count in the mean
    weighted = Batch(batch.x, weight=torch.tensor([1.0] * 3 + [0.0] * 3))
    some = ELBO(free_bits=between)(model, weighted, noise).per_datum[:3]
    alone = ELBO(free_bits=between)(model, batch[:3], noise[:, :3]).per_datum
    assert torch.allclose(some, alone)


def test_beta_and_extra_terms_enter_by_their_scalars():
    model, batch = build("standard", "diagonal", "gaussian"), batch_for("diagonal", "gaussian", torch.float32)
    noise = torch.zeros(1, B, D)
    objective = ELBO(
        beta=WarmUp(4.0, 10),
        extra={"size": Term(WarmUp(2.0, 5), lambda terms, batch: batch.x.square().sum(1))},
    )
    plain = ELBO()(model, batch, noise)
    kl, reconstruction = plain.parts["kl"], plain.parts["reconstruction"]
    size = batch.x.square().sum(1)
    final = objective(model, batch, noise).per_datum
    assert torch.allclose(final, reconstruction + 4 * kl + 2 * size)
    start = {name: schedule(0) for name, schedule in objective.schedules.items()}
    assert torch.allclose(objective(model, batch, noise, start).per_datum, reconstruction)


def test_schedules():
    assert Constant(3.0)(7) == 3.0 == Constant(3.0).final
    ramp = WarmUp(2.0, 10, start=1.0)
    assert [ramp(0), ramp(5), ramp(10), ramp(99)] == [1.0, 1.5, 2.0, 2.0]
    cyclic = Cyclic(1.0, 100, cycles=2)
    assert [cyclic(0), cyclic(25), cyclic(49), cyclic(50), cyclic(100)] == [0.0, 1.0, 1.0, 0.0, 1.0]
    cosine = WarmUpCosine(1.0, 100, warmup=10)
    assert cosine(0) == pytest.approx(0.1)
    assert cosine(10) == pytest.approx(1.0)
    assert cosine(55) == pytest.approx(0.5)
    assert cosine(100) == pytest.approx(0.0)


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(1, 400))
def test_schedules_stay_between_their_ends(step, steps):
    for schedule in (WarmUp(3.0, steps), Cyclic(3.0, steps), WarmUpCosine(3.0, steps + 5, warmup=5)):
        assert 0 <= schedule(step) <= 3.0 + 1e-12


def test_batches_are_checked():
    with pytest.raises(InputError, match="one length"):
        Batch(torch.zeros(3, 2), target=torch.zeros(4))
    fields = Batch(
        {"a": torch.zeros(3, 2), "b": torch.ones(3)},
        context={"noise": torch.ones(3, 2)},
        weight=torch.ones(3),
    )
    assert len(fields) == 3
    assert set(Batch.from_tensors(fields.tensors()).x) == {"a", "b"}
    assert len(fields[1]) == 1
    assert len(fields[1:]) == 2
    assert fields.to(torch.float64).x["a"].dtype == torch.float64


def test_scatter_on_a_grid_is_one_for_each_channel():
    class Channels(nn.Module):
        def forward(self, z):
            return torch.zeros(len(z), 2, 3, 5)

    decoder = decoders.Gaussian(Channels(), scale="per-datum", intrinsic="learned", features=2)
    with torch.no_grad():
        decoder.log_scale.copy_(torch.tensor([0.0, 2.0]))
    scale = decoder(torch.zeros(1, 4, D), {"noise": torch.full((4, 2, 3, 5), 1e-4)}).scale
    assert torch.allclose(scale[0, 0, 0], torch.ones(3, 5))
    assert torch.allclose(scale[0, 0, 1], torch.full((3, 5), math.e**2))


def test_bits_may_be_integers_with_missing_ones():
    model = VAE(PRIORS["standard"](), ENCODERS["missing"](), DECODERS["bernoulli"]())
    bits = torch.tensor([[0, 1, -1], [1, 1, 0]])
    model.check(Batch(bits))
    real = bits.float().masked_fill(bits == -1, math.nan)
    noise = torch.zeros(1, 2, D)
    assert torch.equal(
        model.terms(Batch(bits), noise=noise).log_weight, model.terms(Batch(real), noise=noise).log_weight
    )


def test_named_fields_are_sampled_and_reconstructed():
    class Fields(torch.distributions.Distribution):
        arg_constraints = {}  # noqa: RUF012

        def __init__(self, loc):
            self.base = torch.distributions.Normal(loc, 1.0)
            super().__init__(loc.shape[:-1], validate_args=False)

        @property
        def mean(self):
            return {"a": self.base.mean[..., :2], "b": self.base.mean[..., 2:]}

        def sample(self, sample_shape=()):
            drawn = self.base.sample(sample_shape)
            return {"a": drawn[..., :2], "b": drawn[..., 2:]}

    class Decoder(decoders.Decoder):
        def likelihood(self, blocks, context):
            return Fields(blocks[0])

    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = Perceptron(N, [], 2 * D)

        def forward(self, x):
            return self.network(torch.cat([x["a"], x["b"]], 1))

    model = VAE(PRIORS["standard"](), encoders.Gaussian(Joined(), D), Decoder(net()))
    assert {k: tuple(v.shape) for k, v in model.sample(4).items()} == {"a": (4, 2), "b": (4, 1)}
    x = {"a": torch.zeros(5, 2), "b": torch.zeros(5, 1)}
    assert {k: tuple(v.shape) for k, v in model.reconstruct(x).items()} == {"a": (5, 2), "b": (5, 1)}


def test_an_unknown_error_of_an_observed_value_is_no_density():
    """Where ``check`` was not asked, as for a single batch: NaN, not a made-up σ."""
    nan = math.nan
    model = build("standard", "missing", "noise")
    x = torch.tensor([[0.1, 0.2, 0.3], [0.1, nan, 0.3]])
    noise = torch.tensor([[0.1, nan, 0.1], [0.1, nan, 0.1]])
    value = log_evidence(model, Batch(x, context={"noise": noise}), samples=10).value
    assert value.isnan().tolist() == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({(0, 1): math.nan, (1, 0): math.nan}, r"is nan at row 0, variables \[0, 1\]"),
        ({(0, 1): 2.0, (1, 0): 2.0}, "of row 0 is no covariance: its lowest eigenvalue, -1"),
    ],
)
def test_what_is_no_covariance_is_refused(change, message):
    model = build("standard", "missing", "covariance")
    covariance = torch.eye(N).expand(2, N, N).clone()
    for (i, j), value in change.items():
        covariance[0, i, j] = value
    x = torch.zeros(2, N)
    with pytest.raises(InputError, match=message):
        model.check(Batch(x, context={"noise": covariance}))
    x[0, 1] = math.nan  # of a missing value nothing is asked
    batch = Batch(x, context={"noise": covariance})
    model.check(batch)
    assert log_evidence(model, batch, samples=10).value.isfinite().all()
    if covariance.isnan().any():
        assert model.sample(2, batch.context).isfinite().all()
