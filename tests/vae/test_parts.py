"""One contract for every combination of parts, the combinations that are refused, and what single parts do."""

import itertools
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from catalogue import (
    DECODERS,
    ENCODERS,
    OBJECTIVES,
    PARTS,
    PRIORS,
    TINY,
    Names,
    build,
    build_objective,
    covering,
    data,
    each_once,
    fits,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sciencevae as sv
import sciencevae.vae.vq
from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.networks import Perceptron
from sciencevae.training.loop import fit
from sciencevae.training.schedules import Constant, Cyclic, WarmUp, WarmUpCosine, as_schedule
from sciencevae.training.settings import TrainingSettings
from sciencevae.training.step import Problem, trainable
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.evidence import log_evidence
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, IWAE, VQ, BetaTCVAE, Property, Term

D, N, B, C = TINY.latents, TINY.variables, 6, TINY.condition

#: a model with codes in place of continuous latents
CODES = Names("uniform codes", "codes", objective="VQ")


def allowed(row) -> bool:
    return fits(Names(*row))


#: with the objective of its family
MODELS = [
    Names(*row)
    for row in itertools.product(PRIORS, ENCODERS, DECODERS, (Names().objective, CODES.objective))
    if allowed(row)
]


#: what makes a large graph: of deep networks, or of some that are passed several times
LARGE = (
    "Vamp", "flow coupling", "flow autoregressive", "IWAE, doubly reparameterised",
    "PixelCNN", "transformer", "recurrent, conditional", "tokens, recurrent", "tokens, transformer", "joint",
)  # fmt: skip


def soon_compiled(row) -> bool:
    """Two large ones together compile for a minute."""
    return allowed(row) and sum(name in LARGE for name in row) <= 1


#: every pair of parts, objectives among them, stands here; every part alone, in few rows, below
COVERING = [Names(*row) for row in covering(list(PARTS.values()), allowed)]
FEW = [Names(*row) for row in each_once(list(PARTS.values()), soon_compiled)]
#: objectives in which what a datum costs depends on the others of its batch
OVER_THE_BATCH = ("ELBO, free bits", "BetaTCVAE", "two domains")


def noise_for(objective, model, rows: int = B) -> torch.Tensor:
    shape = objective.noise_shape(model, rows)
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def of_rows(model, noise, rows) -> torch.Tensor:
    """The noise of some rows: (S, B, D), and for codes (B, n)."""
    return noise[rows] if model.coded else noise[:, rows]


def told(terms) -> torch.Tensor:
    """What the terms say of each datum, (S, B): log w, and how far from their codes the vectors were."""
    return terms.log_weight + terms.extra.get("commitment", 0.0)


def tensors(module) -> dict[str, torch.Tensor]:
    """Everything that a training changes."""
    return {name: tensor.detach().double() for name, tensor in module.state_dict().items()}


def shapes(values):
    return values.shape if isinstance(values, torch.Tensor) else {k: v.shape for k, v in values.items()}


def test_the_covers_cover():
    pairs = {p for row in itertools.product(*PARTS.values()) if allowed(row) for p in pairs_of(row)}
    assert {p for names in COVERING for p in pairs_of(names)} == pairs
    assert all(map(fits, COVERING + FEW))
    codes = [names for names in ENCODERS if names.startswith("codes")]
    assert len(COVERING) < 1.3 * len(DECODERS) * (len(OBJECTIVES) + len(codes))
    assert [set(column) for column in zip(*FEW, strict=True)] == [set(names) for names in PARTS.values()]
    # where all go together: every pair of three lists of 2, 3 and 4
    lists = ["ab", "cde", "fghi"]
    wanted = {p for row in itertools.product(*lists) for p in pairs_of(row)}
    assert {p for row in covering(lists) for p in pairs_of(row)} == wanted
    assert len(covering(lists)) == 12


def pairs_of(row):
    return itertools.combinations(enumerate(row), 2)


def minimised(problem, parameters, batch, noise) -> torch.Tensor:
    scalars = {name: torch.tensor(v) for name, v in problem.objective.final_scalars().items()}
    copies = {name: buffer.clone() for name, buffer in problem.named_buffers()}  # a step changes a codebook
    losses = torch.func.functional_call(problem, {**copies, **parameters}, (batch.tensors(), noise, scalars))
    return losses["loss"] + losses.get("auxiliary", 0.0)


def assert_gradients(model, objective, batch, noise) -> None:
    """Finite, not zero for every parameter, and by ``torch.func.grad`` what ``backward()`` gives."""
    problem = Problem(model, objective)
    before = dict(problem.named_parameters())
    gradients = torch.func.grad(lambda p: minimised(problem, p, batch, noise))(trainable(problem))
    assert all(p is before[name] for name, p in problem.named_parameters()), "all put back"
    loss = minimised(problem, {}, batch, noise)
    assert loss.isfinite()
    loss.backward()
    for name, parameter in problem.named_parameters():
        assert parameter.grad.abs().max() > 0, name
        assert torch.allclose(gradients[name], parameter.grad, rtol=1e-8, atol=1e-10), name
    model.zero_grad()


@pytest.mark.parametrize("names", MODELS, ids="-".join)
def test_every_combination(names):
    model, batch = build(names).double(), data(names, B)
    objective = VQ() if model.coded else ELBO(samples=2)
    model.check(batch)
    noise = noise_for(objective, model)
    assert_gradients(model, objective, batch, noise)
    model.eval()
    terms = model.terms(batch, 2, noise)
    assert terms.z.shape == (2, B, *(model.grid if model.coded else (D,)))
    assert terms.log_px.shape == terms.log_pz.shape == terms.log_qz.shape == (2, B)
    assert terms.log_weight.isfinite().all()
    normal = names.prior in ("standard", "conditional")
    assert (terms.kl is not None) == (model.coded or (normal and not names.encoder.startswith("flow")))
    assert (terms.kl_by_dim is not None) == (normal and not names.encoder.startswith(("flow", "full")))
    if model.coded:
        assert torch.equal(terms.kl, -terms.log_pz[0])
        assert (terms.log_qz == 0).all()
    if "missing" in names.encoder:
        assert (terms.log_px[:, 1] == 0).all(), "a row with nothing observed says nothing"

    # a datum's terms depend on no other datum: not on the order of the batch, nor on its size
    order = torch.randperm(B, generator=torch.Generator().manual_seed(2))
    for rows in (order, slice(1)):
        again = model.terms(batch[rows], 2, of_rows(model, noise, rows))
        assert torch.allclose(told(again), told(terms)[:, rows], atol=1e-10)


@torch.no_grad()
def exact_evidence(model, batch, half_width: float = 11.0, step: float = 0.2) -> torch.Tensor:
    """log p(x | c) = log ∫ p(x | z, c) p(z | c) dz on a grid, or the sum over all codes, (B,): no posterior."""
    if model.coded:
        codes = itertools.product(range(model.codes), repeat=math.prod(model.grid))
        z, cell = torch.tensor(list(codes)).reshape(-1, 1, *model.grid), 1.0
    else:
        axis = torch.arange(-half_width, half_width, step, dtype=torch.float64)
        z, cell = torch.cartesian_prod(axis, axis).unsqueeze(1), step**2
    z = z.expand(-1, len(batch), *z.shape[2:])
    log_joint = model.decode(z, batch.context).log_prob(batch.x) + model.prior(batch.context).log_prob(z)
    return log_joint.logsumexp(0) + math.log(cell)


def widen(encoder) -> None:
    """Posteriors broader than any prior of the catalogue, so that importance weights have no heavy tail."""
    if isinstance(encoder, encoders.Code):
        return
    last = [m for m in encoder.network.modules() if isinstance(m, nn.Linear)][-1]
    full = getattr(encoder, "covariance", "diagonal") == "full"
    with torch.no_grad():
        if full:
            last.bias[[2, 4]] += 0.7  # log σ; of two dimensions the triangle is 11, 21, 22
        else:
            last.bias[D : 2 * D] += 1.4  # log σ²


@pytest.mark.parametrize("names", COVERING, ids="-".join)
def test_evidence_and_the_bounds_below_it(names):
    """Paired by datum: each bound less the evidence, within four standard errors of the bound's own mean."""
    model, batch = build(names).double().eval(), data(names, B)
    widen(model.encoder)
    exact = exact_evidence(model, batch)
    torch.manual_seed(0)
    with torch.no_grad():
        log_w = model.terms(batch, 2000).log_weight
    for bound in (log_w, log_w.unflatten(0, (-1, 10)).logsumexp(1) - math.log(10)):
        error = bound.std(0) / math.sqrt(len(bound))
        assert (bound.mean(0) - exact < 4 * error + 1e-4).all()
    evidence = log_evidence(model, batch, samples=2000, chunk=1000, seed=1)
    if model.coded:
        assert torch.allclose(evidence.value, exact, atol=1e-10)
        assert (evidence.stderr == 0).all()
        return
    sure = evidence.trusted & (evidence.ess > 50)
    assert sure.any()
    bias = evidence.stderr.square()
    assert ((evidence.value - exact).abs() < 4 * evidence.stderr + bias + 1e-4)[sure].all()


@pytest.mark.parametrize("names", COVERING, ids="-".join)
def test_objective(names):
    model, batch = build(names).double(), data(names, B)
    objective = build_objective(names, B).double()
    noise = noise_for(objective, model)
    assert_gradients(model, objective, batch, noise)
    model.eval()
    found = objective(model, batch, noise)
    assert found.per_datum.shape == (B,)
    assert torch.equal(found.per_datum, found.parts["loss"])
    assert all(part.shape == (B,) and part.isfinite().all() for part in found.parts.values())
    assert objective(model, batch).per_datum.isfinite().all(), "noise is drawn where none is given"
    order = torch.randperm(B, generator=torch.Generator().manual_seed(2))
    for rows in [order] if names.objective in OVER_THE_BATCH else [order, slice(2)]:
        again = objective(model, batch[rows], of_rows(model, noise, rows))
        assert torch.allclose(again.per_datum, found.per_datum[rows], atol=1e-10)

    # rows of weight 0 are no part of it, wherever they stand; nor has a batch of nothing else a gradient
    weight = torch.tensor([0.0] + [1.0] * B + [0.0], dtype=torch.float64)
    padded = replace(batch[[0, *range(B), 3]], weight=weight)
    more = noise_for(objective, model, B + 2) - 1
    of_rows(model, more, slice(1, -1)).copy_(noise)
    assert torch.allclose(objective(model, padded, more).per_datum[1:-1], found.per_datum, atol=1e-10)
    problem, nothing = Problem(model, objective), replace(batch, weight=torch.zeros_like(weight[:B]))
    gradients = torch.func.grad(lambda p: minimised(problem, p, nothing, noise))(trainable(problem))
    assert all((g == 0).all() for g in gradients.values())

    single = objective.float()(model.float(), batch.to(torch.float32), noise.float())
    assert single.per_datum.dtype == torch.float32
    assert torch.allclose(single.per_datum.double(), found.per_datum, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("names", COVERING, ids="-".join)
def test_context_is_respected(names):
    """What a part reads of row 0 changes row 0 alone, what none reads changes nothing; absent, it is asked for."""
    model, batch = build(names).double().eval(), data(names, B)
    read = set(DECODERS[names.decoder].reads)
    read |= {"condition"} if "conditional" in names.prior + names.encoder else set()
    noise = noise_for(ELBO(), model)
    before = told(model.terms(batch, noise=noise))
    for key, value in batch.context.items():
        other = value.clone()
        other[0] *= 1.5
        after = told(model.terms(Batch(batch.x, context={**batch.context, key: other}), noise=noise))
        assert torch.allclose(after[:, 1:], before[:, 1:], atol=1e-12)
        assert torch.allclose(after[:, 0], before[:, 0], rtol=1e-9) == (key not in read), key
    for key in read - {"exposure"}:  # which is 1 where none is given
        rest = {k: v for k, v in batch.context.items() if k != key}
        with pytest.raises(InputError, match=rf"no context\['{re.escape(key.partition('.')[0])}'\]"):
            model.terms(Batch(batch.x, context=rest))


@pytest.mark.parametrize("names", COVERING, ids="-".join)
def test_samples_and_files(names, tmp_path):
    model, batch = build(names).double().eval(), data(names, B)
    draw = model.sample(B, batch.context, seed=4)
    assert shapes(draw) == shapes(batch.x)
    assert shapes(model.reconstruct(batch.x, batch.context)) == shapes(batch.x)
    assert model.encode(batch.x, batch.context).mean.shape == (B, D, *(model.grid if model.coded else ()))
    model.check(Batch(draw, context=batch.context))  # of the declared support

    noise = noise_for(ELBO(samples=2), model)
    sv.save(model, tmp_path / "model.safetensors")
    loaded = sv.load(tmp_path / "model.safetensors")
    assert all(torch.equal(value, tensors(model)[name]) for name, value in tensors(loaded).items())
    # what a file gave lies elsewhere in memory, and a sum in another order differs in its last digit
    wanted, found = (m.terms(batch, 2, noise) for m in (model, loaded))
    assert torch.allclose(found.z, wanted.z, atol=1e-12)
    assert torch.allclose(found.log_weight, wanted.log_weight, atol=1e-12)
    for again, largest in ((model, 0.0), (loaded, 1e-12)):
        same = Batch(again.sample(B, batch.context, seed=4))
        for one, other in zip(Batch(draw).tensors().values(), same.tensors().values(), strict=True):
            assert torch.allclose(one, other, rtol=largest, atol=largest)


LISTED = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "parts.json").read_text())[
    "table"
]


def test_the_table_of_compiled_parts_lists_every_part():
    """``python -m benchmarks.parts`` measures what stands here."""
    listed = {(row["part"], row["name"]) for row in LISTED}
    assert listed == {(part, name) for part, catalogue in PARTS.items() for name in catalogue}
    for row in LISTED:
        for kind in ("compiled", "ensemble"):
            assert (row[kind] is None) == bool(row.get(f"{kind} refused")), "what is refused has its reason"


def trained(names: Names, compiled: bool) -> tuple[dict[str, torch.Tensor], bool]:
    """Model and objective after a few steps; and whether they were compiled."""
    model, objective = build(names), build_objective(names, B)
    chosen = TrainingSettings(epochs=2, batch_size=3, compile=compiled, device="cpu")
    history = fit(model, data(names, B).to(torch.float32), objective, settings=chosen, progress=False)
    return tensors(Problem(model, objective)), history.compiled


@pytest.mark.parametrize("names", FEW, ids="-".join)
def test_what_is_listed_as_compiled_compiles_and_equals_eager(names):
    wanted = set(names._asdict().items())
    refused = [row for row in LISTED if (row["part"], row["name"]) in wanted and not row["compiled"]]
    assert not refused, "test that it is refused by name, and falls back where compile='auto'"
    eager, _ = trained(names, False)
    torch._dynamo.reset()
    found, compiled = trained(names, True)
    assert compiled
    assert all(torch.allclose(found[name], eager[name], atol=1e-5) for name in eager)


@pytest.mark.parametrize("names", FEW, ids="-".join)
def test_an_ensemble_is_its_members(names):
    """With the ELBO where the objective has parameters, as those train one model.

    In double precision: where a gradient is 0, Adam makes a step of its rounding, in single as large as any.
    """
    objective, batch = build_objective(names, B), data(names, B)
    if any(True for _ in objective.parameters()):
        objective = ELBO()
    chosen = TrainingSettings(epochs=2, batch_size=3, compile=False, device="cpu")
    options = {"objective": objective, "valid": batch, "progress": False}
    members, _ = sv.fit_ensemble(
        lambda: build(names, seed=torch.initial_seed()).double(), batch, [3, 5], settings=chosen, **options
    )
    for seed, member in zip([3, 5], members, strict=True):
        single = build(names, seed=seed).double()
        fit(single, batch, settings=chosen.model_copy(update={"seed": seed}), **options)
        wanted, found = tensors(single), tensors(member)
        for name in wanted:
            assert torch.allclose(found[name], wanted[name], atol=1e-5), name


def net(out: int = N) -> Perceptron:
    return Perceptron(D, [5], out)


def model_of(**names: str) -> VAE:
    return build(Names(**names))


def gaussian_encoder(out: int = 2 * D, **options) -> encoders.Gaussian:
    return encoders.Gaussian(Perceptron(N, [5], out), D, **options)


def with_prior(prior, **names: str) -> VAE:
    """A model of the catalogue with a prior that is made of its encoder."""
    model = model_of(**names)
    return VAE(prior(model.encoder), model.encoder, model.decoder)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        # parts that don't go together: both are named
        (
            lambda: with_prior(lambda e: priors.StandardNormal(3)),
            "the prior has 3 latent dimensions and the encoder 2; build both with one dim",
        ),
        (
            lambda: with_prior(lambda e: priors.VampPrior(gaussian_encoder(), 2, [N])),
            "the VampPrior was built with another encoder than the model's",
        ),
        (
            lambda: with_prior(lambda e: priors.VampPrior(e, 2, [N]), encoder="conditional"),
            "a VampPrior of a conditional encoder needs condition_features",
        ),
        (
            lambda: with_prior(lambda e: priors.VampPrior(e, 2, [N], condition_features=C)),
            "a VampPrior .* of any other encoder has none",
        ),
        # parts and their networks
        (lambda: gaussian_encoder(5), "gives 5 numbers; a diagonal Gaussian .* needs 4"),
        (lambda: gaussian_encoder(4, covariance="full"), "gives 4 numbers; a full Gaussian .* needs 5"),
        (lambda: encoders.Flow(Perceptron(N, [], 4), D, 2), "gives 4 numbers; a flow .* features=2 needs 6"),
        (lambda: priors.ConditionalNormal(Perceptron(C, [], 3), D), "prior's network gives 3 .* needs 4"),
        (lambda: decoders.Gaussian(nn.Identity(), scale="learned"), "features="),
        (lambda: decoders.Joint({"a": build(Names(decoder="joint")).decoder}), "a Joint decoder itself"),
        # arguments
        (lambda: gaussian_encoder(covariance="round"), "'diagonal' or 'full'"),
        (lambda: decoders.Gaussian(net(), scale=-1.0), "scale above 0"),
        (lambda: decoders.Gaussian(net(), scale="learnt"), "not 'learnt'"),
        (lambda: decoders.Gaussian(net(), intrinsic="learned"), "needs scale='per-datum'"),
        (lambda: priors.GaussianMixture(2, 3, covariance="diag"), "'diagonal' or 'full'"),
        (lambda: priors.Flow(2, "couplings"), "did you mean 'coupling'"),
        (lambda: Perceptron(2, [3], 4, activation="rely"), "did you mean 'relu'"),
        (lambda: ELBO(free_bits=-1), "free_bits"),
        (lambda: ELBO(free_bits=0.1, capacity=2.0), "free_bits and capacity .* give one of them"),
        (lambda: ELBO(samples=0), "samples"),
        (lambda: IWAE(0), "samples"),
        (lambda: BetaTCVAE(0), "size is the number of training data, not 0"),
        (lambda: Property(net(1), kind="poisson"), "'gaussian' or 'categorical', not 'poisson'"),
        (lambda: as_schedule("0.1"), "schedule"),
        (lambda: ELBO(capacity="much"), "schedule"),
    ],
)
def test_what_does_not_fit_is_refused_when_built(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("prior", PRIORS)
def test_parts_of_one_family_go_together_and_of_two_are_refused(prior, encoder):
    if any(fits(Names(prior, encoder, objective=of.objective)) for of in (Names(), CODES)):
        build(Names(prior, encoder))
        return
    one = "prior" if encoder.startswith("codes") else r"(prior|encoder)"
    with pytest.raises(
        InputError, match=rf"the {one} \w+ is of (codes, and a VAE|continuous .*, and a VQVAE) has"
    ):
        build(Names(prior, encoder))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            Names(encoder="full", objective="BetaTCVAE"),
            "needs .* diagonal Gaussian, .* gives a FullNormal: use",
        ),
        (Names(encoder="flow coupling", objective="BetaTCVAE"), "gives a FlowNormal: use"),
        (Names(encoder="flow autoregressive", objective="BetaTCVAE"), "gives a FlowNormal: use"),
        (CODES._replace(objective="BetaTCVAE"), "gives a Codes: use"),
        (CODES._replace(objective="FactorVAE"), "FactorVAE .* codes have none: take VQ"),
        (
            CODES._replace(objective="IWAE, doubly reparameterised"),
            "from_noise and detach, .* gives a Codes: use",
        ),
        (Names(objective="VQ"), "VQ trains a VQVAE, and this is a VAE"),
        (
            CODES._replace(prior="PixelCNN", decoder="tokens, recurrent"),
            r"stand on a grid \(2, 2\): encode to one",
        ),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused_when_called(names, message):
    assert not fits(names)
    with pytest.raises(InputError, match=message):
        build_objective(names, B)(build(names), data(names, B).to(torch.float32))


@pytest.mark.parametrize("encoder", [name for name in ENCODERS if fits(Names("Vamp", name))])
def test_pseudo_inputs_of_several_fields_are_refused(encoder):
    names = Names("Vamp", encoder, "joint")
    assert not fits(names)
    with pytest.raises(InputError, match=r"networks\.Fields takes the named fields flux, .* is one tensor"):
        build(names).terms(data(names, B).to(torch.float32))


@pytest.mark.parametrize("objective", ["ELBO, property", "FactorVAE"])
def test_an_ensemble_of_an_objective_with_parameters_is_refused(objective):
    names = Names(objective=objective)
    with pytest.raises(InputError, match="an objective that has parameters: fit its members singly"):
        sv.fit_ensemble(lambda: build(names), data(names, B), [0, 1], build_objective(names, B))


def test_a_property_without_a_target_is_refused():
    names = Names(objective="ELBO, property")
    batch = data(names, B).to(torch.float32)
    with pytest.raises(InputError, match="trained on the batch's target, and there is none: give it"):
        build_objective(names, B)(build(names), Batch(batch.x, context=batch.context))


@pytest.mark.parametrize(
    ("described", "given"),
    [("joint", "gaussian"), ("gaussian", "joint")],
)
def test_named_fields_against_one_tensor_are_refused(described, given):
    """By the encoder's network, and where that takes them by the decoder."""
    model, batch = model_of(decoder=described), data(Names(decoder=given), B).to(torch.float32)
    with pytest.raises(InputError, match=r"networks\.Fields"):
        model.check(batch)
    model.encoder = model_of(decoder=given).encoder
    with pytest.raises(InputError, match=r"one tensor.*named fields|named fields.*one tensor"):
        model.check(Batch(batch.x, context=data(Names(decoder=described), B).to(torch.float32).context))


@pytest.mark.parametrize(
    ("decoder", "x", "noise", "message"),
    [
        ("bernoulli", [0.0, 0.5, 1.0], None, "takes 0 and 1; the data hold 0.5"),
        ("bernoulli", [0, 3, 1], None, "hold 3: .*Poisson for counts"),
        ("categorical", [0, 3, 1], None, "the categories 0 … 2; the data hold 3: number the categories"),
        ("poisson", [0.0, 0.5, 1.0], None, "counts, whole numbers ≥ 0; the data hold 0.5: give the counts"),
        ("poisson", [0, -2, 1], None, "hold -2"),
        ("mixture of logistics", [0.0, 0.5, 1.0], None, "8 levels are 0, 1/7, …, 1; the data hold 0.5"),
        ("von mises", [0.0, 4.0, 0.0], None, r"within \(−π, π\]; the data hold 4"),
        ("gaussian", [0.0, math.inf, 0.0], None, "infinities"),
        ("student t", [0.0, math.inf, 0.0], None, "infinities; a Student-t"),
        ("noise", [0.0, 1.0, 2.0], [0.1, 0.0, 0.1], "is 0.0 at row 0, variable \\[1\\]"),
        ("noise", [0.0, 1.0, 2.0], [0.1, -0.2, 0.1], "known error of an observed value"),
        ("noise and scatter", [0.0, 1.0, 2.0], [0.1, math.nan, 0.1], "known error of an observed value"),
        ("noise", [0.0, 1.0, 2.0], [0.1, math.inf, 0.1], "known error of an observed value"),
        ("gaussian", [0.0, math.nan, 0.0], None, "1 of 1 rows of x have missing"),
        ("categorical", [0, -1, 0], None, "1 of 1 rows of x have missing"),
    ],
)
def test_data_outside_the_support_are_refused(decoder, x, noise, message):
    context = {} if noise is None else {"noise": torch.tensor([noise])}
    with pytest.raises(InputError, match=message):
        model_of(decoder=decoder).check(Batch(torch.tensor([x]), context=context))


def test_missing_noise_and_a_wrong_shape_are_refused():
    model = model_of(decoder="noise")
    with pytest.raises(InputError, match="no context\\['noise'\\]"):
        model.terms(Batch(torch.zeros(2, N)))
    with pytest.raises(InputError, match="has shape"):
        model.terms(Batch(torch.zeros(2, N), context={"noise": torch.ones(2)}))
    with pytest.raises(InputError, match="describes x of shape"):
        VAE(
            priors.StandardNormal(D), encoders.Gaussian(Perceptron(5, [], 4), 2), decoders.Gaussian(net())
        ).check(Batch(torch.zeros(2, 5)))
    with pytest.raises(InputError, match="3 dimensions; this model has 2"):
        model.decode(torch.zeros(4, 3))


def test_known_noise_adds_to_the_learned_scatter():
    model = model_of(decoder="noise and scatter")
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
    model, batch = model_of(), data(Names(), B).to(torch.float32)
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
    model, batch = model_of(), data(Names(), B).to(torch.float32)
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
    model = model_of(encoder="missing", decoder="bernoulli")
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

    model = VAE(priors.StandardNormal(D), encoders.Gaussian(Joined(), D), Decoder(net()))
    assert {k: tuple(v.shape) for k, v in model.sample(4).items()} == {"a": (4, 2), "b": (4, 1)}
    x = {"a": torch.zeros(5, 2), "b": torch.zeros(5, 1)}
    assert {k: tuple(v.shape) for k, v in model.reconstruct(x).items()} == {"a": (5, 2), "b": (5, 1)}


def test_an_unknown_error_of_an_observed_value_is_no_density():
    """Where ``check`` was not asked, as for a single batch: NaN, not a made-up σ."""
    nan = math.nan
    model = model_of(encoder="missing", decoder="noise")
    x = torch.tensor([[0.1, 0.2, 0.3], [0.1, nan, 0.3]])
    noise = torch.tensor([[0.1, nan, 0.1], [0.1, nan, 0.1]])
    batch = Batch(x, context={"noise": noise})
    assert model.terms(batch).log_px[0].isnan().tolist() == [True, False]
    with pytest.raises(InputError, match="is nan at row 0"):
        log_evidence(model, batch, samples=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({(0, 1): math.nan, (1, 0): math.nan}, r"is nan at row 0, variables \[0, 1\]"),
        ({(0, 1): 2.0, (1, 0): 2.0}, "of row 0 is no covariance: its lowest eigenvalue, -1"),
    ],
)
def test_what_is_no_covariance_is_refused(change, message):
    model = model_of(encoder="missing", decoder="covariance")
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
