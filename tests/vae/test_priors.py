"""What each prior does alone; the contract of all parts together is in ``test_parts.py``."""

import json
import math

import pytest
import torch
from torch import nn

from sciencevae.batch import Batch
from sciencevae.distributions import DiagonalNormal
from sciencevae.errors import InputError
from sciencevae.networks import Perceptron
from sciencevae.spec import describe, rebuild
from sciencevae.training.loop import fit
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.files import load, save
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Loss

D, N, B, C = 2, 3, 6, 2

ENCODERS = {
    "diagonal": lambda: encoders.Gaussian(Perceptron(N, [5], 2 * D), D),
    "full": lambda: encoders.Gaussian(Perceptron(N, [5], D + 3), D, covariance="full"),
    "flow": lambda: encoders.Flow(Perceptron(N, [5], 2 * D + 2), D, 2, hidden=(4,), bins=3),
    "iaf": lambda: encoders.Flow(Perceptron(N, [5], 2 * D + 2), D, 2, "autoregressive", hidden=(4,), bins=3),
    "conditional": lambda: encoders.Gaussian(
        Perceptron(N, [5], 2 * D, condition_features=C), D, conditional=True
    ),
}
PRIORS = {
    "standard": lambda e: priors.StandardNormal(D),
    "conditional normal": lambda e: priors.ConditionalNormal(Perceptron(C, [4], 2 * D), D),
    "mixture": lambda e: priors.GaussianMixture(D, 3),
    "full mixture": lambda e: priors.GaussianMixture(D, 2, covariance="full"),
    "vamp": lambda e: priors.VampPrior(e, 4, [N], condition_features=C if e.conditional else 0),
    "vamp in a range": lambda e: priors.VampPrior(
        e, 2, [N], -3.0, 3.0, "uniform", condition_features=C if e.conditional else 0
    ),
    "autoregressive flow": lambda e: priors.Flow(D, transforms=2, hidden=(4,), bins=3),
    "coupling flow": lambda e: priors.Flow(D, "coupling", transforms=2, hidden=(4,), bins=3),
    "affine flow": lambda e: priors.Flow(D, transforms=2, hidden=(4,), bins=0),
}


def build(prior: str, encoder: str) -> VAE:
    torch.manual_seed(1)
    part = ENCODERS[encoder]()
    return VAE(PRIORS[prior](part), part, decoders.Gaussian(Perceptron(D, [5], N), scale="learned"))


def a_batch(dtype=torch.float64) -> Batch:
    x, condition = torch.randn(2, B, N, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return Batch(x, context={"condition": condition[:, :C]}).to(dtype)


@pytest.mark.parametrize("encoder", ["diagonal", "conditional", "iaf"])
@pytest.mark.parametrize("prior", ["vamp in a range", "affine flow"])
def test_variant(prior, encoder, tmp_path):
    """Ways of building a prior that the catalogue of the contract (``test_parts.py``) does not have."""
    model, batch = build(prior, encoder).double(), a_batch()
    noise = torch.randn(4, B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    terms = model.terms(batch, noise=noise)
    terms.log_weight.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors").terms(batch, noise=noise)
    assert torch.equal(again.log_weight, terms.log_weight)


# ---- conditional normal --------------------------------------------------------------------------------


def test_the_conditional_normal_depends_on_the_condition_and_its_kl_is_torchs():
    model, batch = build("conditional normal", "conditional"), a_batch(torch.float32)
    terms, prior = model.terms(batch), model.prior(batch.context)
    wanted = torch.distributions.kl_divergence(terms.posterior.base_dist, prior.base_dist)
    assert torch.allclose(terms.kl_by_dim, wanted, atol=1e-6)
    other = model.prior({"condition": batch.context["condition"] + 1})
    assert not torch.allclose(other.loc, prior.loc)
    for context in (None, {}):
        with pytest.raises(InputError, match=r"no context\['condition'\]"):
            model.prior(context)
    with pytest.raises(InputError, match=r"gives 5 numbers; .*needs 4"):
        priors.ConditionalNormal(Perceptron(C, [], 5), D)
    with pytest.raises(InputError, match=r"expected \(B, 4\)"):  # of a network that does not tell its width
        priors.ConditionalNormal(nn.Sequential(nn.Linear(C, 5)), D)({"condition": torch.zeros(1, C)})


# ---- VampPrior -----------------------------------------------------------------------------------------


def test_the_vamp_prior_is_the_mixture_of_the_posteriors_of_its_pseudo_inputs():
    model = build("vamp", "full").double()
    with torch.no_grad():
        model.prior.logits.copy_(torch.tensor([0.5, -1.0, 0.0, 2.0]))
    z = torch.randn(7, D, dtype=torch.float64)
    weights = model.prior.logits.softmax(0)
    by_hand = sum(
        w * model.encoder(u[None]).log_prob(z).exp()
        for w, u in zip(weights, model.prior.pseudo_inputs, strict=True)
    )
    assert torch.allclose(model.prior().log_prob(z).exp(), by_hand)


def test_the_encoder_stays_shared_in_files_and_copies(tmp_path):
    import copy

    model = build("vamp", "diagonal")
    assert model.prior.encoder is model.encoder
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len(set(names))
    assert not any("prior.encoder" in name for name in names)
    save(model, tmp_path / "model.safetensors")
    for other in (
        load(tmp_path / "model.safetensors"),
        rebuild(json.loads(json.dumps(describe(model)))),
        copy.deepcopy(model),
    ):
        assert other.prior.encoder is other.encoder
        assert other.encoder is not model.encoder
        assert not [p for p in other.parameters() for q in model.parameters() if p is q]


def test_a_vamp_prior_of_another_encoder_is_refused():
    model = build("vamp", "diagonal")
    stranger = priors.VampPrior(ENCODERS["diagonal"](), 4, [N])
    with pytest.raises(InputError, match="another encoder than the model's"):
        VAE(stranger, model.encoder, model.decoder)
    model.prior = stranger
    with pytest.raises(InputError, match="another encoder than the model's"):
        fit(model, a_batch(torch.float32), settings=TrainingSettings(batch_size=3), progress=False)


def test_a_vamp_prior_resumes_from_a_checkpoint(tmp_path):
    batch, found = a_batch(torch.float32), []
    chosen = TrainingSettings(
        epochs=6, batch_size=3, compile=False, device="cpu", threads=1, checkpoint_seconds=0
    )

    class Killed(Exception):
        pass

    def kill(epoch, step, parts):
        if epoch == 3:
            raise Killed

    for interrupted in (False, True):
        model = build("vamp", "diagonal")
        if interrupted:
            from sciencevae.training import loop

            old, loop.STEPS_BETWEEN_READINGS = loop.STEPS_BETWEEN_READINGS, 1
            try:
                with pytest.raises(Killed):
                    fit(model, batch, settings=chosen, run=tmp_path, progress=kill)
            finally:
                loop.STEPS_BETWEEN_READINGS = old
            assert (tmp_path / "checkpoint.safetensors").exists()
            model = build("vamp", "diagonal")
        fit(model, batch, settings=chosen, run=tmp_path if interrupted else None, progress=False)
        found.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    assert torch.equal(*found)


def test_pseudo_inputs_begin_at_data_and_stay_in_their_range():
    encoder = ENCODERS["diagonal"]()
    x = torch.rand(50, N, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    prior = priors.VampPrior(encoder, 5, [N]).initialise(x)
    assert all((x == u).all(1).any() for u in prior.pseudo_inputs)
    assert not torch.equal(
        prior.pseudo_inputs, priors.VampPrior(encoder, 5, [N]).initialise(x, seed=1).pseudo_inputs
    )
    prior = priors.VampPrior(encoder, 5, [N], low=0.0, high=1.0).initialise(x)
    near = (x[None] - prior.pseudo_inputs[:, None]).abs().amax(-1).amin(1)
    assert near.max() < 0.0101, "a grey value of 0 or 1 is brought 0.01 inside"
    with torch.no_grad():
        prior.pseudo.mul_(100)
    assert ((prior.pseudo_inputs >= 0) & (prior.pseudo_inputs <= 1)).all()
    x[:, 0] = math.nan
    for range_, blank in (({}, 0.0), ({"low": 0.0, "high": 1.0}, 0.5)):
        prior = priors.VampPrior(encoder, 5, [N], **range_).initialise(x)
        assert torch.allclose(prior.pseudo_inputs[:, 0], torch.tensor(blank))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda e: priors.VampPrior(e, 0, [N]), "components ≥ 1"),
        (lambda e: priors.VampPrior(e, 2, [N], low=0.0), "both low and high"),
        (lambda e: priors.VampPrior(e, 2, [N], 1.0, 0.0), "needs low < high"),
        (lambda e: priors.VampPrior(e, 2, [N], weights="fixed"), "'learned' or 'uniform'"),
        (lambda e: priors.VampPrior(e, 2, [N], condition_features=2), "condition_features"),
        (lambda e: priors.VampPrior(ENCODERS["conditional"](), 2, [N]), "needs condition_features"),
        (lambda e: priors.VampPrior(e, 2, [N]).initialise(torch.zeros(9, 4)), "can't be taken"),
        (lambda e: priors.VampPrior(e, 2, [N]).initialise(torch.zeros(1, N)), "N ≥ 2"),
        (lambda e: priors.VampPrior(e, 2, [N]).initialise(torch.zeros(3, N), torch.zeros(3, 1)), "condition"),
    ],
)
def test_what_a_vamp_prior_refuses(make, message):
    with pytest.raises(InputError, match=message):
        make(ENCODERS["diagonal"]())


# ---- a posterior that no Gaussian is --------------------------------------------------------------------


class Ring(decoders.Decoder):
    """x ~ N(|z|, 0.2²): the true posterior of x = 1.5 is a ring."""

    def __init__(self) -> None:
        super().__init__(nn.Identity())

    def forward(self, z, context=None):
        return DiagonalNormal((z.square().sum(-1, keepdim=True) + 1e-6).sqrt(), z.new_full((1,), 0.2))


@pytest.mark.parametrize("kind", ["coupling", "autoregressive"])
def test_a_flow_posterior_comes_nearer_to_a_ring_than_a_gaussian(kind):
    x = torch.full((64, 1), 1.5)
    axis = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    log_joint = Ring()(z).log_prob(x[:1].double()) + priors.StandardNormal(2).double()().log_prob(z)
    log_p = (log_joint.logsumexp(0) + 2 * math.log(0.01)).item()
    gaps = []
    for flow in (False, True):
        torch.manual_seed(0)
        if flow:
            network = Perceptron(1, [4], 4)
            encoder = encoders.Flow(network, 2, 0, kind, transforms=4, hidden=(16, 16))
        else:
            encoder = encoders.Gaussian(Perceptron(1, [4], 5), 2, covariance="full")
        model = VAE(priors.StandardNormal(2), encoder, Ring())
        chosen = TrainingSettings(
            epochs=400, batch_size=64, learning_rate=1e-2, schedule="cosine", compile=False, device="cpu"
        )
        fit(model, x, objective=ELBO(samples=4), settings=chosen, progress=False)
        torch.manual_seed(1)
        with torch.no_grad():
            gaps.append(log_p - model.terms(Batch(x), 200).log_weight.mean().item())
    assert gaps[1] > -0.02, "no bound lies above the evidence"
    assert gaps[1] < 0.6 * gaps[0]


def test_a_posterior_held_fixed_compiles():
    class Path(ELBO):
        """The bound whose gradient comes through the draws alone."""

        def forward(self, model, batch, noise=None, scalars=None):
            loss = -model.terms(batch, 1, noise, detach_posterior=True).log_weight.mean(0)
            return Loss(loss, {"loss": loss})

    found = []
    for compiled in (False, True):
        model = build("standard", "flow")
        chosen = TrainingSettings(epochs=3, batch_size=3, compile=compiled, device="cpu")
        fit(model, a_batch(torch.float32), Path(), settings=chosen, progress=False)
        found.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    assert torch.allclose(*found, atol=1e-5)


# ---- conditional normal --------------------------------------------------------------------------------
