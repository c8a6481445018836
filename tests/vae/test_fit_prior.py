"""A prior exchanged on a trained model: it fits, nothing else changes, and an error leaves the model as it was."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

from sciencevae.batch import Batch
from sciencevae.config import RefitSettings
from sciencevae.data.augment import Augmented
from sciencevae.data.batches import InMemory
from sciencevae.errors import InputError, RunError
from sciencevae.networks import Perceptron
from sciencevae.training.loop import fit
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae import fit_prior as module
from sciencevae.vae.fit_prior import fit_prior, refit_prior
from sciencevae.vae.model import VAE, Terms

CENTRES = torch.tensor([[-2.0, 0, 1], [2, 1, 0], [0, -2, 2]])
SETTINGS = TrainingSettings(epochs=15, batch_size=100, learning_rate=5e-3, compile=False, device="cpu")
#: where it does not matter how well a prior fits
SHORT = SETTINGS.model_copy(update={"epochs": 3})


def clusters(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 3, (n,), generator=generator)
    return CENTRES[label] + 0.3 * torch.randn(n, 3, generator=generator), label


X, LABEL = clusters(1000)
HELD = clusters(500, seed=1)[0]


class Batchy(nn.Module):
    """A network with what training moves and draws: running statistics and dropout."""

    out_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))

    def forward(self, x):
        return self.layers(x)


POSTERIORS = {
    "diagonal": lambda: encoders.Gaussian(Perceptron(3, [16], 4), 2),
    "full": lambda: encoders.Gaussian(Perceptron(3, [16], 5), 2, covariance="full"),
    "flow": lambda: encoders.Flow(Perceptron(3, [16], 4), 2, hidden=(8,), bins=4),
    "batchy": lambda: encoders.Gaussian(Batchy(), 2),
}


@functools.cache
def trained_once(posterior: str) -> VAE:
    torch.manual_seed(0)
    encoder = POSTERIORS[posterior]()
    decoder = decoders.Gaussian(Perceptron(2, [16], 3), scale=0.3)
    model = VAE(priors.StandardNormal(2), encoder, decoder)
    fit(model, X, settings=SETTINGS, progress=False)
    return model


def trained(posterior: str = "diagonal") -> VAE:
    """A copy, and the same random numbers behind it."""
    model = copy.deepcopy(trained_once(posterior))
    torch.manual_seed(0)
    return model


def elbo(model: VAE, x: torch.Tensor = HELD) -> float:
    noise = torch.randn(20, len(x), 2, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return model.terms(Batch(x), noise=noise).log_weight.mean().item()


@torch.no_grad()
def held_out(model: VAE) -> Terms:
    """On the draws by which ``fit_prior`` judges, whatever the prior."""
    noise = torch.randn(1, len(HELD), 2, generator=torch.Generator().manual_seed(1))
    return model.terms(Batch(HELD), noise=noise)


def weights(*parts: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for part in parts for p in part.parameters()])


KINDS = {
    "mixture": lambda model: priors.GaussianMixture(2, 3, "full"),
    "autoregressive": lambda model: priors.Flow(2, transforms=2, hidden=(16,)),
    "coupling": lambda model: priors.Flow(2, "coupling", transforms=4, hidden=(16,)),
    "vamp": lambda model: priors.VampPrior(model.encoder, 8, [3]).initialise(X),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("posterior", ["diagonal", "full", "flow"])
def test_the_held_out_bound_rises_and_nothing_else_changes(kind, posterior):
    model = trained(posterior)
    model.eval()
    others, before = weights(model.encoder, model.decoder), elbo(model)
    prior = KINDS[kind](model)
    history = fit_prior(model, X, prior, valid=HELD, settings=SETTINGS, progress=False)
    assert model.prior is prior
    assert torch.equal(weights(model.encoder, model.decoder), others)
    assert all(p.requires_grad for p in model.parameters())
    assert not model.training
    assert elbo(model) > before + 0.5
    # the history has the held-out −E log p(z)
    assert history.best_loss == pytest.approx(-held_out(model).log_pz.mean().item(), abs=1e-5), (
        "on the same draws whatever the kind"
    )
    assert min(row["valid_loss"] for row in history.rows) == history.best_loss
    assert math.isfinite(history.rows[-1]["train_loss"])


def test_kinds_are_compared_on_what_the_best_possible_prior_reaches():
    """For a mixture of three normals, N(0, 1)'s cross-entropy is beaten by one and a mixture's is the lowest."""
    model = trained()
    found = {}
    for components in (1, 3):
        prior = priors.GaussianMixture(2, components, "full")
        found[components] = fit_prior(model, X, prior, valid=HELD, progress=False).best_loss
    from sklearn.mixture import GaussianMixture

    with torch.no_grad():
        z = model.encode(X).sample()
    wanted = -GaussianMixture(3, n_init=4, random_state=0).fit(z.numpy()).score(held_out(model).z[0].numpy())
    assert found[3] == pytest.approx(wanted, abs=0.05)
    assert found[3] < found[1] - 0.3


@pytest.mark.parametrize(("rows", "components", "kept"), [(1000, 3, "new"), (6, 10, "old")])
def test_a_run_keeps_the_prior_of_training_where_the_fitted_one_is_no_better(rows, components, kept):
    """A full covariance on six latents fits those alone: held-out latents tell."""
    model = trained()
    old = model.prior
    before = -held_out(model).log_pz.mean().item()
    settings = RefitSettings(components=components, covariance="full", training=SHORT)
    history = refit_prior("mixture", settings, model, X[:rows], HELD, seed=0)
    assert history.rows[0]["valid_loss"] == pytest.approx(before, abs=1e-5)
    assert history.rows[1]["train_loss"] < before - 0.3, "of the data that it was fitted to"
    assert history.best_loss == pytest.approx(-held_out(model).log_pz.mean().item(), abs=1e-5)
    if kept == "new":
        assert isinstance(model.prior, priors.GaussianMixture)
        assert history.best_epoch == 1
        assert history.best_loss == history.rows[1]["valid_loss"] < before
    else:
        assert model.prior is old
        assert history.best_epoch == 0
        assert history.best_loss == history.rows[0]["valid_loss"] < history.rows[1]["valid_loss"]


@pytest.mark.parametrize(
    ("rows", "covariance", "components"),
    [(110, "full", 5), (110, "diagonal", 11), (2, "full", 1), (1000, "full", 50)],
)
def test_a_run_s_mixture_has_no_more_components_than_latents_can_tell(rows, covariance, components):
    """In two dimensions a full covariance takes twenty latents, a diagonal one ten."""
    settings = RefitSettings(components=50, covariance=covariance, training=SHORT)
    fitted = module._mixture(2, settings, rows)
    assert (fitted.components, fitted.covariance) == (components, covariance)


def test_vade_a_fitted_mixture_goes_on_jointly():
    """Pretrain, fit the mixture, train jointly: the bound rises further, and the clusters are found."""
    model = trained()
    fit_prior(model, X, priors.GaussianMixture(2, 3, "full"), progress=False)
    fitted = elbo(model)
    fit(model, X, settings=SETTINGS, progress=False)
    assert elbo(model) > fitted + 0.05
    with torch.no_grad():
        found = model.prior.responsibilities(model.encode(X).mean).argmax(-1)
    from sklearn.metrics import adjusted_rand_score

    assert adjusted_rand_score(LABEL.numpy(), found.numpy()) > 0.98


def test_streamed_equals_encoded_once(monkeypatch):
    found = []
    for memory in (2 << 30, 0):
        monkeypatch.setattr(module, "MEMORY", memory)
        model = trained()
        torch.manual_seed(1)
        fit_prior(model, X, KINDS["coupling"](model), valid=HELD, settings=SHORT, progress=False)
        found.append(weights(model.prior))
    assert torch.allclose(*found, atol=1e-4)


def test_data_seen_anew_at_every_pass_are_encoded_anew():
    def jitter(batch: Batch, generator: torch.Generator) -> Batch:
        return Batch(batch.x + 0.1 * torch.randn(batch.x.shape, generator=generator), weight=batch.weight)

    model = trained()
    calls = []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    history = fit_prior(model, Augmented(InMemory(X), jitter), KINDS["coupling"](model), settings=SHORT)
    assert len(calls) > SHORT.epochs * 10
    assert history.steps == SHORT.epochs * 10


def test_a_conditional_prior_gets_its_condition():
    condition = nn.functional.one_hot(LABEL, 3).float()
    model = trained()
    prior = priors.ConditionalNormal(Perceptron(3, [], 4), 2)
    data = Batch(X, context={"condition": condition})
    slow = TrainingSettings(epochs=60, batch_size=100, learning_rate=3e-2, schedule="cosine", device="cpu")
    fit_prior(model, data, prior, settings=slow, progress=False)
    with torch.no_grad():
        z = model.encode(X).sample()
        p = model.prior({"condition": torch.eye(3)})
    for k in range(3):  # each condition's own mean and spread, which are the maximum-likelihood estimate
        assert torch.allclose(p.loc[k], z[k == LABEL].mean(0), atol=0.1)
        assert torch.allclose(p.scale[k], z[k == LABEL].std(0), rtol=0.15)


def test_no_seed_of_a_measurement_draws_what_the_mixture_was_fitted_to():
    encoder = encoders.Gaussian(Perceptron(3, [4], 12), 6)
    for parameter in encoder.parameters():
        nn.init.zeros_(parameter)  # q(z | x) = N(0, 1): the noise is all there is of z
    model = VAE(priors.StandardNormal(6), encoder, decoders.Gaussian(Perceptron(6, [4], 3)))
    x = X[:200]
    fit_prior(model, Batch(x), priors.GaussianMixture(6, 15, "full"), seed=0)  # far too many components
    for seed in range(3):
        torch.manual_seed(seed)
        with torch.no_grad():
            kl = model.terms(Batch(x)).divergence
        assert kl.mean() > 4 * kl.std() / len(x) ** 0.5, f"seed {seed} sees the draws of the fit"


def test_weights_count():
    model = trained()
    weight = (LABEL == 0).float() + 1e-9
    for prior in (priors.GaussianMixture(2, 1), priors.Flow(2, bins=0, transforms=1, hidden=(4,))):
        data = Batch(X, weight=weight)
        fit_prior(model, data, prior, settings=SETTINGS.model_copy(update={"epochs": 60}), progress=False)
        torch.manual_seed(0)
        with torch.no_grad():
            centre = model.encode(X[LABEL == 0]).mean.mean(0)
            assert (prior().sample((4000,)).mean(0) - centre).abs().max() < 0.15


@pytest.mark.parametrize("kind", ["vamp", "coupling", "mixture"])
def test_running_statistics_stay_and_nothing_is_dropped(kind, monkeypatch):
    model = trained("batchy")
    buffers = {name: b.clone() for name, b in model.encoder.named_buffers()}
    for memory in (2 << 30, 0):
        monkeypatch.setattr(module, "MEMORY", memory)
        model.train()
        fit_prior(model, X, KINDS[kind](model), settings=SHORT, progress=False)
        assert model.training, "as it was before"
        assert all(torch.equal(b, buffers[name]) for name, b in model.encoder.named_buffers())


def test_the_prior_it_has_is_refitted_and_double_precision_is_kept():
    model = trained().double()
    x = X.double()
    fit_prior(model, x, KINDS["coupling"](model), settings=SHORT, progress=False)
    prior, before = model.prior, weights(model.prior)
    assert before.dtype == torch.float64
    fit_prior(model, x, settings=SHORT, progress=False)
    assert model.prior is prior
    assert not torch.equal(weights(prior), before)


class Broken(priors.Prior):
    def __init__(self) -> None:
        super().__init__()
        self.dim, self.shift = 2, nn.Parameter(torch.zeros(2))

    def forward(self, context=None):
        return torch.distributions.Independent(torch.distributions.Normal(self.shift, math.nan, False), 1)


@pytest.mark.parametrize(
    ("prior", "error", "message"),
    [
        (lambda: priors.StandardNormal(2), InputError, "no parameters of its own"),
        (lambda: priors.Flow(3), InputError, "prior has 3 latent dimensions and the model 2"),
        (
            lambda: priors.VampPrior(encoders.Gaussian(Perceptron(3, [16], 4), 2), 3, [3]),
            InputError,
            "another encoder than the model's",
        ),
        (lambda: priors.GaussianMixture(2, 2000), InputError, "2000 components needs more"),
        (Broken, RunError, "no longer finite"),
    ],
)
def test_after_an_error_the_model_is_as_it_was(prior, error, message):
    model = trained()
    old = model.prior
    model.decoder.network.layers[0].weight.requires_grad_(False)
    flags = [p.requires_grad for part in (model.encoder, model.decoder) for p in part.parameters()]
    with pytest.raises(error, match=message):
        fit_prior(model, X, prior(), settings=SETTINGS, progress=False)
    assert model.prior is old
    assert [p.requires_grad for part in (model.encoder, model.decoder) for p in part.parameters()] == flags


def test_data_that_do_not_fit_are_named():
    model = trained()
    bad = X.clone()
    bad[3, 1] = np.nan
    for kind in ("mixture", "coupling"):
        with pytest.raises(InputError, match="1 of 1000 rows of x have missing"):
            fit_prior(model, bad, KINDS[kind](model), settings=SETTINGS, progress=False)
