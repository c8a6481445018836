"""A prior fitted afterwards to where a trained model puts its data, all else as it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from sciencevae.batch import Batch
from sciencevae.data.augment import Augmented
from sciencevae.data.batches import Batches, InMemory
from sciencevae.distributions import DiagonalNormal, FullNormal
from sciencevae.errors import InputError
from sciencevae.training.history import History
from sciencevae.training.loop import EVALUATION_ROWS, Loop
from sciencevae.training.progress import Report
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import Loss, Objective
from sciencevae.vae.objectives.base import Scalars
from sciencevae.vae.priors import Flow, GaussianMixture, Prior

if TYPE_CHECKING:
    from sciencevae.config import RefitSettings

__all__ = ["fit_prior", "refit_prior"]

#: rows that go through the encoder at once
BLOCK_ROWS = 2048
#: bytes of encoded posteriors up to which they are kept; beyond, data are encoded anew at each pass
MEMORY = 2 << 30
#: added to the seed of EM's draws: who measures the prior with the same seed must not draw what it was fitted to
STREAM = 1_299_709
#: that a component of a run's mixture has at least, in the mean, for each direction of its covariance
LATENTS = 10
#: draws that EM sees, at most: its parameters are known to a thousandth then, and it holds all draws at once
EM_DRAWS = 200_000


def fit_prior(
    model: VAE,
    train: Any,
    prior: Prior | None = None,
    valid: Any = None,
    settings: TrainingSettings | None = None,
    seed: int = 0,
    progress: bool | Report | None = None,
) -> History:
    """Give a trained model ``prior`` (None: the one it has), fitted to the aggregate posterior, and nothing else.

    It maximises E_q[log p(z | c)], q(z) = 1/N Σ_n q(z | x_n): the one term of the ELBO that knows the prior
    (Hoffman & Johnson 2016), so the ELBO of the training data rises by as much. A GaussianMixture is fitted by EM
    to one draw of each datum's posterior (at most 200,000), any other prior by ``fit`` with draws anew at each
    step. All other parameters stay as they are, and so does a VampPrior's encoder.

    train, valid, settings, progress: as of ``fit``. seed: of the draws EM sees, and of the training where settings
    are left out.

    The history has −E_q[log p(z | c)], nats a datum, as ``train_loss`` and ``valid_loss``; ``best_loss`` is the
    held-out value of the fitted prior, by which kinds of prior can be compared: with one seed it is of the same
    draws for each. If an error occurs, the model keeps its prior.

    Raises InputError for a prior that has another dimension, or nothing to fit.
    """
    old, new = model.prior, model.prior if prior is None else prior
    dims = (getattr(new, "dim", None), getattr(model.encoder, "dim", None))
    if None not in dims and dims[0] != dims[1]:
        raise InputError(f"the prior has {dims[0]} latent dimensions and the model {dims[1]}")
    reference = next(model.parameters())
    new.to(reference.device, reference.dtype)
    settings = settings or TrainingSettings(seed=seed)
    before = model.training
    try:
        model.prior = new
        with _frozen(model):
            fitted = _Fitted(model)
            loop = _loop(fitted, train, valid, settings)  # reads the data, and moves the model to its device
            if isinstance(new, GaussianMixture):
                return _by_em(fitted, new, loop, seed)
            known = _encoded(model, loop.train)
            if known is not None:
                held = None if loop.valid is None else _encoded(model, loop.valid) or loop.valid
                loop = _loop(fitted, known, held, settings)
            return loop.run(None, False, progress)[0]
    except BaseException:
        model.prior = old
        raise
    finally:
        model.train(before)


def refit_prior(
    kind: str,
    settings: RefitSettings,
    model: VAE,
    train: Any,
    valid: Any,
    seed: int,
    others: Mapping[str, Callable[[], Prior]] | None = None,
) -> History | None:
    """What a run's ``refit`` does: a prior of a kind, "mixture" or "flow", fitted afterwards; None for "none".

    The prior of training stays where held-out latents find the fitted one worse, as they do a mixture with more
    parameters than there are latents: ``best_epoch`` is 0 then. The history's first row, epoch 0, has its value.

    others: kinds that a domain has besides, and how each is built
    """
    if kind == "none":
        return None
    old = model.prior
    kinds: dict[str, Callable[[], Prior]] = {
        "mixture": lambda: _mixture(model.dim, settings, len(train)),
        "flow": lambda: Flow(model.dim),
        **(others or {}),
    }
    training = settings.training.model_copy(update={"seed": seed})
    history = fit_prior(model, train, kinds[kind](), valid, training, seed=seed, progress=False)
    new, model.prior = model.prior, old
    before = _cross_entropy(model, train, valid, training)
    history.rows.insert(0, {"epoch": 0, "step": 0, "seconds": 0.0, "valid_loss": before})
    if history.best_loss is not None and history.best_loss < before:
        model.prior = new
    else:  # not a number, too
        history.best_epoch, history.best_loss = 0, before
    return history


def _mixture(dim: int, settings: RefitSettings, latents: int) -> GaussianMixture:
    """Of the components that are set, as many as there are latents to tell their covariances from."""
    least = LATENTS * (dim if settings.covariance == "full" else 1)
    components = max(1, min(settings.components, latents // least))
    return GaussianMixture(dim, components, covariance=settings.covariance)


def _cross_entropy(model: VAE, train: Any, valid: Any, settings: TrainingSettings) -> float:
    """−E_q[log p(z)] of the prior that a model has, on the draws by which ``fit_prior`` judges."""
    before = model.training
    try:
        fitted = _Fitted(model)
        loop = _loop(fitted, train, valid, settings)
        assert loop.valid is not None
        return _held_out(fitted, loop, loop.valid)
    finally:
        model.train(before)


def _loop(fitted: _Fitted, train: Any, valid: Any, settings: TrainingSettings) -> Loop:
    return Loop([cast(VAE, fitted)], train, _CrossEntropy(), valid, settings)


@contextlib.contextmanager
def _frozen(model: VAE) -> Iterator[None]:
    """Without gradients for all parameters but those that belong to the prior alone."""
    others = {id(p) for name, part in model.named_children() if name != "prior" for p in part.parameters()}
    if not any(p.requires_grad and id(p) not in others for p in model.prior.parameters()):
        raise InputError(
            f"a {type(model.prior).__name__} has no parameters of its own to fit: give fit_prior another prior, as "
            "priors.GaussianMixture or priors.Flow"
        )
    flags = [(p, p.requires_grad) for p in model.parameters()]
    try:
        for parameter, flag in flags:
            parameter.requires_grad_(flag and id(parameter) not in others)
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


class _Fitted(nn.Module):
    """The model as ``fit`` sees it: log p(z | c), (S, B), of draws of posteriors, made now or encoded before."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def train(self, mode: bool = True) -> _Fitted:
        # what is not fitted neither drops units nor moves its running statistics
        super().train(mode)
        for name, part in self.model.named_children():
            if name != "prior":
                part.eval()
        return self

    def noise_shape(self, samples: int, rows: int) -> tuple[int, ...]:
        return self.model.noise_shape(samples, rows)

    def check(self, batch: Batch) -> None:
        if _posterior_of(batch) is None:
            self.model.check(batch)

    def forward(self, batch: Batch, samples: int, noise: Tensor | None) -> Tensor:
        if self.model.coded:
            codes = self.model.encoder(batch.x, batch.context).mode  # (B, *grid), all there is to draw
            return self.model.prior(batch.context).log_prob(codes.unsqueeze(0))
        posterior = _posterior_of(batch)
        if posterior is None:
            return self.model.terms(batch, samples, noise).log_pz
        z = posterior.rsample((samples,)) if noise is None else posterior.from_noise(noise)
        return self.model.prior(batch.context).log_prob(z)


class _CrossEntropy(Objective):
    """−E_q[log p(z | c)]."""

    def loss(self, model: VAE, batch: Batch, noise: Tensor | None, scalars: Scalars) -> Loss:
        loss = -model(batch, self.samples, noise).mean(0)
        return Loss(loss, {"loss": loss})


#: names that fields of a batch have when they are not data, but an encoded posterior
LOC, SCALE, ROOT = "posterior: loc", "posterior: scale", "posterior: Cholesky factor"


def _posterior_of(batch: Batch) -> DiagonalNormal | FullNormal | None:
    if isinstance(batch.x, Tensor) or LOC not in batch.x:
        return None
    if SCALE in batch.x:
        return DiagonalNormal(batch.x[LOC], batch.x[SCALE])
    return FullNormal(batch.x[LOC], batch.x[ROOT])


@torch.no_grad()
def _encoded(model: VAE, data: Batches) -> InMemory | None:
    """The posteriors of all data, once; None where they are no normals, change, or are too many to keep."""
    if isinstance(data, Augmented):
        return None
    device = next(model.parameters()).device
    model.eval()
    parts: list[Batch] = []
    for block in data.blocks(data.at_once(BLOCK_ROWS)):
        block = block.to(device)
        model.check(block)
        posterior = model.encode(block.x, block.context)
        if isinstance(posterior, DiagonalNormal):
            fields = {LOC: posterior.loc, SCALE: posterior.scale}
        elif isinstance(posterior, FullNormal):
            fields = {LOC: posterior.loc, ROOT: posterior.scale_tril}
        else:
            return None
        context = {name: tensor for name, tensor in block.context.items() if name != "noise"}
        part = Batch(fields, context, weight=block.weight)
        if not parts and len(data) * sum(t.nbytes for t in part.tensors().values()) > MEMORY * len(block):
            return None
        parts.append(part)
    columns = [part.tensors() for part in parts]
    return InMemory(Batch.from_tensors({n: torch.cat([c[n] for c in columns]) for n in columns[0]}))


def _by_em(fitted: _Fitted, prior: GaussianMixture, loop: Loop, seed: int) -> History:
    begun = time.monotonic()
    with torch.random.fork_rng():
        torch.manual_seed(seed + STREAM)
        z, weight = _draws(fitted.model, loop.train, seed)
        if not bool((weight == weight[0]).all()):  # EM knows no weights
            z_seen = z[torch.multinomial(weight, len(z), replacement=True)]
        else:
            z_seen = z
    prior.fit(z_seen, seed=seed)
    row = {"epoch": 1, "step": 0, "seconds": time.monotonic() - begun}
    with torch.no_grad():
        log_p = torch.cat([prior().log_prob(some) for some in z.split(BLOCK_ROWS)])
    row["train_loss"] = float(-(weight * log_p).sum() / weight.sum())
    history = History([row], stopped="epochs", seconds=row["seconds"])
    if loop.valid is not None:
        row["valid_loss"] = history.best_loss = _held_out(fitted, loop, loop.valid)
        history.best_epoch = 1
    return history


@torch.no_grad()
def _held_out(fitted: _Fitted, loop: Loop, data: Batches) -> float:
    """−E_q[log p(z)], of the draws that validation in ``fit`` has: kinds of prior are compared on the same ones."""
    fitted.eval()
    total = whole = 0.0
    for number, block in enumerate(data.blocks(data.at_once(EVALUATION_ROWS))):
        block = block.to(loop.device)
        log_p = fitted(block, 1, loop._noise(number, len(block), tag=1))[0]
        weight = torch.ones_like(log_p) if block.weight is None else block.weight
        total, whole = total - float((weight * log_p).sum()), whole + float(weight.sum())
    return total / whole


@torch.no_grad()
def _draws(model: VAE, data: Batches, seed: int) -> tuple[Tensor, Tensor]:
    """One draw of each datum's posterior, (N, D), or of random data where they are many; and their weights."""
    device = next(model.parameters()).device
    model.eval()
    if len(data) <= EM_DRAWS:
        blocks = data.blocks(data.at_once(BLOCK_ROWS))
    else:
        blocks = data.epoch(seed, 0, BLOCK_ROWS)
    draws, weights, found = [], [], 0
    for block in blocks:
        if found >= EM_DRAWS:
            break
        weight = torch.ones(len(block)) if block.weight is None else block.weight
        block = replace(block, weight=None).to(device)
        model.check(block)
        draws.append(model.encode(block.x, block.context).sample())
        weights.append(weight.to(draws[-1]))
        found += len(block)
    return torch.cat(draws), torch.cat(weights)
