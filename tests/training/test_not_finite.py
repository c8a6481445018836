"""A loss that is no longer finite: which data, at which step, and what is kept."""

import math
import os
import re
import signal

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from sciencevae.data.batches import InMemory, as_batches
from sciencevae.data.store import write
from sciencevae.data.streaming import Streaming
from sciencevae.errors import Interrupted, RunError
from sciencevae.networks import Perceptron
from sciencevae.training.checkpoint import read_tensors
from sciencevae.training.ensemble import fit_ensemble
from sciencevae.training.loop import fit
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Term

ROWS, BATCH, BAD = 200, 8, 137


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(**({"epochs": 3, "batch_size": BATCH, "compile": False, "seed": 2} | changes))


def build(dropout: float = 0.0) -> VAE:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(dropout), nn.Linear(8, 4))
    return VAE(
        priors.StandardNormal(2),
        encoders.Gaussian(network, 2),
        decoders.Gaussian(Perceptron(2, [8], 4), scale="learned"),
    )


def outlier() -> torch.Tensor:
    """Row BAD overflows the square of single precision, and is not what the check of the first data refuses."""
    x = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
    x[BAD, 2] = 1e25
    return x


def expected_step(seed: int = 2) -> int:
    """From 1."""
    return int(np.flatnonzero(InMemory(outlier()).order(seed, 0).between(0, ROWS) == BAD)[0]) // BATCH + 1


@pytest.mark.parametrize("compile", [False, True])
def test_the_row_and_the_step_are_named_and_the_state_before_is_saved(tmp_path, compile):
    step = expected_step()
    assert 1 < step < ROWS // BATCH, "neither the first nor the last: else the test sees less"
    chosen = settings(compile=compile)
    with pytest.raises(RunError, match=rf"from step {step} .*1 of the 8 data .*: row {BAD}\. Look") as error:
        fit(build(0.1), outlier(), settings=chosen, run=tmp_path, progress=False)
    assert str(tmp_path / "checkpoint.safetensors") in str(error.value)

    class Ends(nn.Module):
        """The same training, stopped by a signal one step before."""

        calls = 0

        def forward(self, terms, batch):
            Ends.calls += 1
            if Ends.calls == step:  # one call is the probe before the first step
                os.kill(os.getpid(), signal.SIGTERM)
            return torch.zeros(len(batch))

    ends = ELBO(extra={"ends": Term(0.0, Ends())})
    with pytest.raises(Interrupted, match=f"at step {step - 1} "):
        fit(build(0.1), outlier(), ends, settings=settings(), run=tmp_path / "clean", progress=False)
    saved, plain = (
        read_tensors(folder / "checkpoint.safetensors", "")[0] for folder in (tmp_path, tmp_path / "clean")
    )
    for name in plain:
        if name.split("/")[0] in ("parameters", "first", "second", "rng"):
            close = torch.allclose(saved[name].double(), plain[name].double(), rtol=1e-4, atol=1e-6)
            assert close if compile else torch.equal(saved[name], plain[name]), name


def test_a_gradient_that_is_not_finite_names_its_batch():
    class Root(nn.Module):
        """√|w − w| : 0, with a gradient that is NaN."""

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(()))

        def forward(self, terms, batch):
            return (self.w - self.w).abs().sqrt() + torch.zeros(len(batch))

    x = torch.randn(ROWS, 4)
    rows = ", ".join(map(str, InMemory(x).order(2, 0).between(0, BATCH)))
    with pytest.raises(RunError, match=rf"from step 1 .*its gradient is not\. Its batch: row {rows}\."):
        fit(build(), x, ELBO(extra={"root": Term(1.0, Root())}), settings=settings(), progress=False)


def test_the_first_step_overwrites_no_checkpoint(tmp_path):
    fit(build(), outlier()[:100], settings=settings(), run=tmp_path, progress=False)
    kept = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(RunError, match="from step 1 "):
        fit(
            build(), torch.full((8, 4), 1e25), settings=settings(), run=tmp_path, resume=False, progress=False
        )
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == kept


def test_a_later_epoch_and_validation_now_and_then(monkeypatch):
    """The steps repeated go over the end of an epoch that was not read."""
    monkeypatch.setattr("sciencevae.training.loop.STEPS_BETWEEN_READINGS", 10**6)

    class Later(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros(()))

        def forward(self, terms, batch):
            if self.training:
                self.steps += 1
            return torch.where(self.steps == 34, math.nan, 0.0) * torch.ones(len(batch))

    rows = ", ".join(map(str, InMemory(outlier()).order(2, 1).between(8 * BATCH, 9 * BATCH)))
    later, x = ELBO(extra={"later": Term(1.0, Later())}), torch.randn(ROWS, 4)
    with pytest.raises(RunError, match=rf"step 34 \(epoch 2, seed 2\): that of 8 of the 8 .*: row {rows}\."):
        fit(build(), x, later, x, settings(valid_every=3), progress=False)


def test_prepared_data_are_named_by_their_identifier(tmp_path):
    names = [f"star {k}" for k in range(ROWS)]
    ds = xr.Dataset(
        {"x": (("sample", "feature"), outlier().numpy())},
        coords={
            "source_id": ("sample", names),
            "split": ("sample", np.repeat(np.int8([0, 1]), [ROWS - 10, 10])),
        },
        attrs={"identifier": "source_id", "scaling": "{}"},
    )
    path = tmp_path / "data.zarr"
    write(ds, path, shuffle=False)
    for given in (ds, path, Streaming(path, "train"), as_batches(path, "train").to(torch.float32)):
        with pytest.raises(RunError, match=rf"1 of the 8 data .*: source_id star {BAD}\."):
            fit(build(), given, settings=settings(), progress=False)


def test_validation_data_are_named():
    x = torch.randn(ROWS, 4)
    with pytest.raises(RunError, match=rf"validation loss is not finite.*validation data: row {BAD}$"):
        fit(build(), x, valid=outlier(), settings=settings(epochs=1), progress=False)


def test_the_member_of_an_ensemble_is_named():
    seeds = [4, 7]
    first = min(seeds, key=expected_step)
    pattern = rf"from step {expected_step(first)} \(epoch 1, seed {first}\): that of 1 .*: row {BAD}\."
    with pytest.raises(RunError, match=pattern):
        fit_ensemble(build, outlier(), seeds, settings=settings(), progress=False)


def test_rows_of_a_batch_are_those_that_the_epoch_hands_out(tmp_path):
    x = torch.arange(53.0)[:, None]
    path = tmp_path / "data.zarr"
    write(xr.Dataset({"x": (("sample", "feature"), x.numpy())}, attrs={"scaling": "{}"}), path, shuffle=False)
    for batches in (InMemory(x), InMemory(x, block=7, window=2), Streaming(path)):
        for number, batch in enumerate(batches.epoch(3, 1, 8)):
            rows = batches.order(3, 1).between(number * 8, number * 8 + 8)
            assert batch.x[batch.weight > 0, 0].tolist() == rows.tolist()
    assert re.fullmatch("row of the store 3, 52", Streaming(path).named(np.array([3, 52])))
