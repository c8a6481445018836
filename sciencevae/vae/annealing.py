"""The evidence log p(x) by annealed importance sampling, where the posterior is no good proposal."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
import torch.distributions as td
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.errors import InputError, did_you_mean
from sciencevae.vae.evidence import Evidence, Weights, warned
from sciencevae.vae.model import VAE

__all__ = ["annealed_evidence"]

#: the share of accepted proposals for which a trajectory of given length goes furthest (Beskos et al. 2013)
ACCEPTANCE = 0.65
#: chains a datum, and transitions before annealing begins, that only find the sizes of the steps
PILOTS, SETTLING = 8, 50
#: change of a log step size for an acceptance that is wrong by 1
GAIN = 0.2


@torch.no_grad()
def annealed_evidence(
    model: VAE,
    batch: Batch,
    temperatures: int = 200,
    chains: int = 100,
    leapfrog: int = 5,
    start: Literal["prior", "posterior"] = "prior",
    seed: int | None = None,
) -> Evidence:
    """log p(x | c) ≈ log 1/S Σ_s w_s, log w = Σ_t (β_t − β_{t−1}) [log p(x, z_{t−1}) − log f(z_{t−1})].

    Neal 2001; for VAEs Wu et al. 2017. z_0 ~ f, the prior p(z | c) or the posterior q(z | x, c), and z_t follows
    from z_{t−1} by one transition of Hamiltonian Monte Carlo that leaves f^(1−β_t) p(x, z)^β_t as it is, while β
    goes from 0 to 1 in ``temperatures`` steps, slowly at both ends (a sigmoid). Unlike ``log_evidence`` it does not
    need a posterior that covers p(z | x): that of the prior is always wide enough.

    chains: S independent weights a datum, S × B rows at once; exp(value) is unbiased at any number of
    temperatures, so value is a lower bound of log p(x) in expectation. The fields are those of ``log_evidence``,
    of S weights. leapfrog: steps of a trajectory, each a gradient of the decoder; in all
    (S + 8) · B · temperatures · (leapfrog + 1) gradients.

    The sizes of the steps, one for each datum and temperature, are adapted to an acceptance of 0.65 on 8 chains of
    their own, which run first and are then thrown away: for the S chains they are constants, so each transition
    is exact and nothing is biased.

    Raises InputError for latents that are not continuous, and where the data do not fit the model.
    """
    if start not in ("prior", "posterior"):
        raise InputError(
            f"annealing starts from 'prior' or 'posterior'{did_you_mean(start, ['prior', 'posterior'])}"
        )
    if temperatures < 1 or chains < 2 or leapfrog < 1:
        raise InputError(
            "annealed_evidence needs temperatures ≥ 1, chains ≥ 2 and leapfrog ≥ 1, not "
            f"{temperatures}, {chains} and {leapfrog}"
        )
    model.check(batch)
    ramp = torch.sigmoid(torch.linspace(-4, 4, temperatures + 1, dtype=torch.float64))
    betas = ((ramp - ramp[0]) / (ramp[-1] - ramp[0])).tolist()
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        path = _Path(model, batch, start)
        sizes = _step_sizes(path, betas, leapfrog)
        z = path.draw(chains)
        log_w = z.new_zeros(z.shape[:2])  # (S, B)
        for (before, beta), size in zip(pairwise(betas), [*sizes, None], strict=True):
            log_w = log_w + (beta - before) * path.log_ratio(z)
            if size is not None:  # after the last weight nothing is left to move for
                z, _ = _transition(path, z, beta, size, leapfrog)
    weights = Weights(chains)
    weights.add(log_w)
    return warned(weights.evidence(), chains, "take more chains (25 at least), or more temperatures")


class _Path:
    """The densities f(z)^(1−β) p(x, z)^β between f, from which one can draw, and p(x, z); z (S, B, D)."""

    def __init__(self, model: VAE, batch: Batch, start: str) -> None:
        self.model, self.batch = model, batch
        self.prior: td.Distribution = model.prior(batch.context)
        self.base = self.prior if start == "prior" else model.encoder(batch.x, batch.context)

    def draw(self, chains: int) -> Tensor:
        shape = (chains,) if len(self.base.batch_shape) else (chains, len(self.batch))
        z = self.base.sample(shape)
        if not z.is_floating_point():
            raise InputError(
                "annealing moves latents along gradients, and those of this model are not continuous"
            )
        return z

    def log_ratio(self, z: Tensor) -> Tensor:
        """log p(x, z) − log f(z), (S, B)."""
        log_px = self.model.decoder(z, self.batch.context).log_prob(self.batch.x)
        if self.base is self.prior:
            return log_px
        return log_px + self.prior.log_prob(z) - self.base.log_prob(z)

    def __call__(self, z: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """log f^(1−β) p^β (S, B), and its gradient (S, B, D)."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            value = self.base.log_prob(z) + beta * self.log_ratio(z)
            (gradient,) = torch.autograd.grad(value.sum(), z)
        return value.detach(), gradient


def _transition(path: _Path, z: Tensor, beta: float, size: Tensor, leapfrog: int) -> tuple[Tensor, Tensor]:
    """One transition of Hamiltonian Monte Carlo: z (S, B, D), and the probability of acceptance (S, B).

    size (B,): of the leapfrog steps. Neal 2011, MCMC using Hamiltonian dynamics, §5.3.
    """
    step = size.unsqueeze(-1)
    momentum = torch.randn_like(z)
    value, gradient = path(z, beta)
    moved, p = z, momentum + 0.5 * step * gradient
    for number in range(leapfrog):
        moved = moved + step * p
        new_value, gradient = path(moved, beta)
        p = p + (0.5 if number == leapfrog - 1 else 1.0) * step * gradient
    log_ratio = new_value - value + 0.5 * (momentum.square() - p.square()).sum(-1)
    # a trajectory that leaves the numbers is not accepted
    log_ratio = torch.where(log_ratio.isnan(), -torch.inf, log_ratio)
    accepted = torch.rand_like(log_ratio).log() < log_ratio
    return torch.where(accepted.unsqueeze(-1), moved, z), log_ratio.clamp(max=0).exp()


def _step_sizes(path: _Path, betas: list[float], leapfrog: int) -> list[Tensor]:
    """The size of a step, (B,), at each temperature strictly between the first and the last."""
    z = path.draw(PILOTS)
    log_size = z.new_zeros(z.shape[1])
    sizes = []
    for beta in [betas[0]] * SETTLING + betas[1:-1]:
        z, probability = _transition(path, z, beta, log_size.exp(), leapfrog)
        sizes.append(log_size.exp())
        log_size = log_size + GAIN * (probability.mean(0) - ACCEPTANCE)
    return sizes[SETTLING:]
