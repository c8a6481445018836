"""The decoders of real numbers with normal errors: fixed, learned, predicted or known."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.distributions as td
from torch import Tensor, nn

from sciencevae.distributions import CovarianceNormal, Masked, Normal
from sciencevae.distributions.masked import observed_entries
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.decoders.base import Decoder, along_variables, per_variable, refuse_infinite

__all__ = ["Gaussian"]


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
            self.log_scale = per_variable("scale", count, math.log(initial))

    def likelihood(self, blocks: Tensor, context: Context) -> td.Distribution:
        loc = blocks[0]
        if self.scale == "per-datum":
            return self._known_noise(loc, context)
        if self.scale == "predicted":
            scale = (0.5 * blocks[1].clamp(-30.0, 20.0)).exp()
        elif self.scale == "learned":
            scale = along_variables(self.log_scale.exp(), loc)
        else:
            scale = torch.full((), self.scale, dtype=loc.dtype, device=loc.device)
        return Masked(Normal(loc, scale), loc.dim() - 2)

    def _known_noise(self, loc: Tensor, context: Context) -> td.Distribution:
        if "noise" not in context:
            raise InputError(
                "the decoder has scale='per-datum', but the batch brings no context['noise']: give the "
                "standard deviations (B, n) or covariances (B, n, n) of the data (as context['noise.NAME'] those "
                "of field NAME of a Joint decoder)"
            )
        noise = context["noise"]
        variance = (2 * self.log_scale).exp() if self.intrinsic else loc.new_zeros(())
        if noise.dim() == loc.dim() - 1:  # standard deviations, (B, n)
            # an unknown error belongs to an unknown value, whose term drops out
            known = ~noise.isnan()
            squared = torch.where(known, noise, 1.0).square()
            if self.intrinsic:
                variance = along_variables(variance, loc)
            return Masked(Normal(loc, (squared + variance).sqrt()), loc.dim() - 2, known)
        if noise.dim() == loc.dim() and noise.shape[-1] == noise.shape[-2] == loc.shape[-1]:
            return CovarianceNormal(loc, noise + torch.diag_embed(variance.expand(loc.shape[-1])))
        raise InputError(
            f"context['noise'] has shape {tuple(noise.shape)}; for data of {tuple(loc.shape[1:])} it is "
            "(B, n) standard deviations or (B, n, n) covariances"
        )

    def check(self, x: Tensor, context: Context) -> None:
        refuse_infinite(x, "Gaussian")
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
