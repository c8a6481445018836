"""One contract for all forecasters; then what each one is right about."""

import numpy as np
import pytest
import torch
from torch import nn

from sciencevae.errors import InputError
from sciencevae.latents.forecast import (
    Ensemble,
    Linear,
    Persistence,
    Prediction,
    Recurrent,
    Residual,
    Windows,
    coverage,
    crps,
    load_forecaster,
    relative_error,
    save_forecaster,
    windows_of,
)
from sciencevae.networks.recurrent import LSTMCell
from sciencevae.training.schedules import WarmUp
from sciencevae.training.settings import TrainingSettings

D, L, H = 3, 4, 6
KINDS = {
    "persistence": lambda c: Persistence(D, c),
    "linear": lambda c: Linear(D, L, ridge=1e-4, condition_features=c),
    "linear, direct": lambda c: Linear(D, L, rank=8, frames=H, condition_features=c, scaling="common"),
    "residual": lambda c: Residual(D, L, (16,), condition_features=c),
    "residual, direct": lambda c: Residual(D, L, (16,), 3, c, base=Linear(D, 2, condition_features=c)),
    "recurrent": lambda c: Recurrent(D, L, 12, frames=2, condition_features=c),
    "ensemble": lambda c: Ensemble.of(lambda: Residual(D, L, (16,), condition_features=c), range(2)),
}
FEW = TrainingSettings(epochs=3, batch_size=32, compile=False, learning_rate=3e-3)


def rotation(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def noisy_series(runs=6, frames=30, seed=0, condition=False):
    """A damped oscillation driven by noise, and a third latent that relaxes."""
    generator = np.random.default_rng(seed)
    a = np.zeros((3, 3))
    a[:2, :2], a[2, 2] = 0.95 * rotation(0.4), 0.8
    z = np.zeros((runs, frames, 3))
    z[:, 0] = generator.normal(size=(runs, 3))
    for t in range(1, frames):
        z[:, t] = z[:, t - 1] @ a.T + 0.3 * generator.normal(size=(runs, 3))
    z = z * [1.0, 1.0, 5.0] + [0.0, 2.0, -1.0]
    given = np.repeat(generator.normal(size=runs), frames) if condition else None
    run, time = np.repeat(np.arange(runs), frames), np.tile(np.arange(frames), runs)
    return windows_of(z.reshape(-1, 3).astype(np.float32), run, time, window=L, horizon=H, condition=given)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.mark.parametrize("condition", [False, True])
def test_contract(kind, condition, tmp_path):
    torch.manual_seed(0)
    forecaster = KINDS[kind](int(condition))
    train, valid = noisy_series(condition=condition), noisy_series(3, seed=1, condition=condition)
    with pytest.raises(InputError, match="learnt nothing"):
        forecaster.rollout(valid.history, 2, valid.condition)
    history = forecaster.fit(train, valid, FEW)
    assert history.rows
    assert np.isfinite(history.rows[-1]["train_loss"])

    mean = forecaster.rollout(valid.history, 9, valid.condition)
    assert mean.shape == (len(valid), 9, D)
    assert mean.isfinite().all()
    # each window by itself, in any order; a longer history's last frames; a shorter rollout is its beginning
    condition_of = (lambda i: None) if valid.condition is None else (lambda i: valid.condition[i])
    order = torch.randperm(len(valid))
    again = forecaster.rollout(valid.history[order], 4, condition_of(order))
    assert torch.allclose(again, mean[order, :4], atol=1e-5)
    longer = torch.cat([torch.full((len(valid), 2, D), 7.0), valid.history], 1)
    assert torch.allclose(forecaster.rollout(longer, 9, valid.condition), mean, atol=1e-5)

    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return forecaster.rollout(valid.history, 3, valid.condition, 5, generator)

    assert drawn(0).shape == (5, len(valid), 3, D)
    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    assert (drawn(0).std(0) > 0).all()

    forecaster.calibrate(valid, samples=8)
    assert forecaster.inflation.shape == (H, D)
    path = tmp_path / "forecaster.safetensors"
    save_forecaster(forecaster, path, {"time_step": 0.5})
    loaded, metadata = load_forecaster(path)
    assert metadata == {"time_step": 0.5}
    assert torch.equal(loaded.rollout(valid.history, 9, valid.condition), mean)
    before, after = (
        f.rollout(valid.history, 9, valid.condition, 4, torch.Generator().manual_seed(3))
        for f in (forecaster, loaded)
    )
    assert torch.equal(before, after)


def test_contract_of_what_is_refused(kind):
    forecaster = KINDS[kind](0)
    windows = noisy_series(2)
    short = Windows(windows.history[:, : forecaster.window - 1], windows.future, windows.rows)
    if forecaster.window > 1:
        with pytest.raises(InputError, match="longer history"):
            forecaster.fit(short, settings=FEW)
    with pytest.raises(InputError, match="this forecaster takes"):
        forecaster.fit(Windows(windows.history[..., :2], windows.future, windows.rows), settings=FEW)
    with pytest.raises(InputError, match="condition_features=1"):
        forecaster.fit(noisy_series(2, condition=True), settings=FEW)


def test_every_trained_parameter_has_a_gradient(kind):
    """Under the vectorised step as under autograd: a wrong cell would lose one."""
    forecaster = KINDS[kind](0)
    named = dict(forecaster.named_parameters())
    if not named:
        return
    before = {name: p.detach().clone() for name, p in named.items()}
    # zero heads block the gradient to what lies before them: two steps pass
    forecaster.fit(noisy_series(), settings=FEW, objective=Prediction(0.5, "nll"))
    moved = {name: not torch.equal(p, before[name]) for name, p in forecaster.named_parameters()}
    assert all(moved.values()), moved


def test_lstm_cell_is_torchs():
    torch.manual_seed(0)
    ours, theirs = LSTMCell(3, 5).double(), nn.LSTMCell(3, 5).double()
    # torch's order: input, forget, cell, output; ours the same
    theirs.weight_ih.data, theirs.bias_ih.data = ours.input.weight.data, ours.input.bias.data
    theirs.weight_hh.data, theirs.bias_hh.data = ours.hidden.weight.data, ours.hidden.bias.data
    x, h, c = (torch.randn(4, n, dtype=torch.double) for n in (3, 5, 5))
    for found, expected in zip(ours(x, h, c), theirs(x, (h, c)), strict=True):
        assert torch.allclose(found, expected, atol=1e-12)


def test_recurrent_is_torchs_lstm_from_sequence_to_sequence():
    """An LSTM over all but the last frame; from its state another goes on, fed that frame and then its own."""
    torch.manual_seed(0)
    ours = Recurrent(D, L, 7, frames=3).double()
    nn.init.normal_(ours.head.weight)
    ours.fitted += 1  # in place of training: the scaling stays as it is, none
    reader, writer = (nn.LSTM(D, 7, batch_first=True).double() for _ in range(2))
    for theirs, cell in ((reader, ours.reader), (writer, ours.writer)):
        for kind, layer in (("ih", cell.input), ("hh", cell.hidden)):
            getattr(theirs, f"weight_{kind}_l0").data = layer.weight.data
            getattr(theirs, f"bias_{kind}_l0").data = layer.bias.data
    history = torch.randn(5, L, D, dtype=torch.double)
    window, found = history, []
    for _ in range(2):  # two blocks of three frames: the second reads a window that ends in forecasts
        _, state = reader(window[:, :-1])
        frame = window[:, -1:]
        for _ in range(3):
            h, state = writer(frame, state)
            frame = frame + ours.head(h)
            found.append(frame)
        window = torch.cat([window, *found[-3:]], 1)[:, -L:]
    assert torch.allclose(ours.rollout(history, 6), torch.cat(found, 1), atol=1e-12)


# ---- linear systems ----------------------------------------------------------------------------------


def free_series(a, start, frames, offset=0.0):
    z = [np.asarray(start, float)]
    for _ in range(frames - 1):
        z.append(a @ z[-1])
    z = np.array(z) + offset
    return z


def cut(z, window, horizon):
    return windows_of(
        torch.from_numpy(z), np.zeros(len(z)), np.arange(len(z)), window=window, horizon=horizon
    )


def test_dmd_is_exact_for_a_linear_system():
    a = np.zeros((4, 4))
    a[:2, :2], a[2:, 2:] = 0.99 * rotation(0.3), 1.001 * rotation(1.1)
    z = free_series(a, [1.0, 0.0, 0.5, 0.5], 80, offset=np.array([3.0, 0.0, -2.0, 10.0]))
    series = cut(z, 1, 30)
    model = Linear(4, 1).double()
    model.fit(series[:20])
    assert torch.allclose(model.rollout(series.history, 30), series.future, atol=1e-7)
    expected = np.sort_complex(np.linalg.eigvals(a))
    assert np.allclose(np.sort_complex(model.eigenvalues.numpy()), expected, atol=1e-8)


def test_delays_recover_what_is_not_measured():
    """One latent of an oscillator of two frequencies: four delays determine it, one frame does not."""
    t = np.arange(120.0)
    z = (np.cos(0.3 * t) + 0.5 * np.cos(1.0 * t + 1))[:, None]
    series = cut(z, 4, 20)
    errors = []
    for window in (1, 4):
        model = Linear(1, window).double()
        model.fit(series[:60])
        forecast = model.rollout(series.history[60:], 20)
        errors.append(float((forecast - series.future[60:]).abs().max()))
    assert errors[0] > 0.3
    assert errors[1] < 1e-8


def test_ridge_is_sklearns():
    from sklearn.linear_model import Ridge

    series = noisy_series()
    model = Linear(D, L, ridge=0.1).double()
    double = Windows(series.history.double(), series.future.double(), series.rows)
    model.fit(double)
    x = ((double.history - model.centre) / model.spread).flatten(1).numpy()
    y = ((double.future[:, 0] - model.centre) / model.spread).numpy()
    theirs = Ridge(alpha=0.1 * len(x)).fit(x, y)
    expected = torch.from_numpy(theirs.predict(x)) * model.spread + model.centre
    assert torch.allclose(model.rollout(double.history, 1)[:, 0], expected, atol=1e-8)


def test_factors_make_latents_those_of_another_metric():
    """As a common scaling of z times the factors, whatever the ridge."""
    series, factors = noisy_series(), [0.5, 1.0, 4.0]
    given = Linear(D, L, ridge=0.1, scaling=factors)
    given.fit(series)
    times = torch.tensor(factors)
    other = Linear(D, L, ridge=0.1, scaling="common")
    other.fit(Windows(series.history * times, series.future * times, series.rows))
    expected = other.rollout(series.history * times, H) / times
    assert torch.allclose(given.rollout(series.history, H), expected, atol=1e-4)
    with pytest.raises(InputError, match="one for each latent"):
        Linear(D, L, scaling=[1.0, 2.0])


def test_decay_is_a_ridge_of_its_own_for_each_delay():
    """The normal equations with a penalty of ridge / d^(2l) on the frame l steps back."""
    series = noisy_series()
    double = Windows(series.history.double(), series.future.double(), series.rows)
    model = Linear(D, L, ridge=0.1, decay=0.6).double()
    model.fit(double)
    x = ((double.history - model.centre) / model.spread).flatten(1)
    y = (double.future[:, 0] - model.centre) / model.spread
    x, y = x - x.mean(0), y - y.mean(0)
    penalty = 0.1 * len(x) / 0.6 ** (2 * torch.tensor([3.0, 2.0, 1.0, 0.0]).double().repeat_interleave(D))
    expected = torch.linalg.solve(x.mT @ x + torch.diag(penalty), x.mT @ y)
    assert torch.allclose(model.weight[0], expected, atol=1e-10)


def test_direct_frames_are_regressions_of_their_own():
    series = noisy_series()
    double = Windows(series.history.double(), series.future.double(), series.rows)
    direct = Linear(D, L, frames=H).double()
    direct.fit(double)
    for k in (0, 3):
        shifted = Windows(double.history, double.future[:, k : k + 1], double.rows)
        single = Linear(D, L).double()
        single.fit(shifted)
        single.centre, single.spread = direct.centre, direct.spread
        # standardised alike the two are one regression; without a ridge the scaling does not matter
        expected = np.linalg.lstsq(
            np.concatenate([double.history.flatten(1).numpy(), np.ones((len(double), 1))], 1),
            double.future[:, k].numpy(),
            rcond=None,
        )[0]
        found = direct.rollout(double.history, H)[:, k].numpy()
        wanted = np.concatenate([double.history.flatten(1).numpy(), np.ones((len(double), 1))], 1) @ expected
        assert np.allclose(found, wanted, atol=1e-8)


def test_draws_of_a_linear_law_have_its_covariance_at_each_lead():
    """z' = a z + ε: the variance after k steps is σ² (1 − a^2k) / (1 − a²)."""
    generator = np.random.default_rng(0)
    z = np.zeros(20_000)
    for t in range(1, len(z)):
        z[t] = 0.8 * z[t - 1] + generator.normal()
    series = cut(z[:, None], 1, 6)
    model = Linear(1, 1).double()
    model.fit(series)
    drawn = model.rollout(series.history[:1], 6, samples=40_000, generator=torch.Generator().manual_seed(0))
    expected = (1 - 0.64 ** torch.arange(1, 7)) / (1 - 0.64)
    assert torch.allclose(drawn.var(0)[0, :, 0], expected.double(), rtol=0.05)
    # the right law is calibrated, and calibration leaves it as it is
    some = series[::7]
    assert torch.allclose(model.calibrate(some, 200), torch.ones(6, 1).double(), atol=0.05)
    held = model.rollout(some.history, 6, samples=199, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(coverage(held, some.future), torch.tensor([[0.68], [0.95]]).expand(2, 6), atol=0.03)


def test_calibration_mends_a_law_that_is_too_sure():
    series = noisy_series(40)
    model = Linear(D, L)
    model.fit(series)
    right = crps(model.rollout(series.history, H, samples=50), series.future).mean()
    model.root = model.root / 3
    sure = crps(model.rollout(series.history, H, samples=50), series.future).mean()
    factors = model.calibrate(series, 100)
    assert torch.allclose(factors, torch.full_like(factors, 3.0), rtol=0.15)
    mended = crps(model.rollout(series.history, H, samples=50), series.future).mean()
    assert sure > 1.05 * right
    assert float(mended) == pytest.approx(float(right), rel=0.02)


def test_dmd_agrees_with_pydmd():
    pydmd = pytest.importorskip("pydmd")
    generator = np.random.default_rng(0)
    a = np.zeros((4, 4))
    a[:2, :2], a[2:, 2:] = 0.98 * rotation(0.3), 0.95 * rotation(1.1)
    latent = free_series(a, [1.0, 0.0, 0.5, 0.5], 60)
    mixing = generator.normal(size=(7, 4))
    z = latent @ mixing.T
    theirs = pydmd.DMD(svd_rank=4).fit(z.T)
    ours = Linear(7, 1, rank=4).double()
    ours.fit(cut(z, 1, 1))
    found = ours.eigenvalues.numpy()
    found = np.sort_complex(found[np.abs(found) > 1e-6])
    assert np.allclose(found, np.sort_complex(theirs.eigs), atol=1e-6)
    # of delays: one measured latent, and the forecast of 15 frames
    delayed = pydmd.HankelDMD(svd_rank=4, d=6).fit(z[:, :1].T)
    delayed.dmd_time["tend"] = 60 - 1 + 15
    model = Linear(1, 6).double()
    model.fit(cut(z[:, :1], 6, 1))
    ahead = model.rollout(torch.from_numpy(z[None, -6:, :1]), 15)[0, :, 0].numpy()
    assert np.allclose(ahead, delayed.reconstructed_data[0, -15:].real, atol=1e-5)


# ---- a system that no linear map forecasts -----------------------------------------------------------


def stuart_landau(runs, frames, seed, step=0.3, growth=0.3, turn=1.0, shift=-0.4):
    """dA/dt = (σ + iω) A − (σ − iβ) |A|² A from small amplitudes to the limit cycle |A| = 1, in closed form.

    |A|² = 1 / (1 + (1/r₀² − 1) e^(−2σt)), and the phase turns by ωt + β/(2σ) log(|A|² e^…): here by quadrature-free
    integration of |A|², ∫ |A|² dt = log(1 + r₀² (e^(2σt) − 1)) / (2σ).
    """
    generator = np.random.default_rng(seed)
    r0 = generator.uniform(0.02, 0.5, (runs, 1))
    phase = generator.uniform(0, 2 * np.pi, (runs, 1))
    t = np.arange(frames) * step
    radius = 1 / np.sqrt(1 + (1 / r0**2 - 1) * np.exp(-2 * growth * t))
    turned = phase + turn * t + shift * np.log1p(r0**2 * np.expm1(2 * growth * t)) / (2 * growth)
    z = np.stack([radius * np.cos(turned), radius * np.sin(turned)], -1)
    return z.reshape(-1, 2).astype(np.float32), np.repeat(np.arange(runs), frames), np.tile(t, runs)


def hopf(runs, seed, horizon):
    return windows_of(*stuart_landau(runs, 50, seed), window=4, horizon=horizon)


def test_hopf_normal_form_dmd_fails_and_networks_do_not():
    """The transient onto a limit cycle, 30 frames (1.4 turns) ahead, on runs that were not trained on."""
    train, valid, test = hopf(24, 0, 8), hopf(6, 1, 8), hopf(12, 2, 30)
    settings = TrainingSettings(
        epochs=30, batch_size=128, learning_rate=4e-3, schedule="cosine", compile=False
    )
    falling = WarmUp(end=0.0, steps=100, start=1.0)
    found = {}
    for name, forecaster in {
        "dmd": Linear(2, 1),
        "delays": Linear(2, 4, ridge=1e-8),
        "residual": Residual(2, 4, (48, 48)),
        "recurrent": Recurrent(2, 4, 32, frames=8),
    }.items():
        torch.manual_seed(0)
        forecaster.fit(train, valid, settings, Prediction(falling, "squared"))
        forecast = forecaster.rollout(test.history, 30)
        found[name] = float(relative_error(forecast, test.future, forecaster.centre)[-1])
        if name in ("residual", "recurrent"):  # long rollouts stay on the cycle
            amplitude = forecaster.rollout(test.history, 300)[:, -50:].norm(dim=-1)
            assert amplitude.min() > 0.8
            assert amplitude.max() < 1.2
    assert min(found["dmd"], found["delays"]) > 0.15, found
    assert max(found["residual"], found["recurrent"]) < 0.25 * min(found["dmd"], found["delays"]), found


def test_a_condition_tells_runs_apart():
    """Rotations whose frequency is the condition: from one frame nothing else can tell it."""
    generator = np.random.default_rng(0)
    speed = generator.uniform(0.2, 0.8, 40)
    t, phase = np.arange(20), generator.uniform(0, 6.28, (40, 1))
    angle = phase + speed[:, None] * t
    z = np.stack([np.cos(angle), np.sin(angle)], -1).reshape(-1, 2).astype(np.float32)
    series = windows_of(
        z,
        np.repeat(np.arange(40), 20),
        np.tile(t, 40),
        window=1,
        horizon=4,
        condition=100 * np.repeat(speed, 20),
    )
    held = series.rows[:, 0] >= 600
    torch.manual_seed(0)
    settings = TrainingSettings(
        epochs=30, batch_size=64, learning_rate=8e-3, schedule="cosine", compile=False
    )
    errors = []
    for c in (0, 1):
        train, test = series[~held], series[held]
        if not c:
            train, test = (Windows(s.history, s.future, s.rows) for s in (train, test))
        forecaster = Residual(2, 1, (48, 48), condition_features=c)
        forecaster.fit(train, test, settings, Prediction(0.0, "squared"))
        forecast = forecaster.rollout(test.history, 4, test.condition)
        errors.append(float(relative_error(forecast, test.future, forecaster.centre)[-1]))
    assert errors[0] > 0.4
    assert errors[1] < 0.05


# ---- training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [lambda: Residual(D, L, (8,)), lambda: Recurrent(D, L, 6, frames=2)])
def test_members_of_an_ensemble_are_what_they_would_be_alone(build):
    train, valid = noisy_series(), noisy_series(2, seed=1)
    ensemble = Ensemble.of(build, [5, 6])
    ensemble.fit(train, valid, FEW)
    torch.manual_seed(6)
    alone = build()
    alone.fit(train, valid, FEW.model_copy(update={"seed": 1}))
    history = valid.history
    assert torch.allclose(ensemble.members[1].rollout(history, 5), alone.rollout(history, 5), atol=1e-4)
    both = torch.stack([member.rollout(history, 5) for member in ensemble.members])
    assert torch.allclose(ensemble.rollout(history, 5), both.mean(0), atol=1e-6)


def test_an_ensemble_of_closed_forms_is_refused():
    with pytest.raises(InputError, match="closed form"):
        Ensemble([Linear(D, L), Linear(D, L)]).fit(noisy_series(2))
    with pytest.raises(InputError, match="built alike"):
        Ensemble([Linear(D, L), Linear(D, 2)])


def test_crps_training_learns_the_spread_of_a_random_walk():
    """Increments N(0, 0.5²): rollouts must have a standard deviation of 0.5 √k."""
    generator = np.random.default_rng(0)
    z = np.cumsum(0.5 * generator.normal(size=(60, 20)), 1).reshape(-1, 1).astype(np.float32)
    series = windows_of(z, np.repeat(np.arange(60), 20), np.tile(np.arange(20), 60), window=2, horizon=4)
    torch.manual_seed(0)
    forecaster = Residual(1, 2, (8,))
    settings = TrainingSettings(
        epochs=30, batch_size=64, learning_rate=3e-3, schedule="cosine", compile=False
    )
    forecaster.prepare = lambda train, valid: forecaster._standardise(train)  # from a wrong scale, 1
    forecaster.fit(series, settings=settings, objective=Prediction(0.0, "crps", samples=3))
    spread = forecaster.rollout(series.history[:200], 4, samples=200).std(0).mean((0, 2))
    assert torch.allclose(spread, 0.5 * torch.arange(1.0, 5.0).sqrt(), rtol=0.15), spread
