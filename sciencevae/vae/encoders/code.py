"""The posterior of codes: at each place of a grid the nearest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor, nn

from sciencevae.batch import Fields
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.encoders.base import Encoder, network_call
from sciencevae.vae.encoders.quantiser import Quantiser

__all__ = ["Code", "Codes"]


class Codes(td.Distribution):
    """q(z | x): all probability on one grid of codes; batch shape (B,), event shape the grid.

    codes (B, *grid), integers · encoded z_e (B, D, *grid), what the network gave · embedded (B, D, *grid), the
    vectors of the codes · mean, the same as embedded, but its gradient goes straight through to ``encoded``.
    """

    arg_constraints = {}  # noqa: RUF012  (torch's own interface)

    def __init__(self, codes: Tensor, encoded: Tensor, embedded: Tensor) -> None:
        self.codes, self.encoded, self.embedded = codes, encoded, embedded
        super().__init__(codes.shape[:1], codes.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        # as in the paper, written so that the value is that of the codes to the last digit
        return self.embedded.detach() + (self.encoded - self.encoded.detach())

    @property
    def mode(self) -> Tensor:
        return self.codes

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.codes.expand(*sample_shape, *self.codes.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """0 for the codes themselves, −∞ for others."""
        batch = value.shape[: value.dim() - len(self.event_shape)]
        same = (value == self.codes).reshape(*batch, -1).all(-1)
        return torch.where(same, self.encoded.new_zeros(()), -math.inf)


@recorded
class Code(Encoder):
    """q(z | x, c): the code nearest to what the network gives, at each place of a grid.

    network: x (B, …) → (B, D) for one code a datum, or (B, D, *grid), D the dim of the quantiser.
    grid: (T,), (h, w), or () for one code; left out it is ``network.grid``, or () of a network that has none.
    missing, conditional: as of ``encoders.Gaussian``.
    van den Oord, Vinyals & Kavukcuoglu 2017, eq. 1.
    """

    def __init__(
        self,
        network: nn.Module,
        quantiser: Quantiser,
        grid: Sequence[int] | None = None,
        missing: bool = False,
        conditional: bool = False,
    ) -> None:
        super().__init__()
        own = getattr(network, "grid", None)
        if grid is not None and own is not None and tuple(grid) != tuple(own):
            raise InputError(f"the encoder's network gives the grid {tuple(own)}, not {tuple(grid)}")
        self.grid: tuple[int, ...] = tuple(grid if grid is not None else own or ())
        width = getattr(network, "out_channels", getattr(network, "out_features", quantiser.dim))
        if width != quantiser.dim:
            raise InputError(
                f"the encoder's network gives vectors of {width} numbers; the codes have {quantiser.dim}"
            )
        self.network, self.quantiser = network, quantiser
        self.missing, self.conditional = missing, conditional

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The number of dimensions D of a code's vector."""
        return self.quantiser.dim

    @property
    def codes(self) -> int:
        """The number of codes K."""
        return self.quantiser.codes

    def train(self, mode: bool = True) -> Code:
        """Training mode; the codebook is in it only where the encoder learns: a frozen one keeps its codes."""
        super().train(mode)
        own = list(self.parameters())
        self.quantiser.train(mode and (not own or any(p.requires_grad for p in own)))
        return self

    def forward(self, x: Fields, context: Context | None = None) -> Codes:
        encoded = network_call(self, x, context)  # (B, D, *grid)
        if encoded.shape[1:] != (wanted := (self.dim, *self.grid)):
            raise InputError(
                f"the encoder's network gave {tuple(encoded.shape)}; expected (B, {', '.join(map(str, wanted))}), "
                "a vector for each place of the grid"
            )
        codes = self.quantiser.nearest(encoded)
        return Codes(codes, encoded, self.quantiser.embed(codes))
