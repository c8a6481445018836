"""The decoder of grey values."""

from __future__ import annotations

from torch import Tensor, nn

from sciencevae.distributions import Masked
from sciencevae.distributions import MixtureOfLogistics as MixtureDistribution
from sciencevae.distributions.masked import observed_entries
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.decoders.base import Decoder

__all__ = ["MixtureOfLogistics"]


@recorded
class MixtureOfLogistics(Decoder):
    """p(x | z, c) = a mixture of K discretised logistics for grey values; NaN entries of x are marginalised.

    x (B, n, …) holds grey values of L ``levels`` as 0, 1/(L−1), …, 1 (a byte divided by 255). The network gives
    3·K·n numbers along axis 1: n logits of each of the K ``components``, then the locations, then the log
    scales, both in units in which black is −1 and white is 1; log scales are kept within [−15, 10]. Each entry
    has its own mixture (PixelCNN++ of Salimans et al. 2017 ties the colours of a pixel together; here they are
    independent given z).
    """

    def __init__(
        self, network: nn.Module, components: int = 5, levels: int = 256, conditional: bool = False
    ) -> None:
        super().__init__(network, conditional)
        if components < 1:
            raise InputError(f"a mixture of logistics needs at least 1 component, not {components}")
        if levels < 2:
            raise InputError(f"grey values have at least 2 levels, not {levels}")
        self.components, self.levels, self.outputs = components, levels, 3 * components

    def likelihood(self, blocks: Tensor, context: Context) -> Masked:
        # each (S, B, n, …, K)
        logits, loc, log_scale = blocks.unflatten(0, (3, self.components)).movedim(1, -1)
        mixture = MixtureDistribution(logits, loc, log_scale.clamp(-15.0, 10.0), self.levels)
        return Masked(mixture, loc.dim() - 3)

    def check(self, x: Tensor, context: Context) -> None:
        level = x * (self.levels - 1)
        bad = observed_entries(x) & ~((x >= 0) & (x <= 1) & ((level - level.round()).abs() < 1e-2))
        if bad.any():
            raise InputError(
                f"grey values of {self.levels} levels are 0, 1/{self.levels - 1}, …, 1; the data hold "
                f"{x[bad][0].item():g}: divide integer grey values by {self.levels - 1} and scale them no "
                "further, or choose levels= to match"
            )
