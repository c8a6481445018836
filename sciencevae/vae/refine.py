"""The best posterior for each datum by itself, and what the encoder loses to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.distributions import DiagonalNormal, FullNormal
from sciencevae.errors import InputError
from sciencevae.vae.model import VAE

__all__ = ["Refined", "refine"]

Normals = DiagonalNormal | FullNormal

#: rounds of ``samples`` draws by which the two posteriors are compared
ROUNDS = 32


class Refined(NamedTuple):
    """posterior: the better of the encoder's and the refined one for each datum, batch shape (B,) ·
    before, after: the ELBO of each datum with the encoder's posterior and with this one, nats, (B,)."""

    posterior: Normals
    before: Tensor
    after: Tensor

    @property
    def gap(self) -> Tensor:
        """The amortisation gap, after − before ≥ 0, (B,)."""
        return self.after - self.before


@torch.no_grad()
def refine(
    model: VAE,
    batch: Batch,
    steps: int = 200,
    learning_rate: float = 0.05,
    samples: int = 8,
    seed: int | None = None,
) -> Refined:
    """Maximise ELBO(x) = E_q[log p(x | z, c) + log p(z | c) − log q(z)] over the parameters of each datum's own q.

    q starts as the encoder's q(z | x, c) and keeps its kind, a diagonal or full Gaussian; ``steps`` steps of Adam,
    whose rate falls in a straight line from ``learning_rate`` (in units of z and of log σ) to 0, each on
    ``samples`` draws. The gradient leaves out the score of q, whose mean is 0, so that it has no noise where q is
    exact (Roeder et al. 2017). Semi-amortised inference: Kim et al. 2018; the amortisation gap: Cremer et al. 2018.

    before and after are measured on 32 · samples fresh draws of noise, common to both, and where the steps did not
    help, the encoder's posterior stays. Nothing of the model changes.

    Raises InputError for a posterior that is no Gaussian of ours.
    """
    if steps < 1 or samples < 1 or not learning_rate > 0:
        raise InputError(
            "refine needs steps ≥ 1, samples ≥ 1 and a learning_rate above 0, not "
            f"{steps}, {samples} and {learning_rate}"
        )
    encoded = model.encode(batch.x, batch.context)
    start, build = _parameters(encoded)
    prior = model.prior(batch.context)

    def log_weight(q: Normals, noise: Tensor) -> Tensor:
        z = q.from_noise(noise)
        return model.decoder(z, batch.context).log_prob(batch.x) + prior.log_prob(z) - q.detach().log_prob(z)

    def draw() -> Tensor:
        return torch.randn((samples, *start[0].shape), dtype=start[0].dtype, device=start[0].device)

    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        moved = [tensor.clone().requires_grad_() for tensor in start]
        optimiser = torch.optim.Adam(moved, lr=learning_rate)
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
            with torch.enable_grad():
                loss = -log_weight(build(moved), draw()).mean(0).sum()
                gradients = torch.autograd.grad(loss, moved)
            for tensor, gradient in zip(moved, gradients, strict=True):
                tensor.grad = gradient
            optimiser.step()
        refined = [tensor.detach() for tensor in moved]
        before = after = start[0].new_zeros(len(start[0]))
        for _ in range(ROUNDS):
            noise = draw()
            before = before + log_weight(build(start), noise).mean(0) / ROUNDS
            after = after + log_weight(build(refined), noise).mean(0) / ROUNDS
    better = after > before
    kept = [torch.where(_like(better, new), new, old) for new, old in zip(refined, start, strict=True)]
    return Refined(build(kept), before, torch.where(better, after, before))


def _parameters(q: object) -> tuple[list[Tensor], Callable[[list[Tensor]], Normals]]:
    """The free parameters of a posterior, first axis B, and how it is built from them."""
    if isinstance(q, DiagonalNormal):
        return [q.loc, q.scale.log()], lambda p: DiagonalNormal(p[0], p[1].exp())
    if isinstance(q, FullNormal):
        root = q.scale_tril
        start = [q.loc, root.diagonal(dim1=-2, dim2=-1).log(), root.tril(-1)]
        return start, lambda p: FullNormal(p[0], torch.diag_embed(p[1].exp()) + p[2].tril(-1))
    raise InputError(
        f"refine moves mean and covariance of a Gaussian posterior, and the encoder gives a {type(q).__name__}: "
        "use encoders.Gaussian"
    )


def _like(rows: Tensor, tensor: Tensor) -> Tensor:
    """(B,) in a shape that broadcasts against (B, …)."""
    return rows.reshape(-1, *[1] * (tensor.dim() - 1))
