"""The decoder of real numbers with outliers."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from sciencevae.distributions import Masked
from sciencevae.distributions import StudentT as StudentTDistribution
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.decoders.base import Decoder, along_variables, per_variable, refuse_infinite

__all__ = ["StudentT"]


@recorded
class StudentT(Decoder):
    """p(x | z, c) = Student's t with location μ and scale σ; NaN entries of x are marginalised.

    A likelihood with heavy tails: a datum r scales off pulls by (ν+1) r/(ν + r²), not by r. Lange, Little &
    Taylor 1989, J. Am. Stat. Assoc. 84, 881. The network gives (location, log scale), 2n numbers; the log scale
    is kept within [−15, 10].

    df: the degrees of freedom ν > 0, or "learned": one a variable, kept within [0.1, 1000], from 4 on.
    features: the number of variables, where a learned df can't read it from ``network.out_features``.
    """

    outputs = 2

    def __init__(
        self,
        network: nn.Module,
        df: float | Literal["learned"] = 4.0,
        features: int | None = None,
        conditional: bool = False,
    ) -> None:
        super().__init__(network, conditional)
        if df != "learned" and (isinstance(df, str) or not df > 0):
            raise InputError(f"df is a number above 0 or 'learned', not {df!r}")
        self.df = df
        if df == "learned":
            wide = getattr(network, "out_features", None)
            count = features or (None if wide is None else wide // self.outputs)
            self.log_df = per_variable("df", count, math.log(4.0))

    def likelihood(self, blocks: Tensor, context: Context) -> Masked:
        loc, log_scale = blocks
        if isinstance(self.df, str):
            df = along_variables(self.log_df.clamp(math.log(0.1), math.log(1000.0)).exp(), loc)
        else:
            df = torch.full((), self.df, dtype=loc.dtype, device=loc.device)
        return Masked(StudentTDistribution(df, loc, log_scale.clamp(-15.0, 10.0).exp()), loc.dim() - 2)

    def check(self, x: Tensor, context: Context) -> None:
        refuse_infinite(x, "Student-t")
