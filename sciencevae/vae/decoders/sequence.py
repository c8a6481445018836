"""The decoder of token sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciencevae.distributions.sequence import Sequence as SequenceDistribution
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context, condition_of
from sciencevae.vae.decoders.base import Decoder

__all__ = ["Sequence"]


@recorded
class Sequence(Decoder):
    """p(x | z, c) = Π_t p(x_t | x_0 … x_{t−1}, z, c) for tokens x (B, length), −1 behind the stop token.

    network: ``network(tokens, z) -> logits (B, T, V)`` with attributes ``vocabulary`` and ``length``, built with
    condition_features = D (networks.Recurrent, CausalTransformer, Raster). For ``conditional`` it is given z and
    the condition joined, D + c numbers.
    stop: the token that ends a sequence; without one each has ``length`` tokens.
    token_dropout: in training mode this share of the tokens told to the network is replaced by "not told", so
    that it must read them from z (Bowman et al. 2016, §3.2); evaluation and samples are without.
    Trailing −1 without a stop token before it: the end of the sequence is missing, and marginalised.
    z is one vector of each datum: codes of a VQVAE that stand on a grid are refused.

    >>> from sciencevae.networks import Recurrent
    >>> decoder = Sequence(Recurrent(20, 12, condition_features=2), stop=0)
    >>> decoder(torch.zeros(3, 5, 2)).sample().shape
    torch.Size([3, 5, 12])
    """

    padded = True

    def __init__(
        self,
        network: nn.Module,
        stop: int | None = None,
        token_dropout: float = 0.0,
        conditional: bool = False,
    ) -> None:
        super().__init__(network, conditional)
        vocabulary, length = getattr(network, "vocabulary", None), getattr(network, "length", None)
        if not isinstance(vocabulary, int) or not isinstance(length, int):
            raise InputError(
                "a Sequence likelihood needs a network of sequences, with attributes vocabulary and length; "
                f"{type(network).__name__} has none"
            )
        if stop is not None and not 0 <= stop < vocabulary:
            raise InputError(f"stop is one of the tokens 0 … {vocabulary - 1}, not {stop}")
        if not 0 <= token_dropout <= 1:
            raise InputError(f"token_dropout is a share of the tokens between 0 and 1, not {token_dropout}")
        self.stop, self.token_dropout = stop, token_dropout
        self.vocabulary, self.length = vocabulary, length

    def forward(self, z: Tensor, context: Context | None = None) -> SequenceDistribution:
        """z (S, B, D) → batch shape (S, B), event shape (length,)."""
        if z.dim() != 3:
            raise InputError(
                f"a Sequence likelihood reads one vector z of each datum, and the codes' vectors stand on a grid "
                f"{tuple(z.shape[3:])}: encode to one code a datum, Code(…, grid=())"
            )
        condition = condition_of("the decoder", context, self.conditional)
        joined = torch.cat([z, *(c.expand(*z.shape[:2], c.shape[-1]) for c in condition)], dim=-1)
        unknown = (self.token_dropout, self.vocabulary) if self.training and self.token_dropout else None
        return SequenceDistribution(self.network, z.shape[:2], self.length, self.stop, joined, unknown)

    def check(self, x: Tensor, context: Context) -> None:
        """Raise InputError where tokens x (B, T) are none, are too many, or lack one inside a sequence."""
        if x.is_floating_point() or x.dim() != 2:
            raise InputError(
                f"a Sequence likelihood takes integers (B, T); the data are {x.dtype} of shape {tuple(x.shape)}"
            )
        if x.shape[1] > self.length:
            raise InputError(
                f"the sequences have {x.shape[1]} places and the network {self.length}: build it with length="
                f"{x.shape[1]}, or drop the longer sequences"
            )
        wrong = (x < -1) | (x >= self.vocabulary)
        if wrong.any():
            row, place = wrong.nonzero()[0].tolist()
            raise InputError(
                f"the token at row {row}, place {place} is {x[row, place].item()}; tokens are 0 … "
                f"{self.vocabulary - 1}, and −1 where none is"
            )
        gap = (x[:, :-1] == -1) & (x[:, 1:] != -1)
        if gap.any():
            row, place = gap.nonzero()[0].tolist()
            raise InputError(
                f"row {row} has −1 at place {place} and a token behind it: an autoregressive likelihood "
                "marginalises missing tokens at the end only; cut the sequence there, or drop the row"
            )
        if self.stop is None:
            return
        behind = (x[:, :-1] == self.stop) & (x[:, 1:] != -1)
        if behind.any():
            row, place = behind.nonzero()[0].tolist()
            raise InputError(
                f"row {row} goes on with {x[row, place + 1].item()} behind the stop token {self.stop} at place "
                f"{place}: fill with −1 behind it"
            )
