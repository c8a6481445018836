"""A normal distribution bent by an invertible map."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor, nn

from sciencevae.distributions.normal import LOG_2PI, DiagonalNormal

__all__ = ["FlowNormal", "normal_points"]

#: fixed points that mean and standard deviation are taken over, and how many of them at once, which bounds memory
POINTS = 256
POINTS_AT_ONCE = 16


class FlowNormal(td.Distribution):
    """z = loc + scale · g(ε; h) with ε ~ N(0, 1): batch shape (*B,), event shape (D,).

    log p(z) = log N(ε; 0, 1) − log |det ∂g/∂ε| − Σ log scale

    flow: the module whose ``forward`` and ``inverse`` are g and its inverse, or with ``backwards`` its inverse
    and g; called (x, h, held), where with ``held`` the parameters pass no gradient on. h (*B, features), or None.
    The density of the last draw is remembered, so it costs no inversion. ``mean`` and ``stddev`` are those of 256
    fixed quasi-random points, exact where g is linear and diagonal.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own interface)
    has_rsample = True

    def __init__(
        self, base: DiagonalNormal, flow: nn.Module, h: Tensor | None = None, backwards: bool = False
    ) -> None:
        self.base, self.flow, self.h, self.backwards = base, flow, h, backwards
        self._held = False
        self._last: tuple[Tensor, Tensor, bool] | None = None
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def _map(self, x: Tensor, generate: bool) -> tuple[Tensor, Tensor]:
        name = "forward" if generate != self.backwards else "inverse"
        return getattr(self.flow, name)(x, self.h, self._held)

    def from_noise(self, noise: Tensor) -> Tensor:
        """z from ε (S, *B, D)."""
        y, log_det = self._map(noise, generate=True)
        z = self.base.from_noise(y)
        self._last = (z, self._density(noise, -log_det), torch.is_grad_enabled())
        return z

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        loc = self.base.loc
        return self.from_noise(torch.randn(shape, dtype=loc.dtype, device=loc.device))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._last is not None and value is self._last[0]:
            _, density, has_gradient = self._last
            if has_gradient or not torch.is_grad_enabled():
                return density
        return self._density(*self._map((value - self.base.loc) / self.base.scale, generate=False))

    def _density(self, noise: Tensor, log_det: Tensor) -> Tensor:
        """log p of what ε gave, log_det being that of the map to ε."""
        normal = -0.5 * (noise.square() + LOG_2PI).sum(-1)
        return normal + log_det - self.base.scale.log().sum(-1)

    @functools.cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of g(ε; h), (*B, D)."""
        loc = self.base.loc
        first, second = torch.zeros_like(loc), torch.zeros_like(loc)
        points = normal_points(loc.shape[-1]).to(loc)
        axes = [1] * len(self.batch_shape)
        for some in points.split(POINTS_AT_ONCE):
            noise = some.reshape(-1, *axes, loc.shape[-1]).expand(-1, *loc.shape)
            y, _ = self._map(noise, generate=True)
            first, second = first + y.sum(0) / POINTS, second + y.square().sum(0) / POINTS
        return first, (second - first.square()).clamp(min=0)

    @property
    def mean(self) -> Tensor:
        return self.base.loc + self.base.scale * self._moments[0]

    @property
    def variance(self) -> Tensor:
        return self.base.scale.square() * self._moments[1]

    def pick(self, index: Tensor) -> FlowNormal:
        """Those of the batch (K,) that ``index`` (*B,) numbers, as a batch (*B,)."""
        h = None if self.h is None else self.h[index]
        return FlowNormal(self.base.pick(index), self.flow, h, self.backwards)

    def detach(self) -> FlowNormal:
        """The same distribution, of which no parameter passes a gradient on; z does, by the inverse map."""
        h = None if self.h is None else self.h.detach()
        held = FlowNormal(self.base.detach(), self.flow, h, self.backwards)
        held._held = True
        return held


@functools.lru_cache(maxsize=8)
def normal_points(dim: int) -> Tensor:
    """256 points (256, D) spread as N(0, 1): scrambled Sobol points and their mirror images, the same always.

    Each coordinate has mean 0 and variance 1 exactly.
    """
    uniform = torch.quasirandom.SobolEngine(dim, scramble=True, seed=0).draw(POINTS // 2, dtype=torch.float64)
    half = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
    points = torch.cat([half, -half])
    return points / points.square().mean(0).sqrt()
