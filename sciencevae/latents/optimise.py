"""The best datum that a latent space can decode to, in few evaluations: Bayesian optimisation in a trust region."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciencevae.errors import InputError, RunError

__all__ = ["trust_region"]

_SHORTEST, _LONGEST, _FIRST = 0.5**7, 1.6, 0.8
_CANDIDATES = 2000
_DRAWN, _PATIENCE = 4, 20
#: dimensions in which a candidate differs from the best point, about
_MOVED = 20
#: of each fit of the process; the next one goes on from there
_FIT_STEPS = 25


def trust_region(
    z: Tensor,
    values: Tensor,
    evaluate: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    calls: int,
    seed: int = 0,
    batch: int = 10,
    bounds: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Points z (N + calls, D) and their values, the first N as given: larger is better, NaN is no value.

    A Gaussian process (Matérn 5/2, a length scale a dimension) is fitted to all values; draws from it are maximised
    over candidates in a box around the best point, which grows where it finds better ones, shrinks where not, and
    begins anew when it is too small: TuRBO-1, Eriksson et al. 2019. Decoding is cheap beside an evaluation: four
    times ``batch`` points are drawn each time, and of those whose datum is new ``batch`` are evaluated. The box
    grows, too, where nothing is new; twenty times without is the end. Needs the extra ``sciencevae[optimise]``
    (botorch).

    evaluate: points (b, D) and a number m → latents (k, D) and values (k,) of what is new, k ≤ m: the points
    themselves, or where their data lie. bounds: (2, D), by default those of ``z``.
    Raises InputError without two finite values to begin with, RunError without botorch.
    """
    try:
        from botorch.generation import MaxPosteriorSampling
    except ImportError as error:
        raise RunError("optimisation needs botorch: pip install 'sciencevae[optimise]'") from error
    if int(values.isfinite().sum()) < 2:
        raise InputError("optimisation begins with two finite values at least")
    low, high = (z.amin(0), z.amax(0)) if bounds is None else bounds
    span = (high - low).clamp(min=1e-9)
    generator = torch.Generator().manual_seed(seed)
    x, y = ((z - low) / span).double(), values.double()
    last = len(x) + calls
    length, better, worse, without = _FIRST, 0, 0, 0
    patience = math.ceil(max(4.0 / batch, z.shape[1] / batch))
    model: Any = None
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(seed)
        warnings.simplefilter("ignore")  # botorch's notes on single precision and jitter
        while len(x) < last and without < _PATIENCE:
            if not without:
                model = _process(x, y, model)
            scale = model.covar_module.lengthscale.detach().squeeze(0)
            candidates = _candidates(x, y, scale, length, generator)
            with torch.no_grad():
                drawn = MaxPosteriorSampling(model, replacement=False)(candidates, num_samples=_DRAWN * batch)
            points, found = evaluate((low + span * drawn).to(z.dtype), min(batch, last - len(x)))
            best = y[y.isfinite()].max()
            x, y = torch.cat([x, ((points - low) / span).double()]), torch.cat([y, found.double()])
            without = 0 if len(points) else without + 1
            if (found > best + 1e-3 * abs(float(best))).any():
                better, worse = better + 1, 0
            else:
                better, worse = 0, worse + 1
            if better == 3 or not len(points):  # a box without anything new is too small, too
                length, better, worse = min(2 * length, _LONGEST), 0, 0
            elif worse >= patience:
                length, worse = length / 2, 0
            if length < _SHORTEST:
                length, better, worse = _FIRST, 0, 0
    return (low + span * x).to(z.dtype), y.to(values.dtype)


def _process(x: Tensor, y: Tensor, before: Any) -> Any:
    """A Gaussian process of the finite values, standardised; its parameters go on from those of the one before."""
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
    from gpytorch.mlls import ExactMarginalLogLikelihood

    good = y.isfinite()
    known = y[good]
    standard = ((known - known.mean()) / known.std().clamp(min=1e-9)).unsqueeze(-1)
    kernel = get_covar_module_with_dim_scaled_prior(ard_num_dims=x.shape[1], use_rbf_kernel=False)
    model = SingleTaskGP(x[good], standard, covar_module=kernel, outcome_transform=None)
    if before is not None:
        model.load_state_dict(before.state_dict())
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    fit_gpytorch_mll(mll, optimizer_kwargs={"options": {"maxiter": _FIT_STEPS}})
    return model


def _candidates(x: Tensor, y: Tensor, scale: Tensor, length: float, generator: torch.Generator) -> Tensor:
    """Points in the box around the best one, its sides in the proportions of the length scales."""
    centre = x[torch.where(y.isfinite(), y, -torch.inf).argmax()]
    weight = scale / scale.mean()
    weight = weight / weight.log().mean().exp()
    low, high = (centre - weight * length / 2).clamp(0, 1), (centre + weight * length / 2).clamp(0, 1)
    dims = x.shape[1]
    drawn = low + (high - low) * torch.rand(_CANDIDATES, dims, generator=generator, dtype=x.dtype)
    moved = torch.rand(_CANDIDATES, dims, generator=generator) <= min(_MOVED / dims, 1.0)
    still = ~moved.any(1)
    moved[still, torch.randint(dims, (int(still.sum()),), generator=generator)] = True
    return torch.where(moved, drawn, centre)
