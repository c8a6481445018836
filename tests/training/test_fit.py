"""The training loop: what it computes, and that nothing is lost when it is stopped."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from torch import nn

from sciencevae.batch import Batch
from sciencevae.errors import InputError, Interrupted, RunError
from sciencevae.networks import Perceptron
from sciencevae.training.ensemble import fit_ensemble
from sciencevae.training.loop import fit
from sciencevae.training.schedules import WarmUp
from sciencevae.training.settings import TrainingSettings
from sciencevae.training.step import Problem, trainable
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Term


def build(hidden: int = 16) -> VAE:
    return VAE(
        priors.StandardNormal(2),
        encoders.Gaussian(Perceptron(4, [hidden], 4), dim=2),
        decoders.Gaussian(Perceptron(2, [hidden], 4), scale="learned"),
    )


def data(rows: int = 300, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.tensor([[1.0, 0.5, -0.3, 0.0], [0.0, 0.8, 0.4, -1.0]])
    return torch.randn(rows, 2, generator=generator) @ mixing + 0.2 * torch.randn(
        rows, 4, generator=generator
    )


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(
        **({"epochs": 4, "batch_size": 64, "compile": False, "learning_rate": 3e-3} | changes)
    )


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def fresh(seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    return build()


def test_equals_a_plain_loop_with_torch_adamw():
    """The same batches and noise through loss.backward() and torch.optim.AdamW end at the same weights."""
    from sciencevae.data.batches import as_batches

    x, chosen = data(300), settings(weight_decay=0.1, gradient_clip=0.5, epochs=3)
    model, mirror = fresh(), fresh()
    fit(model, x, ELBO(beta=WarmUp(0.7, 10)), settings=chosen, progress=False)

    optimiser = torch.optim.AdamW(mirror.parameters(), lr=chosen.learning_rate, weight_decay=0.1)
    objective, batches, step = ELBO(), as_batches(x), 0
    for epoch in range(3):
        for batch in batches.epoch(chosen.seed, epoch, 64):
            generator = torch.Generator().manual_seed((chosen.seed * 1_000_003 + step) * 4)
            noise = torch.randn(1, 64, 2, generator=generator)
            loss = objective(mirror, batch, noise, {"beta": 0.7 * min(1.0, step / 10)}).per_datum
            optimiser.zero_grad()
            ((loss * batch.weight).sum() / batch.weight.sum()).backward()
            torch.nn.utils.clip_grad_norm_(mirror.parameters(), 0.5)
            optimiser.step()
            step += 1
    assert torch.allclose(weights(model), weights(mirror), atol=2e-6)
    assert not torch.allclose(weights(model), weights(fresh()), atol=1e-2)


def test_improves_and_tells_what_happened():
    model = fresh()
    chosen = settings(epochs=30, schedule="cosine", warmup_steps=5)
    history = fit(model, data(), valid=data(100, 1), settings=chosen, progress=False)
    table = history.table()
    assert list(table.epoch) == list(range(1, 31))
    assert table.valid_loss.iloc[-1] < table.valid_loss.iloc[0] - 0.5
    assert history.stopped == "epochs"
    assert history.steps == 30 * 5
    assert history.best_loss == pytest.approx(table.valid_loss.min())
    assert {"train_reconstruction", "train_kl", "valid_kl", "learning_rate", "beta", "seconds"} <= set(table)
    assert not history.compiled
    assert not model.training


@pytest.mark.parametrize(("steps_max", "epochs"), [(None, 6), (100, 6), (23, 4), (1, 1)])
def test_steps_max_leaves_whole_epochs(steps_max, epochs):
    """Of 5 steps an epoch; the schedule ends with the last step that is left."""
    chosen = settings(epochs=6, schedule="cosine", steps_max=steps_max)
    history = fit(fresh(), data(), settings=chosen, progress=False)
    assert (len(history.rows), history.steps, history.stopped) == (epochs, 5 * epochs, "epochs")
    assert chosen.steps(len(data())) == history.steps
    assert history.table().learning_rate.iloc[-1] < 0.15 * chosen.learning_rate or epochs == 1


def test_the_best_weights_are_kept_and_patience_stops():
    torch.manual_seed(0)
    noise, held_out = torch.randn(64, 4), torch.randn(64, 4)
    model = build(64)
    chosen = settings(epochs=400, patience=5, learning_rate=1e-2, batch_size=32)
    history = fit(model, noise, valid=held_out, settings=chosen, progress=False)
    table = history.table()
    assert history.stopped == "patience"
    assert len(table) == history.best_epoch + 5
    assert history.best_loss == table.valid_loss.min() < table.valid_loss.iloc[-1]
    again = fit(
        model, noise, valid=held_out, settings=settings(epochs=1, learning_rate=1e-12), progress=False
    )
    assert again.rows[0]["valid_loss"] == pytest.approx(history.best_loss, abs=1e-5)


def test_partial_batches_weigh_each_datum_once():
    """One epoch in one padded batch has the gradient of the mean over the data."""
    x = data(10)
    model = fresh()
    history = fit(
        model, Batch(x, weight=torch.arange(10.0)), settings=settings(epochs=1, batch_size=8), progress=False
    )
    assert history.steps == 2
    with pytest.raises(InputError, match="batch of 64 rows is larger than the data"):
        fit(fresh(), x, settings=settings(), progress=False)


def test_running_average_of_the_weights():
    seen = []
    x = data(128)
    plain, averaged = fresh(), fresh()
    fit(plain, x, settings=settings(epochs=20, learning_rate=0.02), progress=lambda *a: seen.append(a))
    fit(averaged, x, settings=settings(epochs=20, learning_rate=0.02, ema=0.9), progress=False)
    assert not torch.equal(weights(plain), weights(averaged))
    assert seen[-1][:2] == (20, 40)
    assert {"loss", "kl", "reconstruction"} <= set(seen[-1][2])


def test_frozen_parameters_stay_and_a_term_trains_its_own():
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 1)

        def forward(self, terms, batch):
            return (self.linear(terms.posterior.mean) - batch.target).square().sum(-1)

    x = data(128)
    model, head = fresh(), Head()
    model.decoder.requires_grad_(False)
    before = weights(model.decoder).clone()
    start = weights(head).clone()
    objective = ELBO(extra={"property": Term(2.0, head)})
    history = fit(model, Batch(x, target=x[:, :1]), objective, settings=settings(epochs=20), progress=False)
    assert torch.equal(weights(model.decoder), before)
    assert not torch.equal(weights(head), start)
    assert history.rows[-1]["train_property"] < history.rows[0]["train_property"]


def test_batch_normalisation_keeps_its_statistics():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    model = VAE(
        priors.StandardNormal(2),
        encoders.Gaussian(network, dim=2),
        decoders.Gaussian(Perceptron(2, [8], 4), scale="learned"),
    )
    fit(model, data(), valid=data(50, 1), settings=settings(), progress=False)
    assert network[1].num_batches_tracked == 4 * 5
    assert not torch.equal(network[1].running_var, torch.ones(8))


@pytest.mark.parametrize("objective", [lambda: ELBO(free_bits=0.1), lambda: ELBO(beta=2.0, samples=3)])
def test_gradient_equals_backward_and_reaches_every_parameter(objective):
    model = fresh()
    problem = Problem(model, objective())
    batch, noise = Batch(data(32)), torch.randn(problem.objective.samples, 32, 2)
    scalars = {name: torch.tensor(v) for name, v in problem.objective.final_scalars().items()}

    def loss(parameters):
        return torch.func.functional_call(problem, parameters, (batch.tensors(), noise, scalars))["loss"]

    found = torch.func.grad(loss)(trainable(problem))
    problem(batch.tensors(), noise, scalars)["loss"].backward()
    for name, parameter in problem.named_parameters():
        assert torch.allclose(found[name], parameter.grad, atol=1e-6)
        assert parameter.grad.abs().max() > 0


def test_compiled_equals_eager():
    x = data(300)
    eager, compiled = fresh(), fresh()
    fit(eager, x, valid=x[:50], settings=settings(gradient_clip=1.0, ema=0.9), progress=False)
    history = fit(
        compiled, x, valid=x[:50], settings=settings(gradient_clip=1.0, ema=0.9, compile=True), progress=False
    )
    assert history.compiled
    assert history.why_not is None
    assert torch.allclose(weights(eager), weights(compiled), atol=1e-5)


def test_two_compiled_models_of_one_shape_keep_apart():
    """Only tensors are checked before a compiled step runs, so each training must have a graph of its own."""
    x = data(300)
    found = []
    for scale in (1.0, 0.3):
        torch.manual_seed(0)
        pair = []
        for compiled in (False, True):
            torch.manual_seed(0)
            model = VAE(
                priors.StandardNormal(2),
                encoders.Gaussian(Perceptron(4, [16], 4), dim=2),
                decoders.Gaussian(Perceptron(2, [16], 4), scale=scale),
            )
            fit(model, x, settings=settings(epochs=2, compile=compiled), progress=False)
            pair.append(weights(model))
        assert torch.allclose(*pair, atol=1e-5)
        found.append(pair[0])
    assert not torch.allclose(*found, atol=1e-3)


def test_what_cannot_be_compiled_runs_eagerly_and_says_so(caplog, monkeypatch):
    class Host(nn.Module):
        out_features = 4

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            torch._dynamo.graph_break()
            return self.linear(x)

    torch.manual_seed(0)
    model = VAE(
        priors.StandardNormal(2), encoders.Gaussian(Host(), 2), decoders.Gaussian(Perceptron(2, [], 4))
    )
    history = fit(
        model, data(640), settings=settings(epochs=3, batch_size=64, compile="auto"), progress=False
    )
    assert not history.compiled
    assert history.why_not is None
    monkeypatch.setattr("sciencevae.training.loop.STEPS_WORTH_COMPILING", 40)
    history = fit(
        model, data(640), settings=settings(epochs=4, batch_size=64, compile="auto"), progress=False
    )
    assert history.why_not
    assert not history.compiled
    assert "uncompiled" in caplog.text


def test_recurrent_steps_are_compiled_only_when_asked(monkeypatch):
    from sciencevae.networks import Recurrent, RecurrentEncoder

    monkeypatch.setattr("sciencevae.training.loop.STEPS_WORTH_COMPILING", 1)
    model = VAE(
        priors.StandardNormal(2),
        encoders.Gaussian(RecurrentEncoder(4, 3, 4, width=4), 2),
        decoders.Sequence(Recurrent(4, 3, width=4, condition_features=2)),
    )
    tokens = torch.randint(4, (64, 3))
    history = fit(model, tokens, settings=settings(epochs=1, batch_size=32, compile="auto"), progress=False)
    assert not history.compiled
    assert history.why_not is None


def test_ensemble_members_are_what_single_trainings_give():
    x, valid = data(300), data(80, 1)
    chosen = settings(epochs=12, learning_rate=1e-2, patience=2)
    models, histories = fit_ensemble(build, x, [3, 5, 9], valid=valid, settings=chosen, progress=False)
    for seed, model, history in zip([3, 5, 9], models, histories, strict=True):
        alone = fresh(seed)
        single = fit(alone, x, valid=valid, settings=chosen.model_copy(update={"seed": seed}), progress=False)
        assert torch.allclose(weights(model), weights(alone), atol=2e-5)
        assert history.best_epoch == single.best_epoch
        assert history.stopped == single.stopped
        assert [r["valid_loss"] for r in history.rows] == pytest.approx(
            [r["valid_loss"] for r in single.rows], abs=1e-4
        )
    with pytest.raises(InputError, match="different seeds"):
        fit_ensemble(build, x, [1, 1])


# ---- stopping and going on ---------------------------------------------------------------------------

STOPPING = dict(epochs=6, batch_size=50, gradient_clip=1.0, ema=0.95)


class Stop(Exception):
    pass


def stopped_at(step: int, run, **changes) -> None:
    """A training that dies after ``step`` steps without a chance to clean up."""

    def die(epoch: int, now: int, parts) -> None:
        if now >= step:
            raise Stop

    with pytest.raises(Stop):
        fit(
            fresh(),
            data(420),
            valid=data(60, 1),
            settings=settings(**STOPPING, checkpoint_seconds=0, **changes),
            run=run,
            progress=die,
        )


@pytest.mark.parametrize("step", [1, 14, 30])
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, monkeypatch, step):
    monkeypatch.setattr("sciencevae.training.loop.STEPS_BETWEEN_READINGS", 4)
    whole = fresh()
    wanted = fit(whole, data(420), valid=data(60, 1), settings=settings(**STOPPING), progress=False)
    stopped_at(step, tmp_path)
    torch.manual_seed(99)  # whatever the new process has done so far
    model = build()
    found = fit(
        model, data(420), valid=data(60, 1), settings=settings(**STOPPING), run=tmp_path, progress=False
    )
    if (tmp_path / "checkpoint.safetensors").exists() and step > 4:
        assert torch.equal(weights(model), weights(whole))
        drop = ["seconds"]
        assert found.table().drop(columns=drop).equals(wanted.table().drop(columns=drop))
    again = fit(
        build(), data(420), valid=data(60, 1), settings=settings(**STOPPING), run=tmp_path, progress=False
    )
    assert again.steps == found.steps  # finished: returns at once


def child(run, epochs: int = 5) -> subprocess.Popen:
    code = f"""
        import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
        import test_fit as t
        from sciencevae.errors import Interrupted
        try:
            settings = t.settings(epochs={epochs}, batch_size=50, checkpoint_seconds=0.02)
            t.fit(t.fresh(), t.data(2000), settings=settings,
                  run={str(run)!r}, progress=lambda *a: print("step", flush=True))
        except Interrupted as stop:
            print(stop)
            sys.exit(stop.exit_code)
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)


def test_kill_9_then_resume(tmp_path):
    whole = fresh()
    chosen = settings(epochs=5, batch_size=50)
    fit(whole, data(2000), settings=chosen, progress=False)
    process = child(tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    model = build()
    fit(model, data(2000), settings=chosen, run=tmp_path, progress=False)
    assert torch.equal(weights(model), weights(whole))


def test_sigusr1_saves_and_goes_on_and_sigterm_saves_and_stops(tmp_path):
    process = child(tmp_path, epochs=100_000)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGUSR1)
    process.stdout.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=120)[0]
    assert process.returncode == 75
    assert "stopped by SIGTERM at step" in rest
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_signal_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    fit(fresh(), data(), settings=settings(epochs=1), progress=False)
    assert signal.getsignal(signal.SIGTERM) is before


def test_interrupted_without_a_folder_says_that_nothing_is_saved():
    with pytest.raises(Interrupted, match="nothing is saved"):
        fit(
            fresh(),
            data(),
            settings=settings(epochs=1000),
            progress=lambda *a: os.kill(os.getpid(), signal.SIGTERM),
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.5}, "another training.learning_rate .*0.003 there, 0.5 here"),
        ({"batch_size": 20}, "another training.batch_size"),
    ],
)
def test_resume_with_another_configuration_is_refused(tmp_path, change, message):
    fit(fresh(), data(), settings=settings(epochs=1), run=tmp_path, progress=False)
    with pytest.raises(InputError, match=message):
        fit(fresh(), data(), settings=settings(**{"epochs": 1, **change}), run=tmp_path, progress=False)
    with pytest.raises(InputError, match=r"another parameters"):
        fit(build(8), data(), settings=settings(epochs=1), run=tmp_path, progress=False)
    fit(build(8), data(), settings=settings(epochs=1), run=tmp_path, resume=False, progress=False)


def test_truncated_and_foreign_checkpoints_are_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    fit(fresh(), data(), settings=settings(epochs=1), run=tmp_path, progress=False)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"truncated or damaged.*delete it to train from the beginning"):
        fit(fresh(), data(), settings=settings(epochs=1), run=tmp_path, progress=False)
    path.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
    with pytest.raises(RunError, match=r"is damaged .*delete it to train from the beginning"):
        fit(fresh(), data(), settings=settings(epochs=1), run=tmp_path, progress=False)
    torch.save({"model": 1}, path)
    with pytest.raises(InputError, match="pickle"):
        fit(fresh(), data(), settings=settings(epochs=1), run=tmp_path, progress=False)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path):
    class Explode(nn.Module):
        def forward(self, terms, batch):
            return terms.z[0].sum(-1) * float("nan")

    good = tmp_path / "checkpoint.safetensors"
    fit(fresh(), data(), settings=settings(epochs=1), run=tmp_path, progress=False)
    kept = good.read_bytes()
    with pytest.raises(RunError, match="no longer finite"):
        fit(
            fresh(),
            data(),
            ELBO(extra={"bad": Term(1.0, Explode())}),
            settings=settings(epochs=1),
            run=tmp_path,
            resume=False,
            progress=False,
        )
    assert good.read_bytes() == kept


@pytest.mark.parametrize(
    ("x", "make", "message"),
    [
        (torch.full((90, 4), float("nan")), build, "NaN everywhere"),
        (torch.where(torch.rand(90, 4) < 0.1, float("nan"), 1.0), build, "missing=True"),
        (data(90)[:, :3], build, "mat1|shape"),
        (data(90) * float("inf"), build, "infinit"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_the_first_step(x, make, message):
    with pytest.raises((InputError, RuntimeError), match=message):
        fit(make(), x, settings=settings(), progress=False)


def test_patience_needs_validation_data():
    with pytest.raises(InputError, match="validation data"):
        fit(fresh(), data(), settings=settings(patience=3), progress=False)


def test_an_unknown_device_is_refused():
    with pytest.raises(InputError, match="use 'cpu'"):
        fit(fresh(), data(), settings=settings(device="quantum"), progress=False)


def test_threads_are_put_back():
    before = torch.get_num_threads()
    fit(fresh(), data(), settings=settings(epochs=1, threads=1), progress=False)
    assert torch.get_num_threads() == before
