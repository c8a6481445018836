"""Walks through the latent space: between data, along dimensions, over the plane, and by analogy.

Everything is a function of latents and a model that is done with training (as ``fit`` and ``load`` give it).
What a walk decodes to is the mean of p(x | z, c), of what has no mean (categories, tokens) the mode, in the scaled
units the model was trained in; of named fields a mapping. A context has one row a latent, or one row for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
import torch.distributions as td
from torch import Tensor

from sciencevae.batch import Batch, Fields
from sciencevae.distributions import DiagonalNormal, FullNormal, Joint, VonMises
from sciencevae.distributions.von_mises import bessel_ratio
from sciencevae.errors import InputError, did_you_mean
from sciencevae.vae.context import Context
from sciencevae.vae.model import VAE, centre

__all__ = ["Decoded", "analogy", "direction", "interpolate", "manifold", "path_length", "traverse"]

KINDS = ("linear", "spherical", "geodesic")
#: the fewest straight pieces a geodesic is computed with: those of a half circle are 0.04 % too short together
PIECES = 32
#: draws by which a prior without closed moments or quantiles is known
DRAWS = 10_000


class Decoded(NamedTuple):
    """z: latents · mean: the mean (or mode) of p(x | z, c) at each of them, with the same leading axes."""

    z: Tensor
    mean: Fields


def interpolate(
    a: Tensor,
    b: Tensor,
    steps: int,
    kind: Literal["linear", "spherical", "geodesic"] = "linear",
    model: VAE | None = None,
    context: Context | None = None,
) -> Tensor:
    """Paths from a to b, (B, D) each, in ``steps`` latents that include both ends exactly: (steps, B, D).

    linear:    (1 − t) a + t b
    spherical: the great circle between the directions, the norm changing linearly (Shoemake 1985)
    geodesic:  the shortest path as the ``model`` decodes it: the minimum of the energy Σ_i ‖f(z_{i+1}) − f(z_i)‖²,
               f(z) = E[x | z, c] as one vector, named fields one behind the other, in which an angle counts as
               the point (cos, sin) of the circle and a category as its indicators. This is the metric JᵀJ,
               J = ∂f/∂z, of Shao et al. 2018 and the deterministic part of that of Arvanitidis, Hansen &
               Hauberg 2018: unlike a divergence between the likelihoods it exists wherever there are means,
               and it does not see their scale.

    A geodesic starts from the straight path and is found with L-BFGS over at least 32 pieces, of which every
    n-th point is returned; at the minimum steps are equally long in f. It is a local minimum; where it does not
    lower the energy of the straight path, that one is returned. ``model.decode(path, context)`` decodes any path.

    Raises InputError for shapes that differ, for latents that are not finite, for opposite directions on a sphere
    of one dimension, where no path leads from one to the other, and for geodesics of what has no mean (tokens).

    >>> interpolate(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 3, "spherical")[1]
    tensor([[0.7071, 0.7071]])
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind of path {kind!r}{did_you_mean(kind, KINDS)}")
    if steps < 2:
        raise InputError(f"a path has at least its two ends, not {steps} steps")
    if a.dim() != 2 or a.shape != b.shape:
        raise InputError(f"the ends of paths are (B, D) each; found {tuple(a.shape)} and {tuple(b.shape)}")
    for end in (a, b):
        _check_latents(end)
    if kind == "linear":
        return _line(a, b, steps)
    if kind == "spherical":
        return _great_circle(a, b, steps)
    if model is None:
        raise InputError("a geodesic is the shortest path as a model decodes it: give model=")
    return _geodesic(model, a, b, steps, _rows(context, len(a)))


@torch.no_grad()
def path_length(path: Tensor, model: VAE, context: Context | None = None) -> Tensor:
    """Σ_i ‖f(z_{i+1}) − f(z_i)‖ of paths (steps, B, D) as ``model`` decodes them, (B,); f as in ``interpolate``.

    In the scaled units of the data. Chords cut corners: with few steps a bent path comes out too short.
    """
    f = _expected(model.decode(path, _rows(context, path.shape[1])))
    return f.diff(dim=0).square().sum(-1).sqrt().sum(0)


@torch.no_grad()
def traverse(
    model: VAE,
    z: Tensor,
    dims: Sequence[int] | None = None,
    span: float | None = 3.0,
    steps: int = 7,
    context: Context | None = None,
    seed: int = 0,
) -> Decoded:
    """Change one dimension of z at a time over the range of the prior, the others staying as they are.

    z (D,) or (B, D); dims: which dimensions, by default all. In row d and step s, z_d is replaced (Higgins et
    al. 2017) by μ_d + t σ_d, t from −span to span, μ and σ being the prior's mean and standard deviation; with
    ``span=None`` by the prior's quantiles (s − ½)/steps. Gives latents (dims, steps, D) or (dims, steps, B, D)
    and means of the same leading axes.
    seed: of the draws by which a prior without closed moments is known; torch's generator stays as it was.
    """
    if z.dim() not in (1, 2) or z.shape[-1] != model.dim:
        raise InputError(f"the latents are ({model.dim},) or (B, {model.dim}); found {tuple(z.shape)}")
    _check_latents(z)
    dims = range(model.dim) if dims is None else dims
    wrong = [d for d in dims if not 0 <= d < model.dim]
    if wrong or not len(dims):
        raise InputError(f"dims are among 0 … {model.dim - 1}; found {wrong or 'none'}")
    base = z.reshape(-1, model.dim)  # (B, D)
    rows = _rows(context, len(base))
    values = _prior_values(model.prior(rows), span, steps, seed).to(base)  # (steps, 1 or B, D)
    latents = base.repeat(len(dims), steps, 1, 1)
    for row, d in enumerate(dims):
        latents[row, :, :, d] = values[:, :, d]
    walks = latents.flatten(0, 1)
    found = _shaped(centre(model.decode(walks, rows)), (len(dims), steps, len(base)))
    return Decoded(latents, found) if z.dim() == 2 else Decoded(latents[:, :, 0], _each(found, _only_pair))


@torch.no_grad()
def manifold(model: VAE, steps: int = 20, context: Context | None = None, seed: int = 0) -> Decoded:
    """The plane of two latent dimensions as it decodes: z (steps, steps, 2), means (steps, steps, *E).

    z[i, j] = (F₀⁻¹((i + ½)/n), F₁⁻¹((j + ½)/n)) for the n ``steps``, F_d being the distribution function of the
    prior's dimension d: equal shares of the prior everywhere. Kingma & Welling 2014, appendix A, figure 4.
    context: one row. seed: of the draws by which the quantiles of a prior that is not normal are known.
    """
    if model.dim != 2:
        raise InputError(
            f"the manifold is a picture of 2 latent dimensions, and this model has {model.dim}: use "
            "traverse(model, z), a row a dimension, or train a model with dim=2"
        )
    if steps < 1:
        raise InputError(f"a manifold needs steps ≥ 1, not {steps}")
    one = _rows(context, 1)
    values = _prior_values(model.prior(one), None, steps, seed)[:, 0]  # (steps, 2)
    grid = torch.cartesian_prod(values[:, 0], values[:, 1])  # (steps², 2)
    found = _shaped(centre(model.decode(grid.unsqueeze(1), one)), (steps, steps, 1))
    return Decoded(grid.unflatten(0, (steps, steps)), _each(found, _only_pair))


def direction(z_with: Tensor, z_without: Tensor) -> Tensor:
    """The attribute vector mean(z_with) − mean(z_without), (D,), from latents (N, D) and (M, D). White 2016.

    Add it, or a part of it, to a latent to give it the attribute.
    """
    for z in (z_with, z_without):
        if z.dim() != 2 or not len(z) or z.shape[1] != z_with.shape[1]:
            raise InputError(
                f"latents with and without are (N, D) and (M, D), neither empty; found {tuple(z_with.shape)} "
                f"and {tuple(z_without.shape)}"
            )
        _check_latents(z)
    return z_with.mean(0) - z_without.mean(0)


@torch.no_grad()
def analogy(model: VAE, a: Batch, b: Batch, c: Batch) -> Tensor:
    """What is to c as b is to a: z(c) + mean z(b) − mean z(a), (B, D) for the B data of c.

    z(x) is the posterior mean. ``model.decode(…, c.context)`` shows it.
    """
    z_a, z_b, z_c = (model.encode(batch.x, batch.context).mean for batch in (a, b, c))
    return z_c + direction(z_b, z_a)


# ---- paths -----------------------------------------------------------------------------------------------


def _line(a: Tensor, b: Tensor, steps: int) -> Tensor:
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device).view(-1, 1, 1)
    return (1 - t) * a + t * b  # (steps, B, D); exact at both ends


def _great_circle(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """cos(tθ) e₁ + sin(tθ) e₂ in the plane of the two directions, which is stable at every angle θ.

    The usual weights sin((1 − t)θ)/sin θ are 0/0 for parallel directions, and lose all digits near opposite ones.
    """
    norm_a, norm_b = (torch.linalg.vector_norm(end, dim=-1, keepdim=True) for end in (a, b))
    first, second = _unit(a), _unit(b)
    # the origin has no direction: its path is the straight one along the other's
    first, second = torch.where(norm_a > 0, first, second), torch.where(norm_b > 0, second, first)
    if a.shape[1] == 1 and (first * second < 0).any():
        raise InputError("opposite latents of one dimension have no circle between them: use kind='linear'")
    angle = 2 * torch.atan2(_norm(first - second), _norm(first + second))  # (B, 1)
    # where the directions span no plane any one through the first does
    axis = torch.nn.functional.one_hot(first.abs().argmin(-1), a.shape[1]).to(a.dtype)
    across = second - (second * first).sum(-1, keepdim=True) * first
    across = torch.where(_norm(across) > 0, across, axis)
    for _ in range(2):  # once leaves rounding of the size of a short vector itself
        across = _unit(across - (across * first).sum(-1, keepdim=True) * first)
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)[1:-1].view(-1, 1, 1)
    unit = torch.cos(t * angle) * first + torch.sin(t * angle) * across
    return torch.cat([a.unsqueeze(0), ((1 - t) * norm_a + t * norm_b) * unit, b.unsqueeze(0)])


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def _unit(x: Tensor) -> Tensor:
    """The direction of x, and 0 of 0."""
    norm = _norm(x)
    return x / torch.where(norm > 0, norm, torch.ones_like(norm))


def _geodesic(model: VAE, a: Tensor, b: Tensor, steps: int, context: Context) -> Tensor:
    """The path of least energy from a to b, as sines added to the straight one."""
    every = -(-PIECES // (steps - 1))
    pieces = every * (steps - 1)
    a, b = a.detach(), b.detach()
    straight = _line(a, b, pieces + 1)
    # Sines of weight 1/k have the same curvature for all k where the metric is flat: without that the number of
    # iterations grows with the number of pieces.
    k = torch.arange(1, pieces, dtype=a.dtype, device=a.device)
    waves = torch.sin(torch.pi * torch.outer(k, k) / pieces) / k  # (points, k)
    size = _norm(b - a)

    def bent(coefficients: Tensor) -> Tensor:
        inner = straight[1:-1] + size * torch.einsum("pk,kbd->pbd", waves, coefficients)
        return torch.cat([straight[:1], inner, straight[-1:]])

    def energy(path: Tensor) -> Tensor:
        return _expected(model.decode(path, context)).diff(dim=0).square().sum((0, -1))  # (B,)

    with torch.no_grad():
        before = energy(straight)
    if not before.isfinite().all():
        raise InputError(
            "the mean of this model's likelihood is not finite along the straight path: it has no geodesics; use "
            "kind='linear' or 'spherical'"
        )
    unit = torch.where(before > 0, before, torch.ones_like(before))
    with torch.enable_grad():
        coefficients = straight.new_zeros(pieces - 1, *a.shape).requires_grad_()
        optimiser = torch.optim.LBFGS(
            [coefficients],
            max_iter=1000,
            history_size=50,
            tolerance_change=1e-10,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            loss = (energy(bent(coefficients)) / unit).sum()
            # of the coefficients alone: the model's own gradients are the user's
            (coefficients.grad,) = torch.autograd.grad(loss, coefficients)
            return loss

        optimiser.step(closure)
    with torch.no_grad():
        path = bent(coefficients)
        lower = energy(path) < before  # not so, too, where something is NaN
        return torch.where(lower[:, None], path, straight)[::every]


def _expected(likelihood: td.Distribution, name: str = "x") -> Tensor:
    """E[x | z, c] as one vector, (S, B, n); an angle as (cos, sin), a category as its indicators."""
    if isinstance(likelihood, Joint):
        return torch.cat([_expected(field, name) for name, field in likelihood.fields.items()], dim=-1)
    base = getattr(likelihood, "base_dist", likelihood)
    if isinstance(base, VonMises):
        length = bessel_ratio(base.concentration)
        parts = [length * base.loc.cos(), length * base.loc.sin()]
    elif isinstance(base, td.Categorical):
        parts = [base.probs]
    else:
        try:
            parts = [likelihood.mean]
        except NotImplementedError:
            raise InputError(
                f"the likelihood of {name!r} has no mean, so paths have no length as this model decodes them: use "
                "kind='linear' or 'spherical'"
            ) from None
    return torch.cat([part.flatten(2) for part in parts], dim=-1)


# ---- what the walks share --------------------------------------------------------------------------------


def _check_latents(z: Tensor) -> None:
    if not z.is_floating_point():
        raise InputError(
            f"the latents are {z.dtype}: there is nothing between codes; give continuous latents"
        )
    if not z.isfinite().all():
        raise InputError("some latents are not finite: drop them (their status says why)")


def _rows(context: Context | None, rows: int) -> dict[str, Tensor]:
    """The context with a row for each of ``rows`` latents; a single row is that of all."""
    found = {}
    for name, tensor in (context or {}).items():
        if len(tensor) not in (1, rows):
            raise InputError(
                f"context[{name!r}] has {len(tensor)} rows for {rows} latent(s): give one row a latent, or a "
                "single one"
            )
        found[name] = tensor.expand(rows, *tensor.shape[1:])
    return found


def _prior_values(prior: td.Distribution, span: float | None, steps: int, seed: int) -> Tensor:
    """Values of each dimension over the prior, (steps, 1 or B, D): see ``traverse``."""
    if steps < 1 or (span is not None and not span > 0):
        raise InputError(
            f"a walk over the prior needs steps ≥ 1 and a span above 0 or None, not {steps}, {span}"
        )
    levels = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    if span is None and not isinstance(prior, DiagonalNormal | FullNormal):
        ordered = _draws(prior, seed).sort(0).values  # each dimension for itself
        values = ordered[(levels * DRAWS).long().to(ordered.device)]
    else:
        t = torch.special.ndtri(levels) if span is None else torch.linspace(-span, span, steps)
        mean, std = _moments(prior, seed)
        values = mean + t.to(mean).view(-1, *[1] * mean.dim()) * std
    return values if values.dim() == 3 else values.unsqueeze(1)


def _moments(prior: td.Distribution, seed: int) -> tuple[Tensor, Tensor]:
    try:
        return prior.mean, prior.stddev
    except NotImplementedError:  # a flow
        draws = _draws(prior, seed)
        return draws.mean(0), draws.std(0)


def _draws(prior: td.Distribution, seed: int) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return prior.sample((DRAWS,))


def _each(fields: Fields, function: Callable[[Tensor], Tensor]) -> Fields:
    if isinstance(fields, Tensor):
        return function(fields)
    return {name: function(tensor) for name, tensor in fields.items()}


def _shaped(fields: Fields, leading: tuple[int, int, int]) -> Fields:
    """(S, B, *E) as (…, …, B, *E)."""
    return _each(fields, lambda tensor: tensor.reshape(*leading, *tensor.shape[2:]))


def _only_pair(tensor: Tensor) -> Tensor:
    return tensor[:, :, 0]
