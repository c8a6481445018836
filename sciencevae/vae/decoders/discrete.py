"""The decoders of bits, categories and counts."""

from __future__ import annotations

import math

import torch
import torch.distributions as td
from torch import Tensor, nn

from sciencevae.distributions import Categorical as CategoricalDistribution
from sciencevae.distributions import Masked
from sciencevae.distributions import NegativeBinomial as NegativeBinomialDistribution
from sciencevae.distributions import Poisson as PoissonDistribution
from sciencevae.distributions.masked import observed_entries
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.decoders.base import Decoder, along_variables, per_variable

__all__ = ["Bernoulli", "Categorical", "Poisson"]


class _Bits(td.Bernoulli):
    """torch's Bernoulli, for integers and booleans too."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value.to(self.logits.dtype))


@recorded
class Bernoulli(Decoder):
    """p(x = 1 | z, c) = sigmoid(logit), of which NaN entries of x (integers: −1) are marginalised.

    The network gives one logit an entry. Values between 0 and 1 are refused: binarise them first (a grey
    value is a probability, not an observation).
    """

    def __init__(self, network: nn.Module, conditional: bool = False) -> None:
        super().__init__(network, conditional)

    def likelihood(self, blocks: Tensor, context: Context) -> Masked:
        (logits,) = blocks
        return Masked(_Bits(logits=logits, validate_args=False), logits.dim() - 2)

    def check(self, x: Tensor, context: Context) -> None:
        bad = observed_entries(x) & (x != 0) & (x != 1)
        if bad.any():
            raise InputError(
                f"a Bernoulli likelihood takes 0 and 1; the data hold {x[bad][0].item():g}: binarise them, "
                "or choose another likelihood (Poisson for counts, Categorical for labels, "
                "MixtureOfLogistics for grey values)"
            )


@recorded
class Categorical(Decoder):
    """p(x = k | z, c) = softmax(logits)_k for categories k = 0 … K−1; −1 (floating x: NaN) is marginalised.

    The network gives K·n logits along axis 1, category by category: n logits of category 0, then of 1, …;
    the likelihood's ``logits`` and ``probs`` are (S, B, n, …, K). x (B, n, …) holds integers, or whole floating
    numbers. Categories have no mean: ``VAE.reconstruct`` gives the likeliest.
    """

    def __init__(self, network: nn.Module, categories: int, conditional: bool = False) -> None:
        super().__init__(network, conditional)
        if categories < 2:
            raise InputError(f"a Categorical likelihood needs at least 2 categories, not {categories}")
        self.categories = self.outputs = categories

    def likelihood(self, blocks: Tensor, context: Context) -> Masked:
        logits = blocks.movedim(0, -1)  # (S, B, n, …, K)
        return Masked(CategoricalDistribution(logits), logits.dim() - 3)

    def check(self, x: Tensor, context: Context) -> None:
        bad = observed_entries(x) & ((x < 0) | (x >= self.categories) | (x != x.round()))
        if bad.any():
            raise InputError(
                f"the decoder has the categories 0 … {self.categories - 1}; the data hold {x[bad][0].item():g}: "
                "number the categories from 0 on, or build it with more; missing is −1 in integers, else NaN"
            )


@recorded
class Poisson(Decoder):
    """p(x | z, c) = Poisson(x; λ), λ = exposure · exp(log rate); NaN entries of x (integers: −1) are marginalised.

    The network gives one log rate an entry, which is kept within [−30, 30]. x holds counts, as integers or whole
    floating numbers: they are not scaled. ``context["exposure"]``, where the batch brings it, is the known
    exposure time, area or efficiency ≥ 0 of each datum, (B,), or of each entry, (B, n, …).
    """

    def __init__(self, network: nn.Module, conditional: bool = False) -> None:
        super().__init__(network, conditional)

    def likelihood(self, blocks: Tensor, context: Context) -> Masked:
        return Masked(PoissonDistribution(self._log_rate(blocks, context)), blocks.dim() - 3)

    @staticmethod
    def _log_rate(blocks: Tensor, context: Context) -> Tensor:
        """log λ, the exposure with it."""
        log_rate = blocks[0].clamp(-30.0, 30.0)
        if "exposure" not in context:
            return log_rate
        exposure = _entrywise(context["exposure"], log_rate.dim() - 2).to(log_rate.dtype)
        exposure = exposure.nan_to_num(1.0)  # unknown where x is missing
        return log_rate + exposure.clamp(min=torch.finfo(log_rate.dtype).tiny).log()

    def check(self, x: Tensor, context: Context) -> None:
        observed = observed_entries(x)
        bad = observed & ((x < 0) | (x != x.round()) | x.isinf())
        if bad.any():
            raise InputError(
                f"a {type(self).__name__} likelihood takes counts, whole numbers ≥ 0; the data hold "
                f"{x[bad][0].item():g}: give the counts as they are, not scaled "
                "(scaling 'identity' of prepared data), or choose Gaussian"
            )
        if "exposure" not in context:
            return
        given = context["exposure"]
        if given.dim() != 1 and given.shape != x.shape:
            raise InputError(
                f"context['exposure'] has shape {tuple(given.shape)}; for data of {tuple(x.shape)} it is "
                f"({len(x)},) or {tuple(x.shape)}"
            )
        exposure = _entrywise(given, x.dim() - 1).expand(x.shape)
        bad = observed & (~(exposure >= 0) | exposure.isinf() | ((exposure == 0) & (x > 0)))
        if bad.any():
            raise InputError(
                f"context['exposure'] is {exposure[bad][0].item():g} where {x[bad][0].item():g} was counted: the "
                "exposure of an observed count is a finite number ≥ 0, and above 0 where something was counted; "
                "mend it, or mark the count as missing"
            )


@recorded
class NegativeBinomial(Poisson):
    """Counts that scatter more than Poisson's: mean λ = exposure · exp(log rate), variance λ + λ²/r.

    As ``Poisson`` in all else. r > 0 is learned, one a variable, kept within [0.01, 10⁶], from 10 on. For small r
    the counts have heavy tails; r → ∞ is the Poisson likelihood.
    features: the number of variables, where it can't be read from ``network.out_features``.
    """

    def __init__(self, network: nn.Module, features: int | None = None, conditional: bool = False) -> None:
        super().__init__(network, conditional)
        count = features or getattr(network, "out_features", None)
        self.log_size = per_variable("size r", count, math.log(10.0))

    def likelihood(self, blocks: Tensor, context: Context) -> Masked:
        log_rate = self._log_rate(blocks, context)
        size = along_variables(self.log_size.clamp(math.log(0.01), math.log(1e6)).exp(), log_rate)
        return Masked(NegativeBinomialDistribution(log_rate, size), log_rate.dim() - 2)


def _entrywise(exposure: Tensor, event_dims: int) -> Tensor:
    """An exposure (B,) or (B, n, …) as one that multiplies (B, n, …) of ``event_dims`` axes behind B."""
    return exposure if exposure.dim() > 1 else exposure.reshape(-1, *[1] * event_dims)
