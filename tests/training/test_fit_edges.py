"""What went wrong at the edges of training once, and does not again."""

import math

import pytest
import torch
import torch.distributions as td
import xarray as xr
from torch import nn
from torch.nn.utils import parametrizations

from sciencevae.batch import Batch
from sciencevae.data.store import write
from sciencevae.errors import InputError, RunError
from sciencevae.networks import Perceptron
from sciencevae.training.ensemble import fit_ensemble
from sciencevae.training.loop import fit
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.evidence import log_evidence
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, IWAE


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(**({"epochs": 4, "batch_size": 8, "compile": False, "device": "cpu"} | changes))


def data(rows: int = 80) -> torch.Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(0))


def build(network: nn.Module | None = None) -> VAE:
    torch.manual_seed(0)
    return VAE(
        priors.StandardNormal(2),
        encoders.Gaussian(network or Perceptron(4, [8], 4), 2),
        decoders.Gaussian(Perceptron(2, [8], 4), scale="learned"),
    )


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


class Stop(Exception):
    pass


def stopped(model: VAE, x: torch.Tensor, run, step: int, **changes) -> None:
    """A training that dies at a reading of the loss."""

    def die(epoch, now, parts):
        if now >= step:
            raise Stop

    with pytest.raises(Stop):
        fit(model, x, settings=settings(checkpoint_seconds=0, **changes), run=run, progress=die)


def spectral() -> nn.Module:
    """A network with a buffer that steps change and that is no running statistic."""
    torch.manual_seed(5)
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(4, 8)), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 4)
    )


@pytest.mark.parametrize("network", [lambda: None, spectral])
@pytest.mark.parametrize("every", [10, 5])
def test_a_checkpoint_of_an_epochs_last_step_is_resumed(tmp_path, monkeypatch, network, every):
    monkeypatch.setattr("sciencevae.training.loop.STEPS_BETWEEN_READINGS", every)
    x, whole, model = data(), build(network()), build(network())
    fit(whole, x, settings=settings(), progress=False)
    stopped(build(network()), x, tmp_path, 20)
    fit(model, x, settings=settings(), run=tmp_path, progress=False)
    assert torch.equal(weights(model), weights(whole))


def test_validation_data_that_do_not_fit_or_give_no_number_are_refused():
    valid = data(20)
    valid[3, 1] = math.nan
    with pytest.raises(InputError, match="missing=True"):
        fit(build(), data(), valid=valid, settings=settings(), progress=False)
    model = build()
    before = weights(model).clone()
    with pytest.raises(RunError, match="validation loss is not finite after epoch 1"):
        fit(model, data(), valid=data(20) * 1e30, settings=settings(), progress=False)
    assert torch.equal(weights(model), before)


def test_a_batch_of_which_no_row_counts_changes_nothing():
    x = data(17)
    weight = torch.ones(17)
    weight[[0, 5]] = 0.0
    history = fit(build(), Batch(x, weight=weight), settings=settings(batch_size=1, epochs=2), progress=False)
    assert math.isfinite(history.rows[-1]["train_loss"])
    valid = Batch(data(2049), weight=torch.cat([torch.ones(2048), torch.zeros(1)]))
    history = fit(build(), x, valid=valid, settings=settings(epochs=1), progress=False)
    assert math.isfinite(history.rows[-1]["valid_loss"])


def test_the_loss_told_is_the_mean_over_the_data():
    """A last batch of one row counts as one row, not as a batch."""
    x = data(129)
    x[:] = torch.linspace(-3, 3, 129)[:, None]
    chosen = settings(epochs=1, batch_size=128, learning_rate=1e-30)
    whole = fit(build(), x, valid=x, settings=chosen, progress=False).rows[0]
    assert whole["train_loss"] == pytest.approx(whole["valid_loss"], abs=0.5)


def test_the_best_weights_come_with_their_own_statistics():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    model = build(network)
    chosen = settings(epochs=30, learning_rate=0.1, batch_size=16)
    valid = data(40) + 0.5
    history = fit(model, data(), valid=valid, settings=chosen, progress=False)
    assert history.best_epoch < 30
    again = fit(
        model,
        data(),
        valid=valid,
        settings=settings(epochs=1, learning_rate=1e-30, batch_size=80),
        progress=False,
    )
    assert again.rows[0]["valid_loss"] == pytest.approx(history.best_loss, rel=0.05)


def test_a_short_last_batch_leaves_a_normalisation_as_good():
    """Its rows, repeated to the size of a batch, would have next to no variance."""
    x = data(129) * 3 + 1
    normalisation = nn.BatchNorm1d(4, momentum=None)  # the mean over all batches
    model = build(nn.Sequential(normalisation, nn.Linear(4, 4)))
    fit(model, x, settings=settings(epochs=20, batch_size=128), progress=False)
    assert torch.allclose(normalisation.running_var, x.var(0), rtol=0.05)


class Fourier(nn.Module):
    """Random features that are not trained."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.randn(4, 8, generator=generator))
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        return self.linear((x @ self.frequency).sin())


def test_members_of_an_ensemble_share_what_is_not_trained():
    def member(generator: bool) -> VAE:
        network = Fourier(torch.Generator().manual_seed(3) if generator else None)
        return VAE(
            priors.StandardNormal(2), encoders.Gaussian(network, 2), decoders.Gaussian(Perceptron(2, [8], 4))
        )

    with pytest.raises(InputError, match="frequency of seed 1 differs"):
        fit_ensemble(lambda: member(False), data(), [0, 1], settings=settings(), progress=False)
    models, _ = fit_ensemble(lambda: member(True), data(), [0, 1], settings=settings(), progress=False)
    torch.manual_seed(1)
    alone = member(True)
    fit(alone, data(), settings=settings(seed=1), progress=False)
    assert torch.allclose(weights(models[1]), weights(alone), atol=1e-5)


@pytest.mark.parametrize("objective", [ELBO(free_bits=2.0), IWAE(3)])
def test_another_objective_or_other_data_are_refused_on_resume(tmp_path, objective):
    fit(build(), data(), settings=settings(), run=tmp_path, progress=False)
    with pytest.raises(InputError, match="another objective"):
        fit(build(), data(), objective, settings=settings(), run=tmp_path, progress=False)
    with pytest.raises(InputError, match="another first training data"):
        fit(build(), data() * 2, settings=settings(), run=tmp_path, progress=False)


def test_a_finished_training_leaves_the_random_state_alone(tmp_path):
    fit(build(), data(), settings=settings(), run=tmp_path, progress=False)
    model = build()
    states = []
    for seed in (7, 8):
        torch.manual_seed(seed)
        fit(model, data(), settings=settings(), run=tmp_path, progress=False)
        states.append(torch.get_rng_state())
    assert not torch.equal(*states)


@pytest.mark.parametrize("model_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_data_come_in_the_precision_of_the_model(model_dtype, kind):
    x = data().double()
    model = build().to(model_dtype)
    fit(model, x.numpy() if kind == "array" else x, settings=settings(epochs=1), progress=False)
    assert next(model.parameters()).dtype == model_dtype


def test_of_prepared_data_only_the_split_is_trained_on(tmp_path):
    """A test row never reaches a training that is given the whole store."""
    x = data(100)
    split = torch.tensor([0] * 80 + [1] * 10 + [2] * 10)
    stored = write(
        xr.Dataset(
            {"x": (("sample", "feature"), x.numpy())},
            coords={"split": ("sample", split.numpy()), "group": ("sample", range(100))},
        ),
        tmp_path / "a.zarr",
    )
    for given in (stored, tmp_path / "a.zarr"):
        history = fit(build(), given, valid=given, settings=settings(epochs=1), progress=False)
        assert history.steps == 10


class Plain(nn.Module):
    """A distribution of torch's own from a module that knows nothing of ours."""

    def __init__(self, network: nn.Module, dim: int) -> None:
        super().__init__()
        self.network, self.dim = network, dim

    def forward(self, value, context=None):
        loc = self.network(value)
        return td.Independent(
            td.Normal(loc, torch.ones_like(loc), validate_args=False), 1, validate_args=False
        )


def test_any_module_that_returns_a_distribution_stands_in():
    torch.manual_seed(0)
    model = VAE(Plain(nn.Identity(), 2), Plain(Perceptron(4, [8], 2), 2), Plain(Perceptron(2, [8], 4), 2))
    model.prior = priors.StandardNormal(2)
    before = weights(model).clone()
    history = fit(model, data(), valid=data(20), settings=settings(epochs=20), progress=False)
    assert not torch.equal(weights(model), before)
    assert history.rows[-1]["train_loss"] < history.rows[0]["train_loss"]
    assert model.sample(3).shape == (3, 4)
    assert log_evidence(model, Batch(data(5)), 100).value.isfinite().all()


def test_settings_that_are_wrong_are_one_line_in_python_too():
    with pytest.raises(InputError, match=r"^TrainingSettings: unknown key 'epoch'; did you mean 'epochs'\?$"):
        TrainingSettings(epoch=3)
    with pytest.raises(InputError, match=r"^TrainingSettings: epochs: expected greater than or equal to 1"):
        TrainingSettings(epochs=0)


@pytest.mark.parametrize(
    ("x", "context", "message"),
    [
        (
            5,
            {"condition": (3,), "noise": (4,)},
            r"the encoder does not .* x \(B, 5\), context.condition \(B, 3\)",
        ),
        (4, {"condition": (), "noise": (4,)}, r"the encoder does not .* context.condition \(B\)"),
        (4, {"condition": (6,), "noise": (4,)}, r"the encoder does not .* context.condition \(B, 6\)"),
        (4, {"condition": (3,), "noise": (5,)}, r"the decoder does not .* context.noise \(B, 5\)"),
    ],
    ids=["x", "1-D condition", "condition", "noise"],
)
def test_data_that_a_network_does_not_take_are_named(x, context, message):
    model = VAE(
        priors.StandardNormal(2),
        encoders.Gaussian(Perceptron(4, [8], 4, condition_features=3), 2, conditional=True),
        decoders.Gaussian(Perceptron(2, [8], 4), scale="per-datum"),
    )
    batch = Batch(torch.ones(9, x), {name: torch.ones(9, *shape) for name, shape in context.items()})
    with pytest.raises(InputError, match=message):
        fit(model, batch, settings=settings(), progress=False)
    assert model.training
