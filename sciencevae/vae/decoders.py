"""Decoders p(x | z, c): modules whose forward takes latents and context and returns a distribution."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.distributions as td
from torch import Tensor, nn

from sciencevae.distributions import CovarianceNormal, Masked, Normal
from sciencevae.distributions import VonMises as VonMisesDistribution
from sciencevae.distributions.masked import observed_entries
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context, condition_of, full_precision

__all__ = ["Bernoulli", "Decoder", "Gaussian", "VonMises"]


class Decoder(nn.Module):
    """Contract: ``forward(z, context)`` with z (S, B, D) returns p(x | z, c) with batch shape (S, B).

    The network sees one batch axis of S·B rows, and the condition repeated to match. Its output's axis 1 holds
    the ``outputs`` of the likelihood one block after another: (S·B, outputs·n, …) for x (B, n, …).
    """

    outputs = 1

    def __init__(self, network: nn.Module, conditional: bool = False) -> None:
        super().__init__()
        self.network, self.conditional = network, conditional

    def forward(self, z: Tensor, context: Context | None = None) -> td.Distribution:
        draws, rows = z.shape[:2]
        condition = condition_of("the decoder", context, self.conditional)
        repeated = (c.expand(draws, *c.shape).flatten(0, 1) for c in condition)
        out = full_precision(self.network(z.flatten(0, 1), *repeated))  # (S·B, outputs·n, …)
        if out.dim() < 2 or out.shape[1] % self.outputs:
            raise InputError(
                f"the decoder's network gave {tuple(out.shape)}; a {type(self).__name__} likelihood needs "
                f"(B, {self.outputs}·n, …)"
            )
        blocks = out.unflatten(0, (draws, rows)).chunk(self.outputs, dim=2)  # each (S, B, n, …)
        return self.likelihood(blocks, context or {})

    def likelihood(self, blocks: tuple[Tensor, ...], context: Context) -> td.Distribution:
        """p(x | z, c) from the network's output, one tensor (S, B, n, …) a parameter."""
        raise NotImplementedError

    def check(self, x: Any, context: Context) -> None:
        """Raise InputError where data x (B, n, …) lie outside the support, naming what was found."""


@recorded
class Gaussian(Decoder):
    """p(x | z, c) = N(x; μ(z, c), Σ), of which NaN entries of x are marginalised.

    scale: a number; "learned", one σ a variable (a variable is an entry of x's first axis: a column of a
    table, a channel of a grid); "predicted", the network gives (mean, log variance), 2n numbers; or
    "per-datum", the known error of each datum: ``context["noise"]``, (B, n) standard deviations or (B, n, n)
    covariances. ``intrinsic="learned"`` adds a learned scatter a variable to the known one:
    Σ = Σ_noise + diag(σ_intrinsic²).
    features: the number of variables, where a learned scale can't read it from ``network.out_features``.
    initial: the learned σ at the start of training, in the units of the (scaled) data.
    """

    def __init__(
        self,
        network: nn.Module,
        scale: float | Literal["learned", "predicted", "per-datum"] = 1.0,
        intrinsic: Literal["learned"] | None = None,
        features: int | None = None,
        initial: float = 1.0,
        conditional: bool = False,
    ) -> None:
        super().__init__(network, conditional)
        if isinstance(scale, str):
            if scale not in ("learned", "predicted", "per-datum"):
                raise InputError(f"scale is a number, 'learned', 'predicted' or 'per-datum', not {scale!r}")
        elif not scale > 0:
            raise InputError(f"a Gaussian likelihood needs a scale above 0, not {scale}")
        if intrinsic not in (None, "learned"):
            raise InputError(f"intrinsic is None or 'learned', not {intrinsic!r}")
        if intrinsic and scale != "per-datum":
            raise InputError("an intrinsic scatter adds to known noise: it needs scale='per-datum'")
        self.scale, self.intrinsic = scale, intrinsic
        self.outputs = 2 if scale == "predicted" else 1
        if scale == "learned" or intrinsic:
            count = features or getattr(network, "out_features", None)
            if count is None:
                raise InputError("a learned scale needs features=, the number of variables")
            self.log_scale = nn.Parameter(torch.full((count,), math.log(initial)))

    def likelihood(self, blocks: tuple[Tensor, ...], context: Context) -> td.Distribution:
        loc = blocks[0]
        if self.scale == "per-datum":
            return self._known_noise(loc, context)
        if self.scale == "predicted":
            scale = (0.5 * blocks[1].clamp(-30.0, 20.0)).exp()
        elif self.scale == "learned":
            scale = _along_variables(self.log_scale.exp(), loc)
        else:
            scale = torch.full((), self.scale, dtype=loc.dtype, device=loc.device)
        return Masked(Normal(loc, scale), loc.dim() - 2)

    def _known_noise(self, loc: Tensor, context: Context) -> td.Distribution:
        if "noise" not in context:
            raise InputError(
                "the decoder has scale='per-datum', but the batch brings no context['noise']: give the "
                "standard deviations (B, n) or covariances (B, n, n) of the data"
            )
        noise = context["noise"]
        variance = (2 * self.log_scale).exp() if self.intrinsic else loc.new_zeros(())
        if noise.dim() == loc.dim() - 1:  # standard deviations, (B, n)
            # an unknown error belongs to an unknown value, whose term drops out
            known = ~noise.isnan()
            squared = torch.where(known, noise, 1.0).square()
            if self.intrinsic:
                variance = _along_variables(variance, loc)
            return Masked(Normal(loc, (squared + variance).sqrt()), loc.dim() - 2, known)
        if noise.dim() == loc.dim() and noise.shape[-1] == noise.shape[-2] == loc.shape[-1]:
            return CovarianceNormal(loc, noise + torch.diag_embed(variance.expand(loc.shape[-1])))
        raise InputError(
            f"context['noise'] has shape {tuple(noise.shape)}; for data of {tuple(loc.shape[1:])} it is "
            "(B, n) standard deviations or (B, n, n) covariances"
        )

    def check(self, x: Tensor, context: Context) -> None:
        if x.isinf().any():
            raise InputError("the data hold infinities; a Gaussian likelihood takes finite numbers, and NaN")
        if self.scale != "per-datum" or "noise" not in context:
            return
        noise = context["noise"]
        if noise.dim() > x.dim():
            self._check_covariance(x, noise)
            return
        sigma = noise
        observed = observed_entries(x)
        lowest = 0.0 if self.intrinsic else torch.finfo(x.dtype).tiny
        bad = observed & ~(sigma >= lowest) | sigma.isinf()
        if bad.any():
            row, *where = bad.nonzero()[0].tolist()
            raise InputError(
                f"context['noise'] is {sigma[(row, *where)].item()} at row {row}, variable {where}: the known "
                f"error of an observed value is a finite number {'≥' if self.intrinsic else 'above'} 0; "
                "drop the row, or set the value to NaN (missing)"
            )

    def _check_covariance(self, x: Tensor, noise: Tensor) -> None:
        """Finite and positive (semi)definite over the observed values of each datum."""
        observed = observed_entries(x)
        both = observed.unsqueeze(-1) & observed.unsqueeze(-2)
        unknown = both & ~noise.isfinite()
        if unknown.any():
            row, i, j = unknown.nonzero()[0].tolist()
            raise InputError(
                f"context['noise'] is {noise[row, i, j].item()} at row {row}, variables [{i}, {j}]: the covariance "
                "of observed values is finite; drop the row, or set the values to NaN (missing)"
            )
        kept = torch.where(both, noise, torch.diag_embed((~observed).to(noise.dtype)))
        lowest = torch.linalg.eigvalsh(kept.double())[:, 0]
        bad = lowest < -1e-6 * kept.diagonal(dim1=-2, dim2=-1).amax(-1) if self.intrinsic else lowest <= 0
        if bad.any():
            row = int(bad.nonzero()[0])
            raise InputError(
                f"context['noise'] of row {row} is no covariance: its lowest eigenvalue, "
                f"{lowest[row].item():.3g}, has to be {'≥' if self.intrinsic else 'above'} 0; check the errors "
                "and correlations, or drop the row"
            )


def _along_variables(values: Tensor, loc: Tensor) -> Tensor:
    """One value a variable, (n,), in the shape that multiplies loc (S, B, n, …)."""
    return values.reshape(-1, *[1] * (loc.dim() - 3))


class _Bits(td.Bernoulli):
    """torch's Bernoulli, for integers and booleans too."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value.to(self.logits.dtype))


@recorded
class Bernoulli(Decoder):
    """p(x = 1 | z, c) = sigmoid(logit), of which NaN entries of x are marginalised.

    The network gives one logit an entry. Values between 0 and 1 are refused: binarise them first (a grey
    value is a probability, not an observation).
    """

    def __init__(self, network: nn.Module, conditional: bool = False) -> None:
        super().__init__(network, conditional)

    def likelihood(self, blocks: tuple[Tensor, ...], context: Context) -> Masked:
        (logits,) = blocks
        return Masked(_Bits(logits=logits, validate_args=False), logits.dim() - 2)

    def check(self, x: Tensor, context: Context) -> None:
        bad = observed_entries(x) & (x != 0) & (x != 1)
        if bad.any():
            raise InputError(
                f"a Bernoulli likelihood takes 0 and 1; the data hold {x[bad][0].item():g}: binarise them, "
                "or choose another likelihood"
            )


@recorded
class VonMises(Decoder):
    """p(x | z, c) = von Mises(x; μ, κ) for angles in radians; NaN entries of x are marginalised.

    The network gives (cos, sin, log κ), 3n numbers; μ = atan2(sin, cos), so (cos, sin) need no normalising.
    κ is kept within [10⁻⁶, 10⁸].
    """

    outputs = 3

    def __init__(self, network: nn.Module, conditional: bool = False) -> None:
        super().__init__(network, conditional)

    def likelihood(self, blocks: tuple[Tensor, ...], context: Context) -> Masked:
        cosine, sine, log_kappa = blocks
        # atan2 has no gradient at the origin
        at_origin = (cosine == 0) & (sine == 0)
        loc = torch.atan2(sine, torch.where(at_origin, torch.ones_like(cosine), cosine))
        kappa = log_kappa.clamp(math.log(1e-6), math.log(1e8)).exp()
        return Masked(VonMisesDistribution(loc, kappa), loc.dim() - 2)

    def check(self, x: Tensor, context: Context) -> None:
        bad = observed_entries(x) & (x.abs() > math.pi + 1e-6)
        if bad.any():
            raise InputError(
                f"a von Mises likelihood takes angles in radians within (−π, π]; the data hold "
                f"{x[bad][0].item():g}: wrap them with (x + π) mod 2π − π, and check that they are not degrees"
            )
